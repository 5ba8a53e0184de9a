//! Online state as a user sees it: nobody is called offline whom nobody could have seen, a line speaks for its devices, what
//! flaps is one alarm, and what a person says outlives a kill.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, counting_points, uplink},
    mqtt::{Client, Login},
    process::{free_port, host},
    publishers::listening,
    wait::{pause, secs, until},
};
use rustix::process::Signal;
use serde_json::Value as Json;

fn client(port: u16, id: &str) -> Client {
    Client::connect(port, &Login { id, ..Login::default() }).expect("the endpoint accepts")
}

fn say(client: &mut Client, device: &str, online: bool) {
    let payload = if online { b"online".as_slice() } else { b"offline" };
    client.publish(&format!("devices/say/{device}"), payload).expect("the endpoint reads");
}

fn routes(offline_after: &str) -> String {
    format!(
        "[mqtt.route.status]\ntopic = \"devices/say/{{device}}\"\nkind = \"status\"\ndefaults = {{ offline_after = \"{offline_after}\" }}\n\n"
    )
}

/// The one device of `fieldgate devices ID`.
fn device(gateway: &Gateway, id: &str) -> Json {
    let answer = gateway.command(&["devices", id, "--json"]);
    let answer: Json = serde_json::from_slice(&answer.stdout).expect("JSON");
    answer["devices"][0].clone()
}

fn states(cloud: &Cloud, device: &str) -> Vec<String> {
    let seen = cloud.seen();
    let of = seen.events_of("status").into_iter().filter(|e| e["device"] == device);
    of.map(|e| format!("{} {}", e["state"].as_str().unwrap_or_default(), e["cause"].as_str().unwrap_or_default()).trim().to_owned())
        .collect()
}

#[test]
fn a_publisher_is_not_offline_for_the_time_that_the_process_stood_still() {
    let (port, broker) = (free_port(), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "still");
    let config = format!("{}[mqtt]\nlisten = \"{}:{port}\"\n\n{}", uplink(broker.port), host(), routes("3s"));
    let gateway = Gateway::started("still", &config);
    let mut plug = client(port, "plug");
    say(&mut plug, "plug-1", true);
    cloud.wait("it is online", secs(10), |s| s.events_of("status").iter().any(|e| e["state"] == "online").then_some(()));
    gateway.signal(Signal::STOP);
    pause(secs(7));
    gateway.signal(Signal::CONT);
    pause(secs(1));
    assert_eq!(states(&cloud, "plug-1"), ["online"], "the observer was away, not the device");
    // From now on its silence counts.
    cloud.wait("it is offline", secs(10), |s| {
        s.events_of("status").iter().any(|e| e["cause"] == "silent" && e["state"] == "offline").then_some(())
    });
    drop(gateway);
}

#[test]
fn no_polled_device_is_offline_for_the_time_that_the_process_stood_still() {
    let (devices, broker) = (Devices::start(1), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "frozen");
    let line = format!("[device.meter]\ntcp = \"{}:{}\"\nunit = 1\npoll = \"500ms\"\noffline_after = \"3s\"\n", host(), devices.ports[0]);
    let gateway = Gateway::started("frozen", &(uplink(broker.port) + &line + &counting_points("meter", 4)));
    cloud.wait("a first value", secs(10), |s| (!s.counters("meter").is_empty()).then_some(()));
    let before = cloud.seen().counters("meter").len();
    gateway.signal(Signal::STOP);
    pause(secs(7));
    gateway.signal(Signal::CONT);
    cloud.wait("it goes on", secs(10), |s| (s.counters("meter").len() > before + 2).then_some(()));
    assert_eq!(states(&cloud, "meter"), ["online"], "the observer was away, not the device");
    cloud.seen().assert_sound();
    drop(gateway);
}

#[test]
fn a_will_that_comes_after_the_next_birth_is_ignored() {
    let (port, broker) = (free_port(), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "reborn");
    let gateway = Gateway::started("reborn", &(uplink(broker.port) + &listening(port)));
    let born = |id: &str| {
        let will = Some(("devices/say/plug-1", "offline"));
        let mut plug = Client::connect(port, &Login { id, will, ..Login::default() }).expect("the endpoint accepts");
        say(&mut plug, "plug-1", true);
        plug
    };
    let first = born("plug-boot-1");
    until("it is online", secs(10), || (states(&cloud, "plug-1") == ["online"]).then_some(()));
    // It has restarted and is back before anybody noticed that its old connection is dead.
    let second = born("plug-boot-2");
    pause(secs(1));
    drop(first);
    pause(secs(2));
    assert_eq!(states(&cloud, "plug-1"), ["online"], "the will of a session that is over");
    drop(second);
    until("its own will counts", secs(10), || (states(&cloud, "plug-1") == ["online", "offline said"]).then_some(()));
    drop(gateway);
}

#[test]
fn a_cloud_broker_that_restarts_moves_no_device_and_is_one_change_of_the_link() {
    let (port, devices, mut broker) = (free_port(), Devices::start(1), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "restarts");
    let line = format!("[device.meter]\ntcp = \"{}:{}\"\nunit = 1\npoll = \"500ms\"\n", host(), devices.ports[0]);
    let config = uplink(broker.port) + &listening(port) + &line + &counting_points("meter", 4);
    let gateway = Gateway::started("restarts", &config);
    let mut plug = client(port, "plug");
    say(&mut plug, "plug-1", true);
    let changes = |cloud: &Cloud| -> Vec<String> {
        let seen = cloud.seen();
        seen.events_of("uplink").iter().map(|e| e["state"].as_str().unwrap_or_default().to_owned()).collect()
    };
    until("both are online", secs(20), || (states(&cloud, "meter") == ["online"] && states(&cloud, "plug-1") == ["online"]).then_some(()));
    let before = changes(&cloud).len();
    broker.stop();
    pause(secs(2));
    broker.restart();
    until("the link is told to be back", secs(20), || changes(&cloud)[before..].last().is_some_and(|s| s == "up").then_some(()));
    let arrived = cloud.seen().counters("meter").len();
    cloud.wait("values come again", secs(20), |s| (s.counters("meter").len() > arrived + 2).then_some(()));
    assert_eq!(changes(&cloud)[before..], ["down", "up"]);
    for device in ["meter", "plug-1"] {
        assert_eq!(states(&cloud, device), ["online"], "{device}");
    }
    assert!(cloud.seen().events_of("line").iter().all(|e| e["state"] == "up"), "no line went down");
    cloud.seen().assert_sound();
    drop(gateway);
}

#[test]
fn a_thousand_devices_that_die_with_their_broker_are_one_event() {
    const DEVICES: usize = 1000;
    let (mut local, broker) = (Mosquitto::start(), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "thousand");
    let config = format!("{}[mqtt]\nbroker = \"mqtt://{}:{}\"\n\n{}", uplink(broker.port), host(), local.port, routes("60s"));
    let gateway = Gateway::started("thousand", &config);
    let online = |cloud: &Cloud| cloud.seen().events_of("status").iter().filter(|e| e["state"] == "online").count();
    let lines = |cloud: &Cloud| -> Vec<String> {
        let seen = cloud.seen();
        seen.events_of("line").iter().map(|e| e["state"].as_str().unwrap_or_default().to_owned()).collect()
    };
    until("the local broker is up", secs(20), || lines(&cloud).last().is_some_and(|s| s == "up").then_some(()));
    let mut devices = client(local.port, "devices");
    (0..DEVICES).for_each(|n| say(&mut devices, &format!("d{n}"), true));
    until("all are online", secs(60), || (online(&cloud) == DEVICES).then_some(()));
    let before = lines(&cloud).len();
    local.stop();
    until("its end is told", secs(20), || (lines(&cloud).len() > before).then_some(()));
    pause(secs(2));
    local.restart();
    until("its return is told", secs(30), || (lines(&cloud).len() > before + 1).then_some(()));
    let mut devices = client(local.port, "devices");
    (0..DEVICES).for_each(|n| say(&mut devices, &format!("d{n}"), true));
    until("all are online again", secs(30), || {
        let status: Json = serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).ok()?;
        (status["devices"]["online"] == DEVICES).then_some(())
    });
    assert_eq!(lines(&cloud)[before..], ["down", "up"]);
    assert_eq!(cloud.seen().events_of("status").len(), DEVICES, "nothing but that each came online once");
    // It was not observed meanwhile, which is another thing than offline.
    let one = device(&gateway, "d7");
    assert_eq!((&one["uptime"]["offline_s"], &one["uptime"]["online_share"]), (&0.into(), &1.0.into()), "{one}");
    cloud.seen().assert_sound();
    drop(gateway);
}

#[test]
fn a_flapping_device_is_one_alarm_and_its_history_has_every_change() {
    let (port, broker) = (free_port(), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "flaps");
    let config = uplink(broker.port) + &listening(port) + "[watch]\nflaps = 5\nstable_for = \"4s\"\nalarm_after = \"2s\"\n";
    let gateway = Gateway::started("flaps", &config);
    let mut plug = client(port, "plug");
    for n in 0..20 {
        say(&mut plug, "plug-1", n % 2 == 0);
    }
    let alarms = |cloud: &Cloud| -> Vec<String> {
        let seen = cloud.seen();
        seen.events_of("alarm").iter().map(|e| format!("{} {}", e["alarm"], e["state"]).replace('"', "")).collect()
    };
    until("it is calm", secs(20), || (alarms(&cloud).len() >= 2).then_some(()));
    until("and too long offline", secs(10), || (alarms(&cloud).len() >= 3).then_some(()));
    assert_eq!(alarms(&cloud), ["flapping raised", "flapping cleared", "offline raised"]);
    assert_eq!(states(&cloud, "plug-1"), ["online", "offline said", "online", "offline said", "online", "offline said"]);
    assert_eq!(device(&gateway, "plug-1")["history"].as_array().map(Vec::len), Some(20));
    cloud.seen().assert_sound();
    drop(gateway);
}

#[test]
fn maintenance_outlives_a_kill_and_what_a_device_says_of_itself_is_kept() {
    let (port, broker) = (free_port(), Mosquitto::start());
    let cloud = Cloud::watch(broker.port, "maintained");
    let mut gateway = Gateway::started("maintained", &(uplink(broker.port) + &listening(port)));
    let mut plug = client(port, "plug");
    plug.publish("devices/say/plug-1", br#"{"status":"online","fw":"1.2","rssi":-60}"#).expect("the endpoint reads");
    cloud.wait("its firmware", secs(10), |s| s.events_of("changed").iter().any(|e| e["attributes"]["fw"] == "1.2").then_some(()));
    let unknown = gateway.command(&["devices", "maintain", "plug-9"]);
    assert_eq!(unknown.status.code(), Some(5), "{}", String::from_utf8_lossy(&unknown.stderr));
    let done = gateway.command(&["devices", "maintain", "plug-1", "--for", "1h", "--reason", "new cable"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    gateway.kill();
    gateway.start();
    let mut plug = client(port, "plug");
    say(&mut plug, "plug-1", false);
    pause(secs(1));
    let is = device(&gateway, "plug-1");
    assert_eq!((&is["state"], &is["cause"], &is["maintenance"]["reason"]), (&"unknown".into(), &"maintenance".into(), &"new cable".into()));
    assert_eq!(is["attributes"], serde_json::json!({"fw": "1.2"}), "a number is a reading");
    assert_eq!(gateway.command(&["devices", "maintain", "plug-1", "--off"]).status.code(), Some(0));
    cloud.wait("judged again", secs(10), |s| s.events_of("maintenance").iter().any(|e| e["on"] == false).then_some(()));
    until("by what it said meanwhile", secs(10), || (states(&cloud, "plug-1").last().is_some_and(|s| s == "offline said")).then_some(()));
    assert_eq!(states(&cloud, "plug-1"), ["online", "unknown maintenance", "offline said"]);
    cloud.seen().assert_sound();
    drop(gateway);
}
