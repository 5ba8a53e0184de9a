//! The writer's hands on segments that are to be thinned.

use super::{Core, cursor::Cursor, saving::Taken};
use crate::{
    model::{BootIndex, UplinkId},
    store::spool::ring::Segment,
};
use std::collections::BTreeSet;

impl Core {
    /// Only optional uplinks want it: for their sake nothing is thinned, they lose it.
    pub(super) fn is_spare(&self, segment: &Segment) -> bool {
        self.all != self.required && segment.done & self.required == self.required
    }

    /// A batch of it is on its way, and its acknowledgement may be as well.
    pub(super) fn is_in_flight(&self, n: u64, s: &Segment) -> bool {
        self.batches.range((s.epoch, s.first)..=(s.epoch, s.last())).any(|(_, b)| b.segment == Some(n) && b.flight != 0)
    }

    /// What only optional uplinks want, oldest first, so much that `bytes` are free.
    pub fn take_spare(&mut self, bytes: u64) -> Vec<Taken> {
        if self.all == self.required {
            return Vec::new();
        }
        let mut sum = 0u64;
        let mut chosen = Vec::new();
        for (n, s) in self.ring.from(0).filter(|(n, s)| self.is_spare(s) && !self.is_in_flight(*n, s)) {
            if sum >= bytes {
                break;
            }
            sum += u64::from(s.bytes);
            chosen.push(n);
        }
        chosen.into_iter().filter_map(|n| self.take(n)).collect()
    }

    /// The oldest segments of one level and one boot that the same uplinks want, up to so many bytes. None with a batch in
    /// flight, and with several uplinks none of which one of them has a part: what is left of it is not the same for all.
    /// They are out of every list when this returns; [`Core::put_back`] undoes it.
    pub fn take_to_thin(&mut self, level: u8, bytes: u64) -> Vec<Taken> {
        let mut sum = 0u64;
        let mut alike: Option<(BootIndex, u8)> = None;
        let mut chosen = Vec::new();
        for (n, s) in self.ring.of_level(level) {
            let is_split = !self.is_alone() && self.cursors.iter().any(|c| c.partial.contains_key(&n));
            if is_split || self.is_spare(s) || self.is_in_flight(n, s) {
                continue;
            }
            if sum >= bytes || alike.is_some_and(|alike| alike != (s.boot, s.done)) {
                break;
            }
            alike = Some((s.boot, s.done));
            sum += u64::from(s.bytes);
            chosen.push(n);
        }
        chosen.into_iter().filter_map(|n| self.take(n)).collect()
    }

    /// So many new numbers of our epoch, if all numbers so far are on the disk, delivered or announced: a hole below
    /// the highest number on the disk would be a loss that nobody names.
    pub fn draw_numbers(&mut self, count: u64) -> Option<u64> {
        if !self.unsaved.is_empty() {
            return None;
        }
        let run = self.run();
        run.highest += count;
        Some(run.highest - count + 1)
    }

    /// They were not used. `false`: others were drawn since, so these must be announced.
    pub fn undraw_numbers(&mut self, first: u64, count: u64) -> bool {
        let run = self.run();
        let is_last = run.highest + 1 == first + count;
        if is_last {
            run.highest -= count;
        }
        is_last
    }

    /// A segment that stands for others, which a committed gap event names.
    pub fn thinned(&mut self, n: u64, segment: Segment, taken: &[Taken]) {
        let samples = u64::from(segment.samples);
        let before: u64 = taken.iter().map(|t| u64::from(t.segment.samples)).sum();
        let fresh: u64 = taken.iter().filter(|t| t.segment.level == 0).map(|t| u64::from(t.segment.samples)).sum();
        // After a restart the samples of a segment that was delivered in part were an estimate.
        self.counts.thinned_samples += if fresh == before { samples } else { fresh };
        for t in taken {
            self.ring.free(t.segment.slot, t.segment.bytes);
            self.unhold(t.n);
        }
        self.cursors.iter_mut().filter(|c| c.wants(&segment)).for_each(|c| c.restore(n, &segment, None));
        self.ring.insert(n, segment, BTreeSet::new());
        self.moved = true;
    }

    /// The uplinks that want nothing of such a segment, by name.
    pub fn done_with(&self, segment: &Segment) -> Vec<UplinkId> {
        self.cursors.iter().filter(|c| !c.wants(segment)).map(|c| c.holder.id.clone()).collect()
    }

    pub fn our_boot(&self) -> BootIndex {
        self.runs.last().map_or(BootIndex(0), |r| r.boot)
    }

    /// In the writer's hands, in no list: still to come, as far as anybody knows.
    pub(super) fn hold(&mut self, n: u64, segment: &Segment) {
        let lowest = (self.epoch_of(segment.epoch), segment.first);
        self.in_hand.insert(n, lowest);
    }

    pub(super) fn unhold(&mut self, n: u64) {
        self.in_hand.remove(&n);
    }

    /// The cursors as they are written with a commit, in which the segments that the writer has in its hands count as there,
    /// and so does the one that is written with it.
    pub fn written_holding(&mut self, in_hand: &[Taken], new: Option<(u64, &Segment)>) -> Vec<u8> {
        let head = self.ring.head;
        let new = new.map(|(n, s)| Taken { n, segment: s.clone(), delivered: BTreeSet::new(), parts: vec![None; self.cursors.len()] });
        let lent: Vec<&Taken> = in_hand.iter().chain(&new).collect();
        for t in &lent {
            let wanting = |(c, _): &(&mut Cursor, _)| c.wants(&t.segment);
            for (cursor, part) in self.cursors.iter_mut().zip(&t.parts).filter(wanting) {
                cursor.segments += 1;
                cursor.low = cursor.low.min(t.n);
                cursor.partial.extend(part.clone().map(|part| (t.n, part)));
            }
            self.ring.insert(t.n, t.segment.clone(), t.delivered.clone());
        }
        let written = self.written();
        for t in &lent {
            for cursor in self.cursors.iter_mut().filter(|c| c.wants(&t.segment)) {
                cursor.segments -= 1;
                cursor.partial.remove(&t.n);
                cursor.low = cursor.low.min(t.n);
            }
            self.ring.remove(t.n);
        }
        self.ring.head = head;
        written
    }
}
