//! Tables for each arrow of the diagram, and random histories against a model that has no deadlines and no laziness.

use super::*;
use proptest::prelude::*;

mod alarms;
mod upkeep;

/// Few changes make a device flap here, so that random histories come to it.
const RULES: Rules = Rules { flaps: 4, flap_window: Duration::from_secs(60), stable_for: Duration::from_secs(20) };

const S: u64 = 1_000;

fn at(ms: u64) -> Boot {
    Boot::from_ms(ms)
}

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn line(name: &str) -> LineId {
    LineId::parse(name).unwrap()
}

/// What happens, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Do {
    Heard(u64),
    Missed(u64),
    Expire(u64),
    /// at, online, will, retained, session
    Said(u64, bool, bool, bool, Option<u64>),
    Line(u64, LineState),
    Blind(u64, u64),
    /// at, until
    Maintain(u64, Option<u64>),
    Resume(u64),
}
use Do::{Blind, Expire, Heard, Line, Maintain, Missed, Resume, Said};

/// Polled each second, silent for ten at most, on line `bus`.
fn polled() -> Watch {
    Watch { line: Some(line("bus")), poll: Some(Duration::from_secs(1)), offline_after: Some(Duration::from_secs(10)), ..Watch::default() }
}

/// Speaks by itself, silent for twelve seconds at most.
fn speaking() -> Watch {
    Watch { line: Some(line(LOCAL_BROKER)), poll: None, offline_after: Some(Duration::from_secs(12)), ..Watch::default() }
}

fn run(registry: &mut Registry, step: Do, out: &mut Vec<Effect>) {
    let d = id("d");
    match step {
        Heard(t) => drop(registry.heard(&d, EvidenceKind::Poll, at(t), out)),
        Missed(t) => {
            registry.missed(&d, at(t));
            registry.expire(at(t), usize::MAX, out);
        }
        Expire(t) => registry.expire(at(t), usize::MAX, out),
        Said(t, online, will, retained, session) => {
            registry.said(&d, Saying { online, will, retained, session, at: at(t) }, out);
        }
        Line(t, state) => {
            let name = registry.watch_of(&d).unwrap().line.clone().unwrap();
            registry.line(&name, state, "why", at(t), out);
        }
        Blind(gap, now) => registry.blind(Duration::from_millis(gap), at(now)),
        Maintain(t, until) => drop(registry.maintain(&d, until.map(at), at(t), out)),
        Resume(t) => drop(registry.resume(&d, at(t), out)),
    }
}

/// The steps on a device first watched at 0 must give these effects: `online`, `offline silent`, `(quiet) unknown
/// line_down`, `line down`.
#[track_caller]
fn check(watch: Watch, steps: &[Do], want: &[&str]) {
    let (mut registry, mut out) = (Registry::new(RULES), vec![]);
    registry.watch(at(0), &id("d"), watch, None);
    steps.iter().for_each(|s| run(&mut registry, *s, &mut out));
    let got: Vec<String> = out.iter().map(words).collect();
    assert_eq!(got, want, "{steps:?}");
}

fn words(effect: &Effect) -> String {
    match effect {
        Effect::Device { status, announce } => {
            let quiet = if *announce { "" } else { "(quiet) " };
            let cause = status.cause.map_or(String::new(), |c| format!(" {}", c.word()));
            format!("{quiet}{}{cause}", status.state.word())
        }
        Effect::Line { state, .. } => format!("line {}", state.word()),
        Effect::Announce(status) => {
            format!("still {}{}", status.state.word(), status.cause.map_or(String::new(), |c| format!(" {}", c.word())))
        }
        Effect::Alarm(a) => format!("{} {} at {}", a.kind.word(), if a.raised { "raised" } else { "cleared" }, a.at.ms()),
        Effect::Maintained { at, .. } => format!("maintained until {}", at.ms()),
        Effect::Ping { .. } => "ping".into(),
    }
}

/// What the hot path of messages asks is what the two questions of the others would do.
#[test]
fn a_message_of_a_device_that_is_known_and_allowed_enough_counts_as_a_sign_of_life() {
    let (mut registry, mut out) = (Registry::new(RULES), vec![]);
    let (d, ten, twelve, more) = (id("d"), Some(Duration::from_secs(10)), speaking().offline_after, Some(Duration::from_secs(13)));
    assert_eq!(registry.heard_of_known(&d, ten, at(0), &mut out), None, "nobody knows it");
    registry.watch(at(0), &d, speaking(), None);
    assert_eq!(registry.heard_of_known(&d, more, at(S), &mut out), None, "it is allowed less so far");
    assert_eq!(registry.status(&d).map(|s| (s.state, s.evidence)), Some((State::Unknown, None)));
    assert_eq!(registry.heard_of_known(&d, twelve, at(S), &mut out).map(|(_, back)| back), Some(true));
    assert_eq!(registry.heard_of_known(&d, ten, at(2 * S), &mut out).map(|(_, back)| back), Some(false));
    assert_eq!(registry.heard_of_known(&d, None, at(3 * S), &mut out).map(|(_, back)| back), Some(false));
    assert_eq!(out.iter().map(words).collect::<Vec<_>>(), ["online"]);
    let evidence = registry.status(&d).and_then(|s| s.evidence).map(|e| (e.kind, e.at));
    assert_eq!(evidence, Some((EvidenceKind::Message, at(3 * S))));
    registry.expire(at(16 * S), usize::MAX, &mut out);
    assert_eq!(out.last().map(words).as_deref(), Some("offline silent"), "twelve seconds after the last one");
}

#[test]
fn a_polled_device_is_offline_only_past_its_time_and_two_missed_polls() {
    check(polled(), &[Heard(S), Expire(60 * S)], &["online", "suspect silent"]);
    check(polled(), &[Heard(S), Missed(2 * S), Expire(60 * S)], &["online", "suspect silent"]);
    check(polled(), &[Heard(S), Missed(2 * S), Missed(3 * S), Expire(11 * S)], &["online", "suspect silent"]);
    check(
        polled(),
        &[Heard(S), Missed(2 * S), Missed(3 * S), Expire(6 * S + 1), Expire(12 * S)],
        &["online", "suspect silent", "offline silent"],
    );
    check(polled(), &[Heard(S), Expire(20 * S), Missed(21 * S), Missed(22 * S)], &["online", "suspect silent", "offline silent"]);
}

#[test]
fn one_lost_poll_or_a_half_answering_device_is_no_suspicion() {
    check(polled(), &[Heard(S), Missed(2 * S), Heard(3 * S), Missed(4 * S), Heard(5 * S), Expire(10 * S)], &["online"]);
    check(polled(), &[Heard(S), Missed(S + 1), Missed(S + 2), Missed(S + 3), Heard(2 * S)], &["online"]);
}

#[test]
fn evidence_that_was_overtaken_by_a_miss_does_not_undo_the_miss() {
    check(
        polled(),
        &[Heard(S), Missed(7 * S), Missed(8 * S), Heard(7 * S - 1), Expire(18 * S)],
        &["online", "suspect silent", "online", "offline silent"],
    );
}

#[test]
fn what_speaks_by_itself_is_judged_by_time_alone() {
    check(speaking(), &[Heard(S), Expire(10 * S)], &["online"]);
    check(speaking(), &[Heard(S), Expire(11 * S)], &["online", "suspect silent"]);
    check(speaking(), &[Heard(S), Expire(11 * S), Expire(13 * S)], &["online", "suspect silent"]);
    check(speaking(), &[Heard(S), Expire(11 * S), Expire(13 * S + 1)], &["online", "suspect silent", "offline silent"]);
    check(speaking(), &[Heard(S), Expire(14 * S), Heard(15 * S)], &["online", "offline silent", "online"]);
    check(Watch { offline_after: None, ..speaking() }, &[Heard(S), Expire(9_999 * S)], &["online"]);
}

#[test]
fn the_start_has_a_grace_and_then_silence_counts() {
    check(polled(), &[Missed(S), Missed(2 * S), Expire(10 * S)], &[]);
    check(polled(), &[Missed(S), Missed(2 * S), Expire(10 * S + 1)], &["offline silent"]);
    check(speaking(), &[Expire(12 * S)], &[]);
    check(speaking(), &[Expire(13 * S)], &["offline silent"]);
    let slow = Watch { poll: Some(Duration::from_secs(20)), ..polled() };
    check(slow.clone(), &[Missed(20 * S), Missed(40 * S)], &[]);
    check(slow, &[Missed(20 * S), Missed(40 * S), Missed(41 * S)], &["offline silent"]);
}

#[test]
fn what_is_said_is_believed_at_once_but_not_when_it_is_old() {
    check(speaking(), &[Heard(S), Said(2 * S, false, false, false, None)], &["online", "offline said"]);
    check(speaking(), &[Said(2 * S, true, false, false, None), Said(3 * S, false, true, false, None)], &["online", "offline said"]);
    check(speaking(), &[Heard(3 * S), Said(2 * S, false, false, false, None)], &["online"]);
    check(speaking(), &[Heard(S), Said(3 * S, false, false, false, None), Heard(2 * S)], &["online", "offline said"]);
    check(speaking(), &[Heard(S), Said(3 * S, false, false, false, None), Heard(4 * S)], &["online", "offline said", "online"]);
    check(speaking(), &[Said(S, false, false, false, None), Said(2 * S, false, true, false, None)], &["offline said"]);
}

#[test]
fn a_will_of_an_older_session_is_ignored() {
    check(speaking(), &[Said(S, true, false, false, Some(7)), Said(2 * S, false, true, false, Some(6))], &["online"]);
    check(speaking(), &[Said(S, true, false, false, Some(7)), Said(2 * S, false, true, false, Some(7))], &["online", "offline said"]);
}

#[test]
fn a_retained_online_is_no_evidence_and_a_retained_offline_speaks_only_of_what_was_not_heard() {
    check(speaking(), &[Said(S, true, false, true, None)], &[]);
    check(speaking(), &[Said(S, false, false, true, None)], &["offline said"]);
    check(speaking(), &[Heard(S), Said(2 * S, false, false, true, None)], &["online"]);
}

#[test]
fn a_line_that_goes_down_speaks_for_its_devices() {
    use LineState::{Down, Up};
    let steps = [Line(0, Up), Heard(S), Line(2 * S, Down), Missed(3 * S), Missed(4 * S), Expire(60 * S)];
    check(polled(), &steps, &["line up", "online", "line down", "(quiet) unknown line_down"]);
    let mut steps = steps.to_vec();
    steps.extend([Line(60 * S, Up), Expire(69 * S), Heard(69 * S)]);
    check(polled(), &steps, &["line up", "online", "line down", "(quiet) unknown line_down", "line up", "(quiet) online"]);
    let silent = [Heard(S), Line(2 * S, Down), Line(3 * S, Up), Missed(4 * S), Missed(5 * S), Expire(13 * S + 1)];
    check(polled(), &silent, &["online", "line down", "(quiet) unknown line_down", "line up", "offline silent"]);
    check(speaking(), &[Heard(S), Line(2 * S, Down)], &["online", "line down", "(quiet) unknown broker_down"]);
    check(polled(), &[Line(S, Down), Line(2 * S, Down)], &["line down", "(quiet) unknown line_down"]);
    check(polled(), &[Line(5 * S, Down), Heard(4 * S)], &["line down", "(quiet) unknown line_down"]);
}

#[test]
fn a_thousand_devices_that_die_with_their_line_are_one_event() {
    let (mut registry, mut out) = (Registry::default(), vec![]);
    let devices: Vec<DeviceId> = (0..1000).map(|n| id(&format!("d{n}"))).collect();
    registry.line(&line("bus"), LineState::Up, "", at(0), &mut out);
    for d in &devices {
        registry.watch(at(0), d, polled(), None);
        registry.heard(d, EvidenceKind::Poll, at(S), &mut out);
    }
    out.clear();
    registry.line(&line("bus"), LineState::Down, "unplugged", at(2 * S), &mut out);
    devices.iter().for_each(|d| registry.missed(d, at(3 * S)));
    registry.expire(at(60 * S), usize::MAX, &mut out);
    registry.line(&line("bus"), LineState::Up, "", at(60 * S), &mut out);
    for d in &devices {
        registry.heard(d, EvidenceKind::Poll, at(61 * S), &mut out);
    }
    let told = out.iter().map(words).filter(|w| !w.starts_with("(quiet)")).collect::<Vec<_>>();
    assert_eq!(told, ["line down", "line up"]);
    assert_eq!(out.len(), 2 + 2 * devices.len(), "each has its row");
}

#[test]
fn a_paused_process_makes_a_blind_observer() {
    check(speaking(), &[Heard(S), Blind(30 * S, 32 * S), Expire(32 * S)], &["online"]);
    check(speaking(), &[Heard(S), Blind(30 * S, 32 * S), Expire(43 * S + 1)], &["online", "offline silent"]);
}

proptest! {
    /// Whatever the order of arrival, a device with evidence younger than its time is never called silent.
    #[test]
    fn disorder_never_makes_a_fresh_device_offline(times in proptest::collection::vec((0u64..60_000, 0u8..3), 1..120)) {
        let (mut registry, mut out) = (Registry::default(), vec![]);
        let (d, mut latest) = (id("d"), 0);
        registry.watch(at(0), &d, polled(), None);
        for (t, what) in times {
            out.clear();
            match what {
                0 => { latest = latest.max(t); registry.heard(&d, EvidenceKind::Poll, at(t), &mut out); }
                1 => registry.missed(&d, at(t)),
                _ => registry.expire(at(t), usize::MAX, &mut out),
            }
            for effect in &out {
                let Effect::Device { status, .. } = effect else { continue };
                prop_assert!(status.state != State::Offline || t > latest + 10 * S, "{status:?} at {t}, heard at {latest}");
            }
        }
    }
}
