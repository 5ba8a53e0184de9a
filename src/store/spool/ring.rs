//! Which segments are on the disk, what of them is delivered, and which slots are free.
//!
//! A segment is named by `n`, the count of writes. Numbers grow with `n`, so walking `n` is walking the backlog in
//! order. Invariant: a slot is either of one segment in here or in the free list, never both.
//!
//! Absent on purpose: the bodies, SQL.

use super::codec::{Bytes, Corrupt, put};
use crate::model::{Boot, BootIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A batch in the order of delivery: the epoch by age, then its number.
pub type Place = (u32, u64);

/// 48 bytes: at 512 MiB there may be 100,000.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// When its oldest batch was sealed, on the clock of its boot.
    pub at: Boot,
    pub first: u64,
    pub slot: u32,
    pub epoch: u32,
    /// Last number minus first. Numbers in between may be missing: acknowledged before the write.
    pub span: u32,
    /// Batches and samples that are not delivered.
    pub left: u32,
    pub samples: u32,
    pub bytes: u32,
    /// Of what it holds, which may be older than its epoch.
    pub boot: BootIndex,
    /// How often it was thinned.
    pub level: u8,
    /// The uplinks that want nothing of it any more, a bit for each.
    pub done: u8,
}

impl Segment {
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.span)
    }
}

/// So often a segment is thinned before it is dropped.
pub const LEVELS: usize = 3;

#[derive(Debug, Clone, Default)]
pub struct Ring {
    segments: BTreeMap<u64, Segment>,
    /// Numbers delivered, of segments that are delivered in part.
    delivered: BTreeMap<u64, BTreeSet<u64>>,
    /// Oldest freed first, with the bytes of the stale row that still lies in it.
    free: VecDeque<(u32, u32)>,
    slots: u32,
    /// Thinned segments by level, of which there are few; the others are all in `segments` only.
    thinned: [BTreeSet<u64>; LEVELS],
    /// Bytes of bodies by level.
    bytes: [u64; LEVELS + 1],
    /// The next `n`.
    pub head: u64,
    /// Batches in all segments that are not delivered.
    pub left: u64,
}

impl Ring {
    pub fn get(&self, n: u64) -> Option<&Segment> {
        self.segments.get(&n)
    }

    /// In order of delivery, from `n` on.
    pub fn from(&self, n: u64) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments.range(n..).map(|(n, s)| (*n, s))
    }

    pub fn is_delivered(&self, n: u64, seq: u64) -> bool {
        !self.segments.contains_key(&n) || self.delivered.get(&n).is_some_and(|d| d.contains(&seq))
    }

    pub fn insert(&mut self, n: u64, segment: Segment, delivered: BTreeSet<u64>) {
        self.left += u64::from(segment.left);
        self.slots = self.slots.max(segment.slot + 1);
        self.head = self.head.max(n + 1);
        if !delivered.is_empty() {
            self.delivered.insert(n, delivered);
        }
        let level = usize::from(segment.level).min(LEVELS);
        self.bytes[level] += u64::from(segment.bytes);
        if level > 0 {
            self.thinned[level - 1].insert(n);
        }
        self.segments.insert(n, segment);
    }

    /// One batch is delivered. The last one frees the slot.
    pub fn deliver(&mut self, n: u64, seq: u64, samples: u64) {
        let Some(segment) = self.segments.get_mut(&n) else {
            return;
        };
        if !self.delivered.entry(n).or_default().insert(seq) {
            return;
        }
        self.left -= 1;
        segment.left -= 1;
        segment.samples = segment.samples.saturating_sub(u32::try_from(samples).unwrap_or(u32::MAX));
        if segment.left == 0 {
            let (slot, bytes) = (segment.slot, segment.bytes);
            self.remove(n);
            self.free.push_back((slot, bytes));
        }
    }

    /// What of a segment every uplink has.
    pub fn delivered(&self, n: u64) -> Option<&BTreeSet<u64>> {
        self.delivered.get(&n)
    }

    pub fn parts(&self) -> impl Iterator<Item = (u64, &BTreeSet<u64>)> {
        self.delivered.iter().map(|(n, seqs)| (*n, seqs))
    }

    /// Adds to the uplinks that are done with it, and gives them all.
    pub fn set_done(&mut self, n: u64, bit: u8) -> u8 {
        self.segments.get_mut(&n).map_or(0, |s| {
            s.done |= bit;
            s.done
        })
    }

    /// Samples that are not delivered, now that they are known. Gives what was thought.
    pub fn set_samples(&mut self, n: u64, samples: u64) -> u64 {
        let Some(segment) = self.segments.get_mut(&n) else {
            return samples;
        };
        let now = u32::try_from(samples).unwrap_or(u32::MAX);
        u64::from(std::mem::replace(&mut segment.samples, now))
    }

    /// Takes the segment out; its slot is in nobody's hands until it is freed.
    pub fn remove(&mut self, n: u64) -> Option<(Segment, BTreeSet<u64>)> {
        let segment = self.segments.remove(&n)?;
        self.left -= u64::from(segment.left);
        let level = usize::from(segment.level).min(LEVELS);
        self.bytes[level] -= u64::from(segment.bytes);
        if level > 0 {
            self.thinned[level - 1].remove(&n);
        }
        Some((segment, self.delivered.remove(&n).unwrap_or_default()))
    }

    /// Of one level, oldest first.
    pub fn of_level(&self, level: u8) -> Box<dyn Iterator<Item = (u64, &Segment)> + '_> {
        match usize::from(level).checked_sub(1).and_then(|n| self.thinned.get(n)) {
            Some(set) => Box::new(set.iter().filter_map(|n| Some((*n, self.segments.get(n)?)))),
            None => Box::new(self.from(0).filter(|(_, s)| s.level == 0)),
        }
    }

    /// The oldest data first: what was thinned most often is older than what was thinned less.
    pub fn by_age(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.thinned_by_age().chain(self.of_level(0))
    }

    pub fn thinned_by_age(&self) -> impl Iterator<Item = (u64, &Segment)> {
        (1..=LEVELS).rev().filter_map(|level| u8::try_from(level).ok()).flat_map(move |level| self.of_level(level))
    }

    pub fn bytes_of(&self, level: usize) -> u64 {
        self.bytes.get(level).copied().unwrap_or(0)
    }

    /// A slot to write to.
    pub fn take_slot(&mut self) -> u32 {
        self.free.pop_front().map_or_else(
            || {
                self.slots += 1;
                self.slots - 1
            },
            |(slot, _)| slot,
        )
    }

    /// The write failed: the slot is the next to be taken again.
    pub fn give_back(&mut self, slot: u32) {
        self.free.push_front((slot, 0));
    }

    pub fn free(&mut self, slot: u32, bytes: u32) {
        self.slots = self.slots.max(slot + 1);
        self.free.push_back((slot, bytes));
    }

    /// Free slots whose stale rows together take so many bytes, or all there are.
    pub fn stale(&self, bytes: u64) -> Vec<u32> {
        let mut sum = 0u64;
        let mut slots = Vec::new();
        for (slot, of) in self.free.iter().filter(|(_, of)| *of > 0) {
            if sum >= bytes {
                break;
            }
            sum += u64::from(*of);
            slots.push(*slot);
        }
        slots
    }

    /// The stale rows of these are gone.
    pub fn emptied(&mut self, slots: &[u32]) {
        // After a long backlog there are many of both.
        let slots: BTreeSet<u32> = slots.iter().copied().collect();
        self.free.iter_mut().filter(|(slot, _)| slots.contains(slot)).for_each(|(_, bytes)| *bytes = 0);
    }

    /// What of this is written with a commit for one of `uplinks` uplinks: runs of `n` of which it wants something, then
    /// what it has of them. Everything from the end on counts as wanted, so a list that had to be cut only repeats.
    /// `low` and `count`: where those segments begin, and how many they are.
    pub fn alive<'a>(
        &'a self,
        low: u64,
        count: u64,
        wants: impl Fn(&Segment) -> bool,
        parts: impl Iterator<Item = (u64, &'a BTreeSet<u64>)>,
        uplinks: usize,
    ) -> Vec<u8> {
        let bytes_max = 3000 / uplinks.max(1);
        let wanted = |(n, s): (&u64, &Segment)| wants(s).then_some(*n);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let first = self.segments.range(low..).find_map(wanted);
        let last = self.segments.range(low..).rev().find_map(wanted);
        let unbroken = first.zip(last).filter(|(first, last)| *last - *first + 1 == count);
        if let Some((first, _)) = unbroken {
            runs.push((first, count));
        }
        for n in self.segments.range(low..).filter(|_| unbroken.is_none()).filter_map(wanted) {
            let full = runs.len() * 6 > bytes_max;
            match runs.last_mut() {
                Some((first, count)) if *first + *count == n => *count += 1,
                _ if full => break,
                _ => runs.push((n, 1)),
            }
        }
        let mut out = Vec::new();
        let cut = runs.last().is_some_and(|(first, count)| self.segments.range(first + count..).find_map(wanted).is_some());
        put(&mut out, if cut { runs.last().map_or(0, |(f, c)| f + c) } else { self.head });
        put(&mut out, runs.len() as u64);
        let mut before = 0;
        for (first, count) in runs {
            put(&mut out, first - before);
            put(&mut out, count);
            before = first + count;
        }
        for (n, seqs) in parts {
            if out.len() > 2 * bytes_max {
                break;
            }
            put(&mut out, n);
            put(&mut out, seqs.len() as u64);
            let mut before = 0;
            for seq in seqs {
                put(&mut out, seq - before);
                before = *seq;
            }
        }
        out
    }
}

/// What [`Ring::alive`] wrote, read back at the start.
#[derive(Debug, Clone, Default)]
pub struct Alive {
    end: u64,
    runs: Vec<(u64, u64)>,
    pub delivered: BTreeMap<u64, BTreeSet<u64>>,
}

impl Alive {
    pub fn read(bytes: &[u8]) -> Result<Alive, Corrupt> {
        let mut from = Bytes(bytes);
        let mut alive = Alive { end: from.get()?, ..Alive::default() };
        let mut before = 0u64;
        let overflow = Corrupt("a number is too large");
        for _ in 0..from.count()? {
            let first = before.checked_add(from.get()?).ok_or(overflow)?;
            let count = from.get()?;
            before = first.checked_add(count).ok_or(overflow)?;
            alive.runs.push((first, count));
        }
        while !from.0.is_empty() {
            let n = from.get()?;
            let mut seq = 0u64;
            let seqs = alive.delivered.entry(n).or_default();
            for _ in 0..from.count()? {
                seq = seq.checked_add(from.get()?).ok_or(overflow)?;
                seqs.insert(seq);
            }
        }
        Ok(alive)
    }

    /// All that it says below `end`.
    pub fn listed(&self, end: u64) -> impl Iterator<Item = u64> {
        let runs = self.runs.iter().flat_map(move |(first, count)| *first..first.saturating_add(*count).min(end));
        // A list of a damaged file may claim anything.
        runs.chain(self.end..end.max(self.end)).take(1 << 20)
    }

    pub fn contains(&self, n: u64) -> bool {
        n >= self.end || self.runs.iter().any(|(first, count)| (*first..*first + *count).contains(&n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(slot: u32, first: u64, count: u32) -> Segment {
        Segment {
            at: Boot(0),
            first,
            slot,
            epoch: 0,
            span: count - 1,
            left: count,
            samples: count,
            bytes: 1,
            boot: BootIndex(1),
            level: 0,
            done: 0,
        }
    }

    #[test]
    fn delivered_slots_are_used_again_oldest_first() {
        let mut ring = Ring::default();
        for n in 0..3u64 {
            let slot = ring.take_slot();
            ring.insert(n, segment(slot, n * 2 + 1, 2), BTreeSet::new());
        }
        for (n, seq) in [(1, 3), (1, 3), (1, 4), (0, 1), (0, 2), (2, 5)] {
            ring.deliver(n, seq, 1);
        }
        assert_eq!((ring.left, ring.head), (1, 3));
        assert_eq!([ring.take_slot(), ring.take_slot(), ring.take_slot()], [1, 0, 3]);
        assert!(ring.is_delivered(2, 5) && !ring.is_delivered(2, 6) && ring.is_delivered(0, 1));
    }

    #[test]
    fn what_is_alive_comes_back() {
        let mut ring = Ring::default();
        for n in 10..20u64 {
            let slot = ring.take_slot();
            ring.insert(n, segment(slot, n * 3, 3), BTreeSet::new());
        }
        for (n, seqs) in [(12, 36..39u64), (15, 45..48), (17, 51..53)] {
            seqs.for_each(|seq| ring.deliver(n, seq, 1));
        }
        let alive = Alive::read(&ring.alive(0, ring.segments.len() as u64, |_| true, ring.parts(), 1)).unwrap();
        let back: Vec<u64> = (0..22).filter(|n| alive.contains(*n)).collect();
        assert_eq!(back, [10, 11, 13, 14, 16, 17, 18, 19, 20, 21], "20 and on are not written yet");
        assert_eq!(alive.delivered, BTreeMap::from([(17, BTreeSet::from([51, 52]))]));
        assert!(Alive::read(&[1, 2]).is_err());
    }
}
