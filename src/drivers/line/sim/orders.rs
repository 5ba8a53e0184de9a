//! Orders: a write goes on the wire once, within its deadline, and ends in exactly one outcome.

use super::*;
use crate::model::{Action, CommandId, Phase, PointId};

pub fn write(sim: &Sim, unit: u8, values: &[(&str, u64)], within: Duration) -> Order {
    let point = |id: &str| PointId::parse(id).expect("valid");
    let values: BTreeMap<PointId, Value> = values.iter().map(|(id, v)| (point(id), Value::Uint(*v))).collect();
    Order {
        id: CommandId::parse(&format!("c{}", sim.now.0)).expect("valid"),
        device: DeviceId::parse(&format!("d{unit}")).expect("valid"),
        verify: values.keys().cloned().collect(),
        action: Action::Write(values),
        deadline: sim.now + within,
    }
}

fn blind(order: Order) -> Order {
    Order { verify: Vec::new(), ..order }
}

/// A busy line with a neighbour; the order is given in the middle of it.
fn sim(fault: Fault) -> Sim {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 2, Duration::ZERO), device(8, 2, Duration::ZERO)], 21);
    sim.run_for(MS * 1_000);
    sim.fault(7, fault);
    sim
}

#[track_caller]
fn check(fault: Fault, order: impl Fn(&Sim) -> Order, phase: Phase, reason: &str, writes: u32) -> Sim {
    let mut sim = sim(fault);
    let order = order(&sim);
    let id = order.id.clone();
    sim.script.push((sim.now, Scripted::Order(order)));
    sim.run_for(MS * 30_000);
    assert_eq!(sim.done.len(), 1, "{fault:?}: {:?}", sim.done);
    let done = &sim.done[0];
    assert_eq!((&done.id, done.outcome.phase), (&id, phase), "{fault:?}: {:?}", done.outcome);
    assert!(done.outcome.reason.starts_with(reason), "{fault:?}: {:?}", done.outcome.reason);
    assert_eq!(done.outcome.reason.is_empty(), phase == Phase::Confirmed);
    assert_eq!(sim.bus.slaves[&7].writes, writes, "{fault:?}: writes on the wire");
    sim
}

#[test]
fn a_write_is_confirmed_by_its_read_back() {
    let sim = check(Fault::None, |s| write(s, 7, &[("r0", 5)], MS * 5_000), Phase::Confirmed, "", 1);
    let done = &sim.done[0];
    assert_eq!(done.outcome.values.values().collect::<Vec<_>>(), [&Value::Uint(5)]);
    assert!(done.at - Boot::from_ms(11_000) < MS * 100, "ahead of the polls");
    check(Fault::None, |s| write(s, 7, &[("r0", 5), ("r10", 6)], MS * 5_000), Phase::Confirmed, "", 2);
    check(Fault::None, |s| blind(write(s, 7, &[("r0", 5)], MS * 5_000)), Phase::Confirmed, "", 1);
}

#[test]
fn a_write_without_an_answer_is_sent_once_and_settled_by_the_read_back() {
    check(Fault::MuteOnWrites, |s| write(s, 7, &[("r0", 5)], MS * 5_000), Phase::Confirmed, "", 1);
    check(Fault::MuteOnWrites, |s| blind(write(s, 7, &[("r0", 5)], MS * 5_000)), Phase::Unknown, "r0: sent, but no reply within", 1);
    check(Fault::Silent, |s| write(s, 7, &[("r0", 5), ("r10", 6)], MS * 5_000), Phase::Unknown, "r0: sent, but no reply within", 0);
    check(Fault::CorruptCrc, |s| write(s, 7, &[("r0", 5)], MS * 5_000), Phase::Unknown, "r0: sent, but the reply was garbled", 1);
    // Given up, then answered: the late echo must not confirm anything else.
    check(Fault::After(MS * 700), |s| write(s, 7, &[("r0", 5)], MS * 5_000), Phase::Confirmed, "", 1);
}

#[test]
fn exceptions_say_what_they_say() {
    let one = |s: &Sim| write(s, 7, &[("r0", 5)], MS * 1_000);
    check(Fault::RefusesWrites(2), one, Phase::Failed, "r0: illegal data address (exception 2)", 1);
    check(Fault::RefusesWrites(3), one, Phase::Failed, "r0: illegal data value (exception 3)", 1);
    check(Fault::RefusesWrites(4), one, Phase::Failed, "r0: server device failure (exception 4)", 1);
    // Not executed: tried again after 200 ms, 400 ms, and the next 800 ms would pass the deadline.
    check(Fault::RefusesWrites(6), one, Phase::Failed, "r0: server device busy (exception 6)", 3);
    check(Fault::RefusesWrites(0x0a), one, Phase::Failed, "r0: gateway path unavailable (exception 10)", 3);
    // Nobody knows: read back. The simulated unit did not execute it.
    check(Fault::RefusesWrites(5), one, Phase::Failed, "r0: it reads back as 14336", 1);
    check(Fault::RefusesWrites(0x0b), |s| blind(one(s)), Phase::Unknown, "r0: gateway target did not respond", 1);
    check(Fault::Forgetful, one, Phase::Failed, "r0: it reads back as 14336", 1);
    check(Fault::RefusesWrites(2), |s| write(s, 7, &[("r0", 5), ("r10", 6)], MS * 1_000), Phase::Failed, "r0: illegal data address", 1);
}

#[test]
fn what_cannot_be_begun_in_time_is_not_begun() {
    let late = |s: &Sim| Order { deadline: s.now.saturating_sub(MS), ..write(s, 7, &[("r0", 5)], MS) };
    check(Fault::None, late, Phase::Expired, "the deadline passed before it was sent", 0);
    check(Fault::None, |s| write(s, 7, &[("r99", 5)], MS * 100), Phase::Rejected, "d7: there is no point r99", 0);
    check(Fault::None, |s| write(s, 7, &[("r0", 70_000)], MS * 100), Phase::Rejected, "r0: ", 0);
    check(Fault::None, |s| write(s, 9, &[("r0", 5)], MS * 100), Phase::Rejected, "this device is not on this line", 0);
}

#[test]
fn a_read_answers_with_values() {
    let read = |points: &'static [&'static str]| {
        move |s: &Sim| {
            let points = points.iter().map(|p| PointId::parse(p).expect("valid")).collect();
            Order { action: Action::Read(points), verify: Vec::new(), ..write(s, 7, &[], MS * 3_000) }
        }
    };
    let sim = check(Fault::None, read(&[]), Phase::Confirmed, "", 0);
    let values: Vec<_> = sim.done[0].outcome.values.values().cloned().collect();
    assert_eq!(values, [Value::Uint(14_336), Value::Uint(14_346)]);
    let sim = check(Fault::None, read(&["r10"]), Phase::Confirmed, "", 0);
    assert_eq!(sim.done[0].outcome.values.len(), 1);
    check(Fault::Silent, read(&["r10"]), Phase::Failed, "no reply within", 0);
    check(Fault::Refuses(2), read(&["r10"]), Phase::Failed, "illegal data address (exception 2)", 0);
}

#[test]
fn a_connection_lost_behind_a_write_leaves_it_unknown_or_settled() {
    for (verify, phase, writes) in [(true, Phase::Confirmed, 1), (false, Phase::Unknown, 1)] {
        let mut sim = Sim::new(mbap(), &[device(7, 2, MS * 60_000)], 22);
        sim.run_for(MS * 1_000);
        sim.fault(7, Fault::MuteOnWrites);
        let order = write(&sim, 7, &[("r0", 5)], MS * 5_000);
        let order = if verify { order } else { blind(order) };
        sim.script.push((sim.now, Scripted::Order(order)));
        sim.script.push((sim.now + MS * 20, Scripted::Lost("the peer reset the connection")));
        sim.run_for(MS * 10_000);
        assert_eq!(sim.done.iter().map(|d| d.outcome.phase).collect::<Vec<_>>(), [phase], "{:?}", sim.done);
        assert_eq!(sim.bus.slaves[&7].writes, writes);
    }
}

#[test]
fn a_stop_settles_every_order() {
    let mut sim = sim(Fault::MuteOnWrites);
    let (first, second) = (write(&sim, 7, &[("r0", 5)], MS * 5_000), write(&sim, 7, &[("r10", 5)], MS * 5_000));
    sim.script.push((sim.now, Scripted::Order(first)));
    sim.script.push((sim.now, Scripted::Order(second)));
    sim.run_for(MS * 100);
    let _ = sim.core.step(sim.now, Event::Stop);
    sim.collect();
    let phases: Vec<Phase> = sim.done.iter().map(|d| d.outcome.phase).collect();
    assert_eq!(phases, [Phase::Unknown, Phase::Rejected], "{:?}", sim.done);
}

#[test]
fn an_echo_is_no_reply_to_a_write_not_even_to_the_first() {
    // Nobody else is there to show that the line echoes.
    for (fault, phase) in [(Fault::Silent, Phase::Unknown), (Fault::None, Phase::Confirmed)] {
        let mut sim = Sim::new(rtu(9600), &[device(7, 1, MS * 60_000)], 23);
        sim.bus.echoes = true;
        sim.fault(7, fault);
        let order = blind(write(&sim, 7, &[("r0", 5)], MS * 5_000));
        sim.script.push((sim.now, Scripted::Order(order)));
        sim.run_for(MS * 10_000);
        assert_eq!(sim.done.iter().map(|d| d.outcome.phase).collect::<Vec<_>>(), [phase], "{:?}", sim.done);
    }
}
