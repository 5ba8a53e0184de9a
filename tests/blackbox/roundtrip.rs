//! How long a command takes from the cloud to the register and its result back: on an idle line, and on one that is never.
//!
//! Printed beside it is what nobody can avoid: the time on the wire, and two commits on this disk.

use crate::{
    broker::Mosquitto,
    gateway::{Gateway, uplink},
    mqtt::{Client, Login, Packet},
    rules::Units,
    turn,
    wait::{millis, now, of_hundred, pause, punctual, scaled, secs, until},
};
use serde_json::{Value as Json, json};
use std::{path::Path, sync::atomic::Ordering, time::Duration};

/// Registers of the meter that is read without a pause, and what one such read takes at 115200 baud.
const METER: u64 = 20;
const TRANSACTION: Duration = Duration::from_micros(95 * (8 + 5 + 2 * METER));

fn config(units: &Units, busy: bool) -> String {
    let mut config = format!("[line.bus]\nserial = {{ path = \"{}\", baud = 115200, parity = \"even\" }}\n", units.path);
    config += "[device.relays]\nline = \"bus\"\nunit = 2\npoll = \"10m\"\n";
    config += "[device.relays.point.k1]\nregister = \"coil:0\"\ntype = \"bool\"\nwrite = true\n";
    if busy {
        config += "[device.meter]\nline = \"bus\"\nunit = 3\npoll = \"0s\"\n";
        for n in 0..METER {
            config += &format!("[device.meter.point.p{n}]\nregister = \"holding:{n}\"\ntype = \"u16\"\n");
        }
    }
    config
}

#[derive(Debug)]
struct Took {
    /// From the publication to the result, sorted.
    trips: Vec<Duration>,
    /// On the wire, of one command.
    wire: Duration,
    /// Of each, how many reads began on the line from its publication to its write, sorted.
    reads: Vec<u64>,
}

/// Commands one after the other, each with another value than the one before.
fn trips(id: &str, busy: bool, count: u64) -> Took {
    let (units, broker) = (Units::start(), Mosquitto::start());
    let gateway = Gateway::started(id, &(uplink(broker.port) + &config(&units, busy)));
    let mut cloud = Client::connect(broker.port, &Login { id: "cloud", ..Login::default() }).expect("mosquitto takes it");
    cloud.subscribe(&format!("fieldgate/{id}/event")).expect("sent");
    until("the line works", secs(20), || {
        let status: Json = serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).unwrap_or_default();
        (status["uplinks"][0]["state"] == "up" && units.wire.load(Ordering::Relaxed) > 0).then_some(())
    });
    pause(secs(1));
    let (mut trips, mut reads, before) = (Vec::new(), Vec::new(), units.wire.load(Ordering::Relaxed));
    for n in 0..count {
        let command = json!({"id": format!("{id}-{n}"), "device": "relays", "write": {"k1": n % 2 == 0}, "expires_in_s": 60});
        let (sent, began) = (now(), units.reads.load(Ordering::SeqCst));
        cloud.publish(&format!("fieldgate/{id}/command"), command.to_string().as_bytes()).expect("mosquitto reads");
        let ended = until("the result", secs(20), || match cloud.next(secs(5)).expect("mosquitto stays") {
            Some(Packet::Publish { body, .. }) => ended(&body, &format!("{id}-{n}")).then(now),
            _ => None,
        });
        trips.push(ended - sent);
        reads.push(units.last_write().expect("it was confirmed").reads - began);
        // Not in step with anything.
        pause(Duration::from_millis(20 + n % 13));
    }
    let wire = units.wire.load(Ordering::Relaxed) - before;
    trips.sort();
    reads.sort();
    Took { trips, wire: Duration::from_micros(wire / count), reads }
}

/// Whether it says that the command was done.
fn ended(body: &[u8], id: &str) -> bool {
    let message: Json = serde_json::from_slice(body).expect("JSON");
    let events = message["events"].as_array().into_iter().flatten();
    let mut of_it = events.filter(|e| e["type"] == "command" && e["id"] == id);
    of_it.any(|e| {
        assert_eq!(e["phase"], "confirmed", "{e}");
        true
    })
}

/// What one row costs until it is safe on the disk below a folder, sorted.
fn commits(folder: &Path, count: usize) -> Vec<Duration> {
    let db = rusqlite::Connection::open(folder.join("commits.db")).expect("a database");
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE row (n INTEGER, text TEXT)").expect("a table");
    let one = |n: usize| {
        let begun = now();
        db.execute("INSERT INTO row VALUES (?1, ?2)", rusqlite::params![n as i64, "x".repeat(200)]).expect("a row");
        now() - begun
    };
    let mut took: Vec<Duration> = (0..count).map(one).collect();
    took.sort();
    took
}

#[test]
fn a_command_takes_the_wire_two_commits_and_little_more() {
    let _alone = scaled(None, Some(turn::alone()));
    let count = scaled(12, 500);
    let idle = trips("trip-idle", false, count);
    let folder = tempfile::tempdir().expect("a folder");
    let commits = commits(folder.path(), scaled(20, 500));
    let busy = trips("trip-busy", true, count);
    println!("{count} commands on an idle line at 115200 baud, from the cloud and back:");
    for percent in [50, 99] {
        let (trip, commit) = (of_hundred(&idle.trips, percent), of_hundred(&commits, percent));
        let rest = millis(trip) - millis(idle.wire) - 2.0 * millis(commit);
        println!(
            "  {percent} %: {:.1} ms, of which {:.1} ms on the wire and {:.1} ms for two commits on this disk: {rest:.1} ms beyond them",
            millis(trip),
            millis(idle.wire),
            2.0 * millis(commit)
        );
        println!(
            "  {percent} %: {:.1} ms on a line that is never idle, {:+.1} ms; one transaction there takes {:.1} ms",
            millis(of_hundred(&busy.trips, percent)),
            millis(of_hundred(&busy.trips, percent)) - millis(trip),
            millis(TRANSACTION)
        );
    }
    let (at_once, one) = (busy.reads.partition_point(|n| *n < 1), busy.reads.partition_point(|n| *n < 2));
    println!(
        "  on the line that is never idle, from its publication to its write: no read began for {at_once} of them, one for {}, more for {}",
        one - at_once,
        busy.reads.len() - one
    );
    // The one that begins while a command is on its way to the line, and one more; beside other tests that way may take long.
    assert!(busy.reads[busy.reads.len() / 2] <= scaled(20, 2), "reads go before commands: {:?}", busy.reads);
    let (half, waits) = (of_hundred(&idle.trips, 50), of_hundred(&busy.trips, 50));
    punctual("half of them on an idle line", half, idle.wire + 2 * of_hundred(&commits, 99) + Duration::from_millis(100));
    punctual("half of them on a line that is never idle", waits, half + 20 * TRANSACTION);
}
