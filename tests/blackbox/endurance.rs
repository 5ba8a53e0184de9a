//! Promise 1 for long: kills at any moment, a broker that comes and goes, an outage at full load. What is small here in
//! everyday runs is large in `tests/run --long`.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    delivery::{REGISTERS, missing, name},
    field::{Devices, Read},
    gateway::{Gateway, counting_device, uplink},
    process::free_port,
    publishers::{listening, publish_for_ever},
    turn,
    wait::{now, pause, scaled, secs, until, wall_ms},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// `FIELDGATE_SEED` repeats a run's moments, as far as a real machine repeats anything.
struct Dice(u64);

impl Dice {
    fn of_this_run() -> Dice {
        let seed = std::env::var("FIELDGATE_SEED").map_or(1, |s| s.parse().expect("FIELDGATE_SEED is a number"));
        Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn range(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + self.0 % (high - low + 1)
    }
}

struct Field {
    devices: Devices,
    count: usize,
}

impl Field {
    fn start(count: usize) -> Field {
        Field { devices: Devices::start(count), count }
    }

    fn config(&self, poll: &str) -> String {
        self.devices.ports.iter().enumerate().map(|(n, port)| counting_device(&name(n), *port, REGISTERS, poll)).collect()
    }

    /// What was read before now, and a little before that, since an answer is on its way for a moment.
    fn due(&self) -> Vec<Read> {
        let end = wall_ms() - 500;
        self.devices.reads().into_iter().filter(|r| r.at_ms < end).collect()
    }

    fn wait_first(&self, cloud: &Cloud) {
        cloud.wait("a first value of every device", secs(30), |s| (0..self.count).all(|d| !s.counters(&name(d)).is_empty()).then_some(()));
    }
}

/// Waits until all of `due` has arrived that `spared` does not excuse; gives how many of the excused never came.
#[track_caller]
fn wait_arrived(cloud: &Cloud, gateway: &Gateway, due: &[Read], within: Duration, spared: impl Fn(&Read) -> bool) -> usize {
    let deadline = now() + within;
    loop {
        let (excused, lost): (Vec<&Read>, Vec<&Read>) = missing(&cloud.seen(), due).into_iter().partition(|r| spared(r));
        if lost.is_empty() {
            return excused.len();
        }
        if now() >= deadline {
            let which: Vec<_> = lost.iter().take(20).map(|r| (r.device, r.counter, r.at_ms)).collect();
            let status = String::from_utf8_lossy(&gateway.command(&["status", "--json"]).stdout).into_owned();
            panic!("{} of {} reads did not arrive (device, counter, wall ms): {which:?}\n{status}", lost.len(), due.len());
        }
        pause(Duration::from_millis(200));
    }
}

/// Every row is a read that happened, and none came twice under different keys.
#[track_caller]
fn assert_each_once(seen: &Seen, reads: &[Read]) {
    let happened: BTreeSet<(String, u64)> = reads.iter().map(|r| (name(r.device), r.counter)).collect();
    let mut arrived = BTreeSet::new();
    for row in seen.rows.iter().filter(|r| r.device.starts_with('d')) {
        let id = (row.device.clone(), row.values.get("c").and_then(serde_json::Value::as_u64).expect("each row has its counter"));
        assert!(happened.contains(&id), "{id:?} was never read");
        // What arrived, but whose acknowledgement did not, may come once more among what was thinned.
        assert!(arrived.insert(id.clone()) || row.thinned, "{id:?} arrived twice under different keys");
    }
}

/// Numbers that an epoch event promised as durable, that did not come, and that no gap names.
fn holes(seen: &Seen) -> usize {
    let mut promised: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for event in seen.events_of("epoch") {
        if let Some(before) = event["before"].as_str() {
            for stream in ["telemetry", "event"] {
                promised.insert((before, stream), event[stream].as_u64().unwrap_or(0));
            }
        }
    }
    let is_promised = |epoch: &str, stream: &str, seq: u64| promised.get(&(epoch, stream)).is_none_or(|highest| seq <= *highest);
    seen.missing().iter().filter(|k| is_promised(&k.epoch, &k.stream, k.seq)).count()
}

const UP: u8 = 0;
const DOWN: u8 = 1;
const FLAPPING: u8 = 2;
const END: u8 = 3;

/// A broker with a will of its own: up, down, or now this and now that.
struct Weather {
    mode: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

impl Weather {
    fn over(mut broker: Mosquitto, mut dice: Dice) -> Weather {
        let mode = Arc::new(AtomicU8::new(UP));
        let told = mode.clone();
        let thread = std::thread::spawn(move || {
            loop {
                let up = match told.load(Ordering::Relaxed) {
                    END => return,
                    UP => true,
                    DOWN => false,
                    _ => !broker.is_running(),
                };
                match (up, broker.is_running()) {
                    (true, false) => broker.restart(),
                    (false, true) => broker.stop(),
                    _ => {}
                }
                pause(Duration::from_millis(dice.range(100, 1_200)));
            }
        });
        Weather { mode, thread: Some(thread) }
    }

    fn becomes(&self, mode: u8) {
        self.mode.store(mode, Ordering::Relaxed);
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        self.becomes(END);
        // It says itself why it failed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn kills_at_any_moment_lose_at_most_the_window() {
    let kills = scaled(9, 500);
    let (mut dice, port) = (Dice::of_this_run(), free_port());
    let field = Field::start(5);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch_slim(broker.port, "killed");
    let mut gateway = Gateway::started("killed", &(uplink(broker.port) + &listening(port) + &field.config("200ms")));
    cloud.wait_online();
    field.wait_first(&cloud);
    let weather = Weather::over(broker, Dice(dice.range(1, u64::MAX - 1)));
    let (acknowledged, stop) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
    let (book, until_stop) = (acknowledged.clone(), stop.clone());
    let publisher = std::thread::spawn(move || publish_for_ever(port, &book, &until_stop));
    let mut killed = Vec::new();
    for n in 0..kills {
        // A third each, in stretches of three and thirty kills.
        weather.becomes([UP, DOWN, FLAPPING][n / scaled(3, 10) % 3]);
        // From before it has read its files until some commits later.
        pause(Duration::from_millis(dice.range(5, if n % 4 == 0 { 150 } else { 1_200 })));
        gateway.assert_runs();
        killed.push(wall_ms());
        gateway.kill();
        gateway.launch();
        if n % 50 == 49 {
            eprintln!("{} kills, {} acknowledged to the publisher", n + 1, acknowledged.lock().expect("no holder panics").len());
        }
    }
    weather.becomes(UP);
    pause(secs(2));
    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("the publisher does not panic");
    // A value is durable within the window (1 s) and the linger (50 ms); and the server logs what is still on its way.
    let spared = |r: &Read| killed.iter().any(|at| (at - 1_100..at + 200).contains(&r.at_ms));
    let due = field.due();
    let excused = wait_arrived(&cloud, &gateway, &due, secs(120), spared);
    let acknowledged = acknowledged.lock().expect("no holder panics").clone();
    let arrived = |s: &Seen| -> BTreeSet<u64> { s.rows.iter().filter_map(|r| r.values.get("n")?.as_u64()).collect() };
    cloud.wait("every acknowledged message", secs(30), |s| acknowledged.is_subset(&arrived(s)).then_some(()));
    until("every promised number", secs(30), || (holes(&cloud.seen()) == 0).then_some(()));
    let seen = cloud.seen();
    seen.assert_sound();
    assert_each_once(&seen, &field.devices.reads());
    eprintln!(
        "{kills} kills: {} reads, 0 lost that were older than the window, {excused} younger ones; {} acknowledged messages, 0 lost; \
         {} epochs, {} messages, {} resent, 0 with two contents",
        due.len(),
        acknowledged.len(),
        seen.epochs().len(),
        seen.deliveries,
        seen.resends
    );
}

#[test]
fn a_broker_that_restarts_every_three_seconds_loses_nothing_and_costs_no_memory() {
    let length = scaled(15, 300);
    let field = Field::start(scaled(10, 50));
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch_slim(broker.port, "flapping");
    let gateway = Gateway::started("flapping", &(uplink(broker.port) + &field.config("1s")));
    cloud.wait_online();
    field.wait_first(&cloud);
    let (begun, mut restarts, mut memory) = (now(), 0, Vec::new());
    while now() - begun < secs(length) {
        pause(secs(3));
        broker.stop();
        broker.restart();
        restarts += 1;
        memory.push(gateway.memory_kib());
    }
    let due = field.due();
    wait_arrived(&cloud, &gateway, &due, secs(30), |_| false);
    until("every number", secs(10), || cloud.seen().missing().is_empty().then_some(()));
    let seen = cloud.seen();
    seen.assert_sound();
    assert_each_once(&seen, &field.devices.reads());
    assert_eq!(seen.epochs().len(), 1, "it did not restart");
    eprintln!("{restarts} restarts: {} reads, 0 lost, {} messages, {} resent", due.len(), seen.deliveries, seen.resends);
    assert_flat(&memory);
}

/// The last quarter takes no more than the second one: what is held at first is code and buffers that fill once.
#[track_caller]
fn assert_flat(memory: &[u64]) {
    let quarter = memory.len() / 4;
    let highest = |of: &[u64]| of.iter().copied().max().unwrap_or(0);
    let (early, late) = (highest(&memory[quarter..2 * quarter.max(1)]), highest(&memory[3 * quarter..]));
    eprintln!("resident: {early} KiB in the second quarter, {late} KiB in the last, {} KiB at most", highest(memory));
    assert!(quarter < 4 || late <= early + early / 10 + 1024, "memory grows: {memory:?} KiB");
}

struct Outage {
    devices: usize,
    seconds: u64,
    disk_max: &'static str,
    disk_bytes: u64,
}

/// The broker away under load, then back. Gives the judge's state with each read arrived or announced as given up.
fn outage(id: &str, o: &Outage) {
    let _alone = turn::alone();
    let field = Field::start(o.devices);
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch_slim(broker.port, id);
    let config = uplink(broker.port) + &format!("[buffer]\ndisk_max = \"{}\"\n\n", o.disk_max) + &field.config("1s");
    let gateway = Gateway::started(id, &config);
    cloud.wait_online();
    field.wait_first(&cloud);
    let gone = wall_ms();
    broker.stop();
    let (begun, mut memory, mut disk) = (now(), Vec::new(), 0);
    while now() - begun < secs(o.seconds) {
        pause(secs(1));
        memory.push(gateway.memory_kib());
        disk = disk.max(gateway.data_bytes("spool.db") + gateway.data_bytes("spool.db-wal"));
    }
    broker.restart();
    let (back, back_ms) = (now(), wall_ms());
    until("everything waiting is sent", secs(60 + o.seconds / 4), || {
        memory.push(gateway.memory_kib());
        pause(Duration::from_millis(250));
        let status: serde_json::Value = serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).ok()?;
        let waiting = status["spool"]["waiting"].as_u64().expect("status tells what waits");
        (waiting < (o.devices * REGISTERS * 2) as u64).then_some(())
    });
    pause(secs(5));
    // The judge reads millions of values; it is asked seldom, so that it comes to that.
    let (deadline, mut lacking) = (now() + secs(30 + o.seconds / 2), cloud.seen().missing());
    while !lacking.is_empty() {
        assert!(now() < deadline, "neither arrived nor announced: {} numbers, from {:?} on", lacking.len(), lacking[0]);
        pause(secs(1));
        lacking = cloud.seen().missing();
    }
    let seen = cloud.seen();
    seen.assert_sound();
    assert_each_once(&seen, &field.devices.reads());
    assert!(disk <= o.disk_bytes, "{disk} bytes on the disk, {} allowed", o.disk_bytes);
    account(&seen, o.devices);
    let offset = wall_ms() - i64::try_from(now().ms()).expect("milliseconds");
    let arrived_ms = |r: &crate::cloud::Row| i64::try_from(r.arrived.ms()).expect("milliseconds") + offset;
    let late: Vec<i64> = seen.rows.iter().filter(|r| r.backlog && r.arrived >= back).map(&arrived_ms).collect();
    let (first, last) = (late.iter().min().copied().unwrap_or(0), late.iter().max().copied().unwrap_or(0));
    let live = seen.rows.iter().filter(|r| !r.backlog && r.arrived >= back && arrived_ms(r) <= last);
    let oldest = live.map(|r| arrived_ms(r) - r.at_ms).max().unwrap_or(0);
    let ratio = (back_ms - gone) / (last - first).max(1);
    eprintln!(
        "outage of {} s: {} rows in the backlog, drained in {} ms from {} ms after the return on ({ratio} times real time); \
         live values at most {oldest} ms old meanwhile; {disk} bytes on the disk at most",
        (back_ms - gone) / 1000,
        late.len(),
        last - first,
        first - back_ms
    );
    assert_flat(&memory);
    assert!(ratio >= 20, "drained at {ratio} times real time");
    assert!(oldest <= 2_000, "a live value was {oldest} ms old during the drain");
}

/// Arrived as it was, thinned or given up: together exactly what was read, up to the last read that arrived.
#[track_caller]
fn account(seen: &Seen, devices: usize) {
    let mut highest = vec![0; devices];
    for row in &seen.rows {
        let device: usize = row.device[1..].parse().expect("devices have numbers");
        highest[device] = row.values["c"].as_u64().expect("each row has its counter").max(highest[device]);
    }
    let polled: u64 = highest.iter().sum::<u64>() * (REGISTERS as u64 - 1);
    let of = seen.account();
    eprintln!(
        "{polled} samples polled: {} arrived, {} left out by thinning, {} given up",
        of.arrived - of.left_out,
        of.left_out,
        of.given_up
    );
    assert_eq!(of.arrived + of.given_up, polled);
}

#[test]
fn an_outage_at_full_load_drains_twenty_times_faster_than_real_time_beside_live_values() {
    outage("long", &Outage { devices: scaled(20, 100), seconds: scaled(15, 600), disk_max: "512MiB", disk_bytes: 512 << 20 });
}

#[test]
fn an_outage_that_outgrows_the_disk_accounts_for_every_sample() {
    // The smallest limit takes 200,000 samples: in everyday runs publishers:: outgrows it with long texts instead.
    if scaled(true, false) {
        return;
    }
    outage("outgrown", &Outage { devices: 100, seconds: 120, disk_max: "1MiB", disk_bytes: 1 << 20 });
}
