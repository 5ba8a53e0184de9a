//! The writer's turn on spool.db: save what is due, make room, keep the limit.
//!
//! Order at the limit: stale rows of delivered segments go first; then the gap event is committed in state.db; only
//! then the oldest rows go.

mod replacing;

use super::{
    Spool, codec,
    core::{Core, saving::Taken},
    disk::{Disk, Mark, Meta, Write},
    gaps::{self, Gap, Gaps},
    ring::Segment,
};
use crate::{
    limits,
    model::{Boot, Epoch, Receipt, Replaced, Sealed, UplinkId, UplinkIndex},
    store::boots::{BootRow, Clocks},
    system::trust,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Batches with their body, and now.
type Packed<'a> = (&'a [Arc<Sealed>], &'a [u8], Boot);

/// Who loses what of a segment, and what of it was delivered.
type Loss = (Option<UplinkId>, Segment, BTreeSet<u64>);

/// Commits gap events and the list of segments that they announce; `false`: state.db could not be written.
pub type Announce<'a> = &'a mut dyn FnMut(Vec<Gap>, &[u64]) -> bool;

#[derive(Debug)]
pub struct Saver {
    disk: Disk,
    /// As last written to spool.db.
    clock: Option<BootRow>,
    /// Announced as gone, but their rows may still be there.
    gone: Vec<u64>,
    /// What is being thinned: in no list, but it counts.
    in_hand: Vec<Taken>,
    retry: Duration,
    failing: bool,
    /// Of the last turn that failed.
    error: Option<rusqlite::Error>,
}

impl Saver {
    pub fn new(disk: Disk, gone: Vec<u64>) -> Saver {
        Saver { disk, clock: None, gone, in_hand: Vec::new(), retry: limits::WRITE_RETRY_MIN, failing: false, error: None }
    }

    /// Does what is due, or with `all` everything. Errors are told in the figures and once in the log, and tried again.
    pub fn turn(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, all: bool, announce: Announce) -> bool {
        let (save, flush) = {
            let core = spool.lock();
            (all || core.is_save_due(now), all || core.is_flush_due(now))
        };
        let replace = !all && spool.lock().is_replace_due(now);
        if !save && !flush && !replace {
            return true;
        }
        // If that fails, so does what follows.
        let _ = self.disk.relax();
        let result = if save { self.save(spool, clocks, now, announce) } else { Ok(false) };
        let result = if replace { result.and_then(|wrote| Ok(self.replace(spool, clocks, now, announce)? || wrote)) } else { result };
        // A cursor alone is written where nothing else took it along, and at the end: what a segment was written with is
        // what each uplink had of those before it.
        let result = result.and_then(|wrote| if all || (flush && !wrote) { self.write(spool, clocks, None) } else { Ok(()) });
        let result = result.and_then(|()| self.thin(spool, clocks, now, announce));
        self.outcome(spool, now, &result);
        self.error = result.err();
        self.error.is_none()
    }

    pub fn take_error(&mut self) -> Option<rusqlite::Error> {
        self.error.take()
    }

    pub fn disk(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// What was announced as gone and may still be in the file.
    pub fn gone(&self) -> &[u64] {
        &self.gone
    }

    /// Another file has taken the place of the one before.
    pub fn begun_anew(&mut self) {
        self.clock = None;
        self.gone.clear();
        self.retry = limits::WRITE_RETRY_MIN;
        // Its notes name nothing that is replaced.
        self.disk.mark = Mark::None;
        self.disk.stock();
    }

    /// The row that goes with a commit without a segment. `in_hand`: segments that are in no list for the moment.
    pub fn meta(core: &mut Core, in_hand: &[Taken]) -> Meta {
        let cursors = core.written_holding(in_hand, None);
        meta_of(core, cursors)
    }

    fn outcome(&mut self, spool: &Spool, now: Boot, result: &Result<(), rusqlite::Error>) {
        let mut core = spool.lock();
        core.counts.disk_bytes = self.disk.bytes();
        match result {
            Ok(()) => {
                core.worked();
                core.flushed();
                core.counts.trouble.clear();
                self.retry = limits::WRITE_RETRY_MIN;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("telemetry is written to the disk again");
                }
            }
            Err(e) => {
                if !self.disk.sizes.squeezed && self.disk.is_full(e) && self.disk.squeeze().is_ok() {
                    self.retry = limits::WRITE_RETRY_MIN;
                }
                if self.disk.sizes.squeezed {
                    // The log may have grown to where there is no more room for it.
                    let _ = self.disk.restart_log();
                }
                core.failed(now, self.retry);
                core.counts.trouble = format!("cannot write spool.db: {e}");
                self.retry = (self.retry * 2).min(limits::WRITE_RETRY_MAX);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = %e, "telemetry cannot be written to the disk; it is kept in RAM, and the write is tried again");
                }
            }
        }
    }

    /// All that is not acknowledged, in as many segments as it takes. Each is a transaction, so that the log stays small.
    fn save(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, announce: Announce) -> rusqlite::Result<bool> {
        let newest = spool.lock().last();
        let mut wrote = false;
        loop {
            let mut batches = spool.lock().begin_save(self.disk.sizes.segment_samples);
            // What is sealed while this runs has a window of its own.
            if batches.first().is_none_or(|b| b.key.seq > newest) {
                spool.lock().end_save(&batches);
                return Ok(wrote);
            }
            let body = self.pack(spool, &mut batches);
            let result = self.make_room(spool, body.len(), announce).and_then(|()| self.write(spool, clocks, Some((&batches, &body, now))));
            if let Err(e) = result {
                self.disk.series.rolled_back();
                spool.lock().end_save(&batches);
                return Err(e);
            }
            wrote = true;
        }
    }

    /// The body of as many of them as fit; the others are let go.
    fn pack(&mut self, spool: &Spool, batches: &mut Vec<Arc<Sealed>>) -> Vec<u8> {
        loop {
            let body = codec::encode(batches, |frame| self.disk.series.shape(frame));
            if body.len() <= self.disk.sizes.segment_bytes || batches.len() == 1 {
                return body;
            }
            let others = batches.split_off(batches.len().div_ceil(2));
            spool.lock().end_save(&others);
        }
    }

    /// The row of the boot that we run in, if a commit must write it.
    fn boots(&self, clocks: &Clocks) -> Vec<BootRow> {
        let here = clocks.here();
        let known = self.clock.as_ref().is_some_and(|row| row.id == here.id && !trust::differs(&row.clock, &here.clock));
        (!known).then_some(here).into_iter().collect()
    }

    fn write(&mut self, spool: &Spool, clocks: &Clocks, segment: Option<Packed>) -> rusqlite::Result<()> {
        let boots = self.boots(clocks);
        let (epoch, meta, prepared) = {
            let mut core = spool.lock();
            let prepared = segment.map(|(batches, body, now)| prepare(&mut core, batches, body, now));
            // A note may be struck out only when it is known that its gap event is owed no more.
            let wanted = core.take_moved() || prepared.is_none() || self.disk.mark == Mark::Void;
            let meta = wanted.then(|| {
                let mut meta = Saver::meta(&mut core, &self.in_hand);
                if let Some((n, s)) = &prepared {
                    (meta.head, meta.telemetry) = (n + 1, meta.telemetry.max(s.last()));
                }
                meta
            });
            (core.epoch_of(core.ours()), meta, prepared)
        };
        let write = prepared.as_ref().zip(segment).map(|(new, (_, body, _))| write_of(new, epoch, body));
        let result = self.disk.commit(write.as_ref(), meta.as_ref(), &boots);
        let mut core = spool.lock();
        if let Err(e) = result {
            if let Some((_, s)) = prepared {
                core.ring.give_back(s.slot);
            }
            core.not_said();
            return Err(e);
        }
        self.committed(&mut core, boots, segment.map_or(0, |(_, body, _)| body.len()));
        let receipts = match (prepared, segment) {
            (Some((n, s)), Some((batches, ..))) => core.saved(n, s, batches),
            _ => Vec::new(),
        };
        drop(core);
        receipts.into_iter().for_each(Receipt::keep);
        spool.tell();
        Ok(())
    }

    /// What a commit with the meta row, or one that needed none, makes true.
    fn committed(&mut self, core: &mut Core, boots: Vec<BootRow>, body: usize) {
        self.clock = boots.into_iter().next().or(self.clock.take());
        self.gone.clear();
        core.counts.commits += 1;
        core.counts.bytes_written += self.disk.cost(body);
    }

    fn make_room(&mut self, spool: &Spool, body: usize, announce: Announce) -> rusqlite::Result<()> {
        if !self.disk.log_takes(body)? {
            return Err(held());
        }
        self.keep_shares(spool, announce)?;
        loop {
            let missing = self.disk.missing(body)?;
            if missing == 0 && self.disk.secure(body)? {
                return Ok(());
            }
            if missing == 0 {
                continue;
            }
            // A little more than is needed now, so that not every commit at the limit pays for deletions.
            let want = missing.max(self.disk.sizes.disk_max / 64);
            let stale = spool.lock().ring.stale(want);
            if !stale.is_empty() {
                self.disk.delete(&stale)?;
                spool.lock().ring.emptied(&stale);
                continue;
            }
            let taken = spool.lock().take_oldest(want);
            if taken.is_empty() {
                return Err(full());
            }
            self.give_up(spool, taken, announce)?;
        }
    }

    /// The gap event first, then the rows.
    fn give_up(&mut self, spool: &Spool, taken: Vec<Taken>, announce: Announce) -> rusqlite::Result<()> {
        let gaps = self.gaps_of(spool, &losses(spool, &taken), &self.limit(), None);
        let mut gone = self.gone.clone();
        gone.extend(taken.iter().map(|t| t.n));
        if !announce(gaps, &gone) {
            spool.lock().put_back(taken);
            return Err(full());
        }
        self.gone = gone;
        let slots: Vec<u32> = taken.iter().map(|t| t.segment.slot).collect();
        spool.lock().given_up(&taken);
        self.disk.delete(&slots)?;
        spool.lock().ring.emptied(&slots);
        Ok(())
    }

    /// What an optional uplink holds alone beyond its share, it loses, the oldest first. A kill between its gap event and
    /// the next commit sends again what was announced as lost.
    fn keep_shares(&mut self, spool: &Spool, announce: Announce) -> rusqlite::Result<()> {
        let share = self.disk.sizes.disk_max / limits::OPTIONAL_SHARE;
        for n in 0..spool.uplinks() {
            let u = UplinkIndex(n);
            let (lost, views) = {
                let core = spool.lock();
                let lost = core.beyond_share(u, share);
                let name = core.cursors.get(usize::from(n)).map(|c| c.holder.id.clone());
                let views: Vec<Loss> = lost.iter().filter_map(|n| core.view(u, *n)).map(|(s, has)| (name.clone(), s, has)).collect();
                (lost, views)
            };
            if lost.is_empty() {
                continue;
            }
            let reason = format!("an optional uplink may hold {} (a quarter of buffer.disk_max)", mebibytes(share));
            let gaps = self.gaps_of(spool, &views, &reason, None);
            if !announce(gaps, &self.gone) {
                return Err(full());
            }
            spool.lock().give_up(u, &lost);
        }
        Ok(())
    }

    /// Why telemetry must go.
    fn limit(&self) -> String {
        if self.disk.sizes.squeezed {
            return "the file system is full".into();
        }
        format!("the limit on the disk of {} was reached (buffer.disk_max)", mebibytes(self.disk.sizes.disk_max))
    }

    /// Exactly what will never come, one gap for each run of numbers.
    fn gaps_of(&self, spool: &Spool, losses: &[Loss], reason: &str, replaced_by: Option<Replaced>) -> Vec<Gap> {
        let mut all = Gaps::default();
        for (uplink, s, delivered) in losses {
            let epoch = spool.lock().epoch_of(s.epoch);
            let gap =
                |from, to, samples| Gap { epoch, from, to, samples, reason: reason.to_owned().into(), uplink: uplink.clone(), replaced_by };
            let complete = u64::from(s.left) == u64::from(s.span) + 1;
            if complete {
                all.owe(gap(s.first, s.last(), u64::from(s.samples)));
                continue;
            }
            let contents = self.disk.body(s.slot).ok().and_then(|body| codec::directory(&body).ok());
            match contents {
                Some(contents) => contents
                    .into_iter()
                    .filter(|(seq, _)| !delivered.contains(seq))
                    .for_each(|(seq, samples)| all.owe(gap(seq, seq, samples))),
                None => {
                    let gaps = gaps::ranges(epoch, s.first..=s.last(), delivered, u64::from(s.samples), reason.to_owned().into());
                    gaps.into_iter().for_each(|g| all.owe(Gap { uplink: uplink.clone(), replaced_by, ..g }));
                }
            }
        }
        all.take()
    }

    /// The end: everything is written and the log emptied into the file.
    pub fn close(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, announce: Announce) -> bool {
        let done = self.turn(spool, clocks, now, true, announce);
        if let Err(e) = self.disk.checkpoint() {
            tracing::warn!(error = %e, "the log of spool.db could not be emptied");
        }
        done
    }

    pub fn file(&self) -> i64 {
        self.disk.file
    }
}

fn prepare(core: &mut Core, batches: &[Arc<Sealed>], body: &[u8], now: Boot) -> (u64, Segment) {
    let first = batches.first().map_or(0, |b| b.key.seq);
    let last = batches.last().map_or(0, |b| b.key.seq);
    let narrow = |v: u64| u32::try_from(v).unwrap_or(u32::MAX);
    let segment = Segment {
        at: core.sealed_at(batches).or_else(|| oldest_row(batches)).unwrap_or(now),
        first,
        slot: core.ring.take_slot(),
        epoch: core.ours(),
        span: narrow(last - first),
        left: narrow(batches.len() as u64),
        samples: narrow(batches.iter().map(|b| b.samples()).sum()),
        bytes: narrow(body.len() as u64),
        // Parts of a batch of an older boot keep it.
        boot: batches.first().map_or(core.our_boot(), |b| b.boot),
        level: 0,
        done: 0,
    };
    (core.ring.head, segment)
}

/// Of batches that nobody sealed just now: on the clock of their boot.
fn oldest_row(batches: &[Arc<Sealed>]) -> Option<Boot> {
    batches.iter().flat_map(|b| &b.frames).flat_map(|f| &f.rows).map(|row| row.at).min()
}

/// Whom the loss of these concerns, those of one uplink together.
fn losses(spool: &Spool, taken: &[Taken]) -> Vec<Loss> {
    let core = spool.lock();
    let mut all: Vec<Loss> = taken.iter().flat_map(|t| core.losers(t)).collect();
    all.sort_by(|a, b| a.0.as_ref().map(UplinkId::as_str).cmp(&b.0.as_ref().map(UplinkId::as_str)));
    all
}

mod thinning;

fn held() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some("another program has been reading spool.db for long and holds its log".into()),
    )
}

/// As it is before the segment that goes with it.
fn meta_of(core: &Core, cursors: Vec<u8>) -> Meta {
    // All that was ever sealed is either saved or acknowledged, or it says less.
    let telemetry = core.first_unsaved().map_or(core.last(), |seq| seq - 1);
    Meta { head: core.ring.head, epoch: core.epoch_of(core.ours()), telemetry, cursors, owes: core.gaps.owes() }
}

/// The row of a segment that stands for nothing but itself.
fn write_of<'a>((n, s): &(u64, Segment), epoch: Epoch, body: &'a [u8]) -> Write<'a> {
    Write {
        slot: s.slot,
        n: *n,
        epoch,
        boot: s.boot,
        at: s.at,
        first: s.first,
        last: s.last(),
        batches: s.left as usize,
        samples: u64::from(s.samples),
        body,
        thinned: None,
    }
}

fn full() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
        Some("buffer.disk_max is reached and nothing can be dropped now".into()),
    )
}

fn mebibytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}
