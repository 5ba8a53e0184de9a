//! `fieldgate listen`: what goes over a bus, without sending anything; with the daemon on that port, what it sends and
//! hears.

mod live;
mod say;
mod search;

use super::{
    Global, Out, duration,
    interrupt::{EXIT_INTERRUPTED, Interrupt},
    site::{self, Trouble, Wiring},
};
use crate::{config::Transport, model::Boot, system::clock::Clock};
use std::{path::PathBuf, process::ExitCode, time::Duration};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate listen /dev/ttyUSB0              finds baud rate and parity by good checksums\n  fieldgate listen /dev/ttyUSB0 -b 9600 --for 20s\n  fieldgate listen meters --save meters.frames\n\nWhat --save wrote is served again by: fieldgate simulate --replay FILE\nExit: 0 frames understood, 1 silence, 4 bytes but no frame."
)]
pub struct Args {
    /// A port (/dev/…), or a line or device of the configuration
    port: String,
    #[command(flatten)]
    wiring: Wiring,
    /// Stop after this; without it at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    length: Option<Duration>,
    /// Write the frames to a file, to look at or to be replayed
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// When to stop listening.
pub struct Until {
    end: Option<Boot>,
    interrupt: Interrupt,
}

impl Until {
    fn is_over(&self) -> bool {
        self.interrupt.came() || self.end.is_some_and(|end| Clock::Real.now() >= end)
    }
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match listen(global, out, args) {
        Ok(code) => code,
        Err(trouble) => trouble.say(out),
    }
}

fn listen(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, Trouble> {
    let target = args.wiring.target(&args.port);
    let place = site::resolve(global, &target)?;
    let until = Until { end: args.length.map(|length| Clock::Real.now() + length), interrupt: Interrupt::watch() };
    let mut told = say::Told::new(out, args.save.as_deref())?;
    let code = match (site::held(global, &place), &place.line.transport) {
        (Some(held), _) => live::listen(out, &held, &until, &mut told)?,
        (None, Transport::Serial(serial)) => {
            site::direct::may_open(&serial.path)?;
            let is_given = place.is_configured || args.wiring.baud.is_some();
            let settings = place.settings().filter(|_| is_given);
            search::listen(out, serial, &search::candidates(settings, args.wiring.parity), &until, &mut told)?
        }
        (None, _) => {
            let message = format!("{} is a connection, on which only the daemon that holds it can listen", place.name());
            return Err(Trouble::new("usage", 2, message, "fieldgate listen /dev/…, or start the daemon"));
        }
    };
    told.end()?;
    Ok(if until.interrupt.came() && code == 0 && args.length.is_some() { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::from(code) })
}
