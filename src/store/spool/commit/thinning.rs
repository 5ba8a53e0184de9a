//! Near the limit on the disk: the oldest segments become fewer rows under new numbers, before anything is dropped.
//!
//! ```text
//! A  new numbers are drawn, when every number below them is on the disk, delivered or announced
//! B  spool.db: the new segment, with a note that names what it stands for
//! C  state.db: the gap event of the old numbers, `replaced_by` the new ones, and the list of what is gone
//! D  spool.db: the old rows go, and the note
//! ```
//! Invariant: of the old and the new segment exactly one counts at any moment, and C decides which. A start that finds
//! the note looks into state.db: with C the old rows are stale, without it the new one is, and a gap event of no samples
//! answers for its numbers. So a kill between any two steps neither loses a sample without a word nor sends it twice.
//! Nothing of the new segment is sent before C, nothing of the old ones from A on.
//!
//! Which segments: raw ones while they take more than half of the file, then what was thinned once while that takes more
//! than a quarter, and so on; each time windows are ten times as wide. The last level is dropped at the limit.

use super::{Announce, Saver, full, losses, meta_of, write_of};
use crate::{
    limits,
    model::{Boot, Epoch, Frame, Key, Replaced, Sealed, Stream},
    store::{
        boots::Clocks,
        spool::{
            Spool, codec,
            core::saving::Taken,
            disk::{Mark, Meta, Note, Place, Write},
            gaps::Gap,
            ring::{LEVELS, Segment},
            thin::Thinner,
        },
    },
};
use std::sync::Arc;

/// Of the bytes of a file, what each level may hold before it is thinned (in percent). The last has no thinning.
const SHARES: [u64; LEVELS] = [50, 25, 12];
/// Runs in one turn, so that the writer comes round.
const RUNS: usize = 8;
/// What is left must be at most so much of what it stands for, in percent: else it is not worth a message.
const WORTH: u64 = 75;
/// Attempts to find a moment at which nothing is unsaved.
const MOMENTS: usize = 3;
/// In a smaller file what thinning keeps free would be all there is.
const FILE_MIN: u64 = 192 * 1024;
/// Samples that a run may stand for: a frame counts them in 32 bits.
const OF_MAX: u64 = 1 << 31;

/// What one run replaces, and by what.
struct Chosen {
    taken: Vec<Taken>,
    thinner: Thinner,
    level: u8,
}

impl Saver {
    /// Keeps some room free by thinning. What it cannot do is left to dropping.
    pub(super) fn thin(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, announce: Announce) -> rusqlite::Result<()> {
        if self.disk.sizes.thin_ms == 0 || self.disk.sizes.file_max < FILE_MIN {
            return Ok(());
        }
        for _ in 0..RUNS {
            let missing = self.disk.missing(self.disk.sizes.slack())?;
            // Two notes at once could not be told apart.
            if missing == 0 || self.disk.mark != Mark::None || !self.disk.log_takes(self.disk.sizes.segment_bytes)? {
                return Ok(());
            }
            let stale = spool.lock().ring.stale(missing);
            if !stale.is_empty() {
                self.disk.delete(&stale)?;
                spool.lock().ring.emptied(&stale);
                continue;
            }
            if !self.run(spool, clocks, now, announce)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// `false`: there is nothing to thin.
    fn run(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, announce: Announce) -> rusqlite::Result<bool> {
        let bytes = (self.disk.sizes.disk_max / 16).clamp(64 << 10, limits::SPOOL_THIN_BYTES);
        let spare = spool.lock().take_spare(bytes);
        if !spare.is_empty() {
            return self.give_up(spool, spare, announce).map(|()| true);
        }
        let taken = {
            let mut core = spool.lock();
            let all: u64 = (0..=LEVELS).map(|level| core.ring.bytes_of(level)).sum();
            let over = SHARES.iter().enumerate().find(|(level, share)| core.ring.bytes_of(*level) * 100 > all * **share);
            let Some(level) = over.and_then(|(level, _)| u8::try_from(level).ok()) else { return Ok(false) };
            core.take_to_thin(level, bytes)
        };
        let Some(Chosen { taken, thinner, level }) = self.choose(spool, taken) else { return Ok(false) };
        if !worth(&thinner) {
            // It cannot become smaller. Left where it is it would be tried for ever.
            return self.give_up(spool, taken, announce).map(|()| true);
        }
        self.in_hand = taken;
        let result = self.stand_in(spool, clocks, now, thinner.messages(), level, announce);
        spool.lock().put_back(std::mem::take(&mut self.in_hand));
        result.map(|()| true)
    }

    /// As many of these as make one segment, thinned until it is worth it. The others are put back.
    fn choose(&mut self, spool: &Spool, all: Vec<Taken>) -> Option<Chosen> {
        let sizes = self.disk.sizes;
        let mut level = all.first()?.segment.level + 1;
        let mut thinner = Thinner::new(window(sizes.thin_ms, level));
        let (mut taken, mut rest, mut damaged, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0u64);
        for one in all {
            let s = &one.segment;
            // About what the body will be.
            let size = bytes * thinner.kept() / thinner.seen().max(1);
            let full = size > sizes.segment_bytes as u64 / 2 || thinner.kept() > limits::SPOOL_THIN_SAMPLES || thinner.of() > OF_MAX;
            if full || !rest.is_empty() {
                rest.push(one);
                continue;
            }
            let epoch = spool.lock().epoch_of(s.epoch);
            match spool.read(Place { n: one.n, slot: s.slot, epoch }) {
                Ok(batches) => {
                    batches.into_iter().filter(|b| !one.delivered.contains(&b.key.seq)).for_each(|b| thinner.add(b));
                    thinner.thin();
                    bytes += u64::from(s.bytes);
                    taken.push(one);
                }
                Err(e) => {
                    if e.is_final() {
                        damaged.push(one.n);
                    }
                    rest.push(one);
                }
            }
        }
        let mut core = spool.lock();
        core.put_back(rest);
        damaged.iter().for_each(|n| core.damaged(*n));
        drop(core);
        while !worth(&thinner) && usize::from(level) < LEVELS {
            level += 1;
            thinner.widen(window(sizes.thin_ms, level));
        }
        (!taken.is_empty()).then_some(Chosen { taken, thinner, level })
    }

    /// Steps A to D for what is in hand. After C nothing is in hand any more.
    fn stand_in(
        &mut self,
        spool: &Spool,
        clocks: &Clocks,
        now: Boot,
        messages: Vec<Vec<Frame>>,
        level: u8,
        announce: Announce,
    ) -> rusqlite::Result<()> {
        let Some((boot, done)) = self.in_hand.first().map(|t| (t.segment.boot, t.segment.done)) else { return Ok(()) };
        let count = messages.len() as u64;
        let Some(first) = self.draw(spool, clocks, now, count, announce)? else { return Ok(()) };
        let (epoch, run) = {
            let core = spool.lock();
            (core.epoch_of(core.ours()), core.ours())
        };
        let seal = |(seq, frames)| Arc::new(Sealed { key: Key { epoch, stream: Stream::Telemetry, seq }, boot, frames });
        let batches: Vec<Arc<Sealed>> = (first..).zip(messages).map(seal).collect();
        let body = codec::encode(&batches, |frame| self.disk.series.shape(frame));
        let replaces = self.in_hand.iter().map(|t| t.n).collect();
        let note = Note { epoch: epoch.0, first, last: first + count - 1, replaces };
        let narrow = |v: u64| u32::try_from(v).unwrap_or(u32::MAX);
        let segment = Segment {
            at: self.in_hand.iter().map(|t| t.segment.at).min().unwrap_or(now),
            first,
            slot: 0,
            epoch: run,
            span: narrow(count - 1),
            left: narrow(count),
            samples: narrow(batches.iter().map(|b| b.samples()).sum()),
            bytes: narrow(body.len() as u64),
            boot,
            level,
            done,
        };
        let (n, segment) = match self.write_thinned(spool, segment, &note, &body) {
            Ok(written) => written,
            Err(e) => {
                self.disk.series.rolled_back();
                let mut core = spool.lock();
                if !core.undraw_numbers(first, count) {
                    core.gaps.owe(note.void());
                }
                return Err(e);
            }
        };
        self.exchange(spool, n, segment, &note, announce)
    }

    /// Step A. What is unsaved is saved first. `None`: something new came each time.
    fn draw(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, count: u64, announce: Announce) -> rusqlite::Result<Option<u64>> {
        for _ in 0..MOMENTS {
            let drawn = spool.lock().draw_numbers(count);
            if drawn.is_some() {
                return Ok(drawn);
            }
            self.save(spool, clocks, now, announce)?;
        }
        Ok(None)
    }

    /// Step B.
    fn write_thinned(&mut self, spool: &Spool, segment: Segment, note: &Note, body: &[u8]) -> rusqlite::Result<(u64, Segment)> {
        if body.len() > 2 * self.disk.sizes.segment_bytes || self.disk.missing(body.len())? > 0 || !self.disk.secure(body.len())? {
            return Err(full());
        }
        let (n, slot, meta) = {
            let mut core = spool.lock();
            let (n, slot) = (core.ring.head, core.ring.take_slot());
            // Uplinks that have what it stands for are not to get it after a restart.
            let cursors = core.written_holding(&self.in_hand, Some((n, &Segment { slot, ..segment.clone() })));
            (n, slot, Meta { head: n + 1, ..meta_of(&core, cursors) })
        };
        let replaces = note.to_string();
        let segment = Segment { slot, ..segment };
        let new = (n, segment);
        let write = Write { thinned: Some((new.1.level, &replaces)), ..write_of(&new, meta.epoch, body) };
        let result = self.disk.commit(Some(&write), Some(&meta), &[]);
        let mut core = spool.lock();
        if let Err(e) = result {
            core.ring.give_back(slot);
            return Err(e);
        }
        core.ring.head = n + 1;
        self.committed(&mut core, Vec::new(), body.len());
        Ok(new)
    }

    /// Steps C and D.
    fn exchange(&mut self, spool: &Spool, n: u64, segment: Segment, note: &Note, announce: Announce) -> rusqlite::Result<()> {
        let by = Replaced { epoch: Epoch(note.epoch), from: note.first, to: note.last };
        let reason = format!("thinned: {}", self.limit());
        let mut gaps = self.gaps_of(spool, &losses(spool, &self.in_hand), &reason, Some(by));
        let others = spool.lock().done_with(&segment);
        gaps.extend(others.into_iter().map(|uplink| Gap { uplink: Some(uplink), reason: Gap::HAD, ..note.void() }));
        let mut gone = self.gone.clone();
        gone.extend(&note.replaces);
        if !announce(gaps, &gone) {
            let mut core = spool.lock();
            core.ring.free(segment.slot, segment.bytes);
            core.gaps.owe(note.void());
            self.disk.mark = Mark::Void;
            return Err(full());
        }
        self.gone = gone;
        self.disk.mark = Mark::Stands;
        let taken = std::mem::take(&mut self.in_hand);
        let slots: Vec<u32> = taken.iter().map(|t| t.segment.slot).collect();
        spool.lock().thinned(n, segment, &taken);
        spool.tell();
        self.disk.delete(&slots)?;
        spool.lock().ring.emptied(&slots);
        Ok(())
    }
}

/// Whether what is left is worth a message.
fn worth(thinner: &Thinner) -> bool {
    thinner.kept() * 100 <= thinner.seen() * WORTH
}

fn window(first_ms: u32, level: u8) -> u32 {
    first_ms.saturating_mul(10u32.saturating_pow(u32::from(level.saturating_sub(1))))
}
