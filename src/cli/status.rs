//! `fieldgate status`: the verdict first, then who, why, and what is safe. From the running daemon's control socket.

use super::{
    EXIT_UNREACHABLE, Global, Out,
    out::{Paint, age, bytes, count},
    table::{Table, left},
};
use crate::{api::control, config};
use serde_json::{Value, json};
use std::{fmt::Write, path::PathBuf, process::ExitCode};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate status\n  fieldgate status --all\n  fieldgate status --json | jq .spool.waiting\n\nExit: 0 all well, 1 trouble, 3 not running."
)]
pub struct Args {
    /// Every device, not only those that need you
    #[arg(long)]
    all: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let socket = socket(global);
    let document = match control::ask(&socket, &json!({"get": "status", "all": args.all}), global.timeout) {
        Ok(document) if document.get("error").is_none() => document,
        Ok(refused) => return unreachable(out, &refused["error"]["message"].to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            out.error(
                "permission",
                &format!("no permission to ask fieldgate at {}", socket.display()),
                "run it with sudo, or as a member of the group fieldgate",
            );
            return ExitCode::from(EXIT_UNREACHABLE);
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            return unreachable(out, &format!("no answer from fieldgate within {} s", global.timeout.as_secs()));
        }
        Err(_) => return unreachable(out, &format!("fieldgate does not run here (no socket at {})", socket.display())),
    };
    if out.json {
        out.say(&document.to_string());
    } else {
        out.table(render(&document, out, args.all).trim_end());
        if let Some(first) = document["exceptions"].as_array().and_then(|e| e.first()).filter(|_| !args.all) {
            out.next(&format!("fieldgate status --all      all devices; {} first", text(&first["id"])));
        }
    }
    if document["verdict"] == "well" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The socket given, else the one of the configuration, else the usual place.
pub fn socket(global: &Global) -> PathBuf {
    if let Some(socket) = &global.socket {
        return socket.clone();
    }
    let surroundings = config::Surroundings::real(config::Secrets::IfReachable);
    match config::load_with(&global.config, &surroundings).config {
        Some(config) => config.gateway.socket(),
        None => PathBuf::from("/run/fieldgate/control.sock"),
    }
}

fn unreachable(out: &Out, message: &str) -> ExitCode {
    out.error("not-running", message, "sudo fieldgate check     then   sudo systemctl start fieldgate");
    ExitCode::from(EXIT_UNREACHABLE)
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or("")
}

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or(0)
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

/// Pure: the document in, the screen out.
pub fn render(d: &Value, out: &Out, all: bool) -> String {
    let mut s = String::new();
    let id = text(&d["gateway"]["id"]);
    let crowded = list(&d["lines"]).iter().any(is_overloaded);
    // All answer, and not as often as they were to.
    let word = if crowded && d["verdict"] == "well" { "slow" } else { text(&d["verdict"]) };
    let _ = writeln!(s, "{} {}", out.glyph(word), out.paint(Paint::Bold, &format!("{id}: {}", verdict(d))));
    let exceptions = list(if all { &d["all"] } else { &d["exceptions"] });
    let quiet = d["verdict"] == "well" && exceptions.is_empty() && !all && !crowded;
    if quiet {
        let _ = writeln!(s, "  {}", well(d));
    } else {
        if !exceptions.is_empty() {
            s.push('\n');
        }
        table(&mut s, exceptions, out, if all { usize::MAX } else { 8 });
        s.push('\n');
        parts(&mut s, d, out);
        s.push('\n');
    }
    let _ = writeln!(s, "fieldgate {}, running for {}", text(&d["gateway"]["version"]), age(number(&d["gateway"]["running_s"]) * 1000));
    s
}

/// What is wrong in one sentence, the worst first.
fn verdict(d: &Value) -> String {
    let mut says = Vec::new();
    for line in list(&d["lines"]).iter().filter(|l| l["state"] == "down") {
        says.push(format!("line {} is down", text(&line["id"])));
    }
    match number(&d["devices"]["offline"]) {
        0 => {}
        1 => says.push("1 device needs you".into()),
        n => says.push(format!("{n} devices need you")),
    }
    match number(&d["alarms"]["unseen"]) {
        0 => {}
        1 => says.push("1 alarm, fieldgate alarms shows it".into()),
        n => says.push(format!("{n} alarms, fieldgate alarms shows them")),
    }
    for line in list(&d["lines"]).iter().filter(|l| l["state"] != "down" && is_overloaded(l)) {
        let id = text(&line["id"]);
        says.push(format!("line {id} has more than it can carry, fieldgate plan --line {id} says what to change"));
    }
    for up in list(&d["uplinks"]).iter().filter(|u| u["state"] == "down") {
        let optional = if up["required"] == false { " (optional)" } else { "" };
        says.push(format!(
            "{}{optional} is down, keeping {} here",
            text(&up["id"]),
            if optional.is_empty() { "everything" } else { "what fits" }
        ));
    }
    for file in list(&d["store"]).iter().filter(|f| f["state"] != "ok") {
        let name = text(&file["file"]);
        says.push(match text(&file["state"]) {
            "quarantined" => format!("{name} was damaged and begun anew"),
            "slow" => format!("the disk of {name} is slow"),
            "full" => format!("the disk is full for {name}"),
            "read_only" => format!("the disk of {name} is read-only"),
            _ => format!("{name} cannot be written"),
        });
    }
    if number(&d["spool"]["dropped"]) > 0 {
        says.push(format!(
            "{} samples were dropped or put aside; gap events and dead letters say why",
            count(number(&d["spool"]["dropped"]))
        ));
    }
    if says.is_empty() { "all well".into() } else { says.join("; ") }
}

fn well(d: &Value) -> String {
    let online = number(&d["devices"]["online"]);
    let total: u64 = d["devices"].as_object().map_or(0, |o| o.values().map(number).sum());
    let mut s = format!("{online} of {total} devices online");
    if list(&d["uplinks"]).is_empty() {
        s.push_str(", no cloud configured");
    }
    for u in list(&d["uplinks"]) {
        let _ = match u["answer_ms"].as_u64() {
            Some(ms) => write!(s, ", {} answers in {ms} ms", text(&u["id"])),
            None => write!(s, ", {} is {}", text(&u["id"]), text(&u["state"]).replace('_', " ")),
        };
    }
    let _ = write!(s, ", {}", waiting(&d["spool"]["waiting"]));
    s
}

/// A limit in the unit of the configuration.
fn mebibytes(n: u64) -> String {
    format!("{} MiB", n >> 20)
}

fn waiting(samples: &Value) -> String {
    match number(samples) {
        0 => "nothing waiting".into(),
        n => format!("{} waiting", count(n)),
    }
}

fn table(s: &mut String, devices: &[Value], out: &Out, most: usize) {
    let mut table = Table::headless(&[left("DEVICE"), left("STATE").least(11), left("WHY").text(20).least(38), left("LINE").rank(1)]);
    for e in devices.iter().take(most) {
        let state = if e["cause"] == "maintenance" { "maintenance" } else { text(&e["state"]) };
        let cells = [text(&e["id"]).to_owned(), state.to_owned(), why(e), text(&e["line"]).to_owned()];
        table.row(format!("  {} ", out.glyph(state)), cells);
    }
    s.push_str(&table.text(out));
    if devices.len() > most {
        let _ = writeln!(s, "  … {} more; --all shows them", devices.len() - most);
    }
}

/// UI.md 1.2: the sentence of each cause.
fn why(e: &Value) -> String {
    let since = age(number(&e["since_s"]) * 1000);
    let heard = e["evidence"]["age_s"].as_u64().map(|s| age(s * 1000));
    match text(&e["cause"]) {
        "silent" => {
            let missed = number(&e["missed"]);
            let mut s = format!("silent for {}", heard.unwrap_or(since));
            if missed > 0 {
                let _ = write!(s, ", {missed} polls missed");
            }
            s
        }
        "said" => format!("said goodbye {since} ago"),
        "line_down" => format!("not seen: line {} is down", text(&e["line"])),
        "broker_down" => "not seen: local broker is down".into(),
        "restored" => format!("not heard yet since the gateway started {since} ago"),
        "maintenance" => format!("in maintenance for {since}"),
        _ => heard.map_or_else(String::new, |h| format!("heard {h} ago")),
    }
}

/// A line that is full and has missed polls for it.
fn is_overloaded(line: &Value) -> bool {
    line["utilisation"].as_f64().is_some_and(|share| share > super::check::line_time::LIMIT) && number(&line["missed"]) > 0
}

fn parts(s: &mut String, d: &Value, out: &Out) {
    let row = |s: &mut String, name: &str, state: &str, detail: &str| {
        let _ = writeln!(s, "  {name:<12} {} {:<13} {detail}", out.glyph(state), state.replace('_', " "));
    };
    let several = list(&d["uplinks"]).len() > 1;
    for u in list(&d["uplinks"]) {
        let state = text(&u["state"]);
        let mut detail = match (state, u["answer_ms"].as_u64()) {
            ("down" | "unknown", _) => format!("{}, for {}", text(&u["reason"]), age(number(&u["since_s"]) * 1000)),
            (_, Some(ms)) => format!("connected for {}, answers in {ms} ms", age(number(&u["since_s"]) * 1000)),
            _ => format!("connected for {}", age(number(&u["since_s"]) * 1000)),
        };
        if !matches!(state, "down" | "unknown") && !text(&u["reason"]).is_empty() {
            let _ = write!(detail, "; but {}", text(&u["reason"]));
        }
        // Each holds what it has not acknowledged.
        let of = if u["waiting"].is_u64() { u } else { &d["spool"] };
        let _ = write!(detail, "; {}", waiting(&of["waiting"]));
        if let Some(seconds) = u["drained_in_s"].as_u64().filter(|_| state == "catching_up") {
            let _ = write!(detail, " ({}/s, done in {})", count(number(&u["drain_rate"])), age(seconds * 1000));
        }
        let dropped = number(&of["dropped"]);
        let _ = write!(detail, ", {}", if dropped == 0 { "nothing dropped".into() } else { format!("{} dropped", count(dropped)) });
        if several {
            let _ = write!(detail, "{}", if u["required"] == false { "; optional" } else { "" });
        }
        row(s, text(&u["id"]), state, &detail);
    }
    for l in list(&d["lines"]) {
        let mut detail = String::new();
        if let Some(share) = l["utilisation"].as_f64() {
            let _ = write!(detail, "{:.0} % of line time, ", share * 100.0);
        }
        let _ = write!(detail, "{} of {} online", number(&l["online"]), number(&l["devices"]));
        match text(&l["framing"]) {
            "" => {}
            "rtu" => detail.push_str(", RTU frames over TCP"),
            "mbap" => detail.push_str(", Modbus TCP"),
            other => {
                let _ = write!(detail, ", {other}");
            }
        }
        let crowded = is_overloaded(l);
        if crowded {
            let _ = write!(detail, "; more than it can carry, {} polls missed: fieldgate plan", count(number(&l["missed"])));
        }
        if l["state"] == "down" {
            let devices = number(&l["devices"]);
            detail = format!("{}; {devices} {} not seen", text(&l["reason"]), if devices == 1 { "device" } else { "devices" });
        }
        let state = if crowded && l["state"] == "up" { "slow" } else { text(&l["state"]) };
        row(s, text(&l["id"]), state, &detail);
    }
    let clock = text(&d["clock"]["quality"]);
    row(s, "clock", clock, &clock_detail(&d["clock"]));
    let disk = format!(
        "{} of {}, {} written by the spool",
        bytes(number(&d["disk"]["bytes"])),
        mebibytes(number(&d["disk"]["max"])),
        bytes(number(&d["spool"]["bytes_written"]))
    );
    row(s, "disk", "good", &disk);
    for file in list(&d["store"]).iter().filter(|f| f["state"] != "ok") {
        let since = age(number(&file["since_s"]) * 1000);
        let state = text(&file["state"]);
        let glyph = if matches!(state, "quarantined" | "slow") { "slow" } else { "down" };
        let _ = writeln!(
            s,
            "  {:<12} {} {:<13} for {since}: {}",
            text(&file["file"]),
            out.glyph(glyph),
            state.replace('_', " "),
            text(&file["detail"])
        );
    }
    if let Some(days) = d["wear"]["card_days"].as_u64() {
        let w = &d["wear"];
        let (written, syncs) = (bytes(number(&w["bytes_per_day"])), count(number(&w["syncs_per_day"])));
        let life = if days > 36_500 { "over 100 years".to_owned() } else { format!("{} days", count(days)) };
        row(
            s,
            "wear",
            "good",
            &format!("{written} and {syncs} flushes a day; {life} on a card of {}", bytes(number(&w["card_endurance"]))),
        );
    }
}

fn clock_detail(clock: &Value) -> String {
    let mut detail = match (text(&clock["source"]), clock["error_ms"].as_u64()) {
        ("rtc", _) => "the clock of this machine is trusted (gateway.trust_rtc)".into(),
        (source @ ("ntp" | "file"), Some(ms)) if clock["quality"] == "synchronised" => {
            format!("off by {} ms or less ({source})", count(ms))
        }
        ("ntp" | "file", Some(ms)) => format!("no time server for long; off by {} s or less, messages say so", count(ms / 1000)),
        _ if clock["quality"] == "estimated" => "not known to be set from the network; messages say so".into(),
        _ => String::new(),
    };
    if let Some(s) = clock["held_for_s"].as_u64() {
        let _ = write!(detail, "; telemetry waits {s} s more for it, {} batches", count(number(&clock["held_batches"])));
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({"verdict": "trouble", "gateway": {"id": "plant-7", "version": "0.1.0", "running_s": 532_800},
          "uplinks": [{"id": "cloud", "state": "catching_up", "since_s": 120, "answer_ms": 84}],
          "spool": {"waiting": 6150, "dropped": 0, "bytes_written": 3_100_000}, "disk": {"bytes": 400_000, "max": 536_870_912},
          "devices": {"online": 3, "offline": 1, "suspect": 0, "unknown": 0}, "clock": {"quality": "synchronised"},
          "lines": [{"id": "meters", "state": "up", "utilisation": 0.58, "online": 3, "devices": 4}],
          "exceptions": [{"id": "meter-4", "line": "meters", "state": "offline", "cause": "silent", "since_s": 720, "missed": 3, "evidence": {"kind": "poll", "age_s": 725}}]})
    }

    #[test]
    fn the_first_line_is_the_verdict_and_the_second_block_who_and_why() {
        let s = render(&document(), &Out::plain(), false);
        let mut lines = s.lines();
        assert_eq!(lines.next(), Some("✕ plant-7: 1 device needs you"), "{s}");
        assert!(s.contains("✕ meter-4  offline      silent for 12 min, 3 polls missed"), "{s}");
        assert!(s.contains("catching up   connected for 2 min, answers in 84 ms; 6,150 waiting, nothing dropped"), "{s}");
        assert!(s.contains("58 % of line time, 3 of 4 online"), "{s}");
        assert!(s.lines().all(|l| l.chars().count() <= 100), "{s}");
    }

    #[test]
    fn an_overloaded_line_is_named_by_the_verdict_with_its_remedy() {
        let mut d = document();
        (d["verdict"], d["exceptions"], d["devices"]) = (json!("well"), json!([]), json!({"online": 4, "offline": 0}));
        d["lines"][0]["utilisation"] = json!(0.99);
        d["lines"][0]["missed"] = json!(1200);
        let s = render(&d, &Out::plain(), false);
        let first = "◐ plant-7: line meters has more than it can carry, fieldgate plan --line meters says what to change";
        assert_eq!(s.lines().next(), Some(first), "{s}");
        assert!(!s.contains("all well"), "{s}");
    }

    #[test]
    fn a_line_that_cannot_keep_up_says_so_even_when_all_devices_answer() {
        let mut d = document();
        (d["verdict"], d["exceptions"]) = (json!("well"), json!([]));
        d["lines"][0]["utilisation"] = json!(0.99);
        d["lines"][0]["missed"] = json!(1200);
        d["lines"][0]["framing"] = json!("rtu");
        let s = render(&d, &Out::plain(), false);
        let line = "meters       ◐ slow          99 % of line time, 3 of 4 online, RTU frames over TCP; more than it can carry, 1,200 polls missed";
        assert!(s.contains(line), "{s}");
    }

    #[test]
    fn a_database_in_trouble_is_in_the_verdict_and_has_a_line() {
        let mut d = document();
        d["exceptions"] = json!([]);
        d["devices"]["offline"] = json!(0);
        d["store"] = json!([
            {"file": "state.db", "state": "read_only", "since_s": 60, "detail": "attempt to write a readonly database"},
            {"file": "spool.db", "state": "quarantined", "since_s": 5, "detail": "malformed; kept as spool.db.corrupt-1"},
        ]);
        d["wear"] = json!({"bytes_per_day": 36_000_000, "syncs_per_day": 8640, "card_endurance": 5_000_000_000_000u64, "card_days": 3000});
        let s = render(&d, &Out::plain(), false);
        assert!(s.starts_with("✕ plant-7: the disk of state.db is read-only; spool.db was damaged and begun anew\n"), "{s}");
        assert!(s.contains("state.db     ✕ read only     for 1 min: attempt to write a readonly database"), "{s}");
        assert!(s.contains("quarantined   for 5 s: malformed; kept as spool.db.corrupt-1"), "{s}");
        assert!(s.contains("8,640 flushes a day; 3,000 days on a card of"), "{s}");
    }

    #[test]
    fn each_uplink_says_what_waits_for_it_and_how_long_that_takes() {
        let mut d = document();
        d["uplinks"] = json!([
            {"id": "cloud", "state": "catching_up", "since_s": 120, "answer_ms": 84, "required": true, "waiting": 6150, "dropped": 0,
             "drain_rate": 1200, "drained_in_s": 300},
            {"id": "archive", "state": "down", "since_s": 600, "reason": "no answer", "required": false, "waiting": 90_000, "dropped": 70},
        ]);
        let s = render(&d, &Out::plain(), false);
        assert!(s.contains("answers in 84 ms; 6,150 waiting (1,200/s, done in 5 min), nothing dropped"), "{s}");
        assert!(s.contains("no answer, for 10 min; 90,000 waiting, 70 dropped; optional"), "{s}");
        assert!(s.contains("archive (optional) is down, keeping what fits here"), "{s}");
    }

    #[test]
    fn the_clock_says_who_keeps_it_and_what_waits_for_it() {
        let check = |clock: Value, want: &str| {
            let mut d = document();
            d["clock"] = clock;
            let s = render(&d, &Out::plain(), false);
            let line = s.lines().find(|l| l.trim_start().starts_with("clock")).unwrap_or_default();
            assert!(line.ends_with(want), "{line}");
        };
        check(json!({"quality": "synchronised", "source": "ntp", "error_ms": 2}), "● synchronised  off by 2 ms or less (ntp)");
        check(
            json!({"quality": "synchronised", "source": "rtc", "error_ms": null}),
            "the clock of this machine is trusted (gateway.trust_rtc)",
        );
        check(json!({"quality": "estimated", "source": "guess"}), "◐ estimated     not known to be set from the network; messages say so");
        check(
            json!({"quality": "estimated", "source": "guess", "held_for_s": 40, "held_batches": 1200}),
            "messages say so; telemetry waits 40 s more for it, 1,200 batches",
        );
        check(
            json!({"quality": "estimated", "source": "ntp", "error_ms": 20_000}),
            "no time server for long; off by 20 s or less, messages say so",
        );
    }

    #[test]
    fn all_well_is_three_lines() {
        let mut d = document();
        d["verdict"] = json!("well");
        d["devices"] = json!({"online": 4, "offline": 0});
        d["exceptions"] = json!([]);
        d["spool"]["waiting"] = json!(0);
        let s = render(&d, &Out::plain(), false);
        assert_eq!(
            s,
            "● plant-7: all well\n  4 of 4 devices online, cloud answers in 84 ms, nothing waiting\nfieldgate 0.1.0, running for 6 d 4 h\n"
        );
    }
}
