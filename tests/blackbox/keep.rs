//! A gateway is saved while it runs, goes on elsewhere, and is wiped.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    wait::{secs, until},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// With a secret in its folder.
fn gateway(id: &str, broker: u16, device: u16) -> Gateway {
    let login = "username = \"anna\"\npassword = { file = \"secrets/cloud\" }\n\n";
    let config = uplink(broker).trim_end().to_owned() + "\n" + login + &counting_device("d0", device, 8, "200ms");
    let gateway = Gateway::new(id, &config);
    let secret = gateway.config().with_file_name("secrets").join("cloud");
    fs::create_dir(secret.parent().expect("a folder")).expect("a new folder");
    fs::write(&secret, "marker-of-the-cloud").expect("a file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is ours");
    gateway
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_spare_goes_on_where_the_backup_was_made_and_loses_nothing_that_waited() {
    let mut broker = Mosquitto::start();
    let devices = Devices::start(1);
    let cloud = Cloud::watch(broker.port, "kept");
    let mut first = gateway("kept", broker.port, devices.ports[0]);
    first.start();
    cloud.wait("values", secs(20), |s| (s.rows.len() > 10).then_some(()));
    broker.stop();
    until("telemetry waits on the disk", secs(30), || (first.data_bytes("spool.db") > 40_000).then_some(()));
    let waits = |gateway: &Gateway| -> u64 {
        let status = gateway.command(&["status", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&status.stdout).expect("one document");
        json["spool"]["waiting"].as_u64().or_else(|| json["spool"]["waiting_samples"].as_u64()).unwrap_or_default()
    };
    let waiting = waits(&first);
    let file = first.config().with_file_name("gateway.tar");
    let name = file.to_str().expect("a plain path");
    let saved = first.command(&["backup", name]);
    assert_eq!(saved.status.code(), Some(0), "{}", said(&saved));
    assert_eq!(mode(&file), 0o600, "it holds secrets");
    assert_eq!(first.command(&["backup", name]).status.code(), Some(5), "nothing is overwritten");
    first.kill();

    // The spare, with another configuration, name and data.
    let other = devices.ports[0];
    let mut spare = gateway("spare", broker.port, other);
    spare.configure("[device.only_here]\ntcp = \"127.0.0.1:1\"\nunit = 1\npoll = \"1h\"\n[device.only_here.point.a]\nregister = \"holding:0\"\ntype = \"u16\"\n");
    spare.start();
    assert_eq!(spare.command(&["restore", name, "--yes"]).status.code(), Some(5), "a daemon runs on what would be replaced");
    assert!(fs::read_to_string(spare.config()).expect("a file").contains("only_here"), "nothing was changed");
    spare.stop();
    let asked = spare.command(&["restore", name]);
    assert_eq!(asked.status.code(), Some(2), "nobody was there to agree: {}", said(&asked));
    // Its own places: what was saved names those of the first machine, which is gone.
    let data = first.data_dir();
    for folder in [&data, &data.with_file_name("run")] {
        fs::remove_dir_all(folder).expect("it was there");
        fs::create_dir(folder).expect("it can be made again");
    }
    let restored = spare.command(&["restore", name, "--yes"]);
    assert_eq!(restored.status.code(), Some(0), "{}", said(&restored));
    assert!(!fs::read_to_string(spare.config()).expect("a file").contains("only_here"), "the configuration is the saved one");
    let secret = spare.config().with_file_name("secrets").join("cloud");
    assert_eq!((fs::read_to_string(&secret).expect("it came along").as_str(), mode(&secret)), ("marker-of-the-cloud", 0o600));
    assert!(data.join("before-restore/config/fieldgate.toml").exists(), "what was there is kept");
    spare.start();
    assert!(waits(&spare) >= waiting, "{} of {waiting}", waits(&spare));
    broker.restart();
    until("all of it has come", secs(60), || (waits(&spare) < 50 && !cloud.seen().rows.is_empty()).then_some(()));
    cloud.wait("two epochs", secs(20), |s| (s.epochs().len() == 2).then_some(()));
    cloud.seen().assert_sound();
    spare.stop();
}

#[test]
fn what_is_no_whole_backup_or_a_newer_one_changes_nothing() {
    let broker = Mosquitto::start();
    let gateway = gateway("unkept", broker.port, 1);
    let file = gateway.config().with_file_name("gateway.tar");
    let name = file.to_str().expect("a plain path").to_owned();
    assert_eq!(gateway.command(&["backup", &name]).status.code(), Some(0));
    let whole = fs::read(&file).expect("it was made");
    let before = fs::read(gateway.config()).expect("a file");
    let at = whole.windows(5).position(|w| w == b"\"v\":1").expect("a manifest");
    let newer = [&whole[..at], b"\"v\":9", &whole[at + 5..]].concat();
    for (what, bytes) in [("cut", &whole[..whole.len() - 700]), ("newer", &newer), ("other", b"something else"), ("empty", b"")] {
        fs::write(&file, bytes).expect("it can be written");
        let restored = gateway.command(&["restore", &name, "--yes"]);
        assert_eq!(restored.status.code(), Some(5), "{what}: {}", said(&restored));
        assert_eq!(fs::read(gateway.config()).expect("a file"), before, "{what}");
        assert!(!gateway.config().with_file_name(".restore-new").exists() && !gateway.data_dir().join("restore-new").exists(), "{what}");
    }
}

#[test]
fn a_reset_wipes_configuration_secrets_and_data_and_says_what_remains() {
    let broker = Mosquitto::start();
    let devices = Devices::start(1);
    let cloud = Cloud::watch(broker.port, "wiped");
    let mut gateway = gateway("wiped", broker.port, devices.ports[0]);
    gateway.start();
    cloud.wait("values", secs(20), |s| (!s.rows.is_empty()).then_some(()));
    assert_eq!(gateway.command(&["factory-reset", "--yes"]).status.code(), Some(5), "it runs");
    gateway.stop();
    let mine = gateway.data_dir().join("holiday.jpg");
    fs::write(&mine, "x").expect("a file");
    assert_eq!(gateway.command(&["factory-reset"]).status.code(), Some(2), "nobody was there to agree");
    assert!(gateway.config().exists());
    let reset = gateway.command(&["factory-reset", "--yes"]);
    assert_eq!(reset.status.code(), Some(0), "{}", said(&reset));
    assert!(said(&reset).contains("holiday.jpg") && said(&reset).contains("flash"), "{}", said(&reset));
    let left: Vec<_> = fs::read_dir(gateway.data_dir()).expect("it is there").map(|e| e.expect("readable").path()).collect();
    assert_eq!(left, [mine]);
    assert!(!gateway.config().exists() && !gateway.config().with_file_name("secrets").join("cloud").exists());
}
