//! One file per subcommand. The words, shapes and exit codes are those of `fieldgate --help` and the man pages.
//!
//! stdout holds the answer, stderr everything said on the way. Exit: 0 done and well, 1 done but not well, 2 usage,
//! 3 the daemon cannot be reached, 4 the field did not answer, 5 refused, 6 outcome unknown, 78 configuration.

pub mod check;
pub mod demo;
pub mod out;
pub mod plan;
pub mod ports;
pub mod profiles;
pub mod read;
pub mod run;
pub mod simulate;
pub mod site;
pub mod status;

pub use out::{Color, Out};

use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// The daemon is needed and does not run, or cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 3;
/// The field did not answer: silent or garbled.
pub const EXIT_NO_ANSWER: u8 = 4;
/// Refused: a limit, an exception code, a missing permission.
pub const EXIT_REFUSED: u8 = 5;
/// The configuration does not check (EX_CONFIG of sysexits.h): systemd does not restart on it.
pub const EXIT_CONFIG: u8 = 78;

/// Edge gateway: polls Modbus, listens to local MQTT, keeps every value until the cloud has acknowledged it.
#[derive(Debug, Parser)]
#[command(name = "fieldgate", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Examples:\n  fieldgate demo                       see it work, without hardware\n  fieldgate check                      is the configuration right?\n  fieldgate status                     is anything wrong, and since when?\n\nExit: 0 well, 1 not well, 2 usage, 3 not running, 78 configuration. More: docs/operations.md"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The configuration; conf.d beside it is read too
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/fieldgate/fieldgate.toml")]
    pub config: PathBuf,
    /// The running daemon's control socket [default: from the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// One JSON document on stdout (one object per line for what streams)
    #[arg(long, global = true)]
    pub json: bool,
    /// Only the answer
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More; twice for bytes
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colour on a terminal
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// Plain characters instead of glyphs and bars
    #[arg(long, global = true)]
    pub ascii: bool,
    /// How long to wait for the daemon
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the gateway in the foreground (systemd does this)
    Run(run::Args),
    /// Check the configuration: every problem at once, with place and remedy
    Check(check::Args),
    /// What every line has to carry, request by request, and what devices refuse
    Plan(plan::Args),
    /// Say whether all is well here, and what is not
    Status(status::Args),
    /// Serial ports here: stable names, chips, who holds them
    Ports(ports::Args),
    /// Read points or registers of one device and print their values
    Read(read::Args),
    /// See the whole gateway at work, without hardware, broker or root
    Demo(demo::Args),
    /// Device profiles: list, show, check
    Profiles(profiles::Args),
    /// Simulated Modbus devices, on TCP and on a pseudo-terminal
    Simulate(simulate::Args),
}

/// Parses the command line and runs one subcommand.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(&cli.global);
    match cli.verb {
        Verb::Run(args) => run::run(&cli.global, &out, &args),
        Verb::Check(args) => check::run(&cli.global, &out, &args),
        Verb::Plan(args) => plan::run(&cli.global, &out, &args),
        Verb::Status(args) => status::run(&cli.global, &out, &args),
        Verb::Ports(args) => ports::run(&cli.global, &out, &args),
        Verb::Read(args) => read::run(&cli.global, &out, &args),
        Verb::Demo(args) => demo::run(&cli.global, &out, &args),
        Verb::Profiles(args) => profiles::run(&cli.global, &out, &args),
        Verb::Simulate(args) => simulate::run(args),
    }
}

/// `10s`, `250ms`, `2m`, `1h`: as in the configuration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "write a number and a unit, such as 10s".to_owned())?;
    let ms = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{unit} is no unit of time; use ms, s, m or h")),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}
