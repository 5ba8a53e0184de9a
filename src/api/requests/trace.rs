//! `{"trace":{"device":"meter-1","point":"power","within_ms":15000}}`: the steps of one value, once the cloud has
//! acknowledged it or the time is over.

use crate::{
    api::{control::refuse, status::Sources},
    model::{DeviceId, PointId},
    system::tap::{Stage, TAP},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A trace ends by itself after this: a client that went away must not hold its place.
const WITHIN_MAX: Duration = Duration::from_secs(3600);

#[derive(serde::Deserialize)]
struct Asked {
    device: DeviceId,
    point: PointId,
    within_ms: u64,
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Asked { device, point, within_ms } = match serde_json::from_value(asked.clone()) {
        Ok(asked) => asked,
        Err(e) => return refuse("unreadable", &format!("a trace names device, point and within_ms: {e}")),
    };
    let Some(snapshot) = sources.engine.snapshot().await else { return refuse("stopping", "the daemon is stopping") };
    let Some(card) = snapshot.cards.iter().find(|c| c.status.device == device) else {
        return refuse("unknown-device", &format!("there is no device {device} here"));
    };
    if !card.points.iter().any(|p| p.id == point) {
        let points: Vec<&str> = card.points.iter().map(|p| p.id.as_str()).collect();
        return refuse("unknown-point", &format!("{device} has no point {point}; it has {}", points.join(", ")));
    }
    let Some(watch) = TAP.watch(device.clone(), point.clone()) else {
        return refuse("busy", "other traces are running; try again when they have ended");
    };
    let until = sources.clock.now() + Duration::from_millis(within_ms).min(WITHIN_MAX);
    tokio::select! {
        biased;
        () = watch.acknowledged() => {}
        () = sources.clock.sleep_until(until) => {}
    }
    let Some(trace) = watch.look() else { return refuse("stopping", "the trace was lost") };
    let (reading, _) = sources.store.clock();
    let mut before = trace.steps.first().map(|s| s.at);
    let steps = trace.steps.iter().map(|s| {
        let took = before.map_or(0.0, |b| (s.at - b).as_secs_f64() * 1000.0);
        before = Some(s.at);
        let bytes: Vec<String> = s.bytes.iter().map(|b| format!("{b:02x}")).collect();
        json!({
            "step": s.step, "at_ms": reading.wall(s.at).0, "took_ms": (took * 10.0).round() / 10.0, "detail": s.detail,
            "bytes": bytes.join(" "),
        })
    });
    let waits = match trace.stage {
        Stage::Waiting => Some("the next reading"),
        Stage::NoAnswer => Some("an answer of the device"),
        Stage::Read(_) => Some("its batch to be full or old enough"),
        Stage::Sealed(_) => Some("the cloud to be reachable"),
        Stage::Sent(_) => Some("the cloud's acknowledgement"),
        Stage::Acknowledged => None,
    };
    json!({
        "v": 1, "point": format!("{device}/{point}"), "steps": steps.collect::<Vec<_>>(), "acknowledged": waits.is_none(),
        "waits_for": waits, "field": trace.stage != Stage::NoAnswer, "state": card.status.state,
    })
}
