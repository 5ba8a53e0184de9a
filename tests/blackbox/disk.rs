//! Promise: a database that is damaged in the field is replaced while the gateway goes on, and the gateway says so.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, PROGRAM, counting_device, uplink},
    process::Process,
    wait::{secs, until},
};
mod shim;
mod weak;

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

fn file(gateway: &Gateway, name: &str) -> PathBuf {
    gateway.config().with_file_name("data").join(name)
}

fn status(gateway: &Gateway) -> Value {
    serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).unwrap_or_default()
}

fn state_of(gateway: &Gateway, name: &str) -> String {
    let document = status(gateway);
    let files = document["store"].as_array().cloned().unwrap_or_default();
    files.iter().find(|f| f["file"] == name).map_or_else(String::new, |f| f["state"].as_str().unwrap_or("").to_owned())
}

/// Of both databases.
const PAGE: u64 = 1024;

fn overwrite(path: &Path, from: u64, len: u64) {
    let open = fs::OpenOptions::new().write(true).open(path).expect("a database that can be written");
    let garbage: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8 + 1).collect();
    open.write_all_at(&garbage, from / PAGE * PAGE).expect("a database that can be written");
}

struct Plant {
    gateway: Gateway,
    cloud: Cloud,
    broker: Mosquitto,
    _devices: Devices,
}

fn plant(id: &str) -> Plant {
    plant_with(id, Gateway::start)
}

fn plant_with(id: &str, start: impl FnOnce(&mut Gateway)) -> Plant {
    plant_of(Gateway::new(id, ""), id, start)
}

/// One device, polled ten times a second; `start` starts it.
fn plant_of(mut gateway: Gateway, id: &str, start: impl FnOnce(&mut Gateway)) -> Plant {
    let devices = Devices::start(1);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, id);
    gateway.configure(&(uplink(broker.port) + &counting_device("d0", devices.ports[0], 50, "100ms")));
    start(&mut gateway);
    cloud.wait_online();
    Plant { gateway, cloud, broker, _devices: devices }
}

impl Plant {
    #[track_caller]
    fn goes_on(&self) {
        let before = self.cloud.seen().rows.len();
        self.cloud.wait("values after it", secs(30), |s| (s.rows.len() > before + 20).then_some(()));
    }

    #[track_caller]
    fn says_quarantined(&self, name: &str) {
        until("status says that it was replaced", secs(60), || (state_of(&self.gateway, name) == "quarantined").then_some(()));
        let kept = file(&self.gateway, &format!("{name}.corrupt-1"));
        assert!(kept.exists(), "{} is not there", kept.display());
        self.cloud.wait("a store event", secs(30), |s| {
            s.events_of("store").iter().any(|e| e["file"] == name && e["state"] == "quarantined").then_some(())
        });
        let words = String::from_utf8_lossy(&self.gateway.command(&["status"]).stdout).into_owned();
        assert!(words.contains(&format!("{name} was damaged and begun anew")), "{words}");
    }
}

#[test]
fn a_spool_overwritten_while_it_is_used_is_replaced_and_values_go_on() {
    let mut plant = plant("disk-spool");
    plant.broker.kill();
    until("telemetry waits on the disk", secs(60), || {
        let d = status(&plant.gateway);
        (d["spool"]["commits"].as_u64() > Some(6)).then_some(())
    });
    let path = file(&plant.gateway, "spool.db");
    // What is in the log is read from there: the file alone is a part of it.
    for name in ["spool.db", "spool.db-wal"] {
        let path = file(&plant.gateway, name);
        let size = fs::metadata(&path).expect("the spool is there").len();
        overwrite(&path, PAGE, size.saturating_sub(PAGE));
    }
    assert!(path.exists());
    plant.broker.restart();
    plant.says_quarantined("spool.db");
    plant.goes_on();
    plant.cloud.seen().assert_sound();
}

#[test]
fn a_state_of_garbage_at_the_start_is_replaced_and_said() {
    let mut plant = plant("disk-state");
    plant.goes_on();
    plant.gateway.stop();
    let path = file(&plant.gateway, "state.db");
    let size = fs::metadata(&path).expect("it is there").len();
    overwrite(&path, PAGE, size - PAGE);
    plant.gateway.start();
    plant.says_quarantined("state.db");
    plant.goes_on();
    plant.cloud.seen().assert_sound();
}

#[test]
fn data_of_a_newer_program_ends_the_start_with_a_sentence_and_stays_as_it_is() {
    let mut gateway = Gateway::started("disk-newer", "");
    gateway.stop();
    let path = file(&gateway, "state.db");
    // The number of the schema, and who brought it there: bytes 60 and 68 of the header.
    let open = fs::OpenOptions::new().write(true).open(&path).expect("it is there");
    open.write_all_at(&99u32.to_be_bytes(), 60).expect("it can be written");
    open.write_all_at(&0x4002_00c5_u32.to_be_bytes(), 68).expect("it can be written");
    let before = fs::read(&path).expect("it can be read");
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg("--config").arg(gateway.config());
    let mut process = Process::start("fieldgate", &mut command);
    let code = process.wait_end(secs(20)).code();
    until("it says why", secs(5), || process.said().contains("was written by fieldgate 2.3.5").then_some(()));
    assert_eq!(code, Some(78), "{}", process.said());
    assert!(process.said().contains("install that version or a newer one"), "{}", process.said());
    assert!(fs::read(&path).expect("it can be read") == before, "it was written to");
}
