//! Promise 1 on our own endpoint: what a local publisher saw acknowledged reaches the cloud, whoever is killed when.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::{Gateway, uplink},
    mqtt::{Client, Login, Packet},
    process::{free_port, host},
    wait::{now, pause, scaled, secs},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub const ROUTES: &str = "[mqtt.route.telemetry]\ntopic = \"tele/{device}/SENSOR\"\nkind = \"telemetry\"\nunknown = \"register\"\n\n\
     [mqtt.route.status]\ntopic = \"devices/say/{device}\"\nkind = \"status\"\nunknown = \"register\"\n\n";

pub fn listening(port: u16) -> String {
    format!("[mqtt]\nlisten = \"{}:{port}\"\n\n{ROUTES}", host())
}

/// A publisher that goes on for ever: what was not acknowledged when a connection died is not sent again, so an arrival
/// is owed to its acknowledgement alone.
pub fn publish_for_ever(port: u16, acknowledged: &Mutex<BTreeSet<u64>>, stop: &AtomicBool) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(port, &Login { id: "plug", ..Login::default() }) else {
            pause(Duration::from_millis(20));
            continue;
        };
        let mut waiting = BTreeMap::new();
        let mut dead = false;
        while !dead && !stop.load(Ordering::Relaxed) {
            while waiting.len() < 10 && !dead {
                n += 1;
                match client.publish("tele/plug-1/SENSOR", format!("{{\"n\":{n}}}").as_bytes()) {
                    Ok(id) => _ = waiting.insert(id, n),
                    Err(_) => dead = true,
                }
            }
            match client.next(Duration::from_millis(200)) {
                Ok(Some(Packet::PubAck(id))) => {
                    if let Some(n) = waiting.remove(&id) {
                        acknowledged.lock().expect("no holder panics").insert(n);
                    }
                }
                Ok(_) => {}
                Err(_) => dead = true,
            }
            pause(Duration::from_millis(2));
        }
    }
}

#[test]
fn every_acknowledged_message_reaches_the_cloud_across_kills() {
    let port = free_port();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "acked");
    let mut gateway = Gateway::started("acked", &(uplink(broker.port) + &listening(port)));
    cloud.wait_online();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let (book, until_stop) = (acknowledged.clone(), stop.clone());
    let publisher = std::thread::spawn(move || publish_for_ever(port, &book, &until_stop));
    let count = || acknowledged.lock().expect("no holder panics").len();

    // Moments spread by the fraction of the clock's microseconds: random enough, and never the same twice.
    for _ in 0..scaled(3, 20) {
        let had = count();
        crate::wait::until("acknowledgements flow", secs(30), || (count() >= had + 20).then_some(()));
        pause(Duration::from_millis(50 + now().0 % 700));
        gateway.kill();
        gateway.start();
    }
    let had = count();
    crate::wait::until("acknowledgements flow after the last kill", secs(30), || (count() >= had + 20).then_some(()));
    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("the publisher does not panic");

    let acknowledged = acknowledged.lock().expect("no holder panics").clone();
    cloud.wait("every acknowledged message", secs(30), |s| {
        let arrived: BTreeSet<u64> = s.rows.iter().filter(|r| r.device == "plug-1").filter_map(|r| r.values.get("n")?.as_u64()).collect();
        acknowledged.is_subset(&arrived).then_some(())
    });
    let seen = cloud.seen();
    seen.assert_sound();
    eprintln!("{} acknowledged, {} rows in the cloud, {} messages resent", acknowledged.len(), seen.rows.len(), seen.resends);
}

#[test]
fn acknowledgements_come_while_the_cloud_is_away_and_hold() {
    let port = free_port();
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "away");
    let mut gateway = Gateway::started("away", &(uplink(broker.port) + &listening(port)));
    cloud.wait_online();
    broker.kill();
    let mut client = Client::connect(port, &Login { id: "plug", ..Login::default() }).expect("the endpoint accepts");
    let begun = now();
    for n in 0..50 {
        let id = client.publish("tele/plug-1/SENSOR", format!("{{\"n\":{n}}}").as_bytes()).expect("the endpoint reads");
        let acked =
            crate::wait::until("the acknowledgement", secs(5), || client.next(Duration::from_millis(50)).expect("the connection stands"));
        assert_eq!(acked, Packet::PubAck(id));
    }
    eprintln!("50 acknowledgements one by one without the cloud: {} ms", (now() - begun).as_millis());
    gateway.kill();
    broker.restart();
    gateway.start();
    cloud.wait("all fifty", secs(20), |s| {
        let arrived: BTreeSet<u64> = s.rows.iter().filter_map(|r| r.values.get("n")?.as_u64()).collect();
        (0..50).all(|n| arrived.contains(&n)).then_some(())
    });
    cloud.seen().assert_sound();
}

#[test]
fn a_will_is_an_offline_and_local_subscribers_hear_it() {
    let port = free_port();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "will");
    let gateway = Gateway::started("will", &(uplink(broker.port) + &listening(port)));
    cloud.wait_online();
    let mut watcher = Client::connect(port, &Login { id: "watcher", ..Login::default() }).expect("the endpoint accepts");
    watcher.subscribe("devices/status/+").expect("the endpoint reads");
    let login = Login { id: "valve", will: Some(("devices/say/valve-1", "offline")), ..Login::default() };
    let mut valve = Client::connect(port, &login).expect("the endpoint accepts");
    valve.publish("devices/say/valve-1", b"online").expect("the endpoint reads");
    expect_status(&mut watcher, "devices/status/valve-1", b"1");
    drop(valve); // without a DISCONNECT
    expect_status(&mut watcher, "devices/status/valve-1", b"0");
    cloud.wait("the event", secs(10), |s| {
        s.events_of("status").iter().any(|e| e["device"] == "valve-1" && e["state"] == "offline" && e["cause"] == "said").then_some(())
    });
    drop(gateway);
}

#[track_caller]
fn expect_status(watcher: &mut Client, topic: &str, body: &[u8]) {
    crate::wait::until(&format!("{topic} {}", String::from_utf8_lossy(body)), secs(10), || {
        match watcher.next(Duration::from_millis(50)).expect("the connection stands") {
            Some(Packet::Publish { topic: t, body: b, .. }) if t == topic && b == body => Some(()),
            _ => None,
        }
    });
}

/// Text that no encoding makes small.
fn noise(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from(state >> 33 & 0xf).expect("below 16"))
    };
    (0..1_000).map(|_| next()).collect()
}

#[test]
fn a_full_disk_limit_drops_the_oldest_and_announces_it() {
    let port = free_port();
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "full");
    let config = uplink(broker.port) + &listening(port) + "[buffer]\ndisk_max = \"1MiB\"\nwhen_full = \"drop\"\nwindow = \"200ms\"\n";
    let gateway = Gateway::started("full", &config);
    cloud.wait_online();
    broker.kill();
    let mut client = Client::connect(port, &Login { id: "plug", ..Login::default() }).expect("the endpoint accepts");
    // Three times the limit.
    let (total, mut sent, mut acked) = (3_000, 0, 0);
    while acked < total {
        while sent < total && sent - acked < 50 {
            sent += 1;
            client
                .publish("tele/plug-1/SENSOR", format!("{{\"n\":{sent},\"text\":\"{}\"}}", noise(sent)).as_bytes())
                .expect("the endpoint reads");
        }
        acked += u64::from(matches!(client.next(secs(10)).expect("the connection stands"), Some(Packet::PubAck(_))));
    }
    let disk = gateway.data_bytes("spool.db") + gateway.data_bytes("spool.db-wal");
    assert!(disk <= 1_200_000, "{disk} bytes for a limit of 1 MiB");
    broker.restart();
    cloud.wait("the newest message", secs(30), |s| s.rows.iter().any(|r| r.values.get("n") == Some(&total.into())).then_some(()));
    // What did not arrive is named by gap events, number by number.
    crate::wait::until("every number accounted for", secs(10), || cloud.seen().missing().is_empty().then_some(()));
    let seen = cloud.seen();
    seen.assert_sound();
    let gaps = seen.events_of("gap");
    let dropped: u64 = gaps.iter().filter_map(|g| g["samples"].as_u64()).sum();
    let arrived = seen.rows.iter().filter(|r| r.values.contains_key("n")).count() as u64;
    eprintln!("{arrived} of {total} arrived, {dropped} samples in {} gap events, {disk} bytes on disk", gaps.len());
    assert_eq!(2 * arrived + dropped, 2 * total, "two samples per message, each arrived or announced");
    drop(seen);
    drop(gateway);
}
