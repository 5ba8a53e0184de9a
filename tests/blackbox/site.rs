//! Site tools do the same with the daemon stopped and running: on its line they take turns with its polls.

use crate::{
    field::{Bus, Devices},
    gateway::{Gateway, PROGRAM, counting_points},
    process::{Process, host},
    wait::{pause, secs, until},
};
use serde_json::Value as Json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

fn serial_config(path: &str, poll: &str) -> String {
    let line = format!("[line.bus]\nserial = {{ path = \"{path}\", baud = 19200, parity = \"none\" }}\n\n");
    line + &format!("[device.u1]\nline = \"bus\"\nunit = 1\npoll = \"{poll}\"\n{}", counting_points("u1", 10))
}

#[track_caller]
fn json(output: &std::process::Output) -> Json {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn read_answers_the_same_with_the_daemon_stopped_and_running() {
    let bus = Bus::start(3, 19_200);
    let mut gateway = Gateway::new("site-read", &serial_config(&bus.path, "50ms"));
    let wiring = ["-b", "19200", "--parity", "none"];
    for is_running in [false, true] {
        if is_running {
            gateway.start();
        }
        let turns = if is_running { "bus is in use by fieldgate; taking turns with it\n" } else { "" };
        let device = gateway.command(&["read", "u1", "--json"]);
        assert_eq!((device.status.code(), said(&device)), (Some(0), turns.to_owned()));
        let device = json(&device);
        assert_eq!((&device["device"], device["values"].as_array().map(Vec::len)), (&Json::from("u1"), Some(9)));
        assert!(device["values"][0]["value"].is_u64() && device["values"][0]["quality"] == "good", "{device}");

        let other = gateway.command(&[&["read", &bus.path, "-u", "2", "holding:2+2", "--json"], &wiring[..]].concat());
        assert_eq!(other.status.code(), Some(0), "{}", said(&other));
        assert_eq!(json(&other)["values"][1]["register"], "holding:3");

        let nobody = gateway.command(&[&["read", &bus.path, "-u", "9", "holding:2"], &wiring[..]].concat());
        assert_eq!(nobody.status.code(), Some(4), "{}", said(&nobody));
        let said = said(&nobody);
        assert!(said.contains("no answer from unit 9") && said.contains("heard: nothing") && said.contains("fieldgate scan"), "{said}");
    }
    let usage = gateway.command(&["read", "u1", "nothing"]);
    assert_eq!(usage.status.code(), Some(2), "{}", said(&usage));
}

#[test]
fn read_on_a_tcp_connection_that_the_daemon_holds_takes_turns_on_it() {
    let devices = Devices::start(1);
    let port = devices.ports[0];
    let config = format!("[device.d0]\ntcp = \"{}:{port}\"\nunit = 1\npoll = \"20ms\"\n{}", host(), counting_points("d0", 10));
    let gateway = Gateway::started("site-tcp", &config);
    until("it is polled", secs(20), || (!devices.reads().is_empty()).then_some(()));
    let place = format!("{}:{port}", host());
    let read = gateway.command(&["read", &place, "-u", "1", "holding:2+4", "--json"]);
    assert_eq!(read.status.code(), Some(0), "{}", said(&read));
    assert!(said(&read).contains("taking turns with it"), "{}", said(&read));
    assert_eq!(json(&read)["values"].as_array().map(Vec::len), Some(4));
}

#[test]
fn listen_beside_the_daemon_saves_frames_that_simulate_serves_again() {
    let devices = Devices::start(1);
    let port = devices.ports[0];
    let config = format!("[device.d0]\ntcp = \"{}:{port}\"\nunit = 1\npoll = \"50ms\"\n{}", host(), counting_points("d0", 10));
    let gateway = Gateway::started("site-listen", &config);
    until("it is polled", secs(20), || (!devices.reads().is_empty()).then_some(()));
    let file = gateway.config().with_file_name("frames");
    let file = file.to_str().expect("a plain path");
    let heard = gateway.command(&["listen", "d0", "--for", "1s", "--save", file, "--json"]);
    assert_eq!(heard.status.code(), Some(0), "{}", said(&heard));
    assert_eq!(json(&heard)["unit"], 1);
    assert!(said(&heard).contains("Clean: "), "{}", said(&heard));

    let mut replay = Process::start(
        "fieldgate simulate",
        std::process::Command::new(PROGRAM).args(["simulate", "--tcp", &format!("{}:0", host()), "--json", "--replay", file]),
    );
    let started: Json = serde_json::from_str(&replay.line(0, secs(10))).expect("an object");
    let place = started["tcp"][0].as_str().expect("an address").to_owned();
    let read = gateway.command(&["read", &place, "-u", "1", "holding:0+10", "--json"]);
    assert_eq!(read.status.code(), Some(0), "{}", said(&read));
    assert_eq!(json(&read)["values"].as_array().map(Vec::len), Some(10));
}

/// An unlock code, as it would be on the wire: 12 67.
const CODE: u16 = 0x1267;

#[test]
fn a_secret_that_is_written_shows_in_no_frame_and_no_saved_file() {
    let mut devices = Devices::start(1);
    let port = devices.ports[0];
    let secret = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(secret.path(), format!("{CODE}\n")).expect("a file");
    let setup = format!("setup = [{{ register = \"holding:120\", value = {{ file = \"{}\" }} }}]\n", secret.path().display());
    let device = format!("[device.d0]\ntcp = \"{}:{port}\"\nunit = 1\npoll = \"200ms\"\n{setup}", host());
    let gateway = Gateway::started("site-secret", &(device + &counting_points("d0", 10)));
    until("the code is written", secs(20), || (!devices.writes().is_empty()).then_some(()));
    until("it is polled", secs(20), || (!devices.reads().is_empty()).then_some(()));
    let file = gateway.config().with_file_name("frames");
    let heard = gateway.command(&["listen", "d0", "--for", "1s", "--save", file.to_str().expect("a plain path"), "-vv"]);
    assert_eq!(heard.status.code(), Some(0), "{}", said(&heard));
    let saved = std::fs::read_to_string(&file).expect("it was saved");
    let shown = [saved.clone(), String::from_utf8_lossy(&heard.stdout).into_owned(), said(&heard)].concat();
    assert!(saved.contains("> <secret>") && saved.contains(" < "), "{saved}");
    assert!(!shown.contains("12 67") && !shown.contains("1267") && !shown.contains(&CODE.to_string()), "{shown}");
}

#[test]
fn read_every_ends_in_order_at_an_interrupt_and_says_what_it_came_to() {
    let bus = Bus::start(1, 19_200);
    let gateway = Gateway::new("site-every", &serial_config(&bus.path, "1s"));
    let mut command = std::process::Command::new(PROGRAM);
    command.args(["read", "u1", "--every", "100ms", "--json", "--config"]).arg(gateway.config());
    let mut read = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut rows = std::io::BufRead::lines(std::io::BufReader::new(read.stdout.take().expect("piped")));
    for _ in 0..3 {
        rows.next().expect("a reading").expect("text");
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(read.id()).expect("small")).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let rest = rows.map(|row| row.expect("text")).all(|row| serde_json::from_str::<Json>(&row).is_ok());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut read.stderr.take().expect("piped"), &mut said).expect("text");
    assert_eq!(read.wait().expect("it ended").code(), Some(130), "{said}");
    assert!(rest && said.contains(" readings in ") && said.contains(", all answered, "), "{said}");
}

#[test]
fn listen_finds_settings_and_another_master_on_a_port() {
    // Before the master speaks: the gateway may have to wait for its turn on the machine.
    let gateway = Gateway::new("site-ear", "");
    let (ours, path) = pty();
    let is_done = Arc::new(AtomicBool::new(false));
    let is_over = is_done.clone();
    let master = std::thread::spawn(move || {
        // A master and its unit, heard by a third: read input 12, 2 words of unit 1.
        let ask = [1, 4, 0, 12, 0, 2, 0xb1, 0xc8];
        let reply = [1, 4, 4, 0x44, 0xa0, 0x86, 0x66, 0x0d, 0x1c];
        while !is_over.load(Ordering::Relaxed) {
            for frame in [&ask[..], &reply] {
                let _ = rustix::io::write(&ours, frame);
                pause(std::time::Duration::from_millis(25));
            }
        }
    });
    let heard = gateway.command(&["listen", &path, "--for", "2s"]);
    is_done.store(true, Ordering::Relaxed);
    master.join().expect("it spoke");
    let text = String::from_utf8_lossy(&heard.stdout).into_owned();
    assert_eq!(heard.status.code(), Some(0), "{text} {}", said(&heard));
    assert!(text.contains("unit 1") && text.contains("read input 12, 2 words"), "{text} {}", said(&heard));
    assert!(text.contains("A master is already on this bus"), "{text}");
}

fn pty() -> (rustix::fd::OwnedFd, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let path = ptsname(&ours, Vec::new()).expect("named").into_string().expect("ASCII");
    (ours, path)
}

#[test]
fn ports_lists_what_is_there_and_says_so_in_its_exit_code() {
    let gateway = Gateway::new("site-ports", "");
    let ports = gateway.command(&["ports", "--json"]);
    let found = json(&ports)["ports"].as_array().map_or(0, Vec::len);
    assert_eq!(ports.status.code(), Some(i32::from(found == 0)), "{}", said(&ports));
}
