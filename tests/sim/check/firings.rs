//! Rules, judged by the levels that the line took: a write for each crossing, at once, and none without.

use super::{
    Figures,
    messages::{Received, at},
    runs::once_each,
};
use crate::{
    brain::{LIMIT, RULES, level},
    plan::Plan,
    world::Log,
};
use fieldgate::model::{Boot, LineState, Value};
use std::{collections::BTreeMap, time::Duration};

/// From a reading at the door to the order at its line.
const BOUND: Duration = Duration::from_millis(10);
/// What came so shortly before an end may not have been looked at.
const MOMENT: Duration = Duration::from_millis(50);

struct Level {
    at: Boot,
    value: u64,
    life: usize,
    /// The process or the line ended in this moment: nobody knows whether it was looked at.
    in_doubt: bool,
}

/// Whether a rule has fired for the present cause.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fired {
    Yes,
    No,
    Perhaps,
}

/// One firing: its command, when it was handed over, if it was.
#[derive(Debug)]
struct Firing {
    id: String,
    handed: Option<Boot>,
}

pub fn check(plan: &Plan, log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    once_each(log, received, "rule:", wrong);
    let levels = levels(plan, log);
    for (name, value) in RULES {
        let is_true = |level: u64| (level > u64::from(LIMIT)) == (value == 1);
        let mut fired = Fired::No;
        for life in 0..log.ends.len() {
            let mut firings = of_life(log, received, life, name).into_iter().peekable();
            for level in levels.iter().filter(|l| l.life == life) {
                if !is_true(level.value) {
                    fired = if level.in_doubt && fired != Fired::No { Fired::Perhaps } else { Fired::No };
                    continue;
                }
                let by_this = |f: &Firing| f.handed.is_none_or(|at| at >= level.at && at <= begins(log, received, f, level.at) + BOUND);
                match fired {
                    Fired::Yes => {}
                    Fired::No if !level.in_doubt => {
                        match firings.next() {
                            None => wrong.push(format!("{name} did not fire at {:?}, with a level of {}", level.at, level.value)),
                            Some(f) if !by_this(&f) => wrong.push(format!("{name} fired at {:?}, and late: {f:?}", level.at)),
                            Some(_) => figures.firings += 1,
                        }
                        fired = Fired::Yes;
                    }
                    Fired::No | Fired::Perhaps => {
                        let hit = firings.next_if(by_this);
                        figures.firings += usize::from(hit.is_some());
                        fired = if hit.is_some() || !level.in_doubt { Fired::Yes } else { Fired::Perhaps };
                    }
                }
            }
            firings.for_each(|f| wrong.push(format!("{name} fired in life {life} without a crossing: {f:?}")));
        }
    }
}

fn levels(plan: &Plan, log: &Log) -> Vec<Level> {
    let (device, point) = level(plan);
    let of = |ms| (device.to_string(), point.to_string(), ms);
    let down = |at: Boot, life| {
        let mut changes = log.lines_said.iter().filter(|(l, name, ..)| *l == life && *name == crate::gateway::LINES[0]);
        changes.any(|(_, _, state, then)| *state == LineState::Down && *then >= at && *then <= at + MOMENT)
    };
    let all = log.taken.range(of(0)..=of(u64::MAX)).filter_map(|(_, taken)| {
        let Value::Uint(value) = taken.value else { return None };
        let in_doubt = taken.at + MOMENT >= log.ends[taken.life].at || down(taken.at, taken.life);
        Some(Level { at: taken.at, value, life: taken.life, in_doubt })
    });
    all.collect()
}

/// In the order of their count. The epoch in an id is that of the life.
fn of_life(log: &Log, received: &Received, life: usize, name: &str) -> Vec<Firing> {
    let begins = format!("rule:{name}:{}:", log.epochs[life]);
    let told = received.of_type("command").filter_map(|(_, e)| e["id"].as_str());
    let handed: BTreeMap<&str, Boot> = log.handed.iter().map(|h| (h.id.as_str(), h.at)).collect();
    let mut all: BTreeMap<u64, Firing> = BTreeMap::new();
    for id in told.chain(handed.keys().copied()) {
        let count = id.strip_prefix(&begins).and_then(|rest| rest.strip_suffix(".0")).and_then(|n| n.parse().ok());
        if let Some(count) = count {
            all.insert(count, Firing { id: id.to_owned(), handed: handed.get(id).copied() });
        }
    }
    all.into_values().collect()
}

/// When it could be handed over at the earliest: its device has one order at a time.
fn begins(log: &Log, received: &Received, firing: &Firing, crossed: Boot) -> Boot {
    let Some(place) = log.handed.iter().position(|h| h.id == firing.id) else { return crossed };
    let before = log.handed[..place].iter().rev().find(|h| h.id.starts_with("rule:") && h.life == log.handed[place].life);
    let ended = before.and_then(|h| {
        let of = |e: &serde_json::Value| e["id"] == h.id.as_str();
        received.of_type("command").find(|(_, e)| of(e)).and_then(|(_, e)| at(e, "at"))
    });
    ended.map_or(crossed, |ended| (ended + Duration::from_millis(1)).max(crossed))
}
