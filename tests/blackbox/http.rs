//! The HTTP surface: tokens, heartbeats, telemetry that is durable before it is answered, commands that devices fetch.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::{Gateway, uplink},
    process::{free_port, host},
    wait::{now, punctual, scaled, secs, until, wall_ms},
    web::{Answer, Socket, ask, raw},
};
use serde_json::Value as Json;
use std::{fs, os::unix::fs::PermissionsExt};

pub const VIEWER: &str = "viewer-0123456789abcdef";
pub const OPERATOR: &str = "operator-0123456789abcdef";
pub const PUMP: &str = "pump-0123456789abcdef";
pub const MANY: &str = "many-0123456789abcdef";

/// `[api]` with a token of each kind, in files beside the configuration.
pub fn started(id: &str, more: &str) -> (Gateway, u16) {
    let port = free_port();
    let mut gateway = Gateway::new(id, &format!("{more}[api]\nlisten = \"{}:{port}\"\n", host()));
    let folder = gateway.config().parent().expect("a file has a folder").to_owned();
    for (name, role, token) in
        [("anna", "viewer", VIEWER), ("otto", "operator", OPERATOR), ("pump", "device", PUMP), ("many", "device", MANY)]
    {
        fs::write(folder.join(name), token).expect("the folder takes a file");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).expect("it is ours");
        let whom = if name == "many" { "device = \"many-*\"\n" } else { "" };
        gateway.configure(&format!("[api.token.{name}]\nrole = \"{role}\"\ntoken = {{ file = \"{name}\" }}\n{whom}"));
    }
    gateway.start();
    (gateway, port)
}

fn post(port: u16, path: &str, token: &str, body: &str) -> Answer {
    ask(port, "POST", &format!("/api/v1/{path}"), Some(token), Some(body))
}

fn get(port: u16, path: &str) -> Json {
    let answer = ask(port, "GET", &format!("/api/v1/{path}"), Some(VIEWER), None);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

#[test]
fn the_pages_come_without_a_token_and_hold_nothing() {
    let (_gateway, port) = started("http-pages", "");
    let get =
        |path: &str, more: &str| raw(port, format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{more}\r\n").as_bytes());
    for path in ["/", "/devices", "/devices/pump"] {
        let shell = get(path, "");
        let (head, body) = shell.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("\r\ncache-control: no-cache"), "{head}");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "nosniff", "no-referrer"] {
            assert!(head.contains(part), "{part} in {head}");
        }
        assert!(!body.contains("http-pages") && !body.contains("pump"), "{body}");
        let tag = head.lines().find_map(|l| l.strip_prefix("etag: ")).expect("it has a tag");
        assert!(get(path, &format!("If-None-Match: {tag}\r\n")).starts_with("HTTP/1.1 304"));
        let style = body.split("href=\"").find_map(|r| r.split('"').next().filter(|p| p.ends_with("/style.css"))).expect("it has a style");
        let (packed, plain) = (get(style, "Accept-Encoding: gzip, br\r\n"), get(style, ""));
        let length = |answer: &str| answer.split("content-length: ").nth(1).and_then(|r| r.split("\r\n").next()?.parse::<u32>().ok());
        assert!(packed.contains("content-encoding: gzip") && packed.contains("immutable"));
        assert!(length(&packed).is_some_and(|n| n * 2 < length(&plain).unwrap_or(0)), "{:?} of {:?}", length(&packed), length(&plain));
        let other = style.replace("style.css", "nothing.css");
        assert!(get(&other, "").starts_with("HTTP/1.1 404"));
    }
}

/// Method and address of each row of docs/protocol.md, with names in their places.
pub fn addresses() -> Vec<(String, String)> {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).expect("it is there");
    let rows = document.lines().filter_map(|l| l.strip_prefix("| `")?.split_once('`')).map(|(address, _)| address.to_owned());
    let split = rows.filter_map(|a| a.split_once(" /").map(|(m, p)| (m.to_owned(), format!("/{p}"))));
    let names = [("{id}", "pump"), ("{command}", "7f9c"), ("{schedule}", "night"), ("{alarm}", "17"), ("{rule}", "frost")];
    split.map(|(m, p)| (m, names.iter().fold(p, |p, (place, name)| p.replace(place, name)))).collect()
}

#[test]
fn every_address_refuses_without_a_token() {
    let (_gateway, port) = started("http-closed", "");
    let all = addresses();
    assert!(all.len() >= 24, "{all:?}");
    let more = [
        ("POST", "/"),
        ("GET", "/nothing"),
        ("GET", "/devices/pump/more"),
        ("PUT", "/api/v1/status"),
        ("DELETE", "/api/v1/devices/pump"),
        ("POST", "/ws/devices"),
    ];
    let more = more.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned()));
    for (method, path) in all.into_iter().chain(more) {
        for token in [None, Some("viewer-0123456789abcdeF"), Some("")] {
            if (path.as_str(), token) == ("/health", None) {
                continue; // says yes or no to anybody
            }
            let answer = ask(port, &method, &path, token, None);
            assert_eq!((answer.status, answer.kind.as_str()), (401, "application/problem+json"), "{method} {path} {token:?}");
            assert_eq!(answer.body["type"], "urn:fieldgate:problem:unauthorized");
            assert!(answer.body["remedy"].as_str().is_some_and(|r| r.contains("Bearer")));
        }
    }
    let kind = |a: Answer| (a.status, a.body["type"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned());
    let said = |status, word: &str| (status, word.to_owned());
    assert_eq!(kind(ask(port, "GET", "/nothing", Some(VIEWER), None)), said(404, "not-found"));
    assert_eq!(kind(ask(port, "PUT", "/api/v1/status", Some(VIEWER), None)), said(405, "method-not-allowed"));
    assert_eq!(kind(post(port, "commands", VIEWER, "{}")), said(403, "forbidden"));
    assert_eq!(kind(post(port, "alarms/17/acknowledge", VIEWER, "")), said(403, "forbidden"));
    assert_eq!(kind(post(port, "rules/frost", VIEWER, r#"{"on":false}"#)), said(403, "forbidden"));
    assert_eq!(kind(post(port, "devices/pump/heartbeat", OPERATOR, "{}")), said(403, "forbidden"));
    assert_eq!(kind(post(port, "devices/valve/heartbeat", PUMP, "{}")), said(403, "forbidden"));
    assert_eq!(kind(ask(port, "GET", "/api/v1/devices", Some(PUMP), None)), said(403, "forbidden"));
    assert_eq!(kind(ask(port, "GET", "/api/v1/devices/nobody", Some(VIEWER), None)), said(404, "unknown-device"));
}

#[test]
fn an_answered_telemetry_post_survives_kill_9_and_a_repeated_one_counts_once() {
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "http-durable");
    broker.stop();
    let (mut gateway, port) = started("http-durable", &uplink(broker.port));
    let count = scaled(20, 45);
    let mut due = Vec::new();
    for n in 0..count {
        let body = format!(r#"{{"seq":{n},"samples":[{{"age_ms":20,"values":{{"c":{}}}}},{{"values":{{"c":{}}}}}]}}"#, 2 * n, 2 * n + 1);
        due.extend([2 * n, 2 * n + 1]);
        for status in ["kept", "known"] {
            let answer = post(port, "devices/pump/telemetry", PUMP, &body);
            assert_eq!((answer.status, &answer.body["status"]), (200, &Json::from(status)), "{answer:?}");
        }
    }
    gateway.kill();
    broker.restart();
    gateway.start();
    cloud.wait("all that was answered", secs(30), |s| (s.counters("pump").len() >= due.len()).then_some(()));
    let mut got = cloud.seen().counters("pump");
    got.sort_unstable();
    assert_eq!(got, due);
    cloud.seen().assert_sound();
}

#[test]
fn a_heartbeat_registers_a_device_and_its_fields_go_upstream() {
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "http-alive");
    let (gateway, port) = started("http-alive", &uplink(broker.port));
    let body = r#"{"seq":1,"versions":{"firmware":"1.4.2"},"storage":{"free_mb":812}}"#;
    let answer = post(port, "devices/pump/heartbeat", PUMP, body);
    assert_eq!((answer.status, &answer.body["status"], &answer.body["commands"]), (200, &"ok".into(), &Json::Array(vec![])));
    assert!(answer.body["server_time"].as_i64().is_some_and(|at| (at - crate::wait::wall_ms()).abs() < 10_000));
    let device = get(port, "devices/pump");
    assert_eq!((&device["state"], &device["evidence"]["kind"]), (&"online".into(), &"heartbeat".into()));
    let values = get(port, "devices/pump/values");
    let shown: Vec<_> = values["values"].as_array().into_iter().flatten().map(|v| (&v["point"], &v["value"])).collect();
    assert_eq!(shown, [(&"storage.free_mb".into(), &812.into()), (&"versions.firmware".into(), &"1.4.2".into())]);
    cloud.wait("the registration and the fields", secs(20), |s| {
        let registered = s.events_of("registered").iter().any(|e| e["device"] == "pump" && e["via"] == "http");
        let told = s.rows.iter().any(|r| r.device == "pump" && r.values.get("versions.firmware") == Some(&"1.4.2".into()));
        (registered && told).then_some(())
    });
    let status = get(port, "status?all=true");
    let said: Json = serde_json::from_slice(&gateway.command(&["status", "--json", "--all"]).stdout).expect("it is JSON");
    assert_eq!(status["gateway"]["id"], said["gateway"]["id"]);
    assert_eq!(status["all"][0]["id"], said["all"][0]["id"]);
    assert_eq!(status.as_object().map(|o| o.keys().collect::<Vec<_>>()), said.as_object().map(|o| o.keys().collect()));
}

#[test]
fn the_past_of_a_device_and_what_happened_can_be_asked_for() {
    let (mut gateway, port) = started("http-past", "");
    post(port, "devices/pump/heartbeat", PUMP, r#"{"versions":{"firmware":"1.4.2"}}"#);
    let past =
        until("the first change", secs(5), || Some(get(port, "devices/pump/history")).filter(|h| h["transitions"][0]["state"] == "online"));
    assert!(past["transitions"][0]["at_ms"].as_i64().is_some_and(|at| (at - crate::wait::wall_ms()).abs() < 10_000), "{past}");
    let up = get(port, "devices/pump/uptime");
    assert_eq!((&up["online_share"], up["slots"].as_str().map(str::len)), (&1.0.into(), Some(90)), "{up}");
    let kinds = |events: &Json| -> Vec<String> {
        events["events"].as_array().into_iter().flatten().map(|e| format!("{} {}", e["type"], e["state"]).replace('"', "")).collect()
    };
    let events = until("the events", secs(5), || Some(get(port, "events")).filter(|e| kinds(e).contains(&"status online".to_owned())));
    assert!(kinds(&events).contains(&"registered null".to_owned()), "{events}");
    gateway.stop();
    gateway.start();
    let events = get(port, "events?limit=1000");
    assert!(kinds(&events).contains(&"status online".to_owned()), "what was before the start is there still: {events}");
    for wrong in ["from=x", "from=5&to=4"] {
        let answer = ask(port, "GET", &format!("/api/v1/devices/pump/uptime?{wrong}"), Some(VIEWER), None);
        assert_eq!((answer.status, &answer.body["type"]), (422, &"urn:fieldgate:problem:unreadable".into()), "{wrong}");
    }
}

#[test]
fn a_device_fetches_its_command_until_it_says_what_came_of_it() {
    let (_gateway, port) = started("http-orders", "");
    post(port, "devices/pump/heartbeat", PUMP, "");
    let sent = post(port, "commands", OPERATOR, r#"{"id":"7f9c","device":"pump","write":{"relay":true}}"#);
    assert_eq!((sent.status, &sent.body["phase"]), (202, &"accepted".into()), "{sent:?}");
    until("the command waits", secs(5), || {
        let beat = post(port, "devices/pump/heartbeat", PUMP, "");
        (beat.body["commands"][0]["id"] == "7f9c").then_some(())
    });
    let again = post(port, "devices/pump/heartbeat", PUMP, "");
    assert_eq!(again.body["commands"][0]["write"]["relay"], true);
    let other = post(port, "devices/many-1/commands/7f9c/ack", MANY, "");
    assert_eq!(other.status, 404, "it is another's");
    let ack = || post(port, "devices/pump/commands/7f9c/ack", PUMP, r#"{"result":"done","values":{"relay":true}}"#);
    let ended = ack();
    assert_eq!((ended.status, &ended.body["status"], &ended.body["commands"]), (200, &"ended".into(), &Json::Array(vec![])));
    let command = get(port, "commands/7f9c");
    assert_eq!((&command["phase"], &command["from"]), (&"confirmed".into(), &"api otto".into()), "{command}");
    let known = ack();
    assert_eq!((known.status, &known.body["status"], &known.body["phase"]), (200, &"known".into(), &"confirmed".into()));
    assert_eq!(post(port, "devices/pump/heartbeat", PUMP, "").body["commands"], Json::Array(vec![]));
    assert_eq!(get(port, "commands")["commands"][0]["id"], "7f9c");
    let nobody = post(port, "commands", OPERATOR, r#"{"device":"nobody","write":{"relay":true}}"#);
    assert_eq!((nobody.status, &nobody.body["type"]), (404, &"urn:fieldgate:problem:unknown-device".into()));
}

/// A pump that is too hot, and a rule that says so.
pub const HOT: &str = "[rule.hot]\nwhen = \"pump.temp > 60\"\nalarm = { severity = \"critical\", text = \"too hot\" }\n";

#[test]
fn an_alarm_is_listed_and_acknowledged_by_an_operator_and_its_rule_is_explained_and_switched() {
    let (_gateway, port) = started("http-alarms", HOT);
    post(port, "devices/pump/heartbeat", PUMP, r#"{"temp":71.5}"#);
    let alarms = until("the alarm", secs(10), || Some(get(port, "alarms?device=pump")).filter(|a| a["alarms"][0].is_object()));
    let alarm = &alarms["alarms"][0];
    assert_eq!((&alarm["rule"], &alarm["state"], &alarm["severity"]), (&"hot".into(), &"raised".into(), &"critical".into()), "{alarms}");
    assert_eq!(get(port, "alarms?device=other")["alarms"], Json::Array(vec![]));
    let status = get(port, "status");
    assert_eq!((&status["alarms"]["unseen"], &status["verdict"]), (&1.into(), &"trouble".into()));
    let path = format!("alarms/{}/acknowledge", alarm["id"]);
    assert_eq!(post(port, &path, VIEWER, "").status, 403);
    let seen = post(port, &path, OPERATOR, "");
    assert_eq!((seen.status, &seen.body["acknowledged_by"]), (200, &"otto".into()), "{seen:?}");
    assert_eq!(get(port, "alarms")["alarms"][0]["state"], "acknowledged");
    let other = post(port, "alarms/4711/acknowledge", OPERATOR, "");
    assert_eq!((other.status, &other.body["type"]), (404, &"urn:fieldgate:problem:unknown-alarm".into()));
    let rule = get(port, "rules/hot");
    assert_eq!((&rule["truth"], &rule["fired"], &rule["count"]), (&true.into(), &true.into(), &1.into()), "{rule}");
    assert_eq!(rule["tests"][0]["values"][0]["text"], "71.5", "{rule}");
    let off = post(port, "rules/hot", OPERATOR, r#"{"on":false}"#);
    assert_eq!((off.status, &off.body["on"]), (200, &false.into()), "{off:?}");
    assert!(get(port, "rules")["rules"][0]["off"].as_str().is_some_and(|why| why.contains("otto")), "{}", get(port, "rules"));
    for (path, body, status, kind) in [
        ("rules/cold", r#"{"on":true}"#, 404, "unknown-rule"),
        ("rules/hot", "{}", 422, "unreadable"),
        ("rules/a%20b", r#"{"on":true}"#, 404, "unknown-rule"),
    ] {
        let answer = post(port, path, OPERATOR, body);
        assert_eq!((answer.status, &answer.body["type"]), (status, &format!("urn:fieldgate:problem:{kind}").into()), "{path}");
    }
    let who = |token| ask(port, "GET", "/api/v1/caller", Some(token), None).body;
    assert_eq!(
        (&who(VIEWER)["role"], &who(OPERATOR)["role"], &who(OPERATOR)["name"]),
        (&"viewer".into(), &"operator".into(), &"otto".into())
    );
}

#[test]
fn what_cannot_be_read_is_a_problem_and_a_dead_letter() {
    let (_gateway, port) = started("http-broken", "");
    let answer = post(port, "devices/pump/telemetry", PUMP, r#"{"temp":1}"#);
    assert_eq!((answer.status, &answer.body["type"]), (422, &"urn:fieldgate:problem:unreadable".into()));
    let letters = until("the dead letter", secs(5), || Some(get(port, "dead-letters")).filter(|l| l["letters"][0].is_object()));
    let letter = &letters["letters"][0];
    assert_eq!((&letter["topic"], &letter["body"]), (&"devices/pump/telemetry".into(), &r#"{"temp":1}"#.into()));
    assert!(answer.body["detail"].as_str().is_some_and(|d| letter["reason"] == d), "{letters}");
    let large = format!(r#"{{"values":{{"a":"{}"}}}}"#, "x".repeat(300_000));
    assert_eq!(post(port, "devices/pump/telemetry", PUMP, &large).status, 413);
    let head = format!("GET /api/v1/status HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert!(raw(port, head.as_bytes()).starts_with("HTTP/1.1 431"));
    assert!(raw(port, b"\x16\x03\x01 is no HTTP\r\n\r\n").starts_with("HTTP/1.1 400"));
    let flood = (0..2000).map(|_| post(port, "devices/pump/heartbeat", PUMP, "")).find(|a| a.status != 200);
    assert_eq!(flood.map(|a| a.status), Some(429), "one device has its rate");
    assert_eq!(post(port, "devices/many-1/heartbeat", MANY, "").status, 200, "and costs others nothing");
}

#[test]
fn a_follower_gets_the_list_then_each_change_and_is_told_of_the_stop() {
    let (mut gateway, port) = started("http-live", "");
    let mut socket = Socket::open(port, "/ws/devices", VIEWER);
    let list = socket.next();
    assert_eq!((&list["type"], &list["gateway"], &list["devices"]), (&"device_list".into(), &"http-live".into(), &Json::Array(vec![])));
    post(port, "devices/pump/heartbeat", PUMP, r#"{"free":7}"#);
    let mut next = |kind: &str| loop {
        let message = socket.next();
        if message["type"] == kind {
            return message;
        }
    };
    let begun = now();
    let mut update = next("device_update");
    while update["devices"].as_array().and_then(|d| d.last()).is_none_or(|d| d["state"] != "online") {
        update = next("device_update");
    }
    punctual("a socket that follows", now() - begun, secs(5));
    assert!(next("tick")["server_time"].is_i64());
    socket.say(r#"{"watch":["pump","nobody"]}"#);
    let values = loop {
        let message = socket.next();
        if message["type"] == "values" {
            break message;
        }
    };
    assert_eq!((&values["device"], &values["values"][0]["value"]), (&"pump".into(), &7.into()));
    let (took, code) = gateway.stop();
    assert_eq!(code, Some(0));
    punctual("a stop by SIGTERM", took, secs(5));
    let close = loop {
        let message = socket.next();
        if message.is_u64() {
            break message;
        }
    };
    assert_eq!(close, 1001);
}

#[test]
fn the_past_of_values_is_there_after_a_restart() {
    let (mut gateway, port) = started("http-past", "[history]\ncommit_every = \"1h\"\n");
    let begun = wall_ms();
    for (seq, value) in [(1, 20.5), (2, 21.5), (3, 19.0)] {
        let body = format!(r#"{{"seq":{seq},"values":{{"temp":{value}}}}}"#);
        assert_eq!(post(port, "devices/pump/telemetry", PUMP, &body).status, 200);
    }
    let past = |form: &str| get(port, &format!("devices/pump/samples?from={}&to={}{form}", begun - 60_000, begun + 600_000));
    let one = |answer: &Json| answer["points"]["temp"].as_array().expect("the point has a past").clone();
    let slots = one(&past("&slots=1"));
    assert_eq!(slots.len(), 1, "{slots:?}");
    assert_eq!((&slots[0][1], &slots[0][3], &slots[0][4]), (&19.0.into(), &21.5.into(), &3.into()), "{slots:?}");
    let read = || one(&past("&form=samples")).iter().map(|s| (s[0].as_i64().unwrap_or(0), s[1].as_f64())).collect::<Vec<_>>();
    let samples = read();
    assert_eq!(samples.iter().map(|s| s.1).collect::<Vec<_>>(), [Some(20.5), Some(21.5), Some(19.0)]);
    gateway.stop();
    gateway.start();
    // What is believed of a clock may be a millisecond better by now.
    let again = read();
    let same = again.len() == 3 && again.iter().zip(&samples).all(|(a, b)| a.1 == b.1 && (a.0 - b.0).abs() < 50);
    assert!(same, "a clean stop writes what was in memory: {again:?} {samples:?}");
    assert_eq!(ask(port, "GET", "/api/v1/devices/pump/samples?slots=0", Some(VIEWER), None).status, 422);
}

#[test]
fn an_operator_keeps_schedules_and_maintenance_over_http() {
    let (mut gateway, port) = started("http-plan", "");
    let operator = |path: &str, body: &str| ask(port, "POST", &format!("/api/v1/{path}"), Some(OPERATOR), Some(body));
    assert_eq!(post(port, "devices/pump/heartbeat", PUMP, "").status, 200);
    let night = r#"{"schedule.set":{"id":"night","cron":"0 22 * * *","write":{"device":"pump","point":"relay","value":false}}}"#;
    assert_eq!(ask(port, "POST", "/api/v1/schedules", Some(VIEWER), Some(night)).status, 403);
    let set = operator("schedules", night);
    assert_eq!(set.status, 200, "{set:?}");
    gateway.kill();
    gateway.start();
    let kept = get(port, "schedules/night");
    let row = &kept["schedules"][0];
    // `waiting` where nobody sets the clock of the machine.
    assert!(row["by"] == "local otto" && (row["state"] == "enabled" || row["state"] == "waiting"), "{kept}");
    assert_eq!(operator("schedules", r#"{"schedule.remove":"day"}"#).status, 404);
    assert_eq!(operator("schedules", r#"{"schedule.set":{"id":"bad","cron":"0 99 * * *"}}"#).status, 422);
    let kept = operator("devices/pump/maintenance", r#"{"on":true,"for_ms":60000,"reason":"new seal"}"#);
    assert_eq!((kept.status, &kept.body["maintenance"]["reason"]), (200, &"new seal".into()), "{kept:?}");
    assert_eq!(get(port, "devices/pump")["cause"], "maintenance");
    assert_eq!(operator("devices/pump/maintenance", r#"{"on":false}"#).status, 200);
}

#[test]
fn a_command_that_no_device_has_fetched_is_cancelled_and_never_fetched() {
    let (_gateway, port) = started("http-cancel", "");
    assert_eq!(post(port, "devices/pump/heartbeat", PUMP, "").status, 200);
    assert_eq!(post(port, "commands", OPERATOR, r#"{"id":"c1","device":"pump","write":{"relay":true}}"#).status, 202);
    let delete = |id: &str, token: &str| ask(port, "DELETE", &format!("/api/v1/commands/{id}"), Some(token), None);
    let kind = |a: Answer| (a.status, a.body["type"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned());
    assert_eq!(kind(delete("c1", VIEWER)), (403, "forbidden".to_owned()));
    assert_eq!(kind(delete("c0", OPERATOR)), (404, "unknown-command".to_owned()));
    let done = delete("c1", OPERATOR);
    assert_eq!((done.status, &done.body["cancelled"], &done.body["sent"]), (200, &1.into(), &0.into()), "{done:?}");
    assert_eq!(post(port, "devices/pump/heartbeat", PUMP, "").body["commands"], Json::Array(vec![]));
    until("its end is stored", secs(5), || (get(port, "commands/c1")["phase"] == "rejected").then_some(()));
    assert_eq!(get(port, "commands/c1")["reason"], "cancelled by api otto; nothing was sent");
    assert_eq!(kind(delete("c1", OPERATOR)), (409, "too-late".to_owned()));
    assert_eq!(post(port, "commands", OPERATOR, r#"{"id":"c2","device":"pump","write":{"relay":true}}"#).status, 202);
    assert_eq!(post(port, "devices/pump/heartbeat", PUMP, "").body["commands"][0]["id"], "c2");
    assert_eq!(kind(delete("c2", OPERATOR)), (409, "too-late".to_owned()), "the device has it");
}

#[test]
fn several_devices_and_the_gateway_itself_by_http() {
    let (_gateway, port) = started("http-fan", "");
    assert_eq!(post(port, "devices/pump/heartbeat", PUMP, "").status, 200);
    let body = r#"{"id":"f1","devices":["nobody","nothing"],"write":{"relay":true},"wait":true}"#;
    let refused = post(port, "commands", OPERATOR, body);
    assert_eq!((refused.status, &refused.body["phase"], &refused.body["reason"]), (200, &"rejected".into(), &"2 rejected".into()));
    assert_eq!(refused.body["results"]["nobody"]["reason"], "there is no device nobody here");
    let shown = until("its end is stored", secs(20), || {
        let shown = get(port, "commands/f1");
        (shown["phase"] == "rejected").then_some(shown)
    });
    assert_eq!((&shown["device"], &shown["devices"][1], &shown["write"]["relay"]), (&Json::Null, &"nothing".into(), &true.into()));
    assert_eq!(shown["results"]["nothing"]["phase"], "rejected");
    until("its part's end is stored", secs(20), || (get(port, "commands/f1@nobody")["phase"] == "rejected").then_some(()));
    let pong = post(port, "commands", OPERATOR, r#"{"id":"p1","run":"ping","wait":true}"#);
    assert_eq!((pong.status, &pong.body["read_back"]["gateway"]), (200, &"http-fan".into()), "{pong:?}");
    assert_eq!((&get(port, "commands/p1")["device"], &get(port, "commands/p1")["run"]), (&Json::Null, &"ping".into()));
    assert_eq!(post(port, "commands", OPERATOR, r#"{"run":"restart"}"#).status, 403, "for role admin");
    for wrong in [r#"{"device":"pump","devices":["pump"],"write":{"relay":true}}"#, r#"{"run":"ping","read":[]}"#, r#"{"run":"reboot"}"#] {
        assert_eq!(post(port, "commands", OPERATOR, wrong).status, 422, "{wrong}");
    }
}
