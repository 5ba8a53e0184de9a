//! What serial servers and gateways do to a connection: both framings on one port, one client at a time, split replies,
//! answers under another number, units that want a pause.

use super::*;

fn auto_line() -> Line {
    Line { auto_framing: true, ..testing::line(mbap()) }
}

/// A line that finds out, on a bus that speaks one of the two.
fn auto(spoken: &Transport, facts: &[Learned]) -> Sim {
    let mut sim = Sim::on(&auto_line(), &[device(7, 2, MS * 1000)], facts, 3);
    sim.bus.wire = Wire::new(spoken);
    sim
}

#[test]
fn the_framing_is_found_out_and_remembered() {
    for (spoken, word) in [(mbap(), "mbap"), (rtu_over_tcp(), "rtu")] {
        let mut sim = auto(&spoken, &[]);
        sim.run_for(MS * 20_000);
        assert!(sim.total() >= 20, "{word}: {} readings", sim.total());
        assert_eq!(sim.wrong, [""; 0]);
        let facts: Vec<Learned> = sim.facts.iter().map(|(f, _)| f.clone()).collect();
        assert_eq!(facts, [Learned { about: "line meters".into(), key: "framing".into(), value: word.into() }]);
        assert_eq!(super::super::event::Step::framing(&sim.core), word);
        let mut again = auto(&spoken, &facts);
        again.run_for(MS * 9_500);
        assert_eq!((again.total(), again.core.counters().silent), (20, 0), "{word}: known from the first request");
    }
}

#[test]
fn a_framing_that_was_found_is_not_doubted_because_a_unit_is_dead_for_a_while() {
    let mut sim = auto(&rtu_over_tcp(), &[]);
    sim.run_for(MS * 20_000);
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 600_000);
    sim.fault(7, Fault::None);
    sim.run_for(MS * 300_000);
    let readings = sim.rate(MS * 10_000);
    assert!(readings >= 18, "{readings}");
    assert_eq!(sim.facts.len(), 1, "{:?}", sim.facts);
}

#[test]
fn a_serial_server_that_was_set_to_the_other_framing_is_found_again() {
    let mut sim = auto(&rtu_over_tcp(), &[]);
    sim.run_for(MS * 20_000);
    sim.bus.wire = Wire::new(&mbap());
    sim.run_for(MS * 900_000);
    let readings = sim.rate(MS * 10_000);
    assert!(readings >= 18, "{readings}");
    assert_eq!(sim.facts.last().map(|(f, _)| f.value.as_str()), Some("mbap"));
}

#[test]
fn a_connection_that_nobody_needs_is_closed_and_opened_for_the_next_poll() {
    let line = Line { idle_close: Some(MS * 500), ..testing::line(mbap()) };
    let mut sim = Sim::on(&line, &[device(7, 2, MS * 10_000)], &[], 3);
    sim.run_for(MS * 95_000);
    assert_eq!((sim.total(), sim.closed, sim.opened), (20, 10, 10));
    assert_eq!((sim.lines.len(), sim.heard.len()), (1, 0), "nobody hears of it");
    let mut busy = Sim::on(&line, &[device(7, 2, MS * 300)], &[], 3);
    busy.run_for(MS * 30_000);
    assert_eq!(busy.closed, 0, "it is needed");
}

#[test]
fn a_connection_for_each_poll_is_open_for_the_poll_only() {
    let line = Line { connect_per_poll: true, connect_delay: MS * 200, ..testing::line(mbap()) };
    let mut sim = Sim::on(&line, &[device(7, 3, MS * 2_000)], &[], 3);
    sim.run_for(MS * 19_500);
    assert_eq!((sim.total(), sim.closed, sim.opened), (30, 10, 10));
    assert_eq!((sim.lines.len(), sim.heard.len()), (1, 0));
}

#[test]
fn a_device_that_loses_its_first_request_is_asked_after_the_connect_delay() {
    let line = Line { connect_delay: MS * 1_000, ..testing::line(mbap()) };
    let mut sim = Sim::on(&line, &[device(7, 2, MS * 500)], &[], 3);
    sim.run_for(MS * 990);
    assert_eq!((sim.opened, sim.bus.requests), (1, 0), "connected, and nothing was sent");
    sim.run_for(MS * 10_000);
    assert!(sim.total() >= 36, "{} readings", sim.total());
    assert_eq!(sim.heard.len(), 0);
}

#[test]
fn what_an_adapter_says_when_it_is_opened_is_no_reply() {
    for transport in [rtu(9600), rtu_over_tcp(), mbap()] {
        let line = Line { connect_delay: MS * 500, ..testing::line(transport) };
        let mut sim = Sim::on(&line, &[device(7, 2, MS * 1_000)], &[], 3);
        sim.run_for(MS * 5);
        // Behind the rubbish, a whole reply of the shape that will be asked for, with another value.
        let mut reply = vec![7, 3, 2, 0x27, 0x0f];
        reply.extend(crate::drivers::modbus::rtu::crc16(&reply).to_le_bytes());
        sim.bus.babble(sim.now + MS * 50, &[&[0x00, 0xff, 0x13], &reply[..]].concat());
        sim.run_for(MS * 10_000);
        assert_eq!((sim.wrong.len(), sim.heard.len()), (0, 0), "{:?} {:?}", sim.wrong, sim.heard);
        assert!(sim.total() >= 18, "{} readings", sim.total());
    }
}

#[test]
fn a_peer_that_accepts_and_closes_is_down_once() {
    let mut sim = Sim::new(mbap(), &[device(7, 2, MS * 1000)], 3);
    sim.run_for(MS * 5_000);
    sim.script.push((sim.now, Scripted::Lost("the peer closed the connection")));
    sim.door = Door::Slammed;
    sim.run_for(MS * 120_000);
    let states: Vec<LineState> = sim.lines.iter().map(|(_, state, _)| *state).collect();
    assert_eq!(states, [LineState::Up, LineState::Down], "{:?}", sim.lines);
    sim.door = Door::Open;
    sim.run_for(MS * 20_000);
    assert_eq!(sim.lines.len(), 3);
    assert_eq!(sim.lines[2].1, LineState::Up);
}

#[test]
fn a_connection_that_holds_is_up_although_its_unit_is_dead() {
    let mut sim = Sim::new(mbap(), &[device(7, 2, MS * 1000)], 3);
    sim.door = Door::Refused;
    sim.run_for(MS * 5_000);
    sim.fault(7, Fault::Silent);
    sim.door = Door::Open;
    sim.run_for(MS * 20_000);
    let states: Vec<LineState> = sim.lines.iter().map(|(_, state, _)| *state).collect();
    assert_eq!(states, [LineState::Down, LineState::Up], "{:?}", sim.lines);
    assert!(!sim.heard.is_empty(), "the silence is the unit's");
}

#[test]
fn a_reply_that_a_serial_server_splits_by_265_ms_is_whole() {
    for split in [20, 100, 265] {
        let mut sim = Sim::new(rtu_over_tcp(), &[device(7, 2, MS * 1000)], 3);
        sim.fault(7, Fault::Split(MS * split));
        sim.run_for(MS * 9_900);
        assert_eq!((sim.total(), sim.heard.len(), sim.wrong.len()), (20, 0, 0), "{split} ms");
    }
    // Longer is given up, and what comes then is nobody's value.
    let mut sim = Sim::new(rtu_over_tcp(), &[device(7, 2, MS * 1000)], 3);
    sim.fault(7, Fault::Split(MS * 700));
    sim.run_for(MS * 20_000);
    assert!(sim.wrong.is_empty() && sim.heard.iter().any(|(_, _, heard)| matches!(heard, Heard::Garbled(_))), "{:?}", sim.heard);
}

#[test]
fn bytes_within_a_reply_spoil_it_and_not_the_next() {
    for transport in [rtu(19_200), rtu_over_tcp()] {
        let mut sim = Sim::new(transport, &[device(7, 2, MS * 1000)], 3);
        sim.fault(7, Fault::NoiseInside);
        sim.run_for(MS * 120_000);
        assert_eq!(sim.wrong, [""; 0]);
        assert!(sim.total() > 120, "{}", sim.total());
        assert!(sim.heard.iter().any(|(_, _, heard)| matches!(heard, Heard::Garbled(_))));
    }
}

#[test]
fn an_echo_in_one_piece_with_the_reply_is_cut_off() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 3, MS * 100)], 5);
    (sim.bus.echoes, sim.bus.glued) = (true, true);
    let good = sim.rate(MS * 10_000);
    assert!(good >= 290 && sim.wrong.is_empty(), "{good}");
}

#[test]
fn a_device_that_answers_under_another_number_is_read_only_where_that_is_allowed() {
    for transport in [rtu(19_200), mbap(), rtu_over_tcp()] {
        let strict = device(7, 2, MS * 1000);
        let mut sim = Sim::new(transport.clone(), std::slice::from_ref(&strict), 3);
        sim.fault(7, Fault::Renamed);
        sim.run_for(MS * 10_000);
        assert_eq!(sim.total(), 0, "{transport:?}");
        let mut sim = Sim::new(transport.clone(), &[Device { accept_any_unit: true, ..strict }], 3);
        sim.fault(7, Fault::Renamed);
        sim.run_for(MS * 9_500);
        assert_eq!((sim.total(), sim.wrong.len()), (20, 0), "{transport:?}");
    }
}

#[test]
fn a_device_that_answers_under_another_number_is_read_on_an_adapter_that_hears_itself() {
    for (transport, glued) in [(rtu(19_200), false), (rtu(19_200), true), (rtu_over_tcp(), false)] {
        let lenient = Device { accept_any_unit: true, ..device(7, 2, MS * 1000) };
        let mut sim = Sim::new(transport.clone(), &[lenient], 3);
        (sim.bus.echoes, sim.bus.glued) = (true, glued);
        sim.fault(7, Fault::Renamed);
        sim.run_for(MS * 9_500);
        assert_eq!((sim.total(), sim.wrong.len()), (20, 0), "{transport:?} {glued}");
        let order = super::orders::write(&sim, 7, &[("r0", 5)], MS * 3_000);
        sim.script.push((sim.now, Scripted::Order(order)));
        sim.run_for(MS * 3_000);
        let phase = sim.done.first().map(|d| d.outcome.phase);
        assert_eq!(phase, Some(crate::model::Phase::Confirmed), "{transport:?} {glued}: {:?}", sim.done);
    }
}

#[test]
fn a_unit_that_wants_a_pause_gets_one_and_its_neighbour_does_not() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 5, Duration::ZERO)], 3);
    sim.fault(7, Fault::NeedsGap(MS * 25));
    sim.run_for(MS * 60_000);
    let missed = sim.core.counters().silent;
    let readings = sim.rate(MS * 60_000);
    let more = sim.core.counters().silent - missed;
    assert!(more * 20 <= readings, "{more} misses beside {readings} readings in the second minute, {missed} in the first");
    assert!(sim.gap_of(0) >= MS * 16, "{:?}", sim.gap_of(0));
    sim.fault(7, Fault::None);
    sim.run_for(MS * 1_200_000);
    assert_eq!(sim.gap_of(0), Duration::ZERO, "taken back after a long good run");
}

#[test]
fn a_unit_behind_a_gateway_that_misses_often_gets_a_gap() {
    let mut sim = Sim::new(mbap(), &[device(7, 5, Duration::ZERO), device(8, 1, MS * 1000)], 3);
    sim.fault(7, Fault::NeedsGapBehindGateway(MS * 25));
    sim.run_for(MS * 60_000);
    let missed = sim.core.counters().silent;
    let readings = sim.rate(MS * 60_000);
    let more = sim.core.counters().silent - missed;
    assert!(more * 20 <= readings, "{more} misses beside {readings} readings in the second minute, {missed} in the first");
    assert!(sim.gap_of(0) >= MS * 16 && sim.gap_of(1).is_zero(), "{:?}", sim.gap_of(0));
}

#[test]
fn a_unit_that_is_dead_behind_a_gateway_gets_no_gap() {
    for code in [0x0a, 0x0b] {
        let mut sim = Sim::new(mbap(), &[device(7, 5, Duration::ZERO)], 3);
        sim.run_for(MS * 5_000);
        sim.fault(7, Fault::Refuses(code));
        sim.run_for(MS * 120_000);
        assert_eq!(sim.gap_of(0), Duration::ZERO, "{code:#x}");
    }
}

#[test]
fn the_figures_of_a_device_say_which_timeout_it_wants() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 2, MS * 1000), device(8, 1, MS * 1000)], 3);
    sim.fault(7, Fault::After(MS * 450));
    sim.run_for(MS * 30_000);
    let (late, good) = (sim.answers(0), sim.answers(1));
    assert!(late.late >= 1 && late.requests > late.answers, "{late:?}");
    let wanted = late.timeout_wanted.expect("one was late");
    assert!((MS * 440..MS * 480).contains(&wanted), "{wanted:?}");
    assert!(late.worst_late >= MS * 140 && late.timeout > MS * 450, "{late:?}");
    assert!(late.mean().is_some_and(|m| m > MS * 440 && m < MS * 470), "{:?}", late.mean());
    assert_eq!((good.late, good.timeout_wanted, good.silent), (0, None, 0));
    assert!(good.p95().is_some_and(|p| p < MS * 10), "{:?}", good.p95());
}

#[test]
fn a_gateway_without_a_path_is_named_and_the_note_is_taken_back() {
    let mut sim = Sim::new(mbap(), &[device(7, 1, MS * 1000), device(8, 1, MS * 1000)], 7);
    sim.fault(7, Fault::Refuses(0x0a));
    sim.run_for(MS * 10_000);
    assert!(sim.answers(0).no_path && !sim.answers(1).no_path);
    assert_eq!(sim.opened, 1, "the connection is good");
    sim.fault(7, Fault::Refuses(0x0b));
    sim.run_for(MS * 60_000);
    assert!(!sim.answers(0).no_path, "that says something else");
}

#[test]
fn an_overloaded_line_says_what_it_can_do() {
    let devices: Vec<Device> = (1..=10).map(|unit| device(unit, 4, MS * 100)).collect();
    let mut sim = Sim::new(rtu(9600), &devices, 3);
    sim.run_for(MS * 70_000);
    let share = sim.core.usage().share(sim.now);
    for n in 0..10 {
        let cycle = sim.answers(n).cycle(share).expect("polled");
        // Ten polls of four requests of about 24 ms.
        assert!((MS * 850..MS * 1150).contains(&cycle), "{n}: {cycle:?}");
    }
    assert!(sim.core.counters().missed > 1000);
}
