//! Flapping, being offline for too long, maintenance, pings: tables, and what follows from a history of changes.

use super::*;

fn alarming() -> Watch {
    Watch { alarm_after: Some(Duration::from_secs(30)), ..speaking() }
}

fn off(t: u64) -> Do {
    Said(t, false, false, false, None)
}

#[test]
fn a_flapping_device_is_one_alarm_and_its_changes_are_kept() {
    let mut steps: Vec<Do> = (0..8).map(|n| if n % 2 == 0 { Heard((n + 1) * S) } else { off((n + 1) * S) }).collect();
    let begun = ["online", "offline said", "online", "offline said", "(quiet) online", "flapping raised at 5000"];
    let flaps = ["(quiet) offline said", "(quiet) online", "(quiet) offline said"];
    check(speaking(), &steps, &[&begun[..], &flaps[..]].concat());
    // Quiet for long enough: it is told as it is, if that is news.
    steps.push(Expire(28 * S - 1));
    check(speaking(), &steps, &[&begun[..], &flaps[..]].concat());
    steps.push(Expire(28 * S));
    check(speaking(), &steps, &[&begun[..], &flaps[..], &["flapping cleared at 28000"]].concat());
    steps.truncate(7);
    (1..=3).for_each(|n| steps.push(Heard(7 * S + n * 9 * S)));
    steps.push(Expire(35 * S));
    let ends = ["flapping cleared at 35000", "still online"];
    check(speaking(), &steps, &[&begun[..], &flaps[..2], &ends].concat());
    // After that each change is told again.
    steps.push(off(36 * S));
    check(speaking(), &steps, &[&begun[..], &flaps[..2], &ends, &["offline said"]].concat());
}

#[test]
fn changes_far_apart_are_no_flapping() {
    // Four in a minute may go on for ever.
    let steps: Vec<Do> = (1..40).map(|n| if n % 2 == 1 { Heard(n * 15 * S) } else { off(n * 15 * S) }).collect();
    let want: Vec<&str> = (1..40).map(|n| if n % 2 == 1 { "online" } else { "offline said" }).collect();
    check(Watch { offline_after: None, ..speaking() }, &steps, &want);
}

#[test]
fn a_line_that_comes_and_goes_makes_no_device_flap() {
    use LineState::{Down, Up};
    let round = |t: u64| [Line(t, Up), Heard(t + 1), Line(t + 2, Down)];
    let steps: Vec<Do> = (1..20).flat_map(|n| round(n * S)).collect();
    let (mut registry, mut out) = (Registry::new(RULES), vec![]);
    registry.watch(at(0), &id("d"), speaking(), None);
    steps.iter().for_each(|s| run(&mut registry, *s, &mut out));
    assert!(!out.iter().any(|e| matches!(e, Effect::Alarm(_))), "{out:?}");
}

#[test]
fn an_alarm_is_raised_when_it_is_offline_for_too_long_and_cleared_when_it_is_back_for_long_enough() {
    let stays = [Heard(40 * S), Heard(49 * S), Heard(58 * S), Expire(60 * S - 1), Expire(60 * S)];
    let steps = [&[Heard(S), off(2 * S), Expire(32 * S - 1), Expire(32 * S)][..], &stays].concat();
    let want = ["online", "offline said", "offline raised at 32000", "online", "offline cleared at 60000"];
    check(alarming(), &steps[..3], &want[..2]);
    check(alarming(), &steps[..8], &want[..4]);
    check(alarming(), &steps, &want);
    // Back for a moment only: it is the same alarm.
    let steps = [Heard(S), off(2 * S), Expire(32 * S), Heard(40 * S), off(41 * S), Expire(99 * S)];
    check(alarming(), &steps, &["online", "offline said", "offline raised at 32000", "online", "offline said"]);
    check(
        alarming(),
        &[Heard(S), off(2 * S), Heard(31 * S), off(32 * S), Expire(61 * S)],
        &["online", "offline said", "online", "offline said"],
    );
}

#[test]
fn maintenance_is_no_alarm_no_offline_and_has_an_end() {
    let (maintained, back) = ("unknown maintenance", "unknown restored");
    check(speaking(), &[Heard(S), Maintain(2 * S, None), Expire(999 * S), off(1000 * S)], &["online", maintained]);
    // Heard meanwhile: it is online at the end. Silent: a grace, and then silence counts.
    let heard = [Heard(S), Maintain(2 * S, Some(60 * S)), Heard(55 * S), Expire(60 * S)];
    check(speaking(), &heard, &["online", maintained, "maintained until 60000", "online"]);
    let silent = [Heard(S), Maintain(2 * S, Some(60 * S)), Expire(60 * S), Expire(72 * S), Expire(72 * S + 1)];
    check(speaking(), &silent, &["online", maintained, "maintained until 60000", back, "offline silent"]);
    let goodbye = [Heard(S), Maintain(2 * S, None), off(3 * S), Resume(4 * S)];
    check(speaking(), &goodbye, &["online", maintained, "offline said"]);
    use LineState::Down;
    check(speaking(), &[Maintain(S, None), Line(2 * S, Down), Resume(3 * S)], &[maintained, "line down", "unknown broker_down"]);
    // Another end; nothing is told again.
    check(
        speaking(),
        &[Maintain(S, Some(5 * S)), Maintain(2 * S, Some(9 * S)), Expire(8 * S), Resume(8 * S), Resume(9 * S)],
        &[maintained, back],
    );
    let alarm = [Heard(S), off(2 * S), Expire(32 * S), Maintain(33 * S, None), Expire(99 * S)];
    let want = ["online", "offline said", "offline raised at 32000", "offline cleared at 33000", maintained];
    check(alarming(), &alarm, &want);
}

#[test]
fn what_answers_when_asked_is_pinged_before_anybody_suspects_it() {
    let mains = || Watch { pinged: true, ..speaking() };
    check(mains(), &[Heard(S), Expire(7 * S)], &["online"]);
    check(mains(), &[Heard(S), Expire(7 * S + 1), Heard(8 * S), Expire(14 * S)], &["online", "ping"]);
    let silent = [Heard(S), Expire(8 * S), Expire(10 * S), Expire(11 * S), Expire(13 * S + 1), Expire(99 * S)];
    check(mains(), &silent, &["online", "ping", "ping", "suspect silent", "offline silent"]);
    check(mains(), &[Expire(7 * S), Heard(8 * S)], &["ping", "online"]);
}

#[test]
fn what_was_raised_before_a_restart_is_cleared_once_after_it() {
    let (mut registry, mut out) = (Registry::new(RULES), vec![]);
    registry.watch(at(0), &id("d"), alarming(), None);
    registry.remember(&id("d"), AlarmKind::Offline, at(0));
    registry.remember(&id("d"), AlarmKind::Flapping, at(0));
    for step in [Heard(S), Heard(10 * S), Heard(19 * S), Expire(21 * S), Expire(22 * S)] {
        run(&mut registry, step, &mut out);
    }
    let got: Vec<String> = out.iter().map(words).collect();
    assert_eq!(got, ["(quiet) online", "flapping cleared at 21000", "still online", "offline cleared at 21000"]);
}

/// What a tracked device costs, its name in its place, on the average of lists that double when they are full and of nodes that are
/// two thirds full: 64 MB hold a hundred thousand with room to spare.
#[test]
fn a_tracked_device_costs_less_than_three_hundred_bytes() {
    let entry = size_of::<(u64, DeviceId, Entry)>() * 3 / 2;
    // A place and one byte each in a table that is two thirds full, and a seat in the order of the names.
    let index = (size_of::<usize>() + 1 + size_of::<Seat>()) * 3 / 2;
    let due = size_of::<(Boot, Seat)>() * 3 / 2;
    let all = entry + index + due;
    eprintln!("{all} bytes: {entry} for the device, {index} to find it, {due} for its deadline");
    assert!(all <= 300);
}

/// Which alarms must follow from the changes of one device, counted anew for each of them.
pub struct Oracle {
    rules: Rules,
    alarm_after: Option<Duration>,
    state: (State, Option<Cause>),
    since: Boot,
    told: Option<(State, Option<Cause>)>,
    /// Changes that were news, and what is left of them.
    level: Duration,
    level_at: Boot,
    /// Since when its observer looks.
    looks: Boot,
    flapping: bool,
    calmed: Boot,
    alarmed: bool,
}

impl Oracle {
    pub fn new(rules: Rules, alarm_after: Option<Duration>, now: Boot) -> Oracle {
        let (state, level) = ((State::Unknown, Some(Cause::Restored)), Duration::ZERO);
        let (since, level_at, looks, calmed) = (now, now, now, now);
        Oracle { rules, alarm_after, state, since, told: None, level, level_at, looks, flapping: false, calmed, alarmed: false }
    }

    pub fn restart(&mut self, now: Boot, maintained: bool) {
        let (flapping, alarmed) = (self.flapping, self.alarmed);
        *self = Oracle { flapping, alarmed, ..Oracle::new(self.rules, self.alarm_after, now) };
        if maintained {
            self.state = (State::Unknown, Some(Cause::Maintenance));
            self.told = Some(self.state);
        }
    }

    /// Nobody looked before.
    pub fn looks_from(&mut self, from: Boot) {
        self.looks = self.looks.max(from);
    }

    pub fn see(&mut self, effects: &[Effect]) {
        let mut begins = false;
        for effect in effects {
            let raises = matches!(effect, Effect::Alarm(Alarm { kind: AlarmKind::Flapping, raised: true, .. }));
            assert_eq!(raises, std::mem::take(&mut begins), "{effect:?}");
            match effect {
                Effect::Device { status, announce } => begins = self.moved(status, *announce),
                Effect::Announce(status) => self.told = Some((status.state, status.cause)),
                Effect::Line { state: LineState::Down, .. } | Effect::Ping { .. } => {}
                Effect::Line { at, .. } => self.looks = *at,
                Effect::Maintained { .. } => {}
                Effect::Alarm(alarm) => self.alarm(alarm),
            }
        }
        assert!(!begins);
    }

    /// Whether an alarm must follow.
    fn moved(&mut self, status: &DeviceStatus, announce: bool) -> bool {
        let resumes = self.state.1 == Some(Cause::Maintenance);
        (self.state, self.since) = ((status.state, status.cause), status.since);
        let news = self.told != Some(self.state);
        match status.cause {
            Some(Cause::Maintenance) => assert!(announce),
            _ if resumes => {
                assert!(announce);
                (self.level, self.level_at) = (Duration::ZERO, status.since);
                if !matches!(status.cause, Some(Cause::LineDown | Cause::BrokerDown)) {
                    self.looks = status.since;
                }
            }
            Some(Cause::LineDown | Cause::BrokerDown) => {
                assert!(!announce);
                return false;
            }
            _ if self.flapping || !news => {
                assert!(!announce, "{status:?}");
                return false;
            }
            _ => {
                self.level = self.level.saturating_sub(status.since - self.level_at) + self.rules.flap_window / self.rules.flaps;
                self.level_at = status.since;
                assert_eq!(announce, self.level <= self.rules.flap_window, "{status:?}");
            }
        }
        if announce {
            self.told = Some(self.state);
        }
        !announce
    }

    fn calm_at(&self) -> Boot {
        self.since.max(self.looks) + self.rules.stable_for
    }

    fn alarm(&mut self, alarm: &Alarm) {
        let maintained = !alarm.raised && alarm.reason == "in maintenance";
        match (alarm.kind, alarm.raised) {
            (AlarmKind::Flapping, true) => {
                assert!(!self.flapping && alarm.at == self.since, "{alarm:?}");
                self.flapping = true;
            }
            (AlarmKind::Flapping, false) => {
                assert!(self.flapping && (maintained || alarm.at == self.calm_at()), "{alarm:?}, not {:?}", self.calm_at());
                (self.flapping, self.calmed) = (false, alarm.at);
                (self.level, self.level_at) = (Duration::ZERO, alarm.at);
            }
            (AlarmKind::Offline, true) => {
                let due = (self.since + self.alarm_after.unwrap()).max(self.calmed);
                assert!(!self.alarmed && !self.flapping && self.state.0 == State::Offline && alarm.at == due, "{alarm:?}, not {due:?}");
                self.alarmed = true;
            }
            (AlarmKind::Offline, false) => {
                let due = self.since + self.rules.stable_for;
                assert!(self.alarmed && (maintained || (self.state.0 == State::Online && alarm.at >= due)), "{alarm:?}, not {due:?}");
                self.alarmed = false;
            }
            (AlarmKind::Rule | AlarmKind::Paused, _) => panic!("no rule here: {alarm:?}"),
        }
    }

    /// Nothing that was due is left.
    pub fn now(&self, now: Boot, down: bool, registry: &Registry) {
        let raised: Vec<AlarmKind> = registry.alarms().map(|(_, kind)| kind).collect();
        let both = [(self.flapping, AlarmKind::Flapping), (self.alarmed, AlarmKind::Offline)];
        assert_eq!(raised, both.into_iter().filter(|(is, _)| *is).map(|(_, kind)| kind).collect::<Vec<_>>());
        assert!(!self.flapping || down || now < self.calm_at(), "flaps at {now:?}, to be calm at {:?}", self.calm_at());
        if let (State::Offline, Some(after), false, false) = (self.state.0, self.alarm_after, self.flapping, self.alarmed) {
            assert!(now < self.since + after, "offline since {:?}", self.since);
        }
        assert!(!(self.alarmed && self.state.0 == State::Online) || now < self.since + self.rules.stable_for);
    }
}
