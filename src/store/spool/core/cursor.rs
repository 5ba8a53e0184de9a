//! How far one uplink is: what it was not sent, what goes again, what of each segment it has.
//!
//! A segment is in the ring while any uplink wants something of it. That an uplink has all of it is a bit in the segment;
//! that it has a part is told here. With one uplink the ring itself knows both.

use super::{Core, Place};
use crate::{
    model::{Boot, BootIndex, Sealed, UplinkIndex},
    store::{
        Holder,
        spool::{
            codec::{Bytes, Corrupt, put, put_text},
            ring::{Alive, Segment},
        },
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// What an uplink has of a segment that it does not have all of. Beside it others want something of it too.
#[derive(Debug, Clone, Default)]
pub struct Partial {
    pub seqs: BTreeSet<u64>,
    /// After a restart an estimate, until the segment is read.
    pub samples: u64,
}

#[derive(Debug, Clone)]
pub struct Cursor {
    pub holder: Holder,
    pub bit: u8,
    /// Of our run, never sent.
    pub(super) live: BTreeSet<u64>,
    pub(super) again: BTreeSet<Place>,
    /// The first segment that was not looked through.
    pub(super) at: u64,
    /// Nothing before this segment waits for it.
    pub(super) low: u64,
    pub(super) loaded: VecDeque<(Place, u64, Arc<Sealed>)>,
    pub(super) partial: BTreeMap<u64, Partial>,
    /// Segments, and batches in them, that it does not have.
    pub(super) segments: u64,
    pub(super) left: u64,
    pub waiting_samples: u64,
    pub acknowledged_samples: u64,
    pub dropped_samples: u64,
    pub rate: Rate,
}

impl Cursor {
    pub fn new(holder: Holder, n: usize) -> Cursor {
        Cursor {
            holder,
            bit: UplinkIndex(u8::try_from(n).unwrap_or(0)).bit(),
            live: BTreeSet::new(),
            again: BTreeSet::new(),
            at: 0,
            low: 0,
            loaded: VecDeque::new(),
            partial: BTreeMap::new(),
            segments: 0,
            left: 0,
            waiting_samples: 0,
            acknowledged_samples: 0,
            dropped_samples: 0,
            rate: Rate::default(),
        }
    }

    pub fn wants(&self, segment: &Segment) -> bool {
        segment.done & self.bit == 0
    }

    /// Batches and samples of a segment that it wants.
    pub(super) fn of(&self, n: u64, segment: &Segment) -> (u64, u64) {
        let (seqs, samples) = self.partial.get(&n).map_or((0, 0), |p| (p.seqs.len() as u64, p.samples));
        (u64::from(segment.left).saturating_sub(seqs), u64::from(segment.samples).saturating_sub(samples))
    }

    /// A segment that it wants has come, with what it has of it.
    pub(super) fn add(&mut self, n: u64, segment: &Segment, part: Option<Partial>) {
        if let Some(part) = part.filter(|p| !p.seqs.is_empty()) {
            self.partial.insert(n, part);
        }
        self.segments += 1;
        self.left += self.of(n, segment).0;
    }

    /// At the start, or when it is put back: its samples were not counted as sealed.
    pub fn restore(&mut self, n: u64, segment: &Segment, part: Option<Partial>) {
        self.add(n, segment, part);
        self.waiting_samples += self.of(n, segment).1;
        self.at = self.at.min(n);
        self.low = self.low.min(n);
    }

    /// A segment that it wanted is no more, or not for it. Gives what it had of it.
    pub(super) fn remove(&mut self, n: u64, segment: &Segment) -> Option<Partial> {
        let (batches, samples) = self.of(n, segment);
        self.segments -= 1;
        self.left = self.left.saturating_sub(batches);
        self.waiting_samples = self.waiting_samples.saturating_sub(samples);
        self.loaded.retain(|(_, of, _)| *of != n);
        self.partial.remove(&n)
    }
}

impl Core {
    pub(super) fn cursor(&self, u: UplinkIndex) -> Option<&Cursor> {
        self.cursors.get(usize::from(u.0))
    }

    pub(super) fn is_alone(&self) -> bool {
        self.cursors.len() == 1
    }

    /// Whether this uplink has this batch of a segment, or the segment is no more.
    pub(super) fn has(&self, cursor: &Cursor, n: u64, seq: u64) -> bool {
        self.ring.is_delivered(n, seq)
            || self.ring.get(n).is_none_or(|s| !cursor.wants(s))
            || cursor.partial.get(&n).is_some_and(|p| p.seqs.contains(&seq))
    }

    /// The uplinks that do not have this batch of a segment.
    pub(super) fn owed(&self, n: u64, seq: u64) -> u8 {
        self.cursors.iter().filter(|c| !self.has(c, n, seq)).fold(0, |mask, c| mask | c.bit)
    }

    /// The cursors as they are written with a commit.
    pub(super) fn written(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for c in &mut self.cursors {
            c.low = self.ring.from(c.low).find(|(_, s)| s.done & c.bit == 0).map_or(self.ring.head, |(n, _)| n);
        }
        put(&mut out, self.cursors.len() as u64);
        for c in &self.cursors {
            let wants = |s: &Segment| c.wants(s);
            let alive = if self.is_alone() {
                self.ring.alive(c.low, c.segments, wants, self.ring.parts(), 1)
            } else {
                let parts = c.partial.iter().map(|(n, p)| (*n, &p.seqs));
                self.ring.alive(c.low, c.segments, wants, parts, self.cursors.len())
            };
            put_text(&mut out, c.holder.id.as_str());
            put(&mut out, alive.len() as u64);
            out.extend(alive);
        }
        out
    }

    /// This uplink has one more batch of a segment. The last one of the last uplink frees the slot.
    pub(super) fn mark(&mut self, u: usize, n: u64, seq: u64, samples: u64) {
        let Some(segment) = self.ring.get(n) else {
            return;
        };
        self.moved = true;
        let (left, done) = (segment.left, segment.done);
        let alone = self.is_alone();
        let cursor = &mut self.cursors[u];
        if alone {
            self.ring.deliver(n, seq, samples);
            match self.ring.get(n) {
                Some(now) => cursor.left -= u64::from(left - now.left),
                None => (cursor.left, cursor.segments) = (cursor.left - u64::from(left), cursor.segments - 1),
            }
            return;
        }
        if done & cursor.bit != 0 {
            return;
        }
        let part = cursor.partial.entry(n).or_default();
        if !part.seqs.insert(seq) {
            return;
        }
        part.samples += samples;
        cursor.left -= 1;
        if part.seqs.len() == left as usize {
            cursor.partial.remove(&n);
            cursor.segments -= 1;
            let bit = cursor.bit;
            self.done(n, bit);
        }
    }

    /// This uplink wants nothing of the segment any more.
    fn done(&mut self, n: u64, bit: u8) {
        self.moved = true;
        if self.ring.set_done(n, bit) == self.all
            && let Some((segment, _)) = self.ring.remove(n)
        {
            self.ring.free(segment.slot, segment.bytes);
        }
    }

    /// Segments that only this optional uplink and others like it want, oldest first, so many that what stays takes at
    /// most `bytes`. None with a batch in flight to it.
    pub fn beyond_share(&self, u: UplinkIndex, bytes: u64) -> Vec<u64> {
        let Some(cursor) = self.cursor(u).filter(|c| !c.holder.required && c.segments > 0) else {
            return Vec::new();
        };
        let only = |s: &Segment| cursor.wants(s) && s.done & self.required == self.required;
        let held = || self.ring.from(cursor.low).filter(|(_, s)| only(s));
        let mut sum: u64 = held().map(|(_, s)| u64::from(s.bytes)).sum();
        let mut chosen = Vec::new();
        for (n, s) in held() {
            if sum <= bytes {
                break;
            }
            let range = (s.epoch, s.first)..=(s.epoch, s.last());
            if self.batches.range(range).all(|(_, b)| b.segment != Some(n) || b.flight & cursor.bit == 0) {
                sum -= u64::from(s.bytes);
                chosen.push(n);
            }
        }
        chosen
    }

    /// What this uplink has of a segment, as it stands now.
    pub fn view(&self, u: UplinkIndex, n: u64) -> Option<(Segment, BTreeSet<u64>)> {
        let cursor = self.cursor(u)?;
        let mut segment = self.ring.get(n).filter(|s| cursor.wants(s))?.clone();
        let (left, samples) = cursor.of(n, &segment);
        (segment.left, segment.samples) = (u32::try_from(left).ok()?, u32::try_from(samples).ok()?);
        let mut has = self.ring.delivered(n).cloned().unwrap_or_default();
        has.extend(cursor.partial.get(&n).iter().flat_map(|p| p.seqs.iter().copied()));
        Some((segment, has))
    }

    /// This uplink never gets the rest of these. Their gap is committed.
    pub fn give_up(&mut self, u: UplinkIndex, segments: &[u64]) {
        for n in segments {
            let Some(segment) = self.ring.get(*n).cloned() else {
                continue;
            };
            let Some(cursor) = self.cursors.get_mut(usize::from(u.0)).filter(|c| c.wants(&segment)) else {
                continue;
            };
            let bit = cursor.bit;
            let range = (segment.epoch, segment.first)..=(segment.epoch, segment.last());
            let places: Vec<Place> = self.batches.range(range).filter(|(_, b)| b.segment == Some(*n)).map(|(p, _)| *p).collect();
            cursor.dropped_samples += cursor.of(*n, &segment).1;
            cursor.remove(*n, &segment);
            for place in places {
                self.let_go(place, bit, true);
            }
            self.done(*n, bit);
        }
    }

    /// Nobody is to send it to this uplink now. `for_good`: nor later.
    pub(super) fn let_go(&mut self, place: Place, bit: u8, for_good: bool) {
        for cursor in self.cursors.iter_mut().filter(|c| c.bit == bit) {
            cursor.again.remove(&place);
            // Numbers of older runs are not in there.
            if place.0 as usize == self.runs.len() - 1 {
                cursor.live.remove(&place.1);
            }
        }
        if let Some(batch) = self.batches.get_mut(&place) {
            batch.held &= !bit;
            batch.flight &= !bit;
            if for_good {
                batch.owed &= !bit;
            }
            if batch.held == 0 {
                self.forget(place);
            }
        }
    }

    /// When the oldest that waits for it was sealed, and on which boot's clock.
    pub fn oldest_for(&mut self, u: UplinkIndex) -> Option<(BootIndex, Boot)> {
        let cursor = self.cursors.get_mut(usize::from(u.0))?;
        let first = self.ring.from(cursor.low).find(|(_, s)| s.done & cursor.bit == 0);
        cursor.low = first.map_or(self.ring.head, |(n, _)| n);
        let bit = cursor.bit;
        // What was thinned is older than what lies before it.
        let oldest = self.ring.thinned_by_age().find(|(_, s)| s.done & bit == 0).or(first).map(|(_, s)| (s.boot, s.at));
        let (ours, boot) = (self.ours(), self.our_boot());
        let unsaved = || self.unsaved.iter().filter_map(|seq| self.batches.get(&(ours, *seq)));
        let unsaved = unsaved().find(|b| b.owed & bit != 0).map(|b| (boot, b.at));
        [oldest, unsaved].into_iter().flatten().min()
    }
}

/// What [`Core::written`] wrote: by name, what each uplink did not have.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Alive)>, Corrupt> {
    let mut from = Bytes(bytes);
    let mut all = Vec::new();
    for _ in 0..from.count()? {
        let name = from.text()?.to_owned();
        let length = from.count()?;
        all.push((name, Alive::read(from.take(length)?)?));
    }
    Ok(all)
}

/// Samples in a second, over the last ten seconds.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    seconds: [u64; Rate::SECONDS],
    /// The second that was counted last.
    last: u64,
    /// The first one.
    since: Option<u64>,
}

impl Rate {
    const SECONDS: usize = 10;

    pub fn add(&mut self, now: Boot, samples: u64) {
        self.turn_to(now);
        *self.of(self.last) += samples;
    }

    fn of(&mut self, second: u64) -> &mut u64 {
        &mut self.seconds[usize::try_from(second % Rate::SECONDS as u64).unwrap_or(0)]
    }

    fn turn_to(&mut self, now: Boot) {
        let second = now.ms() / 1000;
        let first = *self.since.get_or_insert(second);
        self.last = self.last.max(first);
        for passed in 0..second.saturating_sub(self.last).min(Rate::SECONDS as u64) {
            *self.of(second - passed) = 0;
        }
        self.last = self.last.max(second);
    }

    pub fn per_second(&mut self, now: Boot) -> u64 {
        self.turn_to(now);
        let known = (self.last - self.since.unwrap_or(self.last) + 1).min(Rate::SECONDS as u64);
        self.seconds.iter().sum::<u64>() / known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_ten_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(Boot::from_ms(5_000)), 0);
        for n in 0..100u64 {
            rate.add(Boot::from_ms(100_000 + n * 100), 50);
        }
        assert_eq!(rate.per_second(Boot::from_ms(109_950)), 500);
        assert_eq!(rate.per_second(Boot::from_ms(114_000)), 250);
        assert_eq!(rate.per_second(Boot::from_ms(200_000)), 0);
        rate.add(Boot::from_ms(200_100), 10);
        assert_eq!(rate.per_second(Boot::from_ms(200_100)), 1);
    }
}
