//! Which offset from boot clock to wall clock is believed. Pure: what the machine says comes in.
//!
//! Both clocks of the kernel run from one timekeeper: slewing and steering move them together, so their offset changes
//! by steps alone. Once the kernel was synchronised, its offset therefore stays good for the whole boot, also while
//! somebody sets the wall clock to another year; only its error grows.

use crate::model::{Boot, ClockQuality, ClockReading, ClockSource};
use std::time::Duration;

/// An offset that moves by no more than this is the same one: no row, no event.
pub const SLEW_MS: u64 = 50;
/// From this error on a clock is not synchronised any more: the kernel's own limit.
pub const LOOSE_MS: u64 = 16_000;
/// By so much the error grows without news, in parts of a million: the kernel's own assumption.
const DRIFT_PPM: u64 = 500;

/// What the machine says of its clocks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    pub offset_ms: i64,
    /// Who says that it is synchronised, if anybody does.
    pub by: Option<ClockSource>,
    pub error_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Good {
    offset_ms: i64,
    error_ms: Option<u64>,
    source: ClockSource,
    at: Boot,
}

impl Good {
    /// By how much it may be off now, as far as it is known how good it was.
    fn error_ms(&self, now: Boot) -> u64 {
        self.error_ms.unwrap_or(0) + drift_ms(now - self.at)
    }
}

/// By how much an error grows in that time.
pub fn drift_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_mul(DRIFT_PPM) / 1_000_000
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Trust {
    /// The machine has a good clock of its own, says the operator.
    rtc: bool,
    good: Option<Good>,
}

impl Trust {
    pub fn new(rtc: bool) -> Trust {
        Trust { rtc, good: None }
    }

    /// What an earlier run of the process believed in this boot, at that moment.
    pub fn resume(&mut self, reading: ClockReading, at: Boot) {
        // One that was synchronised long ago is estimated, and how far off it may be is known.
        let is_known = reading.is_synchronised() || reading.error_ms.is_some();
        if is_known && matches!(reading.source, ClockSource::Ntp | ClockSource::File) {
            self.good = Some(Good { offset_ms: reading.offset_ms, error_ms: reading.error_ms, source: reading.source, at });
        }
    }

    pub fn see(&mut self, now: Boot, seen: Observed) -> ClockReading {
        // The file says that the clock was set once, not that nobody has set it since.
        let news = seen.by.filter(|by| *by == ClockSource::Ntp || self.good.is_none());
        if let Some(source) = news {
            let good = Good { offset_ms: seen.offset_ms, error_ms: seen.error_ms, source, at: now };
            self.good = Some(good);
            let error_ms = seen.error_ms;
            return ClockReading { offset_ms: good.offset_ms, quality: ClockQuality::Synchronised, error_ms, source };
        }
        let Some(good) = self.good else {
            let (quality, source) =
                if self.rtc { (ClockQuality::Synchronised, ClockSource::Rtc) } else { (ClockQuality::Estimated, ClockSource::Guess) };
            return ClockReading { offset_ms: seen.offset_ms, quality, error_ms: None, source };
        };
        let error_ms = good.error_ms(now);
        if error_ms < LOOSE_MS {
            return ClockReading {
                offset_ms: good.offset_ms,
                quality: ClockQuality::Synchronised,
                error_ms: good.error_ms.map(|_| error_ms),
                source: good.source,
            };
        }
        // Long without news. Somebody may have put it right by hand since: believed where it can be true.
        let plausible = seen.offset_ms.abs_diff(good.offset_ms) <= error_ms;
        let (offset_ms, source) = if plausible { (seen.offset_ms, ClockSource::Guess) } else { (good.offset_ms, good.source) };
        let error_ms = good.error_ms.map(|_| error_ms + if plausible { seen.offset_ms.abs_diff(good.offset_ms) } else { 0 });
        ClockReading { offset_ms, quality: ClockQuality::Estimated, error_ms, source }
    }
}

/// Whether others should hear of it.
pub fn differs(a: &ClockReading, b: &ClockReading) -> bool {
    a.quality != b.quality || a.source != b.source || a.offset_ms.abs_diff(b.offset_ms) > SLEW_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YEAR: i64 = 365 * 86_400_000;

    fn seen(offset_ms: i64, by: Option<ClockSource>) -> Observed {
        Observed { offset_ms, by, error_ms: by.map(|_| 20) }
    }

    #[track_caller]
    fn check(trust: &mut Trust, at_s: u64, observed: Observed, want: (i64, ClockQuality, Option<u64>, ClockSource)) {
        let got = trust.see(Boot::from_ms(at_s * 1000), observed);
        assert_eq!((got.offset_ms, got.quality, got.error_ms, got.source), want, "at {at_s} s, {observed:?}");
    }

    #[test]
    fn a_synchronised_offset_outlives_steps_of_a_year() {
        use {ClockQuality::*, ClockSource::*};
        let mut trust = Trust::new(false);
        check(&mut trust, 1, seen(-10 * YEAR, None), (-10 * YEAR, Estimated, None, Guess));
        check(&mut trust, 600, seen(5000, Some(Ntp)), (5000, Synchronised, Some(20), Ntp));
        check(&mut trust, 700, seen(5000 + YEAR, None), (5000, Synchronised, Some(70), Ntp));
        check(&mut trust, 800, seen(5000 - YEAR, None), (5000, Synchronised, Some(120), Ntp));
        check(&mut trust, 900, seen(5003, Some(Ntp)), (5003, Synchronised, Some(20), Ntp));
        // Nine hours without a time server: the error is above what is called synchronised.
        check(&mut trust, 900 + 32_400, seen(5003 + YEAR, None), (5003, Estimated, Some(16_220), Ntp));
        // Somebody has put it right by hand.
        check(&mut trust, 900 + 32_400, seen(9003, None), (9003, Estimated, Some(20_220), Guess));
        check(&mut trust, 900 + 32_401, seen(8000, Some(Ntp)), (8000, Synchronised, Some(20), Ntp));
    }

    #[test]
    fn a_trusted_clock_of_the_machine_is_followed() {
        use {ClockQuality::*, ClockSource::*};
        let mut trust = Trust::new(true);
        check(&mut trust, 1, seen(5000, None), (5000, Synchronised, None, Rtc));
        check(&mut trust, 2, seen(5000 + YEAR, None), (5000 + YEAR, Synchronised, None, Rtc));
        check(&mut trust, 3, seen(6000, Some(Ntp)), (6000, Synchronised, Some(20), Ntp));
        check(&mut trust, 4, seen(6000 + YEAR, None), (6000, Synchronised, Some(20), Ntp));
    }

    #[test]
    fn the_file_of_timesyncd_says_once_that_the_clock_was_set() {
        use {ClockQuality::*, ClockSource::*};
        let mut trust = Trust::new(false);
        let file = |offset_ms| Observed { offset_ms, by: Some(File), error_ms: None };
        check(&mut trust, 1, file(5000), (5000, Synchronised, None, File));
        check(&mut trust, 1001, file(5000 + YEAR), (5000, Synchronised, None, File));
        check(&mut trust, 1002, seen(5010, Some(Ntp)), (5010, Synchronised, Some(20), Ntp));
    }

    #[test]
    fn a_restart_of_the_process_goes_on_where_it_was() {
        use {ClockQuality::*, ClockSource::*};
        let mut trust = Trust::new(false);
        let before = ClockReading { error_ms: Some(100), ..ClockReading::synchronised(5000) };
        trust.resume(before, Boot::from_ms(1_000_000));
        check(&mut trust, 2000, seen(5000 - YEAR, None), (5000, Synchronised, Some(600), Ntp));
        // Ten hours without a time server, then a restart.
        let mut trust = Trust::new(false);
        let old = ClockReading { error_ms: Some(18_000), source: Ntp, ..ClockReading::estimated(5000) };
        trust.resume(old, Boot::from_ms(1_000_000));
        check(&mut trust, 2000, seen(5000 - YEAR, None), (5000, Estimated, Some(18_500), Ntp));
        let mut trust = Trust::new(false);
        trust.resume(ClockReading::estimated(5000), Boot::from_ms(1_000_000));
        check(&mut trust, 2000, seen(7000, None), (7000, Estimated, None, Guess));
    }

    #[derive(Debug, Clone)]
    enum Happens {
        /// Somebody sets the wall clock.
        Set(i64),
        /// A time daemon sets it, so well.
        Sync(i64),
        Wait(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            (-3 * YEAR..3 * YEAR).prop_map(Happens::Set),
            (-80i64..80).prop_map(Happens::Sync),
            (1u64..200_000).prop_map(Happens::Wait),
        ]
    }

    proptest! {
        /// The boot clock drifts by up to 500 ppm against the truth, and the wall clock shows anything: what is said with
        /// an error is right within it, and after the first synchronisation everything is said with one.
        #[test]
        fn times_are_within_the_error_that_is_told(drift_ppm in -499i64..=499, steps in proptest::collection::vec(happens(), 1..60)) {
            let mut trust = Trust::new(false);
            let (mut at_s, mut wall_offset, mut ever) = (10u64, -10 * YEAR, false);
            for step in steps {
                // Milliseconds by which the true offset has wandered since the boot.
                let truth = |at_s: u64| i64::try_from(at_s).unwrap() * drift_ppm / 1000;
                let by = match step {
                    Happens::Set(offset) => { wall_offset = offset; None }
                    Happens::Sync(error) => { wall_offset = truth(at_s) + error; ever = true; Some(ClockSource::Ntp) }
                    Happens::Wait(s) => { at_s += s; None }
                };
                let observed = Observed { offset_ms: wall_offset, by, error_ms: by.map(|_| 80) };
                let got = trust.see(Boot::from_ms(at_s * 1000), observed);
                prop_assert_eq!(got.error_ms.is_some(), ever);
                if let Some(error) = got.error_ms {
                    let off = got.offset_ms.abs_diff(truth(at_s));
                    prop_assert!(off <= error + 2, "off by {} ms, told {} ms: {:?}", off, error, got);
                }
            }
        }
    }
}
