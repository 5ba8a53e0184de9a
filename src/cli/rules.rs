//! `fieldgate rules`: every rule as a sentence, with how it stands; why one did what it did; off and on.

use super::{
    Global, Out,
    devices::{ago, ask},
    moment::with_times,
    out::{Paint, age},
    table::{Table, left, right},
    write::user,
};
use serde_json::{Value, json};
use std::process::ExitCode;

const LISTS: &str = "fieldgate rules lists them";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate rules                  every rule, and whether it is true now\n  fieldgate rules explain frost    what it was last judged by\n  fieldgate rules off frost        it does nothing until it is on again, also over restarts\n  fieldgate rules on frost\n\nExit: 0 done, 1 explain: it is off, 3 not running, 5 refused."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The last evaluation, with its values and their age
    #[command(after_help = "Examples:\n  fieldgate rules explain frost")]
    Explain {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Let it do its work, also one that was paused
    #[command(after_help = "Examples:\n  fieldgate rules on frost")]
    On {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Let it do nothing
    #[command(after_help = "Examples:\n  fieldgate rules off frost")]
    Off {
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match &args.what {
        Some(What::On { id }) => switch(global, out, id, true),
        Some(What::Off { id }) => switch(global, out, id, false),
        Some(What::Explain { id }) => show(global, out, Some(id)),
        None => show(global, out, None),
    }
}

fn show(global: &Global, out: &Out, id: Option<&str>) -> ExitCode {
    let mut answer = match ask(global, out, &json!({"rules": {}}), LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let now = answer["now_ms"].as_i64().unwrap_or_default();
    if let Some(rules) = answer["rules"].as_array_mut() {
        rules.retain(|r| id.is_none_or(|id| r["id"] == id));
    }
    let rules = answer["rules"].as_array().map_or(&[][..], Vec::as_slice);
    match (id, rules.first()) {
        (Some(id), None) => {
            out.error("unknown-rule", &format!("there is no rule {id} here"), LISTS);
            return ExitCode::from(super::EXIT_REFUSED);
        }
        _ if out.json => out.say(&json!({"v": 1, "rules": rules.iter().map(with_times).collect::<Vec<_>>()}).to_string()),
        (Some(_), Some(rule)) => out.table(explained(rule, now, out).trim_end()),
        (None, _) => out.table(all(rules, now, out).trim_end()),
    }
    let is_off = id.is_some() && rules.first().is_some_and(|r| !r["off"].is_null());
    if is_off { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `when boiler.flow_temp < 5 for 30 s, then write relays.k1 = true`
fn sentence(rule: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut says = format!("when {}", text(&rule["when"]));
    if let Some(unless) = rule["unless"].as_str() {
        says += &format!(" unless {unless}");
    }
    if let Some(s) = rule["for_s"].as_f64().filter(|s| *s > 0.0) {
        says += &format!(" for {}", time(s));
    }
    let then: Vec<String> = rule["then"].as_array().into_iter().flatten().map(action).collect();
    format!("{says}, then {}", then.join(" and "))
}

fn action(action: &Value) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let (write, alarm, publish) = (&action["write"], &action["alarm"], &action["publish"]);
    if write.is_object() {
        format!("write {}.{} = {}", text(&write["device"]), text(&write["point"]), text(&write["value"]))
    } else if alarm.is_object() {
        format!("{} alarm \"{}\"", text(&alarm["severity"]), text(&alarm["text"]))
    } else if let Some(webhook) = action["webhook"].as_str() {
        format!("tell webhook {webhook}")
    } else {
        format!("publish {}", text(&publish["topic"]))
    }
}

/// Seconds in the form of every duration.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a week at most
fn time(s: f64) -> String {
    if s < 1.0 { format!("{:.0} ms", s * 1000.0) } else { age((s * 1000.0) as u64) }
}

/// What it is now, in a word, with its glyph.
fn state(rule: &Value) -> (&'static str, &'static str) {
    match (&rule["off"], rule["truth"].as_bool()) {
        (Value::String(_), _) => ("off", "maintenance"),
        (_, Some(true)) => ("true", "good"),
        (_, Some(false)) => ("false", "-"),
        (_, None) => ("unknown", "unknown"),
    }
}

fn all(rules: &[Value], now: i64, out: &Out) -> String {
    let mut table = Table::new(&[left("RULE"), left("NOW"), right("FIRED"), right("TIMES").rank(1), left("DOES").text(20)]);
    for rule in rules {
        let (word, glyph) = state(rule);
        let id = rule["id"].as_str().unwrap_or_default().to_owned();
        let glyph = if glyph == "-" { " ".to_owned() } else { out.glyph(glyph) };
        table.row(format!("{glyph} "), [id, word.to_owned(), ago(now, &rule["fired_ms"]), rule["count"].to_string(), sentence(rule)]);
    }
    let noun = if rules.len() == 1 { "rule" } else { "rules" };
    let off = rules.iter().filter(|r| !r["off"].is_null()).count();
    let off = if off > 0 { format!(", {off} off") } else { String::new() };
    format!("{}{} {noun}{off}\n", table.text(out), rules.len())
}

fn explained(rule: &Value, now: i64, out: &Out) -> String {
    let (word, glyph) = state(rule);
    let glyph = if glyph == "-" { "-".to_owned() } else { out.glyph(glyph) };
    let id = rule["id"].as_str().unwrap_or_default();
    let mut lines = vec![format!("{glyph} {}   {word} now", out.paint(Paint::Bold, id)), format!("  {}", sentence(rule)), String::new()];
    let mut row = |name: &str, says: String| lines.push(format!("  {name:<12}{says}"));
    if let Some(why) = rule["off"].as_str() {
        row("off", format!("{why}; fieldgate rules on {id} goes on"));
    }
    match rule["looked_ms"].as_i64() {
        Some(_) => row("looked at", past(now, &rule["looked_ms"])),
        None => row("looked at", "never: nothing came that it watches".into()),
    }
    for test in rule["tests"].as_array().into_iter().flatten() {
        let truth = test["truth"].as_bool().map_or("unknown", |t| if t { "true" } else { "false" });
        let values = test["values"].as_array().into_iter().flatten().map(|v| {
            let at = v["at_ms"].as_i64().map_or(String::new(), |_| format!(", {}", past(now, &v["at_ms"])));
            format!("{}{at}", v["text"].as_str().unwrap_or_default())
        });
        row(truth, format!("{}   ({})", test["text"].as_str().unwrap_or_default(), values.collect::<Vec<_>>().join("; ")));
    }
    if let Some(h) = rule["hysteresis"].as_f64().filter(|h| *h > 0.0) {
        row("hysteresis", format!("{h}: a comparison that is true stays so until its value has come back by this"));
    }
    if let Some(s) = rule["cooldown_s"].as_f64().filter(|s| *s > 0.0) {
        row("cooldown", format!("{} between two firings", time(s)));
    }
    if let Some(waits) = rule["waits"].as_str().filter(|w| !w.is_empty()) {
        row("waits", waits.to_owned());
    }
    let times = rule["count"].as_u64().unwrap_or_default();
    row(
        "fired",
        if times == 0 {
            "never".into()
        } else {
            format!("{times} {}, the last one {}", if times == 1 { "time" } else { "times" }, past(now, &rule["fired_ms"]))
        },
    );
    lines.join("\n") + "\n"
}

fn switch(global: &Global, out: &Out, id: &str, on: bool) -> ExitCode {
    let answer = match ask(global, out, &json!({"rule": {"id": id, "on": on, "by": user()}}), LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if out.json {
        out.say(&answer.to_string());
    } else {
        let (glyph, says) = if on { ("good", "on") } else { ("maintenance", "off, also over restarts") };
        out.say(&format!("{} rule {id} is {says}", out.glyph(glyph)));
    }
    ExitCode::SUCCESS
}

/// `2 s ago`, or `now`.
fn past(now: i64, at: &Value) -> String {
    let ago = ago(now, at);
    if ago == "now" { ago } else { ago + " ago" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_274_588_104;

    fn frost() -> Value {
        json!({
            "id": "frost", "when": "boiler.flow_temp < 5", "unless": null, "for_s": 30.0, "hysteresis": 1.0, "cooldown_s": 0.0,
            "then": [{"write": {"device": "relays", "point": "k1", "value": true}}, {"alarm": {"severity": "critical", "text": "cold"}}],
            "truth": true, "fired": false, "off": null, "count": 2, "waits": "it must be true for 12 s more",
            "fired_ms": NOW - 3_600_000, "looked_ms": NOW - 2_000,
            "tests": [{"text": "boiler.flow_temp < 5", "truth": true, "values": [{"text": "4.2", "at_ms": NOW - 2_000}]}],
        })
    }

    #[test]
    fn a_rule_is_a_sentence_and_its_state() {
        let mut off = frost();
        off["off"] = json!("switched off by anna");
        let shown = all(&[frost(), off], NOW, &Out::plain());
        let lines: Vec<&str> = shown.lines().collect();
        let sentence = "when boiler.flow_temp < 5 for 30 s, then write relays.k1 = true and critical alarm \"cold\"";
        assert!(lines[1].starts_with("● frost  true  ") && lines[1].ends_with(sentence), "{shown}");
        assert!(lines[2].starts_with("◇ frost  off   "), "{shown}");
        assert_eq!(lines[3], "2 rules, 1 off");
    }

    #[test]
    fn it_is_explained_with_its_values_and_their_age() {
        let shown = explained(&frost(), NOW, &Out::plain());
        for want in [
            "● frost   true now",
            "  true        boiler.flow_temp < 5   (4.2, 2 s ago)",
            "  waits       it must be true for 12 s more",
            "  fired       2 times, the last one 1 h ago",
            "  hysteresis  1: a comparison",
        ] {
            assert!(shown.contains(want), "{want}: {shown}");
        }
    }
}
