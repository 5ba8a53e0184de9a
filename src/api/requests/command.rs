//! `{"command":{"device":"boiler","write":{"setpoint":67},"from":"anna","expires_in_ms":30000}}`: a command of somebody on
//! this machine. It goes the way of the cloud's commands: limits, one execution per id, read-back, an event that says so.
//! The answer comes with its end, or at `"wait":false` when it is accepted. With `"preview":true` nothing is sent: the
//! answer is the last value of each point. `devices` instead of `device`: the same of each; `read` instead of `write`. Without
//! a device `run` is what the gateway itself does, and `cancel` names a command that is not to be sent.

use crate::{
    api::{
        control::refuse,
        json::{self, plain},
        status::Sources,
    },
    limits,
    model::{Action, Command, CommandId, DeviceId, Each, Outcome, Own, Phase, PointId, Receipt, ScheduleAsk, Urgent, Value},
};
use serde_json::{Map, Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::broadcast::error::RecvError, time::timeout};

#[derive(serde::Deserialize)]
struct Asked {
    id: CommandId,
    device: Option<DeviceId>,
    #[serde(default)]
    devices: Vec<DeviceId>,
    #[serde(default)]
    write: Map<String, Json>,
    read: Option<Vec<PointId>>,
    run: Option<Json>,
    cancel: Option<CommandId>,
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

impl Asked {
    /// To whom, and what. The error says what to write instead.
    fn action(&self) -> Result<(DeviceId, Action), String> {
        let targets = [self.device.is_some(), !self.devices.is_empty(), self.run.is_some(), self.cancel.is_some()];
        if targets.into_iter().filter(|is| *is).count() != 1 {
            return Err("give one of device, devices, run and cancel".into());
        }
        let acts = !self.write.is_empty() || self.read.is_some();
        if let Some(run) = &self.run {
            let own = if Own::is_meant(run) {
                Own::read(run).map(|own| Action::Own(Box::new(own)))
            } else {
                ScheduleAsk::read(run).map(|ask| Action::Run(Box::new(ask)))
            };
            return if acts { Err("run stands alone".into()) } else { Ok((DeviceId::gateway(), own?)) };
        }
        if let Some(id) = &self.cancel {
            return if acts { Err("cancel stands alone".into()) } else { Ok((DeviceId::gateway(), Action::Cancel(id.clone()))) };
        }
        let action = match &self.read {
            Some(_) if !self.write.is_empty() => return Err("give write or read".into()),
            Some(points) => Action::Read(points.clone()),
            None => Action::Write(self.values()?),
        };
        if let Some(device) = &self.device {
            return Ok((device.clone(), action));
        }
        let distinct: BTreeSet<&DeviceId> = self.devices.iter().collect();
        if self.devices.len() > limits::FAN_OUT || distinct.len() < self.devices.len() {
            return Err(format!("devices is a list of 1 to {}, each once", limits::FAN_OUT));
        }
        if self.id.as_str().len() > limits::FAN_ID {
            return Err(format!("with devices the id has at most {} bytes", limits::FAN_ID));
        }
        Ok((DeviceId::gateway(), Action::Each(Box::new(Each { devices: self.devices.clone(), action }))))
    }

    fn values(&self) -> Result<BTreeMap<PointId, Value>, String> {
        let one = |(name, value): (&String, &Json)| match (PointId::parse(name), json::value(value).filter(|v| *v != Value::Null)) {
            (Ok(point), Some(value)) => Ok((point, value)),
            (Err(e), _) => Err(format!("{name} is no point: {e}")),
            (_, None) => Err(format!("{value} is no value of a point")),
        };
        self.write.iter().map(one).collect()
    }
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
    let (device, action) = match asked.action() {
        Ok(told) => told,
        Err(why) => return refuse("unreadable", &why),
    };
    let before = match &asked.device {
        None => Map::new(),
        Some(device) => match before(sources, device).await {
            Some(before) => before,
            None => return refuse("unknown-device", &format!("there is no device {device} here")),
        },
    };
    if asked.preview {
        return json!({"v": 1, "device": asked.device, "before": before});
    }
    let mut phases = sources.engine.phases();
    let now = sources.clock.now();
    let command = Command {
        id: asked.id.clone(),
        device,
        action,
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
    let outcome = match end.await {
        Ok(Some((_, Some(outcome)))) => outcome,
        Ok(Some((phase, None))) => Outcome::new(phase, ""),
        Ok(None) | Err(_) => Outcome::new(Phase::Unknown, "fieldgate did not say what came of it; see its log"),
    };
    let mut document = json!({
        "v": 1, "id": asked.id, "phase": outcome.phase, "device": asked.device, "write": asked.write, "before": before,
        "read_back": values(&outcome), "phases": seen, "reason": outcome.reason,
    });
    if !asked.devices.is_empty() {
        document["devices"] = json!(asked.devices);
        document["results"] = results(&outcome);
    }
    document
}

pub fn values(outcome: &Outcome) -> Map<String, Json> {
    outcome.values.iter().map(|(p, v)| (p.to_string(), plain(v))).collect()
}

/// Of a command to several devices, what came of it at each.
pub fn results(outcome: &Outcome) -> Json {
    let one = |o: &Outcome| json!({"phase": o.phase, "reason": o.reason, "values": values(o)});
    outcome.results.iter().map(|(device, o)| (device.to_string(), one(o))).collect()
}

/// The last value of each point; `None`: no such device.
async fn before(sources: &Sources, device: &DeviceId) -> Option<Map<String, Json>> {
    let values = sources.engine.values(device).await?;
    Some(values.iter().map(|(point, value)| (point.to_string(), plain(value))).collect())
}
