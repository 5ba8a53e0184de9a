//! The writer's side: when a commit is due, what goes into it, and what became of it.

use super::{
    Core,
    cursor::{Cursor, Partial},
};
use crate::{
    model::{Boot, BootIndex, Epoch, Receipt, Sealed, Stream, UplinkId, event::Alive},
    store::spool::{gaps::Gap, ring::Segment},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// A segment out of every list.
#[derive(Debug)]
pub struct Taken {
    pub n: u64,
    pub segment: Segment,
    /// To all uplinks.
    pub delivered: BTreeSet<u64>,
    /// By uplink: what else it has.
    pub(super) parts: Vec<Option<Partial>>,
}

impl Taken {
    fn wanted(&self, cursor: &Cursor, part: Option<&Partial>) -> u64 {
        let samples = u64::from(self.segment.samples).saturating_sub(part.map_or(0, |p| p.samples));
        if cursor.wants(&self.segment) { samples } else { 0 }
    }
}

impl Core {
    /// When the writer must come round next.
    pub fn due(&self) -> Option<Boot> {
        let save = self.first_due();
        let write = [save, self.flush_at].into_iter().flatten().min().map(|due| self.retry_at.map_or(due, |at| at.max(due)));
        let replace = self.replacing.wanted().then(|| self.retry_at.unwrap_or_default());
        let gaps = self.gaps.owes().then(|| self.gaps_retry_at.unwrap_or_default());
        [write, replace, gaps].into_iter().flatten().min()
    }

    /// What waits for optional uplinks only has time, as long as there is room.
    fn first_due(&self) -> Option<Boot> {
        let crowded = self.all != self.required && self.unsaved_bytes > self.room.ram_bytes / 2;
        self.dues.first().map(|(at, _)| if crowded { Boot(0) } else { *at })
    }

    pub fn is_save_due(&self, now: Boot) -> bool {
        self.first_due().is_some_and(|at| at <= now) && self.retry_at.is_none_or(|at| at <= now)
    }

    pub fn is_flush_due(&self, now: Boot) -> bool {
        self.flush_at.is_some_and(|at| at <= now) && self.retry_at.is_none_or(|at| at <= now)
    }

    pub fn is_replace_due(&self, now: Boot) -> bool {
        self.replacing.wanted() && self.retry_at.is_none_or(|at| at <= now)
    }

    pub fn are_gaps_due(&self, now: Boot) -> bool {
        self.gaps.owes() && self.gaps_retry_at.is_none_or(|at| at <= now)
    }

    /// state.db could not take them.
    pub fn gaps_failed(&mut self, gaps: Vec<Gap>, now: Boot) {
        self.gaps.give_back(gaps);
        self.gaps_retry_at = Some(now + crate::limits::WRITE_RETRY_MIN);
    }

    /// Nothing is written within a second of a failure, so that a failing disk is not hammered.
    pub fn failed(&mut self, now: Boot, wait: Duration) {
        self.retry_at = Some(now + wait);
    }

    pub fn worked(&mut self) {
        self.retry_at = None;
    }

    /// Everything that is not acknowledged and not saved, oldest first, as much as one segment takes.
    pub fn begin_save(&mut self, samples_max: u64) -> Vec<Arc<Sealed>> {
        let ours = self.ours();
        let mut samples = 0;
        let mut out: Vec<Arc<Sealed>> = Vec::new();
        for seq in &self.unsaved {
            let Some(batch) = self.batches.get_mut(&(ours, *seq)) else {
                continue;
            };
            let Some(sealed) = &batch.sealed else {
                continue;
            };
            samples += batch.samples;
            if !out.is_empty() && samples > samples_max {
                break;
            }
            batch.writing = true;
            out.push(Arc::clone(sealed));
        }
        out
    }

    /// When the oldest of these was sealed.
    pub fn sealed_at(&self, batches: &[Arc<Sealed>]) -> Option<Boot> {
        batches.iter().find_map(|b| self.batches.get(&(self.ours(), b.key.seq))).map(|b| b.at)
    }

    /// They were not written, or not these: all are free again.
    pub fn end_save(&mut self, batches: &[Arc<Sealed>]) {
        let ours = self.ours();
        for sealed in batches {
            if let Some(batch) = self.batches.get_mut(&(ours, sealed.key.seq)) {
                batch.writing = false;
            }
        }
    }

    /// They are durable as segment `n`. Gives their receipts. What was acknowledged meanwhile is delivered at once.
    pub fn saved(&mut self, n: u64, segment: Segment, batches: &[Arc<Sealed>]) -> Vec<Receipt> {
        let ours = self.ours();
        let mut receipts = Vec::new();
        self.cursors.iter_mut().for_each(|c| c.add(n, &segment, None));
        self.ring.insert(n, segment, BTreeSet::new());
        for sealed in batches {
            let seq = sealed.key.seq;
            let mut owed = 0;
            if let Some(batch) = self.batches.get_mut(&(ours, seq)) {
                batch.segment = Some(n);
                batch.writing = false;
                receipts.append(&mut batch.receipts);
                owed = batch.owed;
                if self.unsaved.remove(&seq) {
                    self.unsaved_bytes -= batch.bytes;
                }
                self.dues.remove(&(batch.due, seq));
            }
            if owed != self.all {
                let has = |u: &usize| self.cursors[*u].bit & owed == 0;
                let have: Vec<usize> = (0..self.cursors.len()).filter(has).collect();
                have.into_iter().for_each(|u| self.mark(u, n, seq, sealed.samples()));
            }
        }
        receipts
    }

    pub fn flushed(&mut self) {
        self.flush_at = None;
    }

    /// Whether a commit must say how far each uplink is. A new segment says for itself that nobody has it.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// What was to say it failed.
    pub fn not_said(&mut self) {
        self.moved = true;
    }

    /// Segments to give up for `bytes` of room: those that only optional uplinks want, then the oldest. None with a
    /// batch in flight: its acknowledgement may be on the way. They are out of every list when this returns;
    /// [`Core::put_back`] undoes it.
    pub fn take_oldest(&mut self, bytes: u64) -> Vec<Taken> {
        let mut sum = 0u64;
        let mut chosen = BTreeSet::new();
        for pass in [true, false] {
            for (n, s) in self.ring.by_age().filter(|(_, s)| self.is_spare(s) == pass) {
                if sum >= bytes {
                    break;
                }
                if self.is_in_flight(n, s) {
                    continue;
                }
                sum += u64::from(s.bytes) + 512;
                chosen.insert(n);
            }
        }
        chosen.into_iter().filter_map(|n| self.take(n)).collect()
    }

    /// Takes one segment out of every list.
    pub fn take(&mut self, n: u64) -> Option<Taken> {
        let segment = self.ring.get(n)?;
        self.moved = true;
        let range = (segment.epoch, segment.first)..=(segment.epoch, segment.last());
        let places: Vec<_> = self.batches.range(range).filter(|(_, b)| b.segment == Some(n)).map(|(p, _)| *p).collect();
        let parts = self.cursors.iter_mut().map(|c| if c.wants(segment) { c.remove(n, segment) } else { None }).collect();
        let (segment, delivered) = self.ring.remove(n)?;
        for place in places {
            self.forget(place);
        }
        self.hold(n, &segment);
        Some(Taken { n, segment, delivered, parts })
    }

    /// Their gap could not be written, so they stay.
    pub fn put_back(&mut self, taken: Vec<Taken>) {
        for Taken { n, segment, delivered, parts } in taken {
            self.unhold(n);
            for (cursor, part) in self.cursors.iter_mut().zip(parts).filter(|(c, _)| c.wants(&segment)) {
                // What was loaded is read again, after them.
                let loaded = cursor.loaded.iter().map(|(_, of, _)| *of).min();
                cursor.at = cursor.at.min(loaded.unwrap_or(n));
                cursor.loaded.clear();
                cursor.restore(n, &segment, part);
            }
            self.ring.insert(n, segment, delivered);
        }
        self.moved = true;
    }

    /// These are given up for good: their gaps are committed. Their rows may go.
    pub fn given_up(&mut self, taken: &[Taken]) {
        for t in taken {
            let lost: Vec<u64> = self.cursors.iter().zip(&t.parts).map(|(c, part)| t.wanted(c, part.as_ref())).collect();
            self.cursors.iter_mut().zip(&lost).for_each(|(c, lost)| c.dropped_samples += lost);
            let required = self.cursors.iter().zip(&lost).filter(|(c, _)| c.holder.required).map(|(_, lost)| *lost).max();
            self.drop_samples(required.unwrap_or(0));
            self.ring.free(t.segment.slot, t.segment.bytes);
            self.unhold(t.n);
        }
    }

    /// A segment on the disk is damaged: all that is not delivered of it is a gap.
    pub fn damaged(&mut self, n: u64) {
        let Some(segment) = self.ring.get(n) else {
            return;
        };
        // What is in RAM anyway is still sent.
        let range = (segment.epoch, segment.first)..=(segment.epoch, segment.last());
        let held = self.batches.range_mut(range).filter(|(_, b)| b.segment == Some(n) && b.sealed.is_some());
        let mut kept = Vec::new();
        for (place, batch) in held {
            batch.segment = None;
            // Nobody can read it from the ring now.
            for cursor in self.cursors.iter_mut().filter(|c| c.bit & batch.owed & !batch.held != 0) {
                cursor.again.insert(*place);
            }
            batch.held = batch.owed;
            kept.push((*place, batch.samples, batch.due, batch.bytes));
        }
        let ours = self.ours();
        for ((run, seq), samples, due, bytes) in kept {
            for cursor in &mut self.cursors {
                cursor.loaded.retain(|(place, ..)| *place != (run, seq));
            }
            (0..self.cursors.len()).for_each(|u| self.mark(u, n, seq, samples));
            // It is on no disk any more: to be written again, or a kill would lose it without a word.
            if run == ours && self.unsaved.insert(seq) {
                self.unsaved_bytes += bytes;
                self.dues.insert((due, seq));
            }
        }
        let Some(taken) = self.take(n) else {
            return;
        };
        let epoch = self.epoch_of(taken.segment.epoch);
        let reason = || Gap::DAMAGED;
        for (uplink, segment, delivered) in self.losers(&taken) {
            let all = segment.first..=segment.last();
            for gap in super::super::gaps::ranges(epoch, all, &delivered, u64::from(segment.samples), reason()) {
                self.gaps.owe(Gap { uplink: uplink.clone(), ..gap });
            }
        }
        self.given_up(&[taken]);
    }

    /// Whom the loss of a segment concerns, with what of it was delivered: everybody alike, or each by name.
    pub fn losers(&self, t: &Taken) -> Vec<(Option<UplinkId>, Segment, BTreeSet<u64>)> {
        if t.segment.done == 0 && t.parts.iter().all(Option::is_none) {
            return vec![(None, t.segment.clone(), t.delivered.clone())];
        }
        let wanting = self.cursors.iter().zip(&t.parts).filter(|(c, _)| c.wants(&t.segment));
        let one = |(cursor, part): (&Cursor, &Option<Partial>)| {
            let (mut segment, mut delivered) = (t.segment.clone(), t.delivered.clone());
            segment.samples = u32::try_from(t.wanted(cursor, part.as_ref())).unwrap_or(u32::MAX);
            if let Some(part) = part {
                segment.left = segment.left.saturating_sub(u32::try_from(part.seqs.len()).unwrap_or(u32::MAX));
                delivered.extend(&part.seqs);
            }
            (Some(cursor.holder.id.clone()), segment, delivered)
        };
        wanting.map(one).collect()
    }

    pub fn epoch_of(&self, run: u32) -> Epoch {
        self.runs.get(run as usize).map_or(Epoch(0), |r| r.epoch)
    }

    /// When the oldest that waits was sealed, and on which boot's clock.
    pub fn oldest(&self) -> Option<(BootIndex, Boot)> {
        let boot = self.our_boot();
        let saved = self.ring.by_age().next().map(|(_, s)| (s.boot, s.at));
        let unsaved = self.unsaved.first().and_then(|seq| self.batches.get(&(self.ours(), *seq))).map(|b| (boot, b.at));
        [saved, unsaved].into_iter().flatten().min()
    }

    pub fn first_unsaved(&self) -> Option<u64> {
        [self.unsaved.first().copied(), self.replacing.first_reserved()].into_iter().flatten().min()
    }

    pub fn waiting_batches(&self) -> u64 {
        self.ring.left + self.unsaved.len() as u64
    }

    /// Per epoch that still has something to come, and ours in any case.
    pub fn alive(&self) -> Vec<Alive> {
        let mut out: Vec<Alive> = Vec::new();
        let ours = self.ours();
        for (n, s) in self.ring.from(0) {
            let epoch = self.epoch_of(s.epoch);
            if out.last().is_some_and(|a| a.epoch == epoch) {
                continue;
            }
            let lowest = (s.first..=s.last()).find(|seq| self.owed(n, *seq) != 0).unwrap_or(s.first);
            out.push(Alive { epoch, stream: Stream::Telemetry, lowest, highest: self.runs[s.epoch as usize].highest });
        }
        let epoch = self.epoch_of(ours);
        let unsaved = self.first_unsaved().unwrap_or(self.last() + 1);
        match out.last_mut() {
            Some(a) if a.epoch == epoch => a.lowest = a.lowest.min(unsaved),
            _ => out.push(Alive { epoch, stream: Stream::Telemetry, lowest: unsaved, highest: self.last() }),
        }
        for (epoch, lowest) in self.in_hand.values() {
            match out.iter_mut().find(|a| a.epoch == *epoch) {
                Some(a) => a.lowest = a.lowest.min(*lowest),
                None => {
                    let highest = self.runs.iter().find(|r| r.epoch == *epoch).map_or(*lowest, |r| r.highest);
                    out.insert(0, Alive { epoch: *epoch, stream: Stream::Telemetry, lowest: *lowest, highest });
                }
            }
        }
        out
    }
}
