//! The past of a device's values: slots for a chart, or the samples themselves.

use super::{Desk, problem::Problem, relay::told, status::said};
use crate::{api::requests::samples, model::DeviceId};
use axum::{
    extract::{Path, RawQuery, State},
    response::Json,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn past(State(desk): State<Arc<Desk>>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    DeviceId::parse(&id).map_err(|_| Problem::unknown_device(format!("there is no device {id:?} here")))?;
    told(samples::answer(&asked(&id, query.as_deref())?, &desk.sources).await)
}

/// The question as the control socket takes it.
fn asked(device: &str, query: Option<&str>) -> Result<Value, Problem> {
    let number = |name: &'static str| match said(query, name).map(str::parse::<i64>) {
        None => Ok(Value::Null),
        Some(Ok(n)) => Ok(json!(n)),
        Some(Err(_)) => Err(Problem::unreadable(format!("`{name}` is a whole number"))),
    };
    let points: Vec<&str> = said(query, "points").unwrap_or_default().split(',').filter(|name| !name.is_empty()).collect();
    let form = said(query, "form").unwrap_or("slots");
    Ok(json!({"device": device, "points": points, "from": number("from")?, "to": number("to")?, "slots": number("slots")?, "form": form}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_the_question_of_the_control_socket() {
        let want = json!({"device": "boiler", "points": ["a", "b"], "from": 0, "to": 1000, "slots": null, "form": "samples"});
        assert_eq!(asked("boiler", Some("points=a,,b&from=0&to=1000&form=samples")).ok(), Some(want));
        let want = json!({"device": "boiler", "points": [], "from": null, "to": null, "slots": null, "form": "slots"});
        assert_eq!(asked("boiler", None).ok(), Some(want));
        assert!(asked("boiler", Some("to=x")).is_err());
    }
}
