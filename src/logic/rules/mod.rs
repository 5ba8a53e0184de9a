//! Rules: which of them a reading or a state concerns, whether their conditions are true, and what follows.
//!
//! ```text
//! reading, state ──► index ──► conditions ──► machine: hold, cooldown, once per cause ──► Fired, Cleared, Paused
//! ```
//! - A value that is null, not good, or of a device that is not there makes a test unknown; what is unknown neither fires
//!   nor clears. A device whose state is unknown was seen by nobody: only `is unknown` is known of it.
//! - A comparison that is true stays true until the value has come back by the rule's hysteresis.
//! - A rule fires once when its condition becomes true, and again only after it has been false, also over restarts
//!   ([`RuleMemory`]). What is true when a cooldown ends fires then.
//!
//! On the hot path: a reading of a device that no rule watches costs one look-up. Absent on purpose: what an action is.

mod machine;
#[cfg(test)]
mod tests;

pub use machine::Did;

use super::requests::Requests;
use crate::model::{
    Boot, Compare, Condition, DeviceId, Expr, Pace, PointId, PointRef, Quality, Reading, RuleId, RuleMemory, RuleView, State, Test,
    TestView, Value,
};
use machine::Machine;
use std::collections::{BTreeMap, BTreeSet};

/// Requests of one device whose lists of points are remembered. More (names that never repeat): they are looked up afresh.
const REQUESTS: usize = 256;

/// A rule, as the operator wrote it.
#[derive(Debug, Clone)]
pub struct Rule {
    pub id: RuleId,
    pub when: Condition,
    pub unless: Option<Condition>,
    pub pace: Pace,
}

/// What a rule did, by its place in the list that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    pub rule: usize,
    pub did: Did,
    pub at: Boot,
}

#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Entry>,
    devices: BTreeMap<DeviceId, Watched>,
    slots: Vec<Slot>,
    due: BTreeSet<(Boot, usize)>,
    /// No step goes back: readings of two lines may overtake each other by some milliseconds.
    now: Boot,
}

#[derive(Debug)]
struct Entry {
    id: RuleId,
    tests: Vec<Test>,
    /// What each test looks at, two at most.
    slots: Vec<[Option<usize>; 2]>,
    expr: Expr,
    hysteresis: f64,
    machine: Machine,
    due: Option<Boot>,
    looked: Option<Boot>,
}

/// The last value of a watched point.
#[derive(Debug)]
struct Slot {
    /// `Err`: none that counts, and why.
    value: Result<Value, &'static str>,
    at: Option<Boot>,
    rules: Vec<usize>,
}

#[derive(Debug)]
struct Watched {
    state: Option<(State, Boot)>,
    points: BTreeMap<PointId, usize>,
    /// Place in the reading, and slot.
    requests: Requests<Vec<(usize, usize)>>,
    /// Those that ask for its state.
    rules: Vec<usize>,
}

impl Rules {
    pub fn new(rules: Vec<Rule>) -> Rules {
        let mut all = Rules::default();
        for rule in rules {
            all.add(rule);
        }
        all
    }

    fn add(&mut self, rule: Rule) {
        let Rule { id, when, unless, pace } = rule;
        let (mut tests, mut expr) = (when.tests, when.expr);
        if let Some(unless) = unless {
            let blocked = unless.expr.shifted(tests.len());
            tests.extend(unless.tests);
            expr = Expr::And(Box::new(expr), Box::new(Expr::Not(Box::new(blocked))));
        }
        let at = self.rules.len();
        let mut slots = Vec::with_capacity(tests.len());
        for test in &tests {
            if let Test::State(device, _) = test {
                let watched = self.devices.entry(device.clone()).or_default();
                if !watched.rules.contains(&at) {
                    watched.rules.push(at);
                }
            }
            let mut of = [None, None];
            for (place, point) in of.iter_mut().zip(test.points()) {
                *place = Some(self.slot(point, at));
            }
            slots.push(of);
        }
        let machine = Machine::new(pace);
        self.rules.push(Entry { id, tests, slots, expr, hysteresis: pace.hysteresis, machine, due: None, looked: None });
    }

    fn slot(&mut self, of: &PointRef, rule: usize) -> usize {
        let watched = self.devices.entry(of.device.clone()).or_default();
        let slot = *watched.points.entry(of.point.clone()).or_insert(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(Slot { value: Err("not heard yet"), at: None, rules: Vec::new() });
        }
        let rules = &mut self.slots[slot].rules;
        if !rules.contains(&rule) {
            rules.push(rule);
        }
        slot
    }

    /// What is remembered of it from an earlier run.
    pub fn restore(&mut self, id: &RuleId, memory: RuleMemory) {
        if let Some(entry) = self.rules.iter_mut().find(|r| r.id == *id) {
            entry.machine.memory = memory;
        }
    }

    /// As it is now.
    pub fn remembered(&self, id: &RuleId) -> Option<&RuleMemory> {
        self.rules.iter().find(|r| r.id == *id).map(|r| &r.machine.memory)
    }

    /// To be kept after each effect.
    pub fn memory(&self, rule: usize) -> Option<(&RuleId, &RuleMemory)> {
        self.rules.get(rule).map(|r| (&r.id, &r.machine.memory))
    }

    /// The point that a rule is about: the first that it names.
    pub fn about(&self, rule: usize) -> Option<(&DeviceId, Option<&PointId>)> {
        let tests = &self.rules.get(rule)?.tests;
        let point = tests.iter().flat_map(Test::points).next();
        point.map(|p| (&p.device, Some(&p.point))).or_else(|| Some((tests.iter().flat_map(Test::devices).next()?, None)))
    }

    /// What its tests were judged by, in words.
    pub fn because(&self, rule: usize) -> String {
        const SHOWN: usize = 4;
        let Some(entry) = self.rules.get(rule) else { return String::new() };
        let tests = entry.tests.iter().enumerate().take(SHOWN);
        let mut says: Vec<String> = tests.map(|(n, test)| format!("{test}: {}", self.shown(entry, n).join(", "))).collect();
        says.extend((entry.tests.len() > SHOWN).then(|| "…".to_owned()));
        says.join("; ")
    }

    fn shown(&self, entry: &Entry, n: usize) -> Vec<String> {
        self.seen(entry, n).into_iter().map(|(value, _)| value).collect()
    }

    /// What a test looks at, each with its moment.
    fn seen(&self, entry: &Entry, n: usize) -> Vec<(String, Option<Boot>)> {
        if let Test::State(device, _) = &entry.tests[n] {
            let state = self.devices.get(device).and_then(|d| d.state);
            return vec![state.map_or(("not known here".to_owned(), None), |(s, at)| (s.word().to_owned(), Some(at)))];
        }
        let slots = entry.slots[n].iter().flatten().map(|slot| &self.slots[*slot]);
        slots.map(|s| (s.value.as_ref().map_or_else(|why| (*why).to_owned(), plain), s.at)).collect()
    }

    pub fn reading(&mut self, reading: &Reading, out: &mut Vec<Effect>) {
        let Some(device) = self.devices.get_mut(&reading.device) else { return };
        if device.points.is_empty() {
            return;
        }
        let Watched { points, requests, .. } = device;
        let make = || reading.points.iter().enumerate().filter_map(|(n, p)| Some((n, *points.get(p)?))).collect();
        let (_, watched) = requests.of(&reading.points, make);
        // A retained message may be as old as its device; in maintenance nothing is judged.
        let there = !matches!(device.state, Some((State::Offline | State::Unknown, _)));
        let mut concerned = BTreeSet::new();
        for &(n, slot) in watched.iter() {
            let Some(value) = reading.values.get(n) else { continue };
            let slot = &mut self.slots[slot];
            slot.value = match (reading.quality_of(n), value) {
                _ if !there => Err(Quality::Stale.word()),
                (Quality::Good, Value::Null) => Err("no value"),
                (Quality::Good, value) => Ok(value.clone()),
                (other, _) => Err(other.word()),
            };
            slot.at = Some(reading.at);
            concerned.extend(slot.rules.iter().copied());
        }
        if !concerned.is_empty() {
            self.look(reading.at, concerned, out);
        }
    }

    /// A device is what it is now. What is not there has no values that count.
    pub fn state(&mut self, device: &DeviceId, state: State, at: Boot, out: &mut Vec<Effect>) {
        let Some(watched) = self.devices.get_mut(device) else { return };
        watched.state = Some((state, at));
        let mut concerned: BTreeSet<usize> = watched.rules.iter().copied().collect();
        if matches!(state, State::Offline | State::Unknown) {
            for slot in watched.points.values() {
                let slot = &mut self.slots[*slot];
                if slot.value.is_ok() {
                    slot.value = Err(Quality::Stale.word());
                    concerned.extend(slot.rules.iter().copied());
                }
            }
        }
        if !concerned.is_empty() {
            self.look(at, concerned, out);
        }
    }

    /// Whether any rule looks at that device at all.
    pub fn watches(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    pub fn next_due(&self) -> Option<Boot> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Fires what has been true for long enough. `upto`: everything that happened before was handed in.
    pub fn expire(&mut self, upto: Boot, out: &mut Vec<Effect>) {
        self.now = self.now.max(upto);
        while let Some((_, rule)) = self.due.first().copied().filter(|(at, _)| *at <= upto) {
            let entry = &mut self.rules[rule];
            out.extend(entry.machine.expire(upto).map(|(at, did)| Effect { rule, did, at }));
            self.rearm(rule);
        }
    }

    /// `why`: off; `None`: on. `false`: there is no such rule.
    pub fn switch(&mut self, id: &RuleId, why: Option<String>, now: Boot, out: &mut Vec<Effect>) -> Option<usize> {
        let rule = self.rules.iter().position(|r| r.id == *id)?;
        self.now = self.now.max(now);
        let at = self.now;
        out.extend(self.rules[rule].machine.switch(why, at).map(|did| Effect { rule, did, at }));
        self.rearm(rule);
        Some(rule)
    }

    fn look(&mut self, at: Boot, concerned: BTreeSet<usize>, out: &mut Vec<Effect>) {
        self.now = self.now.max(at);
        let at = self.now;
        // What was due before this moment comes before it.
        self.expire(at.saturating_sub(std::time::Duration::from_micros(1)), out);
        for rule in concerned {
            let truth = self.truth(rule);
            let entry = &mut self.rules[rule];
            entry.looked = Some(at);
            out.extend(entry.machine.step(at, truth).map(|did| Effect { rule, did, at }));
            self.rearm(rule);
        }
    }

    fn rearm(&mut self, rule: usize) {
        let entry = &mut self.rules[rule];
        let due = entry.machine.due();
        if due != entry.due {
            if let Some(before) = std::mem::replace(&mut entry.due, due) {
                self.due.remove(&(before, rule));
            }
            self.due.extend(due.map(|at| (at, rule)));
        }
    }

    /// Judges every test, so that each has its hysteresis whatever the others say.
    fn truth(&mut self, rule: usize) -> Option<bool> {
        let entry = &self.rules[rule];
        let mut held = entry.machine.memory.held;
        let mut judged = Vec::with_capacity(entry.tests.len());
        for n in 0..entry.tests.len() {
            let truth = self.judge(entry, n);
            if let Some(truth) = truth {
                held = (held & !(1 << n)) | (u64::from(truth) << n);
            }
            judged.push(truth);
        }
        let truth = entry.expr.truth(&|n| judged.get(n).copied().flatten());
        self.rules[rule].machine.memory.held = held;
        truth
    }

    fn judge(&self, entry: &Entry, n: usize) -> Option<bool> {
        let held = (entry.machine.memory.held >> n) & 1 == 1;
        let value = |which: usize| entry.slots[n][which].and_then(|slot| self.slots[slot].value.as_ref().ok());
        match &entry.tests[n] {
            Test::State(device, wanted) => match self.devices.get(device)?.state?.0 {
                State::Unknown if *wanted != State::Unknown => None,
                state => Some(state == *wanted),
            },
            Test::Value(_, how, limit) => compare(value(0)?, *how, limit, entry.hysteresis, held),
            Test::Points(_, how, _) => compare(value(0)?, *how, value(1)?, entry.hysteresis, held),
        }
    }

    pub fn views(&self, now: Boot) -> Vec<RuleView> {
        self.rules.iter().map(|entry| self.view(entry, now)).collect()
    }

    fn view(&self, entry: &Entry, now: Boot) -> RuleView {
        let test = |(n, test): (usize, &Test)| TestView {
            test: test.clone(),
            truth: entry.looked.and_then(|_| self.judge(entry, n)),
            values: self.seen(entry, n),
        };
        RuleView {
            id: entry.id.clone(),
            truth: entry.machine.truth(),
            memory: entry.machine.memory.clone(),
            looked: entry.looked,
            waits: entry.machine.waits(now.max(self.now)),
            tests: entry.tests.iter().enumerate().map(test).collect(),
        }
    }
}

impl Default for Watched {
    fn default() -> Watched {
        Watched { state: None, points: BTreeMap::new(), requests: Requests::up_to(REQUESTS), rules: vec![] }
    }
}

/// `None`: they cannot be compared. `held`: it was true when it was last known.
fn compare(value: &Value, how: Compare, limit: &Value, hysteresis: f64, held: bool) -> Option<bool> {
    let equal = match (value, limit) {
        (Value::Text(a), Value::Text(b)) => Some(a == b),
        (Value::Text(_), _) | (_, Value::Text(_)) => None,
        // Switches come as 0 and 1 from many registers.
        (Value::Bool(a), b) | (b, Value::Bool(a)) => b.as_f64().map(|b| *a == (b != 0.0)),
        (a, b) => a.as_f64().zip(b.as_f64()).map(|(a, b)| a == b),
    };
    let numbers = || value.as_f64().zip(limit.as_f64());
    let band = if held { hysteresis } else { 0.0 };
    match how {
        Compare::Equal => equal,
        Compare::NotEqual => equal.map(|e| !e),
        Compare::Less => numbers().map(|(v, l)| v < l + band),
        Compare::AtMost => numbers().map(|(v, l)| v <= l + band),
        Compare::More => numbers().map(|(v, l)| v > l - band),
        Compare::AtLeast => numbers().map(|(v, l)| v >= l - band),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "no value".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Text(t) => format!("'{t}'"),
    }
}
