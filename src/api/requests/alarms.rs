//! `{"alarms":{"all":true}}`: those that are raised, with `all` also those that are over, newest first; with `"device":ID` of one
//! device, with `limit` so many at most.
//! `{"acknowledge":{"id":17,"by":"anna"}}`: somebody has seen it.

use crate::{
    api::{control::refuse, status::Sources},
    engine::AlarmError,
    model::{AlarmName, DeviceId, RuleId, WallMs},
    store::{AlarmRow, StoreError},
};
use serde_json::{Value, json};

/// The newest in an answer: those that are raised are few, and of the past the latest count.
const SHOWN: u32 = 500;

#[derive(serde::Deserialize)]
struct Asked {
    #[serde(default)]
    all: bool,
    device: Option<DeviceId>,
    limit: Option<u32>,
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Ok(Asked { all, device, limit }) = serde_json::from_value(asked.clone()) else {
        return refuse("unreadable", "`alarms` has all, the id of a device and limit, or none of them");
    };
    let rows = match read(sources, device, !all, limit.unwrap_or(SHOWN).min(SHOWN)).await {
        Ok(rows) => rows,
        Err(refused) => return refused,
    };
    let (reading, _) = sources.store.clock();
    let now = reading.wall(sources.clock.now());
    json!({"v": 1, "now_ms": now.0, "alarms": rows.iter().map(|a| alarm(a, sources)).collect::<Vec<_>>()})
}

/// Reads from the disk.
async fn read(sources: &Sources, device: Option<DeviceId>, raised: bool, limit: u32) -> Result<Vec<AlarmRow>, Value> {
    let store = sources.store.clone();
    let rows: Result<Result<_, StoreError>, _> = tokio::task::spawn_blocking(move || store.alarms(device.as_ref(), raised, limit)).await;
    match rows {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(refuse("unreadable", &error.to_string())),
        Err(_) => Err(refuse("stopping", "the daemon is stopping")),
    }
}

/// By what is known of the clocks today.
fn alarm(a: &AlarmRow, sources: &Sources) -> Value {
    let at = |wall: WallMs| wall.0;
    let state = match (&a.cleared, &a.seen) {
        (Some(_), _) => "cleared",
        (None, Some(_)) => "acknowledged",
        (None, None) => "raised",
    };
    json!({
        "id": a.id, "device": a.device, "alarm": a.kind, "rule": a.rule, "point": a.point, "severity": a.severity, "state": state,
        "reason": a.reason, "at_ms": sources.store.clock_of(a.boot).wall(a.at).0,
        "acknowledged_by": a.seen.as_ref().map(|s| &s.0), "acknowledged_ms": a.seen.as_ref().map(|s| at(s.1)),
        "cleared_ms": a.cleared.map(|(boot, moment, _)| sources.store.clock_of(boot).wall(moment).0),
    })
}

#[derive(serde::Deserialize)]
struct Wanted {
    id: i64,
    by: String,
}

pub async fn acknowledge(asked: &Value, sources: &Sources) -> Value {
    let Wanted { id, by } = match serde_json::from_value(asked.clone()) {
        Ok(wanted) => wanted,
        Err(e) => return refuse("unreadable", &format!("an acknowledgement names id and by: {e}")),
    };
    let rows = match read(sources, None, true, SHOWN).await {
        Ok(rows) => rows,
        Err(refused) => return refused,
    };
    let row = rows.iter().find(|a| a.id == id);
    let Some((row, device)) = row.and_then(|a| Some((a, DeviceId::parse(&a.device).ok()?))) else {
        return refuse("unknown-alarm", &format!("no alarm {id} is raised"));
    };
    let rule = row.rule.as_deref().and_then(|rule| RuleId::parse(rule).ok());
    match sources.engine.acknowledge(AlarmName { device, kind: row.kind, rule }, by.clone()).await {
        Ok(()) => {
            json!({"v": 1, "id": id, "device": row.device, "state": "acknowledged", "acknowledged_by": row.seen.as_ref().map_or(&by, |s| &s.0)})
        }
        Err(error) => {
            let code = match error {
                AlarmError::NotRaised(..) => "unknown-alarm",
                AlarmError::NotStored => "not-stored",
                AlarmError::Stopping => "stopping",
            };
            refuse(code, &error.to_string())
        }
    }
}
