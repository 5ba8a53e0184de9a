//! What a line counts about itself, and how busy it was during the last minute.
//!
//! Plain numbers that the core owns and the owner copies out; no clock, no lock.

use crate::model::Boot;
use std::time::Duration;

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

/// Steps of half a power of two from 1 ms: the last holds everything above 2 s.
const STEPS: usize = 24;
/// Answers that the distribution remembers, so that last week's cable does not colour today's.
const REMEMBERED: u32 = 4096;

/// How one device answers. Small and copied.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answers {
    pub requests: u64,
    pub answers: u64,
    pub silent: u64,
    pub garbled: u64,
    pub refused: u64,
    pub late: u64,
    pub worst_late: Duration,
    pub timeout: Duration,
    pub timeout_wanted: Option<Duration>,
    pub gap: Duration,
    pub holes: usize,
    pub no_path: bool,
    /// The configured period, the line time that a poll takes, and the time from poll to poll; the latter two smoothed.
    pub every: Duration,
    needs: Duration,
    interval: Duration,
    running: Duration,
    last_poll: Option<Boot>,
    total: Duration,
    counted: u32,
    steps: [u16; STEPS],
}

impl Answers {
    /// Nothing yet, of a device with this period.
    pub fn of(every: Duration) -> Answers {
        Answers { every, ..Answers::default() }
    }

    /// An answer began so long after the end of its request.
    pub fn answered(&mut self, after: Duration) {
        if self.counted >= REMEMBERED {
            self.steps.iter_mut().for_each(|n| *n /= 2);
            (self.total, self.counted) = (self.total / 2, self.steps.iter().map(|n| u32::from(*n)).sum());
        }
        let step = (0..STEPS - 1).find(|n| after <= bound(*n)).unwrap_or(STEPS - 1);
        self.steps[step] += 1;
        (self.total, self.counted) = (self.total + after, self.counted + 1);
    }

    pub fn mean(&self) -> Option<Duration> {
        (self.counted > 0).then(|| self.total / self.counted)
    }

    /// What 95 of 100 answers stayed below, to the next half power of two.
    pub fn p95(&self) -> Option<Duration> {
        let mut left = self.counted.div_ceil(20);
        let n = (0..STEPS).rev().find(|n| {
            let there = u32::from(self.steps[*n]);
            left = left.saturating_sub(there);
            left == 0 && there > 0
        })?;
        Some(bound(n))
    }

    /// A request of this device had the line for so long.
    pub fn used(&mut self, time: Duration) {
        self.running += time;
    }

    /// Its poll is over.
    pub fn polled(&mut self, now: Boot) {
        let smooth = |old: &mut Duration, new: Duration| *old = if old.is_zero() { new } else { (*old * 7 + new) / 8 };
        smooth(&mut self.needs, std::mem::take(&mut self.running));
        if let Some(last) = self.last_poll.replace(now) {
            smooth(&mut self.interval, now - last);
        }
    }

    /// The shortest period that a line so busy can give it.
    pub fn cycle(&self, utilisation: f64) -> Option<Duration> {
        if self.needs.is_zero() {
            return None;
        }
        // A device that takes what is left already gets what there is, and so does one that is behind.
        let is_behind = self.interval > self.every + self.every / 10;
        if is_behind && !self.interval.is_zero() { Some(self.interval) } else { Some(self.every.mul_f64(utilisation).max(self.needs)) }
    }
}

fn bound(step: usize) -> Duration {
    let ms = f64::from(u32::try_from(step).unwrap_or(0)) / 2.0;
    Duration::from_micros(1000).mul_f64(ms.exp2())
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

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn answer_times_are_summed_up_and_the_past_fades() {
        let mut a = Answers::default();
        assert_eq!((a.mean(), a.p95()), (None, None));
        (0..90).for_each(|_| a.answered(MS * 20));
        (0..10).for_each(|_| a.answered(MS * 300));
        assert_eq!(a.mean(), Some(MS * 48));
        assert!(a.p95().is_some_and(|p| p >= MS * 300 && p < MS * 400), "{:?}", a.p95());
        (0..20_000).for_each(|_| a.answered(MS * 5));
        assert!(a.p95().is_some_and(|p| p < MS * 10), "{:?}", a.p95());
        a.answered(MS * 60_000);
        assert!(a.counted <= REMEMBERED);
    }

    #[test]
    fn the_cycle_is_what_the_line_can_give() {
        let mut a = Answers { every: MS * 1000, ..Answers::default() };
        assert_eq!(a.cycle(0.5), None);
        for n in 0..50 {
            a.used(MS * 100);
            a.polled(Boot::from_ms(n * 1000));
        }
        assert_eq!((a.cycle(0.5), a.cycle(0.05)), (Some(MS * 500), Some(MS * 100)));
        for n in 0..100 {
            a.used(MS * 100);
            a.polled(Boot::from_ms(50_000 + n * 3000));
        }
        assert!(a.cycle(1.0).is_some_and(|c| c > MS * 2900), "overloaded: what it gets");
    }

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
