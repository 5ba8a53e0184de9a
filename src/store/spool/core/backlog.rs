//! What is late: back from the disk segment by segment, or again after a lost connection; oldest first.

use super::{Batch, Core, Next, Standing, ram_bytes};
use crate::{
    model::{Boot, Sealed},
    store::spool::ring::Place,
};
use std::sync::Arc;

impl Core {
    pub fn has_backlog(&mut self) -> bool {
        self.skip_looked_through();
        !self.again.is_empty() || !self.loaded.is_empty() || self.ring.from(self.cursor).next().is_some()
    }

    /// Segments of which every batch is known in RAM need not be read.
    fn skip_looked_through(&mut self) {
        if !self.loaded.is_empty() {
            return;
        }
        while let Some((n, s)) = self.ring.from(self.cursor).next() {
            let known = self.batches.range((s.epoch, s.first)..=(s.epoch, s.last())).filter(|(_, b)| b.segment == Some(n)).count();
            if known < s.left as usize {
                return;
            }
            self.cursor = n + 1;
        }
    }

    /// The oldest late batch, marked as in flight.
    pub fn next_backlog(&mut self) -> Next {
        self.skip_looked_through();
        let ahead = self.loaded.front().map(|(place, ..)| (*place, None));
        let ahead = ahead.or_else(|| self.ring.from(self.cursor).next().map(|(n, s)| ((s.epoch, s.first), Some(n))));
        match (self.again.first().copied(), ahead) {
            (Some(again), ahead) if ahead.is_none_or(|(place, _)| again < place) => self.send_again(again),
            (_, Some((_, Some(n)))) => Next::Load(n),
            (_, Some((_, None))) => match self.loaded.pop_front() {
                Some((place, n, sealed)) => {
                    self.track(place, n, &sealed);
                    Next::Ready(sealed)
                }
                None => Next::Nothing,
            },
            (_, None) => Next::Nothing,
        }
    }

    fn send_again(&mut self, place: Place) -> Next {
        let Some(batch) = self.batches.get_mut(&place) else {
            self.again.remove(&place);
            return Next::Nothing;
        };
        match (&batch.sealed, batch.segment) {
            (Some(sealed), _) => {
                batch.standing = Standing::InFlight;
                self.again.remove(&place);
                Next::Ready(Arc::clone(sealed))
            }
            (None, Some(n)) => Next::Load(n),
            (None, None) => Next::Nothing,
        }
    }

    /// From the disk to in flight.
    fn track(&mut self, place: Place, n: u64, sealed: &Arc<Sealed>) {
        let bytes = ram_bytes(sealed);
        self.ram_bytes += bytes;
        let batch = Batch {
            sealed: Some(Arc::clone(sealed)),
            standing: Standing::InFlight,
            at: Boot(0),
            due: Boot(0),
            receipts: Vec::new(),
            samples: sealed.samples(),
            bytes,
            segment: Some(n),
            writing: false,
        };
        self.batches.insert(place, batch);
    }

    /// A segment was read. What nobody knows of it yet is to be sent; what was let go has its data again.
    pub fn loaded(&mut self, n: u64, batches: Vec<Sealed>) {
        let Some(segment) = self.ring.get(n) else {
            return;
        };
        let epoch = segment.epoch;
        // After a restart the samples of a segment that was delivered in part were an estimate.
        let left = batches.iter().filter(|b| !self.ring.is_delivered(n, b.key.seq)).map(Sealed::samples).sum();
        let estimate = self.ring.set_samples(n, left);
        self.counts.waiting_samples = (self.counts.waiting_samples + left).saturating_sub(estimate);
        let is_next = self.ring.from(self.cursor).next().is_some_and(|(next, _)| next == n);
        for sealed in batches {
            let place = (epoch, sealed.key.seq);
            if let Some(batch) = self.batches.get_mut(&place) {
                if batch.sealed.is_none() {
                    self.ram_bytes += batch.bytes;
                    batch.sealed = Some(Arc::new(sealed));
                }
            } else if is_next && !self.ring.is_delivered(n, place.1) {
                self.loaded.push_back((place, n, Arc::new(sealed)));
            }
        }
        if is_next {
            self.cursor = n + 1;
        }
    }
}
