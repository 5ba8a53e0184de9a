//! `fieldgate alarms`: what lasts and somebody should know of, trouble first; and the word of a person: I have seen it.

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

const LISTS: &str = "fieldgate alarms lists those that are raised";

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  fieldgate alarms             what is raised, the most urgent first\n  fieldgate alarms --all       also what is over, newest first\n  fieldgate alarms ack 17      seen: it stays raised until its cause is over\n\nExit: 0 none waits to be seen, 1 some do, 3 not running, 5 refused."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Also those that are over
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say that you have seen one
    #[command(after_help = "Examples:\n  fieldgate alarms ack 17")]
    Ack {
        /// As the list numbers them
        #[arg(value_name = "ID")]
        id: i64,
    },
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match args.what {
        Some(What::Ack { id }) => acknowledge(global, out, id),
        None => list(global, out, args.all),
    }
}

fn list(global: &Global, out: &Out, all: bool) -> ExitCode {
    let answer = match ask(global, out, &json!({"alarms": {"all": all}}), LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let now = answer["now_ms"].as_i64().unwrap_or_default();
    let mut alarms: Vec<Value> = answer["alarms"].as_array().cloned().unwrap_or_default();
    // Stable: the newest first within each.
    alarms.sort_by_key(rank);
    if out.json {
        out.say(&json!({"v": 1, "alarms": alarms.iter().map(with_times).collect::<Vec<_>>()}).to_string());
    } else {
        out.table(shown(&alarms, now, out).trim_end());
    }
    if alarms.iter().any(|a| a["state"] == "raised") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What nobody has seen first, and of that the most urgent.
fn rank(alarm: &Value) -> (u8, u8) {
    let state = match alarm["state"].as_str() {
        Some("raised") => 0,
        Some("acknowledged") => 1,
        _ => 2,
    };
    let severity = match alarm["severity"].as_str() {
        _ if state == 2 => 0,
        Some("critical") => 0,
        Some("warning") => 1,
        _ => 2,
    };
    (state, severity)
}

fn shown(alarms: &[Value], now: i64, out: &Out) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(&[
        right("ID"),
        left("DEVICE"),
        left("ALARM"),
        left("SEVERITY"),
        right("FOR"),
        left("STATE").rank(1),
        left("WHY").text(10),
    ]);
    for a in alarms {
        let name = a["rule"].as_str().map_or_else(|| text(&a["alarm"]), |rule| format!("{} {rule}", text(&a["alarm"])));
        let at = a["at_ms"].as_i64().unwrap_or_default();
        let lasted =
            a["cleared_ms"].as_i64().map_or_else(|| ago(now, &a["at_ms"]), |cleared| age(cleared.saturating_sub(at).max(0).unsigned_abs()));
        let state = match (a["state"].as_str().unwrap_or_default(), a["acknowledged_by"].as_str()) {
            ("acknowledged", Some(by)) => format!("seen by {by}"),
            ("cleared", _) => format!("over {} ago", ago(now, &a["cleared_ms"])),
            (state, _) => state.to_owned(),
        };
        let glyph = match (a["state"].as_str(), a["severity"].as_str()) {
            (Some("cleared"), _) => "good",
            (_, Some("critical")) => "offline",
            (_, Some("warning")) => "warning",
            _ => "unknown",
        };
        let cells = [a["id"].to_string(), text(&a["device"]), name, text(&a["severity"]), lasted, state, text(&a["reason"])];
        table.row(format!("{} ", out.glyph(glyph)), cells);
    }
    let count = |state: &str| alarms.iter().filter(|a| a["state"] == state).count();
    let (open, seen) = (count("raised"), count("acknowledged"));
    if open + seen == 0 {
        return format!("{}{} No open alarms\n", table.text(out), out.glyph("good"));
    }
    let seen = if seen > 0 { format!(", {seen} acknowledged") } else { String::new() };
    format!("{}{}\n", table.text(out), out.paint(Paint::Bold, &format!("{open} open{seen}")))
}

fn acknowledge(global: &Global, out: &Out, id: i64) -> ExitCode {
    let answer = match ask(global, out, &json!({"acknowledge": {"id": id, "by": user()}}), LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if out.json {
        out.say(&answer.to_string());
    } else {
        let by = answer["acknowledged_by"].as_str().unwrap_or_default();
        let device = answer["device"].as_str().unwrap_or_default();
        out.say(&format!("{} alarm {id} of {device} is acknowledged by {by}; it stays raised until its cause is over", out.glyph("good")));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_274_588_104;

    fn alarm(id: i64, state: &str, severity: &str) -> Value {
        json!({
            "id": id, "device": "boiler", "alarm": "rule", "rule": "hot", "point": "flow_temp", "severity": severity, "state": state,
            "reason": "flow_temp above 68.4", "at_ms": NOW - 240_000, "acknowledged_by": null, "acknowledged_ms": null, "cleared_ms": null,
        })
    }

    #[test]
    fn what_nobody_has_seen_stands_first() {
        let mut seen = alarm(3, "acknowledged", "critical");
        seen["acknowledged_by"] = json!("anna");
        let mut over = alarm(4, "cleared", "critical");
        over["cleared_ms"] = json!(NOW - 120_000);
        let mut all = vec![over, seen, alarm(1, "raised", "warning"), alarm(2, "raised", "critical")];
        all.sort_by_key(rank);
        let shown = shown(&all, NOW, &Out::plain());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].starts_with("✕  2  boiler  rule hot  critical  4 min  raised") && lines[1].ends_with("flow_temp above 68.4"),
            "{shown}"
        );
        assert!(lines[2].starts_with("◐  1"), "{shown}");
        assert!(lines[3].starts_with("✕  3") && lines[3].contains("seen by anna"), "{shown}");
        assert!(lines[4].starts_with("●  4") && lines[4].contains("2 min  over 2 min ago"), "{shown}");
        assert_eq!(lines[5], "2 open, 1 acknowledged");
    }

    #[test]
    fn no_alarms_are_good_news() {
        assert!(shown(&[], NOW, &Out::plain()).ends_with("● No open alarms\n"));
    }
}
