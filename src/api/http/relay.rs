//! What the control socket answers, over HTTP: schedules, maintenance.

use super::{Desk, access::Caller, problem::Problem};
use crate::api::requests::{devices, schedules};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
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

/// A refusal of the control socket is a problem document.
pub fn told(answer: Value) -> Result<Json<Value>, Problem> {
    let Some(error) = answer.get("error") else { return Ok(Json(answer)) };
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    Err(Problem::of_control(text("code"), text("message")))
}
