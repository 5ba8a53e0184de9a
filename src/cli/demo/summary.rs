//! The closing of the books: the field is stopped, the gateway empties its spool, and both sides are compared.

use super::{Stage, field, ledger::Ledger};
use crate::cli::{Out, out::count};
use serde_json::{Value, json};
use std::{collections::VecDeque, process::ExitCode, time::Duration};
use tokio::time::Instant;

/// Notes when an outage begins, ends and has been caught up.
pub fn observe(stage: &mut Stage, status: Option<&Value>) {
    let plugged = stage.cable.is_plugged();
    match (plugged, stage.outage_began) {
        (false, None) => stage.outage_began = Some(Instant::now()),
        (true, Some(began)) => {
            stage.outage += began.elapsed();
            stage.outage_began = None;
            stage.back_at = Some(Instant::now());
            stage.drained_in = None;
        }
        _ => {}
    }
    let caught_up = status.is_some_and(|s| s["uplinks"][0]["state"] == "up");
    if let (Some(back), None, true) = (stage.back_at, stage.drained_in, caught_up) {
        stage.drained_in = Some(back.elapsed());
    }
}

/// Samples per second over the last second, from a counter that is read four times a second.
#[derive(Debug, Clone, Default)]
pub struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    pub fn per_s(&mut self, at: Duration, total: u64) -> u64 {
        self.0.push_back((at, total));
        while self.0.len() > 5 {
            self.0.pop_front();
        }
        let (first, before) = self.0[0];
        let ms = at.saturating_sub(first).as_millis().max(1);
        u64::try_from(u128::from(total.saturating_sub(before)) * 1000 / ms).unwrap_or(0)
    }
}

/// The terminal phase of the latest command, as a sentence.
pub fn command_result(books: &Ledger) -> Option<String> {
    let e = books.events.iter().rev().find(|e| e["type"] == "command")?;
    let read_back = e["values"]["setpoint"].as_f64().map_or(String::new(), |v| format!(", read back {v} °C"));
    Some(format!("{}: plc setpoint{read_back}", e["phase"].as_str().unwrap_or("?")))
}

/// Stops the field, waits until the spool is empty, stops the gateway, compares.
pub fn close(stage: &mut Stage, out: &Out, begun: Instant) -> anyhow::Result<ExitCode> {
    stage.cable.plug();
    stage.plugs.cancel();
    for unit in 1..=field::METERS {
        stage.devices.kill_unit(field::TCP_LINE, unit);
        stage.devices.kill_unit(field::RTU_LINE, unit);
    }
    let end = Instant::now() + Duration::from_secs(15);
    let mut last = None;
    let mut status = Value::Null;
    while Instant::now() < end {
        super::sleep_frame(Duration::from_millis(250));
        let Some(s) = stage.gateway.status() else { continue };
        observe(stage, Some(&s));
        status = s;
        let sealed = status["spool"]["sealed"].as_u64();
        let received = stage.cloud.books().received;
        if status["spool"]["waiting"] == 0 && sealed == last && sealed == Some(received) {
            break;
        }
        last = sealed;
    }
    let peak = stage.gateway.peak_kb();
    let stopped_well = stage.gateway.stop();
    let books = stage.cloud.books();
    let sent = status["spool"]["sealed"].as_u64().unwrap_or(0);
    let missing = sent.saturating_sub(books.received).max(books.holes());
    let results = books.events.iter().filter(|e| e["type"] == "command" && e["id"] == "demo-1").count();
    let writes = setpoint_writes(stage);
    let confirmed = books.events.iter().any(|e| e["type"] == "command" && e["phase"] == "confirmed");
    let command_well = stage.commands == 0 || (confirmed && writes == u64::from(stage.commands));
    let clean = missing == 0 && books.twice == 0 && sent > 0 && books.unreadable == 0 && stopped_well && command_well;
    let drained = stage.drained_in.map(|d| d.as_secs_f64());
    if out.json {
        out.say(
            &json!({
                "v": 1, "sent": sent, "received": books.received, "missing": missing, "twice": books.twice, "resent": books.resends,
                "outage_s": (stage.outage.as_secs_f64() * 10.0).round() / 10.0, "drain_s": drained.map(|d| (d * 10.0).round() / 10.0),
                "commands": stage.commands, "command_writes": writes, "command_results": results, "command_confirmed": confirmed,
                "bytes_written": status["spool"]["bytes_written"], "peak_kb": peak, "clean": clean,
            })
            .to_string(),
        );
    } else {
        say(stage, out, begun, &books, &status, missing, sent, peak, drained, writes);
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How often the PLC's set point was written on the wire, as the device itself counted.
fn setpoint_writes(stage: &Stage) -> u64 {
    let counters = stage.devices.counters();
    let plc = counters.get(field::TCP_LINE).and_then(|line| line.units.get(&1));
    plc.and_then(|unit| unit.writes.get("holding:100").copied()).unwrap_or(0)
}

#[allow(clippy::too_many_arguments)] // one screen, each figure once
fn say(
    stage: &Stage,
    out: &Out,
    begun: Instant,
    books: &Ledger,
    status: &Value,
    missing: u64,
    sent: u64,
    peak: Option<u64>,
    drained: Option<f64>,
    writes: u64,
) {
    let s = begun.elapsed().as_secs();
    let took = if s < 60 { format!("{s} s") } else { format!("{} min {} s", s / 60, s % 60) };
    let dead = if stage.meter_is_dead { ", one dead meter" } else { "" };
    let outage = stage.outage.as_secs_f64();
    let outage = if outage > 0.0 { format!("one outage of {outage:.0} s") } else { "no outage".into() };
    out.say(&format!("\n Demo over: {took}, {outage}{dead}.\n"));
    let line = status["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|l| l["id"] == "meters")
        .and_then(|l| l["utilisation"].as_f64())
        .unwrap_or(0.0);
    let row = |a: &str, av: String, b: &str, bv: String| out.say(&format!("   {a:<11}{av:<21}{b:<18}{bv}"));
    row("sent", format!("{} values", count(sent)), "line time used", format!("{:.0} % of meters", line * 100.0));
    row(
        "received",
        format!("{} values", count(books.received)),
        "memory",
        peak.map_or("?".into(), |kb| format!("{} MB at most", kb / 1024)),
    );
    row("missing", count(missing), "written to disk", crate::cli::out::bytes(status["spool"]["bytes_written"].as_u64().unwrap_or(0)));
    row("twice", count(books.twice), "drained in", drained.map_or("-".into(), |d| format!("{d:.1} s")));
    let command = if stage.commands == 0 { "none sent".into() } else { format!("sent {} times, {writes} write", stage.commands * 3) };
    row("resent", format!("{} messages", books.resends), "command", command);
    if let Some(result) = command_result(books) {
        out.say(&format!("\n   {result}"));
    }
    out.say("");
    out.next("fieldgate check config/examples/rtu-meters.toml");
}
