//! `fieldgate check`: all mistakes at once, each with its line and what to write instead.

use crate::gateway::Gateway;

/// Five mistakes, and the line each is on, counted within this text.
const MISTAKES: &str = r#"[uplink.cloud]
url = "mqtt://127.0.0.1:1883"

[line.meters]
serial = { path = "/dev/ttyUSB0", baud = 9600, parity = "evn" }

[device.boiler]
tcp = "192.168.1.20:502"
unit = 1
poll = "fast"
offline_afer = "10s"

[device.boiler.point.flow]
register = 40001
type = "u16"

[device.boiler.point.return]
register = "holding:2"
type = "u17"
"#;
const LINES: [(usize, &str); 5] = [(5, "evn"), (10, "fast"), (11, "offline_afer"), (14, "40001"), (19, "u17")];

#[test]
fn five_mistakes_are_named_with_line_and_remedy() {
    let gateway = Gateway::new("mistakes", MISTAKES);
    let output = gateway.command(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let offset = std::fs::read_to_string(gateway.config()).expect("it was written").lines().count() - MISTAKES.lines().count();
    for (line, word) in LINES {
        let at = format!("fieldgate.toml:{}:", line + offset);
        assert!(said.contains(&at) && said.contains(word), "no word about line {} ({word}):\n{said}", line + offset);
    }
    assert_eq!(said.matches("error[").count(), 5, "{said}");
    assert!(said.matches('→').count() >= 5, "a remedy for each:\n{said}");
    assert!(said.contains("did you mean `offline_after`?"), "{said}");
}

#[test]
fn run_refuses_what_check_refuses_with_an_exit_code_that_stops_restarts() {
    let gateway = Gateway::new("mistakes", MISTAKES);
    let output = gateway.command(&["run"]);
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_good_file_is_said_to_be_good() {
    let gateway = Gateway::new("good", "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1883\"\n");
    let output = gateway.command(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_first_device_of_the_readme_checks() {
    let readme = include_str!("../../README.md");
    let config = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the README has an example");
    let output = Gateway::of_file(config).command(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
