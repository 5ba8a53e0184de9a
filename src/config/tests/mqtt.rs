//! `[mqtt]`: the endpoint, its routes, and what presets become.

use super::*;

#[test]
fn mqtt() {
    let listen = "[mqtt]\nlisten = \"127.0.0.1:1883\"\n";
    let route = "[mqtt.route.r]\ntopic = \"tele/{device}\"\nkind = \"telemetry\"\n";
    section(&format!("{listen}{route}"), &[]);
    section(listen, &["no-routes 1:2+4"]);
    section(&format!("[mqtt]\nlisten = \"192.168.1.2:1883\"\n{route}"), &["open-endpoint 2:10+18"]);
    section(&format!("[mqtt]\nlisten = \"0.0.0.0\"\ninsecure = true\n{route}"), &["insecure-endpoint 3:1+8"]);
    section(&format!("[mqtt]\nlisten = \":1883\"\n{route}"), &["bad-address 2:10+7"]);
    section(&format!("[mqtt]\n{route}"), &["missing-key 1:2+4"]);
    section(&format!("[mqtt]\nlisten = \"127.0.0.1\"\nbroker = \"mqtt://h\"\n{route}"), &["two-places 3:1+6"]);
    section(&format!("[mqtt]\nbroker = \"h\"\n{route}"), &["bad-url 2:10+3"]);
    section(&format!("{listen}[mqtt.user.u]\ntopics = [\"a/#/b\"]\n{route}"), &["missing-key 3:12+1", "bad-topic 4:11+7"]);
    section(&format!("{listen}[mqtt.user.u]\npassword = \"secret\"\n{route}"), &["bad-secret 4:1+8"]);
    section(&format!("{listen}[mqtt.route.r]\ntopic = \"a/+\"\nkind = \"telemetry\""), &["bad-topic 4:9+5"]);
    section(&format!("{listen}[mqtt.route.r]\ntopic = \"a/{{device}}\"\nkind = \"event\""), &["not-in-version 5:8+7"]);
    section(&format!("{listen}{route}payload = {{}}"), &["misplaced-key 6:1+7"]);
    section(&format!("{listen}{route}values = {{ power = \"ENERGY.Power\" }}"), &["bad-pointer 6:20+14"]);
    section(&format!("{listen}{route}unknown = \"reject\""), &["bad-value 6:11+8"]);
    section(&format!("{listen}[mqtt.route.s]\ntopic = \"s/{{device}}\"\nkind = \"status\"\nonline = \"up\""), &["missing-key 6:1+6"]);
    let command = "[mqtt.route.c]\ntopic = \"cmnd/{device}/{point}\"\nkind = \"command\"\npayload = { true = \"ON\" }\nreply = { topic = \"stat/{device}/RESULT\", value = \"/{point}\" }\n";
    section(&format!("{listen}{command}"), &[]);
    let on = |lines: &str, want: &[&str]| section(&format!("{listen}{lines}"), want);
    on("[mqtt.route.r]\ntopic = \"a/{device}/{point}\"\nkind = \"relay\"\nname = \"relay.{point}\"\nwords = { overpower = false }", &[]);
    on("[mqtt.route.r]\ntopic = \"a/{device}\"\nkind = \"relay\"\nname = \"relay.{point}\"", &["bad-value 6:8+15"]);
    on("[mqtt.route.r]\ntopic = \"a/{device}/{point}\"\nkind = \"relay\"\nname = \"relay {point}\"", &["bad-value 6:8+15"]);
    on("[mqtt.route.r]\ntopic = \"a/{device}\"\nkind = \"telemetry\"\nat = \"params\"", &["bad-pointer 6:6+8"]);
    on("[mqtt.route.r]\ntopic = \"a/{device}\"\nkind = \"telemetry\"\nvalues = { x = \"/x\" }\nat = \"/y\"", &["misplaced-key 7:1+2"]);
    on("[mqtt.route.s]\ntopic = \"a/{device}\"\nkind = \"status\"\nonline = [\"up\", \"idle\"]\noffline = \"idle\"", &["bad-value 7:11+6"]);
    on("[mqtt.route.s]\ntopic = \"a/{device}/{group}\"\nkind = \"attributes\"", &["bad-topic 4:9+20"]);
    on("[mqtt.route.s]\ntopic = \"a/{device}\"\nkind = \"attributes\"\nat = \"/Info1\"", &[]);
    on("[mqtt.route.s]\ntopic = \"a/{device}/$fw/{point}\"\nkind = \"attributes\"\nname = \"fw.{point}\"", &[]);
    on("[mqtt.route.s]\ntopic = \"a/{device}/$name\"\nkind = \"attributes\"\nname = \"its name\"", &["bad-value 6:8+10"]);
}

#[test]
fn presets() {
    let listen = "[mqtt]\nlisten = \"127.0.0.1:1883\"\n";
    let on = |lines: &str, want: &[&str]| section(&format!("{listen}{lines}"), want);
    on("[mqtt.preset.tasmota]", &[]);
    on("[mqtt.preset.tasmotta]", &["bad-value 3:14+8"]);
    on("[mqtt.preset.tasmota]\nbase = \"x\"", &["misplaced-key 4:1+4"]);
    on("[mqtt.preset.tasmota]\ntopic = \"x\"", &["unknown-key 4:1+5"]);
    on("[mqtt.preset.zigbee2mqtt]\nbase = \"site/z2m\"", &[]);
    on("[mqtt.preset.zigbee2mqtt]\nbase = \"site/\"", &["bad-topic 4:8+7"]);
    on("[mqtt.preset.homie]\nbase = 5", &["wrong-type 4:8+1"]);
    on("[mqtt.preset.devices]\nunknown = \"reject\"", &["bad-value 4:11+8"]);
    on("[mqtt.preset.devices]\ndefaults = { offline_after = \"15\" }", &["bad-duration 4:30+4"]);
}

/// What presets become is shown, and reads as the same.
#[test]
fn routes_are_written_as_they_are_read() {
    let all = "[mqtt.preset.autocore]\n[mqtt.preset.devices]\nunknown = \"quarantine\"\n[mqtt.preset.feeds]\n[mqtt.preset.homie]\n\
               [mqtt.preset.shelly]\nbase = \"plant\"\n[mqtt.preset.tasmota]\ndefaults = { offline_after = \"15m\", alarm_after = \"1h\" }\n\
               [mqtt.preset.zigbee2mqtt]\n\
               [mqtt.route.tasmota-sensor]\ntopic = \"tele/{device}/SENSOR\"\nkind = \"telemetry\"\nvalues = { power = \"/ENERGY/Power\" }\n\
               ping = { topic = \"cmnd/{device}/STATUS\", payload = \"8\" }\ndefaults = { offline_after = \"5m\" }\n";
    let head = format!("{GATEWAY}{UPLINK}[mqtt]\nlisten = \"127.0.0.1:1883\"\n");
    let routes = |toml: &str| {
        let loaded = load(toml);
        assert_eq!(said(&loaded), [""; 0], "{toml}");
        loaded.config.unwrap().mqtt.unwrap().routes
    };
    let mut want = routes(&format!("{head}{all}"));
    assert!(want.iter().any(|r| r.topic == "plant/{device}/events/rpc") && want.is_sorted_by(|a, b| a.id < b.id));
    let sensor = want.iter().find(|r| r.id.as_str() == "tasmota-sensor").unwrap();
    assert!(sensor.preset.is_none() && sensor.ping.is_some(), "the operator's own route takes the place of the preset's");
    assert!(want.iter().filter(|r| r.preset == Some("tasmota") && !r.topic.starts_with("cmnd")).all(|r| r.offline_after.is_some()));
    want.iter_mut().for_each(|route| route.preset = None);
    let bridge = |r: &crate::config::Route| r.id.as_str() == "zigbee2mqtt-bridge";
    want.retain(|r| !bridge(r)); // of one device, which only a preset can say
    let written: String = want.iter().map(crate::config::written::route).collect();
    assert_eq!(routes(&format!("{head}{written}")), want);
}
