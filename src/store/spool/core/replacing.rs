//! A batch that one uplink's broker does not take goes, and parts of it come under new numbers, as backlog, for that
//! uplink. All others keep the batch; for them the numbers of the parts are a gap of nothing.
//!
//! ```text
//! in flight ──replace──► asked for ──writer: gap events, then one transaction──► gone; the parts: again ──► in flight
//! ```
//! Invariants: parts are offered only when they are durable and the uplink is done with the old batch in the same
//! transaction, so no crash leaves it both; until then the old one counts as in flight, so nobody offers it and no limit
//! takes it; parts keep the boot of their rows.

use super::{Batch, Core, cursor::Cursor, ram_bytes, tidy};
use crate::{
    model::{Boot, BootIndex, Frame, Key, Receipt, Replaced, Sealed, Stream, UplinkIndex},
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
    of: UplinkIndex,
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
    pub gaps: Vec<Gap>,
}

#[derive(Debug, Default)]
pub struct Replacing {
    requests: VecDeque<Request>,
    /// Asked for and not yet carried out: in flight, whatever becomes of the connection.
    pub(super) old: BTreeSet<(UplinkIndex, Place)>,
    /// Numbers that were given out and are in no list yet.
    reserved: Option<u64>,
    /// Parts that are not acknowledged, to be sent before other late batches when asked for.
    parts: BTreeSet<(UplinkIndex, Place)>,
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
    /// The batch is not offered to that uplink from now on. Neither in flight to it nor returned from there: nothing happens.
    fn ask(&mut self, of: UplinkIndex, old: Key, parts: Vec<Vec<Frame>>, lost: u64, reason: String) -> bool {
        let Some(place) = self.place(old) else { return false };
        let Some(cursor) = self.cursors.get_mut(usize::from(of.0)) else { return false };
        // With the connection lost meanwhile it may wait to be sent again.
        let waits = cursor.again.contains(&place);
        let Some(batch) = self.batches.get_mut(&place).filter(|b| waits || b.flight & cursor.bit != 0) else { return false };
        let Some(boot) = batch.sealed.as_ref().map(|sealed| sealed.boot) else { return false };
        if !self.replacing.old.insert((of, place)) {
            return false;
        }
        batch.flight |= cursor.bit;
        cursor.again.remove(&place);
        self.replacing.requests.push_back(Request { of, old: Some(old), boot, parts, lost, reason, receipts: Vec::new() });
        true
    }

    /// Gives numbers to the next request. `None`: there is none, or older batches must be saved first.
    pub fn reserve(&mut self) -> Option<Reserved> {
        if !self.unsaved.is_empty() {
            return None;
        }
        loop {
            let request = self.replacing.requests.pop_front()?;
            let old = request.old.map(|key| self.place(key).and_then(|place| Some((place, self.batches.get(&place)?.samples))));
            // It was lost to a damaged disk meanwhile, and a gap says so.
            if old == Some(None) {
                self.no_longer_asked(&request);
                continue;
            }
            let samples = old.flatten().map_or(0, |(_, samples)| samples);
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
            let gaps = self.gaps_for(&request, samples, &parts);
            return Some(Reserved { request, parts, gaps });
        }
    }

    /// The uplink does not get the old number, and the others not those of the parts.
    fn gaps_for(&self, request: &Request, samples: u64, parts: &[Arc<Sealed>]) -> Vec<Gap> {
        let name = |c: &Cursor| Some(c.holder.id.clone());
        let ours = self.cursor(request.of).filter(|_| !self.is_alone());
        let new = parts.first().zip(parts.last()).map(|(first, last)| (first.key.epoch, first.key.seq, last.key.seq));
        let replaced_by = new.map(|(epoch, from, to)| Replaced { epoch, from, to });
        let mut gaps = Vec::new();
        if let Some(Key { epoch, seq, .. }) = request.old {
            let reason = request.reason.clone().into();
            gaps.push(Gap { epoch, from: seq, to: seq, samples, reason, uplink: ours.and_then(name), replaced_by });
        }
        if let Some(((epoch, from, to), ours)) = new.zip(ours) {
            let reason = format!("parts that only uplink {} gets", ours.holder.id);
            for other in self.cursors.iter().filter(|c| c.bit != ours.bit) {
                gaps.push(Gap { epoch, from, to, samples: 0, reason: reason.clone().into(), uplink: name(other), replaced_by: None });
            }
        }
        gaps
    }

    fn no_longer_asked(&mut self, request: &Request) {
        if let Some(place) = request.old.and_then(|key| self.place(key)) {
            self.replacing.old.remove(&(request.of, place));
        }
    }

    /// The cursors as they are written with the parts, in segment `new`: this uplink is done with the old batch, and all
    /// others with the parts.
    pub fn written_with(&mut self, reserved: &Reserved, new: Option<&(u64, Segment)>) -> Vec<u8> {
        let before = (self.ring.clone(), self.cursors.clone());
        self.retire(reserved);
        if let Some((n, segment)) = new {
            self.admit(reserved.request.of, *n, segment.clone());
        }
        let written = self.written();
        (self.ring, self.cursors) = before;
        written
    }

    /// In the ring and the cursors.
    fn retire(&mut self, reserved: &Reserved) {
        let Some(place) = reserved.request.old.and_then(|key| self.place(key)) else { return };
        if let Some((n, samples)) = self.batches.get(&place).and_then(|b| Some((b.segment?, b.samples))) {
            self.mark(usize::from(reserved.request.of.0), n, place.1, samples);
        }
    }

    fn admit(&mut self, of: UplinkIndex, n: u64, mut segment: Segment) {
        segment.done = self.all & !of.bit();
        if let Some(cursor) = self.cursors.get_mut(usize::from(of.0)) {
            cursor.add(n, &segment, None);
        }
        self.ring.insert(n, segment, BTreeSet::new());
    }

    /// It could not be written: its numbers are given up, and it is asked again.
    pub fn not_replaced(&mut self, reserved: Reserved) {
        let Reserved { request, parts, .. } = reserved;
        if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
            let (epoch, from, to) = (first.key.epoch, first.key.seq, last.key.seq);
            let reason = "not used: the disk could not be written".into();
            self.gaps.owe(Gap { epoch, from, to, samples: 0, reason, uplink: None, replaced_by: None });
        }
        self.replacing.reserved = None;
        self.replacing.requests.push_front(request);
    }

    /// The parts are durable, and the uplink is done with the old batch. Gives the receipts that are kept by it.
    pub fn replaced(&mut self, reserved: &mut Reserved, segment: Option<(u64, Segment)>, now: Boot) -> Vec<Receipt> {
        self.replacing.reserved = None;
        let of = reserved.request.of;
        self.retire(reserved);
        self.end_old(reserved);
        let n = segment.as_ref().map(|(n, _)| *n);
        if let Some((n, segment)) = segment {
            self.admit(of, n, segment);
        }
        let (ours, bit) = (self.ours(), of.bit());
        for sealed in &reserved.parts {
            let (place, samples, bytes) = ((ours, sealed.key.seq), sealed.samples(), ram_bytes(sealed));
            let batch = Batch {
                sealed: Some(Arc::clone(sealed)),
                owed: bit,
                held: bit,
                flight: 0,
                at: now,
                due: Boot(0),
                receipts: Vec::new(),
                samples,
                bytes,
                segment: n,
                writing: false,
            };
            self.ram_bytes += bytes;
            self.batches.insert(place, batch);
            if let Some(cursor) = self.cursors.get_mut(usize::from(of.0)) {
                cursor.again.insert(place);
                cursor.waiting_samples += samples;
            }
            self.replacing.parts.insert((of, place));
        }
        std::mem::take(&mut reserved.request.receipts)
    }

    /// As an acknowledgement, but nobody has it.
    fn end_old(&mut self, reserved: &Reserved) {
        let Request { of, old, lost, .. } = &reserved.request;
        let Some(place) = old.and_then(|key| self.place(key)) else { return };
        self.replacing.old.remove(&(*of, place));
        let Some(batch) = self.batches.get(&place) else { return };
        let samples = batch.samples;
        let required = self.required & of.bit() != 0;
        if let Some(cursor) = self.cursors.get_mut(usize::from(of.0)) {
            cursor.waiting_samples = cursor.waiting_samples.saturating_sub(samples);
            cursor.dropped_samples += lost;
        }
        if required {
            self.drop_samples(*lost);
        }
        self.let_go(place, of.bit(), true);
    }

    /// The first part that waits, marked as in flight.
    fn next_part(&mut self, of: UplinkIndex) -> Option<Arc<Sealed>> {
        let Core { replacing, batches, cursors, .. } = self;
        let cursor = cursors.get_mut(usize::from(of.0))?;
        replacing.parts.retain(|(_, place)| batches.get(place).is_some_and(|b| b.sealed.is_some()));
        let (_, place) = *replacing.parts.iter().find(|(u, place)| *u == of && cursor.again.contains(place))?;
        cursor.again.remove(&place);
        let batch = batches.get_mut(&place)?;
        batch.flight |= cursor.bit;
        batch.sealed.clone()
    }

    fn send_once_more(&mut self, of: UplinkIndex, key: Key) {
        let Some(place) = self.place(key).filter(|place| !self.replacing.old.contains(&(of, *place))) else { return };
        let Some(cursor) = self.cursors.get_mut(usize::from(of.0)) else { return };
        if let Some(batch) = self.batches.get_mut(&place).filter(|b| b.flight & cursor.bit != 0) {
            batch.flight &= !cursor.bit;
            cursor.again.insert(place);
        }
    }
}

impl Spool {
    /// The batch in flight to this uplink goes, and `parts` come to it under new numbers of this epoch; `lost` of its
    /// samples are in none of them. The gap events are committed first. Until the disk has taken it the batch stays here
    /// and is not sent. `false`: it is not in flight.
    pub fn replace(&self, of: UplinkIndex, key: Key, parts: Vec<Vec<Frame>>, lost: u64, reason: String, now: Boot) -> bool {
        let asked = self.lock().ask(of, key, parts, lost, reason);
        if asked {
            (self.bell)(now, now);
        }
        asked
    }

    /// Frames that were put aside come back to this uplink, under a new number of this epoch, as they were stamped on
    /// that boot. The receipt is kept when they are durable.
    pub fn restore(&self, of: UplinkIndex, boot: BootIndex, frames: Vec<Frame>, receipt: Receipt, now: Boot) {
        let request = Request { of, old: None, boot, parts: vec![frames], lost: 0, reason: String::new(), receipts: vec![receipt] };
        self.lock().replacing.requests.push_back(request);
        (self.bell)(now, now);
        self.tell();
    }

    /// The uplink of that name.
    pub fn uplink_named(&self, name: &str) -> Option<UplinkIndex> {
        let at = self.lock().cursors.iter().position(|c| c.holder.id.as_str() == name)?;
        u8::try_from(at).ok().map(UplinkIndex)
    }

    /// What is in flight to this uplink under that number.
    pub fn in_flight(&self, of: UplinkIndex, key: Key) -> Option<Arc<Sealed>> {
        let core = self.lock();
        let place = core.place(key)?;
        let batch = core.batches.get(&place).filter(|b| b.flight & of.bit() != 0 && !core.replacing.old.contains(&(of, place)))?;
        batch.sealed.clone()
    }

    /// One batch goes back to be sent again, as backlog.
    pub fn put_back(&self, of: UplinkIndex, key: Key) {
        self.lock().send_once_more(of, key);
    }

    /// The oldest part of a batch that was replaced. Also given by [`Spool::next_backlog`], in its turn.
    pub fn next_part(&self, of: UplinkIndex) -> Option<Outgoing> {
        self.lock().next_part(of).map(|sealed| Outgoing { sealed, backlog: true })
    }
}
