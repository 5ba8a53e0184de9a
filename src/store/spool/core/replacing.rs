//! Numbers that are given up for others: a batch that the broker refuses goes on in parts, or without what was put aside.
//!
//! ```text
//! in flight ──replace──► asked ──the writer: gap event, then one transaction──► gone; its parts are late batches
//!                          └─ a write failed: the numbers of the parts are a gap of nothing, and it is asked again
//! ```
//! Invariants: parts are offered only when they are durable and the old batch is gone in the same transaction, so no
//! crash leaves both; until then the old one is offered to nobody; parts keep the boot of their rows.

use super::{Batch, Core, Standing, ram_bytes, tidy};
use crate::{
    model::{Boot, BootIndex, Frame, Key, Receipt, Replaced, Sealed, Stream},
    store::spool::{
        Outgoing, Spool,
        gaps::Gap,
        ring::{Place, Segment},
    },
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

/// What stands for a batch, or with no `old` comes back from the dead letters.
#[derive(Debug)]
struct Request {
    old: Option<Key>,
    boot: BootIndex,
    parts: Vec<Vec<Frame>>,
    lost: u64,
    reason: String,
    /// Kept when the parts are durable.
    receipts: Vec<Receipt>,
}

/// A request that has its numbers.
#[derive(Debug)]
pub struct Reserved {
    request: Request,
    pub parts: Vec<Arc<Sealed>>,
    pub gap: Option<Gap>,
}

#[derive(Debug, Default)]
pub struct Replacing {
    requests: VecDeque<Request>,
    /// Numbers that were given out and are in no list yet.
    reserved: Option<u64>,
    /// Parts that are not acknowledged, to be sent before other late batches when asked for.
    parts: BTreeSet<Place>,
}

impl Replacing {
    pub fn wanted(&self) -> bool {
        !self.requests.is_empty()
    }

    pub fn first_reserved(&self) -> Option<u64> {
        self.reserved
    }
}

impl Core {
    /// The batch is offered to nobody from now on. Neither in flight nor returned from there: nothing happens.
    fn ask(&mut self, old: Key, parts: Vec<Vec<Frame>>, lost: u64, reason: String) -> bool {
        let Some(place) = self.place(old) else { return false };
        // With the connection lost meanwhile it may wait to be sent again.
        let waits = self.again.contains(&place);
        let Some(batch) = self.batches.get_mut(&place).filter(|b| waits || b.standing == Standing::InFlight) else { return false };
        let Some(boot) = batch.sealed.as_ref().map(|sealed| sealed.boot) else { return false };
        // Late, but not in the list of what is sent again.
        batch.standing = Standing::Again;
        self.again.remove(&place);
        self.replacing.requests.push_back(Request { old: Some(old), boot, parts, lost, reason, receipts: Vec::new() });
        true
    }

    /// Gives numbers to the next request. `None`: there is none, or older batches must be saved first.
    pub fn reserve(&mut self) -> Option<Reserved> {
        if !self.unsaved.is_empty() {
            return None;
        }
        loop {
            let request = self.replacing.requests.pop_front()?;
            let old = request.old.map(|key| self.place(key).filter(|place| self.batches.contains_key(place)));
            // It was given up at a limit meanwhile, and a gap says so.
            if old == Some(None) {
                continue;
            }
            let samples = old.flatten().and_then(|place| self.batches.get(&place)).map_or(0, |b| b.samples);
            let (epoch, first) = (self.run().epoch, self.last() + 1);
            let mut parts: Vec<Arc<Sealed>> = Vec::new();
            for frames in &request.parts {
                let frames: Vec<Frame> = frames.iter().cloned().filter_map(tidy).collect();
                if !frames.is_empty() {
                    let key = Key { epoch, stream: Stream::Telemetry, seq: first + parts.len() as u64 };
                    parts.push(Arc::new(Sealed { key, boot: request.boot, frames }));
                }
            }
            if let Some(last) = parts.last() {
                self.run().highest = last.key.seq;
                self.replacing.reserved = Some(first);
            }
            let replaced_by = parts.last().map(|last| Replaced { epoch, from: first, to: last.key.seq });
            let gap = request.old.map(|key| Gap {
                epoch: key.epoch,
                from: key.seq,
                to: key.seq,
                samples,
                reason: request.reason.clone().into(),
                replaced_by,
            });
            return Some(Reserved { request, parts, gap });
        }
    }

    /// Where the old batch is on the disk: segment, number, samples.
    pub fn retired(&self, reserved: &Reserved) -> Option<(u64, u64, u64)> {
        let place = self.place(reserved.request.old?)?;
        let batch = self.batches.get(&place)?;
        Some((batch.segment?, place.1, batch.samples))
    }

    /// It could not be written: its numbers are given up, and it is asked again.
    pub fn not_replaced(&mut self, reserved: Reserved) {
        let Reserved { request, parts, .. } = reserved;
        if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
            let reason = "not used: the disk could not be written".into();
            self.gaps.owe(Gap { epoch: first.key.epoch, from: first.key.seq, to: last.key.seq, samples: 0, reason, replaced_by: None });
        }
        self.replacing.reserved = None;
        self.replacing.requests.push_front(request);
    }

    /// The parts are durable and the old batch is not. Gives the receipts of the old one.
    pub fn replaced(&mut self, reserved: &mut Reserved, segment: Option<(u64, Segment)>, now: Boot) -> Vec<Receipt> {
        self.replacing.reserved = None;
        let ours = self.ours();
        let n = segment.as_ref().map(|(n, _)| *n);
        if let Some((n, segment)) = segment {
            self.ring.insert(n, segment, BTreeSet::new());
        }
        for sealed in &reserved.parts {
            let (place, samples, bytes) = ((ours, sealed.key.seq), sealed.samples(), ram_bytes(sealed));
            let batch = Batch {
                sealed: Some(Arc::clone(sealed)),
                standing: Standing::Again,
                at: now,
                due: Boot(0),
                receipts: Vec::new(),
                samples,
                bytes,
                segment: n,
                writing: false,
            };
            self.ram_bytes += bytes;
            self.counts.waiting_samples += samples;
            self.batches.insert(place, batch);
            self.again.insert(place);
            self.replacing.parts.insert(place);
        }
        let mut receipts = std::mem::take(&mut reserved.request.receipts);
        let Some(place) = reserved.request.old.and_then(|key| self.place(key)) else { return receipts };
        let Some(mut batch) = self.forget(place) else { return receipts };
        receipts.append(&mut batch.receipts);
        self.counts.waiting_samples = self.counts.waiting_samples.saturating_sub(batch.samples);
        self.counts.dropped_samples += reserved.request.lost;
        if let Some(n) = batch.segment {
            self.ring.deliver(n, place.1, batch.samples);
        }
        receipts
    }

    /// The first part that waits, marked as in flight.
    fn next_part(&mut self) -> Option<Arc<Sealed>> {
        let Core { replacing, batches, .. } = self;
        replacing.parts.retain(|place| batches.get(place).is_some_and(|b| b.sealed.is_some()));
        let waits = |place: &&Place| self.again.contains(*place);
        let place = self.replacing.parts.iter().find(waits).copied()?;
        self.again.remove(&place);
        let batch = self.batches.get_mut(&place)?;
        batch.standing = Standing::InFlight;
        batch.sealed.clone()
    }

    fn send_once_more(&mut self, key: Key) {
        let Some(place) = self.place(key) else { return };
        if let Some(batch) = self.batches.get_mut(&place).filter(|b| b.standing == Standing::InFlight) {
            batch.standing = Standing::Again;
            self.again.insert(place);
        }
    }
}

impl Spool {
    /// The batch in flight goes, and `parts` come under new numbers of this epoch; `lost` of its samples are in none of
    /// them. The gap event is committed first. Until the disk has taken it the batch stays here and is not sent.
    /// `false`: it is not in flight.
    pub fn replace(&self, key: Key, parts: Vec<Vec<Frame>>, lost: u64, reason: String, now: Boot) -> bool {
        let asked = self.lock().ask(key, parts, lost, reason);
        if asked {
            (self.bell)(now, now);
        }
        asked
    }

    /// Frames that were put aside come back, under a new number of this epoch, as they were stamped on that boot. The
    /// receipt is kept when they are durable.
    pub fn restore(&self, boot: BootIndex, frames: Vec<Frame>, receipt: Receipt, now: Boot) {
        let request = Request { old: None, boot, parts: vec![frames], lost: 0, reason: String::new(), receipts: vec![receipt] };
        self.lock().replacing.requests.push_back(request);
        (self.bell)(now, now);
        self.tell();
    }

    /// What is in flight under that number.
    pub fn in_flight(&self, key: Key) -> Option<Arc<Sealed>> {
        let core = self.lock();
        let batch = core.batches.get(&core.place(key)?)?;
        batch.sealed.clone().filter(|_| batch.standing == Standing::InFlight)
    }

    /// One batch goes back to be sent again, as backlog.
    pub fn put_back(&self, key: Key) {
        self.lock().send_once_more(key);
    }

    /// The oldest part of a batch that was replaced. Also given by [`Spool::next_backlog`], in its turn.
    pub fn next_part(&self) -> Option<Outgoing> {
        self.lock().next_part().map(|sealed| Outgoing { sealed, backlog: true })
    }
}
