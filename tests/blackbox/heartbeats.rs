//! The HTTP door under load, by a load generator that others wrote (wrk): heartbeats, and telemetry that is durable before it
//! is answered. Only a campaign: without `FIELDGATE_LONG` a second of it, where wrk is there.

use crate::{
    broker::Mosquitto,
    gateway::uplink,
    http::{MANY, started},
    process::host,
    turn,
    wait::scaled,
};
use std::{fs, process::Command};

/// Each request is of the next device, with the next number. So many devices that none reaches the limit of its own.
const SCRIPT: &str = r#"
local n = 0
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer TOKEN"
request = function()
  n = n + 1
  return wrk.format(nil, "/api/v1/devices/many-" .. (n % 5000) .. "/ROUTE", nil, BODY)
end
done = function(summary, latency)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("FIGURES %d %d %d %d %d\n", summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
end
"#;

#[derive(Debug)]
struct Figures {
    a_second: f64,
    bad: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// `None`: there is no wrk.
fn load(port: u16, route: &str, body: &str, connections: u32) -> Option<Figures> {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("load.lua");
    fs::write(&script, SCRIPT.replace("TOKEN", MANY).replace("ROUTE", route).replace("BODY", body)).expect("a file");
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", &connections.to_string(), "--duration", scaled("1s", "30s"), "--latency", "--script"]);
    let output = wrk.arg(&script).arg(format!("http://{}:{port}", host())).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|l| l.strip_prefix("FIGURES ")).unwrap_or_else(|| panic!("wrk says {said}"));
    let n: Vec<f64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
    let bad = said.contains("Non-2xx");
    assert!(!bad, "{said}");
    Some(Figures { a_second: n[0] / n[1] * 1e6, bad: n[2], p50_ms: n[3] / 1000.0, p99_ms: n[4] / 1000.0 })
}

#[test]
fn heartbeats_and_telemetry_by_http_are_answered_under_load() {
    let _alone = scaled(None, Some(turn::alone()));
    let broker = Mosquitto::start();
    let (mut gateway, port) = started("http-load", &uplink(broker.port));
    let heartbeat = r#"'{"version":"1.2.3","storage_free":81,"rssi":-' .. (60 + n % 9) .. '}'"#;
    let Some(beats) = load(port, "heartbeat", heartbeat, 32) else {
        eprintln!("skipped: wrk is not installed; tests/run --long heartbeats installs it");
        assert!(scaled(true, false), "tests/run --long heartbeats installs wrk");
        return;
    };
    println!(
        "heartbeats on 32 connections: {:.0} a second, answered in {:.1} ms (50 %), {:.1} ms (99 %)",
        beats.a_second, beats.p50_ms, beats.p99_ms
    );
    let telemetry = r#"'{"values":{"power":' .. n .. ',"u":' .. (n % 10) .. '}}'"#;
    let rows = load(port, "telemetry", telemetry, 64).expect("wrk was there");
    println!(
        "telemetry on 64 connections, durable before it is answered: {:.0} a second, {:.1} ms (50 %), {:.1} ms (99 %)",
        rows.a_second, rows.p50_ms, rows.p99_ms
    );
    gateway.assert_runs();
    assert!(beats.bad + rows.bad < 1.0, "{beats:?} {rows:?}");
    assert!(beats.a_second > 50.0 && rows.a_second > 5.0);
}
