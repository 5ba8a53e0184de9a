//! What systemd hears: ready once it runs, the watchdog fed while it turns, stopping before it ends, waiting where it crashes
//! again and again.

use crate::{
    broker::Mosquitto,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    wait::secs,
};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;

/// The next message that contains `word`.
#[track_caller]
fn hear(socket: &UnixDatagram, word: &str) {
    let mut buffer = [0; 4096];
    loop {
        let n = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no {word} within the time: {e}"));
        if String::from_utf8_lossy(&buffer[..n]).lines().any(|l| l == word) {
            return;
        }
    }
}

#[test]
fn systemd_hears_ready_watchdog_and_stopping() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a new socket");
    socket.set_read_timeout(Some(secs(10))).expect("a positive time");
    let devices = Devices::start(1);
    let broker = Mosquitto::start();
    let mut gateway = Gateway::new("notify", &(uplink(broker.port) + &counting_device("d", devices.ports[0], 4, "200ms")));
    gateway.start_with(&[("NOTIFY_SOCKET", &path.display().to_string()), ("WATCHDOG_USEC", "4000000")]);
    hear(&socket, "READY=1");
    hear(&socket, "WATCHDOG=1");
    hear(&socket, "WATCHDOG=1");
    gateway.signal(Signal::TERM);
    hear(&socket, "STOPPING=1");
}

#[test]
fn a_gateway_that_crashes_at_each_start_waits_and_one_that_was_stopped_does_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a new socket");
    socket.set_read_timeout(Some(secs(10))).expect("a positive time");
    let broker = Mosquitto::start();
    let mut gateway = Gateway::new("crashing", &uplink(broker.port));
    let (notify, folder) = (path.display().to_string(), dir.path().display().to_string());
    let environment = [("NOTIFY_SOCKET", notify.as_str()), ("RUNTIME_DIRECTORY", folder.as_str())];
    for _ in 0..3 {
        gateway.start_with(&environment);
        hear(&socket, "READY=1");
        gateway.kill();
    }
    gateway.start_with(&environment);
    hear(&socket, "STATUS=waits 1 s: the last 3 runs ended soon after their start");
    hear(&socket, "READY=1");
    gateway.stop();
    assert!(!dir.path().join("ended-badly").exists(), "a stop leaves no mark");
}
