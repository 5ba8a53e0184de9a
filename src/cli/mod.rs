//! One file per subcommand. The words, shapes and exit codes are those of `fieldgate --help` and the man pages.
//!
//! stdout holds the answer, stderr everything said on the way. Exit: 0 done and well, 1 done but not well, 2 usage,
//! 3 the daemon cannot be reached, 4 the field did not answer, 5 refused, 6 outcome unknown, 78 configuration.

pub mod agree;
pub mod alarms;
pub mod check;
pub mod clock;
pub mod commands;
pub mod config;
pub mod consume;
pub mod dead_letters;
pub mod demo;
pub mod devices;
pub mod events;
pub mod explore;
pub mod history;
pub mod interrupt;
pub mod keep;
pub mod listen;
pub mod moment;
pub mod out;
pub mod plan;
pub mod ports;
pub mod profiles;
pub mod progress;
pub mod read;
pub mod rules;
pub mod run;
pub mod scan;
pub mod schedules;
pub mod simulate;
pub mod site;
pub mod status;
pub mod table;
pub mod trace;
pub mod write;

pub use out::{Color, Out};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// The daemon is needed and does not run, or cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 3;
/// The field did not answer: silent or garbled.
pub const EXIT_NO_ANSWER: u8 = 4;
/// Refused: a limit, an exception code, a missing permission.
pub const EXIT_REFUSED: u8 = 5;
/// It wants to be started again (EX_TEMPFAIL of sysexits.h).
pub const EXIT_AGAIN: u8 = 75;
/// The configuration does not check (EX_CONFIG of sysexits.h): systemd does not restart on it.
pub const EXIT_CONFIG: u8 = 78;

/// Edge gateway: polls Modbus, listens to local MQTT, keeps every value until the cloud has acknowledged it.
#[derive(Debug, Parser)]
#[command(name = "fieldgate", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Examples:\n  fieldgate demo                       see it work, without hardware\n  fieldgate check                      is the configuration right?\n  fieldgate status                     is anything wrong, and since when?\n\nExit: 0 well, 1 not well, 2 usage, 3 not running, 4 no answer, 5 refused, 6 outcome unknown, 78 configuration, 130 interrupted.\nMore: docs/operations.md"
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
    /// All columns of a table, also where the terminal is too narrow
    #[arg(long, global = true)]
    pub wide: bool,
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
    /// Find the devices on a serial line or in a network; reads only
    Scan(scan::Args),
    /// Live table of a unit's registers, with what they could mean
    Explore(explore::Args),
    /// Write points of a device, or a register of a unit; asks first
    Write(write::Args),
    /// What was asked of devices and the gateway, and what came of it; cancel one
    Commands(commands::Args),
    /// Have the running gateway read its configuration again
    Reload(commands::Reload),
    /// Follow one value from the bus to the cloud's acknowledgement
    Trace(trace::Args),
    /// Who is there and for how long; one with its past; maintenance
    Devices(devices::Args),
    /// What happened here, newest first
    Events(events::Args),
    /// The past of a device's values, as far as it is kept here
    History(history::Args),
    /// What is written at its time: list, show, add, enable, disable, remove
    Schedules(schedules::Args),
    /// What lasts and somebody should know of; say that you have seen it
    Alarms(alarms::Args),
    /// What follows from what by itself: why, how it stands, on and off
    Rules(rules::Args),
    /// What could not be read or sent: list, show, replay, purge
    DeadLetters(dead_letters::Args),
    /// Change the configuration by a command
    Config(config::Args),
    /// Serial ports here: stable names, chips, who holds them
    Ports(ports::Args),
    /// Listen on a bus without sending: settings, frames, who speaks
    Listen(listen::Args),
    /// Read points or registers of one device and print their values
    Read(read::Args),
    /// See the whole gateway at work, without hardware, broker or root
    Demo(demo::Args),
    /// Receive gateways' messages from a broker, exactly once, and prove that none is missing
    Consume(consume::Args),
    /// Device profiles: list, show, check, import
    Profiles(profiles::Args),
    /// Save configuration, secrets and data in one file, while it runs
    Backup(keep::backup::Args),
    /// Make this machine the gateway that was saved
    Restore(keep::restore::Args),
    /// Wipe configuration, secrets and data; asks first
    FactoryReset(keep::reset::Args),
    /// Simulated Modbus devices, on TCP and on a pseudo-terminal
    Simulate(simulate::Args),
    /// Tell a sandboxed daemon whether the clock is synchronised (a unit of its own runs this)
    #[command(hide = true)]
    Clock(clock::Args),
}

/// The one subcommand that stays in memory. Reading its arguments with those of all others would keep the pages of all of them
/// there too.
#[derive(Debug, Parser)]
#[command(name = "fieldgate")]
struct Daemon {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: DaemonVerb,
}

#[derive(Debug, Subcommand)]
enum DaemonVerb {
    Run(run::Args),
}

/// `None`: it is another subcommand, or help or an error, for which the whole is needed.
fn daemon(args: impl Iterator<Item = std::ffi::OsString> + Clone) -> Option<(Global, run::Args)> {
    if !args.clone().skip(1).any(|arg| arg == "run") {
        return None;
    }
    let Daemon { global, verb: DaemonVerb::Run(args) } = Daemon::try_parse_from(args).ok()?;
    Some((global, args))
}

/// Parses the command line and runs one subcommand.
pub fn main() -> ExitCode {
    if let Some((global, args)) = daemon(std::env::args_os().collect::<Vec<_>>().into_iter()) {
        return run::run(&global, &Out::new(&global), &args);
    }
    let cli = match Cli::from_arg_matches(&match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return misused(&error),
    }) {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let out = Out::new(&cli.global);
    match cli.verb {
        Verb::Run(args) => run::run(&cli.global, &out, &args),
        Verb::Check(args) => check::run(&cli.global, &out, &args),
        Verb::Plan(args) => plan::run(&cli.global, &out, &args),
        Verb::Status(args) => status::run(&cli.global, &out, &args),
        Verb::Scan(args) => scan::run(&cli.global, &out, &args),
        Verb::Explore(args) => explore::run(&cli.global, &out, &args),
        Verb::Write(args) => write::run(&cli.global, &out, &args),
        Verb::Commands(args) => commands::run(&cli.global, &out, &args),
        Verb::Reload(args) => commands::reload(&cli.global, &out, &args),
        Verb::Trace(args) => trace::run(&cli.global, &out, &args),
        Verb::Devices(args) => devices::run(&cli.global, &out, &args),
        Verb::Events(args) => events::run(&cli.global, &out, &args),
        Verb::History(args) => history::run(&cli.global, &out, &args),
        Verb::Schedules(args) => schedules::run(&cli.global, &out, &args),
        Verb::Alarms(args) => alarms::run(&cli.global, &out, &args),
        Verb::Rules(args) => rules::run(&cli.global, &out, &args),
        Verb::DeadLetters(args) => dead_letters::run(&cli.global, &out, &args),
        Verb::Config(args) => config::run(&cli.global, &out, &args),
        Verb::Ports(args) => ports::run(&cli.global, &out, &args),
        Verb::Listen(args) => listen::run(&cli.global, &out, &args),
        Verb::Read(args) => read::run(&cli.global, &out, &args),
        Verb::Demo(args) => demo::run(&cli.global, &out, &args),
        Verb::Consume(args) => consume::run(&out, &args),
        Verb::Profiles(args) => profiles::run(&cli.global, &out, &args),
        Verb::Backup(args) => keep::backup::run(&cli.global, &out, &args),
        Verb::Restore(args) => keep::restore::run(&cli.global, &out, &args),
        Verb::FactoryReset(args) => keep::reset::run(&cli.global, &out, &args),
        Verb::Simulate(args) => simulate::run(args),
        Verb::Clock(args) => clock::run(&out, &args),
    }
}

/// Every subcommand's help in one form: a sentence, usage, examples, then the flags, last the exit codes.
pub fn command() -> clap::Command {
    fn form(command: clap::Command) -> clap::Command {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let command = command.mut_subcommands(form);
        if !after.starts_with("Examples:") {
            return command;
        }
        let (first, rest) = after.find("\nExit: ").map_or((after.as_str(), ""), |at| after.split_at(at));
        let template = "{about}\n\n{usage-heading} {usage}\n\n{before-help}{all-args}{after-help}";
        command.help_template(template).before_help(first.trim().to_owned()).after_help(rest.trim().to_owned())
    }
    Cli::command().mut_subcommands(form)
}

/// Wrong arguments, in the form of every error. Help and version were asked for, and are answers.
fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = error.render().to_string();
    let (message, remedy) = usage_error(&text, args.first().filter(|a| !a.starts_with('-')).map(String::as_str));
    let out =
        Out { json: args.iter().any(|a| a == "--json"), color_err: std::io::IsTerminal::is_terminal(&std::io::stderr()), ..Out::plain() };
    out.error("usage", &message, &remedy);
    ExitCode::from(2)
}

/// What the parser says, as what happened and what to do.
fn usage_error(text: &str, verb: Option<&str>) -> (String, String) {
    let said = text.split("\n\nUsage:").next().unwrap_or(text).strip_prefix("error: ").unwrap_or(text);
    let mut lines = said.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("For more information")).collect::<Vec<_>>();
    let tip = lines.iter().position(|l| l.starts_with("tip: ")).map(|at| lines.remove(at).trim_start_matches("tip: ").to_owned());
    let help = verb.map_or("fieldgate --help".to_owned(), |verb| format!("fieldgate {verb} --help"));
    (lines.join(" "), tip.map_or(help.clone(), |tip| format!("{tip}; {help}")))
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
        "d" => 86_400_000,
        _ => return Err(format!("{unit} is no unit of time; use ms, s, m, h or d")),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_daemon(args: &[&str], is_daemon: bool) {
        let args: Vec<_> = args.iter().map(std::ffi::OsString::from).collect();
        let short = daemon(args.clone().into_iter()).map(|(global, args)| format!("{global:?} {args:?}"));
        let whole = command().try_get_matches_from(args).ok().and_then(|m| Cli::from_arg_matches(&m).ok());
        let whole = whole.and_then(|cli| if let Verb::Run(args) = cli.verb { Some(format!("{:?} {args:?}", cli.global)) } else { None });
        assert_eq!((short.is_some(), &short), (is_daemon, &whole));
    }

    #[test]
    fn the_daemon_reads_its_arguments_as_the_whole_program_does() {
        check_daemon(&["fieldgate", "run"], true);
        check_daemon(&["fieldgate", "run", "--config", "x.toml", "-v", "--json"], true);
        check_daemon(&["fieldgate", "--config", "run", "run"], true);
        check_daemon(&["fieldgate", "--config", "run", "check"], false);
        check_daemon(&["fieldgate", "run", "--help"], false);
        check_daemon(&["fieldgate", "run", "--no-such"], false);
        check_daemon(&["fieldgate", "demo"], false);
    }

    fn error(args: &[&str]) -> (String, String) {
        let error = command().try_get_matches_from(args).expect_err("wrong usage");
        usage_error(&error.render().to_string(), args.get(1).copied())
    }

    #[test]
    fn wrong_arguments_are_said_in_the_form_of_every_error() {
        let (message, remedy) = error(&["fieldgate", "read", "meter-1", "--unti", "3"]);
        assert_eq!(message, "unexpected argument '--unti' found");
        assert!(remedy.contains("--unit") && remedy.ends_with("fieldgate read --help"), "{remedy}");
        let (message, remedy) = error(&["fieldgate", "config", "add"]);
        assert_eq!(message, "the following required arguments were not provided: --from-scan [<FILE>]");
        assert_eq!(remedy, "fieldgate config --help");
    }

    #[test]
    fn help_has_examples_before_flags_and_exit_codes_last() {
        let mut command = command();
        command.build();
        for verb in command.get_subcommands_mut() {
            let name = verb.get_name().to_owned();
            let help = verb.render_long_help().to_string();
            let at = |word: &str| help.find(word);
            assert!(at("Examples:").is_some(), "{name}: {help}");
            assert!(at("Examples:") < at("--quiet"), "{name}: {help}");
            assert!(at("\nExit: ").is_none_or(|exit| Some(exit) > at("--quiet")), "{name}: {help}");
            assert!(!help.contains("\n\n\n") && help.lines().all(|l| l.chars().count() <= 110), "{name}: {help}");
        }
    }
}
