//! Devices that refuse registers: what is learned on the wire, and what it costs the neighbours.

use super::*;

/// Points at these addresses, next to each other.
fn dense(unit: u8, addresses: std::ops::Range<u16>, poll: Duration) -> Device {
    Device { points: addresses.map(|a| testing::point(crate::config::Table::Holding, a)).collect(), ..device(unit, 0, poll) }
}

fn lacks(sim: &mut Sim, unit: u8, missing: &[u16]) {
    sim.bus.slaves.get_mut(&unit).expect("added").missing = missing.iter().copied().collect();
}

#[test]
fn a_map_with_holes_is_read_but_for_them_and_each_is_said_once() {
    for transport in [rtu(9600), mbap(), rtu_over_tcp()] {
        let mut sim = Sim::new(transport, &[dense(7, 0..60, MS * 1000)], 1);
        lacks(&mut sim, 7, &[5, 6, 40]);
        sim.run_for(MS * 30_000);
        assert_eq!(sim.wrong, [""; 0]);
        let said: Vec<&str> = sim.nulls.iter().map(|(point, _)| point.as_str()).collect();
        assert_eq!(said, ["r5", "r6", "r40"]);
        assert!(sim.nulls.iter().all(|(_, quality)| *quality == Quality::Unsupported));
        let facts: Vec<&str> = sim.facts.iter().map(|(f, _)| f.key.as_str()).filter(|k| k.starts_with("hole")).collect();
        assert_eq!(facts, ["hole holding:5+1", "hole holding:6+1", "hole holding:40+1"]);
        let (requests, refused) = (sim.bus.requests, sim.core.counters().refused);
        sim.run_for(MS * 10_000);
        assert_eq!((sim.bus.requests - requests, sim.core.counters().refused), (30, refused), "three requests a poll, none refused");
    }
}

#[test]
fn what_was_learned_outlives_the_process() {
    let mut first = Sim::new(rtu(9600), &[dense(7, 0..60, MS * 1000)], 1);
    lacks(&mut first, 7, &[5]);
    first.run_for(MS * 30_000);
    let facts: Vec<Learned> = first.facts.iter().map(|(f, _)| f.clone()).collect();
    let mut second = Sim::on(&testing::line(rtu(9600)), &[dense(7, 0..60, MS * 1000)], &facts, 1);
    lacks(&mut second, 7, &[5]);
    second.run_for(MS * 30_000);
    assert_eq!((second.core.counters().refused, second.nulls.len(), second.facts.len()), (0, 1, 0));
    // Told to forget, it finds out again.
    let id = second.core_device(7);
    second.core.forget(second.now, &id);
    second.run_for(MS * 30_000);
    assert!(second.core.counters().refused > 0 && second.facts.iter().any(|(_, forget)| *forget), "{:?}", second.facts);
    assert_eq!(second.facts.last().map(|(f, forget)| (f.key.as_str(), *forget)), Some(("hole holding:5+1", false)));
}

#[test]
fn a_neighbour_keeps_its_rate_while_a_map_is_learned() {
    for poll in [MS * 200, Duration::ZERO] {
        let missing: Vec<u16> = (0..100).step_by(7).collect();
        let alone = {
            let mut sim = Sim::new(rtu(19_200), &[dense(7, 0..100, MS * 1000), device(8, 1, poll)], 1);
            sim.run_for(MS * 20_000);
            let before = sim.readings[&sim.core_device(8)];
            sim.run_for(MS * 10_000);
            sim.readings[&sim.core_device(8)] - before
        };
        let mut sim = Sim::new(rtu(19_200), &[dense(7, 0..100, MS * 1000), device(8, 1, poll)], 1);
        sim.run_for(MS * 20_000);
        let (neighbour, before) = (sim.core_device(8), sim.readings[&sim.core_device(8)]);
        lacks(&mut sim, 7, &missing);
        sim.run_for(MS * 10_000);
        let during = sim.readings[&neighbour] - before;
        // With a period it loses nothing; without one it shares what is left, request by request.
        let least = if poll.is_zero() { alone / 2 } else { alone * 95 / 100 };
        assert!(during >= least, "poll {poll:?}: {during} readings in 10 s while learning, {alone} otherwise");
        assert_eq!(sim.wrong, [""; 0]);
    }
}

#[test]
fn a_unit_that_refuses_while_it_boots_keeps_all_its_points() {
    let mut sim = Sim::new(rtu(9600), &[dense(7, 0..60, MS * 1000)], 1);
    sim.fault(7, Fault::Refuses(2));
    sim.run_for(MS * 60_000);
    assert_eq!((sim.facts.len(), sim.nulls.len()), (0, 0));
    sim.fault(7, Fault::None);
    sim.run_for(MS * 20_000);
    let (requests, total) = (sim.bus.requests, sim.total());
    sim.run_for(MS * 10_000);
    assert_eq!((sim.bus.requests - requests, sim.total() - total), (10, 10), "one request with all points");
}

#[test]
fn a_value_is_scaled_by_a_factor_that_no_read_reaches_with_it() {
    let mut scaled = dense(7, 10..11, MS * 1000);
    scaled.max_words = 20;
    std::sync::Arc::make_mut(&mut scaled.points)[0].scale_register =
        Some(crate::config::Register { table: crate::config::Table::Holding, address: 90 });
    let mut sim = Sim::new(rtu(9600), &[scaled], 1);
    sim.run_for(MS * 9_500);
    assert_eq!((sim.bus.requests, sim.total()), (20, 10), "the factor, then the value");
}
