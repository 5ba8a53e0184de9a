//! Where each batch stands. Pure: no clock, no SQL; the handle brings time in, the writer carries segments out.
//!
//! ```text
//! append ─► live ──next_live──► in flight ──acknowledged──► gone
//!             │                  │      ▲
//!             │ saved, late      │ connection lost
//!             ▼                  ▼      │
//!           on disk ─load─► loaded    again ──next_backlog──► in flight
//! ```
//! Beside that, a batch is saved (in a segment of the ring) or not. A batch that is saved and late, and that nobody
//! holds, is in the ring only. `cursor` is the first segment that was not looked through: what lies before it and is
//! not delivered is in `batches`, in `loaded` or in flight.
//!
//! Invariants: a number names one content for ever; a batch leaves by its own acknowledgement or with a gap that names
//! it; only a batch in flight can be acknowledged.

use super::{
    figures::Counts,
    gaps::{Gap, Gaps},
    ring::{Place, Ring},
};
use crate::model::{Boot, BootIndex, Epoch, Frame, Key, Receipt, Sealed, Stream};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Live,
    InFlight,
    Again,
}

#[derive(Debug)]
struct Batch {
    /// `None`: saved, and let go for the sake of RAM.
    sealed: Option<Arc<Sealed>>,
    standing: Standing,
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
    live: BTreeSet<u64>,
    again: BTreeSet<Place>,
    unsaved: BTreeSet<u64>,
    dues: BTreeSet<(Boot, u64)>,
    cursor: u64,
    loaded: VecDeque<(Place, u64, Arc<Sealed>)>,
    ram_bytes: usize,
    /// Not before this moment: the last write failed.
    retry_at: Option<Boot>,
    /// The same for the gap events, which go to the other file.
    gaps_retry_at: Option<Boot>,
    /// The backlog has become empty: worth one commit of the cursor.
    flush_at: Option<Boot>,
    /// In the writer's hands: the lowest number of each epoch that is in no list for the moment.
    held: BTreeMap<Epoch, u64>,
}

impl Core {
    pub fn new(runs: Vec<Run>, ring: Ring, window: Duration, ack_within: Duration, room: Room) -> Core {
        let counts = Counts { waiting_samples: ring.from(0).map(|(_, s)| u64::from(s.samples)).sum(), ..Counts::default() };
        Core {
            runs,
            ring,
            counts,
            gaps: Gaps::default(),
            window,
            ack_within,
            room,
            batches: BTreeMap::new(),
            live: BTreeSet::new(),
            again: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            dues: BTreeSet::new(),
            cursor: 0,
            loaded: VecDeque::new(),
            ram_bytes: 0,
            retry_at: None,
            gaps_retry_at: None,
            flush_at: None,
            held: BTreeMap::new(),
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
            standing: Standing::Live,
            at: now,
            due,
            receipts,
            samples,
            bytes,
            segment: None,
            writing: false,
        };
        self.batches.insert((self.ours(), seq), batch);
        self.live.insert(seq);
        self.unsaved.insert(seq);
        self.dues.insert((due, seq));
        self.ram_bytes += bytes;
        self.counts.sealed_samples += samples;
        self.counts.waiting_samples += samples;
        self.let_late_ones_go(now);
        (seq, self.shed())
    }

    /// Live is what is young or in RAM only: the rest waits with the backlog, so that after an outage the newest data
    /// overtakes.
    fn let_late_ones_go(&mut self, now: Boot) {
        let late = now.saturating_sub(self.window.max(Duration::from_secs(1)));
        while let Some(seq) = self.live.first().copied() {
            match self.batches.get(&(self.ours(), seq)) {
                Some(b) if b.segment.is_none() || b.at >= late => return,
                _ => self.demote((self.ours(), seq)),
            }
        }
    }

    /// A batch that is to be sent, but not as live. If it is saved and its segment is still to be read, it is let go.
    fn demote(&mut self, place: Place) {
        self.live.remove(&place.1);
        let Some(batch) = self.batches.get_mut(&place) else {
            return;
        };
        if batch.segment.is_some_and(|n| n >= self.cursor) {
            self.forget(place);
        } else {
            batch.standing = Standing::Again;
            self.again.insert(place);
        }
    }

    /// Takes a batch out of every list but the ring.
    fn forget(&mut self, place: Place) -> Option<Batch> {
        let batch = self.batches.remove(&place)?;
        self.again.remove(&place);
        if place.0 == self.ours() {
            self.live.remove(&place.1);
            self.unsaved.remove(&place.1);
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
        let saved: Vec<Place> =
            self.batches.iter().filter(|(_, b)| b.segment.is_some() && b.standing != Standing::InFlight).map(|(p, _)| *p).collect();
        for place in saved {
            if self.batches.get(&place).is_some_and(|b| b.standing == Standing::Live) {
                self.demote(place);
            }
            if let Some(batch) = self.batches.get_mut(&place)
                && batch.sealed.take().is_some()
            {
                self.ram_bytes -= batch.bytes;
            }
        }
        while !self.has_room() {
            let ours = self.ours();
            let free = |seq: &&u64| self.batches.get(&(ours, **seq)).is_some_and(|b| b.standing != Standing::InFlight && !b.writing);
            // The newest stays in any case: it was asked for just now.
            let Some(seq) = self.unsaved.iter().find(free).copied().filter(|seq| *seq < self.last()) else {
                break;
            };
            if let Some(mut batch) = self.forget((ours, seq)) {
                receipts.append(&mut batch.receipts);
                self.drop_samples(batch.samples);
                let epoch = self.run().epoch;
                self.gaps.owe(Gap { epoch, from: seq, to: seq, samples: batch.samples, reason: Gap::RAM, replaced_by: None });
            }
        }
        receipts
    }

    fn has_room(&self) -> bool {
        self.ram_bytes <= self.room.ram_bytes && self.batches.len() <= self.room.ram_batches
    }

    pub fn drop_samples(&mut self, samples: u64) {
        self.counts.dropped_samples += samples;
        self.counts.waiting_samples = self.counts.waiting_samples.saturating_sub(samples);
    }

    /// Window 0: nothing is offered before it is durable.
    fn first_live(&self) -> Option<u64> {
        let seq = self.live.first().copied()?;
        let saved = self.batches.get(&(self.ours(), seq)).is_some_and(|b| b.segment.is_some());
        (saved || !self.window.is_zero()).then_some(seq)
    }

    pub fn has_live(&self) -> bool {
        self.first_live().is_some()
    }

    pub fn next_live(&mut self) -> Option<Arc<Sealed>> {
        let seq = self.first_live()?;
        self.live.remove(&seq);
        let batch = self.batches.get_mut(&(self.ours(), seq))?;
        batch.standing = Standing::InFlight;
        batch.sealed.clone()
    }

    /// Its own proof of receipt. Unknown, repeated, or not in flight: ignored.
    pub fn acknowledged(&mut self, key: Key, now: Boot) -> Vec<Receipt> {
        let Some(place) = self.place(key) else {
            return Vec::new();
        };
        if self.batches.get(&place).is_none_or(|b| b.standing != Standing::InFlight) {
            return Vec::new();
        }
        let Some(batch) = self.forget(place) else {
            return Vec::new();
        };
        self.counts.acknowledged_samples += batch.samples;
        self.counts.waiting_samples = self.counts.waiting_samples.saturating_sub(batch.samples);
        if let Some(n) = batch.segment {
            self.ring.deliver(n, place.1, batch.samples);
            if self.ring.left == 0 {
                self.flush_at.get_or_insert(now + self.window.max(Duration::from_secs(1)));
            }
        }
        batch.receipts
    }

    fn place(&self, key: Key) -> Option<Place> {
        let run = self.runs.iter().rposition(|r| r.epoch == key.epoch && key.stream == Stream::Telemetry)?;
        Some((u32::try_from(run).ok()?, key.seq))
    }

    /// The connection is lost: what was in flight goes again, as backlog.
    pub fn return_unacknowledged(&mut self) {
        for (place, batch) in &mut self.batches {
            if batch.standing == Standing::InFlight {
                batch.standing = Standing::Again;
                self.again.insert(*place);
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
mod saving;
mod thinning;
