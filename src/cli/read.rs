//! `fieldgate read`: points of a configured device, or registers of any unit, once or again and again.
//!
//! Planned and decoded as the daemon does it, asked through a [`Bus`](super::site::Bus): so the daemon may run or not.

mod ask;
mod show;

pub use ask::exception;

use super::{
    EXIT_NO_ANSWER, EXIT_REFUSED, Global, Out, duration,
    interrupt::{EXIT_INTERRUPTED, Interrupt},
    out::count,
    progress::took,
    site::{self, Place, Trouble, Wiring},
};
use crate::{
    config::{self, DataType, Device, Point, Table},
    drivers::modbus::plan::plan_points,
    model::{DeviceId, PointId},
    system::clock::Clock,
};
use std::{process::ExitCode, time::Duration};

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "fieldgate read DEVICE [POINT…]\n       fieldgate read PORT --unit N REGISTER[+COUNT]… [--as TYPE]",
    after_help = "Examples:\n  fieldgate read meter-1                       all points of a known device\n  fieldgate read meter-1 power voltage\n  fieldgate read /dev/ttyUSB0 -u 1 input:12+2 --as f32\n  fieldgate read 192.168.1.20 -u 1 holding:100+4\n\nWith the daemon running on that line it takes turns with it.\nExit: 4 no answer, 5 the device refused, 130 interrupted (--every)."
)]
pub struct Args {
    /// A device of the configuration, or a port (/dev/…), a line or host[:port]
    #[arg(value_name = "DEVICE|PORT")]
    target: String,
    /// Points of the device; registers such as input:12 or holding:100+4
    #[arg(value_name = "POINT|REGISTER[+COUNT]")]
    what: Vec<String>,
    /// Unit address on the bus, 1 to 247 (0 to 255 on TCP)
    #[arg(short, long, value_name = "N")]
    unit: Option<u8>,
    /// u16, i16, u32, i32, f32, … with order: f32/CDAB
    #[arg(long = "as", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    wiring: Wiring,
    /// Repeat until Ctrl-C, marking what changed
    #[arg(long, value_name = "TIME", value_parser = duration)]
    every: Option<Duration>,
    /// Show the bytes as well
    #[arg(long, help_heading = "Output")]
    raw: bool,
}

/// Most registers that one call reads: more belongs into a configuration.
const COUNT_MAX: u32 = 2000;
/// How soon a Ctrl-C is seen between two readings.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match read(global, out, args) {
        Ok(code) => code,
        Err(trouble) => trouble.say(out),
    }
}

fn read(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, Trouble> {
    let place = site::resolve(global, &args.wiring.target(&args.target))?;
    let (device, points) = what(args, &place)?;
    let mut bus = site::open_place(global, out, &place)?;
    let requests = plan_points(&device, points.iter().copied());
    let mut before = Vec::new();
    let interrupt = args.every.map(|_| Interrupt::watch());
    let began = Clock::Real.now();
    let mut tally = Tally::default();
    loop {
        let begun = Clock::Real.now();
        let taken = ask::all(bus.as_mut(), &device, &requests)?;
        show::print(out, &show::Reading { args_raw: args.raw, device: &device, place: &place, order: &points, taken: &taken }, &before);
        for trouble in &taken.troubles {
            trouble.say(out);
        }
        let code = taken.troubles.iter().map(|t| t.exit).min().unwrap_or(0);
        let Some((every, interrupt)) = args.every.zip(interrupt.as_ref()) else { return Ok(ExitCode::from(code)) };
        tally.add(&taken);
        before = taken.values;
        let end = begun + every;
        while Clock::Real.now() < end && !interrupt.came() {
            std::thread::park_timeout((end - Clock::Real.now()).min(LOOK));
        }
        if interrupt.came() {
            if !out.quiet {
                eprintln!("{}", tally.words(Clock::Real.now() - began));
            }
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    }
}

/// What `--every` came to.
#[derive(Debug, Default)]
struct Tally {
    readings: u64,
    without: u64,
    refused: u64,
    took: Duration,
}

impl Tally {
    fn add(&mut self, taken: &ask::All) {
        self.readings += 1;
        self.without += u64::from(taken.troubles.iter().any(|t| t.exit == EXIT_NO_ANSWER));
        self.refused += u64::from(taken.troubles.iter().any(|t| t.exit == EXIT_REFUSED));
        self.took += taken.took;
    }

    /// `12 readings in 12 s, all answered, 21 ms each`.
    fn words(&self, elapsed: Duration) -> String {
        let readings = if self.readings == 1 { "1 reading".to_owned() } else { format!("{} readings", count(self.readings)) };
        let mut text = format!("{readings} in {}", took(elapsed));
        match (self.without, self.refused) {
            (0, 0) => text.push_str(", all answered"),
            (without, refused) => {
                for (n, what) in [(without, "not answered"), (refused, "refused")].into_iter().filter(|(n, _)| *n > 0) {
                    text.push_str(&format!(", {} {what}", count(n)));
                }
            }
        }
        let answered = self.readings - self.without;
        let each = self.took.as_millis() / u128::from(answered.max(1));
        if answered > 0 { format!("{text}, {each} ms each") } else { text }
    }
}

/// The device as it is or as it is made up, and its points that are asked for, in the order they are to be shown.
fn what(args: &Args, place: &Place) -> Result<(Device, Vec<usize>), Trouble> {
    let is_register = |text: &String| text.contains(':') || text.bytes().next().is_some_and(|b| b.is_ascii_digit());
    match &place.device {
        Some(device) if !args.what.iter().any(is_register) => {
            if args.kind.is_some() || args.unit.is_some_and(|u| u != device.unit) {
                return Err(usage("--unit and --as are for registers; a device has its own", "fieldgate read PORT --unit N REGISTER"));
            }
            Ok((device.clone(), named(device, &args.what)?))
        }
        device => {
            let unit = args
                .unit
                .or(device.as_ref().map(|d| d.unit))
                .ok_or_else(|| usage("which unit? a port has many", &format!("fieldgate read {} --unit 1 input:0+2", args.target)))?;
            if args.what.is_empty() {
                return Err(usage("which registers?", &format!("fieldgate read {} --unit {unit} input:0+2", args.target)));
            }
            let made_up = made_up(args, place, device.as_ref(), unit)?;
            let all = (0..made_up.points.len()).collect();
            Ok((made_up, all))
        }
    }
}

fn usage(message: &str, remedy: &str) -> Trouble {
    Trouble::new("usage", 2, message, remedy)
}

fn named(device: &Device, names: &[String]) -> Result<Vec<usize>, Trouble> {
    if names.is_empty() {
        return Ok((0..device.points.len()).collect());
    }
    let find = |name: &String| {
        device.points.iter().position(|p| p.id.as_str() == name).ok_or_else(|| {
            let near = config::nearest(name, device.points.iter().map(|p| p.id.as_str()));
            let remedy =
                near.map_or_else(|| format!("fieldgate read {}     reads all of them", device.id), |near| format!("did you mean {near}?"));
            usage(&format!("{} has no point {name}", device.id), &remedy)
        })
    };
    names.iter().map(find).collect()
}

/// A device of the registers that are asked for.
fn made_up(args: &Args, place: &Place, like: Option<&Device>, unit: u8) -> Result<Device, Trouble> {
    let id = DeviceId::parse(&format!("unit-{unit}")).expect("letters, a dash and digits");
    let mut device = Device { max_gap: 0, ..like.cloned().unwrap_or_else(|| Device::new(id, place.line.id.clone(), unit)) };
    device.unit = unit;
    let mut points = Vec::new();
    let (kind, order) = match args.kind.as_deref().map(|k| k.split_once('/').unwrap_or((k, ""))) {
        Some((kind, order)) => (Some(kind), Some(order.to_ascii_uppercase()).filter(|o| !o.is_empty())),
        None => (None, None),
    };
    for text in &args.what {
        registers(text, kind, order.as_deref(), &mut points)?;
    }
    points.sort_by_key(|p| p.register);
    points.dedup_by_key(|p| p.register);
    device.points = points.into();
    Ok(device)
}

/// `input:12+4`: as many values as fit into the count.
fn registers(text: &str, kind: Option<&str>, order: Option<&str>, into: &mut Vec<Point>) -> Result<(), Trouble> {
    let wrong = |why: String| usage(&why, "fieldgate read PORT --unit 1 input:12+2 --as f32");
    let (register, count) = match text.split_once('+') {
        Some((register, count)) => {
            let count = count.parse::<u32>().ok().filter(|n| (1..=COUNT_MAX).contains(n));
            (register, Some(count.ok_or_else(|| wrong(format!("{text}: the count is 1 to {COUNT_MAX}")))?))
        }
        None => (text, None),
    };
    let is_bits = register.starts_with("coil") || register.starts_with("discrete");
    let first = config::adhoc_point(register, kind.or((!is_bits).then_some("u16")), order).map_err(wrong)?;
    let width = if first.register.table.is_bits() { 1 } else { u32::from(first.kind.words()) };
    let count = count.unwrap_or(width);
    if count % width != 0 {
        return Err(wrong(format!("{text}: {} takes {width} registers, and {count} are no multiple", first.kind.word())));
    }
    let start = u32::from(first.register.address);
    if start + count > 0x1_0000 {
        return Err(wrong(format!("{text} reaches beyond 65535")));
    }
    for at in (start..start + count).step_by(width as usize) {
        let mut point = first.clone();
        point.register.address = u16::try_from(at).unwrap_or(u16::MAX);
        point.id = PointId::parse(&format!("{}-{at}", point.register.table.word())).expect("letters, a dash and digits");
        into.push(point);
    }
    Ok(())
}

/// Bytes of a point in the reply that its request got.
fn raw<'a>(point: &Point, offset: u16, data: &'a [u8]) -> &'a [u8] {
    if matches!(point.register.table, Table::Coil | Table::Discrete) {
        return data.get(usize::from(offset / 8)..=usize::from(offset / 8)).unwrap_or_default();
    }
    let start = usize::from(offset) * 2;
    data.get(start..start + usize::from(point.kind.words()) * 2).unwrap_or_default()
}

/// Whether digits behind the point mean something.
fn is_float(kind: DataType) -> bool {
    matches!(kind, DataType::F16 | DataType::F32 | DataType::F64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(text: &str, kind: Option<&str>) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        registers(text, kind, None, &mut out).map_err(|t| t.message)?;
        Ok(out.iter().map(|p| format!("{} {}", p.register, p.kind.word())).collect())
    }

    #[test]
    fn registers_become_as_many_values_as_fit() {
        let check = |text, kind, want: &[&str]| assert_eq!(points(text, kind).expect("right"), want, "{text}");
        check("input:12", None, &["input:12 u16"]);
        check("holding:100+3", None, &["holding:100 u16", "holding:101 u16", "holding:102 u16"]);
        check("input:12", Some("f32"), &["input:12 f32"]);
        check("input:12+4", Some("f32"), &["input:12 f32", "input:14 f32"]);
        check("coil:3+2", None, &["coil:3 bool", "coil:4 bool"]);
        for (text, kind, says) in [
            ("input:12+3", Some("f32"), "no multiple"),
            ("input:65535+2", None, "beyond"),
            ("input:1+0", None, "count"),
            ("register:1", None, "holding"),
            ("input:1", Some("float"), "f32"),
        ] {
            let why = points(text, kind).expect_err("wrong");
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
