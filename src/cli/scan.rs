//! `fieldgate scan`: who answers on a serial line or in a network. Reads only, never writes.
//!
//! ```text
//! strategy (who is asked next) ─► Bus ─► what it means ─► found: identity (who is it) ─► a row as soon as it is known
//! ```
//! Exit: 0 found, 1 none, 4 only broken answers, 130 interrupted; what was found until then was printed and kept.

pub mod found;
mod identity;
mod net;
mod pace;
mod settings;
mod strategy;
mod sweep;

use super::{
    Global, Out,
    interrupt::{EXIT_INTERRUPTED, Interrupt},
    out::Paint,
    progress::{Progress, took},
    site::{Bus, BusError, Place, Target, Trouble, open_place, resolve},
};
use crate::{
    config::{self, Profile, Secrets, Surroundings},
    model::{Parity, Settings},
    system::clock::Clock,
};
use found::Found;
use std::{process::ExitCode, time::Duration};
use sweep::{Sweep, Swept};

/// Something answers, and never whole.
const EXIT_GARBLED: u8 = 4;

/// Find the devices on a serial line or in a network; reads only.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  fieldgate scan /dev/ttyUSB0                       the usual settings, all units
  fieldgate scan /dev/ttyUSB0 -b 9600 --parity none --units 1-20
  fieldgate scan 192.168.1.0/24                     Modbus TCP and RTU over TCP
  fieldgate scan 192.168.1.20 --units 1-247         what is behind a gateway

Exit: 0 found, 1 none, 2 usage, 4 only broken answers, 130 interrupted.")]
pub struct Args {
    /// A port, a line of the configuration, or addresses: host, 192.168.1.0/24, 192.168.1.10-20
    #[arg(value_name = "PORT|RANGE")]
    target: String,
    /// Units to ask, such as 1-20 or 1,5,100-110 [default: 1-247; in a network 1,255,0,247,2-5 until one answers]
    #[arg(long, value_name = "LIST", value_parser = settings::units)]
    units: Option<settings::Units>,
    /// Baud rates to try, in this order
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    baud: Vec<u32>,
    /// Parities to try: none, even, odd
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = settings::parity)]
    parity: Vec<Parity>,
    /// Stop bits to try: 1, 2
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=2))]
    stop: Vec<u8>,
    /// End when so many devices are found
    #[arg(long, value_name = "N")]
    stop_at: Option<usize>,
    /// How long a device may think before it answers [default: 100ms; in a network 300ms, then 1.5s where a port is open and mute]
    #[arg(long, value_name = "TIME", value_parser = super::duration, conflicts_with = "fast")]
    wait: Option<Duration>,
    /// Give devices less time: 40 ms, in a network 100 ms. Slow ones are missed
    #[arg(long)]
    fast: bool,
    /// Look for SunSpec at 40000, 50000 and 0, not only at 40000
    #[arg(long)]
    sunspec: bool,
    /// Ports to try in a network
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [502, 1502, 8899, 4196])]
    tcp_ports: Vec<u16>,
    /// Scan more than 1,024 addresses
    #[arg(short, long)]
    yes: bool,
}

impl Args {
    fn patience(&self, usual: u64, fast: u64) -> Duration {
        self.wait.unwrap_or(Duration::from_millis(if self.fast { fast } else { usual }))
    }

    fn bases(&self) -> &'static [u16] {
        if self.sunspec { &[40000, 50000, 0] } else { &[40000] }
    }
}

/// What a scan works with.
struct Desk<'a> {
    global: &'a Global,
    out: &'a Out,
    args: &'a Args,
    profiles: Vec<Profile>,
    interrupt: Interrupt,
    progress: Progress,
    found: Vec<Found>,
    headed: bool,
    net: bool,
    /// What the hosts that are still to be asked take if nobody answers there.
    ahead: Duration,
}

/// What all sweeps together came to.
#[derive(Debug, Default)]
struct Total {
    tries: u64,
    minimum: Duration,
    garbled: u64,
    noisy: Option<Settings>,
}

impl Total {
    fn add(&mut self, swept: &Swept) {
        self.tries += swept.tries;
        self.minimum += swept.minimum;
        self.garbled += swept.garbled;
        self.noisy = self.noisy.or(swept.noisy);
    }
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let clock = Clock::Real;
    let profiles = config::profile::profiles(&global.config, &Surroundings::real(Secrets::Unread)).profiles;
    let place = match port(global, args) {
        Ok(place) => place,
        Err(trouble) => return trouble.say(out),
    };
    let mut desk = Desk {
        global,
        out,
        args,
        profiles,
        interrupt: Interrupt::watch(),
        progress: Progress::new(out, clock),
        found: Vec::new(),
        headed: false,
        net: place.is_none(),
        ahead: Duration::ZERO,
    };
    let swept = match &place {
        Some(place) => serial(&mut desk, place),
        None => net::scan(&mut desk),
    };
    match swept {
        Ok(total) => desk.finish(&total),
        Err(trouble) => {
            desk.progress.clear();
            trouble.say(out)
        }
    }
}

/// A port or line, or else addresses.
fn port(global: &Global, args: &Args) -> Result<Option<Place>, Trouble> {
    let place = resolve(global, &Target { what: args.target.clone(), ..Target::default() });
    match place {
        Ok(place) if place.settings().is_some() => Ok(Some(place)),
        Ok(_) => Ok(None),
        Err(_) if args.target.contains('.') => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// What no serial line has is not asked: it would count as tried.
fn on_serial(units: &[u8], place: &str) -> Result<(), Trouble> {
    let wrong: Vec<String> = units.iter().filter(|u| !(1..=247).contains(*u)).map(u8::to_string).collect();
    let are = match &wrong[..] {
        [] => return Ok(()),
        [one] => format!("unit {one} is no address"),
        some => format!("units {} are no addresses", some.join(", ")),
    };
    let remedy = format!("fieldgate scan {place} --units 1-247     0 and 248 to 255 are for TCP");
    Err(Trouble::new("usage", 2, format!("{are} on a serial line"), remedy))
}

fn serial(desk: &mut Desk<'_>, place: &Place) -> Result<Total, Trouble> {
    let units = desk.args.units.clone().map_or_else(|| (1..=247).collect(), |u| u.0);
    on_serial(&units, &desk.args.target)?;
    let mut bus = open_place(desk.global, desk.out, place)?;
    let args = desk.args;
    let chosen = !args.baud.is_empty() || !args.parity.is_empty() || !args.stop.is_empty();
    let settings: Vec<Option<Settings>> = if bus.is_shared() && !chosen {
        // The others on the line go on being polled; only the user may ask for other settings in between.
        desk.progress.note("only at the settings of the line; name others with --baud and --parity");
        vec![bus.settings()]
    } else {
        settings::candidates(&args.baud, &args.parity, &args.stop).into_iter().map(Some).collect()
    };
    desk.say_head(&format!("Scanning {}: reads only, nothing is written", bus.place()));
    let wanted = strategy::Wanted { settings, units, stop_at: args.stop_at, patience: args.patience(100, 40) };
    let mut total = Total::default();
    total.add(&desk.sweep(bus.as_mut(), wanted, None)?);
    Ok(total)
}

impl Desk<'_> {
    fn say_head(&mut self, text: &str) {
        if !self.out.json {
            self.progress.note(text);
        }
    }

    /// One sweep on one bus: found devices are printed as they are found.
    fn sweep(&mut self, bus: &mut dyn Bus, wanted: strategy::Wanted, framing: Option<&str>) -> Result<Swept, BusError> {
        let place = bus.place();
        let profiles = std::mem::take(&mut self.profiles);
        let sweep = Sweep { profiles: &profiles, bases: self.args.bases(), interrupt: self.interrupt.clone(), framing };
        let swept = sweep.run(bus, wanted, |event| match event {
            sweep::Event::Found(found) => self.say(found),
            sweep::Event::Collision { unit, settings } => self.collision(&place, unit, settings),
            sweep::Event::Look(strategy) => {
                let (elapsed, before, ahead) = (self.progress.elapsed(), self.found.len(), self.ahead);
                let place = &place;
                self.progress.show(|| sweep::look(strategy, place, elapsed, before).with(ahead, elapsed));
            }
        });
        self.profiles = profiles;
        swept
    }

    fn say(&mut self, found: Found) {
        self.progress.clear();
        if self.out.json {
            self.out.say(&serde_json::to_string(&found).unwrap_or_default());
        } else {
            if !std::mem::replace(&mut self.headed, true) {
                self.out.table(&self.out.paint(Paint::Dim, &Found::table(self.net).head("  ", self.out)));
            }
            self.out.table(&found.row(self.out));
        }
        self.found.push(found);
    }

    fn collision(&mut self, place: &str, unit: u8, settings: Option<Settings>) {
        self.progress.clear();
        let at = settings.map(|s| format!(" at {s}")).unwrap_or_default();
        if self.out.json {
            self.out.say(&serde_json::json!({"place": place, "collision": unit, "baud": settings.map(|s| s.baud)}).to_string());
        } else {
            let sign = if self.out.ascii { "!" } else { "⚠" };
            self.out.say(&format!("  {sign} unit {unit}{at}: answers garbled each time. Two devices with one address?"));
        }
    }

    fn finish(mut self, total: &Total) -> ExitCode {
        self.progress.clear();
        let elapsed = self.progress.elapsed();
        let kept = if self.found.is_empty() { None } else { found::keep(&self.found).ok().flatten() };
        let interrupted = self.interrupt.came();
        let n = self.found.len();
        if self.out.json {
            let round = |d: Duration| (d.as_secs_f64() * 1000.0).round() / 1000.0;
            let done = serde_json::json!({
                "done": !interrupted, "found": n, "tried": total.tries, "elapsed_s": round(elapsed), "minimum_s": round(total.minimum),
            });
            self.out.say(&done.to_string());
        } else {
            let devices = if n == 1 { "1 device".to_owned() } else { format!("{n} devices") };
            let end = if interrupted { "; interrupted, the rest was not asked" } else { "" };
            self.progress.note(&format!(
                "{devices} in {} (at least {} needed for {}){end}",
                took(elapsed),
                took(total.minimum),
                if total.tries == 1 { "1 try".to_owned() } else { format!("{} tries", super::out::count(total.tries)) }
            ));
            if let Some(settings) = total.noisy {
                self.progress.note(&format!(
                    "At {settings} bytes came whoever was asked: is another master there? fieldgate listen {}",
                    self.args.target
                ));
            }
            if n == 0 && !interrupted {
                self.progress.note(&if self.net {
                    "Nothing answers. Is Modbus TCP switched on there, and on which port? --tcp-ports LIST tries others".to_owned()
                } else {
                    format!("Nothing answers. Check power, and whether A and B are swapped: fieldgate listen {}", self.args.target)
                });
            }
            if let Some(missing) = Found::table(self.net).missing(self.out).filter(|_| n > 0) {
                self.progress.note(&missing);
            }
            if kept.is_some() {
                self.out.next("fieldgate config add --from-scan     write these into conf.d");
            }
        }
        match (interrupted, n) {
            (true, _) => ExitCode::from(EXIT_INTERRUPTED),
            (false, 1..) => ExitCode::SUCCESS,
            (false, 0) if total.garbled > 0 => ExitCode::from(EXIT_GARBLED),
            (false, 0) => ExitCode::FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_no_serial_line_has_are_refused_and_not_counted_as_tried() {
        assert_eq!(on_serial(&[1, 17, 247], "/dev/ttyUSB0"), Ok(()));
        for (units, says) in
            [(&[248][..], "unit 248 is no address on"), (&[0][..], "unit 0 is no"), (&[1, 0, 255][..], "units 0, 255 are no addresses")]
        {
            let trouble = on_serial(units, "/dev/ttyUSB0").expect_err("refused");
            assert!(trouble.message.starts_with(says) && trouble.exit == 2 && trouble.remedy.contains("1-247"), "{trouble:?}");
        }
    }
}
