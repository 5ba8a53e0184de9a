//! Tables for what is refused, and random histories: one end each, in order, none late.

mod model;

use super::*;
use crate::model::{Each, Value, WallMs};
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
            Effect::Part { id, outcome, .. } => format!("part {} {id}: {}", outcome.phase.word(), outcome.reason),
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

fn id(text: &str) -> CommandId {
    CommandId::parse(text).unwrap()
}

/// Gathers and admits a coil write to each device; `used`: those whose part's id is not new.
fn fan(c: &mut Commands, now: u64, whole: &str, to: &[&str], used: &[&str], good_for: u64, out: &mut Vec<Effect>) {
    let action = Action::Write(BTreeMap::from([(point("coil"), Value::Bool(true))]));
    let each = Each { devices: to.iter().map(|d| device(d)).collect(), action };
    let mut command = write(whole, "x", "coil", Value::Null, now);
    (command.device, command.action, command.expires_in) =
        (DeviceId::gateway(), Action::Each(Box::new(each)), Duration::from_millis(good_for));
    let parts = command.parts();
    let named: Vec<_> = parts.iter().map(|p| (p.id.clone(), p.device.clone(), !used.contains(&p.device.as_str()))).collect();
    c.gather(&command.id, &named, out);
    for (part, (.., is_new)) in parts.into_iter().zip(named) {
        if is_new {
            c.admit(at(now), part, true, CLOCK, out);
        }
    }
}

#[test]
fn several_devices_end_each_by_itself_and_together_once() {
    let (mut c, mut out) = (commands(), vec![]);
    fan(&mut c, 0, "w", &["a", "b", "m"], &["m"], 60_000, &mut out);
    assert_eq!(words(&out), ["sent w@a", "sent w@b"]);
    out.clear();
    c.done(at(5), &id("w@a"), outcome(Phase::Confirmed, String::new()), &mut out);
    assert_eq!(words(&out), ["part confirmed w@a: "]);
    out.clear();
    c.done(at(6), &id("w@b"), outcome(Phase::Confirmed, String::new()), &mut out);
    assert_eq!(words(&out), ["part confirmed w@b: ", "failed w: 2 confirmed, 1 rejected"]);
    let Some(Effect::Done { device, outcome, .. }) = out.last() else { panic!("{out:?}") };
    assert!(device.is_gateway());
    assert!(outcome.results[&self::device("m")].reason.contains("w@m was used before"));
    out.clear();
    fan(&mut c, 0, "v", &["a", "b"], &["a", "b"], 60_000, &mut out);
    assert_eq!(words(&out), ["rejected v: 2 rejected"]);
    assert_eq!((c.open(), c.next_due()), (0, None));
}

#[test]
fn what_waits_is_cancelled_and_what_was_sent_is_not() {
    let (mut c, mut out) = (commands(), vec![]);
    let no = |_: &DeviceId, _: &CommandId| false;
    for n in ["1", "2"] {
        c.admit(at(0), write(n, "a", "coil", Value::Bool(true), 0), true, CLOCK, &mut out);
    }
    fan(&mut c, 0, "w", &["a", "b"], &[], 60_000, &mut out);
    out.clear();
    assert_eq!(c.cancel(at(1), &id("1"), "anna", no, &mut out), Err(NotCancelled::Sent));
    assert_eq!(c.cancel(at(1), &id("2"), "anna", no, &mut out), Ok(Cancelled { ended: 1, sent: 0 }));
    assert_eq!(c.cancel(at(1), &id("2"), "anna", no, &mut out), Err(NotCancelled::NotOpen));
    assert_eq!(c.cancel(at(1), &id("w"), "anna", no, &mut out), Ok(Cancelled { ended: 1, sent: 1 }));
    let by = "cancelled by anna; nothing was sent";
    assert_eq!(words(&out), [format!("rejected 2: {by}"), format!("part rejected w@a: {by}")]);
    out.clear();
    c.done(at(5), &id("w@b"), outcome(Phase::Confirmed, String::new()), &mut out);
    assert_eq!(words(&out)[1], "failed w: 1 confirmed, 1 rejected");
    out.clear();
    assert_eq!(c.cancel(at(6), &id("1"), "anna", |_, _| true, &mut out), Ok(Cancelled { ended: 1, sent: 0 }), "not fetched");
    assert_eq!(c.open(), 0);
}

#[derive(Debug, Clone)]
enum Op {
    Admit { id: u8, device: u8, coil: bool, good_for: u16 },
    Fan { id: u8, devices: u8, used: u8, good_for: u16 },
    Cancel { id: u8, recalls: bool },
    Done { nth: u8 },
    Bounce,
    Wait(u16),
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (any::<u8>(), 0u8..3, any::<bool>(), 1u16..20_000).prop_map(|(id, device, coil, good_for)| Op::Admit { id, device, coil, good_for }),
        3 => (any::<u8>(), 1u8..8, 0u8..8, 1u16..20_000).prop_map(|(id, devices, used, good_for)| Op::Fan { id, devices, used, good_for }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(id, recalls)| Op::Cancel { id, recalls }),
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
    /// Of a whole: its parts.
    parts: Vec<String>,
    is_part: bool,
}

const NAMES: [&str; 3] = ["a", "b", "m"];

proptest! {
    /// Each id ends exactly once, none is dispatched twice or after its deadline, one at a time per device, in order. A whole
    /// ends when its last part has, and as they did.
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
                Op::Admit { id, .. } | Op::Fan { id, .. } if seen.contains_key(&id.to_string()) => continue,
                Op::Admit { id, device, coil, good_for } => {
                    let (id, device) = (id.to_string(), NAMES[usize::from(device)].to_owned());
                    let (what, value) = if coil { ("coil", Value::Bool(true)) } else { ("set", Value::Uint(30)) };
                    let mut command = write(&id, &device, what, value, now);
                    command.expires_in = Duration::from_millis(u64::from(good_for));
                    seen.insert(id.clone(), Seen { device, deadline: now + u64::from(good_for), ..Seen::default() });
                    order.push(id);
                    c.admit(at(now), command, true, CLOCK, &mut out);
                }
                Op::Fan { id, devices, used, good_for } => {
                    let of = |bits: u8| (0..3).filter(move |n| bits >> n & 1 == 1).map(|n| NAMES[n]).collect::<Vec<_>>();
                    let (whole, to, used) = (id.to_string(), of(devices), of(used & devices));
                    let deadline = now + u64::from(good_for);
                    let parts: Vec<String> = to.iter().filter(|d| !used.contains(d)).map(|d| format!("{whole}@{d}")).collect();
                    for part in &parts {
                        let device = part.split('@').next_back().unwrap().to_owned();
                        seen.insert(part.clone(), Seen { device, deadline, is_part: true, ..Seen::default() });
                        order.push(part.clone());
                    }
                    seen.insert(whole.clone(), Seen { device: "-".into(), deadline, parts, ..Seen::default() });
                    fan(&mut c, now, &whole, &to, &used, u64::from(good_for), &mut out);
                }
                Op::Cancel { id, recalls } => {
                    let whole = CommandId::parse(&id.to_string()).unwrap();
                    let is_open = seen.get(whole.as_str()).is_some_and(|s| s.ends.is_empty());
                    let done = c.cancel(at(now), &whole, "anna", |_, _| recalls, &mut out);
                    match done {
                        Err(NotCancelled::NotOpen) => prop_assert!(!is_open, "{whole} is open"),
                        Err(NotCancelled::Sent) => prop_assert!(is_open && !recalls && out.is_empty()),
                        Ok(done) => prop_assert!(is_open && done.ended > 0 && (done.sent == 0 || !recalls)),
                    }
                }
                Op::Done { nth } => {
                    let Some(id) = ports.values().nth(usize::from(nth) % ports.len().max(1)).cloned() else { continue };
                    let phase = if nth % 3 == 0 { Phase::Failed } else { Phase::Confirmed };
                    c.done(at(now), &CommandId::parse(&id).unwrap(), outcome(phase, String::new()), &mut out);
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
                    Effect::Part { id, device, outcome } => {
                        let s = seen.get_mut(&id.to_string()).unwrap();
                        prop_assert!(s.is_part, "{id} is no part");
                        prop_assert_eq!(&s.device, device.as_str());
                        s.ends.push(outcome.phase);
                        if ports.get(&s.device) == Some(&id.to_string()) {
                            ports.remove(&s.device);
                        }
                    }
                    Effect::Done { id, device, outcome } => {
                        let parts = seen[&id.to_string()].parts.clone();
                        for part in &parts {
                            let told = outcome.results.get(&self::device(&seen[part].device)).map(|o| o.phase);
                            prop_assert_eq!(seen[part].ends.last().copied(), told, "{} before {}", id, part);
                        }
                        let s = seen.get_mut(&id.to_string()).unwrap();
                        prop_assert!(!s.is_part, "{id} is told by itself");
                        prop_assert_eq!(&s.device, device.as_str());
                        prop_assert!(outcome.phase != Phase::Confirmed || outcome.results.values().all(|o| o.phase == Phase::Confirmed));
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
