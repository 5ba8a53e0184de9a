//! Health and metrics as a supervisor and Prometheus see them; an uplink that goes and comes; a rule that has a webhook told.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::uplink,
    http::{PUMP, VIEWER, started},
    wait::{secs, until},
    web::{ask, raw},
};
use serde_json::Value as Json;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// The page as Prometheus asks for it.
fn metrics(port: u16, accept: &str) -> (String, String) {
    let asked = format!("GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer {VIEWER}\r\n{accept}\r\n");
    let answer = raw(port, asked.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head.to_owned(), body.to_owned())
}

#[track_caller]
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')).unwrap_or_else(|| panic!("no {series} in {page}"));
    line.parse().expect("a number")
}

/// Debian's own, with its words on what does not follow the conventions.
fn promtool(args: &[&str], input: &str) {
    let mut tool = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/run installs prometheus");
    tool.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let said = tool.wait_with_output().expect("it ends");
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && !words.contains("error"), "promtool {args:?}: {words}");
}

#[test]
fn prometheus_reads_the_page_and_nothing_in_it_is_secret_or_grows_with_the_devices() {
    let broker = Mosquitto::start();
    let (_gateway, port) = started("metrics", &uplink(broker.port));
    for n in 0..3 {
        let answer =
            ask(port, "POST", "/api/v1/devices/pump/telemetry", Some(PUMP), Some(&format!(r#"{{"seq":{n},"values":{{"temp":{n}}}}}"#)));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let (head, page) = until("all of it is acknowledged", secs(20), || {
        let (head, page) = metrics(port, "");
        (value(&page, "fieldgate_samples_total") >= 3.0 && value(&page, "fieldgate_uplink_waiting_samples{uplink=\"cloud\"}") == 0.0)
            .then_some((head, page))
    });
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!((value(&page, "fieldgate_devices{state=\"online\"}") - 1.0).abs() < f64::EPSILON);
    assert!((value(&page, "fieldgate_uplink_up{uplink=\"cloud\"}") - 1.0).abs() < f64::EPSILON);
    assert!(value(&page, "fieldgate_store_commit_duration_seconds_count{file=\"state.db\"}") > 0.0);
    for secret in [VIEWER, PUMP, "0123456789abcdef", "pump"] {
        assert!(!page.contains(secret), "{secret} in {page}");
    }
    promtool(&["check", "metrics"], &page);
    let (head, open) = metrics(port, "Accept: application/openmetrics-text; version=1.0.0,text/plain;q=0.5\r\n");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{head}");
    let series = |page: &str| page.lines().filter(|l| !l.starts_with('#')).count();
    assert_eq!(series(&open), series(&page));
    // Twenty devices more are no series more.
    for n in 0..20 {
        ask(port, "POST", &format!("/api/v1/devices/many-{n}/heartbeat"), Some("many-0123456789abcdef"), Some("{}"));
    }
    let more = until("they are counted", secs(10), || {
        Some(metrics(port, "").1).filter(|page| value(page, "fieldgate_devices{state=\"online\"}") > 20.0)
    });
    assert_eq!(series(&more), series(&page));
}

#[test]
fn the_alert_rules_are_rules_and_speak_of_metrics_that_there_are() {
    let broker = Mosquitto::start();
    let (_gateway, port) = started("metrics-rules", &uplink(broker.port));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/monitoring");
    promtool(&["check", "rules", &format!("{folder}/fieldgate-alerts.yml")], "");
    let page = metrics(port, "").1;
    // Those that are there only when there is something to say.
    let sometimes = ["fieldgate_dead_letters_total", "fieldgate_last_reading_timestamp_seconds", "fieldgate_devices_online_ratio"];
    let lines =
        ["fieldgate_line_up", "fieldgate_line_utilisation_ratio", "fieldgate_line_missed_polls_total", "fieldgate_line_results_total"];
    let source = include_str!("../../src/api/http/metrics.rs");
    for file in ["fieldgate-alerts.yml", "fieldgate-dashboard.json"] {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).expect("it is there");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("fieldgate_"));
        for word in words {
            let known =
                page.lines().any(|l| !l.starts_with('#') && l.starts_with(word)) || sometimes.contains(&word) || lines.contains(&word);
            assert!(known && source.contains(word.trim_end_matches("_total").trim_end_matches("_bucket")), "{file} speaks of {word}");
        }
    }
    let dashboard = std::fs::read_to_string(format!("{folder}/fieldgate-dashboard.json")).expect("it is there");
    let dashboard: Json = serde_json::from_str(&dashboard).expect("it is JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|p| p.len() > 10));
}

#[test]
fn a_cloud_that_is_away_is_said_and_the_gateway_is_ready_all_the_same() {
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "health");
    let (gateway, port) = started("health", &uplink(broker.port));
    let health = |token| ask(port, "GET", "/health", token, None);
    until("the uplink is up", secs(20), || (health(Some(VIEWER)).body["parts"]["uplinks"][0]["state"] == "up").then_some(()));
    let bare = health(None);
    assert_eq!((bare.status, bare.body.to_string()), (200, r#"{"v":1,"live":true,"ready":true}"#.to_owned()));
    assert_eq!(health(Some(PUMP)).body, bare.body, "a device learns no more");
    assert_eq!(health(Some(VIEWER)).body["errors"], Json::Array(vec![]));
    broker.stop();
    let down = until("it says so", secs(20), || Some(health(Some(VIEWER))).filter(|h| h.body["errors"][0].is_object()));
    assert_eq!(
        (down.status, &down.body["ready"], &down.body["errors"][0]["part"]),
        (200, &true.into(), &"uplink cloud".into()),
        "{down:?}"
    );
    assert_eq!(health(None).body, bare.body, "and that is nobody else's business");
    let events = || String::from_utf8_lossy(&gateway.command(&["events", "--of", "cloud"]).stdout).into_owned();
    until("the event is there", secs(10), || events().contains("cloud  down: ").then_some(()));
    broker.restart();
    cloud.wait("both events, from where they were kept", secs(60), |s| {
        let told = s.events_of("uplink");
        let down = told.iter().position(|e| e["state"] == "down" && e["reason"].as_str().is_some_and(|r| !r.is_empty()))?;
        told[down..].iter().find(|e| e["state"] == "up" && e["down_for_ms"].as_u64().is_some_and(|ms| ms > 0)).map(|_| ())
    });
    assert!(events().contains("up after"), "{}", events());
    cloud.seen().assert_sound();
}
