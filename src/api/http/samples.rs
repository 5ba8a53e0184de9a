//! The past of a device's values: slots for a chart, or the samples themselves.

use super::{Desk, commands::read, problem::Problem, status::said};
use crate::{
    api::json::plain,
    limits,
    model::{DeviceId, PointId, Quality, WallMs},
    store::samples::{Past, Rows, Slots},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Json,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const HOUR_MS: i64 = 3_600_000;
/// Without `slots`: as many as a chart is wide on a phone.
const SLOTS: u32 = 240;

struct Asked {
    past: Past,
    points: Vec<PointId>,
    rows: bool,
}

pub async fn past(State(desk): State<Arc<Desk>>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let device = DeviceId::parse(&id).map_err(|_| Problem::unknown_device(format!("there is no device {id:?} here")))?;
    let Some(samples) = desk.sources.samples.clone() else {
        return Err(Problem::no_history("the configuration has no [history]"));
    };
    let now = desk.sources.store.clock().0.wall(desk.sources.clock.now());
    let Asked { past, points, rows } = asked(query.as_deref(), now)?;
    let head = json!({"v": 1, "device": device, "from": past.from.0, "to": past.to.0});
    let body = if rows {
        rows_of(read(move || samples.rows(&device, &points, past)).await?)
    } else {
        let mut body = slots_of(&read(move || samples.slots(&device, &points, past)).await?);
        body["step_ms"] = json!(past.step.as_millis());
        body
    };
    let both = [head, body].into_iter().filter_map(|part| if let Value::Object(part) = part { Some(part) } else { None });
    Ok(Json(Value::Object(both.flatten().collect())))
}

fn asked(query: Option<&str>, now: WallMs) -> Result<Asked, Problem> {
    let number = |name: &'static str| match said(query, name).map(str::parse::<i64>) {
        None => Ok(None),
        Some(Ok(n)) => Ok(Some(n)),
        Some(Err(_)) => Err(Problem::unreadable(format!("`{name}` is a whole number"))),
    };
    let to = number("to")?.unwrap_or(now.0.saturating_add(1));
    let from = number("from")?.unwrap_or(to.saturating_sub(HOUR_MS));
    let length = to.checked_sub(from).filter(|length| *length > 0 && from >= 0);
    let length = length.ok_or_else(|| Problem::unreadable("`from` is before `to`, both in milliseconds since 1970"))?;
    let slots = number("slots")?.unwrap_or(i64::from(SLOTS));
    if !(1..=i64::from(limits::SAMPLES_SLOTS)).contains(&slots) {
        return Err(Problem::unreadable(format!("`slots` is a whole number from 1 to {}", limits::SAMPLES_SLOTS)));
    }
    let step = Duration::from_millis((length.unsigned_abs()).div_ceil(slots.unsigned_abs()));
    let names = said(query, "points").unwrap_or_default().split(',').filter(|name| !name.is_empty());
    let points: Result<Vec<PointId>, _> = names.map(PointId::parse).collect();
    let points = points.map_err(|_| Problem::unreadable("`points` are ids with commas between them"))?;
    let rows = match said(query, "form") {
        None | Some("slots") => false,
        Some("samples") => true,
        Some(_) => return Err(Problem::unreadable("`form` is `slots` or `samples`")),
    };
    Ok(Asked { past: Past { from: WallMs(from), to: WallMs(to), step }, points, rows })
}

fn slots_of(slots: &Slots) -> Value {
    let slot = |(at, s): &(WallMs, crate::store::samples::Summary)| json!([at.0, s.least, s.mean, s.greatest, s.count]);
    let points = slots.iter().map(|(point, slots)| (point.as_str().to_owned(), slots.iter().map(slot).collect::<Value>()));
    json!({"columns": ["at", "min", "mean", "max", "count"], "points": Value::Object(points.collect())})
}

fn rows_of(rows: Rows) -> Value {
    let row = |(at, value, quality): (WallMs, crate::model::Value, Quality)| match quality {
        Quality::Good => json!([at.0, plain(&value)]),
        other => json!([at.0, plain(&value), other.word()]),
    };
    let points = rows.points.into_iter().map(|(point, all)| (point.as_str().to_owned(), all.into_iter().map(row).collect::<Value>()));
    json!({"columns": ["at", "value", "quality"], "points": Value::Object(points.collect()), "next": rows.next.map(|at| at.0)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_a_range_and_a_bound() {
        let now = WallMs(10 * HOUR_MS);
        let range = |q| asked(Some(q), now).map(|a| (a.past.from.0, a.past.to.0, a.past.step.as_millis(), a.rows)).ok();
        assert_eq!(range(""), Some((9 * HOUR_MS + 1, 10 * HOUR_MS + 1, 15_000, false)));
        assert_eq!(range("from=0&to=1000&slots=3&form=samples"), Some((0, 1000, 334, true)));
        for bad in ["from=5&to=5", "from=6&to=5", "to=x", "slots=0", "slots=2001", "form=all", "from=-1&to=5", "points=a%20b"] {
            assert_eq!(range(bad), None, "{bad}");
        }
        assert_eq!(asked(Some("points=a,b"), now).map(|a| a.points.len()).ok(), Some(2));
    }
}
