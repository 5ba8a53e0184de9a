//! `{"command":{"device":"boiler","write":{"setpoint":67},"from":"anna","expires_in_ms":30000}}`: a command of somebody on
//! this machine. It goes the way of the cloud's commands: limits, one execution per id, read-back, an event that says so.
//! The answer comes with its end, or at `"wait":false` when it is accepted. With `"preview":true` nothing is sent: the
//! answer is the last value of each point.

use crate::{
    api::{
        control::refuse,
        json::{self, plain},
        status::Sources,
    },
    limits,
    model::{Action, Command, CommandId, DeviceId, Phase, PointId, Receipt, Urgent, Value},
};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::broadcast::error::RecvError, time::timeout};

#[derive(serde::Deserialize)]
struct Asked {
    id: CommandId,
    device: DeviceId,
    #[serde(default)]
    write: Map<String, Json>,
    from: String,
    expires_in_ms: u64,
    #[serde(default = "yes")]
    wait: bool,
    #[serde(default)]
    preview: bool,
}

fn yes() -> bool {
    true
}

pub async fn answer(asked: &Json, sources: &Sources) -> Json {
    run(asked, sources, "local").await
}

/// The same by another surface.
pub async fn run(asked: &Json, sources: &Sources, surface: &str) -> Json {
    let asked: Asked = match serde_json::from_value(asked.clone()) {
        Ok(asked) => asked,
        Err(e) => return refuse("unreadable", &format!("a command names id, device, write, from and expires_in_ms: {e}")),
    };
    let mut values = BTreeMap::new();
    for (name, value) in &asked.write {
        match (PointId::parse(name), json::value(value).filter(|v| *v != Value::Null)) {
            (Ok(point), Some(value)) => drop(values.insert(point, value)),
            (Err(e), _) => return refuse("unreadable", &format!("{name} is no point: {e}")),
            (_, None) => return refuse("unreadable", &format!("{value} is no value of a point")),
        }
    }
    let Some(before) = before(sources, &asked.device).await else {
        return refuse("unknown-device", &format!("there is no device {} here", asked.device));
    };
    if asked.preview {
        return json!({"v": 1, "device": asked.device, "before": before});
    }
    let mut phases = sources.engine.phases();
    let now = sources.clock.now();
    let command = Command {
        id: asked.id.clone(),
        device: asked.device.clone(),
        action: Action::Write(values),
        from: format!("{surface} {}", asked.from),
        received: now,
        issued_at: None,
        expires_in: Duration::from_millis(asked.expires_in_ms),
        from_stored_session: false,
    };
    let Some(door) = sources.urgent.upgrade() else { return refuse("stopping", "the daemon is stopping") };
    let within = command.expires_in + limits::COMMAND_GRACE;
    if door.send(Urgent::Command { command, receipt: Receipt::none() }).await.is_err() {
        return refuse("stopping", "the daemon is stopping");
    }
    drop(door);
    let (reading, _) = sources.store.clock();
    let mut seen = Vec::new();
    let end = timeout(within, async {
        loop {
            match phases.recv().await {
                Ok(note) if note.id == asked.id => {
                    seen.push(json!({"phase": note.phase, "at_ms": reading.wall(note.at).0}));
                    if note.phase.is_terminal() || !asked.wait {
                        return Some((note.phase, note.outcome));
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let (phase, reason, values) = match end.await {
        Ok(Some((phase, Some(outcome)))) => (phase, outcome.reason, outcome.values),
        Ok(Some((phase, None))) => (phase, String::new(), BTreeMap::new()),
        Ok(None) | Err(_) => (Phase::Unknown, "fieldgate did not say what came of it; see its log".into(), BTreeMap::new()),
    };
    let read_back: Map<String, Json> = values.iter().map(|(p, v)| (p.to_string(), plain(v))).collect();
    json!({
        "v": 1, "id": asked.id, "phase": phase, "device": asked.device, "write": asked.write, "before": before,
        "read_back": read_back, "phases": seen, "reason": reason,
    })
}

/// The last value of each point; `None`: no such device.
async fn before(sources: &Sources, device: &DeviceId) -> Option<Map<String, Json>> {
    let values = sources.engine.values(device).await?;
    Some(values.iter().map(|(point, value)| (point.to_string(), plain(value))).collect())
}
