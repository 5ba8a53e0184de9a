//! Connections and ports that come and go.

use super::*;

fn sim(transport: Transport, poll: Duration) -> Sim {
    Sim::new(transport, &[device(7, 2, poll)], 11)
}

#[test]
fn a_connection_closed_while_idle_is_opened_when_needed_and_nobody_hears_of_it() {
    let mut sim = sim(mbap(), MS * 1000);
    sim.run_for(MS * 3_500);
    let opened = sim.opened;
    sim.script.push((sim.now, Scripted::Lost("the peer closed the connection")));
    sim.run_for(MS * 300);
    assert_eq!(sim.opened, opened, "not before something is to be asked");
    let readings = sim.rate(MS * 5_000);
    assert_eq!((sim.opened, sim.lines.len(), sim.heard.len()), (opened + 1, 1, 0));
    assert!((9..=11).contains(&readings), "{readings}");
}

#[test]
fn a_connection_lost_in_a_read_is_opened_again_and_the_read_repeated_once() {
    let mut sim = sim(mbap(), MS * 1000);
    sim.run_for(MS * 3_500);
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 600);
    let (requests, opened) = (sim.bus.requests, sim.opened);
    sim.fault(7, Fault::None);
    sim.script.push((sim.now, Scripted::Lost("the peer reset the connection")));
    sim.run_for(MS * 300);
    assert_eq!((sim.opened, sim.bus.requests, sim.heard.len()), (opened + 1, requests + 2, 0), "both requests of the poll");
    assert_eq!(sim.lines.len(), 1, "{:?}", sim.lines);
}

#[test]
fn an_rtu_over_tcp_read_lost_with_its_connection_is_repeated_at_once() {
    let mut sim = sim(rtu_over_tcp(), MS * 1000);
    sim.run_for(MS * 3_500);
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 510);
    let (requests, opened, readings) = (sim.bus.requests, sim.opened, sim.total());
    sim.fault(7, Fault::None);
    sim.script.push((sim.now, Scripted::Lost("the peer closed the connection")));
    sim.run_for(MS * 50);
    assert_eq!((sim.opened, sim.bus.requests, sim.total()), (opened + 1, requests + 1, readings + 1), "within 50 ms");
    sim.run_for(MS * 5_000);
    let counters = sim.core.counters();
    assert_eq!((sim.heard.len(), sim.lines.len(), counters.silent, counters.garbled), (0, 1, 0, 0), "nobody hears of it");
    assert_eq!(sim.wrong, [""; 0]);
}

#[test]
fn a_serial_server_that_answers_a_lost_request_on_the_next_connection_gives_no_wrong_value() {
    for late in [1, 3, 8, 20, 60, 200] {
        let mut sim = sim(rtu_over_tcp(), MS * 1000);
        sim.run_for(MS * 3_500);
        sim.fault(7, Fault::After(MS * late));
        for _ in 0..20 {
            sim.run_for(MS * 500);
            sim.script.push((sim.now + MS * (late / 2), Scripted::Lost("the peer reset the connection")));
            sim.run_for(MS * 1_500);
        }
        assert_eq!(sim.wrong, [""; 0], "{late} ms");
        assert!(sim.total() >= 60, "{late} ms: {}", sim.total());
    }
}

#[test]
fn a_peer_that_closes_on_every_request_is_down() {
    let mut sim = sim(mbap(), MS * 1000);
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 20);
    for _ in 0..2 {
        sim.script.push((sim.now + MS * 2, Scripted::Lost("the peer closed the connection")));
        sim.run_for(MS * 20);
    }
    let states: Vec<LineState> = sim.lines.iter().map(|(_, state, _)| *state).collect();
    assert_eq!(states, [LineState::Up, LineState::Down], "{:?}", sim.lines);
    assert_eq!(sim.lines[1].2, "the peer closed the connection");
    assert_eq!(sim.heard.len(), 0, "the line is to blame, not the device");
}

#[test]
fn a_refused_connection_is_one_event_and_is_tried_with_backoff() {
    check_refused(mbap(), 9..=14);
    check_refused(rtu(9600), 58..=61);
}

#[track_caller]
fn check_refused(transport: Transport, tries: std::ops::RangeInclusive<u32>) {
    let mut sim = sim(transport, MS * 1000);
    sim.door = Door::Refused;
    sim.run_for(MS * 60_000);
    assert!(tries.contains(&sim.opened), "{} tries in a minute", sim.opened);
    assert_eq!(sim.lines.len(), 1);
    assert_eq!((sim.lines[0].1, sim.lines[0].2.as_str()), (LineState::Down, "connection refused"));
    sim.door = Door::Open;
    let readings = sim.rate(MS * 20_000);
    assert_eq!((sim.lines.len(), sim.heard.len()), (2, 0));
    assert!(readings >= 18, "{readings}");
}

#[test]
fn a_pulled_serial_adapter_is_down_at_once_and_its_devices_are_not_blamed() {
    let mut sim = sim(rtu(9600), MS * 1000);
    sim.run_for(MS * 3_500);
    sim.door = Door::Refused;
    sim.script.push((sim.now, Scripted::Lost("the adapter was unplugged")));
    sim.run_for(MS * 10);
    assert_eq!(sim.lines.last().map(|(_, state, reason)| (*state, reason.as_str())), Some((LineState::Down, "the adapter was unplugged")));
    sim.run_for(MS * 10_000);
    sim.door = Door::Open;
    sim.run_for(MS * 3_000);
    assert_eq!(sim.lines.last().map(|(_, state, _)| *state), Some(LineState::Up));
    assert_eq!((sim.heard.len(), sim.core.counters().missed), (0, 0));
}

#[test]
fn a_silent_peer_gets_a_new_connection() {
    let mut sim = sim(mbap(), MS * 1000);
    sim.run_for(MS * 3_500);
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 10_000);
    assert!((2..=4).contains(&sim.opened), "{}", sim.opened);
    assert_eq!(sim.lines.len(), 1, "replaced, not lost");
}

#[test]
fn orders_and_polls_of_a_line_that_is_down_wait_for_their_deadline_only() {
    let mut sim = sim(mbap(), MS * 1000);
    sim.door = Door::Refused;
    sim.run_for(MS * 1_000);
    let order = super::orders::write(&sim, 7, &[("r0", 5)], MS * 3_000);
    sim.script.push((sim.now, Scripted::Order(order)));
    sim.run_for(MS * 2_900);
    assert_eq!(sim.done, []);
    sim.run_for(MS * 200);
    assert_eq!(sim.done.len(), 1);
    assert_eq!(sim.done[0].outcome.reason, "the deadline passed before it was sent: the line is down");
}

#[test]
fn a_server_that_accepts_and_closes_is_down_and_not_stormed() {
    let mut sim = sim(mbap(), Duration::ZERO);
    sim.door = Door::Slammed;
    sim.run_for(MS * 60_000);
    assert!((8..=30).contains(&sim.opened), "{} connections in a minute", sim.opened);
    assert_eq!(
        sim.lines.last().map(|(_, state, reason)| (*state, reason.as_str())),
        Some((LineState::Down, "the peer closed the connection"))
    );
    sim.door = Door::Open;
    let readings = sim.rate(MS * 20_000);
    assert!(readings > 500, "{readings}");
}
