//! The same write of several devices, as one command of the running daemon: it judges each, and one result comes of it.

use super::{Args, EXIT_REFUSED, EXIT_UNKNOWN, agree, alone, assignment, show, user};
use crate::{
    api::control,
    api::json::plain,
    cli::{EXIT_UNREACHABLE, Global, Out, site::Trouble, status},
    limits,
    model::Phase,
};
use serde_json::{Map, Value, json};
use std::{process::ExitCode, time::Duration};

pub fn write(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, Trouble> {
    let devices: Vec<&str> = args.target.split(',').map(str::trim).filter(|d| !d.is_empty()).collect();
    if args.unit.is_some() || args.kind.is_some() || args.dry_run {
        let message = "several devices are written by points, and a dry run shows one device";
        return Err(Trouble::new("usage", 2, message, "fieldgate write --help"));
    }
    let mut write = Map::new();
    for text in &args.what {
        let (point, value) = assignment(text)?;
        write.insert(point.to_owned(), plain(&value));
    }
    if !args.yes {
        agree(out, &question(&devices, &write))?;
    }
    let expires_in_ms = u64::try_from(args.expires.as_millis()).unwrap_or(u64::MAX);
    let ask = json!({"command": {
        "id": alone::id(), "devices": devices, "write": write, "from": user(), "expires_in_ms": expires_in_ms, "wait": !args.no_wait,
    }});
    let patience = args.expires + limits::COMMAND_GRACE + Duration::from_secs(5);
    let answer = control::ask(&status::socket(global), &ask, patience).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            let message = "fieldgate is not running, and only it writes to several devices";
            Trouble::new("unreachable", EXIT_UNREACHABLE, message, "write to one after the other, or start it")
        }
        _ => {
            let message = format!("fieldgate took the command and did not answer: {e}");
            Trouble::new("unknown", EXIT_UNKNOWN, message, "read the points before you send it again")
        }
    })?;
    if let Some(why) = answer["error"]["message"].as_str() {
        return Err(Trouble::new("rejected", EXIT_REFUSED, why, "fieldgate status"));
    }
    let phase = answer["phase"].as_str().and_then(Phase::parse).unwrap_or(Phase::Unknown);
    if out.json {
        out.say(&answer.to_string());
    } else {
        shown(&answer, phase, out).iter().for_each(|line| out.say(line));
    }
    Ok(ExitCode::from(show::code(phase)))
}

fn question(devices: &[&str], write: &Map<String, Value>) -> String {
    let what: Vec<String> = write.iter().map(|(point, value)| format!("{point} to {value}")).collect();
    format!("Set {} of {}?", what.join(", "), devices.join(", "))
}

/// A line for each device, then the whole. `accepted` has no devices yet.
fn shown(answer: &Value, phase: Phase, out: &Out) -> Vec<String> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let results = answer["results"].as_object().cloned().unwrap_or_default();
    let wide = results.keys().map(String::len).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (device, one) in &results {
        let phase = one["phase"].as_str().and_then(Phase::parse).unwrap_or(Phase::Unknown);
        let values = one["values"].as_object().into_iter().flatten().map(|(point, value)| format!("{point} = {value}"));
        let detail = [text(&one["reason"])].into_iter().filter(|r| !r.is_empty()).chain(values).collect::<Vec<_>>().join(", ");
        let line = format!("{} {device:wide$}  {:9}  {detail}", show::glyph(phase, out), phase.word());
        lines.push(line.trim_end().to_owned());
    }
    let reason = Some(text(&answer["reason"])).filter(|r| !r.is_empty()).map_or(String::new(), |reason| format!(": {reason}"));
    lines.push(format!("{} {}{reason}  ({})", show::glyph(phase, out), phase.word(), text(&answer["id"])));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_line_and_the_whole_the_last() {
        let answer = json!({"id": "local-1", "phase": "failed", "reason": "1 confirmed, 1 rejected", "results": {
            "boiler": {"phase": "confirmed", "reason": "", "values": {"setpoint": 67}},
            "tank": {"phase": "rejected", "reason": "there is no device tank here", "values": {}},
        }});
        let want = [
            "● boiler  confirmed  setpoint = 67",
            "✕ tank    rejected   there is no device tank here",
            "✕ failed: 1 confirmed, 1 rejected  (local-1)",
        ];
        assert_eq!(shown(&answer, Phase::Failed, &Out::plain()), want);
        let write = [("setpoint".to_owned(), json!(67))].into_iter().collect();
        assert_eq!(question(&["boiler", "tank"], &write), "Set setpoint to 67 of boiler, tank?");
    }
}
