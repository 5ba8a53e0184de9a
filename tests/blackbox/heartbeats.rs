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

/// Each connection waits so long between an answer and its next request, in milliseconds.
const PAUSE: &str = "delay = function() return 10 end";

struct Load<'a> {
    route: &'a str,
    body: &'a str,
    connections: u32,
    seconds: u32,
    paced: bool,
}

/// `None`: there is no wrk.
fn load(port: u16, load: &Load<'_>) -> Option<Figures> {
    let Load { route, body, connections, seconds, paced } = *load;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("load.lua");
    let text = SCRIPT.replace("TOKEN", MANY).replace("ROUTE", route).replace("BODY", body) + if paced { PAUSE } else { "" };
    fs::write(&script, text).expect("a file");
    let mut wrk = Command::new("wrk");
    wrk.args([
        "--threads",
        "1",
        "--connections",
        &connections.to_string(),
        "--duration",
        &format!("{}s", scaled(1, seconds)),
        "--latency",
        "--script",
    ]);
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
    let beat = |connections, seconds, paced| load(port, &Load { route: "heartbeat", body: heartbeat, connections, seconds, paced });
    // The first heartbeat of a device registers it, which is durable before it is answered. What follows is of known devices.
    if beat(200, 15, false).is_none() {
        eprintln!("skipped: wrk is not installed; tests/run --long heartbeats installs it");
        assert!(scaled(true, false), "tests/run --long heartbeats installs wrk");
        return;
    }
    let telemetry = r#"'{"values":{"power":' .. n .. ',"u":' .. (n % 10) .. '}}'"#;
    let rows = load(port, &Load { route: "telemetry", body: telemetry, connections: 64, seconds: 30, paced: false });
    let all = [
        ("heartbeats, 64 connections with a pause", beat(64, 30, true)),
        ("heartbeats, 64 connections", beat(64, 30, false)),
        ("telemetry, 64 connections, durable before it is answered", rows),
    ];
    for (what, figures) in all {
        let f = figures.expect("wrk was there");
        println!("{what}: {:.0} a second, answered in {:.1} ms (50 %), {:.1} ms (99 %)", f.a_second, f.p50_ms, f.p99_ms);
        assert!(f.bad < 1.0 && f.a_second > 5.0, "{what}: {f:?}");
    }
    gateway.assert_runs();
}
