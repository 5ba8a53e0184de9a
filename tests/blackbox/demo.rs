//! The README's first command: it ends well by itself, and what it shows is what a broker of your own receives.

use crate::{broker::Mosquitto, cloud::Cloud, gateway::PROGRAM, process::host, turn, wait::secs};
use serde_json::Value as Json;
use std::process::{Command, Output};

fn demo(args: &[&str]) -> Output {
    let _turn = turn::shared();
    Command::new(PROGRAM).arg("demo").args(args).output().expect("the program runs")
}

#[track_caller]
fn assert_clean(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.lines().rev().find(|l| l.starts_with('{')).unwrap_or_else(|| panic!("no summary:\n{said}"));
    let summary: Json = serde_json::from_str(summary).expect("the summary is one JSON document");
    assert_eq!((&summary["missing"], &summary["twice"]), (&0.into(), &0.into()), "{summary}");
    assert_eq!(summary["sent"], summary["received"], "{summary}");
    assert!(summary["received"].as_u64() > Some(100), "{summary}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_demo_ends_with_nothing_missing_and_nothing_twice() {
    assert_clean(&demo(&["--fast", "--json"]));
}

#[test]
fn the_demo_can_be_read_along_at_a_mosquitto() {
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "demo");
    assert_clean(&demo(&["--fast", "--json", "--broker", &format!("mqtt://{}:{}", host(), broker.port)]));
    let seen = cloud.wait("telemetry", secs(5), |s| (!s.rows.is_empty()).then_some(s.missing()));
    assert_eq!(seen, []);
    cloud.seen().assert_sound();
}
