//! `fieldgate history`: the past of a device's values, as far as it is kept here.
//!
//! Through the running daemon's socket, or with the daemon stopped from samples.db.

use super::{
    EXIT_REFUSED, EXIT_UNREACHABLE, Global, Out,
    devices::ago,
    moment,
    out::{Paint, age, count},
    status,
    table::{Table, left, right},
};
use crate::{
    api::{
        control,
        samples::{Asked, document},
    },
    config::{self, Config, Secrets, Surroundings},
    store::samples::Samples,
    system::clock::Clock,
};
use serde_json::{Map, Value, json};
use std::{io, process::ExitCode, time::Duration};

/// Rows of one point, unless more are asked for: they fit a screen.
const ROWS: u32 = 12;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate history boiler                               the last hour of every point, in one row each\n  fieldgate history boiler flow_temp --since 24h         least, mean and greatest of two hours in each row\n  fieldgate history boiler flow_temp --slots 60          finer\n  fieldgate history boiler flow_temp --since 10m --samples   as it was read\n\nExit: 0 done, 1 nothing is kept of that time, 3 the files of fieldgate cannot be read, 5 refused."
)]
pub struct Args {
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Only this point, in rows of time
    #[arg(value_name = "POINT")]
    point: Option<String>,
    /// How far back
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::duration)]
    since: Duration,
    /// In so many parts of time [default: 12 of a point]
    #[arg(long, value_name = "N", conflicts_with = "samples")]
    slots: Option<u32>,
    /// As it was read, with what is not good
    #[arg(long)]
    samples: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let answer = match ask(global, &request(args)) {
        Ok(answer) => answer,
        Err(why) => {
            out.error("not-running", &why, "run it with sudo, or as a member of the group fieldgate");
            return ExitCode::from(EXIT_UNREACHABLE);
        }
    };
    if let Some(why) = answer["error"]["message"].as_str() {
        let code = answer["error"]["code"].as_str().unwrap_or("refused");
        let remedy = if code == "no-history" { "add [history] to the configuration" } else { "fieldgate history --help" };
        out.error(code, why, remedy);
        return ExitCode::from(EXIT_REFUSED);
    }
    let is_empty = answer["points"].as_object().is_none_or(Map::is_empty);
    if out.json {
        out.say(&for_programs(&answer).to_string());
    } else if is_empty {
        let what = args.point.as_ref().map_or(args.device.clone(), |point| format!("{} {point}", args.device));
        out.say(&format!("{} nothing is kept of {what} in the last {}", out.glyph("unknown"), age(ms(args.since))));
    } else {
        out.table(shown(&answer, args, out).trim_end());
    }
    if is_empty { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn request(args: &Args) -> Value {
    let slots = args.slots.unwrap_or(if args.point.is_some() { ROWS } else { 1 });
    json!({
        "device": args.device, "points": args.point.iter().collect::<Vec<_>>(), "since_ms": i64::try_from(ms(args.since)).unwrap_or(i64::MAX),
        "slots": slots, "form": if args.samples { "samples" } else { "slots" },
    })
}

/// The error says why nobody answers.
fn ask(global: &Global, request: &Value) -> Result<Value, String> {
    match control::ask(&status::socket(global), &json!({"samples": request}), global.timeout) {
        Ok(answer) => Ok(answer),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            match config::load_with(&global.config, &Surroundings::real(Secrets::Unread)).config {
                Some(config) => direct(&config, request),
                None => Err(format!("fieldgate does not run, and {} cannot be used", global.config.display())),
            }
        }
        Err(e) => Err(e.to_string()),
    }
}

fn direct(config: &Config, request: &Value) -> Result<Value, String> {
    let Some(history) = config.history.clone() else { return Ok(control::refuse("no-history", "the configuration has no [history]")) };
    let now = Clock::Real.reading().wall(Clock::Real.now());
    match Asked::read(request, now) {
        Ok(asked) => document(&asked, &Samples::at_rest(&config.gateway.data_dir, history)).map_err(|e| e.to_string()),
        Err(why) => Ok(control::refuse("unreadable", &why)),
    }
}

/// Moments as RFC 3339, each row an object.
fn for_programs(answer: &Value) -> Value {
    let at = |v: &Value| v.as_i64().map(moment::rfc3339);
    let columns: Vec<&str> = answer["columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let row = |row: &Value| {
        let cells = columns.iter().zip(row.as_array().into_iter().flatten());
        cells.map(|(name, v)| ((*name).to_owned(), if *name == "at" { json!(at(v)) } else { v.clone() })).collect::<Map<_, _>>()
    };
    let rows = |all: &Value| all.as_array().into_iter().flatten().map(|r| Value::Object(row(r))).collect::<Value>();
    let points: Map<_, _> = answer["points"].as_object().into_iter().flatten().map(|(point, all)| (point.clone(), rows(all))).collect();
    let mut document = json!({"v": 1, "device": answer["device"], "from": at(&answer["from"]), "to": at(&answer["to"]), "points": points});
    match answer["step_ms"].as_u64() {
        #[allow(clippy::cast_precision_loss)] // below a year
        Some(step) => document["step_s"] = json!(step as f64 / 1000.0),
        None => document["next"] = json!(at(&answer["next"])),
    }
    document
}

fn shown(answer: &Value, args: &Args, out: &Out) -> String {
    let title = |point: &str| out.paint(Paint::Bold, &format!("{} {point}", args.device));
    let points = answer["points"].as_object().into_iter().flatten();
    let mut text = String::new();
    if args.samples {
        for (point, rows) in points {
            let mut table = Table::new(&[left("AT"), right("VALUE"), left("QUALITY")]);
            for row in rows.as_array().into_iter().flatten() {
                let quality = row[2].as_str().unwrap_or("good").replace('_', " ");
                table.row("", [moment::rfc3339(row[0].as_i64().unwrap_or_default()), figure(&row[1]), quality]);
            }
            text += &format!("{}\n{}", title(point), table.text(out));
        }
        if let Some(next) = answer["next"].as_i64() {
            text += &format!("there are more from {} on: ask for a shorter time\n", moment::rfc3339(next));
        }
        return text;
    }
    let figures = |row: &Value| [figure(&row[1]), figure(&row[2]), figure(&row[3]), count(row[4].as_u64().unwrap_or_default())];
    let numbers = [right("LEAST"), right("MEAN"), right("GREATEST"), right("SAMPLES")];
    if args.point.is_none() && args.slots.is_none() {
        let mut table = Table::new(&[&[left("POINT")], &numbers[..]].concat());
        for (point, rows) in points {
            table.row("", [vec![point.clone()], figures(&rows[0]).to_vec()].concat());
        }
        let from = ago(answer["to"].as_i64().unwrap_or_default(), &answer["from"]);
        return format!("{}{} of {}\n", table.text(out), out.paint(Paint::Bold, &format!("the last {from}")), args.device);
    }
    for (point, rows) in points {
        let mut table = Table::new(&[&[left("FROM")], &numbers[..]].concat());
        for row in rows.as_array().into_iter().flatten() {
            table.row("", [vec![moment::rfc3339(row[0].as_i64().unwrap_or_default())], figures(row).to_vec()].concat());
        }
        text += &format!("{}, each row {}\n{}", title(point), age(answer["step_ms"].as_u64().unwrap_or_default()), table.text(out));
    }
    text
}

/// No more decimals than a mean of readings means.
fn figure(v: &Value) -> String {
    match v {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
            Some(f) => format!("{f:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            None => n.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_795_274_588_104;

    fn args(point: Option<&str>, samples: bool) -> Args {
        Args { device: "boiler".into(), point: point.map(str::to_owned), since: Duration::from_secs(3600), slots: None, samples }
    }

    fn answer() -> Value {
        json!({
            "v": 1, "device": "boiler", "from": AT - 3_600_000, "to": AT, "step_ms": 300_000, "columns": ["at", "min", "mean", "max", "count"],
            "points": {"flow": [[AT - 3_600_000, 60.5, 61.234_56, 64, 1300], [AT - 3_300_000, 61, 62, 63, 1]]},
        })
    }

    #[test]
    fn all_points_are_a_row_each_and_one_is_rows_of_time() {
        let all = shown(&answer(), &args(None, false), &Out::plain());
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["POINT", "LEAST", "MEAN", "GREATEST", "SAMPLES"]);
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["flow", "60.5", "61.235", "64", "1,300"]);
        assert_eq!(lines[2], "the last 1 h of boiler");
        let one = shown(&answer(), &args(Some("flow"), false), &Out::plain());
        assert!(one.starts_with("boiler flow, each row 5 min\n"), "{one}");
        assert!(one.contains("2026-11-21T14:23:08.104Z   60.5  61.235        64    1,300"), "{one}");
        assert_eq!(one.lines().count(), 4);
    }

    #[test]
    fn samples_are_shown_as_they_were_read_and_programs_get_moments() {
        let mut asked = answer();
        asked["columns"] = json!(["at", "value", "quality"]);
        asked["points"] = json!({"flow": [[AT, 60.0], [AT + 1000, null, "not_available"]]});
        asked["step_ms"] = Value::Null;
        let text = shown(&asked, &args(Some("flow"), true), &Out::plain());
        assert!(text.contains("2026-11-21T15:23:08.104Z     60  good"), "{text}");
        assert!(text.contains("2026-11-21T15:23:09.104Z      -  not available"), "{text}");
        let json = for_programs(&asked);
        assert_eq!(json["points"]["flow"][1], json!({"at": "2026-11-21T15:23:09.104Z", "value": null, "quality": "not_available"}));
        assert_eq!((&json["to"], &json["next"]), (&json!("2026-11-21T15:23:08.104Z"), &Value::Null));
        assert_eq!(for_programs(&answer())["step_s"], 300.0);
    }

    #[test]
    fn the_question_fits_what_is_shown() {
        assert_eq!(request(&args(None, false))["slots"], 1);
        assert_eq!(
            request(&args(Some("flow"), false)),
            json!({"device": "boiler", "points": ["flow"], "since_ms": 3_600_000, "slots": 12, "form": "slots"})
        );
    }
}
