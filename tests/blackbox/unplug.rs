//! An adapter that is pulled and comes back under the same by-id name: the daemon polls on, and says one thing each time.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    field::Bus,
    gateway::{Gateway, counting_points, uplink},
    wait::{now, pause, punctual, secs},
};
use std::{fs, os::unix::fs::symlink};

fn states(seen: &Seen) -> Vec<String> {
    let lines = seen.events_of("line");
    lines.iter().filter(|e| e["line"] == "bus").map(|e| e["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_pulled_adapter_is_one_event_and_its_return_another_and_polling_resumes_within_two_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let by_id = dir.path().join("by-id");
    let link = by_id.join("usb-FTDI_FT232R_A50285BI-if00-port0");
    let plug = |bus: &Bus| {
        fs::create_dir(&by_id).expect("as udev does");
        symlink(&bus.path, &link).expect("linked");
    };
    let bus = Bus::start(1, 19_200);
    plug(&bus);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "unplug");
    let line = format!("[line.bus]\nserial = {{ path = \"{}\", baud = 19200, parity = \"none\" }}\n\n", link.display());
    // Polled without a pause, so that it is pulled in the middle of a frame.
    let device = format!("[device.u1]\nline = \"bus\"\nunit = 1\npoll = \"20ms\"\n{}", counting_points("u1", 40));
    let gateway = Gateway::started("unplug", &(uplink(broker.port) + &line + &device));
    cloud.wait("a first value", secs(30), |s| (!s.counters("u1").is_empty()).then_some(()));

    drop(bus);
    cloud.wait("the line is down", secs(10), |s| (states(s).last().map(String::as_str) == Some("down")).then_some(()));
    fs::remove_dir_all(&by_id).expect("removed");
    pause(secs(3));
    let mut bus = Bus::start(1, 19_200);
    let back = now();
    plug(&bus);
    let took = crate::wait::until("the unit is read again", secs(30), || (bus.reads().values().sum::<u64>() > 0).then(|| now() - back));
    eprintln!("read again {} ms after its name appeared", took.as_millis());
    punctual("read again", took, secs(2));
    cloud.wait("the line is up again", secs(10), |s| (states(s).last().map(String::as_str) == Some("up")).then_some(()));
    pause(secs(1));
    assert_eq!(states(&cloud.seen()), ["up", "down", "up"]);
    drop(gateway);
}
