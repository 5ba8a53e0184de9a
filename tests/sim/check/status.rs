//! Promise 5: a device is offline on evidence only, each change is told once, in order.

use super::{
    Figures,
    messages::{Received, at},
};
use crate::{gateway::devices, plan::Plan, world::Log};
use fieldgate::model::Boot;
use serde_json::Value as Json;
use std::{collections::BTreeMap, time::Duration};

pub fn check(plan: &Plan, log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    let mut last: BTreeMap<(usize, String), &Json> = BTreeMap::new();
    for ((life, seq), event) in received.of_type("status") {
        figures.status += 1;
        let device = event["device"].as_str().unwrap_or_default().to_owned();
        if event["state"] == "offline" && event["cause"] == "silent" {
            offline(plan, log, life, &device, event, wrong);
        }
        let before = last.insert((life, device.clone()), event);
        // Events that could not be written are lost, and said to be: the next one may repeat.
        if log.state_full.contains(&life) {
            continue;
        }
        let Some(before) = before else { continue };
        if before["state"] == event["state"] && before["cause"] == event["cause"] {
            wrong.push(format!("{device} twice the same in life {life}: {before} and {event}"));
        }
        if at(before, "since") > at(event, "since") {
            wrong.push(format!("{device} in life {life}, {seq}: {event} came after {before}"));
        }
    }
}

/// Nobody who was heard within its own time may be called offline by silence.
fn offline(plan: &Plan, log: &Log, life: usize, device: &str, event: &Json, wrong: &mut Vec<String>) {
    let Some(since) = at(event, "since") else { return };
    let config = devices(plan).into_iter().find(|d| d.id.as_str() == device);
    let allowed = config.map_or(Duration::from_secs(10), |d| d.offline_after);
    // Milliseconds are what events carry.
    let too_soon = |sign: Boot| sign <= since && since - sign + Duration::from_millis(1) < allowed;
    let polled = log.signs.iter().filter(|(d, _)| d.as_str() == device).map(|(_, at)| *at).find(|s| too_soon(*s));
    let published = log.taken.iter().filter(|((d, ..), t)| d == device && t.publication.is_some() && t.life == life);
    if let Some(sign) = polled.or_else(|| published.map(|(_, t)| t.at).find(|s| too_soon(*s))) {
        wrong.push(format!("{device} was heard at {sign:?} and called offline: {event}"));
    }
}
