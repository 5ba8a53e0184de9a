//! `{"commands":{"limit":20}}`: the newest commands with what came of them; with `"id":ID` one.

use super::command::{results, values};
use crate::{
    api::{control::refuse, status::Sources},
    model::Action,
    store::{CommandRow, StoreError},
};
use serde_json::{Value, json};

/// In an answer that says nothing of it, and in any.
const SHOWN: u32 = 20;
const MOST: u32 = 1_000;

#[derive(serde::Deserialize)]
struct Asked {
    id: Option<String>,
    limit: Option<u32>,
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Ok(Asked { id, limit }) = serde_json::from_value(asked.clone()) else {
        return refuse("unreadable", "`commands` has an id or a limit, or neither");
    };
    let store = sources.store.clone();
    let wanted = id.clone();
    // Reads from the disk.
    let found: Result<Result<Vec<CommandRow>, StoreError>, _> = tokio::task::spawn_blocking(move || match wanted {
        Some(id) => Ok(store.command(&id)?.into_iter().collect()),
        None => store.commands(limit.unwrap_or(SHOWN).min(MOST)),
    })
    .await;
    let rows = match found {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return refuse("unreadable", &error.to_string()),
        Err(_) => return refuse("stopping", "the daemon is stopping"),
    };
    if let Some(id) = id.filter(|_| rows.is_empty()) {
        return refuse("unknown-command", &format!("there is no command {id:?} here"));
    }
    let now = sources.store.clock().0.wall(sources.clock.now());
    json!({"v": 1, "now_ms": now.0, "commands": rows.iter().map(row).collect::<Vec<_>>()})
}

/// Of the gateway itself: without a device.
pub fn row(c: &CommandRow) -> Value {
    let mut row = json!({
        "id": c.id, "device": Some(&c.device).filter(|d| *d != "-"), "from": c.source, "phase": c.phase, "received_ms": c.received.0,
        "reason": c.outcome.as_ref().map_or("", |o| o.reason.as_str()), "values": c.outcome.as_ref().map(values).unwrap_or_default(),
    });
    for (key, value) in c.asked.iter().flat_map(Action::shown) {
        row[key] = value;
    }
    if let Some(outcome) = c.outcome.as_ref().filter(|o| !o.results.is_empty()) {
        row["results"] = results(outcome);
    }
    row
}
