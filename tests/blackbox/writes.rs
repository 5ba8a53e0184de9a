//! Writes of several steps reach a server that is not ours as a manual asks for them.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, uplink},
    mqtt,
    process::host,
    wait::{pause, secs, until, wall_ms},
};
use serde_json::{Value as Json, json};
use std::time::Duration;

struct Plant {
    _gateway: Gateway,
    cloud: Cloud,
    broker: Mosquitto,
    devices: Devices,
    id: String,
}

fn plant(id: &str, device: &str, points: &str) -> Plant {
    let devices = Devices::start(1);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, id);
    let place = format!("[device.plc]\ntcp = \"{}:{}\"\nunit = 1\ntimeout = \"5s\"\npoll = \"200ms\"\n", host(), devices.ports[0]);
    let gateway = Gateway::started(id, &(uplink(broker.port) + &place + device + points));
    cloud.wait_online();
    cloud.wait("a first value", secs(10), |s| (!s.rows.is_empty()).then_some(()));
    Plant { _gateway: gateway, cloud, broker, devices, id: id.to_owned() }
}

impl Plant {
    /// The phase and reason in which the command ended.
    #[track_caller]
    fn command(&self, id: &str, values: &Json) -> (String, String) {
        let body = json!({"id": id, "device": "plc", "write": values, "issued_at": wall_ms(), "expires_in_s": 60});
        mqtt::command(self.broker.port, &self.id, &[body]);
        let word = |e: &Json, key: &str| e[key].as_str().unwrap_or_default().to_owned();
        self.cloud.wait(&format!("a result of {id}"), secs(20), |s| {
            let ended = |e: &&&Json| e["id"] == id && !matches!(e["phase"].as_str(), Some("accepted" | "sent"));
            s.events_of("command").iter().find(ended).map(|e| (word(e, "phase"), word(e, "reason")))
        })
    }
}

#[test]
fn groups_and_bits_go_out_as_one_request_each() {
    let points = "[device.plc.point.c]\nregister = \"holding:2\"\ntype = \"u16\"\n\
        [device.plc.point.a]\nregister = \"holding:100\"\ntype = \"u16\"\nwrite = { group = \"window\" }\n\
        [device.plc.point.b]\nregister = \"holding:101\"\ntype = \"u16\"\nwrite = { group = \"window\" }\n\
        [device.plc.point.bits]\nregister = \"holding:110\"\ntype = \"bits:4-7\"\nwrite = true\n\
        [device.plc.point.mask]\nregister = \"holding:110\"\ntype = \"bits:8-11\"\nwrite = { function = 22 }\n\
        [device.plc.point.all]\nregister = \"holding:110\"\ntype = \"u16\"\nwrite = { if_changed = true }\n";
    let mut plant = plant("writes", "", points);
    let confirmed = ("confirmed".to_owned(), String::new());
    for (id, values) in [
        ("1", json!({"a": 5, "b": 6})),
        ("2", json!({"b": 7})),
        ("3", json!({"all": 0x1234})),
        ("4", json!({"bits": 9})),
        ("5", json!({"mask": 10})),
        ("6", json!({"all": 0x1a94})),
    ] {
        assert_eq!(plant.command(id, &values), confirmed, "{values}");
    }
    let want = [
        (16, 100, vec![5, 6]),
        (16, 100, vec![5, 7]),
        (6, 110, vec![0x1234]),
        (6, 110, vec![0x1294]),
        (22, 110, vec![0x1a94]),
        // The sixth was there already.
    ];
    assert_eq!(plant.devices.writes(), want);
}

#[test]
fn a_setup_is_sent_after_each_connection_and_a_watchdog_is_fed_until_nobody_commands() {
    let setup = "setup = [{ register = \"holding:120\", value = 7 }, { register = \"holding:121\", words = [1, 2] }]\n";
    let points = "[device.plc.point.c]\nregister = \"holding:2\"\ntype = \"u16\"\n\
        [device.plc.point.limit]\nregister = \"holding:100\"\ntype = \"u16\"\nwrite = { refresh = \"500ms\", refresh_for = \"3s\" }\n";
    let mut plant = plant("setup", setup, points);
    let once = [(6, 120, vec![7]), (16, 121, vec![1, 2])];
    assert_eq!(plant.devices.writes(), once);
    plant.devices.part(0);
    until("the setup is sent again", secs(10), || (plant.devices.writes().len() == 4).then_some(()));
    assert_eq!(plant.devices.writes()[2..], once);
    assert_eq!(plant.command("1", &json!({"limit": 16})).0, "confirmed");
    let stopped = plant.cloud.wait("the end of the refresh", secs(20), |s| s.events_of("refresh_stopped").first().map(|e| (*e).clone()));
    assert_eq!((stopped["point"].as_str(), stopped["reason"].as_str()), (Some("limit"), Some("no new command for 3 s")));
    let fed = plant.devices.writes().len() - 4;
    assert!((4..=7).contains(&fed), "the command and one write for each 500 ms of 3 s: {fed}");
    assert!(plant.devices.writes()[4..].iter().all(|w| *w == (6, 100, vec![16])));
    // Nothing more comes; this is time that is tested.
    pause(Duration::from_millis(1500));
    assert_eq!(plant.devices.writes().len() - 4, fed);
}
