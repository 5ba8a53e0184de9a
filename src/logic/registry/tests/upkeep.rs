//! Random histories with restarts against a model that has no deadlines and no laziness, and the alarms that follow.

use super::{alarms::Oracle, *};
use crate::logic::testing::models;

/// The rules once more: it is asked at every tick.
struct Model {
    watch: Watch,
    state: State,
    cause: Option<Cause>,
    heard: Option<u64>,
    /// What was heard last was a goodbye.
    goodbye: bool,
    /// Its line went down then.
    went: Option<u64>,
    /// Nobody looked before.
    from: u64,
    session: Option<u64>,
    misses: u32,
    down: bool,
    until: Option<u64>,
}

impl Model {
    fn new(watch: Watch, now: u64, until: Option<u64>) -> Model {
        let cause = if until.is_some() { Cause::Maintenance } else { Cause::Restored };
        let (heard, went, session) = (None, None, None);
        let (state, cause) = (State::Unknown, Some(cause));
        Model { watch, state, cause, heard, goodbye: false, went, from: now, session, misses: 0, down: false, until }
    }

    fn set(&mut self, state: State, cause: Option<Cause>) {
        if self.until.is_none() {
            (self.state, self.cause) = (state, cause);
        }
    }

    fn down_cause(&self) -> Cause {
        if self.watch.poll.is_some() { Cause::LineDown } else { Cause::BrokerDown }
    }

    fn allowed(&self) -> u64 {
        if self.watch.poll.is_some() { 10 * S } else { 12 * S }
    }

    fn heard(&mut self, now: u64) {
        (self.heard, self.misses, self.goodbye) = (Some(now), 0, false);
        self.set(State::Online, None);
    }

    /// Nobody looked for so long.
    fn blind(&mut self, gap: u64, now: u64) {
        let silent_since = self.heard.unwrap_or(0).max(self.from);
        self.from = self.from.max((silent_since + gap).min(now));
    }

    /// Whether what is said counts.
    fn believes(&mut self, online: bool, will: bool, retained: bool, session: Option<u64>) -> bool {
        let stale = retained && (online || matches!(self.state, State::Online | State::Suspect));
        let foreign = will && matches!((session, self.session), (Some(said), Some(known)) if said < known);
        if !stale && !foreign {
            self.session = self.session.max(session);
        }
        !stale && !foreign
    }

    fn resume(&mut self, now: u64) {
        self.until = None;
        if self.down {
            return self.set(State::Unknown, Some(self.down_cause()));
        }
        let heard = self.heard.filter(|h| *h >= self.from && self.went.is_none_or(|w| *h > w));
        if self.goodbye && self.heard > self.went {
            self.set(State::Offline, Some(Cause::Said));
        } else if heard.is_some_and(|h| now - h <= self.allowed()) && !self.goodbye {
            self.set(State::Online, None);
        } else {
            self.set(State::Unknown, Some(Cause::Restored));
        }
        (self.from, self.misses) = (now, 0);
    }

    fn tick(&mut self, now: u64) {
        if let Some(until) = self.until.filter(|until| now >= *until) {
            // It may have ended while nothing ran.
            self.resume(until.max(self.from));
        }
        let polled = self.watch.poll.is_some();
        let (allowed, overdue) = (self.allowed(), if polled { 5 * S } else { 9 * S });
        if self.down || self.state == State::Offline || self.until.is_some() {
            return;
        }
        let silent = now - self.heard.unwrap_or(0).max(self.from);
        let enough = !polled || self.misses >= 2;
        if silent > allowed && enough {
            self.set(State::Offline, Some(Cause::Silent));
        } else if self.state == State::Online && (silent > allowed || silent > overdue && enough) {
            self.set(State::Suspect, Some(Cause::Silent));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Wait(u64),
    Heard,
    Missed,
    /// online, will, retained, session
    Said(bool, bool, bool, Option<u64>),
    Line(bool),
    Maintain(u64),
    Resume,
    /// The process stood still for so long.
    Blind(u64),
    /// It is off for so long; `same`: the machine stays on.
    Restart {
        off: u64,
        same: bool,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1u64..4_000).prop_map(Op::Wait),
        1 => (4_000u64..30_000).prop_map(Op::Wait),
        4 => Just(Op::Heard),
        5 => Just(Op::Missed),
        3 => (any::<(bool, bool, bool)>(), proptest::option::of(1u64..5)).prop_map(|((online, will, retained), session)| {
            Op::Said(online, will && !online, retained, session)
        }),
        1 => any::<bool>().prop_map(Op::Line),
        1 => (1u64..40_000).prop_map(Op::Maintain),
        1 => Just(Op::Resume),
        1 => (2_000u64..60_000).prop_map(Op::Blind),
        1 => (0u64..50_000, any::<bool>()).prop_map(|(off, same)| Op::Restart { off, same }),
    ];
    proptest::collection::vec(op, 1..80)
}

fn begun(watch: &Watch, evidence: Option<Evidence>, now: u64) -> Registry {
    let mut registry = Registry::new(RULES);
    registry.watch(at(now), &id("d"), watch.clone(), evidence);
    registry
}

/// What is kept over a restart is what was told: the row of its last move, alarms that are raised, and until when it is in
/// maintenance. In words, as in the store's columns.
struct Kept {
    evidence: Option<(String, u64)>,
    alarms: Vec<String>,
    until: Option<u64>,
}

impl Kept {
    fn write(registry: &Registry, last: Option<&DeviceStatus>, until: Option<u64>) -> Kept {
        let evidence = last.and_then(|row| row.evidence).map(|e| (e.kind.word().to_owned(), e.at.0));
        Kept { evidence, alarms: registry.alarms().map(|(_, kind)| kind.word().to_owned()).collect(), until }
    }

    /// Evidence of another boot has another clock: it says nothing.
    fn read(&self, watch: &Watch, same: bool, now: u64) -> Registry {
        let evidence = |(kind, at): &(String, u64)| Some(Evidence { kind: EvidenceKind::parse(kind)?, at: Boot(*at) });
        let mut registry = begun(watch, self.evidence.as_ref().filter(|_| same).and_then(evidence), now);
        self.alarms.iter().for_each(|kind| registry.remember(&id("d"), AlarmKind::parse(kind).unwrap(), at(now)));
        if let Some(until) = self.until {
            registry.maintain(&id("d"), Some(at(until)), at(now), &mut vec![]);
        }
        registry
    }
}

/// Each deadline at its very moment.
fn expire_in_time(registry: &mut Registry, now: Boot, out: &mut Vec<Effect>) {
    while let Some(due) = registry.next_due().filter(|due| *due <= now) {
        registry.expire(due, usize::MAX, out);
    }
}

fn states_follow_the_model(watch: &Watch, ops: &[Op]) {
    let d = id("d");
    let mut out = vec![];
    let mut now = S;
    let mut registry = begun(watch, None, now);
    let mut model = Model::new(watch.clone(), now, None);
    let mut oracle = Oracle::new(RULES, watch.alarm_after, at(now));
    let (mut seen, mut last) = (0, None);
    for op in ops {
        // Every operation has a moment of its own.
        now += 1;
        expire_in_time(&mut registry, at(now), &mut out);
        model.tick(now);
        let before = out.len();
        match *op {
            Op::Wait(ms) => {
                let until = now + ms;
                expire_in_time(&mut registry, at(until), &mut out);
                (now..=until + 1).step_by(53).for_each(|t| model.tick(t));
                now = until + 1;
                expire_in_time(&mut registry, at(now), &mut out);
            }
            Op::Heard => {
                registry.heard(&d, EvidenceKind::Poll, at(now), &mut out);
                model.tick(now);
                model.heard(now);
            }
            Op::Missed => {
                registry.missed(&d, at(now));
                if !model.down {
                    model.misses += 1;
                }
            }
            Op::Said(online, will, retained, session) => {
                registry.said(&d, Saying { online, will, retained, session, at: at(now) }, &mut out);
                if model.believes(online, will, retained, session) {
                    if online {
                        model.heard(now);
                    } else {
                        if !retained {
                            (model.heard, model.goodbye) = (Some(now), true);
                        }
                        if model.state != State::Offline {
                            model.set(State::Offline, Some(Cause::Said));
                        }
                    }
                }
            }
            Op::Line(up) => {
                let state = if up { LineState::Up } else { LineState::Down };
                let known = registry.lines().next().map(|(_, s, _)| s);
                registry.line(watch.line.as_ref().unwrap(), state, "", at(now), &mut out);
                let lines = out[before..].iter().filter(|e| matches!(e, Effect::Line { .. })).count();
                assert_eq!(lines, usize::from(known != Some(state)), "one event per change of a line");
                assert!(!out[before..].iter().any(|e| matches!(e, Effect::Device { announce: true, .. })), "a line speaks for its devices");
                if known != Some(state) {
                    (model.down, model.misses) = (!up, 0);
                    if up {
                        model.from = now;
                    } else {
                        model.went = Some(now);
                        model.set(State::Unknown, Some(model.down_cause()));
                    }
                }
            }
            Op::Maintain(ms) => {
                registry.maintain(&d, Some(at(now + ms)), at(now), &mut out);
                model.set(State::Unknown, Some(Cause::Maintenance));
                model.until = Some(now + ms);
            }
            Op::Resume => {
                let was = registry.resume(&d, at(now), &mut out);
                assert_eq!(was, model.until.is_some());
                if was {
                    model.resume(now);
                }
            }
            Op::Blind(gap) => {
                registry.blind(Duration::from_millis(gap), at(now));
                model.blind(gap, now);
                oracle.looks_from(at(model.from));
            }
            Op::Restart { off, same } => {
                check_order(&out);
                oracle.see(&out[seen..]);
                let row = out.iter().rev().find_map(|e| if let Effect::Device { status, .. } = e { Some(status) } else { None });
                let kept = Kept::write(&registry, row.or(last.as_ref()), model.until);
                last = row.cloned().or(last);
                (seen, out) = (0, vec![]);
                now += off;
                registry = kept.read(watch, same, now);
                model = Model::new(watch.clone(), now, model.until);
                oracle.restart(at(now), model.until.is_some());
            }
        }
        model.tick(now);
        expire_in_time(&mut registry, at(now), &mut out);
        let got = registry.status(&d).unwrap();
        assert_eq!((got.state, got.cause), (model.state, model.cause), "after {op:?} at {now}");
        oracle.see(&out[seen..]);
        seen = out.len();
        oracle.now(at(now), model.down, &registry);
    }
    check_order(&out);
}

/// Never two equal changes in a row, neither in the history nor among what is announced; time does not go backwards.
fn check_order(out: &[Effect]) {
    let moves: Vec<_> = out.iter().filter_map(|e| if let Effect::Device { status, .. } = e { Some(status) } else { None }).collect();
    for pair in moves.windows(2) {
        assert_ne!((pair[0].state, pair[0].cause), (pair[1].state, pair[1].cause), "{pair:?}");
        assert!(pair[0].since <= pair[1].since, "{pair:?}");
    }
    let told = out.iter().filter_map(|e| match e {
        Effect::Device { status, announce: true } | Effect::Announce(status) => Some((status.state, status.cause)),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert!(told.windows(2).all(|p| p[0] != p[1]), "{told:?}");
}

#[test]
fn a_polled_device_follows_the_model() {
    models(file!(), "registry, a device that is polled", ops(), |ops| {
        states_follow_the_model(&Watch { alarm_after: Some(Duration::from_secs(15)), ..polled() }, &ops);
        Ok(())
    });
}

#[test]
fn a_speaking_device_follows_the_model() {
    models(file!(), "registry, a device that speaks by itself", ops(), |ops| {
        states_follow_the_model(&Watch { alarm_after: Some(Duration::from_secs(15)), ..speaking() }, &ops);
        Ok(())
    });
}
