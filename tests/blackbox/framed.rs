//! Devices that send text: what they say reaches the cloud, and what is late, cut or fails its checksum never does.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    field::Faults,
    gateway::{Gateway, uplink},
    mqtt,
    process::host,
    wait::{secs, until, wall_ms},
};
use serde_json::{Value as Json, json};

fn scale(id: &str, place: &str) -> String {
    format!(
        "[line.{id}]\nprotocol = \"ascii\"\n{place}\ntimeout = \"300ms\"\n\
         [device.{id}]\nline = \"{id}\"\nrequest = \"SI\\r\\n\"\npoll = \"200ms\"\noffline_after = \"1h\"\nend = {{ terminator = \"\\r\\n\" }}\n\
         pattern = ['S (?<stable>[SD]) +(?<weight>-?[0-9.]+) g', 'S (?<fault>[I+-])']\n\
         [device.{id}.point.weight]\n[device.{id}.point.fault]\ntype = \"text\"\n\
         [device.{id}.point.stable]\ntype = \"bool\"\nvalues = {{ S = true, D = false }}\n\
         [device.{id}.point.zero]\nwrite = {{ send = \"Z\\r\\n\", expect = \"Z A\", refuse = \"Z [I+-]\" }}\n\n"
    )
}

fn weather(path: &str) -> String {
    format!(
        "[line.roof]\nprotocol = \"ascii\"\nserial = {{ path = \"{path}\", baud = 4800, parity = \"none\" }}\n\
         [device.weather]\nline = \"roof\"\nlisten = true\noffline_after = \"2s\"\n\
         end = {{ start = \"$\", terminator = \"\\r\\n\", max_bytes = 82 }}\nchecksum = {{ kind = \"xor8\", as = \"hex\", mark = \"*\" }}\n\
         pattern = 'WIMWV,(?<angle>[0-9.]*),R,(?<speed>[0-9.]*),M,A'\n\
         [device.weather.point.angle]\nunit = \"°\"\n[device.weather.point.speed]\nunit = \"m/s\"\n\n"
    )
}

/// The values of a point of a device in order of arrival.
fn values(seen: &Seen, device: &str, point: &str) -> Vec<f64> {
    let rows = seen.rows.iter().filter(|r| r.device == device);
    rows.flat_map(|r| r.values.iter()).filter(|(p, _)| *p == point).filter_map(|(_, v)| v.as_f64()).collect()
}

#[track_caller]
fn more(cloud: &Cloud, device: &str, point: &str, count: usize) {
    let had = values(&cloud.seen(), device, point).len();
    cloud.wait(&format!("values of {device}"), secs(30), |s| (values(s, device, point).len() >= had + count).then_some(()));
}

#[test]
fn a_scale_and_a_talker_reach_the_cloud_and_nothing_distorted_does() {
    let mut field = Faults::of_text();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "framed");
    let serial = format!("serial = {{ path = \"{}\", baud = 9600, parity = \"none\" }}", field.path("scale"));
    let tcp = format!("tcp = \"{}:{}\"", host(), field.port("box"));
    let config = uplink(broker.port) + &scale("scale", &serial) + &scale("box", &tcp) + &weather(&field.path("weather"));
    let gateway = Gateway::started("framed", &config);
    for device in ["scale", "box"] {
        more(&cloud, device, "weight", 5);
    }
    more(&cloud, "weather", "speed", 5);
    for mode in ["garbled", "late", "echo"] {
        for device in ["scale", "box"] {
            field.mode(device, mode);
        }
        field.mode("weather", if mode == "garbled" { "garbled" } else { "ok" });
        let before = field.counted("scale").faults;
        until("requests are answered wrongly", secs(30), || (field.counted("scale").faults >= before + 2).then_some(()));
        more(&cloud, "weather", "speed", 5);
        for device in ["scale", "box"] {
            field.mode(device, "ok");
            more(&cloud, device, "weight", 3);
        }
    }
    let seen = cloud.seen();
    seen.assert_sound();
    for (device, point) in [("scale", "weight"), ("box", "weight"), ("weather", "speed")] {
        let values = values(&seen, device, point);
        assert!(!values.contains(&666.0), "{device}: what must not be believed was published");
        let ordered = values.windows(2).all(|w| w[0] < w[1]);
        assert!(ordered, "{device}: {values:?}");
    }
    drop(seen);
    // What a talker no longer says makes it offline, and its next word brings it back.
    field.mode("weather", "silent");
    let is = |s: &Seen, state: &str| s.events_of("status").iter().any(|e| e["device"] == "weather" && e["state"] == state);
    cloud.wait("the talker is offline", secs(20), |s| is(s, "offline").then_some(()));
    field.mode("weather", "ok");
    more(&cloud, "weather", "speed", 1);
    drop(gateway);
}

#[test]
fn a_command_without_a_value_is_sent_once_and_the_device_says_what_came_of_it() {
    let mut field = Faults::of_text();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "framed-write");
    let serial = format!("serial = {{ path = \"{}\", baud = 9600, parity = \"none\" }}", field.path("scale"));
    let gateway = Gateway::started("framed-write", &(uplink(broker.port) + &scale("scale", &serial)));
    cloud.wait_online();
    more(&cloud, "scale", "weight", 3);
    let command = |id: &str, value: Json| {
        let body = json!({"id": id, "device": "scale", "write": {"zero": value}, "issued_at": wall_ms(), "expires_in_s": 60});
        mqtt::command(broker.port, "framed-write", &[body]);
        let ended = |e: &&Json| e["id"] == id && !matches!(e["phase"].as_str(), Some("accepted" | "sent"));
        cloud.wait(&format!("a result of {id}"), secs(20), |s| {
            s.events_of("command").iter().copied().find(ended).map(|e| e["phase"].as_str().unwrap_or_default().to_owned())
        })
    };
    assert_eq!(command("zero", json!(true)), "confirmed");
    assert_eq!(command("nothing", json!(false)), "rejected");
    assert_eq!(field.counted("scale").writes, 1);
    field.mode("scale", "refuse");
    assert_eq!(command("refused", json!(true)), "failed");
    field.mode("scale", "silent");
    assert_eq!(command("silent", json!(true)), "unknown");
    drop(gateway);
}
