//! The writer's side: when a commit is due, what goes into it, and what became of it.

use super::{Core, Standing};
use crate::{
    model::{Boot, BootIndex, Epoch, Receipt, Sealed, Stream, event::Alive},
    store::spool::{gaps::Gap, ring::Segment},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

impl Core {
    /// When the writer must come round next.
    pub fn due(&self) -> Option<Boot> {
        let save = self.dues.first().map(|(at, _)| *at);
        let write = [save, self.flush_at].into_iter().flatten().min().map(|due| self.retry_at.map_or(due, |at| at.max(due)));
        let gaps = self.gaps.owes().then(|| self.gaps_retry_at.unwrap_or_default());
        [write, gaps].into_iter().flatten().min()
    }

    pub fn is_save_due(&self, now: Boot) -> bool {
        self.dues.first().is_some_and(|(at, _)| *at <= now) && self.retry_at.is_none_or(|at| at <= now)
    }

    pub fn is_flush_due(&self, now: Boot) -> bool {
        self.flush_at.is_some_and(|at| at <= now) && self.retry_at.is_none_or(|at| at <= now)
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
        self.ring.insert(n, segment, BTreeSet::new());
        for sealed in batches {
            let seq = sealed.key.seq;
            let Some(batch) = self.batches.get_mut(&(ours, seq)) else {
                self.ring.deliver(n, seq, sealed.samples());
                continue;
            };
            batch.segment = Some(n);
            batch.writing = false;
            receipts.append(&mut batch.receipts);
            self.dues.remove(&(batch.due, seq));
            self.unsaved.remove(&seq);
        }
        receipts
    }

    pub fn flushed(&mut self) {
        self.flush_at = None;
    }

    /// Segments to give up for so many bytes, oldest first. None with a batch in flight: its acknowledgement may be
    /// on the way. They are out of every list when this returns; [`Core::put_back`] undoes it.
    pub fn take_oldest(&mut self, bytes: u64) -> Vec<(u64, Segment, BTreeSet<u64>)> {
        let mut sum = 0u64;
        let mut chosen = Vec::new();
        for (n, s) in self.ring.by_age() {
            if sum >= bytes {
                break;
            }
            let in_flight = |b: &super::Batch| b.segment == Some(n) && b.standing == Standing::InFlight;
            if self.batches.range((s.epoch, s.first)..=(s.epoch, s.last())).any(|(_, b)| in_flight(b)) {
                continue;
            }
            sum += u64::from(s.bytes) + 512;
            chosen.push(n);
        }
        chosen.into_iter().filter_map(|n| self.take(n)).collect()
    }

    /// Takes one segment out of every list.
    pub fn take(&mut self, n: u64) -> Option<(u64, Segment, BTreeSet<u64>)> {
        let (segment, delivered) = self.ring.remove(n)?;
        let range = (segment.epoch, segment.first)..=(segment.epoch, segment.last());
        let places: Vec<_> = self.batches.range(range).filter(|(_, b)| b.segment == Some(n)).map(|(p, _)| *p).collect();
        for place in places {
            self.forget(place);
        }
        self.loaded.retain(|(_, of, _)| *of != n);
        self.hold(&segment);
        Some((n, segment, delivered))
    }

    /// Their gap could not be written, so they stay.
    pub fn put_back(&mut self, taken: Vec<(u64, Segment, BTreeSet<u64>)>) {
        self.let_go();
        for (n, segment, delivered) in taken {
            // What was loaded from later segments is read again after them.
            self.cursor = self.cursor.min(n);
            self.loaded.clear();
            self.ring.insert(n, segment, delivered);
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
            kept.push((*place, batch.samples, batch.due));
        }
        let ours = self.ours();
        for ((run, seq), samples, due) in kept {
            self.ring.deliver(n, seq, samples);
            // It is on no disk any more: to be written again, or a kill would lose it without a word.
            if run == ours {
                self.unsaved.insert(seq);
                self.dues.insert((due, seq));
            }
        }
        let Some((_, segment, delivered)) = self.take(n) else {
            return;
        };
        self.let_go();
        self.ring.free(segment.slot, segment.bytes);
        self.drop_samples(u64::from(segment.samples));
        let epoch = self.epoch_of(segment.epoch);
        for gap in super::super::gaps::ranges(epoch, segment.first..=segment.last(), &delivered, u64::from(segment.samples), Gap::DAMAGED) {
            self.gaps.owe(gap);
        }
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
        self.unsaved.first().copied()
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
            let lowest = (s.first..=s.last()).find(|seq| !self.ring.is_delivered(n, *seq)).unwrap_or(s.first);
            out.push(Alive { epoch, stream: Stream::Telemetry, lowest, highest: self.runs[s.epoch as usize].highest });
        }
        let epoch = self.epoch_of(ours);
        let unsaved = self.unsaved.first().copied().unwrap_or(self.last() + 1);
        match out.last_mut() {
            Some(a) if a.epoch == epoch => a.lowest = a.lowest.min(unsaved),
            _ => out.push(Alive { epoch, stream: Stream::Telemetry, lowest: unsaved, highest: self.last() }),
        }
        for (epoch, lowest) in &self.held {
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
