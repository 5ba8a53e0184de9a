//! How long each unit takes before it begins to answer, so that the owner of a serial line looks when the reply can be
//! complete: once for most replies, where a look at the end of the wire time alone finds half of it and leads to two more.
//!
//! A look that finds the reply complete makes the lead a little shorter, one that comes too early a little longer, so that
//! about three of four find it. A reply that was complete at the first look says nothing of how long it had been there, so
//! after a row of them one is timed from the wire time on, and the lead is not longer than that. Looking too late costs
//! wire: a unit whose answers vary widely is looked at near its fastest.

use std::{collections::BTreeMap, time::Duration};

/// So many replies complete at the first look, and the next one is timed.
const SURE: u8 = 48;
/// So many looks too early in a row, and the unit has become slower.
const LATE: u8 = 8;
/// Answers that differ by less are the same one with the jitter of two machines: worth a longer lead.
const NEAR: Duration = Duration::from_micros(200);
const SHORTER: Duration = Duration::from_micros(1);
const LONGER: Duration = Duration::from_micros(3);
/// Slower units leave time enough for a look more, and one that becomes fast again must not be waited for in vain.
const LEAD_MAX: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub struct Leads {
    /// By unit.
    leads: BTreeMap<u8, Lead>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lead {
    lead: Duration,
    sure: u8,
    /// Looks too early in a row, and the shortest and longest of their answers.
    late: u8,
    shortest: Duration,
    longest: Duration,
}

impl Leads {
    /// Nothing of the reply is looked for before this time, from the moment at which an immediate one would be complete.
    pub fn of(&self, unit: u8) -> Duration {
        self.leads.get(&unit).filter(|l| l.sure < SURE).map(|l| l.lead.min(LEAD_MAX)).unwrap_or_default()
    }

    /// The reply was complete at the first look.
    pub fn complete(&mut self, unit: u8) {
        let l = self.leads.entry(unit).or_default();
        l.sure = (l.sure + 1).min(SURE);
        l.late = 0;
        l.lead = l.lead.saturating_sub(SHORTER);
    }

    /// The reply was seen to become complete: the unit took so long.
    pub fn timed(&mut self, unit: u8, took: Duration) {
        let l = self.leads.entry(unit).or_default();
        if l.sure == SURE {
            l.sure = 0;
            l.lead = l.lead.min(took);
            return;
        }
        (l.shortest, l.longest) = if l.late == 0 { (took, took) } else { (l.shortest.min(took), l.longest.max(took)) };
        l.late += 1;
        if l.late == LATE {
            l.late = 0;
            if l.lead.is_zero() || l.longest - l.shortest < NEAR {
                l.lead = l.shortest;
            }
        } else if !l.lead.is_zero() && took.saturating_sub(l.lead) < NEAR {
            l.lead = (l.lead + LONGER).min(took.max(l.lead));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Answers of a unit, as a line's owner would see them. Says how many looks were needed beyond the first of each.
    fn answers(leads: &mut Leads, times: impl IntoIterator<Item = u64>) -> usize {
        times.into_iter().map(Duration::from_micros).fold(0, |early, took| {
            if leads.of(3) >= took {
                leads.complete(3);
                return early;
            }
            leads.timed(3, took);
            early + 1
        })
    }

    #[test]
    fn the_first_answers_are_timed() {
        let mut leads = Leads::default();
        answers(&mut leads, [5000, 3000, 3010, 5000, 3020, 3030, 5000]);
        assert_eq!(leads.of(3), Duration::ZERO, "too few were timed");
        answers(&mut leads, [5000]);
        assert_eq!((leads.of(3), leads.of(4)), (MS * 3, Duration::ZERO));
    }

    #[test]
    fn a_slow_unit_is_not_waited_for_in_vain() {
        let mut leads = Leads::default();
        answers(&mut leads, [300_000; 8]);
        assert_eq!(leads.of(3), LEAD_MAX);
    }

    #[test]
    fn a_unit_that_became_faster_is_noticed() {
        let mut leads = Leads::default();
        answers(&mut leads, [4000; 8]);
        answers(&mut leads, [1000; SURE as usize]);
        assert_eq!(leads.of(3), Duration::ZERO, "one is timed from the wire time on");
        answers(&mut leads, [1000]);
        assert_eq!(leads.of(3), MS);
    }

    #[test]
    fn a_unit_that_became_slower_is_noticed() {
        let mut leads = Leads::default();
        answers(&mut leads, [1000; 8]);
        answers(&mut leads, [4000; 9]);
        assert_eq!(leads.of(3), MS * 4 - SHORTER);
    }

    #[test]
    fn a_minute_of_trouble_is_forgotten() {
        let mut leads = Leads::default();
        answers(&mut leads, (0..1000).map(|n| 1800 + n % 50));
        answers(&mut leads, (0..1000).map(|n| 2300 + n % 300));
        answers(&mut leads, (0..200).map(|n| 1800 + n % 50));
        assert!(leads.of(3) < Duration::from_micros(1900), "{:?}", leads.of(3));
    }

    /// A row of answers that vary evenly between two times, in microseconds.
    fn varying(seed: u64, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            from + (state >> 33) % (to - from)
        })
    }

    #[test]
    fn steady_units_are_mostly_looked_at_once_and_hardly_too_late() {
        for seed in 0..50 {
            let mut leads = Leads::default();
            let early = answers(&mut leads, varying(seed, 1750, 1850).take(2000));
            assert!(early < 1000, "{early} of 2000 looks were too early");
            assert!(leads.of(3) <= Duration::from_micros(1870), "{:?}", leads.of(3));
        }
    }

    /// The wire is not left idle for the sake of a look.
    #[test]
    fn jumpy_units_are_looked_at_near_their_fastest() {
        let mut waited = Duration::ZERO;
        for seed in 0..50 {
            let mut leads = Leads::default();
            for took in varying(seed, 1000, 9000).take(2000) {
                waited += leads.of(3).saturating_sub(Duration::from_micros(took));
                answers(&mut leads, [took]);
            }
        }
        assert!(waited / 100_000 < Duration::from_micros(250), "{:?} a request", waited / 100_000);
    }
}
