//! Kernel boots and how their clocks map to wall time. Both databases know them, under the same index.
//!
//! One offset for a whole boot, the best one that is known, also for what was recorded before it was. A boot that ended
//! without one lies between its neighbours: it began after the last moment of the boot before and was over when the next
//! one began.

use crate::{
    limits,
    model::{Boot, BootIndex, ClockChange, ClockQuality, ClockReading, ClockSource, WallMs},
    system::{clock, trust},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Debug, Clone, PartialEq)]
pub struct BootRow {
    pub id: BootIndex,
    pub uuid: String,
    pub clock: ClockReading,
    /// The last moment of it that is known.
    pub seen: Boot,
}

/// This boot's index: the one both files agree on, else one that neither has given away.
pub fn index(uuid: &str, state: &[BootRow], spool: &[BootRow]) -> BootIndex {
    let find = |rows: &[BootRow], id: BootIndex| rows.iter().find(|b| b.id == id).map(|b| b.uuid == uuid);
    let known = state.iter().chain(spool).filter(|b| b.uuid == uuid).map(|b| b.id).max();
    let agreed = |id: &BootIndex| find(state, *id) != Some(false) && find(spool, *id) != Some(false);
    let next = || BootIndex(state.iter().chain(spool).map(|b| b.id.0).max().unwrap_or(0) + 1);
    known.filter(agreed).unwrap_or_else(next)
}

/// What is known of all boots, for whoever turns boot time into wall time.
#[derive(Debug)]
pub struct Clocks {
    here: BootIndex,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    rows: BTreeMap<BootIndex, BootRow>,
    /// As others were told of this boot.
    told: Option<ClockReading>,
    /// Rows that the files do not have yet.
    unwritten: BTreeMap<BootIndex, BootRow>,
    written_at: Boot,
    /// What was recorded in a boot without a synchronised clock is not sent before the boot is so old.
    hold: Duration,
}

impl Clocks {
    pub fn new(mut here: BootRow, state: &[BootRow], spool: &[BootRow], last: &BTreeMap<BootIndex, Boot>) -> Clocks {
        // state.db is written when the clock changes, spool.db with the next segment: state.db knows better.
        let mut rows: BTreeMap<_, _> = spool.iter().chain(state).map(|b| (b.id, b.clone())).collect();
        // What an earlier run of this boot knew and told stands until something better is told.
        let before = rows.get(&here.id).filter(|b| b.uuid == here.uuid);
        let told = before.map(|b| b.clock);
        if let Some(before) = before {
            here = before.clone();
        }
        let id = here.id;
        rows.insert(id, here);
        for (boot, at) in last {
            if let Some(row) = rows.get_mut(boot).filter(|_| *boot != id) {
                row.seen = row.seen.max(*at);
            }
        }
        settle(&mut rows, id);
        let known = Known { rows, told, unwritten: BTreeMap::new(), written_at: Boot(0), hold: Duration::ZERO };
        Clocks { here: id, known: Mutex::new(known) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hold(&self, hold: Duration) {
        self.lock().hold = hold;
    }

    /// Takes what is believed of this boot now. Gives what others are to hear of; empty while the clock is only slewed,
    /// which is followed in RAM and would only wear the card.
    pub fn set(&self, reading: ClockReading, now: Boot) -> Vec<ClockChange> {
        let mut known = self.lock();
        let known = &mut *known;
        if let Some(row) = known.rows.get_mut(&self.here) {
            row.clock = reading;
            row.seen = row.seen.max(now);
        }
        // Those that a first synchronisation corrects, as they were.
        let others = known.rows.iter().rev().filter(|(id, _)| **id != self.here).take(limits::BOOTS_SETTLED);
        let before: Vec<(BootIndex, ClockReading)> = others.map(|(id, row)| (*id, row.clock)).collect();
        settle(&mut known.rows, self.here);
        let Some(here) = known.rows.get(&self.here).cloned() else { return Vec::new() };
        let mut changes = Vec::new();
        if known.told.is_none_or(|told| trust::differs(&told, &here.clock)) {
            changes.push(ClockChange { boot: self.here, before: known.told, after: here.clock });
            known.told = Some(here.clock);
            known.unwritten.insert(self.here, here.clone());
            known.written_at = now;
        } else if now - known.written_at >= limits::CLOCK_KEPT_EVERY {
            known.unwritten.insert(self.here, here.clone());
            known.written_at = now;
        }
        if here.clock.is_synchronised() {
            for (id, was) in before {
                let Some(row) = known.rows.get(&id).filter(|row| trust::differs(&was, &row.clock)) else { continue };
                changes.push(ClockChange { boot: id, before: Some(was), after: row.clock });
                known.unwritten.insert(id, row.clone());
            }
        }
        changes
    }

    pub fn of(&self, boot: BootIndex) -> ClockReading {
        self.lock().rows.get(&boot).map_or(ClockReading::estimated(0), |row| row.clock)
    }

    pub fn here(&self) -> BootRow {
        self.lock().rows[&self.here].clone()
    }

    pub fn all(&self) -> BTreeMap<BootIndex, ClockReading> {
        self.lock().rows.iter().map(|(id, row)| (*id, row.clock)).collect()
    }

    /// The same by the kernel's own ids, for a file with numbers of its own.
    pub fn by_uuid(&self) -> Vec<(String, ClockReading)> {
        self.lock().rows.values().map(|row| (row.uuid.clone(), row.clock)).collect()
    }

    /// Telemetry waits until this moment for a synchronised clock. State and events never do.
    pub fn held_until(&self, now: Boot) -> Option<Boot> {
        let known = self.lock();
        let until = Boot(0) + known.hold;
        let waits = known.rows.get(&self.here).is_some_and(|row| !row.clock.is_synchronised());
        (waits && now < until).then_some(until)
    }

    /// The latest wall time that has certainly come. The clock that is believed; without one the latest of what was once
    /// known, the making of this program, and what the clock shows.
    pub fn latest_known(&self, now: Boot) -> WallMs {
        let known = self.lock();
        let here = known.rows[&self.here].clock;
        if here.is_synchronised() {
            return here.wall(now);
        }
        let once = known.rows.values().filter(|row| row.clock.is_synchronised()).map(|row| row.clock.wall(row.seen));
        once.fold(here.wall(now).max(clock::built()), WallMs::max)
    }

    pub fn unwritten(&self) -> Vec<BootRow> {
        self.lock().unwritten.values().cloned().collect()
    }

    pub fn written(&self, rows: &[BootRow]) {
        let mut known = self.lock();
        for row in rows {
            if known.unwritten.get(&row.id) == Some(row) {
                known.unwritten.remove(&row.id);
            }
        }
    }

    /// At an orderly end: how far this boot came.
    pub fn last(&self, now: Boot) -> Vec<BootRow> {
        let mut known = self.lock();
        let here = self.here;
        if let Some(row) = known.rows.get_mut(&here) {
            // The error that was told is of that moment.
            row.clock.error_ms = row.clock.error_ms.map(|e| e + trust::drift_ms(now - row.seen));
            row.seen = row.seen.max(now);
            let row = row.clone();
            known.unwritten.insert(here, row);
        }
        known.unwritten.values().cloned().collect()
    }
}

/// Bounds for the boots that are not known, from those that are. Times of a boot are its offset plus its boot clock.
fn settle(rows: &mut BTreeMap<BootIndex, BootRow>, here: BootIndex) {
    let ms = |at: Boot| i64::try_from(at.ms()).unwrap_or(i64::MAX);
    let error = |row: &BootRow| i64::try_from(row.clock.error_ms.unwrap_or(0)).unwrap_or(i64::MAX);
    let mut floors = BTreeMap::new();
    let mut floor: Option<i64> = None;
    for (id, row) in rows.iter() {
        let known = row.clock.is_synchronised();
        let began = if known { Some(row.clock.offset_ms.saturating_sub(error(row))) } else { floor };
        if !known {
            floors.extend(floor.map(|f| (*id, f)));
        }
        floor = began.map(|b| b.saturating_add(ms(row.seen)));
    }
    let mut ceiling: Option<i64> = None;
    for (id, row) in rows.iter_mut().rev() {
        if row.clock.is_synchronised() {
            ceiling = Some(row.clock.offset_ms.saturating_add(error(row)));
            continue;
        }
        let began = ceiling.map(|c| c.saturating_sub(ms(row.seen)));
        ceiling = began;
        let guess = row.clock.offset_ms;
        match (floors.get(id).copied(), began) {
            (Some(floor), Some(began)) if *id != here => {
                let error_ms = Some(began.abs_diff(floor));
                row.clock = ClockReading { offset_ms: began, quality: ClockQuality::Interval, error_ms, source: ClockSource::Neighbours };
            }
            (Some(floor), _) => row.clock.offset_ms = guess.max(floor),
            (None, Some(began)) => row.clock.offset_ms = guess.min(began),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests;
