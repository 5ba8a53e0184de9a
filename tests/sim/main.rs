//! Seeded simulation: the real line core, Modbus client, engine, logic, SQLite store and uplink pump on one thread under
//! tokio's paused clock, with simulated units on the bus, a simulated broker, a wall clock that jumps, and a fault
//! schedule drawn from the seed.
//!
//! The same seed gives the same trace, byte for byte. `FIELDGATE_SEED=17 cargo test --test sim` runs that one only and
//! writes its trace to a file. A seed that fails is added to `seeds.txt` when it is understood, and runs for ever.
//!
//! Absent on purpose: sockets, ttys, threads and rumqttc, which do not live in virtual time (tests/blackbox has them).

mod brain;
mod bus;
mod check;
mod clock;
mod cloud;
mod dice;
mod disk;
mod gateway;
mod line;
mod plan;
mod publisher;
mod run;
mod world;

use check::Figures;
use plan::Plan;
use run::Outcome;
use std::{fs, path::PathBuf, sync::Mutex, thread};

/// Every run, without those of `seeds.txt`.
const FIXED: std::ops::RangeInclusive<u64> = 1..=50;

/// Of those with rules and schedules, in every run: short ones with many lives, steady clocks and others.
const BRIEF: [u64; 6] = [4, 10, 14, 19, 42, 44];

/// Outgrown by an outage of minutes; thinning has room to work in it.
const SMALL_DISK: u64 = 360 << 10;

fn known() -> Vec<u64> {
    let text = include_str!("seeds.txt");
    let numbers = text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).filter(|l| !l.is_empty());
    numbers.map(|l| l.parse().expect("seeds.txt holds one number a line, and a comment")).collect()
}

/// `None`: all. One number, or a range such as `1..500` for a long night.
fn asked() -> Option<Vec<u64>> {
    let text = std::env::var("FIELDGATE_SEED").ok()?;
    let number = |t: &str| t.parse::<u64>().expect("FIELDGATE_SEED is a number, or two with .. between");
    Some(match text.split_once("..") {
        Some((from, to)) => (number(from)..number(to)).collect(),
        None => vec![number(&text)],
    })
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_wrong_or_done_twice() {
    all(asked().unwrap_or_else(|| FIXED.chain(known().into_iter().filter(|s| !FIXED.contains(s))).collect()), Plan::draw);
}

#[test]
fn disks_that_take_no_writes_kills_and_outages_lose_nothing_unsaid() {
    all(asked().unwrap_or_else(|| FIXED.collect()), Plan::of_the_disk);
}

#[test]
fn who_is_there_what_follows_and_what_is_due_is_as_seen_from_outside() {
    let long = std::env::var_os("FIELDGATE_LONG").is_some();
    let seeds = asked();
    let is_whole = seeds.is_none();
    all(seeds.unwrap_or_else(|| if long { FIXED.collect() } else { BRIEF.to_vec() }), Plan::of_the_brain);
    if is_whole {
        twice_the_same(10, Plan::of_the_brain);
    }
}

#[test]
fn a_day_without_the_broker_is_accounted_for_to_the_sample() {
    let long = std::env::var_os("FIELDGATE_LONG").is_some();
    let (minutes, poll_ms) = if long { (24 * 60, 10_000) } else { (12, 200) };
    // The second limit is outgrown in minutes.
    for disk_max in [64 << 20, SMALL_DISK] {
        let outcome = run::carry_out(Plan::outage(minutes * 60_000, poll_ms, disk_max));
        println!("{minutes} min away, disk_max {disk_max}: {}", outcome.figures);
        assert!(outcome.violations.is_empty(), "{}", tell(&outcome));
        let Figures { sealed, arrived, thinned, gapped, .. } = outcome.figures;
        assert_eq!(arrived + gapped, sealed, "what came, with the {thinned} that thinning left out, and what gaps give up");
        assert_eq!(thinned + gapped > 0, disk_max == SMALL_DISK, "whether it was outgrown");
        assert!(disk_max != SMALL_DISK || thinned > 0, "nothing was thinned");
    }
}

fn all(seeds: Vec<u64>, plan: fn(u64) -> Plan) {
    let alone = seeds.len() == 1;
    if alone {
        let _ = tracing_subscriber::fmt().without_time().with_test_writer().try_init();
    }
    let queue = Mutex::new(seeds.into_iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = { queue.lock().expect("no panic under it").next() } {
                    let outcome = run::carry_out(plan(seed));
                    println!("seed {seed}: {}", outcome.figures);
                    if alone || !outcome.violations.is_empty() {
                        let told = tell(&outcome);
                        if !outcome.violations.is_empty() {
                            failed.lock().expect("no panic under it").push(told);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic under it");
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    if asked().is_some() {
        return;
    }
    twice_the_same(3, Plan::draw);
    twice_the_same(8, Plan::draw);
}

#[track_caller]
fn twice_the_same(seed: u64, plan: fn(u64) -> Plan) {
    let (one, two) = (run::carry_out(plan(seed)), run::carry_out(plan(seed)));
    let differs = one.trace.iter().zip(&two.trace).position(|(a, b)| a != b);
    let lines = differs.map(|n| (&one.trace[n], &two.trace[n]));
    assert_eq!((one.hash, one.trace.len()), (two.hash, two.trace.len()), "seed {seed}: {lines:?}");
}

/// The trace goes to a file; the plan and what is wrong is said.
fn tell(outcome: &Outcome) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{}.txt", outcome.plan.seed));
    let text = format!("{}\n{}\n\n{}\n", outcome.plan, outcome.trace.join("\n"), outcome.violations.join("\n"));
    fs::write(&path, text).expect("the build directory takes files");
    let most = outcome.violations.iter().take(12).map(|v| format!("  ! {v}")).collect::<Vec<_>>().join("\n");
    format!("{}{most}\n  {} violations; the trace is in {}", outcome.plan, outcome.violations.len(), path.display())
}
