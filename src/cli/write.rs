//! `fieldgate write`: points of a configured device, or one register of any unit. Nothing goes out before it was said what.
//!
//! Points go the way of the cloud's commands: through the running daemon's engine, or with the same limits on a line held
//! here. A register of a bare port has no limits but the question that is asked.
//! Exit: 0 confirmed, 1 failed or expired, 5 rejected, 6 unknown.

mod alone;
mod raw;
mod several;
mod show;

pub use show::glyph;

use super::{
    EXIT_REFUSED, Global, Out,
    agree::{self, Answer},
    duration,
    site::{self, Place, Trouble, Wiring},
    status,
};
use crate::{
    api::control,
    api::json::{self, plain},
    config::{self, Config, Device, Secrets, Surroundings},
    drivers::line::orders::{PreviewStep, preview},
    model::{Phase, PointId, Value},
};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

/// The outcome is unknown: it was sent and no answer came.
pub const EXIT_UNKNOWN: u8 = 6;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "fieldgate write DEVICE[,DEVICE…] POINT=VALUE…\n       fieldgate write PORT --unit N REGISTER=VALUE [--as TYPE]",
    after_help = "Examples:
  fieldgate write boiler setpoint=67 --dry-run      what would happen, with its bytes
  fieldgate write boiler setpoint=67
  fieldgate write boiler,pump setpoint=67           the same of each, as one command of the running gateway
  fieldgate write /dev/ttyUSB0 -u 1 holding:101=67 --as u16

Exit: 0 confirmed, 1 failed or expired, 2 usage, 4 no answer, 5 rejected or refused, 6 outcome unknown."
)]
pub struct Args {
    /// A device of the configuration, several with commas, or a port (/dev/…), a line or host[:port]
    #[arg(value_name = "DEVICE|PORT")]
    target: String,
    /// What to write, such as setpoint=67 or holding:101=67
    #[arg(value_name = "POINT=VALUE", required = true)]
    what: Vec<String>,
    /// Unit address, for a register of a port
    #[arg(short, long, value_name = "N")]
    unit: Option<u8>,
    /// u16, i16, u32, f32, … with order: f32/CDAB
    #[arg(long = "as", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    wiring: Wiring,
    /// Say what would happen and send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Not begun after this
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    expires: Duration,
    /// Return when it is accepted
    #[arg(long)]
    no_wait: bool,
}

/// What is to be written, and what is known of it before.
struct Wish {
    device: Device,
    place: String,
    values: BTreeMap<PointId, Value>,
    before: BTreeMap<PointId, Value>,
    steps: Vec<PreviewStep>,
}

/// What came of it, however it went.
#[derive(Debug, Clone, Default)]
struct End {
    id: String,
    phase: Option<Phase>,
    reason: String,
    read_back: Map<String, Json>,
    /// Wall milliseconds.
    phases: Vec<(Phase, i64)>,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match write(global, out, args) {
        Ok(code) => code,
        Err(trouble) => trouble.say(out),
    }
}

fn write(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, Trouble> {
    if args.target.contains(',') {
        return several::write(global, out, args);
    }
    let place = site::resolve(global, &args.wiring.target(&args.target))?;
    match &place.device {
        Some(device) if args.unit.is_none() => points(global, out, args, &place, device),
        _ => raw::write(global, out, args, &place),
    }
}

fn points(global: &Global, out: &Out, args: &Args, place: &Place, device: &Device) -> Result<ExitCode, Trouble> {
    let values = values(device, &args.what)?;
    let loaded = config::load_with(&global.config, &Surroundings::real(Secrets::IfReachable));
    let Some(config) = loaded.config else {
        return Err(Trouble::new("configuration", super::EXIT_CONFIG, "the configuration does not check", "fieldgate check"));
    };
    alone::allowed(&config, device, &values).map_err(|why| rejected(device, &why, &global.config))?;
    let steps = preview(device, &values).map_err(|why| rejected(device, &why, &global.config))?;
    let socket = status::socket(global);
    let daemon = before(&socket, device, global.timeout);
    let mut wish = Wish { device: device.clone(), place: place.name(), values, before: BTreeMap::new(), steps };
    // Reading what is there would disturb nobody, but a dry run on a stopped gateway sends nothing at all.
    wish.before = match &daemon {
        Some(before) => before.clone(),
        None if args.dry_run => BTreeMap::new(),
        None => alone::before(&config, device, &wish.values, global.timeout),
    };
    if args.dry_run {
        return Ok(show::dry(out, &wish, args.expires));
    }
    if !args.yes {
        agree(out, &show::question(&wish))?;
    }
    let end = match daemon {
        Some(_) => through_daemon(&socket, &wish, args)?,
        None => alone::write(&config, device, &wish.values, args.expires)?,
    };
    Ok(show::end(out, &wish, &end))
}

fn rejected(device: &Device, why: &str, config: &Path) -> Trouble {
    let remedy = format!("the limits of {} are in {} or its conf.d: write = {{ … }}", device.id, config.display());
    Trouble::new("rejected", EXIT_REFUSED, format!("rejected, {why}\n  nothing was sent"), remedy)
}

/// `setpoint=67` with the point's name looked up; the value as it reads: a switch, a number, a text.
fn values(device: &Device, what: &[String]) -> Result<BTreeMap<PointId, Value>, Trouble> {
    let mut values = BTreeMap::new();
    for text in what {
        let (name, value) = assignment(text)?;
        let Some(point) = device.points.iter().find(|p| p.id.as_str() == name) else {
            let writable: Vec<&str> = device.points.iter().filter(|p| p.write.is_some()).map(|p| p.id.as_str()).collect();
            let remedy = if writable.is_empty() {
                "none of its points may be written".to_owned()
            } else {
                format!("it has {}", writable.join(", "))
            };
            return Err(Trouble::new("usage", 2, format!("{} has no point {name}", device.id), remedy));
        };
        values.insert(point.id.clone(), value);
    }
    Ok(values)
}

pub(super) fn assignment(text: &str) -> Result<(&str, Value), Trouble> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Trouble::new("usage", 2, format!("{text} says no value"), "fieldgate write DEVICE POINT=VALUE"));
    };
    Ok((name.trim(), value_of(value.trim())))
}

fn value_of(text: &str) -> Value {
    match text {
        "true" | "on" => return Value::Bool(true),
        "false" | "off" => return Value::Bool(false),
        _ => {}
    }
    let whole = text.parse().map(Value::Int).or_else(|_| text.parse().map(Value::Uint));
    let float = || text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::Float);
    whole.ok().or_else(float).unwrap_or_else(|| Value::Text(text.into()))
}

/// The last values that the running daemon has of the device; `None`: no daemon that knows it.
fn before(socket: &Path, device: &Device, timeout: Duration) -> Option<BTreeMap<PointId, Value>> {
    let ask = json!({"command": {"id": "preview", "device": device.id, "from": "preview", "expires_in_ms": 0, "preview": true}});
    let answer = control::ask(socket, &ask, timeout).ok()?;
    let before = answer["before"].as_object()?;
    Some(before.iter().filter_map(|(p, v)| Some((PointId::parse(p).ok()?, json::value(v)?))).collect())
}

/// Through the daemon's engine, as a command of the cloud goes.
fn through_daemon(socket: &Path, wish: &Wish, args: &Args) -> Result<End, Trouble> {
    let write: Map<String, Json> = wish.values.iter().map(|(p, v)| (p.to_string(), plain(v))).collect();
    let expires_in_ms = u64::try_from(args.expires.as_millis()).unwrap_or(u64::MAX);
    let ask = json!({"command": {
        "id": alone::id(), "device": wish.device.id, "write": write, "from": user(), "expires_in_ms": expires_in_ms, "wait": !args.no_wait,
    }});
    let patience = args.expires + crate::limits::COMMAND_GRACE + Duration::from_secs(5);
    let answer = control::ask(socket, &ask, patience).map_err(|e| {
        let message = format!("fieldgate took the command and did not answer: {e}");
        Trouble::new("unknown", EXIT_UNKNOWN, message, "read the point before you send it again")
    })?;
    if let Some(why) = answer["error"]["message"].as_str() {
        return Err(Trouble::new("rejected", EXIT_REFUSED, why, "fieldgate status"));
    }
    let word = |v: &Json| v.as_str().and_then(Phase::parse);
    let phases = answer["phases"].as_array().into_iter().flatten();
    Ok(End {
        id: answer["id"].as_str().unwrap_or_default().to_owned(),
        phase: word(&answer["phase"]),
        reason: answer["reason"].as_str().unwrap_or_default().to_owned(),
        read_back: answer["read_back"].as_object().cloned().unwrap_or_default(),
        phases: phases.filter_map(|p| Some((word(&p["phase"])?, p["at_ms"].as_i64()?))).collect(),
    })
}

pub(super) fn fresh_id() -> String {
    alone::id()
}

pub(super) fn user() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|k| std::env::var(k).ok().filter(|v| !v.is_empty()));
    name.unwrap_or_else(|| "somebody".into())
}

fn agree(out: &Out, question: &str) -> Result<(), Trouble> {
    match agree::ask(out, question) {
        Answer::Yes => Ok(()),
        Answer::No => Err(Trouble::new("not-agreed", 1, "not agreed to; nothing was sent", "")),
        Answer::Nobody => {
            Err(Trouble::new("not-asked", 2, "a write asks first, and nobody is here to answer", "add --yes, or see it with --dry-run"))
        }
    }
}

/// What `config` says of a point, for the command lanes.
fn is_device_of(config: &Config, device: &Device) -> bool {
    config.devices.iter().any(|d| d.id == device.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_read_as() {
        for (text, want) in [
            ("67", Value::Int(67)),
            ("-3", Value::Int(-3)),
            ("6.5", Value::Float(6.5)),
            ("18446744073709551615", Value::Uint(u64::MAX)),
            ("on", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("auto", Value::Text("auto".into())),
            ("nan", Value::Text("nan".into())),
        ] {
            assert_eq!(value_of(text), want, "{text}");
        }
        assert!(assignment("setpoint").is_err());
        assert_eq!(assignment("setpoint = 67").ok(), Some(("setpoint", Value::Int(67))));
    }
}
