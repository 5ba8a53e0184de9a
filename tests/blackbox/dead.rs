//! Promise 7 where it is hard: several dead slaves on one line, at a period and on a line that is polled without a pause.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    field::Bus,
    gateway::{Gateway, counting_points, uplink},
    silence::{offline, online_again, rates},
    turn,
    wait::{now, pause, scaled, secs},
};
use std::collections::BTreeMap;

const UNITS: usize = 10;
/// Neighbours in the order of polling, and such that are not.
const DYING: [usize; 5] = [4, 1, 5, 8, 10];

#[test]
fn dead_slaves_on_a_line_with_a_period_cost_the_others_at_most_a_twentieth() {
    check("period", "300ms");
}

#[test]
fn dead_slaves_on_a_line_polled_without_a_pause_cost_the_others_at_most_a_twentieth() {
    check("flat", "0s");
}

#[track_caller]
fn check(id: &str, poll: &str) {
    let _alone = turn::alone();
    let mut bus = Bus::start(UNITS, 19_200);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, id);
    let line = format!("[line.bus]\nserial = {{ path = \"{}\", baud = 19200, parity = \"none\" }}\n\n", bus.path);
    let mut config = uplink(broker.port) + &line;
    for unit in 1..=UNITS {
        let points = counting_points(&format!("u{unit}"), 10);
        config.push_str(&format!("[device.u{unit}]\nline = \"bus\"\nunit = {unit}\npoll = \"{poll}\"\n{points}"));
    }
    let gateway = Gateway::started(id, &config);
    cloud.wait("a first value of every unit", secs(30), |s| (1..=UNITS).all(|u| !s.counters(&format!("u{u}")).is_empty()).then_some(()));

    let measure = secs(scaled(6, 60));
    let before = rates(&mut bus, measure);
    eprintln!("{poll}: reads/s with all alive {}", shown(&before));
    let mut dead = Vec::new();
    for count in scaled(vec![3], vec![1, 3, 5]) {
        let fell = now();
        while dead.len() < count {
            dead.push(DYING[dead.len()]);
            bus.silence(dead[dead.len() - 1]);
        }
        cloud.wait("the dead are offline", secs(20), |s| dead.iter().all(|u| offline(s, *u)).then_some(()));
        pause(secs(scaled(10, 60)).saturating_sub(now() - fell));
        let after: BTreeMap<_, _> = rates(&mut bus, measure).into_iter().filter(|(u, _)| !dead.contains(u)).collect();
        let kept = after.iter().map(|(u, rate)| rate / before[u]).fold(f64::INFINITY, f64::min);
        eprintln!("{poll}: reads/s with {count} dead {}; the slowest keeps {:.1} %", shown(&after), 100.0 * kept);
        // In the short run one read more or less is already a twentieth.
        let one_read = scaled(1.0, 0.0) / measure.as_secs_f64();
        for (unit, is) in &after {
            let was = before[unit];
            assert!(is + one_read >= 0.95 * was, "unit {unit} at {poll}: {was:.2} reads/s before, {is:.2} with {count} dead");
        }
    }
    assert_eq!(offline_units(&cloud.seen()), sorted(&dead), "only the dead are offline");

    for unit in &dead {
        bus.speak(*unit);
    }
    cloud.wait("they are online again at their first answer", secs(scaled(60, 80)), |s| {
        dead.iter().all(|u| online_again(s, *u)).then_some(())
    });
    cloud.seen().assert_sound();
    drop(gateway);
}

fn shown(rates: &BTreeMap<usize, f64>) -> String {
    rates.iter().map(|(unit, rate)| format!("{unit}:{rate:.2}")).collect::<Vec<_>>().join(" ")
}

fn offline_units(seen: &Seen) -> Vec<String> {
    let events = seen.events_of("status");
    let mut units: Vec<String> =
        events.iter().filter(|e| e["state"] == "offline").map(|e| e["device"].as_str().unwrap_or("").to_owned()).collect();
    units.sort();
    units.dedup();
    units
}

fn sorted(units: &[usize]) -> Vec<String> {
    let mut units: Vec<String> = units.iter().map(|u| format!("u{u}")).collect();
    units.sort();
    units
}
