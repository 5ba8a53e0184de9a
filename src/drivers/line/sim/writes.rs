//! Writes of several steps: groups, bits, pre-writes, setups and broadcasts, with faults at each step.

use super::{orders::write, *};
use crate::{
    config::{Bits, DataType, FixedWrite, Point, Register, Table, WriteRule},
    limits,
    model::{Action, Phase, PointId},
};

fn point(address: u16, rule: WriteRule) -> Point {
    Point { write: Some(Box::new(rule)), ..testing::point(Table::Holding, address) }
}

fn fixed(address: u16, words: &[u16]) -> FixedWrite {
    let function = if words.len() == 1 { 6 } else { 16 };
    FixedWrite { register: Register { table: Table::Holding, address }, words: words.to_vec(), function, secret: false }
}

fn unit(points: Vec<Point>) -> Device {
    Device { points: points.into(), ..device(7, 0, MS * 500) }
}

fn grouped(address: u16) -> Point {
    point(address, WriteRule { group: Some("window".into()), ..WriteRule::default() })
}

/// Gives the order and runs to its end. Returns how it ended and the write requests that the unit saw.
fn run(device: Device, fault: Fault, order: impl Fn(&Sim) -> Order) -> (Sim, Phase, String, Vec<Vec<u8>>) {
    let mut sim = Sim::new(rtu(19_200), &[device], 31);
    sim.run_for(MS * 2_000);
    sim.bus.slaves.get_mut(&7).expect("added").seen.clear();
    sim.fault(7, fault);
    let order = order(&sim);
    sim.script.push((sim.now, Scripted::Order(order)));
    sim.run_for(MS * 20_000);
    assert_eq!(sim.done.len(), 1, "{:?}", sim.done);
    let outcome = sim.done[0].outcome.clone();
    let seen = sim.bus.slaves[&7].seen.clone();
    (sim, outcome.phase, outcome.reason, seen)
}

#[track_caller]
fn check(device: Device, values: &[(&str, u64)], phase: Phase, reason: &str, want: &[&[u8]]) -> Sim {
    let (sim, got, why, seen) = run(device, Fault::None, |s| write(s, 7, values, MS * 5_000));
    assert_eq!((got, seen), (phase, want.iter().map(|p| p.to_vec()).collect()), "{why}");
    assert!(why.starts_with(reason), "{why}");
    sim
}

#[test]
fn a_group_goes_out_in_one_request_and_keeps_what_is_not_named() {
    let group = || unit(vec![grouped(100), grouped(101), grouped(102)]);
    let middle = value(7, 101).to_be_bytes();
    check(group(), &[("r100", 1), ("r102", 3)], Phase::Confirmed, "", &[&[16, 0, 100, 0, 3, 6, 0, 1, middle[0], middle[1], 0, 3]]);
    check(group(), &[("r100", 1), ("r101", 2), ("r102", 3)], Phase::Confirmed, "", &[&[16, 0, 100, 0, 3, 6, 0, 1, 0, 2, 0, 3]]);
}

#[test]
fn bits_of_a_register_keep_the_others() {
    let bits = |function| {
        let kind = DataType::Bits(Bits { first: 4, count: 4 });
        unit(vec![Point { kind, ..point(100, WriteRule { function, ..WriteRule::default() }) }])
    };
    // 7 * 2048 + 100 is 0x3864.
    check(bits(None), &[("r100", 9)], Phase::Confirmed, "", &[&[6, 0, 100, 0x38, 0x94]]);
    check(bits(Some(22)), &[("r100", 9)], Phase::Confirmed, "", &[&[22, 0, 100, 0xff, 0x0f, 0, 0x90]]);
}

#[test]
fn what_is_there_already_is_not_written_where_memory_wears_out() {
    let careful = || unit(vec![point(100, WriteRule { if_changed: true, ..WriteRule::default() })]);
    let sim = check(careful(), &[("r100", u64::from(value(7, 100)))], Phase::Confirmed, "", &[]);
    assert_eq!(sim.done[0].outcome.values.len(), 1, "what was read is told");
    check(careful(), &[("r100", 5)], Phase::Confirmed, "", &[&[6, 0, 100, 0, 5]]);
}

#[test]
fn a_write_goes_to_its_own_register_and_is_read_back_at_another() {
    let holding = |address| Some(Register { table: Table::Holding, address });
    let rule = WriteRule { register: holding(300), verify_register: holding(300), ..WriteRule::default() };
    check(unit(vec![point(100, rule.clone())]), &[("r100", 5)], Phase::Confirmed, "", &[&[6, 1, 44, 0, 5]]);
    let elsewhere = WriteRule { verify_register: None, ..rule };
    check(unit(vec![point(100, elsewhere)]), &[("r100", 5)], Phase::Failed, "r100: it reads back as 14436", &[&[6, 1, 44, 0, 5]]);
}

#[test]
fn pre_writes_come_first_and_without_them_nothing_is_written() {
    let unlocked = || unit(vec![point(100, WriteRule { pre: vec![fixed(1, &[2014]), fixed(2, &[1, 2])], ..WriteRule::default() })]);
    let pre: [&[u8]; 3] = [&[6, 0, 1, 0x07, 0xde], &[16, 0, 2, 0, 2, 4, 0, 1, 0, 2], &[6, 0, 100, 0, 5]];
    check(unlocked(), &[("r100", 5)], Phase::Confirmed, "", &pre);
    for fault in [Fault::RefusesWrites(2), Fault::RefusesWrites(5), Fault::MuteOnWrites, Fault::CorruptCrc] {
        let (_, phase, why, seen) = run(unlocked(), fault, |s| write(s, 7, &[("r100", 5)], MS * 5_000));
        assert_eq!((phase, seen), (Phase::Failed, vec![pre[0].to_vec()]), "{fault:?}: {why}");
        assert!(why.starts_with("r100: not written: the write to holding:1 before it: "), "{why}");
    }
}

#[test]
fn a_setup_is_written_before_the_polls_of_each_connection() {
    let device = Device { setup: vec![fixed(1, &[7]), fixed(2, &[1, 2])], ..device(7, 1, MS * 500) };
    let mut sim = Sim::new(mbap(), std::slice::from_ref(&device), 32);
    sim.run_for(MS * 2_000);
    let both: Vec<Vec<u8>> = vec![vec![6, 0, 1, 0, 7], vec![16, 0, 2, 0, 2, 4, 0, 1, 0, 2]];
    assert_eq!(sim.bus.slaves[&7].seen, both);
    assert_eq!(sim.bus.slaves[&7].reads_before, 0, "before the polls");
    sim.script.push((sim.now, Scripted::Lost("the peer closed the connection")));
    sim.run_for(MS * 3_000);
    assert_eq!(sim.bus.slaves[&7].seen.len(), 4, "once for each connection");
    // Silent for good, and back: its setup may be lost with its power.
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 10_000);
    let before = sim.bus.slaves[&7].seen.len();
    sim.fault(7, Fault::None);
    sim.run_for(limits::PROBE_MAX * 2);
    assert_eq!(sim.bus.slaves[&7].seen[before..], both);
    assert_eq!(sim.wrong, [""; 0]);
}

#[test]
fn a_setup_that_is_refused_is_tried_again_and_holds_polls_only_if_it_is_required() {
    for required in [false, true] {
        let device = Device { setup: vec![fixed(1, &[7])], setup_required: required, ..device(7, 1, MS * 500) };
        let mut sim = Sim::new(mbap(), &[device], 33);
        sim.fault(7, Fault::RefusesWrites(4));
        sim.run_for(MS * 20_000);
        let tries = sim.bus.slaves[&7].seen.len();
        assert!((4..=6).contains(&tries), "after 1, 2, 4, 8 s: {tries}");
        assert_eq!(sim.total() == 0, required);
        assert!(sim.heard.iter().any(|(_, _, heard)| *heard == Heard::Refused(4)), "it is alive");
        sim.fault(7, Fault::None);
        sim.run_for(MS * 20_000);
        assert!(sim.total() > 0);
        assert_eq!(sim.bus.slaves[&7].seen.len(), tries + 1);
    }
}

#[test]
fn a_broadcast_reaches_all_units_awaits_no_reply_and_is_never_confirmed() {
    let all =
        Device { broadcast: true, points: [Point { read: false, ..testing::point(Table::Holding, 100) }].into(), ..device(0, 0, MS * 500) };
    let mut sim = Sim::new(rtu(19_200), &[device(7, 1, MS * 100), device(8, 1, MS * 100), all], 34);
    sim.run_for(MS * 2_000);
    let order = write(&sim, 0, &[("r100", 5)], MS * 5_000);
    sim.script.push((sim.now, Scripted::Order(order)));
    let (asked, at) = (sim.bus.requests, sim.now);
    while sim.done.is_empty() {
        sim.run_for(MS);
    }
    assert_eq!(sim.done[0].outcome.phase, Phase::Unknown);
    assert_eq!(sim.done[0].outcome.reason, "sent to all units at once, which do not answer");
    sim.run_until(at + MS * 90);
    assert!(sim.bus.requests <= asked + 2, "the line is silent while the units work");
    sim.run_for(MS * 5_000);
    for unit in [7, 8] {
        assert_eq!(sim.bus.slaves[&unit].registers.get(&100), Some(&5), "unit {unit}");
    }
    assert!(sim.heard.is_empty() && sim.wrong.is_empty() && sim.bus.rude == 0, "{:?}", sim.heard);
}

#[test]
fn no_write_of_a_command_is_on_the_wire_twice_whatever_fails() {
    let menu = [
        Fault::None,
        Fault::After(MS * 330),
        Fault::After(MS * 900),
        Fault::WrongFunction,
        Fault::Truncated,
        Fault::CorruptCrc,
        Fault::Silent,
        Fault::Noise,
        Fault::MuteOnWrites,
        Fault::RefusesWrites(2),
        Fault::RefusesWrites(5),
        Fault::RefusesWrites(0x0b),
        Fault::Forgetful,
    ];
    let pre = || vec![fixed(1, &[2014]), fixed(2, &[1, 2])];
    let devices = || {
        let bits = DataType::Bits(Bits { first: 4, count: 4 });
        let mut points = vec![grouped(100), grouped(101), grouped(102)];
        points.push(Point { kind: bits, ..point(110, WriteRule::default()) });
        points.push(point(120, WriteRule { pre: pre(), if_changed: true, ..WriteRule::default() }));
        unit(points)
    };
    for seed in 0..60 {
        let transport = if seed % 2 == 0 { rtu(19_200) } else { mbap() };
        let mut sim = Sim::new(transport.clone(), &[devices()], seed);
        sim.run_for(MS * 2_000);
        // Values and order ids that occur once, so that every write request of a command is its own.
        for n in 1..=8u64 {
            let point = ["r100", "r102", "r110", "r120"][usize::try_from(sim.bus.rng.below(4)).expect("small")];
            let value = if point == "r110" { n } else { 1000 + n };
            let order = write(&sim, 7, &[(point, value)], MS * 3_000);
            sim.bus.slaves.get_mut(&7).expect("added").seen.clear();
            sim.script.push((sim.now, Scripted::Order(order)));
            let end = sim.now + MS * 16_000;
            while sim.now < end {
                let fault = menu[usize::try_from(sim.bus.rng.below(menu.len() as u64)).expect("small")];
                sim.fault(7, fault);
                if sim.bus.rng.below(8) == 0 && transport != rtu(19_200) {
                    sim.script.push((sim.now, Scripted::Lost("the peer reset the connection")));
                }
                let pause = sim.bus.rng.micros(MS * 400);
                sim.run_for(pause);
            }
            assert_eq!(sim.done.len(), usize::try_from(n).expect("small"), "seed {seed}: one end each");
            let mut seen = sim.bus.slaves[&7].seen.clone();
            let all = seen.len();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), all, "seed {seed} command {n} {point}: {:02x?}", sim.bus.slaves[&7].seen);
            assert!(matches!(&sim.done.last().expect("one").outcome.phase, phase if phase.is_terminal()));
        }
        // The simulation knows whole registers only, and r110 is some bits of one.
        sim.wrong.retain(|w| !w.contains(".r110 "));
        assert_eq!(sim.wrong, [""; 0], "seed {seed}");
    }
}

#[test]
fn a_group_or_a_written_only_point_cannot_be_read_by_mistake() {
    let hidden = Point { read: false, ..point(100, WriteRule { verify: false, ..WriteRule::default() }) };
    let device = unit(vec![hidden, testing::point(Table::Holding, 110)]);
    let read = |s: &Sim| Order { action: Action::Read(vec![PointId::parse("r100").expect("valid")]), ..write(s, 7, &[], MS * 3_000) };
    let (sim, phase, why, _) = run(device, Fault::None, read);
    assert_eq!((phase, why.as_str()), (Phase::Rejected, "r100 is written only and cannot be read"));
    assert!(sim.total() > 10 && sim.wrong.is_empty(), "the other point is polled alone");
}
