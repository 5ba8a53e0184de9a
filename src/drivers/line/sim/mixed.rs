//! Everything at once, over many seeds: polls, orders of every kind, site tools, setups, holes, faults and reconnects.

use super::{orders::write, *};
use crate::{
    config::{Bits, DataType, FixedWrite, Parity, Point, Register, Table, WriteRule},
    model::{Action, CommandId, Phase, Settings, SiteOutcome},
};
use std::collections::BTreeSet;

const HOLDING: Table = Table::Holding;

fn point(address: u16, rule: WriteRule) -> Point {
    Point { write: Some(Box::new(rule)), ..testing::point(HOLDING, address) }
}

fn fixed(address: u16, secret: bool) -> FixedWrite {
    FixedWrite { register: Register { table: HOLDING, address }, words: vec![2014], function: 6, secret }
}

/// Unit 7 takes every kind of write, unit 8 has holes, unit 9 is polled flat out, unit 10 is sound and must be read throughout.
fn devices(is_serial: bool) -> Vec<Device> {
    let group = || WriteRule { group: Some("window".into()), ..WriteRule::default() };
    let bits = DataType::Bits(Bits { first: 4, count: 4 });
    let mut points: Vec<Point> = [100, 101, 102].into_iter().map(|a| point(a, group())).collect();
    points.push(Point { kind: bits, read: false, ..point(110, WriteRule::default()) });
    points.push(point(120, WriteRule { pre: vec![fixed(200, true)], if_changed: true, ..WriteRule::default() }));
    points.push(point(130, WriteRule::default()));
    let writes = Device { points: points.into(), setup: vec![fixed(201, true), fixed(202, false)], ..device(7, 0, MS * 300) };
    let holes = Device { max_gap: 4, points: (0..12).map(|n| testing::point(HOLDING, n * 3)).collect(), ..device(8, 0, MS * 700) };
    let mut all = vec![writes, holes, device(9, 2, Duration::ZERO), device(10, 2, MS * 200)];
    if is_serial {
        let everyone = vec![Point { read: false, ..testing::point(HOLDING, 140) }];
        all.push(Device { broadcast: true, points: everyone.into(), ..device(0, 0, MS * 500) });
    }
    all
}

const MENU: [Fault; 16] = [
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::After(Duration::from_millis(330)),
    Fault::After(Duration::from_millis(700)),
    Fault::WrongUnit,
    Fault::WrongFunction,
    Fault::ShortCount,
    Fault::Truncated,
    Fault::CorruptCrc,
    Fault::Silent,
    Fault::Noise,
    Fault::NoiseInside,
    Fault::MuteOnWrites,
    Fault::RefusesWrites(5),
    Fault::Refuses(6),
];

fn pick<T: Clone>(sim: &mut Sim, of: &[T]) -> T {
    of[usize::try_from(sim.bus.rng.below(of.len() as u64)).expect("small")].clone()
}

fn settings(baud: u32, parity: Parity) -> Settings {
    Settings { baud, parity, bits: 8, stop: 1 }
}

/// Its values and ids occur once, so that every write request of a command is its own.
fn order(sim: &mut Sim, n: u64, is_serial: bool) -> Order {
    let within = MS * u32::try_from(200 + sim.bus.rng.below(3000)).expect("small");
    let order = match sim.bus.rng.below(if is_serial { 8 } else { 7 }) {
        0 => write(sim, 7, &[("r100", 1000 + n)], within),
        1 => write(sim, 7, &[("r102", 1000 + n), ("r130", 1000 + n)], within),
        2 => write(sim, 7, &[("r110", n % 16)], within),
        3 => write(sim, 7, &[("r120", 1000 + n)], within),
        4 => write(sim, 7, &[("r130", 1000 + n)], within),
        5 => Order { action: Action::Read(Vec::new()), verify: Vec::new(), ..write(sim, 8, &[], within) },
        6 => Order { action: Action::Read(Vec::new()), verify: Vec::new(), ..write(sim, 7, &[], within) },
        _ => write(sim, 0, &[("r140", 1000 + n)], within),
    };
    Order { id: CommandId::parse(&format!("n{n}")).expect("valid"), ..order }
}

fn site(sim: &mut Sim, n: u16, own: Option<Settings>) -> SiteAsk {
    let [high, low] = (20_000 + n).to_be_bytes();
    let pdus: [Vec<u8>; 4] = [vec![3, 0, 10, 0, 1], vec![6, 0, 150, high, low], vec![17], vec![3, 0, 0, 0, 3]];
    let (unit, pdu) = (pick(sim, &[7, 8, 9, 10, 12, 13]), pick(sim, &pdus));
    let other = own.map(|_| settings(38_400, Parity::Even));
    let settings = pick(sim, &[None, None, own, other]);
    let timeout = pick(sim, &[None, Some(MS * 100), Some(MS * 400)]);
    SiteAsk { unit, pdu, timeout, settings }
}

fn run(seed: u64) {
    let transport = [rtu(19_200), mbap(), rtu(115_200), rtu_over_tcp()][usize::try_from(seed % 4).expect("small")].clone();
    let is_serial = matches!(transport, Transport::Serial(_));
    let is_numbered = matches!(transport, Transport::Tcp { .. });
    let mut sim = Sim::new(transport, &devices(is_serial), seed);
    let own = sim.bus.wire.settings;
    sim.bus.slaves.remove(&0);
    sim.bus.add(12);
    for slave in sim.bus.slaves.values_mut() {
        slave.settings = own;
    }
    sim.bus.slaves.get_mut(&12).expect("added").settings = own.map(|_| settings(38_400, Parity::Even));
    sim.bus.slaves.get_mut(&8).expect("added").missing = BTreeSet::from([6, 13, 14, 27]);
    sim.bus.echoes = is_serial && seed.is_multiple_of(3);
    sim.bus.glued = sim.bus.echoes && seed.is_multiple_of(2);
    sim.run_for(MS * 3_000);
    let (mut orders, mut jobs, mut read) = (0, 0, 0);
    let mut alive_at = sim.now;
    let end = sim.now + MS * 60_000;
    while sim.now < end {
        match sim.bus.rng.below(12) {
            0..4 => {
                orders += 1;
                let order = order(&mut sim, orders, is_serial);
                sim.script.push((sim.now, Scripted::Order(order)));
            }
            4..7 => {
                jobs += 1;
                let ask = site(&mut sim, jobs, own);
                let job = SiteJob { ask, deadline: sim.now + MS * 4_000, tell: Box::new(|_| {}) };
                sim.script.push((sim.now, Scripted::Site(job)));
            }
            7 if sim.bus.rng.below(3) == 0 => sim.script.push((sim.now, Scripted::Lost("it went away"))),
            _ => {
                let (unit, fault) = (pick(&mut sim, &[7, 8, 9]), pick(&mut sim, &MENU));
                // TCP has its own checksum: what is broken within a reply does not come.
                let fault = if is_numbered && fault == Fault::NoiseInside { Fault::None } else { fault };
                sim.fault(unit, fault);
            }
        }
        let pause = sim.bus.rng.micros(MS * 600);
        sim.run_for(pause);
        let now = sim.readings.get(&sim.core_device(10)).copied().unwrap_or(0);
        if now > read {
            (read, alive_at) = (now, sim.now);
        }
        // Units that may be waited for 2 s each, and ports that are lost, take their time; nothing holds it back for good.
        assert!(sim.now - alive_at < MS * 8_000, "seed {seed}: the sound device is read no more");
    }
    for unit in [7, 8, 9] {
        sim.fault(unit, Fault::None);
    }
    sim.run_for(MS * 90_000);
    sim.wrong.retain(|w| !w.contains(".r110 "));
    assert_eq!(sim.wrong, [""; 0], "seed {seed}");
    assert_eq!(sim.bus.rude, 0, "seed {seed}: requests before 3.5 characters of silence");
    let ends: BTreeSet<String> = sim.done.iter().map(|d| d.id.to_string()).collect();
    assert_eq!((ends.len() as u64, sim.done.len() as u64), (orders, orders), "seed {seed}: one end for each order");
    assert!(sim.done.iter().all(|d| d.outcome.phase.is_terminal()), "seed {seed}");
    assert_eq!(sim.site.len(), usize::from(jobs), "seed {seed}: one end for each job");
    check_writes(&sim, seed);
    for unit in [7, 8, 9, 10] {
        let before = sim.readings[&sim.core_device(unit)];
        sim.run_for(MS * 5_000);
        assert!(sim.readings[&sim.core_device(unit)] > before, "seed {seed}: unit {unit} is read again");
    }
}

/// Setups and unlocking writes apart, and bits that have few values.
fn check_writes(sim: &Sim, seed: u64) {
    for (unit, slave) in &sim.bus.slaves {
        let mut seen: Vec<_> = slave.seen.iter().filter(|pdu| !matches!(pdu[2], 110 | 200..=202)).collect();
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all, "seed {seed}: unit {unit} saw a write twice");
    }
}

#[test]
fn everything_at_once_gives_no_wrong_value_no_second_write_and_one_end_for_each_request() {
    (0..32).for_each(run);
}

#[test]
fn a_site_tools_write_never_falls_between_the_look_and_the_write_of_an_order() {
    let bits = DataType::Bits(Bits { first: 4, count: 4 });
    let register = Device { points: [Point { kind: bits, ..point(110, WriteRule::default()) }].into(), ..device(7, 0, MS * 60_000) };
    for offset in 0..80 {
        let mut sim = Sim::new(rtu(19_200), std::slice::from_ref(&register), 41);
        sim.run_for(MS * 1_000);
        let order = write(&sim, 7, &[("r110", 9)], MS * 5_000);
        sim.script.push((sim.now, Scripted::Order(order)));
        let ask = SiteAsk { unit: 7, pdu: vec![6, 0, 110, 0x0a, 0xbc], timeout: None, settings: None };
        let job = SiteJob { ask, deadline: sim.now + MS * 9_000, tell: Box::new(|_| {}) };
        sim.script.push((sim.now + MS * offset, Scripted::Site(job)));
        sim.run_for(MS * 9_000);
        assert!(matches!(sim.site[0].2.outcome, SiteOutcome::Answer(_)), "{:?}", sim.site[0]);
        assert_eq!(sim.done.iter().map(|d| d.outcome.phase).collect::<Vec<_>>(), [Phase::Confirmed], "{:?}", sim.done);
        let holds = sim.bus.slaves[&7].registers[&110];
        assert!(matches!(holds, 0x0abc | 0x0a9c), "{offset} ms: {holds:04x} lost what the tool wrote");
    }
}

#[test]
fn a_read_on_command_knows_holes_and_lone_scale_factors() {
    let mut scaled = device(7, 3, MS * 500);
    std::sync::Arc::make_mut(&mut scaled.points)[1].scale_register = Some(Register { table: HOLDING, address: 500 });
    let mut sim = Sim::new(rtu(19_200), &[scaled], 42);
    let slave = sim.bus.slaves.get_mut(&7).expect("added");
    slave.missing.insert(20);
    slave.registers.insert(500, 0xffff);
    slave.registers.insert(10, 123);
    sim.run_for(MS * 30_000);
    let read = Order { action: Action::Read(Vec::new()), verify: Vec::new(), ..write(&sim, 7, &[], MS * 3_000) };
    sim.script.push((sim.now, Scripted::Order(read)));
    sim.run_for(MS * 3_000);
    let outcome = &sim.done[0].outcome;
    assert_eq!(outcome.phase, Phase::Confirmed, "{outcome:?}");
    let values: Vec<Value> = outcome.values.values().cloned().collect();
    assert_eq!(values, [Value::Uint(14_336), Value::Float(12.3)]);
}

#[test]
fn a_busy_unit_is_asked_again_in_the_same_poll_and_holds_nobody_up() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 3, MS * 5_000), device(8, 2, Duration::ZERO)], 43);
    sim.run_for(MS * 12_000);
    let (busy, neighbour) = (sim.core_device(7), sim.core_device(8));
    let before = (sim.readings[&busy], sim.readings[&neighbour]);
    sim.fault(7, Fault::Refuses(6));
    let end = sim.now + MS * 6_000;
    while sim.now < end && !sim.heard.iter().any(|(_, _, heard)| *heard == Heard::Refused(6)) {
        sim.run_for(MS);
    }
    sim.run_for(MS * 60);
    sim.fault(7, Fault::None);
    sim.run_for(MS * 1_000);
    assert_eq!(sim.readings[&busy] - before.0, 3, "the whole poll came");
    assert!(sim.readings[&neighbour] > before.1 + 20);
}

#[test]
fn a_setup_is_written_although_nothing_tells_whether_the_line_echoes() {
    for echoes in [false, true] {
        let required = Device { setup: vec![fixed(1, false)], setup_required: true, ..device(7, 1, MS * 500) };
        let mut sim = Sim::new(rtu(19_200), &[required], 44);
        sim.bus.echoes = echoes;
        sim.fault(7, Fault::Silent);
        sim.run_for(MS * 5_000);
        sim.fault(7, Fault::None);
        sim.run_for(MS * 20_000);
        assert_eq!(sim.bus.slaves[&7].seen.len(), 1, "echoes: {echoes}");
        assert!(sim.total() > 5 && sim.wrong.is_empty());
    }
}

#[test]
fn setups_do_not_starve_polls_where_each_connection_ends_soon() {
    let device = Device { setup: (1..=3).map(|a| fixed(a, false)).collect(), ..device(7, 1, MS * 100) };
    let mut sim = Sim::new(mbap(), &[device], 45);
    for _ in 0..2_000 {
        let at = sim.bus.requests + 3;
        let end = sim.now + MS * 5_000;
        while sim.bus.requests < at && sim.now < end {
            sim.turn(end);
        }
        sim.script.push((sim.now, Scripted::Lost("the peer closed the connection")));
    }
    assert!(sim.total() > 100, "{} readings", sim.total());
}

#[test]
fn a_secret_is_not_shown_to_those_who_look_at_frames() {
    let device = Device { setup: vec![fixed(1, true), fixed(2, false)], ..device(7, 1, MS * 500) };
    let mut core = Core::new(&testing::line(rtu(19_200)), vec![device]);
    let mut bus = Bus::new(Wire::new(&rtu(19_200)), 46);
    bus.add(7);
    let (mut now, mut shown, mut hidden) = (Boot::from_ms(1_000), Vec::new(), 0);
    let _ = core.step(now, Event::Time);
    let _ = core.step(now, Event::Opened);
    for _ in 0..200 {
        now = now + MS;
        let bytes = bus.take(now);
        let hears = super::super::event::Step::hears_secret(&core, now);
        if !hears {
            shown.push(bytes.clone());
        }
        let want = if bytes.is_empty() { core.step(now, Event::Time) } else { core.step(now, Event::Bytes(&bytes)) };
        let is_sent = match want {
            Want::Send(frame) => {
                shown.push(frame.to_vec());
                bus.frame(now, frame);
                true
            }
            Want::SendSecret(frame) => {
                hidden += 1;
                bus.frame(now, frame);
                true
            }
            _ => false,
        };
        if is_sent {
            let _ = core.step(now, Event::Sent);
        }
    }
    let secret = [6, 0, 1, 7, 0xde];
    assert_eq!(hidden, 1);
    assert!(!shown.concat().windows(5).any(|w| w == secret), "{shown:02x?}");
    assert_eq!(bus.slaves[&7].seen[0], secret);
}
