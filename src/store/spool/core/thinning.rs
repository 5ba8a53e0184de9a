//! The writer's hands on segments that are to be thinned.

use super::{Batch, Core, Standing};
use crate::{model::BootIndex, store::spool::ring::Segment};
use std::collections::BTreeSet;

impl Core {
    /// The oldest segments of one level and one boot, up to so many bytes. None with a batch in flight: its
    /// acknowledgement may be on the way.
    /// They are out of every list when this returns; [`Core::put_back`] undoes it.
    pub fn take_to_thin(&mut self, level: u8, bytes: u64) -> Vec<(u64, Segment, BTreeSet<u64>)> {
        let mut sum = 0u64;
        let mut boot = None;
        let mut chosen = Vec::new();
        for (n, s) in self.ring.of_level(level) {
            if sum >= bytes || boot.is_some_and(|boot| boot != s.boot) {
                break;
            }
            let in_flight = |b: &Batch| b.segment == Some(n) && b.standing == Standing::InFlight;
            if self.batches.range((s.epoch, s.first)..=(s.epoch, s.last())).any(|(_, b)| in_flight(b)) {
                continue;
            }
            boot = Some(s.boot);
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
    pub fn thinned(&mut self, n: u64, segment: Segment, taken: &[(u64, Segment, BTreeSet<u64>)]) {
        let samples = u64::from(segment.samples);
        let before: u64 = taken.iter().map(|(_, s, _)| u64::from(s.samples)).sum();
        // After a restart the samples of a segment that was delivered in part were an estimate.
        self.counts.waiting_samples = (self.counts.waiting_samples + samples).saturating_sub(before);
        let fresh: u64 = taken.iter().filter(|(_, s, _)| s.level == 0).map(|(_, s, _)| u64::from(s.samples)).sum();
        self.counts.thinned_samples += if fresh == before { samples } else { fresh };
        taken.iter().for_each(|(_, s, _)| self.ring.free(s.slot, s.bytes));
        self.ring.insert(n, segment, BTreeSet::new());
        self.let_go();
    }

    pub fn our_boot(&self) -> BootIndex {
        self.runs.last().map_or(BootIndex(0), |r| r.boot)
    }

    /// In the writer's hands, in no list.
    pub fn hold(&mut self, segment: &Segment) {
        let lowest = self.held.entry(self.epoch_of(segment.epoch)).or_insert(segment.first);
        *lowest = segment.first.min(*lowest);
    }

    /// Nothing is in the writer's hands any more.
    pub fn let_go(&mut self) {
        self.held.clear();
    }
}
