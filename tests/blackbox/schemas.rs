//! docs/schemas and docs/asyncapi.yaml say what is really sent: the documents' examples, the exact output of the dialect's
//! tests and what a broker receives from a running gateway, judged by a validator that is not ours.

use crate::{
    broker::Mosquitto,
    consume::Consumer,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    process::free_port,
    wait::{secs, until},
};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All of them are valid by their schema.
#[track_caller]
fn judge(messages: &[Json]) {
    let python = std::env::var_os("FIELDGATE_PYTHON").map_or_else(|| root().join("target/field-venv/bin/python"), PathBuf::from);
    let mut judge = Command::new(python)
        .arg(root().join("tests/field/schemas.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run tests/run --setup once, it installs what is missing");
    let mut stdin = judge.stdin.take().expect("stdin is piped");
    for message in messages {
        writeln!(stdin, "{message}").expect("the judge reads");
    }
    drop(stdin);
    let answer = judge.wait_with_output().expect("the judge ends");
    let answer: Json = serde_json::from_slice(&answer.stdout).expect("the judge answers in JSON");
    assert_eq!((&answer["bad"], answer["good"].as_u64()), (&json!([]), Some(messages.len() as u64)));
}

/// A message with the schema that it should keep.
fn by_shape(message: Json) -> Json {
    let (schema, at) = match &message {
        m if m.get("type").is_some() => ("event".into(), Some("#/$defs/event")),
        m if m.get("stream").is_some() => (m["stream"].as_str().unwrap_or_default().to_owned(), None),
        m if m.get("parts").is_some() => ("devices".into(), None),
        m if m.get("session").is_some() => ("state".into(), None),
        m if m.get("offset_ms").is_some() => ("telemetry".into(), Some("#/$defs/clock")),
        m if m.get("dt").is_some() => ("telemetry".into(), Some("#/$defs/frame")),
        _ => ("command".into(), None),
    };
    json!({"schema": schema, "at": at, "message": message})
}

#[test]
fn the_examples_of_the_protocol_keep_the_schemas() {
    let document = fs::read_to_string(root().join("docs/protocol.md")).expect("it is there");
    // What goes over HTTP has no schemas.
    let of_mqtt = document.split("\n## HTTP").next().unwrap_or_default();
    let shown = of_mqtt.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let messages: Vec<Json> = shown.map(|text| by_shape(serde_json::from_str(text).expect(text))).collect();
    assert!(messages.len() > 10, "{}", messages.len());
    judge(&messages);
}

/// Raw strings of the dialect's tests, those that stand in one `concat!` joined: every event type is among them.
#[test]
fn the_exact_output_of_the_dialect_keeps_the_schemas() {
    let source = fs::read_to_string(root().join("src/uplink/dialect/native/tests.rs")).expect("it is there");
    let mut texts: Vec<String> = Vec::new();
    let mut joined = false;
    for piece in source.split("r#\"").skip(1) {
        let Some((text, after)) = piece.split_once("\"#") else { continue };
        match texts.last_mut() {
            Some(last) if joined => last.push_str(text),
            _ => texts.push(text.to_owned()),
        }
        joined = after.trim() == ",";
    }
    let messages: Vec<Json> = texts
        .iter()
        .filter_map(|t| serde_json::from_str::<Json>(&t.replace("\"HASH\"", "\"0123456789abcdef\"")).ok())
        .filter(Json::is_object)
        .map(by_shape)
        .collect();
    let types: BTreeMap<&str, ()> = messages.iter().filter_map(|m| Some((m["message"]["type"].as_str()?, ()))).collect();
    for kind in ["status", "line", "registered", "command", "gap", "epoch", "progress", "dead_letter", "clock", "store"] {
        assert!(types.contains_key(kind), "no {kind} event among {types:?}");
    }
    judge(&messages);
}

#[test]
fn what_a_broker_receives_keeps_the_schemas() {
    let devices = Devices::start(1);
    let broker = Mosquitto::start();
    let mut consumer = Consumer::new(broker.port, "schemas.jsonl");
    consumer.start();
    let config =
        uplink(broker.port) + &counting_device("alive", devices.ports[0], 10, "200ms") + &counting_device("dead", free_port(), 4, "200ms");
    let mut gateway = Gateway::started("schemas", &config);
    let captured = || {
        let text = fs::read_to_string(consumer.file()).unwrap_or_default();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<Json>(l).ok());
        lines.filter_map(|l| ["message", "state", "devices"].iter().find_map(|name| l.get(*name).cloned())).collect::<Vec<_>>()
    };
    let has = |test: &dyn Fn(&Json) -> bool| captured().iter().any(test);
    until("telemetry, a dead line's event, device list", secs(30), || {
        let line = |m: &Json| m["events"].as_array().is_some_and(|all| all.iter().any(|e| e["type"] == "line"));
        (has(&|m| m["stream"] == "telemetry") && has(&line) && has(&|m| m.get("parts").is_some())).then_some(())
    });
    gateway.stop();
    until("the goodbye", secs(10), || has(&|m| m["state"] == "offline").then_some(()));
    judge(&captured().into_iter().map(by_shape).collect::<Vec<_>>());
}
