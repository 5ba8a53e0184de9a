//! What a line counts about itself, and how busy it was during the last minute.
//!
//! Plain numbers that the core owns and the owner copies out; no clock, no lock.

use crate::model::Boot;

/// Since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub requests: u64,
    pub answers: u64,
    pub silent: u64,
    pub garbled: u64,
    pub refused: u64,
    pub late: u64,
    pub foreign: u64,
    pub missed: u64,
}

const SECONDS: usize = 60;

/// Busy microseconds of each of the last 60 seconds, in a ring indexed by the second.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    busy_us: [u32; SECONDS],
    /// The second that was last written, since boot.
    last: u64,
    /// The second in which counting began: a young line is judged by its own age.
    first: Option<u64>,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage { busy_us: [0; SECONDS], last: 0, first: None }
    }
}

impl Usage {
    /// The line was in use between these moments.
    pub fn add(&mut self, from: Boot, to: Boot) {
        let mut at = from.0;
        while at < to.0 {
            let second = at / 1_000_000;
            self.turn_to(second);
            let end = to.0.min((second + 1) * 1_000_000);
            let slot = &mut self.busy_us[index(second)];
            *slot = slot.saturating_add(u32::try_from(end - at).unwrap_or(u32::MAX));
            at = end;
        }
    }

    /// Share of the last minute, 0 to 1. The running second is left out: it is not over.
    pub fn share(&self, now: Boot) -> f64 {
        let second = now.0 / 1_000_000;
        let Some(first) = self.first else { return 0.0 };
        let oldest = second.saturating_sub(SECONDS as u64 - 1).max(first);
        let whole = second.saturating_sub(oldest);
        if whole == 0 {
            return 0.0;
        }
        let kept = |s: &u64| *s <= self.last && *s + SECONDS as u64 > self.last;
        let busy: u64 = (oldest..second).filter(kept).map(|s| u64::from(self.busy_us[index(s)])).sum();
        #[allow(clippy::cast_precision_loss)] // at most 6e7
        let share = busy as f64 / (whole * 1_000_000) as f64;
        share.min(1.0)
    }

    /// Clears the seconds that passed since the last use.
    fn turn_to(&mut self, second: u64) {
        if self.first.is_none() {
            self.first = Some(second);
        } else {
            let skipped = second.saturating_sub(self.last).min(SECONDS as u64);
            for s in 0..skipped {
                self.busy_us[index(second - s)] = 0;
            }
        }
        self.last = self.last.max(second);
    }
}

fn index(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spans_ms: &[(u64, u64)], now_ms: u64, want: f64) {
        let mut usage = Usage::default();
        for (from, to) in spans_ms {
            usage.add(Boot::from_ms(*from), Boot::from_ms(*to));
        }
        let got = usage.share(Boot::from_ms(now_ms));
        assert!((got - want).abs() < 0.001, "{spans_ms:?} at {now_ms}: {got}, want {want}");
    }

    #[test]
    fn the_share_is_of_whole_seconds_since_the_start_and_at_most_a_minute() {
        check(&[], 100, 0.0);
        check(&[(0, 500)], 900, 0.0);
        check(&[(0, 500)], 1_000, 0.5);
        check(&[(0, 500)], 2_000, 0.25);
        check(&[(800, 1_400)], 2_000, 0.3);
        check(&[(0, 5_000)], 59_000, 5.0 / 59.0);
        check(&[(0, 5_000)], 64_000, 0.0);
        check(&[(0, 59_000)], 59_000, 1.0);
        check(&[(0, 1_000), (70_000, 71_000)], 71_000, 1.0 / 59.0);
        check(&[(0, 1_000), (500_000, 501_000)], 2_000_000, 0.0);
    }
}
