//! What the plan costs in time on each line, computed as in UI.md 2.5: 8 characters out, 5 plus 2 per word back, twice
//! 3.5 characters of silence, 20 ms for the answer. `fieldgate plan` adds what was learned of devices and measured.

use crate::{
    cli::{
        Out,
        out::{self, Paint},
        table::{Table, left, right},
    },
    config::{Config, Device, Line, Parity, Serial, Transport},
    drivers::modbus::{
        Holes,
        plan::{Request, plan_around},
    },
    model::{DeviceId, LineId},
};
use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// Above this share polls begin to be missed: probes, retries and writes need the rest.
pub const LIMIT: f64 = 0.85;
const ANSWER_MS: f64 = 20.0;
/// A gap that costs less than another request at 9600 baud and up.
const WIDE_GAP: u16 = 10;
/// Above 19200 baud the standard fixes the silence at 1.75 ms.
const SILENCE_MS_MIN: f64 = 1.75;

/// What is known beyond the configuration.
#[derive(Default)]
pub struct Known {
    pub holes: BTreeMap<DeviceId, Holes>,
    /// Mean time from the end of a request to its answer.
    pub answer_ms: BTreeMap<DeviceId, f64>,
    pub is_measured: bool,
}

pub struct LinePlan {
    pub line: LineId,
    /// TCP: shares are known only roughly, so nothing is said about them.
    pub serial: bool,
    pub measured: bool,
    pub utilisation: f64,
    pub devices: Vec<DevicePlan>,
}

pub struct DevicePlan {
    pub device: DeviceId,
    pub every: Duration,
    pub needs_ms: f64,
    pub requests: Vec<(Request, f64)>,
}

impl LinePlan {
    pub fn overloaded(&self) -> bool {
        self.serial && self.utilisation > LIMIT
    }

    /// Whether its share says something: on TCP only when answers were measured.
    pub fn is_known(&self) -> bool {
        self.serial || self.measured
    }
}

impl DevicePlan {
    /// Of the line; 0 for a device that takes what is left.
    pub fn share(&self) -> f64 {
        if self.every.is_zero() { 0.0 } else { self.needs_ms / (self.every.as_secs_f64() * 1000.0) }
    }

    /// What the line can do when it is shared as planned.
    fn can_do_ms(&self, utilisation: f64) -> f64 {
        (self.every.as_secs_f64() * 1000.0 * utilisation).max(self.needs_ms)
    }
}

/// Every line that has devices, in order of id.
pub fn plans(config: &Config, known: &Known) -> Vec<LinePlan> {
    config
        .lines
        .iter()
        .map(|line| line_plan(line, config.devices.iter().filter(|d| d.line == line.id), known))
        .filter(|p| !p.devices.is_empty())
        .collect()
}

fn line_plan<'a>(line: &Line, devices: impl Iterator<Item = &'a Device>, known: &Known) -> LinePlan {
    let nothing = Holes::default();
    let devices: Vec<DevicePlan> = devices
        .map(|device| {
            let gap = device.min_gap.unwrap_or(line.min_gap);
            let answer_ms = known.answer_ms.get(&device.id).copied().unwrap_or(ANSWER_MS);
            let planned = plan_around(device, known.holes.get(&device.id).unwrap_or(&nothing)).into_iter();
            let requests: Vec<(Request, f64)> =
                planned.map(|r| (request_ms(&line.transport, gap, answer_ms, &r), r)).map(|(ms, r)| (r, ms)).collect();
            DevicePlan { device: device.id.clone(), every: device.poll, needs_ms: requests.iter().map(|r| r.1).sum(), requests }
        })
        .collect();
    let utilisation = devices.iter().map(DevicePlan::share).sum();
    LinePlan {
        line: line.id.clone(),
        serial: matches!(line.transport, Transport::Serial(_)),
        measured: known.is_measured,
        utilisation,
        devices,
    }
}

fn request_ms(transport: &Transport, gap: Duration, answer_ms: f64, request: &Request) -> f64 {
    let gap_ms = gap.as_secs_f64() * 1000.0;
    match transport {
        Transport::Serial(serial) => {
            let char_ms = char_ms(serial);
            let back = if request.table.is_bits() { 5 + request.count.div_ceil(8) } else { 5 + 2 * request.count };
            let silence = if serial.baud > 19_200 { SILENCE_MS_MIN } else { 3.5 * char_ms };
            f64::from(8 + back) * char_ms + silence + silence.max(gap_ms) + answer_ms
        }
        Transport::Tcp { .. } | Transport::RtuOverTcp { .. } => answer_ms + gap_ms,
    }
}

fn char_ms(serial: &Serial) -> f64 {
    f64::from(serial.bits_per_char()) * 1000.0 / f64::from(serial.baud)
}

/// The shortest usual period at which the line is used to at most its limit, and the share then.
pub fn roomy_poll(every: Duration, utilisation: f64) -> (String, f64) {
    const USUAL_MS: [u64; 18] = [
        100, 200, 250, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000,
        3_600_000,
    ];
    let needed_ms = every.as_secs_f64() * 1000.0 * utilisation;
    #[allow(clippy::cast_precision_loss)] // a few milliseconds
    let ms = USUAL_MS.into_iter().find(|ms| needed_ms / *ms as f64 <= LIMIT).unwrap_or(3_600_000);
    let text = if ms % 60_000 == 0 {
        format!("{}m", ms / 60_000)
    } else if ms % 1000 == 0 {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    };
    #[allow(clippy::cast_precision_loss)]
    let then = needed_ms / ms as f64;
    (text, then)
}

/// The next usual baud rate at which the plan fits, and the share then.
pub fn faster(config: &Config, plan: &LinePlan) -> Option<(u32, f64)> {
    let line = config.lines.iter().find(|l| l.id == plan.line)?;
    let Transport::Serial(serial) = &line.transport else { return None };
    [19_200, 38_400, 57_600, 115_200].into_iter().filter(|b| *b > serial.baud).find_map(|baud| {
        let faster = Line { transport: Transport::Serial(Serial { baud, ..serial.clone() }), ..line.clone() };
        let then = line_plan(&faster, config.devices.iter().filter(|d| d.line == line.id), &Known::default()).utilisation;
        (then <= LIMIT).then_some((baud, then))
    })
}

/// One table per line.
pub fn text(plans: &[LinePlan], config: Option<&Config>, known: &Known, out: &Out) -> String {
    let mut text = String::new();
    for plan in plans {
        let line = config.and_then(|c| c.lines.iter().find(|l| l.id == plan.line));
        let place = line.map_or_else(String::new, |l| place(&l.transport));
        let share =
            if plan.is_known() { format!("   {} {:.0} %", bar(plan.utilisation, out), plan.utilisation * 100.0) } else { String::new() };
        let _ = writeln!(text, "{}   {place}{share}\n", plan.line);
        text.push_str(&table(plan, out));
        let time = if known.is_measured {
            "Answer times are as the daemon saw them; 20 ms where it saw none."
        } else {
            "Time is assumed at 20 ms per answer; fieldgate plan --measured uses what was seen."
        };
        let _ = writeln!(text, "\n  {time}");
        if let Some((what, then)) = line.zip(config).and_then(|(line, config)| saving(config, line, plan, known)) {
            let _ = writeln!(text, "  Biggest saving: {what}, {:.0} % becomes about {:.0} %.", plan.utilisation * 100.0, then * 100.0);
        }
        text.push('\n');
    }
    text
}

/// The change that frees most of the line, and the share then. `None`: nothing frees a twentieth of it.
fn saving(config: &Config, line: &Line, plan: &LinePlan, known: &Known) -> Option<(String, f64)> {
    if !plan.is_known() {
        return None;
    }
    let mine = || config.devices.iter().filter(|d| d.line == line.id);
    let mut ways: Vec<(String, f64)> = Vec::new();
    if let Transport::Serial(serial) = &line.transport
        && let Some(baud) = [19_200, 38_400, 57_600, 115_200].into_iter().find(|b| *b > serial.baud)
    {
        let faster = Line { transport: Transport::Serial(Serial { baud, ..serial.clone() }), ..line.clone() };
        ways.push((format!("baud = {baud}, if all its devices allow it"), line_plan(&faster, mine(), known).utilisation));
    }
    for device in mine().filter(|d| d.max_gap < WIDE_GAP) {
        let wider = Device { max_gap: WIDE_GAP, ..device.clone() };
        let devices: Vec<Device> = mine().map(|d| if d.id == device.id { wider.clone() } else { d.clone() }).collect();
        ways.push((format!("max_gap = {WIDE_GAP} on {}", device.id), line_plan(line, devices.iter(), known).utilisation));
    }
    let heaviest = plan.devices.iter().filter(|d| !d.every.is_zero()).max_by(|a, b| a.share().total_cmp(&b.share()));
    if let Some(d) = heaviest.filter(|_| plan.utilisation > LIMIT) {
        let poll = seconds(d.every.as_secs_f64() * 2000.0).replace(' ', "");
        ways.push((format!("poll = \"{poll}\" on {}", d.device), plan.utilisation - d.share() / 2.0));
    }
    ways.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, then)| plan.utilisation - then >= 0.05)
}

fn place(transport: &Transport) -> String {
    match transport {
        Transport::Serial(s) => {
            let parity = match s.parity {
                Parity::None => 'N',
                Parity::Even => 'E',
                Parity::Odd => 'O',
            };
            format!("{}, {} {}{parity}{}, {:.2} ms per character", s.path.display(), s.baud, s.bits, s.stop, char_ms(s))
        }
        Transport::Tcp { host, port } => format!("{host}:{port}, Modbus TCP"),
        Transport::RtuOverTcp { host, port } => format!("{host}:{port}, RTU over TCP"),
    }
}

fn bar(share: f64, out: &Out) -> String {
    const WIDE: usize = 16;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to 16
    let full = ((share.clamp(0.0, 1.0) * WIDE as f64).round()) as usize;
    if out.ascii {
        return format!("{}{}", "=".repeat(full), "-".repeat(WIDE - full));
    }
    let rest = "━".repeat((WIDE - full).saturating_sub(1));
    format!("{}{}{}", "━".repeat(full), if full < WIDE { "╺" } else { "" }, out.paint(Paint::Dim, &rest))
}

fn table(plan: &LinePlan, out: &Out) -> String {
    let columns = [
        left("DEVICE").least(6),
        right("EVERY").least(7),
        right("REQUESTS").rank(2),
        right("WORDS").rank(3).least(5),
        right("LINE TIME").rank(1).least(9),
        right("SHARE").least(5),
        left("CAN DO"),
    ];
    let mut table = Table::new(&columns);
    for d in &plan.devices {
        let words: u64 = d.requests.iter().map(|(r, _)| u64::from(r.count)).sum();
        let every = if d.every.is_zero() { "always".into() } else { seconds(d.every.as_secs_f64() * 1000.0) };
        let share = if d.every.is_zero() { "-".into() } else { format!("{:.0} %", d.share() * 100.0) };
        let (time, can) = (format!("{} ms", super::whole(d.needs_ms)), seconds(d.can_do_ms(plan.utilisation)));
        let requests = d.requests.len().to_string();
        table.row("  ", [d.device.to_string(), every, requests, out::count(words), time, share, format!("every {can}")]);
    }
    table.text(out)
}

pub fn seconds(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else if (ms / 1000.0).fract() < 0.005 {
        format!("{:.0} s", ms / 1000.0)
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// The shape of UI.md 2.5.
pub fn json(plans: &[LinePlan]) -> serde_json::Value {
    let round = |ms: f64| (ms * 10.0).round() / 10.0;
    let lines = plans.iter().map(|p| {
        let devices = p.devices.iter().map(|d| {
            let requests = d
                .requests
                .iter()
                .map(|(r, ms)| serde_json::json!({"kind": r.table.word(), "at": r.start, "count": r.count, "ms": round(*ms)}));
            serde_json::json!({
                "id": d.device, "requests": requests.collect::<Vec<_>>(), "needs_ms": round(d.needs_ms),
                "every_ms": u64::try_from(d.every.as_millis()).unwrap_or(u64::MAX),
            })
        });
        let cycle: f64 = p.devices.iter().map(|d| d.needs_ms).sum();
        serde_json::json!({
            "id": p.line, "utilisation": (p.utilisation * 1000.0).round() / 1000.0, "limit": LIMIT, "cycle_ms": round(cycle),
            "devices": devices.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({"v": 1, "lines": lines.collect::<Vec<_>>()})
}
