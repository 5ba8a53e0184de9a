//! A file system of 16 MiB that others fill: polling, state, commands and events go on, and every sample is accounted for.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::{Devices, Read},
    gateway::{Gateway, uplink},
    process::host,
    wait::{now, pause, scaled, secs, wall_ms},
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

const REGISTERS: usize = 100;
const DEVICES: usize = 5;

/// Gone again when it goes out of scope.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: mounting is not allowed here.
    fn over(dir: &Path) -> Option<SmallDisk> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "fieldgate-test"]).arg(dir).output();
        match mounted {
            Ok(out) if out.status.success() => Some(SmallDisk(dir.to_owned())),
            Ok(out) => {
                eprintln!("skipped: a file system of 16 MiB needs root: {}", String::from_utf8_lossy(&out.stderr));
                None
            }
            Err(e) => {
                eprintln!("skipped: there is no mount: {e}");
                None
            }
        }
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

fn config(port: u16, devices: &Devices) -> String {
    let mut out = uplink(port) + "[buffer]\nwindow = \"200ms\"\nthin_window = \"2s\"\n\n";
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

/// Reads that arrived in no row, as samples.
fn not_arrived(cloud: &Cloud, reads: &[Read]) -> u64 {
    let seen = cloud.seen();
    let arrived: BTreeSet<(String, u64)> =
        seen.rows.iter().filter_map(|r| Some((r.device.clone(), r.values.get("c")?.as_u64()?))).collect();
    let missing = reads.iter().filter(|r| !arrived.contains(&(format!("d{}", r.device), r.counter))).count();
    (missing * (REGISTERS - 1)) as u64
}

#[test]
fn a_full_file_system_stops_nothing_and_every_sample_is_accounted_for() {
    let devices = Devices::start(DEVICES);
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "full-fs");
    let mut gateway = Gateway::new("full-fs", &config(broker.port, &devices));
    let Some(disk) = SmallDisk::over(&gateway.data_dir()) else { return };
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

    eprintln!("full for {} s: spool.db {} KiB", (now() - filled).as_secs(), gateway.data_bytes("spool.db") >> 10);

    disk.free();
    pause(secs(scaled(12, 30)));
    assert_eq!(gateway.data_bytes("reserve"), 1 << 20, "the reserve is back");
    broker.restart();
    let due = wall_ms();
    pause(secs(1));
    let reads: Vec<Read> = devices.reads().into_iter().filter(|r| r.at_ms < due).collect();
    let sum = || (not_arrived(&cloud, &reads), cloud.seen().left_out() + cloud.seen().given_up());
    let end = now() + secs(40);
    loop {
        let (missing, told) = sum();
        if missing == told && cloud.seen().missing().is_empty() && !cloud.seen().events_of("gap").is_empty() {
            break;
        }
        assert!(now() < end, "{missing} samples did not arrive and {told} were told of; {:?}", cloud.seen().missing());
        pause(secs(1));
    }
    let seen = cloud.seen();
    seen.assert_sound();
    let commands = seen.events_of("command");
    assert!(commands.iter().any(|e| e["phase"] == "confirmed" || e["phase"] == "done"), "the command's event came: {commands:?}");
    eprintln!(
        "{} reads; {} samples left out by thinning, {} given up, {} gap events",
        reads.len(),
        seen.left_out(),
        seen.given_up(),
        seen.events_of("gap").len()
    );
    assert!(seen.left_out() > 0, "nothing was thinned");
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
