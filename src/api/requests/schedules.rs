//! `{"schedules":{}}`: every schedule with its next run and its last ones; with `"id":ID` one.
//! `{"schedule":{"run":{"schedule.set":{"id":"night",…}},"by":"anna"}}`: what the cloud may ask of schedules, of somebody on
//! this machine. The answer comes when it is durable.

use crate::{
    api::{control::refuse, status::Sources},
    engine::{ScheduleError, ScheduleView},
    model::{ScheduleAsk, ScheduleId},
    store::ScheduleRunRow,
};
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
struct Asked {
    id: Option<ScheduleId>,
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Ok(Asked { id }) = serde_json::from_value(asked.clone()) else {
        return refuse("unreadable", "`schedules` has an id or nothing");
    };
    let Some(mut all) = sources.engine.schedules().await else { return refuse("stopping", "the daemon is stopping") };
    if let Some(id) = &id {
        all.retain(|s| s.id == *id);
        if all.is_empty() {
            return refuse("unknown-schedule", &format!("there is no schedule {id}"));
        }
    }
    let store = sources.store.clone();
    // Reads from the disk.
    let runs = match tokio::task::spawn_blocking(move || store.schedule_runs(id.as_ref())).await {
        Ok(Ok(runs)) => runs,
        Ok(Err(error)) => return refuse("unreadable", &error.to_string()),
        Err(_) => return refuse("stopping", "the daemon is stopping"),
    };
    let (reading, _) = sources.store.clock();
    let rows: Vec<Value> = all.iter().map(|s| one(s, &runs)).collect();
    json!({"v": 1, "now_ms": reading.wall(sources.clock.now()).0, "schedules": rows})
}

fn one(s: &ScheduleView, runs: &[ScheduleRunRow]) -> Value {
    let mut row = s.is.shown();
    let state = match (&s.fault, s.enabled) {
        (_, false) => "disabled",
        (Some(_), true) => "waiting",
        (None, true) if s.is_over => "over",
        (None, true) => "enabled",
    };
    let runs = runs.iter().filter(|r| r.schedule == s.id.as_str()).map(|r| {
        json!({
            "at_ms": r.at.0, "ran_ms": r.ran.0, "command": r.command, "device": r.device, "phase": r.phase, "reason": r.reason,
        })
    });
    row["id"] = json!(s.id);
    row["sentence"] = json!(s.is.sentence());
    row["configured"] = json!(s.configured);
    row["by"] = json!(s.by);
    row["state"] = json!(state);
    row["why"] = json!(s.fault);
    row["next_ms"] = json!(s.next.map(|at| at.0));
    row["runs"] = runs.collect();
    row
}

#[derive(serde::Deserialize)]
struct Wanted {
    run: Value,
    by: String,
}

pub async fn change(asked: &Value, sources: &Sources) -> Value {
    let Wanted { run, by } = match serde_json::from_value(asked.clone()) {
        Ok(wanted) => wanted,
        Err(e) => return refuse("unreadable", &format!("a change of schedules names run and by: {e}")),
    };
    let ask = match ScheduleAsk::read(&run) {
        Ok(ask) => ask,
        Err(why) => return refuse("unreadable", &why),
    };
    match sources.engine.schedule(ask, format!("local {by}")).await {
        Ok(()) => json!({"v": 1, "done": true}),
        Err(error) => {
            let code = match error {
                ScheduleError::Unknown(_) => "unknown-schedule",
                ScheduleError::Configured(_) | ScheduleError::Disabled(_) => "configured",
                ScheduleError::Refused(_) => "rejected",
                ScheduleError::Full => "full",
                ScheduleError::NotStored => "not-stored",
                ScheduleError::Stopping => "stopping",
            };
            refuse(code, &error.to_string())
        }
    }
}
