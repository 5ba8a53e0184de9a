//! Waiting for something to become true, with a limit and a name for the failure.

use fieldgate::{model::Boot, system::clock::Clock};
use std::time::Duration;

pub fn now() -> Boot {
    Clock::Real.now()
}

/// Wall time as the field servers' logs and the messages have it, in milliseconds.
pub fn wall_ms() -> i64 {
    Clock::Real.reading().wall(now()).0
}

/// The size of a test: the first in everyday runs, the second when `FIELDGATE_LONG` is set.
pub fn scaled<T>(short: T, long: T) -> T {
    if std::env::var_os("FIELDGATE_LONG").is_some() { long } else { short }
}

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Lets the load run on, or an outage last. Not for waiting until something has happened: that is [`until`].
pub fn pause(length: Duration) {
    let end = now() + length;
    while now() < end {
        std::thread::park_timeout(end - now());
    }
}

/// A limit in time is the program's on a machine with nothing beside it, where long runs are made. In everyday runs others may
/// load the machine, or stop it for a second: it is ten times as long there, and finds what hangs.
#[track_caller]
pub fn punctual(what: &str, took: Duration, limit: Duration) {
    let limit = scaled(10, 1) * limit;
    assert!(took <= limit, "{what}: {} ms, at most {} ms", took.as_millis(), limit.as_millis());
}

/// Of durations in order, the one that so many of a hundred do not exceed.
pub fn of_hundred(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

pub fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1000.0
}

/// The first `Some` of `look`, which is asked every few milliseconds; panics with `what` after `within`.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "after {} s still waiting: {what}", within.as_secs_f64());
        pause(Duration::from_millis(5));
    }
}
