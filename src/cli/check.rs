//! `fieldgate check`: every problem at once, with place and remedy, and what the lines have to carry (UI.md 2.4, 2.5).

pub mod line_time;

use super::{EXIT_CONFIG, Global, Out, out};
use crate::config::{self, Code, Config, Loaded, Problem, Secrets, Severity, Surroundings, render::Style};
use line_time::{Known, LIMIT, LinePlan};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate check                           /etc/fieldgate/fieldgate.toml and its conf.d\n  fieldgate check ./fieldgate.toml --plan   and what every line has to carry\n  fieldgate check new.toml --no-secrets     on another machine than the gateway\n  fieldgate check --routes                  and what [mqtt.preset.…] becomes\n\nExit: 0 good, 78 with an error. Every code has a heading in docs/configuration.md."
)]
pub struct Args {
    /// The main file [default: that of --config]; conf.d beside it is read too
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
    /// Also show requests and line time of every device
    #[arg(long)]
    pub plan: bool,
    /// Also show the routes of local MQTT, those of presets as they could be written
    #[arg(long)]
    pub routes: bool,
    /// Do not look at secrets, certificates and keys: they are on the gateway
    #[arg(long)]
    pub no_secrets: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let path = args.file.as_deref().unwrap_or(&global.config);
    let secrets = if args.no_secrets { Secrets::Unread } else { Secrets::IfReachable };
    let mut loaded = config::load_with(path, &Surroundings::real(secrets));
    let plans = loaded.config.as_ref().map(|c| line_time::plans(c, &Known::default())).unwrap_or_default();
    overloads(&mut loaded, &plans);
    if args.strict {
        for problem in loaded.problems.iter_mut().filter(|p| p.severity == Severity::Warning) {
            problem.severity = Severity::Error;
        }
    }
    let (errors, _) = config::render::count(&loaded.problems);
    if out.json {
        out.say(&json(&loaded, &plans).to_string());
    } else {
        if let Some(mqtt) = loaded.config.as_ref().and_then(|c| c.mqtt.as_ref()).filter(|_| args.routes) {
            out.say(&routes(&mqtt.routes));
        }
        out.say(text(&loaded, &plans, args.plan, path, out).trim_end());
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) }
}

/// As they could stand in the file.
fn routes(routes: &[config::Route]) -> String {
    let one = |route: &config::Route| {
        let from = route.preset.map_or(String::new(), |preset| format!("# mqtt.preset.{preset}\n"));
        format!("{from}{}\n", config::written::route(route))
    };
    routes.iter().map(one).collect()
}

/// Errors and warnings as they are shown; empty when there are none. `run` prints it before it starts.
pub fn render(loaded: &Loaded, out: &Out) -> String {
    let loud: Vec<Problem> = loaded.problems.iter().filter(|p| p.severity != Severity::Note).cloned().collect();
    config::render::text(&loud, style(out))
}

const fn style(out: &Out) -> Style {
    Style { color: out.color, ascii: out.ascii }
}

/// What only the plan shows: a serial line that cannot carry what is asked of it.
fn overloads(loaded: &mut Loaded, plans: &[LinePlan]) {
    let Some(config) = &loaded.config else { return };
    let found: Vec<Problem> = plans.iter().filter(|p| p.overloaded()).filter_map(|p| overload(p, config, loaded)).collect();
    if !found.is_empty() {
        loaded.problems.extend(found);
        loaded.problems.sort_by_key(|p| p.severity);
    }
}

fn overload(plan: &LinePlan, config: &Config, loaded: &Loaded) -> Option<Problem> {
    // The device that asks for most is where a change helps most.
    let heaviest =
        plan.devices.iter().filter(|d| !d.every.is_zero()).max_by(|a, b| a.share().total_cmp(&b.share()).then(b.device.cmp(&a.device)))?;
    let at = loaded.polls.get(&heaviest.device)?.clone();
    let polled: Vec<_> = plan.devices.iter().filter(|d| !d.every.is_zero()).collect();
    let same = polled.iter().all(|d| d.every == heaviest.every);
    let per_ms = if same { heaviest.every.as_secs_f64() * 1000.0 } else { 1000.0 };
    let found = if plan.utilisation > 1.0 {
        format!("line {} cannot carry this plan", plan.line)
    } else {
        format!("line {} has no room left: {} of its time is used", plan.line, percent(plan.utilisation))
    };
    let key = format!("device.{}.poll", heaviest.device);
    let mut problem = Problem::new(Severity::Warning, Code::LineOverload, at, key, found);
    let devices = if polled.len() == 1 { "1 device needs".to_owned() } else { format!("{} devices need", polled.len()) };
    problem.because(format!("{devices} {} ms of line time in every {} ms", whole(plan.utilisation * per_ms), whole(per_ms)));
    if same {
        let (poll, then) = line_time::roomy_poll(heaviest.every, plan.utilisation);
        problem.want_when(format!("poll = \"{poll}\""), format!("{} of the line", percent(then)));
    } else {
        problem.want_when(
            format!("every `poll` times {:.1}", plan.utilisation / LIMIT + 0.05),
            format!("about {} of the line", percent(LIMIT)),
        );
    }
    if let Some((baud, then)) = line_time::faster(config, plan) {
        problem.want_when(format!("baud = {baud} on line {}", plan.line), format!("about {}, if all its devices allow it", percent(then)));
    }
    Some(problem)
}

fn text(loaded: &Loaded, plans: &[LinePlan], plan: bool, path: &Path, out: &Out) -> String {
    let mut text = config::render::text(&loaded.problems, style(out));
    let (errors, warnings) = config::render::count(&loaded.problems);
    if plan && !plans.is_empty() {
        text.push_str(&line_time::text(plans, loaded.config.as_ref(), &Known::default(), out));
        text.push('\n');
    }
    if errors > 0 {
        let _ = writeln!(
            text,
            "{}, {}. Nothing was changed; the running configuration stays.",
            some(errors, "error"),
            some(warnings, "warning")
        );
        return text;
    }
    let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    let files = match loaded.files.len() - 1 {
        0 => format!("{name} is good"),
        n => format!("{name} and {} in conf.d are good", some(n, "file")),
    };
    let c = loaded.counts;
    let _ = write!(
        text,
        "{} {files}: {}, {}, {}",
        out.glyph("good"),
        some(c.lines, "line"),
        some(c.devices, "device"),
        some(c.points, "point")
    );
    if warnings > 0 {
        let _ = write!(text, "; {}", some(warnings, "warning"));
    }
    text.push('\n');
    text
}

fn json(loaded: &Loaded, plans: &[LinePlan]) -> serde_json::Value {
    let (errors, _) = config::render::count(&loaded.problems);
    serde_json::json!({"v": 1, "ok": errors == 0, "problems": config::render::json(&loaded.problems), "plan": line_time::json(plans)})
}

/// `1 error`, `3 errors`.
fn some(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", out::count(n as u64))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn whole(n: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // line times are small and positive
    out::count(n.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> (Loaded, Vec<LinePlan>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fieldgate.toml");
        std::fs::write(&path, toml).unwrap();
        let mut loaded = config::load_with(&path, &Surroundings::real(Secrets::Unread));
        let plans = loaded.config.as_ref().map(|c| line_time::plans(c, &Known::default())).unwrap_or_default();
        overloads(&mut loaded, &plans);
        (loaded, plans)
    }

    /// Five meters at 9600 8E1, each with two runs of 13 and one of 14 registers: 220 ms of line time, as in UI.md 2.5.
    fn meters(poll: &str) -> String {
        let mut toml = format!(
            "[gateway]\nid = \"g\"\n[line.meters]\nserial = {{ path = \"/dev/serial/by-id/x\", baud = 9600, parity = \"even\" }}\n[group.meter]\neach = \"1..5\"\nline = \"meters\"\nunit = \"{{n}}\"\npoll = \"{poll}\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n"
        );
        for n in (0..13).chain(100..113).chain(200..214) {
            let _ = write!(toml, "[group.meter.point.r{n}]\nregister = \"input:{n}\"\ntype = \"u16\"\n");
        }
        toml
    }

    #[test]
    fn an_overloaded_line_names_the_cycle_it_can_do() {
        let (loaded, plans) = load(&meters("1s"));
        assert!((plans[0].utilisation - 1.102).abs() < 0.01, "{}", plans[0].utilisation);
        let [p] = &loaded.problems[..] else { panic!("{:?}", loaded.problems) };
        assert_eq!((p.severity, p.code, p.at.line), (Severity::Warning, Code::LineOverload, 9));
        assert_eq!(p.because, "5 devices need 1,102 ms of line time in every 1,000 ms");
        assert_eq!((p.want[0].write.as_str(), p.want[0].when.as_str()), ("poll = \"2s\"", "55 % of the line"));
        assert!(p.want[1].write.starts_with("baud = 19200"), "{:?}", p.want);
    }

    #[test]
    fn a_line_with_room_is_quiet() {
        let (loaded, _) = load(&meters("2s"));
        assert_eq!(loaded.problems, []);
        let shown = text(&loaded, &[], false, Path::new("/etc/fieldgate/fieldgate.toml"), &Out::plain());
        assert_eq!(shown, "● fieldgate.toml is good: 1 line, 5 devices, 200 points\n");
    }

    #[test]
    fn the_plan_says_what_each_device_takes() {
        let (loaded, plans) = load(&meters("2s"));
        let shown = line_time::text(&plans, loaded.config.as_ref(), &Known::default(), &Out::plain());
        assert!(shown.contains("9600 8E1, 1.15 ms per character"), "{shown}");
        assert!(shown.contains("meter-1") && shown.contains("220 ms"), "{shown}");
        let value = json(&loaded, &plans);
        assert_eq!(value["plan"]["lines"][0]["devices"][0]["requests"].as_array().unwrap().len(), 3);
    }
}
