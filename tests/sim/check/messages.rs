//! Keys: each has one content, comes twice only where its acknowledgement was lost, and none is missing.

use super::Figures;
use crate::{
    plan::Plan,
    world::{End, Log, Name},
};
use fieldgate::model::Boot;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// Place of the epoch among the lives, and number.
pub type Key = (usize, u64);

/// What the cloud has, each key once.
#[derive(Default)]
pub struct Received {
    pub samples: BTreeMap<Name, Json>,
    /// In order of key; times in milliseconds of the boot clock.
    pub events: BTreeMap<Key, Vec<Json>>,
    telemetry: BTreeMap<Key, String>,
    /// By telemetry message: samples that it stands for, and those of them that it left out.
    stands: BTreeMap<Key, (u64, u64)>,
    /// Where each message is among the arrivals, with its stream.
    places: BTreeMap<(bool, Key), Vec<usize>>,
    /// First arrivals of event messages, in order of arrival.
    order: Vec<Key>,
}

impl Received {
    pub fn read(log: &Log, wrong: &mut Vec<String>) -> Received {
        let mut out = Received::default();
        for (n, arrival) in log.arrivals.iter().enumerate() {
            let is_event = arrival.topic == "event";
            if !is_event && arrival.topic != "telemetry" {
                continue;
            }
            let Ok(mut body) = serde_json::from_slice::<Json>(&arrival.body) else {
                wrong.push(format!("not JSON: {}", String::from_utf8_lossy(&arrival.body)));
                continue;
            };
            let epoch = body["epoch"].as_str().unwrap_or_default();
            let Some(life) = log.epochs.iter().position(|e| e == epoch) else {
                wrong.push(format!("an epoch that nobody drew: {epoch}"));
                continue;
            };
            let key = (life, body["seq"].as_u64().unwrap_or_default());
            let offset = body["clock"]["offset_ms"].as_i64().unwrap_or_default();
            out.places.entry((is_event, key)).or_default().push(n);
            let content = if is_event { &mut body["events"] } else { &mut body["devices"] };
            let mut content = content.take();
            take_offset_off(&mut content, offset);
            let text = content.to_string();
            let before = if is_event {
                if !out.events.contains_key(&key) {
                    out.order.push(key);
                }
                let events = content.as_array().cloned().unwrap_or_default();
                out.events.insert(key, events).map(|e| Json::Array(e).to_string())
            } else {
                let stands = out.take_samples(&content);
                out.stands.insert(key, stands);
                out.telemetry.insert(key, text.clone())
            };
            if before.is_some_and(|b| b != text) {
                wrong.push(format!("key {key:?} with two contents, the second {text}"));
            }
        }
        out
    }

    fn take_samples(&mut self, devices: &Json) -> (u64, u64) {
        let (mut all, mut left_out) = (0, 0);
        for (device, frames) in devices.as_object().into_iter().flatten() {
            for frame in frames.as_array().into_iter().flatten() {
                let at = frame["at"].as_i64().unwrap_or_default();
                let held = frame["dt"].as_array().map_or(0, Vec::len) * frame["v"].as_object().map_or(0, serde_json::Map::len);
                let of = frame["thin"]["of"].as_u64().unwrap_or(held as u64);
                (all, left_out) = (all + of, left_out + of.saturating_sub(held as u64));
                for (point, values) in frame["v"].as_object().into_iter().flatten() {
                    for (row, value) in values.as_array().into_iter().flatten().enumerate() {
                        let at = at + frame["dt"][row].as_i64().unwrap_or_default();
                        let name = (device.clone(), point.clone(), u64::try_from(at).unwrap_or(0));
                        self.samples.insert(name, value.clone());
                    }
                }
            }
        }
        (all, left_out)
    }

    pub fn all_events(&self) -> impl Iterator<Item = (Key, &Json)> {
        self.events.iter().flat_map(|(key, events)| events.iter().map(|e| (*key, e)))
    }

    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (Key, &'a Json)> {
        self.all_events().filter(move |(_, e)| e["type"] == kind)
    }

    /// The first event of a life, if it came to that.
    pub fn epoch_event(&self, life: usize) -> Option<&Json> {
        self.events.get(&(life, 1)).and_then(|e| e.first()).filter(|e| e["type"] == "epoch")
    }

    /// As the protocol says that samples are to be counted. An event message that a gap names tells nothing itself: what
    /// its gaps said is said again.
    pub fn account(&self, epochs: &[String]) -> Account {
        let mut out = Account::default();
        let named = |wanted: bool| {
            let gaps = self.of_type("gap").filter(move |(_, g)| (g["stream"] == "event") == wanted && is_ours(g));
            gaps.flat_map(|(_, gap)| numbers(gap, epochs)).collect::<BTreeSet<Key>>()
        };
        let (telemetry, events) = (named(false), named(true));
        for (of, left_out) in self.stands.iter().filter(|(key, _)| !telemetry.contains(key)).map(|(_, stands)| *stands) {
            out.arrived += of;
            out.left_out += left_out;
        }
        for (_, gap) in self.of_type("gap").filter(|(key, g)| g["stream"] == "telemetry" && is_ours(g) && !events.contains(key)) {
            if gap["replaced_by"].is_null() {
                out.gapped += gap["samples"].as_u64().unwrap_or(0);
            }
        }
        out
    }
}

/// Samples by what became of them.
#[derive(Debug, Default, Clone, Copy)]
pub struct Account {
    /// That messages stand for, and those of them that thinning left out.
    pub arrived: u64,
    pub left_out: u64,
    /// That gap events gave up.
    pub gapped: u64,
}

fn numbers(gap: &Json, epochs: &[String]) -> Vec<Key> {
    let life = epochs.iter().position(|e| gap["epoch"] == e.as_str());
    let (from, to) = (gap["from"].as_u64().unwrap_or(1), gap["to"].as_u64().unwrap_or(0));
    life.into_iter().flat_map(|life| (from..=to).map(move |seq| (life, seq))).collect()
}

fn take_offset_off(json: &mut Json, offset: i64) {
    match json {
        Json::Object(members) => {
            for (key, value) in members {
                match value.as_i64() {
                    Some(at) if matches!(key.as_str(), "at" | "since" | "evidence_at" | "until") => *value = (at - offset).into(),
                    _ => take_offset_off(value, offset),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| take_offset_off(item, offset)),
        _ => {}
    }
}

pub fn check(plan: &Plan, log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    repeats(log, received, figures, wrong);
    epochs(plan, log, received, wrong);
    if let Some(w) = received.order.windows(2).find(|w| w[0] >= w[1]) {
        wrong.push(format!("event message {:?} came for the first time after {:?}", w[1], w[0]));
    }
}

/// An acknowledgement counts from when it reached the gateway; a kill may forget it, and any restart that of an event
/// message while an older one waits: with several uplinks it is written how far each got, not what it has beyond.
fn repeats(log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    for (key, places) in &received.places {
        figures.repeated += places.len() - 1;
        for pair in places.windows(2) {
            let (a, b) = (&log.arrivals[pair[0]], &log.arrivals[pair[1]]);
            let forgets = |end: &End| !end.clean || end.spool_full_since.is_some() || (key.0 && older_waits(log, received, key, end.at));
            let forgotten = log.ends[a.life..b.life].iter().any(forgets);
            let in_time = a.acknowledged.is_some_and(|at| at <= b.at);
            if a.link == b.link {
                wrong.push(format!("{key:?} twice on link {}", a.link));
            } else if in_time && !forgotten && !log.state_full.contains(&a.life) {
                wrong.push(format!("{key:?} again at {:?} after its acknowledgement at {:?}", b.at, a.acknowledged));
            }
        }
    }
}

fn older_waits(log: &Log, received: &Received, key: &(bool, Key), at: Boot) -> bool {
    let has = |places: &Vec<usize>| places.iter().any(|n| log.arrivals[*n].acknowledged.is_some_and(|then| then < at));
    received.places.range((true, (0, 0))..*key).any(|(_, places)| !has(places))
}

/// One that names another uplink is about what only that one loses.
fn is_ours(gap: &Json) -> bool {
    gap["uplink"].is_null() || gap["uplink"] == "cloud"
}

/// Each epoch says which one came before and how far that got, and up to there nothing is missing without a gap.
fn epochs(plan: &Plan, log: &Log, received: &Received, wrong: &mut Vec<String>) {
    let mut gaps: BTreeSet<(bool, Key)> = BTreeSet::new();
    for (_, gap) in received.of_type("gap").filter(|(_, g)| is_ours(g)) {
        gaps.extend(numbers(gap, &log.epochs).into_iter().map(|key| (gap["stream"] == "event", key)));
    }
    let here = |is_event: bool, key: Key| received.places.contains_key(&(is_event, key)) || gaps.contains(&(is_event, key));
    let missing = |life: usize, highest: [u64; 2], wrong: &mut Vec<String>| {
        for (is_event, highest) in [(false, highest[0]), (true, highest[1])] {
            let missing: Vec<u64> = (1..=highest).filter(|seq| !here(is_event, (life, *seq))).collect();
            if !missing.is_empty() {
                let stream = if is_event { "event" } else { "telemetry" };
                wrong.push(format!("{stream} of life {life}: {missing:?} of 1..={highest} never came, and no gap names them"));
            }
        }
    };
    let has_come = |life: usize| received.places.keys().any(|(_, (of, _))| *of == life);
    for life in 0..log.epochs.len() {
        let Some(told) = received.epoch_event(life) else {
            // Killed before its first event: then nothing of it may have come. Or that event could not be written.
            if !log.state_full.contains(&life) && (log.ends[life].clean || has_come(life)) {
                wrong.push(format!("life {life} does not begin with its epoch event"));
            }
            continue;
        };
        let before = (0..life).rev().find(|before| has_come(*before));
        if told["before"].as_str() != before.map(|before| log.epochs[before].as_str()) {
            wrong.push(format!("life {life} comes after {before:?} and says {told}"));
        }
        let Some(before) = before else { continue };
        let ends = &log.ends[before..life];
        let window = u64::try_from((plan.window + plan.linger).as_millis()).expect("short");
        let killed = ends.iter().any(|e| !e.clean);
        // With the spool's file full a stop is clean only if everything was acknowledged.
        let maybe = ends.iter().any(|e| e.spool_full_since.is_some()) || (before..life).any(|l| log.state_full.contains(&l));
        let lost = told["may_have_lost_ms"].as_u64();
        // Where a disk failed up to the end, the time since then counts as well.
        let most = window
            + failing_since(log, before, life).map_or(0, |since| at(told, "at").map_or(0, |now| now.ms().saturating_sub(since.ms())));
        let failed = maybe && lost.is_some_and(|lost| (window..=most).contains(&lost));
        let right = if killed { lost == Some(window) || failed } else { lost == Some(0) || failed };
        if !right {
            wrong.push(format!("life {life} after {ends:?} says {told}"));
        }
        let number = |of: &str| told[of].as_u64().unwrap_or(0);
        missing(before, [number("telemetry"), number("event")], wrong);
    }
    missing(log.epochs.len() - 1, log.highest, wrong);
}

/// Since when a disk may have failed without a break up to the end of the life before, looked for from `before` on and in
/// lives that failed before that.
fn failing_since(log: &Log, before: usize, life: usize) -> Option<Boot> {
    let began = |of: usize| of.checked_sub(1).map_or(Boot(0), |n| log.ends[n].at);
    let since = |of: usize| if log.state_full.contains(&of) { Some(began(of)) } else { log.ends[of].spool_full_since };
    let known = (before..life).filter_map(since).min();
    let earlier = (0..before).rev().map_while(since).last();
    known.map(|known| earlier.map_or(known, |earlier| earlier.min(known)))
}

/// A moment of the boot clock in an event.
pub fn at(event: &Json, key: &str) -> Option<Boot> {
    event[key].as_u64().map(Boot::from_ms)
}
