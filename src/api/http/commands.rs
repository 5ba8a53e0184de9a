//! Commands: those that were, and a new one on the way of `fieldgate write`.

use super::{Desk, access::Caller, problem::Problem, status::limit};
use crate::{
    api::{json::plain, requests::command},
    limits,
    store::{CommandRow, StoreError},
};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Json,
};
use serde_json::{Map, Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A command without `expires_in_s` is good for so long.
const EXPIRES_IN: u64 = 60;
/// And for so long at most.
const EXPIRES_MOST: u64 = 7 * 86_400;
/// Who waits for the end of one waits so long at most.
const WAIT_MOST: Duration = Duration::from_secs(60);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    id: Option<String>,
    device: String,
    write: Map<String, Value>,
    expires_in_s: Option<u64>,
    /// Answer at its end instead of when it is accepted.
    #[serde(default)]
    wait: bool,
}

pub async fn list(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let limit = limit(query.as_deref())?;
    let store = desk.sources.store.clone();
    let found = read(move || store.commands(limit)).await?;
    Ok(Json(json!({"v": 1, "commands": found.iter().map(row).collect::<Vec<_>>()})))
}

pub async fn one(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let found = find(&desk, &id).await?.ok_or_else(|| Problem::unknown_command(format!("there is no command {id:?} here")))?;
    Ok(Json(row(&found)))
}

/// A command of this device that has ended, for a device that says so again.
pub async fn ended(desk: &Desk, device: &str, id: &str) -> Option<Json<Value>> {
    let found = find(desk, id).await.ok().flatten().filter(|c| c.device == device && c.outcome.is_some())?;
    Some(Json(json!({"status": "known", "phase": found.phase, "commands": []})))
}

pub async fn send(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let asked: Asked = serde_json::from_slice(&body).map_err(|e| Problem::unreadable(format!("a command names device and write: {e}")))?;
    let Asked { id, device, write, expires_in_s, wait } = asked;
    let id = id.unwrap_or_else(|| fresh(&desk));
    let expires = expires_in_s.unwrap_or(EXPIRES_IN);
    if !(1..=EXPIRES_MOST).contains(&expires) {
        return Err(Problem::unreadable(format!("`expires_in_s` is a whole number from 1 to {EXPIRES_MOST}")));
    }
    let asked = json!({
        "id": id, "device": device, "write": write, "from": &*caller.name, "expires_in_ms": expires * 1000, "wait": wait,
    });
    let within = if wait { WAIT_MOST } else { limits::API_KEPT_WITHIN };
    let Ok(answer) = tokio::time::timeout(within, command::run(&asked, &desk.sources, "api")).await else {
        // It was asked for before under this id and is open still, or takes longer than anybody waits.
        let found = find(&desk, &id).await?.ok_or_else(|| Problem::not_kept("it could not be remembered, so it is not executed"))?;
        return Ok((StatusCode::ACCEPTED, Json(row(&found))));
    };
    if let Some(error) = answer.get("error") {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        return Err(Problem::of_control(text("code"), text("message")));
    }
    let accepted = answer["phase"] == "accepted";
    Ok((if accepted { StatusCode::ACCEPTED } else { StatusCode::OK }, Json(answer)))
}

/// An id that nobody had: of this moment, and counted.
fn fresh(desk: &Desk) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = desk.sources.clock.now();
    format!("api-{}-{:x}-{:x}", desk.sources.epoch, now.0, COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn find(desk: &Desk, id: &str) -> Result<Option<CommandRow>, Problem> {
    let (store, id) = (desk.sources.store.clone(), id.to_owned());
    read(move || store.command(&id)).await
}

/// Reads from the disk.
async fn read<T: Send + 'static>(what: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(what).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Problem::failed(error.to_string())),
        Err(_) => Err(Problem::stopping("the daemon is stopping")),
    }
}

fn row(c: &CommandRow) -> Value {
    let values = c.outcome.iter().flat_map(|o| &o.values).map(|(p, v)| (p.to_string(), plain(v)));
    json!({
        "id": c.id, "device": c.device, "from": c.source, "phase": c.phase, "received_ms": c.received.0,
        "reason": c.outcome.as_ref().map_or("", |o| o.reason.as_str()), "values": values.collect::<Map<String, Value>>(),
    })
}
