//! The writer's turn on spool.db: save what is due, make room, keep the limit.
//!
//! Order at the limit: stale rows of delivered segments go first; then the gap event is committed in state.db; only
//! then the oldest rows go.

use super::{
    Spool, codec,
    core::Core,
    disk::{Disk, Meta, Write},
    gaps::{self, Gap, Gaps},
    ring::Segment,
};
use crate::{
    limits,
    model::{Boot, Receipt, Replaced, Sealed},
    store::boots::{BootRow, Clocks},
};
use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Duration};

/// Batches with their body, and now.
type Packed<'a> = (&'a [Arc<Sealed>], &'a [u8], Boot);

type Taken = (u64, Segment, BTreeSet<u64>);

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
}

impl Saver {
    pub fn new(disk: Disk, gone: Vec<u64>) -> Saver {
        Saver { disk, clock: None, gone, in_hand: Vec::new(), retry: limits::WRITE_RETRY_MIN, failing: false }
    }

    /// Does what is due, or with `all` everything. Errors are told in the figures and once in the log, and tried again.
    pub fn turn(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, all: bool, announce: Announce) -> bool {
        let (save, flush) = {
            let core = spool.lock();
            (all || core.is_save_due(now), all || core.is_flush_due(now))
        };
        if !save && !flush {
            return true;
        }
        // If that fails, so does what follows.
        let _ = self.disk.relax();
        let result = if save { self.save(spool, clocks, now, announce) } else { Ok(false) };
        // A cursor alone is written where nothing else took it along.
        let result = result.and_then(|wrote| if flush && !wrote { self.write(spool, clocks, None) } else { Ok(()) });
        let result = result.and_then(|()| self.thin(spool, clocks, now, announce));
        self.outcome(spool, now, &result);
        result.is_ok()
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
                    tracing::warn!("the file system is full: telemetry stays within the {} KiB of spool.db", self.disk.bytes() >> 10);
                    self.retry = limits::WRITE_RETRY_MIN;
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

    fn write(&mut self, spool: &Spool, clocks: &Clocks, segment: Option<Packed>) -> rusqlite::Result<()> {
        let here = clocks.here();
        let boots: Vec<BootRow> = (self.clock.as_ref() != Some(&here)).then(|| here.clone()).into_iter().collect();
        let (mut meta, prepared) = {
            let mut core = spool.lock();
            let prepared = segment.map(|(batches, body, now)| prepare(&mut core, batches, body, now));
            let run = *core.runs.last().expect("our own run is always there");
            // Without a segment, all that was ever sealed is either saved or acknowledged, or it says less.
            let telemetry = core.first_unsaved().map_or(run.highest, |seq| seq - 1);
            (
                Meta {
                    head: core.ring.head,
                    epoch: run.epoch,
                    telemetry,
                    alive: core.ring.alive_with(&self.in_hand),
                    owes: core.gaps.owes(),
                },
                prepared,
            )
        };
        let write = prepared.as_ref().zip(segment).map(|((n, s), (batches, body, _))| {
            meta.head = n + 1;
            meta.telemetry = meta.telemetry.max(s.last());
            Write {
                slot: s.slot,
                n: *n,
                epoch: meta.epoch,
                boot: here.id,
                at: s.at,
                first: s.first,
                last: s.last(),
                batches: batches.len(),
                samples: batches.iter().map(|b| b.samples()).sum(),
                body,
                thinned: None,
            }
        });
        let result = self.disk.commit(write.as_ref(), &meta, &boots);
        let mut core = spool.lock();
        if let Err(e) = result {
            if let Some((_, s)) = prepared {
                core.ring.give_back(s.slot);
            }
            return Err(e);
        }
        self.clock = Some(here);
        self.gone.clear();
        core.counts.commits += 1;
        core.counts.bytes_written += Disk::cost(segment.map_or(0, |(_, body, _)| body.len()));
        let receipts = match (prepared, segment) {
            (Some((n, s)), Some((batches, ..))) => core.saved(n, s, batches),
            _ => Vec::new(),
        };
        drop(core);
        receipts.into_iter().for_each(Receipt::keep);
        spool.tell();
        Ok(())
    }

    fn make_room(&mut self, spool: &Spool, body: usize, announce: Announce) -> rusqlite::Result<()> {
        if !self.disk.log_takes(body)? {
            return Err(held());
        }
        loop {
            let missing = self.disk.missing(body)?;
            if missing == 0 {
                return Ok(());
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
        let gaps = self.gaps_of(spool, &taken, None);
        let mut gone = self.gone.clone();
        gone.extend(taken.iter().map(|(n, ..)| n));
        if !announce(gaps, &gone) {
            spool.lock().put_back(taken);
            return Err(full());
        }
        self.gone = gone;
        let slots: Vec<u32> = taken.iter().map(|(_, s, _)| s.slot).collect();
        {
            let mut core = spool.lock();
            for (_, s, _) in &taken {
                core.drop_samples(u64::from(s.samples));
                core.ring.free(s.slot, s.bytes);
            }
            core.let_go();
        }
        self.disk.delete(&slots)?;
        spool.lock().ring.emptied(&slots);
        Ok(())
    }

    /// Exactly what will never come, one gap for each run of numbers.
    fn gaps_of(&self, spool: &Spool, taken: &[Taken], replaced_by: Option<Replaced>) -> Vec<Gap> {
        let limit = mebibytes(self.disk.sizes.disk_max);
        let why = if self.disk.sizes.squeezed {
            "the file system is full".into()
        } else {
            format!("the limit on the disk of {limit} was reached (buffer.disk_max)")
        };
        let reason: Cow<'static, str> = if replaced_by.is_some() { format!("thinned: {why}").into() } else { why.into() };
        let mut all = Gaps::default();
        for (_, s, delivered) in taken {
            let epoch = spool.lock().epoch_of(s.epoch);
            let mut owe = |from, to, samples| all.owe(Gap { epoch, from, to, samples, reason: reason.clone(), replaced_by });
            let complete = u64::from(s.left) == u64::from(s.span) + 1;
            if complete {
                owe(s.first, s.last(), u64::from(s.samples));
                continue;
            }
            let contents = self.disk.body(s.slot).ok().and_then(|body| codec::directory(&body).ok());
            match contents {
                Some(contents) => {
                    contents.into_iter().filter(|(seq, _)| !delivered.contains(seq)).for_each(|(seq, samples)| owe(seq, seq, samples));
                }
                None => {
                    let gaps = gaps::ranges(epoch, s.first..=s.last(), delivered, u64::from(s.samples), reason.clone());
                    gaps.into_iter().for_each(|g| all.owe(Gap { replaced_by, ..g }));
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
        at: core.sealed_at(batches).unwrap_or(now),
        first,
        slot: core.ring.take_slot(),
        epoch: core.ours(),
        span: narrow(last - first),
        left: narrow(batches.len() as u64),
        samples: narrow(batches.iter().map(|b| b.samples()).sum()),
        bytes: narrow(body.len() as u64),
        boot: core.our_boot(),
        level: 0,
    };
    (core.ring.head, segment)
}

mod thinning;

fn held() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some("another program has been reading spool.db for long and holds its log".into()),
    )
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
