//! The wall clock alone: a boot that begins in 2016, and steps of a year before and after the clock is synchronised.

use crate::{
    plan::{Action, Plan},
    run,
    world::{BASE, WALL_MS},
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, time::Duration};

const TEN_YEARS: i64 = 3_670;
const YEAR: i64 = 365;

fn step(at_s: u64, days: i64, synchronised: bool) -> (u64, Action) {
    (at_s * 1000, Action::ClockStep { days, synchronised })
}

fn command(at_s: u64, dated: bool) -> (u64, Action) {
    (at_s * 1000 + 300, Action::Command { device: 0, times: 1, expires_ms: 10_000, dated, read: false })
}

fn plan(actions: Vec<(u64, Action)>, ends_s: u64) -> Plan {
    Plan {
        seed: 4711,
        window: Duration::from_secs(1),
        ack_within: Duration::from_millis(100),
        linger: Duration::from_millis(50),
        disk_max: 64 << 20,
        thin_window: Duration::from_secs(10),
        units: [2, 1],
        polls_ms: vec![2000, 1000, 2000],
        publishers: 1,
        publish_every_ms: 1000,
        brain: None,
        actions,
        ends_ms: ends_s * 1000,
    }
}

#[test]
fn years_of_wrong_time_change_no_state_lose_nothing_and_are_corrected() {
    let outcome = run::carry_out(plan(
        vec![
            step(0, -TEN_YEARS, false),
            command(50, true),
            step(200, YEAR - TEN_YEARS, false),
            step(300, -TEN_YEARS, false),
            (350_000, Action::BrokerDown { for_ms: 30_000 }),
            step(600, 0, true),
            step(700, YEAR, false),
            command(710, true),
            command(715, false),
            (720_000, Action::BrokerDown { for_ms: 30_000 }),
            step(800, -YEAR, false),
            command(810, true),
            // The process restarts while the clock is wrong by a year, and again before that is put right.
            (820_000, Action::Kill { down_ms: 1500 }),
            step(850, YEAR, false),
            step(900, 0, true),
        ],
        960,
    ));
    assert!(outcome.violations.is_empty(), "{}", outcome.violations.join("\n"));
    let messages: Vec<Json> = outcome.arrivals.iter().filter_map(|a| serde_json::from_slice(&a.body).ok()).collect();
    let of = |kind: &str| {
        let all = messages.iter().flat_map(|m| m["events"].as_array().cloned().unwrap_or_default());
        all.filter(|e| e["type"] == kind).collect::<Vec<_>>()
    };

    // Each device comes online once in each of the two runs of the process, and nothing else happens to it.
    let mut changes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in of("status") {
        *changes.entry((event["device"].to_string(), event["state"].to_string())).or_default() += 1;
        assert!(["online", "unknown"].iter().any(|s| event["state"] == *s), "{event}");
    }
    assert!(changes.values().all(|n| *n <= 2), "{changes:?}");
    for event in of("command") {
        assert_eq!(event["phase"], "confirmed", "no step makes a command stale: {event}");
    }

    let truth = WALL_MS - i64::try_from(BASE.ms()).expect("fits");
    let corrections: Vec<i64> = of("clock").iter().filter_map(|e| e["offset_ms"].as_i64()).collect();
    assert_eq!(corrections.len(), 3, "two steps without a synchronised clock and the first good one: {corrections:?}");
    let last = corrections.last().copied().unwrap_or_default();
    let mut by_quality: BTreeMap<String, usize> = BTreeMap::new();
    for message in messages.iter().filter(|m| m["stream"] == "telemetry" || m["stream"] == "event") {
        let quality = message["clock"]["quality"].as_str().unwrap_or_default();
        *by_quality.entry(quality.to_owned()).or_default() += 1;
        let sent_with = message["clock"]["offset_ms"].as_i64().unwrap_or_default();
        // What a consumer does with it, as docs/protocol.md says.
        let corrected = if quality == "estimated" { last } else { sent_with };
        assert!(corrected.abs_diff(truth) <= 100, "{message}");
    }
    println!("{} messages {by_quality:?}, {}", messages.len(), outcome.figures);
    assert!(by_quality["estimated"] > 100 && by_quality["synchronised"] > 100, "{by_quality:?}");
}
