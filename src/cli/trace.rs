//! `fieldgate trace`: one value from the frame on the bus to the cloud's acknowledgement.

use super::{
    EXIT_NO_ANSWER, EXIT_UNREACHABLE, Global, Out,
    interrupt::{EXIT_INTERRUPTED, Interrupt},
    moment,
    out::Paint,
    status,
};
use crate::api::control;
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode, sync::mpsc, time::Duration};

/// How soon a Ctrl-C is seen while the daemon waits for a value.
const LOOK: Duration = Duration::from_millis(100);

/// Follow one value from the bus to the cloud's acknowledgement.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fieldgate trace meter-1/power
  fieldgate trace meter-1/power --follow -v      one after the other, with their bytes

Exit: 0 acknowledged, 1 stuck (the last line says where), 3 not running, 4 the device did not answer.")]
pub struct Args {
    /// DEVICE/POINT
    #[arg(value_name = "POINT")]
    point: String,
    /// One value after the other, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// So many values
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "follow")]
    last: u32,
    /// How long to wait for each
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = super::duration)]
    within: Duration,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let Some((device, point)) = args.point.split_once('/') else {
        out.error("usage", &format!("{} names no point", args.point), "fieldgate trace DEVICE/POINT, such as meter-1/power");
        return ExitCode::from(2);
    };
    let interrupt = if args.follow { Interrupt::watch() } else { Interrupt::default() };
    let socket = status::socket(global);
    let within = u64::try_from(args.within.as_millis()).unwrap_or(u64::MAX);
    let request = json!({"trace": {"device": device, "point": point, "within_ms": within}});
    let mut code = ExitCode::SUCCESS;
    let mut n = 0;
    while (args.follow || n < args.last) && !interrupt.came() {
        n += 1;
        let (answer, answered) = mpsc::sync_channel(1);
        let (at, asked, patience) = (socket.clone(), request.clone(), args.within + global.timeout);
        std::thread::spawn(move || answer.send(control::ask(&at, &asked, patience)));
        let trace = loop {
            match answered.recv_timeout(LOOK) {
                Ok(answer) => break Some(answer),
                Err(mpsc::RecvTimeoutError::Timeout) if !interrupt.came() => {}
                Err(_) => break None,
            }
        };
        let trace = match trace {
            None => break,
            Some(Ok(trace)) => trace,
            Some(Err(e)) => {
                out.error(
                    "not-running",
                    &format!("fieldgate does not answer at {}: {e}", socket.display()),
                    "sudo systemctl start fieldgate",
                );
                return ExitCode::from(EXIT_UNREACHABLE);
            }
        };
        if let Some(why) = trace["error"]["message"].as_str() {
            out.error(
                trace["error"]["code"].as_str().unwrap_or("refused"),
                why,
                &format!("fieldgate read {device}     lists its points; fieldgate status --all the devices"),
            );
            return ExitCode::from(2);
        }
        if out.json {
            out.say(&document(&trace).to_string());
        } else {
            out.say(render(&trace, out).trim_end());
        }
        code = match (trace["acknowledged"] == true, trace["field"] == false) {
            (true, _) => code,
            (false, true) => ExitCode::from(EXIT_NO_ANSWER),
            (false, false) => ExitCode::FAILURE,
        };
    }
    if interrupt.came() { ExitCode::from(EXIT_INTERRUPTED) } else { code }
}

/// The daemon's answer with its times as text.
fn document(trace: &Value) -> Value {
    let mut trace = trace.clone();
    for step in trace["steps"].as_array_mut().into_iter().flatten() {
        let at = step["at_ms"].as_i64().unwrap_or(0);
        if let Some(step) = step.as_object_mut() {
            step.remove("at_ms");
            step.insert("at".into(), json!(moment::rfc3339(at)));
        }
    }
    if let Some(trace) = trace.as_object_mut() {
        trace.remove("field");
    }
    trace
}

/// Pure: the answer in, the screen out.
fn render(trace: &Value, out: &Out) -> String {
    let mut text = String::new();
    let steps = trace["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let at = |n: usize| steps[n]["at_ms"].as_i64().unwrap_or(0);
    for (n, step) in steps.iter().enumerate() {
        let word = step["step"].as_str().unwrap_or_default();
        let mut detail = step["detail"].as_str().unwrap_or_default().to_owned();
        if word == "answered" {
            detail = format!("{} ms, {detail}", at(n) - at(n - 1));
        }
        let last = word == "acknowledged";
        if last {
            detail =
                format!("{detail}, {} ms after {}", at(n) - at(0), if steps[0]["step"] == "asked" { "it was asked" } else { "it came" });
        }
        let glyph = if last { out.glyph("good") } else { " ".into() };
        let bytes = step["bytes"].as_str().filter(|b| !b.is_empty() && out.verbose > 0);
        let bytes = bytes.map(|b| format!("\n                 {}", out.paint(Paint::Dim, b))).unwrap_or_default();
        let _ = writeln!(text, "{glyph} {}  {word:9} {detail}{bytes}", moment::time(at(n)));
    }
    if let Some(waits) = trace["waits_for"].as_str() {
        let _ = writeln!(text, "{} {:13}  {:9} for {waits}", out.glyph("suspect"), "", "waits");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: &str, at_ms: i64, detail: &str) -> Value {
        json!({"step": step, "at_ms": at_ms, "took_ms": 0.0, "detail": detail, "bytes": if step == "asked" { "01 04" } else { "" }})
    }

    #[test]
    fn a_trace_reads_from_the_bus_to_the_cloud() {
        let steps = [
            step("asked", 1000, "meters, unit 1, input 0 to 31"),
            step("answered", 1117, "69 bytes"),
            step("acknowledged", 1203, "by the cloud"),
        ];
        let trace = json!({"steps": steps, "acknowledged": true, "waits_for": null});
        assert_eq!(
            render(&trace, &Out::plain()),
            "  00:00:01.000Z  asked     meters, unit 1, input 0 to 31\n  00:00:01.117Z  answered  117 ms, 69 bytes\n● 00:00:01.203Z  acknowledged by the cloud, 203 ms after it was asked\n"
        );
        let verbose = render(&trace, &Out { verbose: 1, ..Out::plain() });
        assert!(verbose.contains("\n                 01 04\n"), "{verbose}");
    }

    #[test]
    fn a_value_that_is_stuck_says_what_it_waits_for() {
        let trace =
            json!({"steps": [step("sealed", 1000, "telemetry 7")], "acknowledged": false, "waits_for": "the cloud to be reachable"});
        assert!(render(&trace, &Out::plain()).ends_with("◐                waits     for the cloud to be reachable\n"));
    }
}
