//! The process as an operator meets it: exit codes, status, a second copy.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    process::free_port,
    wait::{pause, secs, until},
};
use rustix::process::Signal;
use serde_json::Value as Json;

#[test]
fn status_tells_well_from_trouble_from_not_running() {
    let devices = Devices::start(1);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "status");
    let good = counting_device("good", devices.ports[0], 10, "500ms");
    let mut gateway = Gateway::new("status", &(uplink(broker.port) + &good));
    assert_eq!(gateway.command(&["status"]).status.code(), Some(3), "nothing runs yet");
    gateway.start();
    cloud.wait("values", secs(20), |s| (!s.rows.is_empty()).then_some(()));
    until("status says well", secs(10), || (gateway.command(&["status"]).status.code() == Some(0)).then_some(()));
    let answer = gateway.command(&["status", "--json"]);
    let json: Json = serde_json::from_slice(&answer.stdout).expect("one JSON document");
    assert_eq!(json["v"], 1, "{json}");
    drop(devices);
    until("status says trouble", secs(20), || (gateway.command(&["status"]).status.code() == Some(1)).then_some(()));
    gateway.stop();
    assert_eq!(gateway.command(&["status"]).status.code(), Some(3), "stopped");
}

#[test]
fn a_line_that_is_down_is_one_event_and_no_device_is_offline() {
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "line-down");
    // Nothing listens there: three units behind one address.
    let port = free_port();
    let mut config = uplink(broker.port);
    for unit in 1..=3 {
        config.push_str(&counting_device(&format!("d{unit}"), port, 4, "200ms").replace("unit = 1\n", &format!("unit = {unit}\n")));
    }
    let gateway = Gateway::started("line-down", &config);
    cloud.wait("the line's event", secs(20), |s| s.events_of("line").iter().any(|e| e["state"] == "down").then_some(()));
    pause(secs(4));
    let seen = cloud.seen();
    assert_eq!(seen.events_of("line").iter().filter(|e| e["state"] == "down").count(), 1, "one event for the line");
    assert!(!seen.events_of("status").iter().any(|e| e["state"] == "offline"), "nobody could have seen the devices");
    drop(seen);
    drop(gateway);
}

#[test]
fn a_suspended_process_makes_no_device_offline() {
    let devices = Devices::start(3);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "suspended");
    let mut config = uplink(broker.port);
    for (n, port) in devices.ports.iter().enumerate() {
        config.push_str(&counting_device(&format!("d{n}"), *port, 4, "200ms"));
    }
    let gateway = Gateway::started("suspended", &config);
    cloud.wait("values of each", secs(20), |s| (0..3).all(|n| !s.counters(&format!("d{n}")).is_empty()).then_some(()));
    // Longer than any device is allowed to be silent (3 polls, at least 2 s).
    gateway.signal(Signal::STOP);
    pause(secs(6));
    gateway.signal(Signal::CONT);
    let had = cloud.seen().counters("d0").len();
    cloud.wait("values again", secs(10), |s| (s.counters("d0").len() > had + 5).then_some(()));
    assert!(!cloud.seen().events_of("status").iter().any(|e| e["state"] == "offline"), "the observer was away, not the devices");
    cloud.seen().assert_sound();
    drop(gateway);
}

#[test]
fn a_second_copy_on_the_same_data_is_refused() {
    let broker = Mosquitto::start();
    let gateway = Gateway::started("twice", &uplink(broker.port));
    let second = gateway.command(&["run"]);
    assert!(!second.status.success(), "two daemons on one database");
    assert_eq!(gateway.command(&["status", "--json"]).status.code().map(|c| c != 3), Some(true), "the first one still answers");
}

#[test]
fn reading_a_large_configuration_leaves_no_memory_behind() {
    let broker = Mosquitto::start();
    // Nothing listens there: what is measured is what stays of 20,000 points.
    let port = free_port();
    let started = |count: usize| {
        let meters = (0..count).map(|n| counting_device(&format!("d{n}"), port, 101, "10s"));
        let config = uplink(broker.port) + &meters.collect::<String>();
        Gateway::started("large", &config)
    };
    let one = started(1).memory_kib();
    let many = started(200);
    // What the first moments need is given back a little later.
    let settled = until("the memory is given back", secs(30), || Some(many.memory_kib()).filter(|kib| *kib < one + 12 * 1024));
    eprintln!("{settled} KiB with 200 devices, {one} KiB with one");
}
