//! Kernel boots and how their clocks map to wall time. Both databases know them, under the same index.

use crate::model::{BootIndex, ClockQuality, ClockReading};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Clone, PartialEq)]
pub struct BootRow {
    pub id: BootIndex,
    pub uuid: String,
    pub clock: ClockReading,
}

/// This boot's index: the one both files agree on, else one that neither has given away.
pub fn index(uuid: &str, state: &[BootRow], spool: &[BootRow]) -> BootIndex {
    let find = |rows: &[BootRow], id: BootIndex| rows.iter().find(|b| b.id == id).map(|b| b.uuid == uuid);
    let known = state.iter().chain(spool).filter(|b| b.uuid == uuid).map(|b| b.id).max();
    let agreed = |id: &BootIndex| find(state, *id) != Some(false) && find(spool, *id) != Some(false);
    let next = || BootIndex(state.iter().chain(spool).map(|b| b.id.0).max().unwrap_or(0) + 1);
    known.filter(agreed).unwrap_or_else(next)
}

/// An offset that moves by no more than this is the same one.
const SLEW_MS: u64 = 50;

/// What is known of all boots, for whoever turns boot time into wall time.
#[derive(Debug)]
pub struct Clocks {
    here: BootRow,
    all: Mutex<BTreeMap<BootIndex, ClockReading>>,
}

impl Clocks {
    pub fn new(here: BootRow, state: &[BootRow], spool: &[BootRow]) -> Clocks {
        // state.db is written when the clock changes, spool.db with the next segment: state.db knows better.
        let mut all: BTreeMap<_, _> = spool.iter().chain(state).map(|b| (b.id, b.clock)).collect();
        all.insert(here.id, here.clock);
        Clocks { here, all: Mutex::new(all) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BootIndex, ClockReading>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it differs from what was known. Slewing within a few milliseconds is no difference: it would only wear
    /// the card (FIELD_TRUTH 5).
    pub fn set(&self, reading: ClockReading) -> bool {
        let mut all = self.lock();
        let known = all.get(&self.here.id);
        if known.is_some_and(|k| k.quality == reading.quality && k.offset_ms.abs_diff(reading.offset_ms) <= SLEW_MS) {
            return false;
        }
        all.insert(self.here.id, reading);
        true
    }

    pub fn of(&self, boot: BootIndex) -> ClockReading {
        self.lock().get(&boot).copied().unwrap_or(ClockReading { offset_ms: 0, quality: ClockQuality::Estimated })
    }

    pub fn here(&self) -> BootRow {
        BootRow { clock: self.of(self.here.id), ..self.here.clone() }
    }

    pub fn all(&self) -> BTreeMap<BootIndex, ClockReading> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[(u32, &str)]) -> Vec<BootRow> {
        let clock = ClockReading { offset_ms: 0, quality: ClockQuality::Estimated };
        of.iter().map(|(id, uuid)| BootRow { id: BootIndex(*id), uuid: (*uuid).into(), clock }).collect()
    }

    #[track_caller]
    fn check(state: &[(u32, &str)], spool: &[(u32, &str)], want: u32) {
        assert_eq!(index("now", &rows(state), &rows(spool)), BootIndex(want), "{state:?} {spool:?}");
    }

    #[test]
    fn an_index_names_one_boot_in_both_files() {
        check(&[], &[], 1);
        check(&[(1, "old")], &[], 2);
        check(&[(1, "old"), (2, "now")], &[(1, "old")], 2);
        check(&[(1, "now")], &[(1, "now")], 1);
        // state.db was lost: the spool's boots are older than ours.
        check(&[], &[(1, "old"), (2, "older")], 3);
        // spool.db came from elsewhere.
        check(&[(2, "now")], &[(2, "other")], 3);
    }
}
