//! Schedules, judged by the calendar: each moment runs once at most, and none is missing that its policy wants.

use super::{Figures, messages::Received};
use crate::{
    brain::SCHEDULES,
    plan::Plan,
    world::{BASE, Log, WALL_MS},
};
use fieldgate::model::{Boot, Missed, calendar};
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const TERMINAL: [&str; 5] = ["confirmed", "failed", "expired", "rejected", "unknown"];
/// A moment that falls so near to a start or an end may be on either side of it.
const MOMENT: Duration = Duration::from_millis(1100);

/// The ends that the cloud heard of commands whose ids begin so. Nobody asks for them again, so each is one event.
pub fn ends(received: &Received, begins: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, event) in received.of_type("command") {
        let (id, phase) = (event["id"].as_str().unwrap_or_default(), event["phase"].as_str().unwrap_or_default());
        if id.starts_with(begins) && TERMINAL.contains(&phase) {
            all.entry(id.to_owned()).or_default().push(format!("{phase} {} {}", event["reason"], event["values"]));
        }
    }
    all
}

/// At most once at a line and on the wire, and exactly one end.
pub fn once_each(log: &Log, received: &Received, begins: &str, wrong: &mut Vec<String>) {
    let ends = ends(received, begins);
    let mut handed: BTreeMap<&str, usize> = BTreeMap::new();
    for h in log.handed.iter().filter(|h| h.id.starts_with(begins)) {
        *handed.entry(h.id.as_str()).or_default() += 1;
        let sent = h.frames.iter().filter(|(_, busy)| !busy).count();
        if sent > 1 || h.executed > 1 {
            wrong.push(format!("twice on the wire: {h:?}"));
        }
        let told = ends.get(&h.id).and_then(|all| all.first()).map_or("", |end| end.as_str());
        // A write in doubt is read back: confirmed is also what the unit was seen to hold already.
        if told.starts_with("confirmed") && (sent == 0 || h.executed == 0 && !h.held) {
            wrong.push(format!("told as {told}, and neither carried out nor seen: {h:?}"));
        }
        if (told.starts_with("rejected") || told.starts_with("expired")) && sent > 0 {
            wrong.push(format!("told as {told}, but it was on the wire: {h:?}"));
        }
    }
    handed.iter().filter(|(_, times)| **times > 1).for_each(|(id, times)| wrong.push(format!("{id} was handed over {times} times")));
    let ids: BTreeSet<&str> = handed.keys().copied().chain(ends.keys().map(String::as_str)).collect();
    for id in ids {
        let told = ends.get(id).map_or(&[][..], Vec::as_slice);
        if told.len() != 1 {
            wrong.push(format!("{id} has {} ends: {told:?}", told.len()));
        }
    }
}

pub fn check(plan: &Plan, log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    let Some(brain) = &plan.brain else { return };
    once_each(log, received, "schedule:", wrong);
    let second = |at: Boot| (WALL_MS + i64::try_from(at.ms() - BASE.ms()).expect("minutes")).div_euclid(1000);
    let (Some(first), Some(end)) = (log.begins.first(), log.ends.last()) else { return };
    let every = [i64::try_from(brain.every_s).expect("small"), 60];
    for (((name, _), every), policy) in SCHEDULES.into_iter().zip(every).zip(brain.missed) {
        let ran = moments(log, received, name);
        figures.runs += ran.len();
        let missed: Vec<Told> = received.of_type("schedule").filter_map(|(_, e)| Told::read(e, name)).collect();
        // From the first second after the start to the last one before the end.
        for moment in (second(*first) + 1..second(end.at)).filter(|m| m.rem_euclid(every) == 0) {
            let told = missed.iter().filter(|t| (t.first..=t.last).contains(&moment));
            let is_told = told.clone().count() > 0;
            let excused = match policy {
                _ if !brain.steady => is_told && (policy != Missed::All || told.clone().any(|t| t.ran < t.count)),
                Missed::All => false,
                Missed::Skip | Missed::Once => is_told && was_off(log, moment),
            };
            if !ran.contains(&moment) && !excused {
                let at = calendar::text(moment);
                wrong.push(format!("{name} ({}) did not run at {at}; told as missed: {is_told}", policy.word()));
            }
        }
        // A clock that is set may be ahead; the calendar is the same.
        let is_strange = |m: &&i64| m.rem_euclid(every) != 0 || brain.steady && **m > second(end.at);
        if let Some(strange) = ran.iter().find(is_strange) {
            wrong.push(format!("{name} ran at {}, which is none of its moments", calendar::text(*strange)));
        }
    }
}

/// Of its runs, in seconds since 1970.
fn moments(log: &Log, received: &Received, name: &str) -> BTreeSet<i64> {
    let begins = format!("schedule:{name}@");
    let told = ends(received, &begins).into_keys();
    let ids = told.chain(log.handed.iter().map(|h| h.id.clone()));
    ids.filter_map(|id| Some(calendar::parse_rfc3339(id.strip_prefix(&begins)?)?.0 / 1000)).collect()
}

/// Whether nothing ran at that moment of true time.
fn was_off(log: &Log, moment: i64) -> bool {
    let at = BASE + Duration::from_millis(u64::try_from(moment * 1000 - WALL_MS).unwrap_or(0));
    let up = log.begins.iter().zip(&log.ends).any(|(began, end)| *began + MOMENT <= at && at + MOMENT <= end.at);
    !up
}

/// What an event says of runs that were missed.
struct Told {
    first: i64,
    last: i64,
    count: u64,
    ran: u64,
}

impl Told {
    fn read(event: &Json, name: &str) -> Option<Told> {
        let is_it = event["schedule"] == name && event["news"] == "missed";
        let second = |key: &str| Some(event[key].as_i64()? / 1000);
        let number = |key: &str| event[key].as_u64().unwrap_or(0);
        is_it.then_some(())?;
        Some(Told { first: second("first")?, last: second("last")?, count: number("missed"), ran: number("ran") })
    }
}
