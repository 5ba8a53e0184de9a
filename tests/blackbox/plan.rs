//! Promise of `fieldgate plan`: what a device was found to refuse is shown, kept over restarts and forgettable, beside a
//! running daemon and without one; its exit code says whether the lines can carry what they are to.

use crate::{
    field::Simulator,
    gateway::{Gateway, counting_points},
    process::host,
    wait::{secs, until},
};
use serde_json::Value as Json;
use std::{fmt::Write as _, process::Output};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `fieldgate plan` to its end; what it said.
#[track_caller]
fn plan(gateway: &Gateway, args: &[&str], code: i32) -> String {
    let output = gateway.command(&[&["plan"], args].concat());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
    text(&output)
}

/// The holes that are remembered of a device.
#[track_caller]
fn holes(gateway: &Gateway, device: &str) -> Vec<String> {
    let said: Json = serde_json::from_str(&plan(gateway, &["--device", device, "--json"], 0)).expect("one document");
    let learned = said["learned"].as_array().expect("a list");
    let keys = learned.iter().filter_map(|f| f["key"].as_str());
    let mut holes: Vec<String> = keys.filter(|k| k.starts_with("hole ")).map(str::to_owned).collect();
    holes.sort();
    holes
}

/// Answers and refusals of the only line since the daemon began.
fn counted(gateway: &Gateway) -> Option<(u64, u64)> {
    let status: Json = serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).ok()?;
    Some((status["lines"][0]["answers"].as_u64()?, status["lines"][0]["refused"].as_u64()?))
}

#[test]
fn what_a_device_refuses_is_shown_kept_over_a_restart_and_forgotten_when_asked() {
    const HOLES: [&str; 2] = ["hole holding:20+1", "hole holding:30+1"];
    let simulator = Simulator::start(40, "20,30");
    let mut config = format!("[device.d0]\ntcp = \"{}:{}\"\nunit = 1\npoll = \"50ms\"\n", host(), simulator.port);
    for r in 0..40 {
        let _ = write!(config, "[device.d0.point.r{r}]\nregister = \"holding:{r}\"\ntype = \"u16\"\n");
    }
    let mut gateway = Gateway::new("plan", &config);
    let before = plan(&gateway, &["--device", "d0"], 0);
    assert!(before.contains("holding:0+40") && !before.contains("Left out"), "{before}");

    gateway.start();
    let learned = |gateway: &Gateway| (holes(gateway, "d0") == HOLES).then_some(());
    until("both holes are learned", secs(20), || learned(&gateway));
    let after = plan(&gateway, &["--device", "d0"], 0);
    for part in ["holding:0+20", "holding:21+9", "holding:31+9", "exception 2", "r20", "r30", "--forget d0"] {
        assert!(after.contains(part), "{part} in {after}");
    }
    plan(&gateway, &["--measured"], 0);

    // It is not asked for them again, by a new process neither.
    gateway.stop();
    assert_eq!(holes(&gateway, "d0"), HOLES);
    gateway.start();
    until("three polls", secs(20), || counted(&gateway).filter(|(answers, _)| *answers >= 9));
    assert_eq!(counted(&gateway).map(|(_, refused)| refused), Some(0));

    let forgotten = plan(&gateway, &["--forget", "d0"], 0);
    assert!(forgotten.contains("d0: forgotten"), "{forgotten}");
    until("it is asked again", secs(20), || counted(&gateway).filter(|(_, refused)| *refused > 0));
    until("and refuses again", secs(20), || learned(&gateway));

    gateway.stop();
    plan(&gateway, &["--forget", "d0"], 0);
    assert_eq!(holes(&gateway, "d0"), [""; 0]);
}

#[test]
fn the_exit_code_of_a_plan_says_whether_it_fits() {
    for (poll, code) in [("2s", 0), ("145ms", 1), ("50ms", 78)] {
        let line = "[line.bus]\nserial = { path = \"/dev/serial/by-id/none\", baud = 9600, parity = \"even\" }\n";
        let device = format!("[device.u1]\nline = \"bus\"\nunit = 1\npoll = \"{poll}\"\n");
        let gateway = Gateway::new("fits", &(line.to_owned() + &device + &counting_points("u1", 40)));
        let said = plan(&gateway, &[], code);
        assert!(said.contains("bus"), "{poll}: {said}");
        // Nobody is there to be asked for measured times, and nobody is called u9.
        plan(&gateway, &["--measured"], 3);
        plan(&gateway, &["--device", "u9"], 2);
        plan(&gateway, &["--forget", "u9"], 2);
    }
}
