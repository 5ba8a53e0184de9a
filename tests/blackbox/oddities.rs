//! Promise 4 against servers of others that are odd on purpose: libmodbus's unit-test-server and pymodbus's simulator with
//! addresses that it refuses. No wrong value, each fault counted under its own cause, everything else read at each poll.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    field::{LibModbus, Simulator},
    gateway::{Gateway, uplink},
    process::host,
    wait::{now, pause, scaled, secs},
};
use fieldgate::model::Boot;
use serde_json::Value as Json;
use std::{fmt::Write as _, time::Duration};

/// Longer than the shortest bar (1 s), so that each poll may ask.
const POLL: Duration = Duration::from_secs(2);
/// Asked before and after the odd request of each poll.
const BEFORE: u16 = 0x160;
const AFTER: u16 = 0x17a;

/// What the server does to one request of each poll, and what is to be seen of it.
struct Odd {
    name: &'static str,
    /// On a serial line too.
    serial: bool,
    /// Register and type of the point that provokes it.
    point: (u16, &'static str),
    /// The counter of the line that it raises.
    cause: Option<&'static str>,
    /// The value of the point, if any ever comes.
    value: Option<u64>,
}

const ODD: [Odd; 5] = [
    Odd { name: "busy", serial: true, point: (0x170, "u16"), cause: Some("refused"), value: None },
    Odd { name: "stranger", serial: true, point: (0x171, "u16"), cause: Some("garbled"), value: None },
    // Its lateness is learned: silent at first, then in time.
    Odd { name: "late", serial: true, point: (0x172, "u16"), cause: Some("late"), value: Some(10_000 + 0x172) },
    Odd { name: "count", serial: true, point: (0x165, "u32"), cause: Some("garbled"), value: None },
    Odd { name: "bytes", serial: false, point: (0x173, "u16"), cause: None, value: Some(0) },
];

/// A line and a device of the same name.
fn device(id: &str, medium: &str, unit: u8, points: &[(String, u16, &str)]) -> String {
    let mut out = format!("[line.{id}]\n{medium}\ntimeout = \"300ms\"\n[device.{id}]\nline = \"{id}\"\nunit = {unit}\npoll = \"2s\"\n");
    for (name, register, kind) in points {
        let _ = write!(out, "[device.{id}.point.{name}]\nregister = \"holding:{register}\"\ntype = \"{kind}\"\n");
    }
    out + "\n"
}

/// Arrivals of values of a point.
fn arrivals(seen: &Seen, device: &str, point: &str) -> Vec<Boot> {
    let has = |r: &&crate::cloud::Row| r.device == device && r.values.get(point).is_some_and(|v| !v.is_null());
    seen.rows.iter().filter(has).map(|r| r.arrived).collect()
}

/// A value came with every poll of the time: never two polls in a row without one.
#[track_caller]
fn assert_at_every_poll(seen: &Seen, device: &str, point: &str, from: Boot, to: Boot) {
    let mut last = from;
    for at in arrivals(seen, device, point).into_iter().filter(|at| (from..to).contains(at)).chain([to]) {
        assert!(at - last <= POLL * 2, "{device}: {} ms without a value of {point}", (at - last).as_millis());
        last = at;
    }
}

fn counters(gateway: &Gateway, line: &str) -> Json {
    let said = gateway.command(&["status", "--json"]).stdout;
    let status: Json = serde_json::from_slice(&said).expect("status is JSON");
    let lines = status["lines"].as_array().expect("lines");
    lines.iter().find(|l| l["id"] == line).unwrap_or_else(|| panic!("no line {line} in {status}")).clone()
}

#[test]
fn libmodbus_s_unit_test_server_is_read_around_its_oddities() {
    if !LibModbus::is_built() {
        return eprintln!("skipped: libmodbus's test server is built by `tests/run --long oddities`");
    }
    let serial = ODD.iter().filter(|o| o.serial);
    let mut servers = LibModbus::start(ODD.len(), serial.clone().count());
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "oddities");
    let mut config = uplink(broker.port);
    let mut cases: Vec<(String, &Odd)> = Vec::new();
    let points = |odd: &Odd| {
        [("before".to_owned(), BEFORE, "u16"), ("odd".to_owned(), odd.point.0, odd.point.1), ("after".to_owned(), AFTER, "u16")]
    };
    for (n, odd) in ODD.iter().enumerate() {
        let id = format!("tcp-{}", odd.name);
        let medium = format!("tcp = \"{}:{}\"", host(), servers.port(&format!("tcp{n}")));
        config.push_str(&device(&id, &medium, 255, &points(odd)));
        cases.push((id, odd));
    }
    for (n, odd) in serial.enumerate() {
        let id = format!("rtu-{}", odd.name);
        let medium = format!("serial = {{ path = \"{}\", baud = 115200, parity = \"none\" }}", servers.path(&format!("rtu{n}")));
        config.push_str(&device(&id, &medium, 17, &points(odd)));
        cases.push((id, odd));
    }
    let gateway = Gateway::started("oddities", &config);
    cloud.wait("a first value of every device", secs(30), |s| {
        cases.iter().all(|(id, _)| !arrivals(s, id, "before").is_empty()).then_some(())
    });
    // The first polls find out: what is late, what refuses.
    pause(POLL * 3);
    let from = now();
    pause(POLL * scaled(5, 30));
    let to = now();
    let seen = cloud.seen();
    seen.assert_sound();
    for (id, odd) in &cases {
        let counted = counters(&gateway, id);
        eprintln!("{id}: {counted}");
        for row in seen.rows.iter().filter(|r| r.device == *id) {
            for (point, value) in row.values.iter().filter(|(_, v)| !v.is_null()) {
                let right = match point.as_str() {
                    "before" => Some(10_000 + u64::from(BEFORE)),
                    "after" => Some(10_000 + u64::from(AFTER)),
                    _ => odd.value,
                };
                assert_eq!(value.as_u64(), right, "{id}: wrong value of {point}");
            }
        }
        for point in ["before", "after"] {
            assert_at_every_poll(&seen, id, point, from, to);
        }
        if odd.value.is_some() {
            assert_at_every_poll(&seen, id, "odd", from, to);
        }
        for fault in ["refused", "garbled", "late"] {
            let right = odd.cause == Some(fault);
            assert_eq!(counted[fault].as_u64() > Some(0), right, "{id}: {fault} is {}", counted[fault]);
        }
        // Only what comes late was silent before.
        assert_eq!(counted["silent"].as_u64() > Some(0), odd.cause == Some("late"), "{id}: silent is {}", counted["silent"]);
    }
    assert!(seen.events_of("status").iter().all(|e| e["state"] != "offline"), "each of them lives");
    drop(seen);
    eprintln!("{} servers were needed", servers.starts());
    drop(gateway);
}

#[test]
fn pymodbus_s_simulator_is_read_around_its_invalid_ranges() {
    const REGISTERS: u16 = 200;
    const INVALID: [std::ops::RangeInclusive<u16>; 3] = [20..=29, 50..=50, 100..=119];
    let simulator = Simulator::start(REGISTERS, "20-29,50,100-119");
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "invalid");
    let is_invalid = |r: u16| INVALID.iter().any(|range| range.contains(&r));
    // Every register has a point in `all`; in `around`, only the valid ones, and requests may span what lies between.
    let point = |r: u16| (format!("r{r}"), r, "u16");
    let all: Vec<_> = (0..REGISTERS).map(point).collect();
    let around: Vec<_> = (0..REGISTERS).filter(|r| !is_invalid(*r)).map(point).collect();
    let medium = format!("tcp = \"{}:{}\"", host(), simulator.port);
    let mut config = uplink(broker.port) + &device("all", &medium, 1, &all);
    let around_device = device("around", &medium, 1, &around);
    config.push_str(&around_device.replace("poll = ", "max_gap = 60\npoll = "));
    let gateway = Gateway::started("invalid", &config);
    cloud.wait("a value of every valid register", secs(60), |s| {
        ["all", "around"].iter().all(|d| around.iter().all(|(name, ..)| !arrivals(s, d, name).is_empty())).then_some(())
    });
    let (before, from) = (counters(&gateway, "all"), now());
    pause(POLL * scaled(3, 30));
    let to = now();
    let seen = cloud.seen();
    seen.assert_sound();
    for row in &seen.rows {
        for (point, value) in row.values.iter().filter(|(_, v)| !v.is_null()) {
            let register: u16 = point[1..].parse().expect("points are named by their register");
            assert!(!is_invalid(register), "{}: a value of {point}, which is refused", row.device);
            assert_eq!(value.as_u64(), Some(10_000 + u64::from(register)), "{}: wrong value of {point}", row.device);
        }
    }
    for device in ["all", "around"] {
        for (name, ..) in &around {
            assert_at_every_poll(&seen, device, name, from, to);
        }
        let counted = counters(&gateway, device);
        eprintln!("{device}: {counted}");
        assert!(counted["refused"].as_u64() > Some(0), "{device}: nothing was refused");
        assert_eq!((counted["garbled"].as_u64(), counted["silent"].as_u64()), (Some(0), Some(0)), "{device}");
    }
    eprintln!("refused {} times while learning; {:?} by the simulator's own count", before["refused"], simulator.counted());
    drop(gateway);
}
