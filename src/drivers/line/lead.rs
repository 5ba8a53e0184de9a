//! How long each unit takes before it begins to answer, so that the owner of a serial line looks when the reply can be
//! complete: once for most replies, where a look at the end of the wire time alone finds half of it and leads to two more.
//!
//! The lead is the shortest of the last answers that were timed. A reply that was complete at the first look says only
//! that the lead is not too short, so after a row of them one is timed from the wire time on. Looking too late costs wire:
//! in doubt the lead is short.

use std::{collections::BTreeMap, time::Duration};

/// Timed answers that are remembered.
const SEEN: usize = 8;
/// So many replies complete at the first look, and the next one is timed.
const SURE: u8 = 8;
/// Slower units leave time enough for a look more, and one that becomes fast again must not be waited for in vain.
const LEAD_MAX: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub struct Leads {
    /// By unit.
    leads: BTreeMap<u8, Lead>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lead {
    seen: [Duration; SEEN],
    next: usize,
    sure: u8,
}

impl Leads {
    /// Nothing of the reply is looked for before this time, from the moment at which an immediate one would be complete.
    pub fn of(&self, unit: u8) -> Duration {
        let lead = self.leads.get(&unit).filter(|lead| lead.sure < SURE);
        lead.and_then(|lead| lead.seen.iter().min().copied()).unwrap_or_default().min(LEAD_MAX)
    }

    /// The reply was complete at the first look.
    pub fn complete(&mut self, unit: u8) {
        let lead = self.leads.entry(unit).or_default();
        lead.sure = if lead.sure < SURE { lead.sure + 1 } else { 0 };
    }

    /// The reply was seen to become complete: the unit took so long.
    pub fn timed(&mut self, unit: u8, took: Duration) {
        let lead = self.leads.entry(unit).or_default();
        lead.seen[lead.next] = took;
        lead.next = (lead.next + 1) % SEEN;
        lead.sure = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_lead_is_the_shortest_of_the_last_answers() {
        let mut leads = Leads::default();
        for took in [5, 4, 3, 5, 5, 5, 5] {
            leads.timed(3, MS * took);
            assert_eq!(leads.of(3), Duration::ZERO, "too few were timed");
        }
        leads.timed(3, MS * 5);
        assert_eq!((leads.of(3), leads.of(4)), (MS * 3, Duration::ZERO));
        (0..3).for_each(|_| leads.timed(3, MS * 5));
        assert_eq!(leads.of(3), MS * 5, "the 3 is forgotten");
    }

    #[test]
    fn a_unit_that_became_faster_is_noticed() {
        let mut leads = Leads::default();
        (0..SEEN).for_each(|_| leads.timed(3, MS * 300));
        for _ in 0..SURE {
            assert_eq!(leads.of(3), LEAD_MAX);
            leads.complete(3);
        }
        assert_eq!(leads.of(3), Duration::ZERO, "one is timed from the wire time on");
        leads.timed(3, MS);
        assert_eq!(leads.of(3), MS);
    }
}
