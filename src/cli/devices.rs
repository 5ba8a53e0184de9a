//! `fieldgate devices`: who is there and for how long; one with its past; and the word of a person: do not judge this one.

use super::{
    EXIT_REFUSED, EXIT_UNREACHABLE, Global, Out, moment,
    out::{Paint, age},
    status,
    table::{Table, left, right},
    write::user,
};
use crate::api::control;
use serde_json::{Value, json};
use std::{process::ExitCode, time::Duration};

const LISTS: &str = "fieldgate devices lists them";
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  fieldgate devices                                        all, trouble first\n  fieldgate devices meter-4 --range 7d                     one, with its past\n  fieldgate devices maintain meter-4 --for 2h --reason \"new cable\"\n  fieldgate devices maintain meter-4 --off\n\nExit: 0 done, 1 with an id: it is not online, 3 not running, 5 refused."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// One of them, with its changes, alarms and what it says of itself
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Only those in this state: online, suspect, offline, unknown, maintenance
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those on this line
    #[arg(long, value_name = "ID")]
    line: Option<String>,
    /// How far back it is counted
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::duration)]
    range: Duration,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Do not judge a device for a while: no alarm, no offline
    #[command(after_help = "Examples:\n  fieldgate devices maintain meter-4 --for 2h\n  fieldgate devices maintain meter-4 --off")]
    Maintain(Maintain),
}

#[derive(Debug, clap::Args)]
struct Maintain {
    #[arg(value_name = "ID")]
    id: String,
    /// It ends by itself after this [default: until --off]
    #[arg(long = "for", value_name = "TIME", value_parser = super::duration, conflicts_with = "off")]
    lasts: Option<Duration>,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Judge it again
    #[arg(long)]
    off: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match &args.what {
        Some(What::Maintain(wish)) => maintain(global, out, wish),
        None => show(global, out, args),
    }
}

pub(super) fn ask(global: &Global, out: &Out, request: &Value, remedy: &str) -> Result<Value, ExitCode> {
    let answer = control::ask(&status::socket(global), request, global.timeout).map_err(|e| {
        out.error("not-running", &format!("fieldgate cannot be asked: {e}"), "sudo systemctl start fieldgate; or sudo, if it runs");
        ExitCode::from(EXIT_UNREACHABLE)
    })?;
    let Some(why) = answer["error"]["message"].as_str() else { return Ok(answer) };
    out.error(answer["error"]["code"].as_str().unwrap_or("refused"), why, remedy);
    Err(ExitCode::from(EXIT_REFUSED))
}

fn show(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let range = u64::try_from(args.range.as_millis()).unwrap_or(u64::MAX);
    let mut answer = match ask(global, out, &json!({"devices": {"id": args.id, "range_ms": range}}), LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let now = answer["now_ms"].as_i64().unwrap_or_default();
    if let Some(devices) = answer["devices"].as_array_mut() {
        devices.retain(|d| args.state.as_deref().is_none_or(|s| s == word(d)) && args.line.as_deref().is_none_or(|l| d["line"] == l));
        devices.sort_by_key(|d| rank(word(d)));
    }
    let devices = answer["devices"].as_array().map_or(&[][..], Vec::as_slice);
    let well = args.id.is_none() || devices.first().is_some_and(|d| d["state"] == "online");
    if out.json {
        let devices: Vec<Value> = devices.iter().map(moment::with_times).collect();
        out.say(&json!({"v": 1, "devices": devices, "next": null}).to_string());
    } else if let (Some(_), Some(device)) = (&args.id, devices.first()) {
        out.table(one(device, now, args.range, out).trim_end());
    } else {
        out.table(all(devices, now, args.range, out).trim_end());
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The state as a person says it.
fn word(device: &Value) -> &str {
    if device["cause"] == "maintenance" { "maintenance" } else { device["state"].as_str().unwrap_or_default() }
}

fn rank(state: &str) -> u8 {
    match state {
        "offline" => 0,
        "suspect" => 1,
        "unknown" => 2,
        "maintenance" => 3,
        _ => 4,
    }
}

pub(super) fn ago(now: i64, at: &Value) -> String {
    at.as_i64().map_or("-".into(), |at| age(now.saturating_sub(at).max(0).unsigned_abs()))
}

/// 100 % only if it is exactly that.
fn share(part: &Value) -> String {
    match part.as_f64() {
        None => "-".into(),
        Some(part) if part >= 1.0 => "100 %".into(),
        Some(part) => format!("{:.1} %", (part * 1000.0).floor() / 10.0),
    }
}

fn why(device: &Value) -> String {
    let mut says: Vec<String> = device["cause"].as_str().filter(|c| *c != "maintenance").map(|c| c.replace('_', " ")).into_iter().collect();
    let m = &device["maintenance"];
    says.extend(m["by"].as_str().map(|by| format!("by {by}")));
    says.extend(m["reason"].as_str().filter(|r| !r.is_empty()).map(str::to_owned));
    says.extend(device["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|a| *a != "offline").map(str::to_owned));
    says.join(", ")
}

fn all(devices: &[Value], now: i64, range: Duration, out: &Out) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(&[
        left("DEVICE"),
        left("STATE"),
        right("FOR"),
        right("HEARD").rank(2),
        left("LINE").rank(1),
        right(if range == DAY { "24 H" } else { "ONLINE" }),
        left("WHY").text(10),
    ]);
    for d in devices {
        let (state, uptime) = (word(d), share(&d["uptime"]["online_share"]));
        let cells = [
            text(&d["id"]),
            state.to_owned(),
            ago(now, &d["since_ms"]),
            ago(now, &d["evidence"]["at_ms"]),
            text(&d["line"]),
            uptime,
            why(d),
        ];
        table.row(format!("{} ", out.glyph(state)), cells);
    }
    let count = |state: &str| devices.iter().filter(|d| word(d) == state).count();
    let mut says: Vec<String> = ["online", "suspect", "offline", "unknown"]
        .iter()
        .map(|s| (count(s), *s))
        .filter(|(n, _)| *n > 0)
        .map(|(n, s)| format!("{n} {s}"))
        .collect();
    says.extend((count("maintenance") > 0).then(|| format!("{} in maintenance", count("maintenance"))));
    let noun = if devices.len() == 1 { "device" } else { "devices" };
    let says = if says.is_empty() { String::new() } else { format!(": {}", says.join(", ")) };
    format!("{}{} {noun}{says}\n", table.text(out), devices.len())
}

fn one(d: &Value, now: i64, range: Duration, out: &Out) -> String {
    let state = word(d);
    let id = d["id"].as_str().unwrap_or_default();
    let why = Some(why(d)).filter(|w| !w.is_empty()).map_or(String::new(), |w| format!(", {w}"));
    let mut lines =
        vec![format!("{} {}   {state} for {}{why}", out.glyph(state), out.paint(Paint::Bold, id), ago(now, &d["since_ms"])), String::new()];
    let mut row = |name: &str, says: String| lines.push(format!("  {name:<12}{says}"));
    if let Some(kind) = d["evidence"]["kind"].as_str() {
        row("last heard", format!("{} ago, {kind}", ago(now, &d["evidence"]["at_ms"])));
    }
    if let Some(line) = d["line"].as_str() {
        row("line", line.to_owned());
    }
    if let Some(until) = d["maintenance"]["until_ms"].as_i64() {
        row("maintenance", format!("ends in {}", age(until.saturating_sub(now).max(0).unsigned_abs())));
    }
    let up = &d["uptime"];
    let over = age(u64::try_from(range.as_millis()).unwrap_or(u64::MAX));
    row(
        "online",
        format!("{} of the time it was observed; observed {} of {over}", share(&up["online_share"]), share(&up["observed_share"])),
    );
    if let Some(s) = up["longest_outage"]["s"].as_u64() {
        row(
            "outage",
            format!(
                "the longest took {}, from {}",
                age(s * 1000),
                moment::rfc3339(up["longest_outage"]["from_ms"].as_i64().unwrap_or_default())
            ),
        );
    }
    row("changes", up["changes"].to_string());
    for (name, value) in d["attributes"].as_object().into_iter().flatten() {
        row(name, value.as_str().unwrap_or_default().to_owned());
    }
    for relay in d["relays"].as_array().into_iter().flatten() {
        let point = relay["point"].as_str().unwrap_or_default();
        row(point, format!("{} for {}{}", switched(relay), ago(now, &relay["at_ms"]), by(relay)));
    }
    for past in d["switchings"].as_array().into_iter().flatten().take(5) {
        let at = moment::rfc3339(past["at_ms"].as_i64().unwrap_or_default());
        let often = past["changes"].as_u64().filter(|n| *n > 1).map_or(String::new(), |n| format!(", {n} changes"));
        row("switched", format!("{at}  {} {}{}{often}", past["point"].as_str().unwrap_or_default(), switched(past), by(past)));
    }
    for alarm in d["past_alarms"].as_array().into_iter().flatten().take(5) {
        let end = alarm["cleared_ms"].as_i64().map_or("raised".to_owned(), |at| format!("cleared {}", moment::rfc3339(at)));
        let at = moment::rfc3339(alarm["at_ms"].as_i64().unwrap_or_default());
        row(
            "alarm",
            format!("{at}  {}, {}; {end}", alarm["alarm"].as_str().unwrap_or_default(), alarm["reason"].as_str().unwrap_or_default()),
        );
    }
    let changes: Vec<&Value> = d["history"].as_array().into_iter().flatten().collect();
    lines.extend((!changes.is_empty()).then(String::new));
    for t in changes.iter().rev().take(20) {
        let (state, cause) = (word(t), t["cause"].as_str().filter(|c| *c != "maintenance").unwrap_or_default().replace('_', " "));
        let at = moment::rfc3339(t["at_ms"].as_i64().unwrap_or_default());
        lines.push(format!("  {at}  {} {state:<11}  {cause}", out.glyph(state)).trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

fn switched(relay: &Value) -> &'static str {
    if relay["on"] == true { "on" } else { "off" }
}

/// Nothing where it was only seen so.
fn by(relay: &Value) -> String {
    let text = |key: &str| relay["by"][key].as_str();
    text("command").map_or(String::new(), |command| format!(", by command {command} of {}", text("source").unwrap_or_default()))
}

fn maintain(global: &Global, out: &Out, wish: &Maintain) -> ExitCode {
    let for_ms = wish.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    let request = json!({"maintain": {
        "device": wish.id, "on": !wish.off, "for_ms": for_ms, "by": user(), "reason": wish.reason.clone().unwrap_or_default(),
    }});
    let answer = match ask(global, out, &request, LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if out.json {
        out.say(&moment::with_times(&answer).to_string());
        return ExitCode::SUCCESS;
    }
    let end = answer["maintenance"]["until_ms"].as_i64().map_or("until --off".to_owned(), |at| format!("until {}", moment::rfc3339(at)));
    let (glyph, says) = if wish.off { ("good", "judged again".to_owned()) } else { ("maintenance", format!("in maintenance {end}")) };
    out.say(&format!("{} {} is {says}", out.glyph(glyph), wish.id));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, state: &str, cause: Option<&str>) -> Value {
        json!({
            "id": id, "state": state, "cause": cause, "line": "meters", "since_ms": 1_795_274_588_104_i64, "missed": 3,
            "evidence": {"kind": "poll", "at_ms": 1_795_274_580_000_i64}, "alarms": [], "maintenance": null,
            "uptime": {"range_s": 86_400, "observed_s": 80_000, "online_s": 78_800, "online_share": 0.98599, "observed_share": 0.9259,
                "changes": 2, "longest_outage": {"from_ms": 1_795_274_588_104_i64, "s": 720}},
        })
    }

    const NOW: i64 = 1_795_274_588_104 + 720_000;

    #[test]
    fn the_list_says_who_for_how_long_and_why() {
        let mut scale = device("scale-2", "unknown", Some("maintenance"));
        scale["maintenance"] = json!({"by": "anna", "reason": "new cable", "until_ms": null});
        let shown = all(&[device("meter-4", "offline", Some("silent")), scale], NOW, DAY, &Out::plain());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["DEVICE", "STATE", "FOR", "HEARD", "LINE", "24", "H", "WHY"]);
        assert!(lines[1].starts_with("✕ meter-4  offline      12 min  12 min  meters  98.5 %  silent"), "{shown}");
        assert!(lines[2].starts_with("◇ scale-2  maintenance") && lines[2].ends_with("by anna, new cable"), "{shown}");
        assert_eq!(lines[3], "2 devices: 1 offline, 1 in maintenance");
    }

    #[test]
    fn one_device_has_both_shares_and_its_past() {
        let mut meter = device("meter-4", "offline", Some("silent"));
        meter["attributes"] = json!({"firmware": "1.2"});
        let at = 1_795_274_588_104_i64;
        let by = json!({"command": "c1", "source": "uplink cloud"});
        meter["relays"] = json!([{"point": "relay.0", "on": true, "at_ms": at, "by": by, "changes": 1}]);
        meter["switchings"] = json!([{"point": "relay.0", "on": false, "at_ms": at - 1000, "by": null, "changes": 3}]);
        meter["history"] = json!([{"at_ms": 1_795_274_588_104_i64, "state": "offline", "cause": "silent", "missed": 3}]);
        let shown = one(&meter, NOW, DAY, &Out::plain());
        for want in [
            "✕ meter-4   offline for 12 min, silent",
            "online      98.5 % of the time it was observed; observed 92.5 % of 1 d",
            "the longest took 12 min",
            "firmware    1.2",
            "relay.0     on for 12 min, by command c1 of uplink cloud",
            "switched    2026-11-21T15:23:07.104Z  relay.0 off, 3 changes",
            "2026-11-21T15:23:08.104Z  ✕ offline      silent",
        ] {
            assert!(shown.contains(want), "{want}: {shown}");
        }
        assert_eq!(moment::with_times(&meter)["since"], "2026-11-21T15:23:08.104Z");
    }

    #[test]
    fn a_hundred_percent_is_only_that() {
        assert_eq!([json!(1.0), json!(0.9999), json!(null)].map(|v| share(&v)), ["100 %", "99.9 %", "-"]);
    }
}
