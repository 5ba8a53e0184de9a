//! Devices whose firmware is known: real publishers, and the transcripts of all presets at once.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::{Gateway, uplink},
    mqtt::{Client, Login, Packet},
    process::{Process, free_port, host},
    wait::{secs, until},
};
use serde_json::{Value as Json, json};
use std::{fs, path::Path, process::Command, time::Duration};

fn with(port: u16, presets: &[&str]) -> String {
    let presets: String = presets.iter().map(|name| format!("[mqtt.preset.{name}]\n")).collect();
    format!("[mqtt]\nlisten = \"{}:{port}\"\n\n{presets}\n", host())
}

fn publisher(port: u16, more: &[&str]) -> Command {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", host(), "-p", &port.to_string(), "-q", "1"]).args(more);
    command
}

#[track_caller]
fn publish(port: u16, topic: &str, payload: &str) {
    let output = publisher(port, &["-t", topic, "-m", payload]).output().expect("mosquitto-clients is installed");
    assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One device as `fieldgate devices ID` shows it.
fn shown(gateway: &Gateway, id: &str) -> Json {
    let output = gateway.command(&["devices", id, "--json"]);
    serde_json::from_slice::<Json>(&output.stdout).map_or(Json::Null, |mut answer| answer["devices"][0].take())
}

#[test]
fn a_tasmota_plug_is_there_until_its_will_says_otherwise() {
    let port = free_port();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "tasmota");
    let mut gateway = Gateway::started("tasmota", &(uplink(broker.port) + &with(port, &["tasmota"])));
    cloud.wait_online();
    let mut watcher = Client::connect(port, &Login { id: "watcher", ..Login::default() }).expect("the endpoint accepts");
    watcher.subscribe("devices/status/+").expect("the endpoint reads");
    let will = [
        "-i",
        "DVES_1",
        "--will-topic",
        "tele/plug-1/LWT",
        "--will-payload",
        "Offline",
        "--will-retain",
        "-t",
        "tele/plug-1/LWT",
        "-r",
        "-l",
    ];
    let mut plug = Process::start("mosquitto_pub", &mut publisher(port, &will));
    plug.tell("Online");
    expect_status(&mut watcher, b"1");
    publish(port, "stat/plug-1/RESULT", r#"{"POWER":"ON"}"#);
    publish(port, "stat/plug-1/POWER", "ON");
    publish(port, "tele/plug-1/SENSOR", r#"{"Time":"2026-03-01T12:00:00","ENERGY":{"Total":3.705,"Power":5}}"#);
    cloud.wait("what the plug measures and has switched", secs(10), |s| {
        let has = |point: &str, value: Json| s.rows.iter().any(|r| r.device == "plug-1" && r.values.get(point) == Some(&value));
        (has("POWER", json!(true)) && has("ENERGY.Power", json!(5)) && has("ENERGY.Total", json!(3.705))).then_some(())
    });
    drop(plug); // killed: without a DISCONNECT
    expect_status(&mut watcher, b"0");
    cloud.wait("the event", secs(10), |s| {
        s.events_of("status").iter().any(|e| e["device"] == "plug-1" && e["state"] == "offline" && e["cause"] == "said").then_some(())
    });
    let relay = |gateway: &Gateway| shown(gateway, "plug-1")["relays"][0].clone();
    let before = until("the relay is stored", secs(10), || Some(relay(&gateway)).filter(|r| r["point"] == "POWER"));
    assert_eq!((&before["on"], &before["by"]), (&json!(true), &Json::Null), "{before}");
    gateway.stop();
    gateway.start();
    // What is believed of a clock may be a millisecond better by now.
    let after = relay(&gateway);
    let but_when = |relay: &Json| ["point", "on", "by", "changes"].map(|key| relay[key].clone());
    assert_eq!(but_when(&after), but_when(&before), "{after}");
}

#[track_caller]
fn expect_status(watcher: &mut Client, body: &[u8]) {
    until(&format!("status {}", String::from_utf8_lossy(body)), secs(10), || {
        match watcher.next(Duration::from_millis(50)).expect("the connection stands") {
            Some(Packet::Publish { topic, body: b, .. }) if topic == "devices/status/plug-1" && b == body => Some(()),
            _ => None,
        }
    });
}

#[test]
fn a_shelly_relay_is_switched_from_the_cloud_and_remembers_by_whom() {
    let port = free_port();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "shelly");
    let gateway = Gateway::started("shelly", &(uplink(broker.port) + &with(port, &["shelly", "homie"])));
    cloud.wait_online();
    let device = "shellyplus1-a8032abe54dc";
    let notify = |on: bool, source: &str| {
        let status = json!({"id": 0, "output": on, "source": source});
        let body =
            json!({"src": device, "dst": "user_1", "method": "NotifyStatus", "params": {"ts": 1_631_186_545.04, "switch:0": status}});
        publish(port, &format!("{device}/events/rpc"), &body.to_string());
    };
    publish(port, &format!("{device}/online"), "true");
    notify(false, "button");
    cloud.wait("the device", secs(10), |s| {
        s.rows.iter().any(|r| r.device == device && r.values.get("switch_0.output") == Some(&json!(false))).then_some(())
    });
    let topic = format!("{device}/command/switch:0");
    let mut firmware = Client::connect(port, &Login { id: "shelly", ..Login::default() }).expect("the endpoint accepts");
    firmware.subscribe(&topic).expect("the endpoint reads");
    until("subscribed", secs(5), || {
        firmware.next(Duration::from_millis(50)).expect("the connection stands").filter(|p| matches!(p, Packet::SubAck(_)))
    });
    let mut commander = Client::connect(broker.port, &Login { id: "commander", ..Login::default() }).expect("the broker accepts");
    let command = json!({"id": "c1", "device": device, "write": {"switch_0.output": true}});
    commander.publish("fieldgate/shelly/command", command.to_string().as_bytes()).expect("the broker reads");
    let body = until("the command", secs(10), || match firmware.next(Duration::from_millis(50)).expect("the connection stands") {
        Some(Packet::Publish { topic: t, body, .. }) if t == topic => Some(body),
        _ => None,
    });
    assert_eq!(body, b"on");
    notify(true, "MQTT");
    cloud.wait("its end", secs(10), |s| s.events_of("command").iter().any(|e| e["id"] == "c1" && e["phase"] == "confirmed").then_some(()));
    let by = json!({"command": "c1", "source": "uplink cloud"});
    until("the relay knows who switched it", secs(10), || {
        let relay = shown(&gateway, device)["relays"][0].clone();
        (relay["on"] == true && relay["by"] == by).then_some(())
    });
    notify(false, "button");
    let switchings = until("the button is no command", secs(10), || {
        let all = shown(&gateway, device)["switchings"].as_array().cloned().unwrap_or_default();
        (all.len() == 3).then_some(all)
    });
    assert_eq!((&switchings[0]["on"], &switchings[0]["by"]), (&json!(false), &Json::Null));
    assert_eq!(switchings[1]["by"], by);
}

#[test]
fn a_homie_device_that_only_its_broker_remembers_is_described_when_the_gateway_first_comes() {
    // The cloud's as well, as at a site whose mosquitto is a bridge to it.
    let broker = Mosquitto::start();
    let remembered =
        [("$fw/version", "1.10"), ("$localip", "192.168.0.10"), ("$name", "Boiler room"), ("switch/on", "true"), ("$state", "ready")];
    for (topic, payload) in remembered {
        let topic = format!("homie/boiler/{topic}");
        let output = publisher(broker.port, &["-t", &topic, "-m", payload, "-r"]).output().expect("mosquitto-clients is installed");
        assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let local = format!("[mqtt]\nbroker = \"mqtt://{}:{}\"\n\n[mqtt.preset.homie]\n", host(), broker.port);
    let gateway = Gateway::started("homie", &(uplink(broker.port) + &local));
    let want = json!({"fw.version": "1.10", "localip": "192.168.0.10", "name": "Boiler room"});
    let boiler = until("what it says of itself", secs(10), || {
        let boiler = shown(&gateway, "boiler");

        (boiler["attributes"] == want).then_some(boiler)
    });
    assert_ne!(boiler["state"], "online", "memory is no life: {boiler}");
    publish(broker.port, "homie/boiler/switch/on", "false");
    until("its switch is kept", secs(10), || {
        let boiler = shown(&gateway, "boiler");
        (boiler["state"] == "online" && boiler["relays"][0]["point"] == "switch.on" && boiler["relays"][0]["on"] == false).then_some(())
    });
}

/// What a transcript says: messages as they are published, and the values, states and dead letters that come of them.
#[derive(Default)]
struct Transcript {
    messages: Vec<(String, String)>,
    values: Vec<(String, String, Json)>,
    states: Vec<(String, String)>,
    letters: usize,
}

fn transcript(path: &Path) -> Transcript {
    let (mut out, mut counts) = (Transcript::default(), false);
    for line in fs::read_to_string(path).expect("it is there").lines() {
        if let Some((how, message)) = line.split_once("> ").filter(|(how, _)| ["", "r", "w"].contains(how)) {
            // What a broker remembers is not published here.
            counts = how != "r";
            if counts {
                let (topic, payload) = message.split_once(' ').expect("a topic and a payload");
                out.messages.push((topic.to_owned(), payload.to_owned()));
            }
        } else if let Some(said) = line.strip_prefix("= ").filter(|_| counts) {
            let (device, rest) = said.split_once(' ').expect("a device and what it says");
            if !rest.starts_with("is ") {
                out.values.extend(values(rest).into_iter().map(|(point, value)| (device.to_owned(), point, value)));
            }
        } else if let Some(state) = line.strip_prefix("* ").filter(|_| counts) {
            let mut words = state.split(' ').map(str::to_owned);
            out.states.extend(words.next().zip(words.next()));
        } else if line.starts_with("! ") && counts {
            out.letters += 1;
        }
    }
    out
}

/// `a=1 b="x y"`.
fn values(text: &str) -> Vec<(String, Json)> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((point, more)) = rest.split_once('=') {
        let mut all = serde_json::Deserializer::from_str(more).into_iter::<Json>();
        let value = all.next().expect("a value").expect("it is JSON");
        out.push((point.to_owned(), value));
        rest = more[all.byte_offset()..].trim_start();
    }
    out
}

fn same(a: &Json, b: &Json) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}

#[test]
fn all_presets_at_once_give_what_their_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/presets");
    let mut names: Vec<String> = fs::read_dir(folder.clone())
        .expect("the transcripts are there")
        .map(|e| e.expect("a readable folder").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    let port = free_port();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "presets");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::started("presets", &(uplink(broker.port) + &with(port, &names)));
    cloud.wait_online();
    let mut client = Client::connect(port, &Login { id: "all", ..Login::default() }).expect("the endpoint accepts");
    let (mut letters, mut points) = (0, 0);
    for name in &names {
        let want = transcript(&folder.join(format!("{name}.txt")));
        for (topic, payload) in &want.messages {
            let id = client.publish(topic, payload.as_bytes()).expect("the endpoint reads");
            let acked = until("the acknowledgement", secs(10), || client.next(Duration::from_millis(50)).expect("the connection stands"));
            assert_eq!(acked, Packet::PubAck(id), "{topic}");
        }
        cloud.wait(&format!("the values of {name}"), secs(20), |s| {
            let arrived = |(device, point, value): &(String, String, Json)| {
                s.rows.iter().any(|r| r.device == *device && r.values.get(point).is_some_and(|v| same(v, value)))
            };
            want.values.iter().all(arrived).then_some(())
        });
        cloud.wait(&format!("the states of {name}"), secs(20), |s| {
            let events = s.events_of("status");
            want.states.iter().all(|(device, state)| events.iter().any(|e| e["device"] == **device && e["state"] == **state)).then_some(())
        });
        (letters, points) = (letters + want.letters, points + want.values.len());
    }
    let stored = until("the dead letters", secs(10), || {
        let output = gateway.command(&["dead-letters", "--json"]);
        let answer: Json = serde_json::from_slice(&output.stdout).ok()?;
        let all = answer["letters"].as_array()?.len();
        (all >= letters).then_some(all)
    });
    assert_eq!(stored, letters);
    cloud.seen().assert_sound();
    eprintln!("{} presets: {points} values, {letters} dead letters", names.len());
}
