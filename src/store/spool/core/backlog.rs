//! What is late: back from the disk segment by segment, or again after a lost connection; oldest first.

use super::{Batch, Core, Next, ram_bytes};
use crate::{
    model::{Boot, Sealed, UplinkIndex},
    store::spool::ring::Place,
};
use std::sync::Arc;

impl Core {
    pub fn has_backlog(&mut self, u: UplinkIndex) -> bool {
        let u = usize::from(u.0);
        if u >= self.cursors.len() {
            return false;
        }
        self.skip_looked_through(u);
        !self.cursors[u].again.is_empty() || !self.cursors[u].loaded.is_empty() || self.next_segment(u).is_some()
    }

    /// The first segment from the cursor on of which it wants something.
    fn next_segment(&mut self, u: usize) -> Option<(u64, Place)> {
        let cursor = &mut self.cursors[u];
        let next = self.ring.from(cursor.at).find(|(_, s)| cursor.wants(s)).map(|(n, s)| (n, (s.epoch, s.first)));
        cursor.at = next.map_or(self.ring.head.max(cursor.at), |(n, _)| n);
        next
    }

    /// Segments of which every batch is known in RAM need not be read.
    fn skip_looked_through(&mut self, u: usize) {
        if !self.cursors[u].loaded.is_empty() {
            return;
        }
        while let Some((n, _)) = self.next_segment(u) {
            let (cursor, Some(s)) = (&self.cursors[u], self.ring.get(n)) else {
                return;
            };
            let ours = |b: &Batch| b.segment == Some(n) && b.held & cursor.bit != 0;
            let known = self.batches.range((s.epoch, s.first)..=(s.epoch, s.last())).filter(|(_, b)| ours(b)).count();
            if (known as u64) < cursor.of(n, s).0 {
                return;
            }
            self.cursors[u].at = n + 1;
        }
    }

    /// The oldest late batch, marked as in flight.
    pub fn next_backlog(&mut self, of: UplinkIndex) -> Next {
        let u = usize::from(of.0);
        if u >= self.cursors.len() {
            return Next::Nothing;
        }
        self.skip_looked_through(u);
        let ahead = self.cursors[u].loaded.front().map(|(place, ..)| (*place, None));
        let ahead = ahead.or_else(|| self.next_segment(u).map(|(n, place)| (place, Some(n))));
        match (self.cursors[u].again.first().copied(), ahead) {
            (Some(again), ahead) if ahead.is_none_or(|(place, _)| again < place) => self.send_again(u, again),
            (_, Some((_, Some(n)))) => Next::Load(n),
            (_, Some((_, None))) => match self.cursors[u].loaded.pop_front() {
                Some((place, n, sealed)) => Next::Ready(self.track(u, place, n, sealed)),
                None => Next::Nothing,
            },
            (_, None) => Next::Nothing,
        }
    }

    fn send_again(&mut self, u: usize, place: Place) -> Next {
        let cursor = &mut self.cursors[u];
        let Some(batch) = self.batches.get_mut(&place) else {
            cursor.again.remove(&place);
            return Next::Nothing;
        };
        match (&batch.sealed, batch.segment) {
            (Some(sealed), _) => {
                batch.flight |= cursor.bit;
                cursor.again.remove(&place);
                Next::Ready(Arc::clone(sealed))
            }
            (None, Some(n)) => Next::Load(n),
            (None, None) => Next::Nothing,
        }
    }

    /// From the disk to in flight. Another uplink may hold it here already.
    fn track(&mut self, u: usize, place: Place, n: u64, sealed: Arc<Sealed>) -> Arc<Sealed> {
        let (bit, owed) = (self.cursors[u].bit, self.owed(n, place.1));
        let bytes = ram_bytes(&sealed);
        let batch = self.batches.entry(place).or_insert_with(|| Batch {
            sealed: None,
            owed,
            held: 0,
            flight: 0,
            at: Boot(0),
            due: Boot(0),
            receipts: Vec::new(),
            samples: sealed.samples(),
            bytes,
            segment: Some(n),
            writing: false,
        });
        batch.held |= bit;
        batch.flight |= bit;
        if batch.sealed.is_none() {
            self.ram_bytes += batch.bytes;
        }
        Arc::clone(batch.sealed.get_or_insert(sealed))
    }

    /// A segment was read for this uplink. What it does not know of it yet is to be sent; what was let go has its data
    /// again.
    pub fn loaded(&mut self, of: UplinkIndex, n: u64, batches: Vec<Sealed>) {
        let u = usize::from(of.0);
        let Some(segment) = self.ring.get(n) else {
            return;
        };
        let epoch = segment.epoch;
        self.count_anew(n, &batches);
        let is_next = self.next_segment(u).is_some_and(|(next, _)| next == n);
        for sealed in batches {
            let place = (epoch, sealed.key.seq);
            let sealed = match self.batches.get_mut(&place) {
                Some(batch) if batch.sealed.is_none() => {
                    self.ram_bytes += batch.bytes;
                    Arc::clone(batch.sealed.insert(Arc::new(sealed)))
                }
                Some(batch) => batch.sealed.clone().unwrap_or_else(|| Arc::new(sealed)),
                None => Arc::new(sealed),
            };
            let bit = self.cursors[u].bit;
            let is_held = self.batches.get(&place).is_some_and(|b| b.held & bit != 0);
            if is_next && !is_held && !self.has(&self.cursors[u], n, place.1) {
                self.cursors[u].loaded.push_back((place, n, sealed));
            }
        }
        if is_next {
            self.cursors[u].at = n + 1;
        }
    }

    /// After a restart the samples of a segment that was delivered in part were an estimate.
    fn count_anew(&mut self, n: u64, batches: &[Sealed]) {
        let left: u64 = batches.iter().filter(|b| !self.ring.is_delivered(n, b.key.seq)).map(Sealed::samples).sum();
        let thought = self.ring.set_samples(n, left);
        let Some(segment) = self.ring.get(n) else {
            return;
        };
        for cursor in self.cursors.iter_mut().filter(|c| c.bit & segment.done == 0) {
            let (mut had, mut has) = (0, 0);
            if let Some(part) = cursor.partial.get_mut(&n) {
                has = batches.iter().filter(|b| part.seqs.contains(&b.key.seq)).map(Sealed::samples).sum();
                had = std::mem::replace(&mut part.samples, has);
            }
            cursor.waiting_samples = (cursor.waiting_samples + left + had).saturating_sub(thought + has);
        }
    }
}
