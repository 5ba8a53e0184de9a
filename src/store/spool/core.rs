//! Where each batch stands. Pure: no clock, no SQL; the handle brings time in, the writer carries segments out.
//!
//! ```text
//! append ─► live ──next_live──► in flight ──acknowledged──► gone
//!             │                  │      ▲
//!             │ saved, late      │ connection lost
//!             ▼                  ▼      │
//!           on disk ─load─► loaded    again ──next_backlog──► in flight
//! ```
//! This is so for each uplink: [`cursor`] says where a batch stands for one of them. Beside that, a batch is saved (in a
//! segment of the ring) or not. A batch that is saved and late, and that nobody holds, is in the ring only. A cursor's
//! `at` is the first segment that it did not look through: what lies before it and is not delivered is in `batches`, in
//! `loaded` or in flight.
//!
//! When every required uplink has a batch, its receipts are kept and it need not be written for their sake; it is gone
//! when all have it.
//!
//! Invariants: a number names one content for ever; a batch leaves by its own acknowledgement or with a gap that names
//! it; only a batch in flight can be acknowledged.

use super::{
    figures::Counts,
    gaps::{Gap, Gaps},
    ring::{Place, Ring},
};
use crate::{
    limits,
    model::{Boot, BootIndex, Epoch, Frame, Key, Receipt, Sealed, Stream, UplinkIndex},
};
use cursor::{Cursor, Rate};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

#[derive(Debug)]
struct Batch {
    /// `None`: saved, and let go for the sake of RAM.
    sealed: Option<Arc<Sealed>>,
    /// The uplinks that do not have it, those of them that hold it here (live, in flight or again), and those to which it
    /// is on its way; a bit for each.
    owed: u8,
    held: u8,
    flight: u8,
    at: Boot,
    /// When a commit must start; while not saved.
    due: Boot,
    receipts: Vec<Receipt>,
    samples: u64,
    bytes: usize,
    /// The segment it is saved in.
    segment: Option<u64>,
    /// The writer has it in its hands.
    writing: bool,
}

/// What to do for the next late batch.
#[derive(Debug)]
pub enum Next {
    Ready(Arc<Sealed>),
    /// Read this segment and hand it to [`Core::loaded`], then ask again.
    Load(u64),
    Nothing,
}

/// Sizes that tests make small.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub ram_bytes: usize,
    pub ram_batches: usize,
}

/// A process run that left something here.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub epoch: Epoch,
    pub boot: BootIndex,
    pub highest: u64,
}

#[derive(Debug)]
pub struct Core {
    /// Oldest first; the last one is ours.
    pub runs: Vec<Run>,
    pub ring: Ring,
    pub counts: Counts,
    pub gaps: Gaps,
    window: Duration,
    ack_within: Duration,
    room: Room,
    batches: BTreeMap<Place, Batch>,
    pub cursors: Vec<Cursor>,
    /// The bits of all uplinks, and of those that are required.
    all: u8,
    required: u8,
    unsaved: BTreeSet<u64>,
    unsaved_bytes: usize,
    dues: BTreeSet<(Boot, u64)>,
    ram_bytes: usize,
    /// Samples sealed in a second.
    pub inflow: Rate,
    /// Not before this moment: the last write failed.
    retry_at: Option<Boot>,
    /// The same for the gap events, which go to the other file.
    gaps_retry_at: Option<Boot>,
    /// The backlog has become empty: worth one commit of the cursor.
    flush_at: Option<Boot>,
    /// Segments in the writer's hands, in no list for the moment: the lowest number of each.
    in_hand: BTreeMap<u64, (Epoch, u64)>,
    /// What a cursor lacks of older segments is not what was written last.
    moved: bool,
    pub replacing: replacing::Replacing,
}

impl Core {
    pub fn new(runs: Vec<Run>, ring: Ring, cursors: Vec<Cursor>, window: Duration, ack_within: Duration, room: Room) -> Core {
        Core {
            runs,
            ring,
            counts: Counts::default(),
            gaps: Gaps::default(),
            window,
            ack_within,
            room,
            batches: BTreeMap::new(),
            all: cursors.iter().fold(0, |mask, c| mask | c.bit),
            required: cursors.iter().filter(|c| c.holder.required).fold(0, |mask, c| mask | c.bit),
            cursors,
            unsaved: BTreeSet::new(),
            unsaved_bytes: 0,
            dues: BTreeSet::new(),
            ram_bytes: 0,
            inflow: Rate::default(),
            retry_at: None,
            gaps_retry_at: None,
            flush_at: None,
            in_hand: BTreeMap::new(),
            moved: true,
            replacing: replacing::Replacing::default(),
        }
    }

    pub fn ours(&self) -> u32 {
        u32::try_from(self.runs.len() - 1).expect("fewer runs than segments")
    }

    fn run(&mut self) -> &mut Run {
        self.runs.last_mut().expect("our own run is always there")
    }

    pub fn last(&self) -> u64 {
        self.runs.last().map_or(0, |r| r.highest)
    }

    /// Seals the frames. Gives the number, and the receipts of what had to be dropped for it.
    pub fn append(&mut self, frames: Vec<Frame>, receipts: Vec<Receipt>, now: Boot) -> (u64, Vec<Receipt>) {
        let run = self.run();
        run.highest += 1;
        let (seq, key, boot) = (run.highest, Key { epoch: run.epoch, stream: Stream::Telemetry, seq: run.highest }, run.boot);
        let sealed = Sealed { key, boot, frames: frames.into_iter().filter_map(tidy).collect() };
        let (samples, bytes) = (sealed.samples(), ram_bytes(&sealed));
        let wait = if receipts.iter().any(Receipt::is_awaited) { self.ack_within.min(self.window / 2) } else { self.window / 2 };
        let due = now + wait;
        let batch = Batch {
            sealed: Some(Arc::new(sealed)),
            owed: self.all,
            held: self.all,
            flight: 0,
            at: now,
            due,
            receipts,
            samples,
            bytes,
            segment: None,
            writing: false,
        };
        self.batches.insert((self.ours(), seq), batch);
        for cursor in &mut self.cursors {
            cursor.live.insert(seq);
            cursor.waiting_samples += samples;
        }
        self.unsaved.insert(seq);
        self.unsaved_bytes += bytes;
        self.dues.insert((due, seq));
        self.ram_bytes += bytes;
        self.counts.sealed_samples += samples;
        self.inflow.add(now, samples);
        (0..self.cursors.len()).for_each(|u| self.let_late_ones_go(u, now));
        (seq, self.shed())
    }

    /// Live is what is young or in RAM only: the rest waits with the backlog, so that after an outage the newest data
    /// overtakes.
    pub(super) fn let_late_ones_go(&mut self, u: usize, now: Boot) {
        let late = now.saturating_sub(self.window.max(Duration::from_secs(1)));
        while let Some(seq) = self.cursors.get(u).and_then(|c| c.live.first().copied()) {
            match self.batches.get(&(self.ours(), seq)) {
                Some(b) if b.segment.is_none() || b.at >= late => return,
                _ => self.demote(u, (self.ours(), seq)),
            }
        }
    }

    /// A batch that is to be sent, but not as live. If it is saved and its segment is still to be read, it is let go.
    fn demote(&mut self, u: usize, place: Place) {
        let cursor = &mut self.cursors[u];
        cursor.live.remove(&place.1);
        let Some(batch) = self.batches.get_mut(&place) else {
            return;
        };
        if batch.segment.is_some_and(|n| n >= cursor.at) {
            batch.held &= !cursor.bit;
            if batch.held == 0 {
                self.forget(place);
            }
        } else {
            cursor.again.insert(place);
        }
    }

    /// Takes a batch out of every list but the ring.
    fn forget(&mut self, place: Place) -> Option<Batch> {
        let batch = self.batches.remove(&place)?;
        let ours = place.0 == self.ours();
        for cursor in self.cursors.iter_mut().filter(|c| c.bit & batch.held != 0) {
            cursor.again.remove(&place);
            if ours {
                cursor.live.remove(&place.1);
            }
        }
        if ours && self.unsaved.remove(&place.1) {
            self.unsaved_bytes -= batch.bytes;
            self.dues.remove(&(batch.due, place.1));
        }
        if batch.sealed.is_some() {
            self.ram_bytes -= batch.bytes;
        }
        Some(batch)
    }

    /// Keeps RAM within its limit: what is saved is let go, then the oldest that is not goes, with a gap.
    fn shed(&mut self) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        if self.has_room() {
            return receipts;
        }
        let saved: Vec<Place> = self.batches.iter().filter(|(_, b)| b.segment.is_some()).map(|(p, _)| *p).collect();
        for place in saved {
            // On its way to one uplink it can still be late for another.
            for u in 0..self.cursors.len() {
                if place.0 == self.ours() && self.cursors[u].live.contains(&place.1) {
                    self.demote(u, place);
                }
            }
            if let Some(batch) = self.batches.get_mut(&place)
                && batch.flight == 0
                && batch.sealed.take().is_some()
            {
                self.ram_bytes -= batch.bytes;
            }
        }
        while !self.has_room() {
            let ours = self.ours();
            let free = |seq: &&u64| self.batches.get(&(ours, **seq)).is_some_and(|b| b.flight == 0 && !b.writing);
            // The newest stays in any case: it was asked for just now.
            let Some(seq) = self.unsaved.iter().find(free).copied().filter(|seq| *seq < self.last()) else {
                break;
            };
            if let Some(mut batch) = self.forget((ours, seq)) {
                receipts.append(&mut batch.receipts);
                self.lose(seq, &batch);
            }
        }
        receipts
    }

    fn has_room(&self) -> bool {
        self.ram_bytes <= self.room.ram_bytes && self.batches.len() <= self.room.ram_batches
    }

    /// A batch that was in RAM only: a gap, for all uplinks or for those that do not have it.
    fn lose(&mut self, seq: u64, batch: &Batch) {
        let epoch = self.run().epoch;
        let gap = |uplink| Gap { epoch, from: seq, to: seq, samples: batch.samples, reason: Gap::RAM, uplink, replaced_by: None };
        for cursor in self.cursors.iter_mut().filter(|c| c.bit & batch.owed != 0) {
            cursor.waiting_samples = cursor.waiting_samples.saturating_sub(batch.samples);
            cursor.dropped_samples += batch.samples;
            if batch.owed != self.all {
                self.gaps.owe(gap(Some(cursor.holder.id.clone())));
            }
        }
        if batch.owed == self.all {
            self.gaps.owe(gap(None));
        }
        if batch.owed & self.required != 0 {
            self.drop_samples(batch.samples);
        }
    }

    /// Data that a required uplink never gets.
    pub fn drop_samples(&mut self, samples: u64) {
        self.counts.dropped_samples += samples;
    }

    /// Of the uplink for which most waits.
    pub fn waiting_samples(&self) -> u64 {
        self.cursors.iter().map(|c| c.waiting_samples).max().unwrap_or(0)
    }

    /// Window 0: nothing is offered before it is durable.
    fn first_live(&self, u: UplinkIndex) -> Option<u64> {
        let seq = self.cursor(u)?.live.first().copied()?;
        let saved = self.batches.get(&(self.ours(), seq)).is_some_and(|b| b.segment.is_some());
        (saved || !self.window.is_zero()).then_some(seq)
    }

    pub fn has_live(&self, u: UplinkIndex) -> bool {
        self.first_live(u).is_some()
    }

    pub fn next_live(&mut self, u: UplinkIndex) -> Option<Arc<Sealed>> {
        let seq = self.first_live(u)?;
        self.cursors[usize::from(u.0)].live.remove(&seq);
        let batch = self.batches.get_mut(&(self.ours(), seq))?;
        batch.flight |= u.bit();
        batch.sealed.clone()
    }

    /// Its own proof of receipt. Unknown, repeated, or not in flight: ignored. Gives the receipts that are kept by it.
    pub fn acknowledged(&mut self, u: UplinkIndex, key: Key, now: Boot) -> Vec<Receipt> {
        let (bit, required) = (u.bit(), self.required);
        let Some(place) = self.place(key) else {
            return Vec::new();
        };
        let Some(batch) = self.batches.get_mut(&place).filter(|b| b.flight & bit != 0) else {
            return Vec::new();
        };
        batch.flight &= !bit;
        batch.held &= !bit;
        batch.owed &= !bit;
        let (samples, segment, held, owed) = (batch.samples, batch.segment, batch.held, batch.owed);
        let safe = owed & required == 0;
        let receipts = if safe { std::mem::take(&mut batch.receipts) } else { Vec::new() };
        if safe && bit & required != 0 {
            self.counts.acknowledged_samples += samples;
            if owed != 0 && segment.is_none() {
                self.postpone(place);
            }
        }
        // What others want and nobody holds, they read from the ring.
        if owed == 0 || held == 0 {
            self.forget(place);
        }
        let u = usize::from(u.0);
        let cursor = &mut self.cursors[u];
        cursor.acknowledged_samples += samples;
        cursor.waiting_samples = cursor.waiting_samples.saturating_sub(samples);
        cursor.rate.add(now, samples);
        if let Some(n) = segment {
            self.mark(u, n, place.1, samples);
            if self.cursors[u].left == 0 {
                // With others behind there will be a commit anyway, to take it along.
                let soon = if self.ring.left == 0 { self.window.max(Duration::from_secs(1)) } else { limits::OPTIONAL_WINDOW };
                self.flush_at.get_or_insert(now + soon);
            }
        }
        receipts
    }

    /// Only optional uplinks want it now: a later commit does.
    fn postpone(&mut self, place: Place) {
        let Some(batch) = self.batches.get_mut(&place) else {
            return;
        };
        let due = (batch.at + limits::OPTIONAL_WINDOW).max(batch.due);
        if self.dues.remove(&(batch.due, place.1)) {
            self.dues.insert((due, place.1));
        }
        batch.due = due;
    }

    fn place(&self, key: Key) -> Option<Place> {
        let run = self.runs.iter().rposition(|r| r.epoch == key.epoch && key.stream == Stream::Telemetry)?;
        Some((u32::try_from(run).ok()?, key.seq))
    }

    /// The connection is lost: what was in flight goes again, as backlog.
    pub fn return_unacknowledged(&mut self, u: UplinkIndex) {
        let Some(cursor) = self.cursors.get_mut(usize::from(u.0)) else {
            return;
        };
        for (place, batch) in &mut self.batches {
            if batch.flight & cursor.bit != 0 && !self.replacing.old.contains(&(u, *place)) {
                batch.flight &= !cursor.bit;
                cursor.again.insert(*place);
            }
        }
    }
}

/// Milliseconds are what records carry, so a batch is the same before and after the disk. Rows that do not fit their
/// frame cannot be sent and would be a fault of ours.
fn tidy(mut frame: Frame) -> Option<Frame> {
    let points = frame.points.len();
    frame.rows.retain_mut(|row| {
        row.at = Boot::from_ms(row.at.ms());
        if row.quality.as_ref().is_some_and(|q| q.len() != points) {
            row.quality = None;
        }
        row.values.len() == points
    });
    (!frame.rows.is_empty()).then_some(frame)
}

/// About what it takes in RAM, without looking at each value.
fn ram_bytes(sealed: &Sealed) -> usize {
    256 + sealed.frames.iter().map(|f| 96 + f.rows.len() * (64 + 24 * f.points.len())).sum::<usize>()
}

mod backlog;
pub mod cursor;
pub mod replacing;
mod rescue;
pub mod saving;
mod thinning;
