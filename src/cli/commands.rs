//! `fieldgate commands`: what was asked of devices and of the gateway, by whom, and what came of it; and cancelling.

use super::{
    EXIT_REFUSED, Global, Out,
    devices::{ago, ask},
    moment::with_times,
    table::{Table, left, right},
    write::{self, user},
};
use crate::model::Phase;
use serde_json::{Value, json};
use std::process::ExitCode;

const LISTS: &str = "fieldgate commands lists those that were";

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  fieldgate commands                 the newest, with what came of them\n  fieldgate commands 7f9c            one, with each of its devices\n  fieldgate commands cancel 7f9c     what of it was not sent is not to be sent\n\nExit: 0 done, 3 not running, 5 refused."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Show one
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Not to be sent, as far as it was not
    #[command(after_help = "Examples:\n  fieldgate commands cancel 7f9c")]
    Cancel {
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// `fieldgate reload`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate reload        after fieldgate check has found nothing\n\nExit: 0 done, 3 not running, 5 refused: it does not check, and the one that runs stays."
)]
pub struct Reload {}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match (&args.what, &args.id) {
        (Some(What::Cancel { id }), _) => cancel(global, out, id),
        (None, Some(id)) => show(global, out, &json!({"commands": {"id": id}})),
        (None, None) => show(global, out, &json!({"commands": {"limit": args.limit}})),
    }
}

fn show(global: &Global, out: &Out, asked: &Value) -> ExitCode {
    let answer = match ask(global, out, asked, LISTS) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let rows = answer["commands"].as_array().cloned().unwrap_or_default();
    if out.json {
        out.say(&json!({"v": 1, "commands": rows.iter().map(with_times).collect::<Vec<_>>()}).to_string());
    } else {
        out.table(table(&rows, answer["now_ms"].as_i64().unwrap_or_default(), out).trim_end());
    }
    ExitCode::SUCCESS
}

fn table(rows: &[Value], now: i64, out: &Out) -> String {
    let mut table =
        Table::new(&[left("ID"), left("DEVICE"), left("WHAT"), right("AGO"), left("PHASE"), left("BY").rank(1), left("WHY").text(10)]);
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    for row in rows {
        let device = row["devices"].as_array().map_or_else(|| text(&row["device"]), |all| format!("{} devices", all.len()));
        let cells = [text(&row["id"]), device, what(row), ago(now, &row["received_ms"]), text(&row["phase"]), text(&row["from"])];
        table.row(format!("{} ", glyph(&row["phase"], out)), cells.into_iter().chain([text(&row["reason"])]).collect::<Vec<_>>());
        for (device, one) in row["results"].as_object().into_iter().flatten().filter(|_| rows.len() == 1) {
            let cells = [String::new(), device.clone(), values(&one["values"]), String::new(), text(&one["phase"]), String::new()];
            table.row(format!("{} ", glyph(&one["phase"], out)), cells.into_iter().chain([text(&one["reason"])]).collect::<Vec<_>>());
        }
    }
    if rows.is_empty() { "No commands so far".to_owned() } else { table.text(out) }
}

/// `setpoint=60`, `read flow_temp`, `run ping`, `cancel 7f9c`.
fn what(row: &Value) -> String {
    if row["write"].is_object() {
        return values(&row["write"]);
    }
    for key in ["read", "run", "cancel", "acknowledge"] {
        match &row[key] {
            Value::Null => {}
            Value::String(word) => return format!("{key} {word}"),
            Value::Array(list) if list.is_empty() => return format!("{key} all"),
            Value::Array(list) => return format!("{key} {}", list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
            Value::Object(one) => return format!("{key} {}", one.keys().next().map_or("", String::as_str)),
            Value::Bool(_) | Value::Number(_) => {}
        }
    }
    String::new()
}

fn values(of: &Value) -> String {
    let pairs = of.as_object().into_iter().flatten().map(|(point, value)| format!("{point}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

fn glyph(phase: &Value, out: &Out) -> String {
    let Some(word) = phase.as_str() else { return " ".to_owned() };
    Phase::parse(word).map_or_else(|| out.glyph("offline"), |phase| write::glyph(phase, out))
}

fn cancel(global: &Global, out: &Out, id: &str) -> ExitCode {
    let refused = |reason: &str| format!("{id} was not cancelled: {reason}");
    let answer = match confirmed(global, out, ("cancel", id), LISTS, refused) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if !out.json {
        let sent = answer["read_back"]["sent"].as_u64().unwrap_or(0);
        let rest = if sent > 0 { format!("; {sent} of its devices had it already") } else { String::new() };
        out.say(&format!("{} {id} is cancelled, nothing more of it is sent{rest}", out.glyph("good")));
    }
    ExitCode::SUCCESS
}

pub fn reload(global: &Global, out: &Out, _args: &Reload) -> ExitCode {
    let answer = match confirmed(global, out, ("run", "reload"), "fieldgate check says whether the configuration is right", str::to_owned) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if !out.json {
        let said = if answer["read_back"]["changed"] == true { "has changed; fieldgate begins anew with it" } else { "says what it said" };
        out.say(&format!("{} The configuration {said}", out.glyph("good")));
    }
    ExitCode::SUCCESS
}

/// Gives the gateway a command of its own and waits for its end; `--json` shows that whatever it is.
fn confirmed(
    global: &Global,
    out: &Out,
    (what, of): (&str, &str),
    remedy: &str,
    refused: impl Fn(&str) -> String,
) -> Result<Value, ExitCode> {
    let asked = json!({"command": {"id": write::fresh_id(), what: of, "from": user(), "expires_in_ms": 30_000}});
    let answer = ask(global, out, &asked, remedy)?;
    if out.json {
        out.say(&answer.to_string());
    }
    if answer["phase"] == "confirmed" {
        return Ok(answer);
    }
    if !out.json {
        out.error("refused", &refused(answer["reason"].as_str().unwrap_or_default()), remedy);
    }
    Err(ExitCode::from(EXIT_REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_274_588_104;

    #[test]
    fn a_command_to_several_shows_each_of_them() {
        let row = json!({"id": "7f9e", "device": null, "from": "uplink cloud", "phase": "unknown", "received_ms": NOW - 4_000,
            "reason": "1 confirmed, 1 unknown", "values": {}, "devices": ["boiler", "pump"], "write": {"setpoint": 60}, "results": {
                "boiler": {"phase": "confirmed", "reason": "", "values": {"setpoint": 60}},
                "pump": {"phase": "unknown", "reason": "no answer", "values": {}}}});
        let shown = table(&[row], NOW, &Out::plain());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].starts_with("◌ 7f9e  2 devices  setpoint=60  4 s  unknown") && lines[1].contains("1 confirmed"), "{shown}");
        assert!(lines[2].contains("boiler") && lines[3].contains("no answer"), "{shown}");
    }

    #[test]
    fn what_was_asked_is_said_in_a_word_or_two() {
        assert_eq!(what(&json!({"run": "ping"})), "run ping");
        assert_eq!(what(&json!({"run": {"maintenance.on": {"device": "pump"}}})), "run maintenance.on");
        assert_eq!(what(&json!({"read": []})), "read all");
        assert_eq!(what(&json!({"cancel": "7f9c"})), "cancel 7f9c");
    }
}
