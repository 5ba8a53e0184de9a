//! Promise 8: at most once on the wire, within its deadline, and exactly one end.

use super::{Figures, messages::Received};
use crate::{
    brain,
    plan::{Action, Plan},
    world::{Asked, Log},
};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

const TERMINAL: [&str; 5] = ["confirmed", "failed", "expired", "rejected", "unknown"];

pub fn check(plan: &Plan, log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    let mut ends: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut phases: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, event) in received.of_type("command") {
        let phase = event["phase"].as_str().unwrap_or_default();
        let id = event["id"].as_str().unwrap_or_default();
        if TERMINAL.contains(&phase) {
            ends.entry(id).or_default().insert(format!("{phase} {} {}", event["reason"], event["values"]));
            phases.insert(id, phase);
        }
    }
    let stepped = plan.actions.iter().any(|(_, a)| matches!(a, Action::ClockStep { .. } | Action::ClockShift { .. }));
    for (id, asked) in &log.commands {
        figures.commands += 1;
        figures.written += usize::from(asked.executed > 0);
        let told = ends.get(id.as_str()).cloned().unwrap_or_default();
        if told.len() != 1 {
            wrong.push(format!("command {id} ended in {} ways: {told:?}; {asked:?}", told.len()));
        }
        if let Some(why) = fault(asked, phases.get(id.as_str()).copied().unwrap_or_default(), stepped) {
            wrong.push(format!("command {id} {told:?}: {why}; {asked:?}"));
        }
    }
    for id in ends.keys().filter(|id| !log.commands.contains_key(**id) && !brain::is_own(id)) {
        wrong.push(format!("command {id} ended and was never sent: {}", Json::from(*id)));
    }
}

fn fault(asked: &Asked, phase: &str, stepped: bool) -> Option<&'static str> {
    let frames = asked.frames.iter().filter(|(_, busy)| !busy).count();
    let never_sent = matches!(phase, "rejected" | "expired");
    let due = asked.issued + asked.expires_ms;
    if asked.orders.len() > 1 {
        Some("handed to its line twice")
    } else if frames > 1 {
        Some("twice on the wire")
    } else if asked.executed > 1 {
        Some("executed twice")
    } else if never_sent && !asked.frames.is_empty() {
        Some("told as never sent, but it was on the wire")
    } else if phase == "confirmed" && asked.value.is_some() && asked.executed == 0 {
        Some("told as confirmed, but the unit never carried it out")
    } else if asked.dated && !stepped && asked.orders.iter().any(|at| at.ms() > due) {
        Some("its deadline was later than its issue allows")
    } else {
        None
    }
}
