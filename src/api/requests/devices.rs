//! `{"devices":{"range_ms":86400000}}`: every device with its state and how long it was there in the range; with `"id":ID`
//! one, with its transitions, alarms, switched points and what it says of itself.
//! `{"maintain":{"device":ID,"on":true,"for_ms":7200000,"by":"anna","reason":"…"}}`: not judged until then, or with
//! `"on":false` judged again.

use crate::{
    api::{control::refuse, status::Sources},
    engine::{
        Maintain, MaintainError,
        history::{self, Uptime},
    },
    model::{BootIndex, Cause, ClockReading, DeviceId, DeviceStatus, Maintenance, WallMs},
    store::RelayRow,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// The latest transitions and alarms of one device in an answer; the totals count all.
const TRANSITIONS: usize = 200;
const ALARMS: u32 = 20;
const SWITCHINGS: u32 = 50;
const DAY_MS: u64 = 86_400_000;

#[derive(serde::Deserialize)]
struct Asked {
    id: Option<String>,
    range_ms: Option<u64>,
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Ok(Asked { id, range_ms }) = serde_json::from_value(asked.clone()) else {
        return refuse("unreadable", "`devices` has an id and range_ms, or neither");
    };
    let Some(snapshot) = sources.engine.snapshot().await else { return refuse("stopping", "the daemon is stopping") };
    let mut devices = snapshot.devices;
    if let Some(id) = &id {
        devices.retain(|d| d.device.as_str() == id);
        if devices.is_empty() {
            return refuse("unknown-device", &format!("there is no device {id} here"));
        }
    }
    let range_ms = range_ms.unwrap_or(DAY_MS);
    let (reading, _) = sources.store.clock();
    let now = sources.clock.now();
    let to = reading.wall(now);
    let from = WallMs(to.0.saturating_sub(i64::try_from(range_ms).unwrap_or(i64::MAX)));
    let (store, ids) = (sources.store.clone(), devices.iter().map(|d| d.device.clone()).collect::<Vec<_>>());
    // Reads from the disk.
    let read = tokio::task::spawn_blocking(move || {
        let uptimes = history::uptimes(&store, &ids, from, to, now)?;
        let detail = match (&id, ids.first()) {
            (Some(_), Some(device)) => Some((
                history::transitions(&store, device, from, to)?,
                store.alarms(Some(device), false, ALARMS)?,
                store.attributes(device)?,
                (store.relays(device)?, store.relay_history(device, SWITCHINGS)?),
            )),
            _ => None,
        };
        Ok::<_, crate::store::StoreError>((uptimes, detail))
    });
    let (uptimes, detail) = match read.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return refuse("unreadable", &error.to_string()),
        Err(_) => return refuse("stopping", "the daemon is stopping"),
    };
    let wall = |at| reading.wall(at).0;
    let rows = devices.iter().zip(&uptimes).map(|(d, up)| {
        let alarms: Vec<&str> = snapshot.alarms.iter().filter(|(device, _)| *device == d.device).map(|(_, kind)| kind.word()).collect();
        let maintained = snapshot.maintenance.iter().find(|m| m.device == d.device);
        let mut row = device(d, &wall);
        row["uptime"] = uptime(up);
        row["alarms"] = json!(alarms);
        row["maintenance"] = json!(maintained.map(|m| maintenance(m, &wall)));
        row
    });
    let mut document = json!({"v": 1, "now_ms": to.0, "devices": rows.collect::<Vec<_>>()});
    if let Some((transitions, alarms, attributes, (relays, switchings))) = detail {
        let latest = transitions.len().saturating_sub(TRANSITIONS);
        let one = &mut document["devices"][0];
        one["history"] = transitions[latest..]
            .iter()
            .map(|t| json!({"at_ms": t.at.0, "state": t.state, "cause": t.cause, "missed": t.missed}))
            .collect();
        one["past_alarms"] = alarms
            .iter()
            .map(|a| json!({"at_ms": a.wall.0, "alarm": a.kind, "reason": a.reason, "cleared_ms": a.cleared.map(|c| c.2.0)}))
            .collect();
        let offsets = sources.store.offsets();
        one["relays"] = relays.iter().map(|row| relay(row, &offsets)).collect();
        one["switchings"] = switchings.iter().map(|row| relay(row, &offsets)).collect();
        one["attributes"] = attributes.iter().map(|a| (a.name.to_string(), json!(a.value))).collect();
    }
    document
}

fn device(d: &DeviceStatus, wall: &impl Fn(crate::model::Boot) -> i64) -> Value {
    json!({
        "id": d.device, "line": d.line, "state": d.state, "cause": d.cause, "since_ms": wall(d.since), "missed": d.missed,
        "evidence": d.evidence.map(|e| json!({"kind": e.kind, "at_ms": wall(e.at)})),
    })
}

/// By today's knowledge of the clocks.
fn relay(row: &RelayRow, offsets: &BTreeMap<BootIndex, ClockReading>) -> Value {
    let at = offsets.get(&row.boot).map_or(row.wall, |clock| clock.wall(row.at));
    let by = row.by.as_ref().map(|(command, source)| json!({"command": command, "source": source}));
    json!({"point": row.point, "on": row.on, "at_ms": at.0, "by": by, "changes": row.changes})
}

fn uptime(up: &Uptime) -> Value {
    json!({
        "range_s": up.range_ms / 1000, "observed_s": up.observed_ms() / 1000, "online_s": up.online_ms / 1000,
        "offline_s": up.offline_ms / 1000, "maintenance_s": up.maintenance_ms / 1000, "online_share": up.online_share(),
        "observed_share": up.observed_share(), "changes": up.changes,
        "longest_outage": up.longest_outage.map(|o| json!({"from_ms": o.from.0, "s": o.ms / 1000})),
    })
}

fn maintenance(m: &Maintenance, wall: &impl Fn(crate::model::Boot) -> i64) -> Value {
    json!({"by": m.by, "reason": m.reason, "until_ms": m.until.map(wall)})
}

#[derive(serde::Deserialize)]
struct Wanted {
    device: DeviceId,
    on: bool,
    for_ms: Option<u64>,
    by: String,
    #[serde(default)]
    reason: String,
}

pub async fn maintain(asked: &Value, sources: &Sources) -> Value {
    let Wanted { device, on, for_ms, by, reason } = match serde_json::from_value(asked.clone()) {
        Ok(wanted) => wanted,
        Err(e) => return refuse("unreadable", &format!("maintenance names device, on and by: {e}")),
    };
    let lasts = for_ms.map(Duration::from_millis);
    match sources.engine.maintain(Maintain { device: device.clone(), on, lasts, by, reason }).await {
        Ok(is) => {
            let (reading, _) = sources.store.clock();
            let cause = is.as_ref().map(|_| Cause::Maintenance);
            json!({"v": 1, "device": device, "cause": cause, "maintenance": is.map(|m| maintenance(&m, &|at| reading.wall(at).0))})
        }
        Err(error) => {
            let code = match error {
                MaintainError::Unknown(_) => "unknown-device",
                MaintainError::NotStored => "not-stored",
                MaintainError::Stopping => "stopping",
            };
            refuse(code, &error.to_string())
        }
    }
}
