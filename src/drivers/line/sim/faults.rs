//! Shows 4 and 5: no wrong value under any fault, the normal rate soon after, and neighbours that notice nothing.

use super::*;
use crate::limits;

/// Two requests of the same shape to a unit: what a late reply could be mistaken for.
const REQUESTS: u64 = 10_000;

/// Runs 10,000 reads under the fault, then lets the slave behave.
#[track_caller]
fn check(transport: Transport, fault: Fault) {
    check_recovery(transport, fault, limits::BAR_MIN);
}

#[track_caller]
fn check_recovery(transport: Transport, fault: Fault, within: Duration) {
    for seed in [1, 2] {
        let mut sim = Sim::new(transport.clone(), &[device(7, 5, Duration::ZERO)], seed);
        let normal = sim.rate(MS * 10_000);
        assert!(normal > 100, "{normal} readings in 10 s without a fault");
        sim.fault(7, fault);
        sim.run_requests(sim.bus.requests + REQUESTS);
        assert_eq!(sim.wrong, [""; 0], "{transport:?} {fault:?} seed {seed}");
        sim.fault(7, Fault::None);
        // A request may be on its way, with a timeout that was raised to 2 s at most.
        sim.run_for(within + limits::TIMEOUT_MAX);
        let after = sim.rate(MS * 10_000);
        assert!(after * 100 >= normal * 95, "{transport:?} {fault:?} seed {seed}: {after} readings in 10 s, {normal} before");
        assert_eq!((sim.wrong.len(), sim.bus.rude), (0, 0), "{transport:?} {fault:?} seed {seed}");
    }
}

fn everywhere(fault: Fault) {
    for transport in [rtu(19_200), mbap(), rtu_over_tcp()] {
        check(transport, fault);
    }
}

#[test]
fn always_30_ms_late() {
    everywhere(Fault::After(MS * 330));
}

#[test]
fn one_in_a_hundred_up_to_610_ms_late() {
    everywhere(Fault::OneInHundredLate(MS * 610));
}

#[test]
fn wrong_unit() {
    everywhere(Fault::WrongUnit);
}

#[test]
fn wrong_function() {
    everywhere(Fault::WrongFunction);
}

#[test]
fn short_byte_count() {
    everywhere(Fault::ShortCount);
}

#[test]
fn long_byte_count() {
    everywhere(Fault::LongCount);
}

#[test]
fn fewer_bytes_than_counted() {
    everywhere(Fault::Truncated);
}

#[test]
fn corrupt_checksum() {
    everywhere(Fault::CorruptCrc);
}

#[test]
fn noise_before_and_between_replies() {
    check(rtu(19_200), Fault::Noise);
    check(rtu_over_tcp(), Fault::Noise);
}

#[test]
fn noise_instead_of_replies() {
    everywhere(Fault::OnlyNoise);
}

#[test]
fn silence() {
    for transport in [rtu(19_200), mbap(), rtu_over_tcp()] {
        check_recovery(transport, Fault::Silent, limits::PROBE_MAX);
    }
}

#[test]
fn a_late_unit_is_alive_and_gets_the_time_it_needs() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 5, MS * 1000)], 3);
    sim.fault(7, Fault::After(MS * 330));
    sim.run_for(MS * 10_000);
    let answers = sim.rate(MS * 60_000);
    assert!(answers >= 5 * 25, "five requests of 350 ms per poll of 1 s, stretched: {answers} in a minute");
    assert!(sim.heard.iter().any(|(_, _, heard)| *heard == Heard::Answered), "late is proof of life");
    let silent = sim.heard.iter().filter(|(_, _, heard)| matches!(heard, Heard::Silent { .. })).count();
    assert_eq!(silent, 1, "{:?}", sim.heard);
}

#[test]
fn one_of_ten_silent_leaves_the_nine_their_rate() {
    // At a comfortable load, at 95 % load, and as fast as the line allows.
    for (poll, timeout) in [(MS * 1000, 300), (MS * 500, 300), (Duration::ZERO, 300), (MS * 1000, 1000)] {
        let devices: Vec<Device> = (1..=10).map(|unit| Device { timeout: Some(MS * timeout), ..device(unit, 1, poll) }).collect();
        let mut sim = Sim::new(rtu(9600), &devices, 4);
        sim.run_for(MS * 5_000);
        let before = nine(&mut sim);
        sim.fault(10, Fault::Silent);
        sim.run_for(MS * 60_000);
        let after = nine(&mut sim);
        for (device, n) in &before {
            let now = after.get(device).copied().unwrap_or(0);
            assert!(now * 100 >= n * 95, "poll {poll:?} timeout {timeout}: {device} {n} -> {now} in 10 minutes");
        }
        assert_eq!(sim.wrong.len(), 0);
        sim.fault(10, Fault::None);
        sim.run_for(limits::PROBE_MAX * 2);
        let back = sim.readings[&devices[9].id];
        sim.run_for(MS * 10_000);
        assert!(sim.readings[&devices[9].id] > back + 5, "the tenth is polled again");
    }
}

/// Readings of each of the first nine in ten minutes.
fn nine(sim: &mut Sim) -> BTreeMap<DeviceId, u64> {
    let before = sim.readings.clone();
    sim.run_for(Duration::from_secs(600));
    let grown = |(id, n): (&DeviceId, &u64)| (id.clone(), n - before.get(id).copied().unwrap_or(0));
    sim.readings.iter().filter(|(id, _)| unit_of(id) != 10).map(grown).collect()
}

#[test]
fn an_echoing_adapter_is_no_reply() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 3, MS * 100)], 5);
    sim.bus.echoes = true;
    let good = sim.rate(MS * 10_000);
    assert!(good >= 290, "{good}");
    sim.fault(7, Fault::Silent);
    sim.run_for(MS * 20_000);
    let silent = sim.heard.iter().filter(|(_, _, heard)| matches!(heard, Heard::Silent { .. })).count();
    assert!(silent >= 4 && silent == sim.heard.len(), "an echo is not garbled: {:?}", sim.heard);
    assert_eq!(sim.wrong.len(), 0);
}

#[test]
fn a_refused_request_is_life_and_stops_no_other() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 3, MS * 1000)], 6);
    sim.fault(7, Fault::Refuses(2));
    sim.run_for(MS * 9_500);
    let refused = sim.heard.iter().filter(|(_, _, heard)| *heard == Heard::Refused(2)).count();
    assert_eq!(refused, sim.heard.len());
    assert!((10..=16).contains(&refused), "three requests at first, then one a poll: {refused}");
}

#[test]
fn a_gateway_that_answers_for_a_silent_unit_proves_nothing() {
    let mut sim = Sim::new(mbap(), &[device(7, 3, MS * 1000), device(8, 3, MS * 1000)], 7);
    sim.fault(7, Fault::Refuses(0x0b));
    sim.run_for(MS * 60_000);
    assert!(sim.heard.iter().all(|(_, d, heard)| unit_of(d) == 7 && matches!(heard, Heard::Silent { .. })), "{:?}", sim.heard);
    assert!(sim.heard.len() < 12, "probed, not polled: {}", sim.heard.len());
    assert_eq!(sim.opened, 1, "the connection to the gateway is good");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut sim = Sim::new(rtu(9600), &[device(1, 3, MS * 200), device(2, 3, Duration::ZERO)], 8);
        sim.fault(1, Fault::OneInHundredLate(MS * 610));
        sim.run_for(MS * 600_000);
        (sim.now, sim.bus.requests, sim.readings.clone(), format!("{:?}", sim.heard))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_unit_slower_than_the_longest_timeout_gives_no_value_rather_than_a_wrong_one() {
    for transport in [rtu(19_200), mbap(), rtu_over_tcp()] {
        for late in [610, 1200, 2030, 2500] {
            let mut sim = Sim::new(transport.clone(), &[device(7, 5, Duration::ZERO)], 9);
            sim.fault(7, Fault::After(MS * late));
            sim.run_requests(2_000);
            assert_eq!(sim.wrong, [""; 0], "{transport:?} {late} ms");
        }
    }
}

#[test]
fn faults_that_come_and_go_on_three_units_give_no_wrong_value() {
    let menu = [
        Fault::None,
        Fault::None,
        Fault::After(MS * 330),
        Fault::After(MS * 900),
        Fault::OneInHundredLate(MS * 610),
        Fault::WrongFunction,
        Fault::ShortCount,
        Fault::LongCount,
        Fault::Truncated,
        Fault::CorruptCrc,
        Fault::Silent,
        Fault::Noise,
        Fault::Refuses(2),
        Fault::Refuses(0x0b),
    ];
    for seed in 0..12 {
        let transport = match seed % 3 {
            0 => rtu(19_200),
            1 => mbap(),
            _ => rtu_over_tcp(),
        };
        let devices = [device(1, 3, Duration::ZERO), device(2, 3, MS * 200), device(3, 1, MS * 1000)];
        let mut sim = Sim::new(transport.clone(), &devices, seed);
        for _ in 0..300 {
            let unit = 1 + u8::try_from(sim.bus.rng.below(3)).expect("small");
            let n = sim.bus.rng.below(menu.len() as u64);
            sim.fault(unit, menu[usize::try_from(n).expect("small")]);
            let pause = sim.bus.rng.micros(MS * 5_000);
            sim.run_for(pause);
        }
        assert_eq!(sim.wrong, [""; 0], "{transport:?} seed {seed}");
        (1..=3).for_each(|unit| sim.fault(unit, Fault::None));
        sim.run_for(limits::PROBE_MAX * 2);
        let before = sim.readings.clone();
        sim.run_for(MS * 20_000);
        for (id, n) in &sim.readings {
            assert!(*n > before[id] + 10, "{transport:?} seed {seed}: {id} came back");
        }
    }
}

#[test]
fn retries_are_made_behind_the_bar_and_within_the_poll() {
    let retrying = Device { retries: Some(2), ..device(7, 1, MS * 10_000) };
    let mut sim = Sim::new(rtu(19_200), &[retrying], 10);
    sim.fault(7, Fault::CorruptCrc);
    sim.run_for(MS * 59_000);
    assert_eq!((sim.bus.requests, sim.heard.len()), (18, 6), "three tries and one verdict in each of six polls");
    assert!(sim.heard.iter().all(|(_, _, heard)| matches!(heard, Heard::Garbled(_))));
}

#[test]
fn a_device_without_points_is_asked_whether_it_lives() {
    let mut sim = Sim::new(rtu(19_200), &[device(7, 0, MS * 1000)], 10);
    sim.run_for(MS * 9_500);
    assert_eq!((sim.heard.len(), sim.readings.len()), (10, 0));
    assert!(sim.heard.iter().all(|(_, _, heard)| *heard == Heard::Answered));
}

#[test]
fn utilisation_is_the_share_of_busy_time() {
    // 8 + 7 characters of 10 bits at 9600, 4 to 6 ms of thought, 3.65 ms of silence: about 24 ms.
    for (poll, want) in [(Duration::ZERO, 0.93..1.0), (MS * 1000, 0.022..0.028), (MS * 100, 0.22..0.28)] {
        let mut sim = Sim::new(rtu(9600), &[device(7, 1, poll)], 10);
        sim.run_for(MS * 70_000);
        let share = sim.core.usage().share(sim.now);
        assert!(want.contains(&share), "poll {poll:?}: {share}");
    }
}
