//! `fieldgate consume`: the reference consumer for backends, and the judge of our tests. It reads the native dialect from
//! a broker, keeps every message exactly once, and proves that none is missing.

mod books;
mod broker;
mod numbers;
mod report;
mod session;
mod sink;

use super::{EXIT_REFUSED, EXIT_UNREACHABLE, Out, duration, interrupt::EXIT_INTERRUPTED, site::Trouble};
use crate::system::clock::Clock;
use report::Report;
use sink::{Sink, SinkError, database::Database, lines::Lines};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "Examples:\n  fieldgate consume --broker 10.0.0.5 --to plant.db\n  fieldgate consume --broker cloud:8883 --ca ca.pem --user backend --password-file secret --to plant.db\n  fieldgate consume --broker 10.0.0.5 --to - | jq -c .message\n  fieldgate consume --broker 10.0.0.5 --to plant.db --share backend --client-id reader-1\n  fieldgate consume report plant.db\n\nkill -USR1 prints the report of what came so far.\nExit: 0 complete, 1 something is missing or conflicting, 3 the broker cannot be reached, 5 it refused us.\nMore: docs/consumer.md"
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    broker: broker::Args,
    /// A .jsonl file, a .db file (SQLite), or - for JSON lines on stdout
    #[arg(long, value_name = "FILE", default_value = "-", help_heading = "What")]
    to: PathBuf,
    /// Stop after this; without it at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration, help_heading = "What")]
    length: Option<Duration>,
    /// Stop as soon as no number is missing and nothing more comes
    #[arg(long, help_heading = "What")]
    until_complete: bool,
    /// Print the report again and again
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "What")]
    report_every: Option<Duration>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// What a file holds: complete, or what is missing
    #[command(
        after_help = "Examples:\n  fieldgate consume report plant.db\n  fieldgate consume report plant.jsonl --json | jq .missing\n\nExit: 0 complete, 1 something is missing or conflicting."
    )]
    Report {
        /// A .jsonl or .db file of `fieldgate consume`
        file: PathBuf,
    },
}

pub fn run(out: &Out, args: &Args) -> ExitCode {
    let done = match &args.action {
        Some(Action::Report { file }) => report_of(out, file),
        None => consume(out, args),
    };
    done.unwrap_or_else(|trouble| trouble.say(out))
}

fn report_of(out: &Out, file: &Path) -> Result<ExitCode, Trouble> {
    let books = if is_database(file) { Database::books_of(file) } else { Lines::books_of(file) }.map_err(|e| unwritable(&e))?;
    let report = Report::of(&books);
    say(out, &report, false);
    Ok(ExitCode::from(report.verdict().exit()))
}

fn consume(out: &Out, args: &Args) -> Result<ExitCode, Trouble> {
    let client = args.broker.client()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Trouble::new("system", 1, format!("cannot start: {e}"), "free memory or file handles"))?;
    let end = runtime.block_on(session::Starting::new(out, args, client)?.run())?;
    let report = Report::of(&end.books);
    say(out, &report, is_stdout(&args.to));
    let code = report.verdict().exit();
    Ok(match (end.why, code) {
        (session::Why::Interrupted, 0) if args.length.is_some() || args.until_complete => ExitCode::from(EXIT_INTERRUPTED),
        (session::Why::NeverConnected, _) => ExitCode::from(EXIT_UNREACHABLE),
        _ => ExitCode::from(code),
    })
}

/// `aside`: stdout is for the messages.
fn say(out: &Out, report: &Report, aside: bool) {
    let text = if out.json { report.json().to_string() } else { report.screen(out) };
    if aside {
        eprintln!("{text}");
    } else if out.json {
        out.say(&text);
    } else {
        out.table(&text);
    }
}

fn open(to: &Path) -> Result<Box<dyn Sink>, SinkError> {
    if is_stdout(to) {
        return Ok(Box::new(Lines::stdout()));
    }
    if is_database(to) { Ok(Box::new(Database::open(to)?)) } else { Ok(Box::new(Lines::open(to)?)) }
}

fn is_stdout(to: &Path) -> bool {
    to.as_os_str() == "-"
}

fn is_database(file: &Path) -> bool {
    file.extension().is_some_and(|e| ["db", "sqlite", "sqlite3"].iter().any(|known| e.eq_ignore_ascii_case(known)))
}

fn unwritable(e: &SinkError) -> Trouble {
    Trouble::new("file", 1, e.to_string(), "name a file that you may read and write, with free space around it")
}

fn refused(message: String, remedy: &str) -> Trouble {
    Trouble::new("refused", EXIT_REFUSED, message, remedy)
}

/// For people; order comes from the numbers.
fn wall_ms() -> i64 {
    Clock::Real.reading().wall(Clock::Real.now()).0
}
