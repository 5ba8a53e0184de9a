//! Promise 5 and 7: a silent slave is known as offline, for its own reason, and its neighbours do not notice.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Bus,
    gateway::{Gateway, counting_points, uplink},
    turn,
    wait::{now, pause, scaled, secs},
};
use std::collections::BTreeMap;

const UNITS: usize = 10;
const SILENT: usize = 4;

#[test]
fn one_silent_slave_of_ten_costs_the_others_at_most_a_twentieth() {
    let _alone = turn::alone();
    // About 20 ms per poll at this speed: ten units use two thirds of the line, so there is little to give away.
    let mut bus = Bus::start(UNITS, 19_200);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "silent");
    let line = format!("[line.bus]\nserial = {{ path = \"{}\", baud = 19200, parity = \"none\" }}\n\n", bus.path);
    let mut config = uplink(broker.port) + &line;
    for unit in 1..=UNITS {
        config.push_str(&format!(
            "[device.u{unit}]\nline = \"bus\"\nunit = {unit}\npoll = \"300ms\"\n{}",
            counting_points(&format!("u{unit}"), 10)
        ));
    }
    let gateway = Gateway::started("silent", &config);
    cloud.wait("a first value of every unit", secs(30), |s| (1..=UNITS).all(|u| !s.counters(&format!("u{u}")).is_empty()).then_some(()));

    let measure = secs(scaled(8, 60));
    let before = rates(&mut bus, measure);
    bus.silence(SILENT);
    let fell = now();
    cloud.wait("the silent unit is offline", secs(15), |s| offline(s, SILENT).then_some(()));
    pause(secs(scaled(12, 60)).saturating_sub(now() - fell));
    let after = rates(&mut bus, measure);
    eprintln!("reads/s before {before:.2?}, with one silent {after:.2?}");
    // In the short run one read more or less is already a twenty-fifth.
    let one_read = scaled(1.0, 0.0) / measure.as_secs_f64();
    for unit in (1..=UNITS).filter(|u| *u != SILENT) {
        let (was, is) = (before[&unit], after[&unit]);
        assert!(is + one_read >= 0.95 * was, "unit {unit}: {was:.2} reads/s before, {is:.2} with unit {SILENT} silent");
    }
    assert_eq!(cloud.seen().events_of("status").iter().filter(|e| e["state"] == "offline").count(), 1, "only the silent one is offline");

    bus.speak(SILENT);
    let probe = secs(scaled(45, 70));
    cloud.wait("it is online again at its first answer", probe, |s| online_again(s, SILENT).then_some(()));
    cloud.seen().assert_sound();
    drop(gateway);
}

pub fn rates(bus: &mut Bus, over: std::time::Duration) -> BTreeMap<usize, f64> {
    let (begin, first) = (now(), bus.reads());
    pause(over);
    let (end, last) = (now(), bus.reads());
    #[allow(clippy::cast_precision_loss)] // a few thousand reads
    last.into_iter().map(|(unit, n)| (unit, (n - first[&unit]) as f64 / (end - begin).as_secs_f64())).collect()
}

pub fn offline(seen: &crate::cloud::Seen, unit: usize) -> bool {
    let events = seen.events_of("status");
    events.iter().any(|e| e["device"] == format!("u{unit}").as_str() && e["state"] == "offline" && e["cause"] == "silent")
}

pub fn online_again(seen: &crate::cloud::Seen, unit: usize) -> bool {
    let events = seen.events_of("status");
    let states: Vec<_> = events.iter().filter(|e| e["device"] == format!("u{unit}").as_str()).map(|e| &e["state"]).collect();
    states.last().is_some_and(|s| **s == "online")
}
