//! Show 3: the rate of the live ones of ten slaves when 1, 3 and 5 are dead, from one minute on.

use super::*;

#[test]
fn the_live_ones_keep_their_rate_while_others_are_dead() {
    for (poll, timeout, dead) in [
        (Duration::ZERO, 300, 1),
        (Duration::ZERO, 300, 3),
        (Duration::ZERO, 300, 5),
        (Duration::ZERO, 1000, 5),
        (MS * 500, 300, 5),
        (MS * 1000, 1000, 5),
    ] {
        check(poll, timeout, dead);
    }
}

/// Readings of each live one in five minutes, before and from a minute after the others die.
#[track_caller]
fn check(poll: Duration, timeout_ms: u32, dead: u8) {
    let devices: Vec<Device> = (1..=10).map(|unit| Device { timeout: Some(MS * timeout_ms), ..device(unit, 1, poll) }).collect();
    let mut sim = Sim::new(rtu(9600), &devices, 4);
    sim.run_for(MS * 5_000);
    let before = live(&mut sim, 10 - dead);
    (11 - dead..=10).for_each(|unit| sim.fault(unit, Fault::Silent));
    sim.run_for(MS * 60_000);
    let busy = sim.core.usage();
    let after = live(&mut sim, 10 - dead);
    for (device, n) in &before {
        let now = after.get(device).copied().unwrap_or(0);
        assert!(now * 100 >= n * 95, "{dead} dead, poll {poll:?}, timeout {timeout_ms} ms: {device} {n} -> {now}; {busy:?}");
    }
    assert_eq!((sim.wrong.len(), sim.bus.rude), (0, 0));
}

fn live(sim: &mut Sim, units: u8) -> BTreeMap<DeviceId, u64> {
    let before = sim.readings.clone();
    sim.run_for(Duration::from_secs(300));
    let grown = |(id, n): (&DeviceId, &u64)| (id.clone(), n - before.get(id).copied().unwrap_or(0));
    sim.readings.iter().filter(|(id, _)| unit_of(id) <= units).map(grown).collect()
}
