//! `fieldgate simulate`: Modbus devices with changing values, on TCP and on pseudo-terminals, to try a configuration
//! without hardware and for the tests. The demo runs the same [`Devices`] in its own process.

pub mod bus;
pub mod devices;
mod replay;
pub mod unit;
pub mod wire;

pub use devices::{Config, Devices, LineCounters, Running, SimulateError, WireCounters};

use crate::config::Parity;
use std::{collections::BTreeSet, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Run simulated Modbus devices until Ctrl-C.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  fieldgate simulate --tcp 127.0.0.1:1502
  fieldgate simulate --rtu /tmp/bus --baud 9600 --parity even --units 1-10 --silent 3
  fieldgate simulate --tcp 127.0.0.1:0 --rtu /tmp/bus --json

Every unit has an Eastron SDM120's meter (input:0 voltage, input:12 power, … as f32), a read counter (holding:2),
writable registers (holding:100 to 119) and coils (0 to 15), and counts its writes (input:900 on).")]
pub struct Args {
    /// Serve Modbus TCP here; port 0 takes a free one (repeatable)
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "rtu")]
    tcp: Vec<SocketAddr>,
    /// Serve Modbus RTU on a pseudo-terminal linked here (repeatable)
    #[arg(long, value_name = "LINK")]
    rtu: Vec<PathBuf>,
    /// Speed of the RTU lines: every byte takes its time
    #[arg(long, short, default_value_t = 9600, value_parser = clap::value_parser!(u32).range(300..=4_000_000))]
    baud: u32,
    /// Parity of the RTU lines: none, even or odd
    #[arg(long, default_value = "even", value_parser = parity)]
    parity: Parity,
    /// Units on every line, such as 1-8 or 1,3,5-7
    #[arg(long, default_value = "1-8", value_name = "LIST", value_parser = units)]
    units: Units,
    /// More units on the RTU lines, which understand only this speed, such as 19200:17,33 (repeatable)
    #[arg(long, value_name = "BAUD:LIST", value_parser = also)]
    also: Vec<(u32, Units)>,
    /// Units that never answer, in the same form
    #[arg(long, value_name = "LIST", value_parser = units)]
    silent: Option<Units>,
    /// Serve the answers of a recording (fieldgate listen --save) instead of simulated units
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Same seed, same values
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the addresses as one object at the start, the counters as one at the end
    #[arg(long)]
    json: bool,
}

/// A set of unit addresses; a type of its own, so that clap takes it as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Units(BTreeSet<u8>);

/// The whole subcommand: prints the addresses, serves until SIGINT or SIGTERM, prints the counters.
pub fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(&args)),
        Err(error) => Err(anyhow::anyhow!("cannot start the runtime: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&args, &error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    // Signals first: a stop during the start must not leave links behind.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    if let Some(file) = &args.replay {
        let threads = serve_recording(args, file, &stop)?;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
        for thread in threads {
            let _ = thread.join();
        }
        return Ok(());
    }
    let config = Config {
        tcp: args.tcp.clone(),
        rtu: args.rtu.clone(),
        baud: args.baud,
        parity: args.parity,
        units: args.units.0.clone(),
        also: args.also.iter().map(|(baud, units)| (*baud, units.0.clone())).collect(),
        silent: args.silent.clone().map(|units| units.0).unwrap_or_default(),
        seed: args.seed,
    };
    let running = Devices::start(config, stop.clone()).await?;
    say(&started(args, &running));
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
    say(&ended(args, &running.ended().await));
    Ok(())
}

fn serve_recording(args: &Args, file: &std::path::Path, stop: &CancellationToken) -> anyhow::Result<Vec<std::thread::JoinHandle<()>>> {
    let book = replay::Book::read(file)?;
    let requests = book.len();
    let book = std::sync::Arc::new(std::sync::Mutex::new(book));
    let mut addresses = Vec::new();
    for address in &args.tcp {
        let listener = std::net::TcpListener::bind(address).map_err(|e| anyhow::anyhow!("cannot listen on {address}: {e}"))?;
        addresses.push(listener.local_addr()?);
        replay::serve_tcp(listener, book.clone());
    }
    let ptys = args.rtu.iter().map(|link| replay::serve_pty(link, book.clone(), stop.clone()));
    let threads = ptys.collect::<anyhow::Result<Vec<_>>>()?;
    let text = if args.json {
        serde_json::json!({ "v": 1, "tcp": addresses, "rtu": args.rtu, "requests": requests }).to_string()
    } else {
        let places = addresses.iter().map(ToString::to_string).chain(args.rtu.iter().map(|link| link.display().to_string()));
        format!("{requests} recorded requests on {}\nstop with Ctrl-C", places.collect::<Vec<_>>().join(", "))
    };
    say(&text);
    Ok(threads)
}

fn started(args: &Args, running: &Running) -> String {
    if args.json {
        return serde_json::json!({ "v": 1, "tcp": running.tcp_addrs, "rtu": running.rtu_links }).to_string();
    }
    let units = args.units.0.len();
    let letter = match args.parity {
        Parity::None => 'N',
        Parity::Even => 'E',
        Parity::Odd => 'O',
    };
    let tcp = running.tcp_addrs.iter().map(|address| format!("Modbus TCP on {address}, {units} units"));
    let rtu = running.rtu_links.iter().map(|link| format!("Modbus RTU on {} ({} 8{letter}1), {units} units", link.display(), args.baud));
    tcp.chain(rtu).chain(["stop with Ctrl-C".to_owned()]).collect::<Vec<_>>().join("\n")
}

fn ended(args: &Args, lines: &[LineCounters]) -> String {
    if args.json {
        return serde_json::json!({ "v": 1, "lines": lines }).to_string();
    }
    let line = |line: &LineCounters| {
        let sum = |of: fn(&unit::Tally) -> u64| line.units.values().map(of).sum::<u64>();
        let (reads, writes, refused) = (sum(|t| t.reads), sum(|t| t.write_requests), sum(|t| t.refused));
        format!("{}: {} requests, {reads} reads, {writes} writes, {refused} refused", line.address, line.requests)
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn complain(args: &Args, error: &anyhow::Error) {
    let remedy = match error.downcast_ref() {
        Some(SimulateError::Listen { .. }) => "take another port, or port 0 for a free one",
        Some(SimulateError::Link { .. }) => "name a path in a directory you may write to, where no file is",
        Some(SimulateError::Pty { .. }) => "check that /dev/ptmx and /dev/pts are there",
        None => "run it again",
    };
    if args.json {
        let object = serde_json::json!({ "error": { "code": "simulate", "message": error.to_string(), "remedy": remedy, "at": null } });
        let _ = writeln!(std::io::stderr(), "{object}");
    } else {
        let _ = writeln!(std::io::stderr(), "error: {error}\n  → {remedy}");
    }
}

/// A reader that has gone away does not stop the devices.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn parity(text: &str) -> Result<Parity, &'static str> {
    match text {
        "none" => Ok(Parity::None),
        "even" => Ok(Parity::Even),
        "odd" => Ok(Parity::Odd),
        _ => Err("use none, even or odd"),
    }
}

fn units(text: &str) -> Result<Units, &'static str> {
    let remedy = "use unit addresses and ranges from 1 to 247, such as 1-8 or 1,3,5-7";
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u8>().ok().filter(|n| (1..=247).contains(n)).ok_or(remedy);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(remedy);
        }
        all.extend(first..=last);
    }
    Ok(Units(all))
}

fn also(text: &str) -> Result<(u32, Units), &'static str> {
    let (baud, list) = text.split_once(':').ok_or("use BAUD:LIST, such as 19200:17,33")?;
    let baud = baud.parse().ok().filter(|b| (300..=4_000_000).contains(b)).ok_or("use a baud rate such as 19200 before the colon")?;
    Ok((baud, units(list)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    #[track_caller]
    fn check_units(text: &str, want: Result<&[u8], ()>) {
        let want = want.map(|units| Units(units.iter().copied().collect()));
        assert_eq!(units(text).map_err(drop), want, "{text}");
    }

    #[test]
    fn unit_lists_hold_numbers_and_ranges() {
        check_units("1-8", Ok(&[1, 2, 3, 4, 5, 6, 7, 8]));
        check_units("3", Ok(&[3]));
        check_units("1, 3,5-7", Ok(&[1, 3, 5, 6, 7]));
        for bad in ["", "0", "248", "8-1", "1-", "a", "1,,2", "1-300"] {
            check_units(bad, Err(()));
        }
    }

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        let command = Args::augment_args(clap::Command::new("simulate"));
        Args::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn at_least_one_line_is_needed_and_several_may_be_given() {
        assert!(parsed("simulate").is_err());
        assert!(parsed("simulate --rtu /tmp/bus --parity mark").is_err());
        let args = parsed("simulate --rtu /tmp/a --rtu /tmp/b --tcp 127.0.0.1:0 --silent 3 --parity none -b 19200").unwrap();
        assert_eq!((args.rtu.len(), args.tcp.len(), args.baud, args.parity), (2, 1, 19_200, Parity::None));
        assert_eq!(args.silent, Some(Units([3].into())));
    }
}
