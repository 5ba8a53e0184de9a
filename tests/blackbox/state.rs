//! Online state as a user sees it: nobody is called offline whom nobody could have seen, a line speaks for its devices, what
//! flaps is one alarm, and what a person says outlives a kill.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::{Gateway, uplink},
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
