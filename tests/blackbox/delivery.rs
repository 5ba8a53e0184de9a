//! Promise 1 and 3 on polled values: each arrives once, as the server held it, through outages and kills.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    field::{Devices, Read},
    gateway::{Gateway, counting_device, uplink},
    wait::{now, pause, punctual, scaled, secs, until, wall_ms},
};
use fieldgate::model::Boot;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub const REGISTERS: usize = 100;

struct Plant {
    // Dropped in this order: the gateway before what it talks to.
    gateway: Gateway,
    cloud: Cloud,
    broker: Mosquitto,
    devices: Devices,
    count: usize,
}

fn plant(id: &str, count: usize, poll: &str) -> Plant {
    let devices = Devices::start(count);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, id);
    let mut config = uplink(broker.port);
    for (n, port) in devices.ports.iter().enumerate() {
        config.push_str(&counting_device(&name(n), *port, REGISTERS, poll));
    }
    let gateway = Gateway::started(id, &config);
    cloud.wait_online();
    Plant { gateway, cloud, broker, devices, count }
}

pub fn name(n: usize) -> String {
    format!("d{n}")
}

impl Plant {
    fn wait_first(&self) {
        self.cloud
            .wait("a first value of every device", secs(20), |s| (0..self.count).all(|d| !s.counters(&name(d)).is_empty()).then_some(()));
    }

    /// Waits until everything that was read before now has arrived, apart from reads that `spared` excuses.
    #[track_caller]
    fn wait_drained(&self, within: std::time::Duration, spared: impl Fn(&Read) -> bool) {
        let end = wall_ms() - 500;
        let due: Vec<Read> = self.devices.reads().into_iter().filter(|r| r.at_ms < end && !spared(r)).collect();
        let deadline = now() + within;
        loop {
            let missing = missing(&self.cloud.seen(), &due);
            if missing.is_empty() {
                return;
            }
            if now() >= deadline {
                let which: Vec<_> = missing.iter().map(|r| (r.device, r.counter, r.at_ms - end)).collect();
                let status = String::from_utf8_lossy(&self.gateway.command(&["status", "--json"]).stdout).into_owned();
                panic!("{} of {} reads did not arrive (device, counter, ms): {which:?}\n{status}", missing.len(), due.len());
            }
            pause(std::time::Duration::from_millis(50));
        }
    }
}

pub fn missing<'a>(seen: &Seen, due: &'a [Read]) -> Vec<&'a Read> {
    let mut arrived: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for row in &seen.rows {
        if let Some(c) = row.values.get("c").and_then(serde_json::Value::as_u64) {
            arrived.entry(row.device.clone()).or_default().insert(c);
        }
    }
    due.iter().filter(|r| !arrived.get(&name(r.device)).is_some_and(|a| a.contains(&r.counter))).collect()
}

/// Every arrived row is a read that happened, with all its values as they were held, and none arrived twice.
#[track_caller]
fn assert_true_values(seen: &Seen, reads: &[Read]) {
    let held: BTreeMap<(String, u64), &Read> = reads.iter().map(|r| ((name(r.device), r.counter), r)).collect();
    let mut arrived = BTreeSet::new();
    for row in &seen.rows {
        let counter =
            row.values.get("c").and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("a row without its counter: {row:?}"));
        let id = (row.device.clone(), counter);
        assert!(arrived.insert(id.clone()), "arrived twice under different keys: {id:?}");
        let read = held.get(&id).unwrap_or_else(|| panic!("{id:?} was never read"));
        assert_eq!(row.values.len(), REGISTERS - 1, "a read was split: {row:?}");
        for (r, value) in read.values.iter().enumerate().skip(2) {
            assert_eq!(row.values.get(&format!("r{r}")).and_then(serde_json::Value::as_u64), Some(*value), "{id:?} register {r}");
        }
        punctual(&format!("{id:?} is stamped"), Duration::from_millis(row.at_ms.abs_diff(read.at_ms)), secs(1));
    }
}

#[test]
fn every_read_arrives_once_with_the_value_that_the_server_held() {
    let plant = plant("complete", scaled(10, 50), "1s");
    plant.wait_first();
    pause(secs(scaled(12, 60)));
    plant.wait_drained(secs(5), |_| false);
    let reads = plant.devices.reads();
    let seen = plant.cloud.seen();
    seen.assert_sound();
    assert_true_values(&seen, &reads);
    assert_eq!(seen.missing(), [], "sequence numbers without data");
    let rounds = seen.rows.len() / plant.count;
    assert!(rounds >= scaled(11, 58), "only {rounds} polls per device in the time");
    eprintln!(
        "{} reads, {} samples, {} messages, {} resent",
        seen.rows.len(),
        seen.rows.len() * (REGISTERS - 1),
        seen.deliveries,
        seen.resends
    );
}

#[test]
fn an_outage_of_the_broker_loses_nothing_and_drains_ten_times_faster_than_real_time() {
    let outage = scaled(10, 60);
    let mut plant = plant("outage", scaled(10, 50), "1s");
    plant.wait_first();
    pause(secs(2));
    let gone = wall_ms();
    plant.broker.kill();
    pause(secs(outage));
    let back = (wall_ms(), now());
    plant.broker.restart();
    plant.wait_drained(secs(30), |_| false);
    pause(secs(2));
    plant.wait_drained(secs(5), |_| false);
    let seen = plant.cloud.seen();
    seen.assert_sound();
    assert_true_values(&seen, &plant.devices.reads());
    assert_eq!(seen.missing(), [], "sequence numbers without data");
    assert_drained_fast(&seen, gone, back);
}

/// What was read while the broker was away arrived within a tenth of the time that it spans, once anything arrived.
#[track_caller]
fn assert_drained_fast(seen: &Seen, gone: i64, back: (i64, Boot)) {
    let held: Vec<_> = seen.rows.iter().filter(|r| (gone..back.0).contains(&r.at_ms) && r.arrived >= back.1).collect();
    let first = held.iter().map(|r| r.arrived).min().expect("something was read in the outage");
    let took = held.iter().map(|r| r.arrived).max().unwrap_or(first) - first;
    let marked = held.iter().filter(|r| r.backlog).count();
    let waited = (first - back.1).as_millis();
    eprintln!(
        "outage of {} ms: {} rows, {marked} marked as backlog, drained in {} ms, {waited} ms after",
        back.0 - gone,
        held.len(),
        took.as_millis()
    );
    eprintln!("{} messages resent", seen.resends);
    assert!(marked > 0, "nothing of it was marked as backlog");
    let outage = Duration::from_millis(u64::try_from(back.0 - gone).expect("it came back later"));
    punctual("backlog", took, outage / 10);
}

#[test]
fn a_kill_in_the_middle_of_an_outage_loses_at_most_the_window() {
    let half = scaled(5, 30);
    let mut plant = plant("killed", scaled(10, 50), "1s");
    plant.wait_first();
    pause(secs(2));
    plant.broker.kill();
    pause(secs(half));
    let killed = wall_ms();
    plant.gateway.kill();
    plant.gateway.start();
    let restarted = wall_ms();
    pause(secs(half));
    plant.broker.restart();
    // A reading is durable within the window (1 s); what the server logged may also have been on its way when we killed.
    let spared = |r: &Read| (killed - 1_050..restarted).contains(&r.at_ms);
    plant.wait_drained(secs(30), spared);
    plant.cloud.wait("the epoch events of both starts", secs(10), |s| (s.events_of("epoch").len() >= 2).then_some(()));
    let seen = plant.cloud.seen();
    seen.assert_sound();
    let reads = plant.devices.reads();
    assert_true_values(&seen, &reads);
    assert_eq!(seen.epochs().len(), 2, "one epoch per start");
    let lost = missing(&seen, &reads.iter().filter(|r| (killed - 5_000..restarted).contains(&r.at_ms)).cloned().collect::<Vec<_>>()).len();
    let epochs = seen.events_of("epoch");
    let second = epochs.iter().find(|e| !e["before"].is_null()).expect("the second epoch names the first");
    let may = second["may_have_lost_ms"].as_u64().expect("it says how much may be missing");
    assert!((1..=1_500).contains(&may), "may_have_lost_ms = {may} after a kill with a window of 1 s");
    // Within an epoch every number below the last durable one arrived; those after it died in RAM and are announced.
    let before = second["before"].as_str().expect("an epoch is text");
    let durable = second["telemetry"].as_u64().expect("the last durable number");
    let holes: Vec<_> = seen.missing().into_iter().filter(|k| k.stream == "telemetry" && !(k.epoch == before && k.seq > durable)).collect();
    assert_eq!(holes, [], "numbers up to {durable} of {before} were promised");
    eprintln!("{lost} reads lost around the kill, {may} ms announced; {} messages resent", seen.resends);
}

#[test]
fn a_stop_within_five_seconds_loses_nothing_and_says_so() {
    let mut plant = plant("stopped", 5, "500ms");
    plant.wait_first();
    let begun = wall_ms();
    let (took, code) = plant.gateway.stop();
    punctual("a stop by SIGTERM", took, secs(5));
    assert_eq!(code, Some(0));
    plant.cloud.wait("the state message says offline", secs(5), |s| (!s.is_online()).then_some(()));
    let reads: Vec<Read> = plant.devices.reads().into_iter().filter(|r| r.at_ms < begun).collect();
    until("everything read before the stop arrives", secs(5), || missing(&plant.cloud.seen(), &reads).is_empty().then_some(()));
    plant.gateway.start();
    plant.cloud.wait("the epoch event of the second start", secs(20), |s| {
        let events = s.events_of("epoch");
        let second = events.iter().find(|e| !e["before"].is_null())?;
        assert_eq!(second["may_have_lost_ms"], 0, "a clean stop loses nothing: {second}");
        Some(())
    });
    plant.cloud.seen().assert_sound();
}

#[test]
fn a_stop_while_the_cloud_is_away_keeps_everything_for_the_next_start() {
    let mut plant = plant("stop-away", 5, "500ms");
    plant.wait_first();
    plant.broker.kill();
    pause(secs(2));
    let begun = wall_ms();
    let (took, code) = plant.gateway.stop();
    punctual("a stop by SIGTERM", took, secs(5));
    assert_eq!(code, Some(0));
    plant.broker.restart();
    let reads: Vec<Read> = plant.devices.reads().into_iter().filter(|r| r.at_ms < begun).collect();
    plant.gateway.start();
    until("everything read before the stop arrives", secs(20), || missing(&plant.cloud.seen(), &reads).is_empty().then_some(()));
    let seen = plant.cloud.seen();
    seen.assert_sound();
    assert_true_values(&seen, &plant.devices.reads());
}
