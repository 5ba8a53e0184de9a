//! `{"events":{"limit":100}}`: what happened, newest first. Of this run every event; before it the changes of devices.

use crate::{
    api::{control::refuse, status::Sources},
    limits,
    model::{ClockReading, Event, EventKind},
    store::StoreError,
};
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
struct Asked {
    #[serde(default = "some")]
    limit: u32,
}

const fn some() -> u32 {
    100
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Ok(Asked { limit }) = serde_json::from_value(asked.clone()) else { return refuse("unreadable", "`limit` is a whole number") };
    let most = limit.min(limits::API_ROWS) as usize;
    let store = sources.store.clone();
    let clock = store.clock().0;
    let began = clock.wall(sources.started);
    let mut rows: Vec<Value> = store.events().recent(most).iter().map(|e| row(e, clock)).collect();
    let room = most - rows.len();
    if room > 0 {
        // Reads from the disk.
        let older = tokio::task::spawn_blocking(move || {
            let offsets = store.offsets();
            let all = store.moves(u32::try_from(most).unwrap_or(u32::MAX))?;
            let placed = all.into_iter().map(|(device, m)| (offsets.get(&m.boot).map_or(m.wall, |clock| clock.wall(m.at)), device, m));
            Ok::<_, StoreError>(placed.filter(|(at, ..)| *at < began).take(room).collect::<Vec<_>>())
        });
        let older = match older.await {
            Ok(Ok(older)) => older,
            Ok(Err(error)) => return refuse("failed", &error.to_string()),
            Err(_) => return refuse("stopping", "the daemon is stopping"),
        };
        rows.extend(older.into_iter().map(|(at, device, m)| {
            json!({"type": "status", "at_ms": at.0, "device": device, "state": m.state, "cause": m.cause, "missed": m.missed})
        }));
    }
    json!({"v": 1, "now_ms": clock.wall(sources.clock.now()).0, "events": rows})
}

/// As it is stored, with wall times: those of this boot are all that there are in this run.
fn row(event: &Event, clock: ClockReading) -> Value {
    let mut row = serde_json::to_value(&event.kind).unwrap_or_default();
    if let Some(members) = row.as_object_mut() {
        // Moments of the boot clock, which nobody outside can read.
        for key in ["since", "until", "evidence", "reading", "alive"] {
            members.remove(key);
        }
        // Of the gateway itself.
        if members.get("device").is_some_and(|device| device == "-") {
            members.insert("device".into(), Value::Null);
        }
        if let EventKind::Maintenance { until: Some(until), .. } = &event.kind {
            members.insert("until_ms".into(), json!(clock.wall(*until).0));
        }
        members.insert("at_ms".into(), json!(clock.wall(event.at).0));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Boot, DeviceId, State};

    #[test]
    fn an_event_has_its_wall_time_and_no_boot_time() {
        let device = DeviceId::parse("pump").unwrap();
        let clock = ClockReading::estimated(1_000_000);
        let status = EventKind::Status {
            device: device.clone(),
            line: None,
            state: State::Offline,
            cause: Some(crate::model::Cause::Silent),
            since: Boot::from_ms(5),
            evidence: None,
            missed: 3,
        };
        let want = json!({"type": "status", "device": "pump", "line": null, "state": "offline", "cause": "silent", "missed": 3, "at_ms": 1_000_005});
        assert_eq!(row(&Event { at: Boot::from_ms(5), kind: status }, clock), want);
        let until = Some(Boot::from_ms(9));
        let kind = EventKind::Maintenance { device, on: true, until, by: "anna".into(), reason: String::new() };
        assert_eq!(row(&Event { at: Boot::from_ms(5), kind }, clock)["until_ms"], 1_000_009);
    }
}
