//! `fieldgate schedules`: what is written at its time, in sentences, with what came of it; and adding, disabling, removing.
//!
//! Exit: 0 done, 2 usage, 3 not running, 5 refused.

use super::{
    EXIT_REFUSED, EXIT_UNREACHABLE, Global, Out, moment,
    out::{Paint, age},
    status,
    table::{Table, left, right},
    write::{assignment, user},
};
use crate::{api::control, model::Phase};
use serde_json::{Map, Value, json};
use std::{process::ExitCode, time::Duration};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate schedules                              all, with the next run of each\n  fieldgate schedules show night                   one, with what came of its last runs\n  fieldgate schedules add night --cron \"0 22 * * *\" --zone Europe/Berlin relays.k1=false\n  fieldgate schedules disable night\n\nExit: 0 done, 2 usage, 3 not running, 5 refused."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All, with the next run of each
    #[command(after_help = "Examples:\n  fieldgate schedules list --json")]
    List,
    /// One, with what came of its last runs
    #[command(after_help = "Examples:\n  fieldgate schedules show night")]
    Show { id: String },
    /// Add one, or put it in the place of the one with this id; those of the configuration stay as they are
    #[command(
        after_help = "Examples:\n  fieldgate schedules add night --cron \"0 22 * * *\" --zone Europe/Berlin relays.k1=false\n  fieldgate schedules add pump --every 15m pump.run=true\n  fieldgate schedules add party --at 2026-12-24T18:00:00 --zone Europe/Berlin lights.on=true"
    )]
    Add(Add),
    /// Let it run again
    #[command(after_help = "Examples:\n  fieldgate schedules enable night")]
    Enable { id: String },
    /// Keep it, and run it no more; also one of the configuration
    #[command(after_help = "Examples:\n  fieldgate schedules disable night")]
    Disable { id: String },
    /// Forget one that was added
    #[command(after_help = "Examples:\n  fieldgate schedules remove night")]
    Remove { id: String },
}

#[derive(Debug, clap::Args)]
struct Add {
    id: String,
    /// What to write, such as relays.k1=false
    #[arg(value_name = "DEVICE.POINT=VALUE", required = true)]
    write: Vec<String>,
    /// Minute, hour, day of the month, month, weekday; or @daily and the like
    #[arg(long, value_name = "FIELDS", conflicts_with_all = ["at", "every"], required_unless_present_any = ["at", "every"])]
    cron: Option<String>,
    /// Once, such as 2026-12-24T18:00:00
    #[arg(long, value_name = "TIME", conflicts_with = "every")]
    at: Option<String>,
    /// Again and again, such as 15m
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    every: Option<Duration>,
    /// One of the runs of --every, such as 2026-01-01T06:00:00Z
    #[arg(long, value_name = "TIME", requires = "every")]
    anchor: Option<String>,
    /// By whose clock [default: UTC]
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// What becomes of runs that were missed: skip, once, all [default: skip]
    #[arg(long, value_name = "POLICY")]
    missed: Option<String>,
    /// Also while nobody has set the clock of this machine
    #[arg(long)]
    untrusted_clock: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match &args.what {
        None | Some(What::List) => list(global, out),
        Some(What::Show { id }) => show(global, out, id),
        Some(What::Add(add)) => match body(add) {
            Ok(body) => change(global, out, &json!({"schedule.set": body}), &add.id, "set"),
            Err(message) => {
                out.error("usage", &message, "fieldgate schedules add --help");
                ExitCode::from(2)
            }
        },
        Some(What::Enable { id }) => change(global, out, &json!({"schedule.enable": id}), id, "enabled"),
        Some(What::Disable { id }) => change(global, out, &json!({"schedule.disable": id}), id, "disabled"),
        Some(What::Remove { id }) => change(global, out, &json!({"schedule.remove": id}), id, "removed"),
    }
}

fn body(add: &Add) -> Result<Value, String> {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    put("id", json!(add.id));
    let texts = [("cron", &add.cron), ("at", &add.at), ("anchor", &add.anchor), ("zone", &add.zone), ("missed", &add.missed)];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
        put(key, json!(text));
    }
    if let Some(every) = add.every {
        if every.subsec_nanos() != 0 {
            return Err("--every takes whole seconds".into());
        }
        put("every_s", json!(every.as_secs()));
    }
    if add.untrusted_clock {
        put("untrusted_clock", json!(true));
    }
    let target = |text: &String| {
        let (place, value) = assignment(text).map_err(|_| format!("{text} says no value; write DEVICE.POINT=VALUE"))?;
        let (device, point) = place.split_once('.').ok_or_else(|| format!("{place} names no point; write DEVICE.POINT=VALUE"))?;
        Ok(json!({"device": device, "point": point, "value": value.plain()}))
    };
    put("write", add.write.iter().map(target).collect::<Result<Vec<Value>, String>>()?.into());
    Ok(Value::Object(all))
}

fn ask(global: &Global, out: &Out, request: &Value) -> Result<Value, ExitCode> {
    let answer = control::ask(&status::socket(global), request, global.timeout).map_err(|e| {
        out.error("not-running", &format!("fieldgate cannot be asked: {e}"), "sudo systemctl start fieldgate; or sudo, if it runs");
        ExitCode::from(EXIT_UNREACHABLE)
    })?;
    let Some(why) = answer["error"]["message"].as_str() else { return Ok(answer) };
    out.error(answer["error"]["code"].as_str().unwrap_or("refused"), why, "fieldgate schedules lists them");
    Err(ExitCode::from(EXIT_REFUSED))
}

fn change(global: &Global, out: &Out, run: &Value, id: &str, word: &str) -> ExitCode {
    if let Err(exit) = ask(global, out, &json!({"schedule": {"run": run, "by": user()}})) {
        return exit;
    }
    let Ok(answer) = ask(global, out, &json!({"schedules": if word == "removed" { json!({}) } else { json!({"id": id}) }})) else {
        return ExitCode::from(EXIT_UNREACHABLE);
    };
    let now = answer["now_ms"].as_i64().unwrap_or_default();
    let found = answer["schedules"].as_array().into_iter().flatten().find(|s| s["id"] == id);
    if out.json {
        let shown = found.map_or_else(|| json!({"v": 1, "id": id, "removed": true}), moment::with_times);
        out.say(&shown.to_string());
        return ExitCode::SUCCESS;
    }
    let (glyph, rest) = match found {
        Some(s) => (glyph(s), format!(": {}", said(s, now))),
        None => ("good", String::new()),
    };
    out.say(&format!("{} {id} is {word}{rest}", out.glyph(glyph)));
    ExitCode::SUCCESS
}

fn list(global: &Global, out: &Out) -> ExitCode {
    let answer = match ask(global, out, &json!({"schedules": {}})) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let now = answer["now_ms"].as_i64().unwrap_or_default();
    let all = answer["schedules"].as_array().map_or(&[][..], Vec::as_slice);
    if out.json {
        let all: Vec<Value> = all.iter().map(moment::with_times).collect();
        out.say(&json!({"v": 1, "schedules": all, "next": null}).to_string());
    } else if all.is_empty() {
        out.say("no schedules; [schedule.NAME] in the configuration or fieldgate schedules add makes one");
    } else {
        out.table(table(all, now, out).trim_end());
    }
    ExitCode::SUCCESS
}

fn glyph(schedule: &Value) -> &'static str {
    match schedule["state"].as_str() {
        Some("enabled") => "good",
        Some("waiting") => "warning",
        _ => "unknown",
    }
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

/// `every weekday at 06:00, next in 14 h`.
fn said(schedule: &Value, now: i64) -> String {
    format!("{}, {}", text(schedule, "sentence"), next(schedule, now))
}

fn next(schedule: &Value, now: i64) -> String {
    match (text(schedule, "state"), schedule["next_ms"].as_i64()) {
        ("enabled", Some(at)) => format!("next in {}", age(at.saturating_sub(now).max(0).unsigned_abs())).replace("in now", "now"),
        ("over", _) => "has run for the last time".into(),
        (state, _) => state.to_owned(),
    }
}

/// The last run that has ended, as its commands together: the worst of them.
fn last(schedule: &Value) -> String {
    let runs: Vec<&Value> = schedule["runs"].as_array().into_iter().flatten().collect();
    let Some(newest) = runs.first() else { return "-".into() };
    let of_it = runs.iter().filter(|r| r["at_ms"] == newest["at_ms"]);
    let phases: Vec<&str> = of_it.map(|r| r["phase"].as_str().unwrap_or(Phase::Sent.word())).collect();
    let worst = phases.iter().find(|p| **p != Phase::Confirmed.word());
    (*worst.unwrap_or(&Phase::Confirmed.word())).to_owned()
}

fn what(schedule: &Value) -> String {
    let one = |t: &Value| format!("{}.{} = {}", text(t, "device"), text(t, "point"), t["value"]);
    schedule["write"].as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

fn table(all: &[Value], now: i64, out: &Out) -> String {
    let mut table =
        Table::new(&[left("SCHEDULE"), left("WHEN").text(20), right("NEXT"), left("LAST").rank(2), left("WRITES").rank(1).text(10)]);
    for s in all {
        let next = next(s, now).replace("next in ", "");
        table.row(format!("{} ", out.glyph(glyph(s))), [text(s, "id").to_owned(), text(s, "sentence").to_owned(), next, last(s), what(s)]);
    }
    let waiting = all.iter().find(|s| s["state"] == "waiting").map_or(String::new(), |s| format!("waiting: {}\n", text(s, "why")));
    format!("{}{} {}\n{waiting}", table.text(out), all.len(), if all.len() == 1 { "schedule" } else { "schedules" })
}

fn show(global: &Global, out: &Out, id: &str) -> ExitCode {
    let answer = match ask(global, out, &json!({"schedules": {"id": id}})) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let schedule = &answer["schedules"][0];
    if out.json {
        let mut shown = moment::with_times(schedule);
        shown["v"] = 1.into();
        out.say(&shown.to_string());
    } else {
        out.table(one(schedule, answer["now_ms"].as_i64().unwrap_or_default(), out).trim_end());
    }
    ExitCode::SUCCESS
}

fn one(s: &Value, now: i64, out: &Out) -> String {
    let mut lines = vec![format!("{} {}   {}", out.glyph(glyph(s)), out.paint(Paint::Bold, text(s, "id")), said(s, now)), String::new()];
    let mut row = |name: &str, says: String| lines.push(format!("  {name:<12}{says}"));
    row("writes", what(s));
    if let Some(at) = s["next_ms"].as_i64() {
        row("next", moment::rfc3339(at));
    }
    row("missed runs", text(s, "missed").to_owned());
    let by = Some(text(s, "by")).filter(|by| !by.is_empty()).map_or(String::new(), |by| format!(", {} by {by}", text(s, "state")));
    row("from", format!("{}{by}", if s["configured"] == true { "the configuration" } else { "added while running" }));
    if let Some(why) = s["why"].as_str() {
        row("waits", why.to_owned());
    }
    let runs: Vec<&Value> = s["runs"].as_array().into_iter().flatten().collect();
    lines.extend((!runs.is_empty()).then(String::new));
    for r in runs {
        let phase = r["phase"].as_str().unwrap_or("sent");
        let reason = Some(text(r, "reason")).filter(|r| !r.is_empty()).map_or(String::new(), |r| format!(", {r}"));
        let at = moment::rfc3339(r["at_ms"].as_i64().unwrap_or_default());
        lines.push(format!("  {at}  {:<10} {}{reason}", phase, text(r, "device")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_255_200_000;

    fn night() -> Value {
        json!({
            "id": "night", "cron": "0 6 * * 1-5", "zone": "UTC", "missed": "skip", "untrusted_clock": false, "state": "enabled",
            "sentence": "every weekday at 06:00", "configured": true, "by": "", "why": null, "next_ms": NOW + 14 * 3_600_000,
            "write": [{"device": "relays", "point": "k1", "value": false}],
            "runs": [
                {"at_ms": NOW - 36_000_000, "ran_ms": NOW, "command": "schedule:night@x", "device": "relays", "phase": "confirmed", "reason": ""},
                {"at_ms": NOW - 122_400_000, "ran_ms": NOW, "command": "schedule:night@w", "device": "relays", "phase": "failed", "reason": "no"},
            ],
        })
    }

    #[test]
    fn the_list_is_sentences_with_the_next_run() {
        let mut off = night();
        off["id"] = json!("off");
        off["state"] = json!("disabled");
        off["runs"] = json!([]);
        let shown = table(&[night(), off], NOW, &Out::plain());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["SCHEDULE", "WHEN", "NEXT", "LAST", "WRITES"]);
        assert!(lines[1].starts_with("● night     every weekday at 06:00      14 h  confirmed  relays.k1 = false"), "{shown}");
        assert!(lines[2].starts_with("◌ off       every weekday at 06:00  disabled  -"), "{shown}");
        assert_eq!(lines[3], "2 schedules");
        assert_eq!(said(&night(), NOW), "every weekday at 06:00, next in 14 h");
    }

    #[test]
    fn one_has_its_last_runs() {
        let shown = one(&night(), NOW, &Out::plain());
        for want in [
            "● night   every weekday at 06:00, next in 14 h",
            "writes      relays.k1 = false",
            "from        the configuration",
            "2026-11-21T00:00:00.000Z  confirmed  relays",
            "2026-11-20T00:00:00.000Z  failed     relays, no",
        ] {
            assert!(shown.contains(want), "{want}: {shown}");
        }
    }

    #[test]
    fn what_is_added_is_read_as_the_cloud_would_write_it() {
        let add = Add {
            id: "night".into(),
            write: vec!["relays.k1=off".into(), "boiler.mode=eco".into()],
            cron: None,
            at: None,
            every: Some(Duration::from_secs(900)),
            anchor: None,
            zone: None,
            missed: Some("once".into()),
            untrusted_clock: true,
        };
        let want = json!({"id": "night", "missed": "once", "every_s": 900, "untrusted_clock": true, "write": [
            {"device": "relays", "point": "k1", "value": false}, {"device": "boiler", "point": "mode", "value": "eco"}]});
        assert_eq!(body(&add).unwrap(), want);
        assert!(body(&Add { write: vec!["k1=off".into()], ..add }).is_err());
    }
}
