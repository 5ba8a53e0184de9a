//! Tables for what is refused, and random histories: one end each, in order, none late.

mod model;

use super::*;
use crate::model::{Value, WallMs};
use proptest::prelude::*;
use std::sync::Arc;

const WALL: i64 = 1_700_000_000_000;
const CLOCK: ClockReading = ClockReading::synchronised(WALL);
const GUESS: ClockReading = ClockReading::estimated(WALL);

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn point(name: &str) -> PointId {
    PointId::parse(name).unwrap()
}

fn at(ms: u64) -> Boot {
    Boot::from_ms(ms)
}

fn rules() -> Takes {
    let write = |kind, min, max| Some(Box::new(WriteRule { kind, min, max, verify: true, min_interval: Duration::from_secs(5) }));
    Takes::Points(Arc::new(BTreeMap::from([
        (point("set"), PointRule { write: write(Kind::Number, 20.0, 80.0) }),
        (point("coil"), PointRule { write: write(Kind::Switch, 0.0, 1.0) }),
        (point("temp"), PointRule { write: None }),
    ])))
}

fn commands() -> Commands {
    Commands::new(["a", "b"].map(|d| (device(d), rules())).into(), Takes::Anything)
}

fn write(id: &str, to: &str, what: &str, value: Value, received: u64) -> Command {
    Command {
        id: CommandId::parse(id).unwrap(),
        device: device(to),
        action: Action::Write(BTreeMap::from([(point(what), value)])),
        from: "uplink cloud".into(),
        received: at(received),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    }
}

/// `sent c1`, `rejected c1: reason`.
fn words(out: &[Effect]) -> Vec<String> {
    out.iter()
        .map(|e| match e {
            Effect::Dispatch(order) => format!("sent {}", order.id),
            Effect::Done { id, outcome, .. } => format!("{} {id}: {}", outcome.phase.word(), outcome.reason),
        })
        .collect()
}

/// What becomes of one command, admitted at `now`.
#[track_caller]
fn check(now: u64, command: Command, clock: ClockReading, want: &str) {
    let mut out = vec![];
    commands().admit(at(now), command.clone(), true, clock, &mut out);
    let got = words(&out);
    assert!(got.len() == 1 && got[0].starts_with(want), "{command:?}: got {got:?}, want {want}");
}

#[test]
fn a_write_outside_its_limits_is_refused_in_words() {
    let c = |what, value| write("c", "a", what, value, 0);
    check(1, c("set", Value::Float(64.5)), CLOCK, "sent c");
    check(1, c("set", Value::Uint(80)), CLOCK, "sent c");
    check(1, c("set", Value::Float(80.5)), CLOCK, "rejected c: 80.5 is above the most for set, 80");
    check(1, c("set", Value::Int(-1)), CLOCK, "rejected c: -1 is below the least for set, 20");
    check(1, c("set", Value::Bool(true)), CLOCK, "rejected c: set takes a number");
    check(1, c("set", Value::Null), CLOCK, "rejected c: set takes a number");
    check(1, c("set", Value::Text("30".into())), CLOCK, "rejected c: set takes a number");
    check(1, c("coil", Value::Bool(true)), CLOCK, "sent c");
    check(1, c("coil", Value::Uint(1)), CLOCK, "sent c");
    check(1, c("coil", Value::Uint(2)), CLOCK, "rejected c: coil takes true or false");
    check(1, c("temp", Value::Uint(1)), CLOCK, "rejected c: temp may not be written");
    check(1, c("none", Value::Uint(1)), CLOCK, "rejected c: there is no point none");
    let read =
        |what: &[&str]| Command { action: Action::Read(what.iter().map(|p| point(p)).collect()), ..write("c", "a", "x", Value::Null, 0) };
    check(1, read(&[]), CLOCK, "sent c");
    check(1, read(&["temp"]), CLOCK, "sent c");
    check(1, read(&["none"]), CLOCK, "rejected c: there is no point none");
    check(1, Command { action: Action::Write(BTreeMap::new()), ..c("set", Value::Null) }, CLOCK, "rejected c: it names no point");
}

#[test]
fn a_command_is_good_from_issue_or_receipt_whichever_is_earlier() {
    let c = |issued: Option<i64>, received| Command {
        issued_at: issued.map(|ms| WallMs(WALL + ms)),
        ..write("c", "a", "set", Value::Uint(30), received)
    };
    check(59_999, c(None, 0), CLOCK, "sent");
    check(60_000, c(None, 0), CLOCK, "expired c: its time was over when it arrived");
    check(100_000, c(Some(30_000), 100_000), CLOCK, "expired");
    check(100_000, c(Some(41_000), 100_000), CLOCK, "sent");
    check(100_000, c(Some(900_000), 100_000), CLOCK, "sent");
    check(10_000, c(Some(-55_000), 10_000), CLOCK, "expired");
    check(1_000, c(Some(-55_000), 1_000), CLOCK, "sent");
    // A clock that nobody has set says nothing about issue.
    check(100_000, c(Some(30_000), 100_000), GUESS, "sent");
}

#[test]
fn stored_mail_of_unknown_age_is_stale() {
    let c = |issued: Option<i64>| Command {
        issued_at: issued.map(|ms| WallMs(WALL + ms)),
        from_stored_session: true,
        ..write("c", "a", "set", Value::Uint(30), 100_000)
    };
    check(100_000, c(None), CLOCK, "rejected c: stale");
    check(100_000, c(Some(90_000)), CLOCK, "sent");
    check(100_000, c(Some(30_000)), CLOCK, "expired");
    check(100_000, c(Some(90_000)), GUESS, "sent");
    check(100_000, c(Some(30_000)), GUESS, "expired");
    check(100_000, c(Some(200_000)), GUESS, "rejected c: stale");
}

#[test]
fn one_at_a_time_per_device_and_devices_beside_each_other() {
    let (mut commands, mut out) = (commands(), vec![]);
    for (id, to, what, value) in
        [("1", "a", "set", Value::Uint(30)), ("2", "a", "coil", Value::Bool(true)), ("3", "b", "coil", Value::Bool(true))]
    {
        commands.admit(at(0), write(id, to, what, value, 0), true, CLOCK, &mut out);
    }
    assert_eq!(words(&out), ["sent 1", "sent 3"]);
    out.clear();
    commands.done(at(5), &CommandId::parse("1").unwrap(), outcome(Phase::Confirmed, String::new()), &mut out);
    commands.done(at(6), &CommandId::parse("1").unwrap(), outcome(Phase::Failed, String::new()), &mut out);
    assert_eq!(words(&out), ["confirmed 1: ", "sent 2"], "the first end stands");
}

#[test]
fn a_write_that_comes_too_soon_is_rejected() {
    let (mut commands, mut out) = (commands(), vec![]);
    for (n, t) in [(1, 0), (2, 4_000), (3, 5_000)] {
        commands.admit(at(t), write(&n.to_string(), "a", "set", Value::Uint(30), t), true, CLOCK, &mut out);
        commands.done(at(t + 10), &CommandId::parse(&n.to_string()).unwrap(), outcome(Phase::Confirmed, String::new()), &mut out);
    }
    let want = ["sent 1", "confirmed 1: ", "rejected 2: too soon: set may be written every 5 s, in 1.0 s again", "sent 3", "confirmed 3: "];
    assert_eq!(words(&out), want);
}

#[test]
fn what_waits_expires_and_a_port_that_never_answers_is_given_up() {
    let (mut commands, mut out) = (commands(), vec![]);
    commands.admit(at(0), write("1", "a", "set", Value::Uint(30), 0), true, CLOCK, &mut out);
    commands.admit(at(0), write("2", "a", "coil", Value::Bool(true), 0), true, CLOCK, &mut out);
    commands.expire(at(60_001), &mut out);
    assert_eq!(words(&out), ["sent 1", "expired 2: its time was over before its turn came"]);
    commands.expire(at(90_001), &mut out);
    assert_eq!(words(&out).last().unwrap(), "unknown 1: it was handed to the line, which never said what came of it");
    assert_eq!((commands.open(), commands.next_due()), (0, None));
}

#[test]
fn refusals_that_need_no_rule() {
    let (mut c, mut out) = (commands(), vec![]);
    c.admit(at(0), write("1", "nobody", "x", Value::Null, 0), false, CLOCK, &mut out);
    c.admit(at(0), write("2", "a", "set", Value::Uint(30), 0), true, CLOCK, &mut out);
    c.bounced(at(0), &CommandId::parse("2").unwrap(), "busy", &mut out);
    c.stop(at(0), &mut out);
    c.admit(at(0), write("3", "a", "set", Value::Uint(30), 0), true, CLOCK, &mut out);
    let got = words(&out);
    assert!(got[0].starts_with("rejected 1: there is no device nobody here"), "{got:?}");
    assert!(got[2].starts_with("rejected 2: busy"), "{got:?}");
    assert!(got[3].starts_with("rejected 3: the gateway is stopping"), "{got:?}");
}

#[test]
fn the_number_of_open_commands_is_bounded() {
    let (mut c, mut out) = (commands(), vec![]);
    for n in 0..=limits::COMMANDS_OPEN {
        c.admit(at(0), write(&n.to_string(), "m", "x", Value::Uint(1), 0), true, CLOCK, &mut out);
    }
    assert_eq!(out.len(), 2, "one dispatched, the last one refused");
    assert!(words(&out)[1].contains("busy: 1000 commands are open"), "{:?}", words(&out));
}

#[test]
fn after_a_restart_nothing_is_executed_again() {
    let command = write("1", "a", "set", Value::Uint(30), 1_000);
    let check = |now, same_boot, phase, want| assert_eq!(after_restart(at(now), same_boot, &command, phase).phase, want);
    check(2_000, true, Phase::Sent, Phase::Unknown);
    check(2_000, true, Phase::Accepted, Phase::Rejected);
    check(70_000, true, Phase::Accepted, Phase::Expired);
    check(70_000, false, Phase::Accepted, Phase::Rejected);
}

#[derive(Debug, Clone)]
enum Op {
    Admit { id: u8, device: u8, coil: bool, good_for: u16 },
    Done { nth: u8 },
    Bounce,
    Wait(u16),
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (any::<u8>(), 0u8..3, any::<bool>(), 1u16..20_000).prop_map(|(id, device, coil, good_for)| Op::Admit { id, device, coil, good_for }),
        4 => any::<u8>().prop_map(|nth| Op::Done { nth }),
        1 => Just(Op::Bounce),
        4 => (0u16..8_000).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ];
    proptest::collection::vec(op, 1..120)
}

/// What the outside saw: per id its device, deadline, whether it was dispatched, and its ends.
#[derive(Debug, Default)]
struct Seen {
    device: String,
    deadline: u64,
    sent: bool,
    ends: Vec<Phase>,
}

proptest! {
    /// Each id ends exactly once, none is dispatched twice or after its deadline, one at a time per device, in order.
    #[test]
    fn every_command_ends_once_and_in_time(ops in ops()) {
        let (mut c, mut now) = (commands(), 1_000u64);
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        let mut order: Vec<String> = vec![];
        let mut ports: BTreeMap<String, String> = BTreeMap::new();
        let mut last_sent: BTreeMap<String, usize> = BTreeMap::new();
        let end = ops.len();
        // At last everything is left alone until all deadlines are over.
        for (n, op) in ops.into_iter().chain([Op::Wait(60_000)]).enumerate() {
            let mut out = vec![];
            match op {
                // The store lets only new ids through.
                Op::Admit { id, .. } if seen.contains_key(&id.to_string()) => continue,
                Op::Admit { id, device, coil, good_for } => {
                    let (id, device) = (id.to_string(), ["a", "b", "m"][usize::from(device)].to_owned());
                    let (what, value) = if coil { ("coil", Value::Bool(true)) } else { ("set", Value::Uint(30)) };
                    let mut command = write(&id, &device, what, value, now);
                    command.expires_in = Duration::from_millis(u64::from(good_for));
                    seen.insert(id.clone(), Seen { device, deadline: now + u64::from(good_for), ..Seen::default() });
                    order.push(id);
                    c.admit(at(now), command, true, CLOCK, &mut out);
                }
                Op::Done { nth } => {
                    let Some(id) = ports.values().nth(usize::from(nth) % ports.len().max(1)).cloned() else { continue };
                    c.done(at(now), &CommandId::parse(&id).unwrap(), outcome(Phase::Confirmed, String::new()), &mut out);
                }
                Op::Bounce => {
                    let Some(id) = ports.values().next().cloned() else { continue };
                    c.bounced(at(now), &CommandId::parse(&id).unwrap(), "busy", &mut out);
                }
                Op::Wait(ms) => {
                    now += u64::from(ms);
                    c.expire(at(now), &mut out);
                }
                Op::Restart => {
                    c = commands();
                    ports.clear();
                    for s in seen.values_mut().filter(|s| s.ends.is_empty()) {
                        s.ends.push(Phase::Unknown);
                    }
                }
            }
            for effect in out {
                match effect {
                    Effect::Dispatch(o) => {
                        let place = order.iter().position(|i| *i == o.id.to_string()).unwrap();
                        let s = seen.get_mut(&o.id.to_string()).unwrap();
                        prop_assert!(!s.sent && s.ends.is_empty(), "dispatched again: {}", o.id);
                        prop_assert!(now < s.deadline && o.deadline == at(s.deadline), "late: {}", o.id);
                        prop_assert!(ports.insert(s.device.clone(), o.id.to_string()).is_none(), "two at a time: {}", s.device);
                        prop_assert!(last_sent.insert(s.device.clone(), place).is_none_or(|l| l < place), "out of order: {}", o.id);
                        s.sent = true;
                    }
                    Effect::Done { id, device, outcome } => {
                        let s = seen.get_mut(&id.to_string()).unwrap();
                        prop_assert_eq!(&s.device, device.as_str());
                        s.ends.push(outcome.phase);
                        if ports.get(&s.device) == Some(&id.to_string()) {
                            ports.remove(&s.device);
                        }
                    }
                }
            }
            prop_assert_eq!(c.at_ports(), ports.len());
            if n == end {
                for (id, s) in &seen {
                    prop_assert!(s.ends.len() == 1 && s.ends[0].is_terminal(), "{id}: {s:?}");
                }
                prop_assert_eq!(c.open(), 0);
            }
        }
    }
}
