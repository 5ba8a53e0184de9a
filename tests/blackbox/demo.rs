//! The README's first command: it ends well by itself, and what it shows is what a broker of your own receives.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::PROGRAM,
    process::{Process, host},
    turn,
    wait::secs,
};
use rustix::process::{Signal, kill_process_group};
use serde_json::Value as Json;
use std::{
    os::unix::process::CommandExt,
    process::{Command, Output},
};

fn demo(args: &[&str]) -> Output {
    let _turn = turn::shared();
    Command::new(PROGRAM).arg("demo").args(args).output().expect("the program runs")
}

/// The summary, which says that everything arrived once.
#[track_caller]
fn assert_complete(summary: &str) -> Json {
    let summary: Json = serde_json::from_str(summary).expect("the summary is one JSON document");
    assert_eq!((&summary["missing"], &summary["twice"]), (&0.into(), &0.into()), "{summary}");
    assert_eq!(summary["sent"], summary["received"], "{summary}");
    summary
}

#[track_caller]
fn assert_clean(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.lines().rev().find(|l| l.starts_with('{')).unwrap_or_else(|| panic!("no summary:\n{said}"));
    let summary = assert_complete(summary);
    assert!(summary["received"].as_u64() > Some(100), "{summary}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_demo_ends_with_nothing_missing_and_nothing_twice() {
    assert_clean(&demo(&["--fast", "--json"]));
}

/// A terminal sends Ctrl-C to every process of the pipeline.
#[test]
fn a_demo_in_a_pipe_ends_by_ctrl_c_with_its_summary() {
    let _turn = turn::shared();
    let mut demo = Process::start("demo", Command::new(PROGRAM).args(["demo", "--json", "--messages"]).process_group(0));
    let mut lines = 0..;
    let mut next = |demo: &mut Process| demo.line(lines.next().expect("there is always one more"), secs(60));
    while !next(&mut demo).contains("/telemetry ") {}
    kill_process_group(demo.pid(), Signal::INT).expect("it runs");
    let summary = std::iter::repeat_with(|| next(&mut demo)).find(|line| line.starts_with('{')).expect("it tells one");
    assert_complete(&summary);
    assert_eq!(demo.wait_end(secs(20)).code(), Some(0), "{}", demo.said());
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
