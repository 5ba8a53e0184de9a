//! `fieldgate events`: what happened here, newest first, in the words of the pages.

use super::{
    Global, Out,
    devices::{ago, ask},
    moment::with_times,
    out::{age, count},
    table::{Table, left, right},
};
use serde_json::{Value, json};
use std::{process::ExitCode, time::Duration};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate events                 the latest\n  fieldgate events --of cloud      only of one device, line, uplink or rule\n  fieldgate events --limit 200 --json\n\nOf earlier runs only the changes of devices are kept.\n\nExit: 0 done, 3 not running, 5 refused."
)]
pub struct Args {
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 30)]
    limit: u32,
    /// Only those of this device, line, uplink, rule or schedule
    #[arg(long, value_name = "ID")]
    of: Option<String>,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    // Those of one are looked for among all that are kept.
    let limit = if args.of.is_some() { u32::MAX } else { args.limit };
    let answer = match ask(global, out, &json!({"events": {"limit": limit}}), "fieldgate events --help") {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let all = answer["events"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted = all.iter().filter(|e| args.of.as_deref().is_none_or(|of| whose(e) == of));
    let wanted: Vec<&Value> = wanted.take(args.limit as usize).collect();
    if out.json {
        out.say(&json!({"v": 1, "events": wanted.iter().map(|e| for_programs(e)).collect::<Vec<_>>()}).to_string());
    } else if wanted.is_empty() {
        out.say("nothing happened that is kept");
    } else {
        out.table(shown(&wanted, answer["now_ms"].as_i64().unwrap_or_default(), out).trim_end());
    }
    ExitCode::SUCCESS
}

/// Moments as RFC 3339, and a time that is no moment in seconds.
fn for_programs(event: &Value) -> Value {
    let mut event = event.clone();
    if let Some(members) = event.as_object_mut()
        && let Some(down) = members.remove("down_for_ms")
    {
        members.insert("down_for_s".into(), json!(down.as_u64().map(|ms| Duration::from_millis(ms).as_secs_f64())));
    }
    with_times(&event)
}

fn shown(events: &[&Value], now: i64, out: &Out) -> String {
    let mut table = Table::new(&[right("AGO"), left("OF"), left("WHAT").text(20)]);
    for event in events {
        let (glyph, what) = sentence(event);
        table.row(format!("{} ", out.glyph(glyph)), [ago(now, &event["at_ms"]), whose(event).to_owned(), what]);
    }
    table.text(out)
}

/// Whom it is about. Empty: the gateway.
fn whose(event: &Value) -> &str {
    ["device", "line", "uplink", "rule", "schedule", "file", "source"].iter().find_map(|key| event[*key].as_str()).unwrap_or_default()
}

/// A glyph and what happened.
fn sentence(event: &Value) -> (&'static str, String) {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let because = |key: &str| Some(text(key)).filter(|t| !t.is_empty()).map_or(String::new(), |t| format!(": {}", t.replace('_', " ")));
    let number = |key: &str| count(event[key].as_u64().unwrap_or_default());
    match text("type") {
        "status" if text("cause") == "maintenance" => ("maintenance", "maintenance".into()),
        "status" => (state(text("state")), format!("{}{}", text("state"), because("cause"))),
        "line" => (state(text("state")), format!("line {}{}", text("state"), because("reason"))),
        "uplink" => {
            let lasted = event["down_for_ms"].as_u64().map_or(String::new(), |ms| format!(" after {}", age(ms)));
            let often = event["changes"].as_u64().filter(|n| *n > 1).map_or(String::new(), |n| format!(", {} changes", count(n)));
            (state(text("state")), format!("{}{lasted}{}{often}", text("state"), because("reason")))
        }
        "rule" => ("warning", format!("told webhook {}{}", text("webhook"), because("reason"))),
        "registered" => ("good", format!("registered by {}", text("via"))),
        "changed" => {
            let all = event["attributes"].as_object().into_iter().flatten();
            let all: Vec<String> = all.map(|(name, v)| format!("{name} {}", v.as_str().unwrap_or("not said any more"))).collect();
            ("good", all.join(", "))
        }
        "alarm" => {
            let name = event["rule"].as_str().map_or(text("alarm").to_owned(), |rule| format!("{} {rule}", text("alarm")));
            match (event["raised"].as_bool(), event["by"].as_str()) {
                (Some(true), Some(by)) => ("good", format!("{name} acknowledged by {by}")),
                (Some(true), None) => ("warning", format!("{name} raised{}", because("reason"))),
                _ => ("good", format!("{name} cleared{}", because("reason"))),
            }
        }
        "maintenance" if event["on"] == true => ("maintenance", format!("put into maintenance by {}", text("by"))),
        "maintenance" => ("good", "judged again".into()),
        "command" => {
            (if text("phase") == "confirmed" { "good" } else { "warning" }, format!("command {}{}", text("phase"), because("reason")))
        }
        "refresh_stopped" => ("warning", format!("{} is not written again{}", text("point"), because("reason"))),
        "dead_letter" => ("warning", format!("{} put aside{}", number("count"), because("reason"))),
        "store" => {
            (if text("state") == "ok" { "good" } else { "offline" }, format!("{}{}", text("state").replace('_', " "), because("detail")))
        }
        "gap" => ("offline", format!("{} values of {} will not come{}", number("samples"), text("stream"), because("reason"))),
        "epoch" => ("good", "the gateway started".into()),
        "clock" if event["synchronised"] == true => ("good", "clock synchronised".into()),
        "clock" => ("warning", "clock estimated".into()),
        "schedule" => ("good", format!("schedule {}", text("news"))),
        other => ("unknown", other.replace('_', " ")),
    }
}

/// The glyph of a state that may be none of a device.
fn state(word: &str) -> &'static str {
    match word {
        "online" | "up" => "online",
        "suspect" => "suspect",
        "offline" | "down" => "offline",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_274_588_104;

    #[track_caller]
    fn check(event: Value, want: &str) {
        let mut event = event;
        event["at_ms"] = json!(NOW - 720_000);
        let shown = shown(&[&event], NOW, &Out::plain());
        assert_eq!(shown.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "), want);
    }

    #[test]
    fn what_happened_is_said_in_the_words_of_the_pages() {
        check(
            json!({"type": "uplink", "uplink": "cloud", "state": "down", "reason": "refused", "down_for_ms": null, "changes": 1}),
            "✕ 12 min cloud down: refused",
        );
        check(
            json!({"type": "uplink", "uplink": "cloud", "state": "up", "reason": "", "down_for_ms": 840_000, "changes": 4}),
            "● 12 min cloud up after 14 min, 4 changes",
        );
        check(
            json!({"type": "rule", "rule": "frost", "webhook": "ops", "reason": "a < 5 (4)"}),
            "◐ 12 min frost told webhook ops: a < 5 (4)",
        );
        check(json!({"type": "status", "device": "m", "state": "offline", "cause": "line_down"}), "✕ 12 min m offline: line down");
        check(
            json!({"type": "alarm", "device": "m", "alarm": "rule", "rule": "hot", "raised": true, "reason": "", "by": "anna"}),
            "● 12 min m rule hot acknowledged by anna",
        );
        let up = for_programs(&json!({"type": "uplink", "at_ms": NOW, "down_for_ms": 1500}));
        assert_eq!((&up["at"], &up["down_for_s"]), (&json!("2026-11-21T15:23:08.104Z"), &json!(1.5)));
        check(json!({"type": "epoch", "epoch": "ab"}), "● 12 min the gateway started");
        check(json!({"type": "something_new"}), "◌ 12 min something new");
    }
}
