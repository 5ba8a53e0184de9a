//! How long to wait before the next connection attempt.
//!
//! Doubling with jitter, so that a thousand gateways whose broker restarted do not all return in the same second. The
//! first wait is short, because most losses are a blink. A session that was useful but did not last (it acknowledged
//! something and was then cut) keeps the wait below [`AFTER_PROGRESS`] and never resets it, so that a message that kills
//! the session cannot turn into a storm of handshakes; a session that lasted resets it.
//!
//! Absent on purpose: sleeping. The uplink sleeps.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// The shortest wait; with jitter the first one is up to twice this.
const FIRST: Duration = Duration::from_millis(150);
/// The longest wait while sessions still get something acknowledged.
const AFTER_PROGRESS: Duration = Duration::from_secs(2);
/// A session of this age was a good one.
const STABLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Backoff {
    delays: ExponentialBackoff,
    max: Duration,
    seed: u64,
    useful: bool,
}

impl Backoff {
    /// `max` is the longest wait, jitter included. `seed` makes the jitter of two gateways differ.
    pub fn new(max: Duration, seed: u64) -> Backoff {
        Backoff { delays: delays(max, seed), max, seed, useful: false }
    }

    /// The wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.delays.next().unwrap_or(self.max).min(self.max);
        if std::mem::take(&mut self.useful) { wait.min(AFTER_PROGRESS) } else { wait }
    }

    /// A session ended after `lasted`; `useful` if anything was acknowledged in it.
    pub fn ended(&mut self, lasted: Duration, useful: bool) {
        self.useful = useful;
        if lasted >= STABLE {
            self.seed = self.seed.wrapping_add(1);
            self.delays = delays(self.max, self.seed);
        }
    }
}

/// backon adds up to one more base delay as jitter, so the base grows to half of `max` only.
fn delays(max: Duration, seed: u64) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST.min(max / 2))
        .with_max_delay(max / 2)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(seed)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_begin_short_grow_and_stay_below_the_maximum(seed: u64, max_s in 1u64..600) {
            let max = Duration::from_secs(max_s);
            let mut backoff = Backoff::new(max, seed);
            let waits: Vec<Duration> = (0..20).map(|_| backoff.next_wait()).collect();
            prop_assert!(waits[0] >= Duration::from_millis(100) && waits[0] <= Duration::from_millis(500), "{:?}", waits[0]);
            prop_assert!(waits.iter().all(|w| *w <= max), "{waits:?}");
            prop_assert!(waits[19] >= max / 2, "{waits:?}");
        }
    }

    #[test]
    fn a_session_that_lasted_starts_over_and_a_useful_short_one_waits_little() {
        let mut backoff = Backoff::new(Duration::from_secs(60), 7);
        for _ in 0..20 {
            backoff.next_wait();
        }
        backoff.ended(Duration::from_secs(1), true);
        assert!(backoff.next_wait() <= AFTER_PROGRESS);
        backoff.ended(Duration::from_secs(1), false);
        assert!(backoff.next_wait() >= Duration::from_secs(30), "a useless session changes nothing");
        backoff.ended(Duration::from_secs(10), false);
        assert!(backoff.next_wait() <= Duration::from_millis(500));
    }

    #[test]
    fn two_gateways_do_not_return_together() {
        let waits =
            |seed| (0..5).map(|_| ()).scan(Backoff::new(Duration::from_secs(60), seed), |b, ()| Some(b.next_wait())).collect::<Vec<_>>();
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
