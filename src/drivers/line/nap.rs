//! Sleeping until a moment, and not past it.
//!
//! The kernel wakes a thread some ten microseconds after its time, always: the timer, the interrupt, the switch. At 115200
//! baud that is 0.3 % of the wire for each of the two sleeps of a request. So the thread asks to be woken earlier by what the
//! last sleeps were late at least, and waits out the rest, mostly nothing, awake.

use crate::{model::Boot, system::clock::Clock};
use rustix::{
    event::Timespec,
    io::Errno,
    thread::{ClockId, clock_nanosleep_absolute},
};
use std::time::Duration;

/// Sleeps that are remembered.
const SEEN: usize = 16;
/// Awake for so long at most. A machine that is later than this has other troubles.
const EARLY_MAX: Duration = Duration::from_micros(40);

#[derive(Debug, Default)]
pub struct Nap {
    /// How late the last ones were.
    late: [Duration; SEEN],
    next: usize,
    early: Duration,
}

impl Nap {
    /// Returns at `at` or a little later, never before.
    pub fn until(&mut self, at: Boot, clock: Clock) {
        let asked = Boot(at.0.saturating_sub(self.early_us()));
        sleep_until(asked);
        let woken = clock.now();
        self.was_late(woken - asked);
        while clock.now() < at {
            std::hint::spin_loop();
        }
    }

    fn early_us(&self) -> u64 {
        u64::try_from(self.early.as_micros()).unwrap_or(0)
    }

    fn was_late(&mut self, by: Duration) {
        self.late[self.next] = by;
        self.next = (self.next + 1) % SEEN;
        self.early = self.late.iter().min().copied().unwrap_or_default().min(EARLY_MAX);
    }
}

pub fn sleep_until(at: Boot) {
    let at = Timespec {
        tv_sec: i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at.0 % 1_000_000 * 1000).unwrap_or(0),
    };
    while clock_nanosleep_absolute(ClockId::Boottime, &at) == Err(Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_early_as_the_last_sleeps_were_late_at_least() {
        let us = Duration::from_micros;
        let mut nap = Nap::default();
        for _ in 0..SEEN - 1 {
            nap.was_late(us(25));
            assert_eq!(nap.early, Duration::ZERO, "too few were seen");
        }
        nap.was_late(us(30));
        assert_eq!(nap.early, us(25));
        nap.was_late(us(12));
        assert_eq!(nap.early, us(12), "one that was nearly on time counts at once");
        (0..SEEN).for_each(|_| nap.was_late(us(900)));
        assert_eq!(nap.early, EARLY_MAX);
    }

    #[test]
    fn it_never_ends_too_soon() {
        let (clock, mut nap) = (Clock::Real, Nap::default());
        for _ in 0..100 {
            let at = clock.now() + Duration::from_micros(300);
            nap.until(at, clock);
            assert!(clock.now() >= at);
        }
    }
}
