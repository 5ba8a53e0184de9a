//! A file system of 16 MiB that others fill: polling, state, commands and events go on, and every sample is accounted for.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, uplink},
    process::host,
    wait::{now, pause, scaled, secs, until},
};
use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

const REGISTERS: usize = 100;
const DEVICES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// In a file behind a loop device.
    Ext4,
    Tmpfs,
}

/// Gone again when it goes out of scope.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: mounting is not allowed here.
    fn over(dir: &Path, kind: Kind) -> Option<SmallDisk> {
        let image = dir.with_file_name("disk.img");
        let mounted = match kind {
            Kind::Tmpfs => run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "fieldgate-test"]).arg(dir)),
            Kind::Ext4 => File::create(&image)
                .and_then(|f| f.set_len(16 << 20))
                .map_err(|e| e.to_string())
                .and_then(|()| run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image)))
                .and_then(|()| run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(dir))),
        };
        mounted.inspect_err(|e| eprintln!("skipped: {kind:?} of 16 MiB needs root and mount: {e}")).ok().map(|()| SmallDisk(dir.to_owned()))
    }

    /// To the last byte, as somebody else's log would.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.0.join("somebody-else")).expect("a file");
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("somebody-else")).expect("it was there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|e| e.to_string())?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()) }
}

fn config(port: u16, devices: &Devices) -> String {
    let mut out = uplink(port) + "[buffer]\nwindow = \"200ms\"\ndisk_max = \"1MiB\"\nthin_window = \"2s\"\n\n";
    for (n, port) in devices.ports.iter().enumerate() {
        let _ = write!(out, "[device.d{n}]\ntcp = \"{}:{port}\"\nunit = 1\ntimeout = \"5s\"\npoll = \"100ms\"\n", host());
        let _ = write!(out, "[device.d{n}.point.c]\nregister = \"holding:0\"\ntype = \"u32\"\n");
        for r in 2..REGISTERS {
            let _ = write!(out, "[device.d{n}.point.r{r}]\nregister = \"holding:{r}\"\ntype = \"u16\"\n");
            if r == REGISTERS - 1 {
                out.push_str("write = { min = 0, max = 100 }\n");
            }
        }
    }
    out
}

/// Samples that were read, up to the last read of each device that arrived.
fn polled(cloud: &Cloud) -> u64 {
    let seen = cloud.seen();
    let highest = |n| seen.counters(&format!("d{n}")).into_iter().max().unwrap_or(0);
    (0..DEVICES).map(highest).sum::<u64>() * (REGISTERS as u64 - 1)
}

#[test]
fn a_full_ext4_stops_nothing_and_every_sample_is_accounted_for() {
    on(Kind::Ext4);
}

#[test]
fn a_full_tmpfs_stops_nothing_and_every_sample_is_accounted_for() {
    on(Kind::Tmpfs);
}

fn on(kind: Kind) {
    let devices = Devices::start(DEVICES);
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "full-fs");
    let mut gateway = Gateway::new("full-fs", &config(broker.port, &devices));
    let Some(disk) = SmallDisk::over(&gateway.data_dir(), kind) else { return };
    gateway.start();
    cloud.wait_online();
    pause(secs(2));

    broker.kill();
    disk.fill();
    let filled = now();
    pause(secs(scaled(30, 120)));
    let polls = devices.reads().len();
    // A command that a person gives here: its event and its result are written on the full disk.
    let write = gateway.command(&["write", "d0", &format!("r{}=77", REGISTERS - 1), "--yes"]);
    assert_eq!(write.status.code(), Some(0), "{}", String::from_utf8_lossy(&write.stderr));
    pause(secs(2));
    assert!(devices.reads().len() > polls + DEVICES * 10, "polling goes on");
    let status = gateway.command(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).expect("status is JSON");
    let online: u64 = status["lines"].as_array().into_iter().flatten().filter_map(|l| l["online"].as_u64()).sum();
    assert_eq!(online, DEVICES as u64, "the states go on: {status}");
    eprintln!("{kind:?} full for {} s: spool.db {} KiB", (now() - filled).as_secs(), gateway.data_bytes("spool.db") >> 10);

    disk.free();
    until("the reserve is back", secs(30), || (gateway.data_bytes("reserve") == 1 << 20).then_some(()));
    let saved = gateway.data_bytes("spool.db");
    until("the spool grows again", secs(60), || (gateway.data_bytes("spool.db") > saved + (64 << 10)).then_some(()));
    broker.restart();
    pause(secs(3));
    let sum = || {
        let of = cloud.seen().account();
        (polled(&cloud), of.arrived + of.given_up)
    };
    let end = now() + secs(60);
    loop {
        let (polled, told) = sum();
        let told_of_all = cloud.seen().missing().is_empty() && !cloud.seen().events_of("gap").is_empty();
        if polled == told && told_of_all {
            break;
        }
        assert!(now() < end, "{polled} samples were read, {told} arrived or were told of; {:?}", cloud.seen().missing());
        pause(secs(1));
    }
    let seen = cloud.seen();
    seen.assert_sound();
    let commands = seen.events_of("command");
    assert!(commands.iter().any(|e| e["phase"] == "confirmed" || e["phase"] == "done"), "the command's event came: {commands:?}");
    let of = seen.account();
    eprintln!(
        "{} reads; {} samples arrived or stood for, {} of them left out by thinning, {} given up, {} gap events",
        devices.reads().len(),
        of.arrived,
        of.left_out,
        of.given_up,
        seen.events_of("gap").len()
    );
    assert!(of.left_out > 0, "nothing was thinned");
    drop(seen);

    // And a start on a full disk works.
    disk.fill();
    let (_, code) = gateway.stop();
    assert_eq!(code, Some(0));
    disk.fill();
    gateway.start();
    cloud.wait("the epoch of the second start", secs(20), |s| (s.epochs().len() == 2).then_some(()));
    drop(gateway);
    drop(disk);
}
