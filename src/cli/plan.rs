//! `fieldgate plan`: what each line has to carry, request by request, with what devices were found to refuse (UI.md 2.5).
//!
//! From the configuration and, read only, from what the daemon remembers; with `--measured` also from the running daemon.

use super::{
    EXIT_CONFIG, EXIT_UNREACHABLE, Global, Out,
    check::line_time::{self, Known, LinePlan},
    table::{Table, left, right},
};
use crate::{
    api::control,
    config::{self, Config, Secrets, Surroundings},
    drivers::{
        line,
        modbus::{Hole, exception, plan::Request},
    },
    model::{DeviceId, Learned, LineId},
    store,
};
use serde_json::json;
use std::{fmt::Write, io, path::Path, process::ExitCode};

/// It does not fit: polls will be missed for as long as the plan stays.
const FULL: f64 = 1.0;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate plan                        what every line has to carry\n  fieldgate plan --device meter-1       its requests, and what it was found to refuse\n  fieldgate plan --measured             with the answer times that the daemon saw\n  fieldgate plan --forget meter-1       learn anew what it refuses\n\nExit: 0 it fits, 1 a line is above 85 %, 3 the daemon is needed and does not run, 78 it cannot fit, or an error."
)]
pub struct Args {
    /// Only this line
    #[arg(long, value_name = "ID")]
    line: Option<String>,
    /// Only this device, with each of its requests
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Use the answer times that the running daemon saw
    #[arg(long)]
    measured: bool,
    /// Forget what was learned of a device: it is asked for everything again
    #[arg(long, value_name = "DEVICE")]
    forget: Option<String>,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let loaded = config::load_with(&global.config, &Surroundings::real(Secrets::Unread));
    let Some(config) = &loaded.config else {
        let (errors, _) = config::render::count(&loaded.problems);
        out.error("configuration", &format!("{} has {errors} errors", global.config.display()), "fieldgate check shows them");
        return ExitCode::from(EXIT_CONFIG);
    };
    let socket = global.socket.clone().unwrap_or_else(|| config.gateway.socket());
    if let Some(device) = &args.forget {
        return forget(global, out, config, &socket, device);
    }
    if let Some(problem) = unknown(config, args) {
        out.error("unknown", &problem, "fieldgate plan shows all lines and devices");
        return ExitCode::from(2);
    }
    let facts = store::learned(&config.gateway.data_dir).unwrap_or_else(|error| {
        if !out.quiet {
            eprintln!("what was learned cannot be read ({error}); the plan is shown without it");
        }
        Vec::new()
    });
    let mut known = Known::default();
    for device in &config.devices {
        known.holes.insert(device.id.clone(), line::remembered(device, &facts));
    }
    if args.measured
        && let Err(code) = measure(global, out, &socket, &mut known)
    {
        return code;
    }
    let mut plans = line_time::plans(config, &known);
    let only: Option<LineId> = match &args.device {
        Some(id) => config.devices.iter().find(|d| d.id.as_str() == id).map(|d| d.line.clone()),
        None => args.line.as_ref().and_then(|id| LineId::parse(id).ok()),
    };
    plans.retain(|p| only.as_ref().is_none_or(|id| p.line == *id));
    if out.json {
        out.say(&document(&plans, &facts, args.device.as_deref()).to_string());
    } else if let Some(id) = &args.device {
        out.table(requests(config, &plans, &known, id, out).trim_end());
    } else {
        let mut text = line_time::text(&plans, Some(config), &known, out);
        text.push_str(&learned_line(config, &known, &plans));
        out.table(text.trim_end());
    }
    verdict(&plans)
}

fn verdict(plans: &[LinePlan]) -> ExitCode {
    let worst = plans.iter().filter(|p| p.is_known()).map(|p| p.utilisation).fold(0.0, f64::max);
    match worst {
        w if w > FULL => ExitCode::from(EXIT_CONFIG),
        w if w > line_time::LIMIT => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn unknown(config: &Config, args: &Args) -> Option<String> {
    let device = args.device.as_ref().filter(|id| !config.devices.iter().any(|d| d.id.as_str() == *id));
    let line = args.line.as_ref().filter(|id| !config.lines.iter().any(|l| l.id.as_str() == *id));
    device.map(|id| format!("there is no device `{id}`")).or(line.map(|id| format!("there is no line `{id}`")))
}

/// Mean answer times from the running daemon.
fn measure(global: &Global, out: &Out, socket: &Path, known: &mut Known) -> Result<(), ExitCode> {
    let document = control::ask(socket, &json!({"get": "status", "all": true}), global.timeout).map_err(|error| {
        out.error(
            "unreachable",
            &format!("fieldgate does not answer at {}: {error}", socket.display()),
            "start it, or leave --measured out",
        );
        ExitCode::from(EXIT_UNREACHABLE)
    })?;
    for row in document["all"].as_array().map_or(&[][..], Vec::as_slice) {
        let id = row["id"].as_str().and_then(|id| DeviceId::parse(id).ok());
        if let (Some(id), Some(ms)) = (id, row["figures"]["answer_ms"].as_f64()) {
            known.answer_ms.insert(id, ms);
        }
    }
    known.is_measured = true;
    Ok(())
}

/// By the daemon, or in its files while it is stopped.
fn forget(global: &Global, out: &Out, config: &Config, socket: &Path, device: &str) -> ExitCode {
    let Some(device) = config.devices.iter().map(|d| &d.id).find(|id| id.as_str() == device) else {
        out.error("unknown", &format!("there is no device `{device}`"), "fieldgate plan shows all devices");
        return ExitCode::from(2);
    };
    let (told, said) = match control::ask(socket, &json!({"forget": {"device": device}}), global.timeout) {
        Ok(answer) if answer.get("error").is_none() => (true, String::new()),
        Ok(answer) => (false, answer["error"]["message"].as_str().unwrap_or_default().to_owned()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            match store::forget(&config.gateway.data_dir, device.as_str()) {
                Ok(()) => (true, String::new()),
                Err(error) => (false, error.to_string()),
            }
        }
        Err(error) => (false, error.to_string()),
    };
    if !told {
        out.error(
            "not-forgotten",
            &format!("{device} keeps what was learned: {said}"),
            "run it with sudo, or as a member of the group fieldgate",
        );
        return ExitCode::from(EXIT_UNREACHABLE);
    }
    if out.json {
        out.say(&json!({"v": 1, "forgotten": device}).to_string());
    } else {
        out.say(&format!("{device}: forgotten; all its points are asked for again"));
    }
    ExitCode::SUCCESS
}

/// The requests of one device, and what it refuses.
fn requests(config: &Config, plans: &[LinePlan], known: &Known, id: &str, out: &Out) -> String {
    let mut text = String::new();
    let planned = plans.iter().flat_map(|p| &p.devices).find(|d| d.device.as_str() == id);
    let Some((plan, device)) = planned.zip(config.devices.iter().find(|d| d.id.as_str() == id)) else { return text };
    let every = if plan.every.is_zero() {
        "as fast as the line allows".into()
    } else {
        format!("every {}", line_time::seconds(plan.every.as_secs_f64() * 1000.0))
    };
    let _ = writeln!(text, "{id}   unit {} on {}, polled {every}\n", device.unit, device.line);
    let columns = [left("REQUEST").least(20), right("WORDS").rank(1).least(5), right("LINE TIME").least(9), left("POINTS").text(16)];
    let mut table = Table::new(&columns);
    for (request, ms) in &plan.requests {
        table.row("  ", [place(request), request.count.to_string(), format!("{ms:.0} ms"), names(request)]);
    }
    text.push_str(&table.text(out));
    let Some(holes) = known.holes.get(&device.id).filter(|h| !h.is_empty()) else { return text };
    let _ = writeln!(text, "\n  Left out, because the device refuses it:");
    for (hole, code) in holes.iter() {
        let points: Vec<&str> = match hole {
            Hole::Limit { .. } => Vec::new(),
            _ => device.points.iter().filter(|p| one(*hole, code).refuses_point(p).is_some()).map(|p| p.id.as_str()).collect(),
        };
        let whose = if points.is_empty() { String::new() } else { format!("   {}", points.join(", ")) };
        let _ = writeln!(text, "  {:<20}  exception {code}, {}{whose}", words(hole), exception::word(code));
    }
    let _ = writeln!(text, "\n  fieldgate plan --forget {id} has it asked again.");
    text
}

fn one(hole: Hole, code: u8) -> crate::drivers::modbus::Holes {
    let mut holes = crate::drivers::modbus::Holes::default();
    holes.insert(hole, code);
    holes
}

fn words(hole: &Hole) -> String {
    match hole {
        Hole::Span { table, start, count } => format!("{}:{start}+{count}", table.word()),
        Hole::Table(table) => format!("every {}", table.word()),
        Hole::Limit { table, most } => format!("{} above {most}", table.word()),
    }
}

fn place(request: &Request) -> String {
    format!("{}:{}+{}", request.table.word(), request.start, request.count)
}

/// The points of a request, as many as a line takes.
fn names(request: &Request) -> String {
    const SHOWN: usize = 6;
    if request.points.is_empty() {
        return "a scale factor".into();
    }
    let mut names = request.points.iter().take(SHOWN).map(|p| p.as_str()).collect::<Vec<_>>().join(", ");
    if request.points.len() > SHOWN {
        let _ = write!(names, " and {} more", request.points.len() - SHOWN);
    }
    names
}

fn learned_line(config: &Config, known: &Known, plans: &[LinePlan]) -> String {
    let shown = |id: &DeviceId| plans.iter().flat_map(|p| &p.devices).any(|d| d.device == *id);
    let with: Vec<&str> = config
        .devices
        .iter()
        .filter(|d| shown(&d.id) && known.holes.get(&d.id).is_some_and(|h| !h.is_empty()))
        .map(|d| d.id.as_str())
        .collect();
    match with[..] {
        [] => String::new(),
        [first, ..] => format!("  Left out what {} refuse; fieldgate plan --device {first} lists it.\n", with.join(", ")),
    }
}

fn document(plans: &[LinePlan], facts: &[Learned], device: Option<&str>) -> serde_json::Value {
    let mut document = line_time::json(plans);
    for line in document["lines"].as_array_mut().into_iter().flatten() {
        if let Some(devices) = line["devices"].as_array_mut() {
            devices.retain(|d| device.is_none_or(|id| d["id"] == id));
        }
    }
    let shown = |f: &&Learned| device.is_none_or(|id| f.about == id);
    document["learned"] = facts.iter().filter(shown).map(|f| json!(f)).collect();
    document
}

#[cfg(test)]
mod tests;
