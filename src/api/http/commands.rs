//! Commands: those that were, and a new one on the way of `fieldgate write`.

use super::{Desk, access::Caller, problem::Problem, relay::told, status::limit};
use crate::{
    api::requests::{command, commands::row},
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
    device: Option<String>,
    devices: Option<Vec<String>>,
    write: Option<Map<String, Value>>,
    read: Option<Vec<String>>,
    run: Option<Value>,
    cancel: Option<String>,
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
    let asked: Asked = serde_json::from_slice(&body)
        .map_err(|e| Problem::unreadable(format!("a command names device and write, or another form of docs/protocol.md: {e}")))?;
    let Asked { id, device, devices, write, read, run, cancel, expires_in_s, wait } = asked;
    let ends_all = run.as_ref().is_some_and(|run| ["restart", "reload"].iter().any(|word| run == word));
    if ends_all && !caller.is_admin() {
        return Err(Problem::forbidden("restart and reload are for role \"admin\""));
    }
    let id = id.unwrap_or_else(|| fresh(&desk));
    let expires = expires_in_s.unwrap_or(EXPIRES_IN);
    if !(1..=EXPIRES_MOST).contains(&expires) {
        return Err(Problem::unreadable(format!("`expires_in_s` is a whole number from 1 to {EXPIRES_MOST}")));
    }
    let asked = json!({
        "id": id, "device": device, "devices": devices.unwrap_or_default(), "write": write.unwrap_or_default(), "read": read,
        "run": run, "cancel": cancel, "from": &*caller.name, "expires_in_ms": expires * 1000, "wait": wait,
    });
    let within = if wait { WAIT_MOST } else { limits::API_KEPT_WITHIN };
    let Ok(answer) = tokio::time::timeout(within, command::run(&asked, &desk.sources, "api")).await else {
        // It was asked for before under this id and is open still, or takes longer than anybody waits.
        let found = find(&desk, &id).await?.ok_or_else(|| Problem::not_kept("it could not be remembered, so it is not executed"))?;
        return Ok((StatusCode::ACCEPTED, Json(row(&found))));
    };
    let Json(answer) = told(answer)?;
    let accepted = answer["phase"] == "accepted";
    Ok((if accepted { StatusCode::ACCEPTED } else { StatusCode::OK }, Json(answer)))
}

/// What of it was not sent is not to be sent. The answer is how it ended, or stands.
pub async fn cancel(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let unknown = || Problem::unknown_command(format!("there is no command {id:?} here"));
    find(&desk, &id).await?.ok_or_else(unknown)?;
    let asked = json!({"id": fresh(&desk), "cancel": id, "from": &*caller.name, "expires_in_ms": EXPIRES_IN * 1000});
    let answer = tokio::time::timeout(WAIT_MOST, command::run(&asked, &desk.sources, "api")).await;
    let Json(answer) = told(answer.map_err(|_| Problem::not_kept("it could not be remembered, so nothing was cancelled"))?)?;
    if answer["phase"] != "confirmed" {
        return Err(Problem::too_late(answer["reason"].as_str().unwrap_or_default()));
    }
    // Its end is on its way to the disk.
    let mut row = row(&find(&desk, &id).await?.ok_or_else(unknown)?);
    row["cancelled"] = answer["read_back"]["cancelled"].clone();
    row["sent"] = answer["read_back"]["sent"].clone();
    Ok(Json(row))
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
pub(super) async fn read<T: Send + 'static>(what: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(what).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Problem::failed(error.to_string())),
        Err(_) => Err(Problem::stopping("the daemon is stopping")),
    }
}
