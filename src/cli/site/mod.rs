//! What the site tools share: `ports`, `listen`, `scan`, `explore`, `read`, `write`.
//!
//! A tool names its target as people do (a device, a line, a port, an address) and gets a [`Bus`]. If the running daemon
//! holds that port or connection, requests take turns with it through its control socket; else the tool holds it itself,
//! by the same line owner that the daemon uses. Both ways a request behaves the same.

pub mod bus;
mod direct;
mod shared;
mod target;

pub use bus::{Bus, BusError};
pub use shared::daemon_paths;
pub use target::{Framing, Place, Target, Wiring, is_same, resolve};

use super::{Global, Out};
use std::process::ExitCode;

/// Why a tool cannot go on: what happened, what to do, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub code: &'static str,
    pub message: String,
    pub remedy: String,
    pub exit: u8,
}

impl Trouble {
    pub fn new(code: &'static str, exit: u8, message: impl Into<String>, remedy: impl Into<String>) -> Trouble {
        Trouble { code, message: message.into(), remedy: remedy.into(), exit }
    }

    pub fn say(&self, out: &Out) -> ExitCode {
        out.error(self.code, &self.message, &self.remedy);
        ExitCode::from(self.exit)
    }
}

impl From<BusError> for Trouble {
    fn from(error: BusError) -> Trouble {
        match error {
            // What to do stands behind the last semicolon of a line's reason.
            BusError::Down(words) => match words.rsplit_once("; ") {
                Some((what, remedy)) => Trouble::new("line-down", super::EXIT_NO_ANSWER, what, remedy),
                None => Trouble::new("line-down", super::EXIT_NO_ANSWER, words, ""),
            },
            BusError::Daemon(words) => {
                Trouble::new("not-running", super::EXIT_UNREACHABLE, words, "fieldgate status     says whether it runs")
            }
        }
    }
}

/// The target's line, held by this process or shared with the daemon, which is said on stderr.
pub fn open(global: &Global, out: &Out, target: &Target) -> Result<Box<dyn Bus>, Trouble> {
    let place = resolve(global, target)?;
    open_place(global, out, &place)
}

/// As [`open`], with what the target was found to be.
pub fn open_place(global: &Global, out: &Out, place: &Place) -> Result<Box<dyn Bus>, Trouble> {
    if let Some(held) = shared::held(global, place) {
        if !out.quiet {
            eprintln!("{} is in use by fieldgate; taking turns with it", held.id);
        }
        return Ok(Box::new(shared::Shared::new(global, place, held)));
    }
    Ok(Box::new(direct::Direct::open(place)?))
}
