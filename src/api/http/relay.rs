//! What the control socket answers, over HTTP: schedules, maintenance, alarms, rules; and who asks.

use super::{
    Desk,
    access::Caller,
    problem::Problem,
    status::{limit, said},
};
use crate::{
    api::requests::{alarms, devices, rules, schedules},
    config::api::Rights,
    model::RuleId,
};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    response::Json,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub async fn schedules(State(desk): State<Arc<Desk>>) -> Result<Json<Value>, Problem> {
    told(schedules::answer(&json!({}), &desk.sources).await)
}

pub async fn schedule(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    told(schedules::answer(&json!({"id": id}), &desk.sources).await)
}

/// The content is what the cloud writes as `run`.
pub async fn change_schedules(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let run: Value = serde_json::from_slice(&body).map_err(|e| Problem::unreadable(format!("what is to be done with schedules: {e}")))?;
    told(schedules::change(&json!({"run": run, "by": &*caller.name}), &desk.sources).await)
}

pub async fn maintain(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let mut asked: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|e| Problem::unreadable(format!("maintenance is {{\"on\":true, …}}: {e}")))?;
    asked.insert("device".into(), json!(id));
    asked.insert("by".into(), json!(&*caller.name));
    told(devices::maintain(&Value::Object(asked), &desk.sources).await)
}

pub async fn alarms(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let query = query.as_deref();
    let asked = json!({"all": said(query, "all") == Some("true"), "device": said(query, "device"), "limit": limit(query)?});
    told(alarms::answer(&asked, &desk.sources).await)
}

/// Needs no content: who has seen it is known by the token.
pub async fn acknowledge(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path(alarm): Path<String>,
) -> Result<Json<Value>, Problem> {
    let Ok(id) = alarm.parse::<i64>() else { return Err(Problem::unknown_alarm(format!("{alarm:?} is no number of an alarm"))) };
    told(alarms::acknowledge(&json!({"id": id, "by": &*caller.name}), &desk.sources).await)
}

pub async fn rules(State(desk): State<Arc<Desk>>) -> Result<Json<Value>, Problem> {
    told(rules::answer(&desk.sources).await)
}

/// With what it was last judged by.
pub async fn rule(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let Json(mut all) = told(rules::answer(&desk.sources).await)?;
    let found = all["rules"].as_array_mut().and_then(|rules| rules.iter_mut().find(|r| r["id"] == id.as_str()).map(Value::take));
    let mut rule = found.ok_or_else(|| Problem::unknown_rule(format!("there is no rule {id:?} here")))?;
    (rule["v"], rule["now_ms"]) = (json!(1), all["now_ms"].take());
    Ok(Json(rule))
}

pub async fn switch_rule(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        on: bool,
    }
    let Asked { on } =
        serde_json::from_slice(&body).map_err(|e| Problem::unreadable(format!("a switch is {{\"on\":true}} or false: {e}")))?;
    if RuleId::parse(&id).is_err() {
        return Err(Problem::unknown_rule(format!("there is no rule {id:?} here")));
    }
    told(rules::switch(&json!({"id": id, "on": on, "by": &*caller.name}), &desk.sources).await)
}

/// Whose token it is and what it may, so that a page offers nothing that is refused.
pub async fn caller(Extension(caller): Extension<Caller>) -> Json<Value> {
    let role = if let Rights::Person(role) = caller.rights { role.word() } else { "device" };
    Json(json!({"v": 1, "name": &*caller.name, "role": role}))
}

/// A refusal of the control socket is a problem document.
pub fn told(answer: Value) -> Result<Json<Value>, Problem> {
    let Some(error) = answer.get("error") else { return Ok(Json(answer)) };
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    Err(Problem::of_control(text("code"), text("message")))
}
