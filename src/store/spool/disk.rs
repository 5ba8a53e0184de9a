//! spool.db: what the writer and the reader do to it.

use super::{
    codec::{self, Corrupt},
    core::{
        Run,
        cursor::{self, Cursor, Partial},
    },
    ring::{Alive, Ring, Segment},
    series::{Dictionary, Series},
};
use crate::{
    limits,
    model::{Boot, BootIndex, ClockReading, DeviceId, Epoch, PointId, Sealed},
    store::{Holder, StoreError, boots::BootRow, db},
};
use rusqlite::{Connection, Row, params};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

mod salvage;
pub use salvage::{Salvage, is_whole};

const MIGRATIONS: &[&str] = &[include_str!("../migrations/spool_001.sql"), include_str!("../migrations/spool_002.sql")];
const PAGE: u64 = 4096;
/// Of a row's body, what one of its overflow pages holds.
const PAGE_BODY: u64 = 4092;
/// A page in the write-ahead log.
const PAGE_LOGGED: u64 = 4120;

/// How the limit on the disk is divided.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub disk_max: u64,
    pub checkpoint: u32,
    pub segment_bytes: usize,
    pub segment_samples: u64,
    pub series: usize,
    /// Of the file without its log.
    pub pages_max: u64,
}

impl Sizes {
    pub fn of(disk_max: u64) -> Sizes {
        let checkpoint = u32::try_from(disk_max / PAGE / 32).unwrap_or(u32::MAX).clamp(16, db::CHECKPOINT_PAGES);
        let segment_bytes = usize::try_from(disk_max / 32).unwrap_or(usize::MAX).min(limits::SPOOL_SEGMENT_BYTES);
        // The log is emptied by the commit after the one that fills it.
        let log_pages = u64::from(checkpoint) + 2 * (segment_bytes as u64 / PAGE_BODY) + 16;
        let pages_max = disk_max.saturating_sub(log_pages * PAGE_LOGGED) / PAGE;
        Sizes {
            disk_max,
            checkpoint,
            segment_bytes,
            segment_samples: limits::SPOOL_SEGMENT_SAMPLES,
            series: limits::SPOOL_SERIES,
            pages_max,
        }
    }
}

#[derive(Debug)]
pub struct Disk {
    db: Connection,
    path: PathBuf,
    pub series: Series,
    pub sizes: Sizes,
    /// Names this file, as its counts of writes mean nothing in another one.
    pub file: i64,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Found {
    pub disk: Disk,
    pub ring: Ring,
    pub cursors: Vec<Cursor>,
    pub runs: Vec<Run>,
    pub boots: Vec<BootRow>,
}

/// Segments that a gap event has announced but whose rows may still be there: file, then counts of writes.
pub type Gone = (i64, Vec<u64>);

pub struct Write<'a> {
    pub slot: u32,
    pub n: u64,
    pub epoch: Epoch,
    pub boot: BootIndex,
    pub at: Boot,
    pub first: u64,
    pub last: u64,
    pub batches: usize,
    pub samples: u64,
    pub body: &'a [u8],
}

/// The row that says how far each uplink is.
pub struct Meta {
    pub head: u64,
    pub epoch: Epoch,
    pub telemetry: u64,
    /// How far each uplink is.
    pub cursors: Vec<u8>,
}

impl Disk {
    /// `holders`: the uplinks, and at least one. One that is not among them holds nothing any more; one that is new begins
    /// with what is kept.
    pub fn load(path: &Path, sizes: Sizes, new_file: i64, gone: Option<&Gone>, holders: &[Holder]) -> Result<Found, StoreError> {
        let db = db::open(path, MIGRATIONS, sizes.checkpoint)?;
        load(db, path, sizes, new_file, gone, holders).map_err(|source| StoreError::Open { path: path.to_owned(), source })
    }

    /// One transaction: what is new in the dictionary and the boots, the segment, the meta row where it changed.
    pub fn commit(&mut self, write: Option<&Write>, meta: Option<&Meta>, boots: &[BootRow]) -> rusqlite::Result<()> {
        let result = self.try_commit(write, meta, boots);
        match result {
            Ok(()) => self.series.committed(),
            Err(_) => self.series.rolled_back(),
        }
        result
    }

    fn try_commit(&mut self, write: Option<&Write>, meta: Option<&Meta>, boots: &[BootRow]) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        for b in boots {
            let quality = u8::from(b.clock.is_synchronised());
            tx.prepare_cached("REPLACE INTO boot (id, uuid, offset_ms, quality) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                b.id.0,
                b.uuid,
                b.clock.offset_ms,
                quality
            ])?;
        }
        if let Some(w) = write {
            let mut add = tx.prepare_cached("REPLACE INTO series (id, device, point) VALUES (?1, ?2, ?3)")?;
            for (id, (device, point)) in self.series.pending() {
                add.execute(params![id as i64, device.as_str(), point.as_str()])?;
            }
            tx.prepare_cached(
                "REPLACE INTO segment (slot, n, epoch, boot, at, first_seq, last_seq, batches, samples, bytes, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                w.slot,
                w.n.cast_signed(),
                w.epoch.0.cast_signed(),
                w.boot.0,
                w.at.0.cast_signed(),
                w.first.cast_signed(),
                w.last.cast_signed(),
                w.batches as i64,
                w.samples.cast_signed(),
                w.body.len() as i64,
                w.body
            ])?;
        }
        if let Some(meta) = meta {
            tx.prepare_cached("UPDATE meta SET head = ?1, epoch = ?2, telemetry = ?3, cursors = ?4")?.execute(params![
                meta.head.cast_signed(),
                meta.epoch.0.cast_signed(),
                meta.telemetry.cast_signed(),
                meta.cursors
            ])?;
        }
        tx.commit()
    }

    /// Deletes rows that nobody needs; their pages are used again.
    pub fn delete(&mut self, slots: &[u32]) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        {
            let mut delete = tx.prepare_cached("DELETE FROM segment WHERE slot = ?1")?;
            for slot in slots {
                delete.execute([slot])?;
            }
        }
        tx.commit()
    }

    /// Bytes by which the file would grow over its limit with such a body.
    pub fn missing(&self, body: usize) -> rusqlite::Result<u64> {
        let names: usize = self.series.pending().map(|(_, (device, point))| device.as_str().len() + point.as_str().len() + 12).sum();
        let needed = body as u64 / PAGE_BODY + 8 + names as u64 / PAGE;
        let (pages, unused) = (self.pragma("page_count")?, self.pragma("freelist_count")?);
        Ok((pages.saturating_sub(unused) + needed).saturating_sub(self.sizes.pages_max) * PAGE)
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        self.db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// The file with its log.
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        size(&self.path) + size(&PathBuf::from(format!("{}-wal", self.path.display())))
    }

    /// What a commit of such a body writes, to the log and later from there to the file.
    pub fn cost(body: usize) -> u64 {
        (body as u64 / PAGE_BODY + 3) * (PAGE_LOGGED + PAGE)
    }

    /// All of the log into the file, at the end.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    pub fn body(&self, slot: u32) -> rusqlite::Result<Vec<u8>> {
        self.db.query_row("SELECT body FROM segment WHERE slot = ?1", [slot], |r| r.get(0))
    }
}

fn load(db: Connection, path: &Path, sizes: Sizes, new_file: i64, gone: Option<&Gone>, holders: &[Holder]) -> rusqlite::Result<Found> {
    db.execute("INSERT OR IGNORE INTO meta (id, file, head, epoch, telemetry, alive) VALUES (1, ?1, 0, 0, 0, x'0000')", [new_file])?;
    let meta = load_meta(&db)?;
    let gone = gone.filter(|(of, _)| *of == meta.file).map(|(_, n)| n.as_slice()).unwrap_or_default();
    let boots = boots(&db)?;
    let series = series(&db, sizes.series)?;
    let disk = Disk { db, path: path.to_owned(), series, sizes, file: meta.file };
    let mut found = Found::empty(disk, boots, holders);
    found.read_segments(&meta.kept(holders), gone)?;
    found.ring.head = found.ring.head.max(meta.head);
    found.shrink()?;
    if let Some(run) = found.runs.iter_mut().find(|r| r.epoch == meta.epoch) {
        run.highest = run.highest.max(meta.telemetry);
    } else if meta.telemetry > 0 {
        found.runs.push(Run { epoch: meta.epoch, boot: BootIndex(0), highest: meta.telemetry });
    }
    Ok(found)
}

/// By name, what each uplink did not have.
type Kept = Vec<(String, Alive)>;

/// The row of the table `meta`.
struct MetaRow {
    file: i64,
    head: u64,
    epoch: Epoch,
    telemetry: u64,
    alive: Vec<u8>,
    cursors: Vec<u8>,
}

impl MetaRow {
    fn kept(&self, holders: &[Holder]) -> Kept {
        if self.cursors.is_empty() {
            // Of a version with one uplink, whose name it did not write: the first one's.
            return vec![(holders.first().map_or(String::new(), |h| h.id.to_string()), Alive::read(&self.alive).unwrap_or_default())];
        }
        // What cannot be read only repeats.
        cursor::read(&self.cursors).unwrap_or_else(|_| everything())
    }
}

fn everything() -> Kept {
    vec![(String::new(), Alive::default())]
}

fn load_meta(db: &Connection) -> rusqlite::Result<MetaRow> {
    db.query_row("SELECT file, head, epoch, telemetry, alive, cursors FROM meta", [], |r| {
        let (head, epoch, telemetry): (i64, i64, i64) = (r.get(1)?, r.get(2)?, r.get(3)?);
        let (epoch, telemetry) = (Epoch(epoch.cast_unsigned()), telemetry.cast_unsigned());
        let head = head.cast_unsigned().min(1 << 62);
        Ok(MetaRow { file: r.get(0)?, head, epoch, telemetry, alive: r.get(4)?, cursors: r.get(5)? })
    })
}

impl Found {
    /// The file outgrew a limit that was lowered since. It can only shrink cheaply while nothing waits in it.
    fn shrink(&mut self) -> rusqlite::Result<()> {
        if self.ring.left == 0 && self.disk.pragma("page_count")? > self.disk.sizes.pages_max {
            self.disk.db.execute_batch("DELETE FROM segment; VACUUM")?;
            let head = self.ring.head;
            self.ring = Ring::default();
            self.ring.head = head;
        }
        Ok(())
    }
}

/// A row of the table `segment`, without its body.
struct SegmentRow {
    slot: u32,
    n: u64,
    epoch: Epoch,
    boot: BootIndex,
    at: Boot,
    first: u64,
    last: u64,
    batches: u32,
    samples: u32,
    bytes: u32,
}

const SEGMENT_ROW: &str = "SELECT slot, n, epoch, boot, at, first_seq, last_seq, batches, samples, bytes FROM segment";

impl SegmentRow {
    /// Of a damaged file a row may hold anything; counting over such numbers would never end.
    const fn is_plausible(&self) -> bool {
        const MOST: u64 = 1 << 62;
        let span = self.last.saturating_sub(self.first);
        self.slot < 1 << 28
            && self.n < MOST
            && self.last < MOST
            && self.first <= self.last
            && span < 1 << 20
            && self.batches as u64 <= span + 1
    }
}

fn segment_row(r: &Row) -> rusqlite::Result<SegmentRow> {
    let number = |column: usize| r.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(SegmentRow {
        slot: r.get(0)?,
        n: number(1)?,
        epoch: Epoch(number(2)?),
        boot: BootIndex(r.get(3)?),
        at: Boot(number(4)?),
        first: number(5)?,
        last: number(6)?,
        batches: r.get(7)?,
        samples: r.get(8)?,
        bytes: r.get(9)?,
    })
}

impl Found {
    fn empty(disk: Disk, boots: Vec<BootRow>, holders: &[Holder]) -> Found {
        let cursors = holders.iter().enumerate().map(|(n, h)| Cursor::new(h.clone(), n)).collect();
        Found { disk, ring: Ring::default(), cursors, runs: Vec::new(), boots }
    }

    fn read_segments(&mut self, kept: &[(String, Alive)], gone: &[u64]) -> rusqlite::Result<()> {
        let Found { disk, ring, cursors, runs, .. } = self;
        let mut all = disk.db.prepare(&format!("{SEGMENT_ROW} ORDER BY n"))?;
        let mut rows = all.query([])?;
        while let Some(r) = rows.next()? {
            take_row(&segment_row(r)?, kept, gone, runs, ring, cursors);
        }
        Ok(())
    }
}

/// Into the ring, or among the free slots.
fn take_row(row: &SegmentRow, kept: &[(String, Alive)], gone: &[u64], runs: &mut Vec<Run>, ring: &mut Ring, cursors: &mut [Cursor]) {
    let SegmentRow { slot, n, epoch, boot, at, first, last, batches, samples, bytes } = *row;
    if !row.is_plausible() {
        tracing::error!(slot, n, first, last, batches, "a row of spool.db is garbage; it is left out");
        return;
    }
    let run = run_of(runs, epoch, boot);
    runs[run].highest = runs[run].highest.max(last);
    let (epoch, span) = (u32::try_from(run).unwrap_or(0), u32::try_from(last - first).unwrap_or(u32::MAX));
    let mut segment = Segment { at, first, slot, epoch, span, left: batches, samples, bytes, done: 0 };
    let share = |of: u32| u64::from(samples) * u64::from(of) / u64::from(batches.max(1));
    let is_kept = kept.iter().any(|(_, alive)| alive.contains(n)) && !gone.contains(&n);
    let mut parts: Vec<Option<Partial>> = Vec::new();
    for c in &*cursors {
        let own = kept.iter().find(|(name, _)| *name == c.holder.id.as_str()).map(|(_, alive)| alive);
        let seqs = own.and_then(|alive| alive.delivered.get(&n).cloned()).unwrap_or_default();
        let has = u32::try_from(seqs.len()).unwrap_or(u32::MAX);
        if !is_kept || own.is_some_and(|alive| !alive.contains(n)) || has >= batches {
            segment.done |= c.bit;
        }
        parts.push(Some(Partial { seqs, samples: share(has) }));
    }
    if cursors.iter().all(|c| !c.wants(&segment)) {
        ring.free(slot, bytes.max(1));
        return;
    }
    // With one uplink the ring itself knows what is delivered of a segment.
    let delivered = if cursors.len() == 1 { parts.pop().flatten().unwrap_or_default().seqs } else { Default::default() };
    segment.left = segment.left.saturating_sub(u32::try_from(delivered.len()).unwrap_or(u32::MAX));
    segment.samples = u32::try_from(share(segment.left)).unwrap_or(samples);
    parts.resize(cursors.len(), None);
    cursors.iter_mut().zip(parts).filter(|(c, _)| c.wants(&segment)).for_each(|(c, part)| c.restore(n, &segment, part));
    ring.insert(n, segment, delivered);
}

fn run_of(runs: &mut Vec<Run>, epoch: Epoch, boot: BootIndex) -> usize {
    if let Some(n) = runs.iter().rposition(|r| r.epoch == epoch) {
        return n;
    }
    runs.push(Run { epoch, boot, highest: 0 });
    runs.len() - 1
}

fn boots(db: &Connection) -> rusqlite::Result<Vec<BootRow>> {
    let mut all = db.prepare("SELECT id, uuid, offset_ms, quality FROM boot ORDER BY id")?;
    let rows = all.query_map([], |r| {
        // The whole truth is in state.db; this is for a spool whose state was lost.
        let of = if r.get::<_, i64>(3)? == 1 { ClockReading::synchronised } else { ClockReading::estimated };
        Ok(BootRow { id: BootIndex(r.get(0)?), uuid: r.get(1)?, clock: of(r.get(2)?), seen: Boot(0) })
    })?;
    rows.collect()
}

fn series(db: &Connection, max: usize) -> rusqlite::Result<Series> {
    let mut all = db.prepare("SELECT id, device, point FROM series ORDER BY id")?;
    let rows = all.query_map([], |r| {
        let (device, point): (String, String) = (r.get(1)?, r.get(2)?);
        Ok((r.get::<_, u32>(0)?, DeviceId::parse(&device).ok().zip(PointId::parse(&point).ok())))
    })?;
    let mut known: BTreeMap<u32, _> = BTreeMap::new();
    for row in rows {
        let (id, name) = row?;
        known.insert(id, name);
    }
    let next = known.last_key_value().map_or(0, |(id, _)| id + 1);
    Ok(Series::new((0..next).map(|id| known.remove(&id).flatten()).collect(), max))
}

/// Where a segment is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub n: u64,
    pub slot: u32,
    pub epoch: Epoch,
}

/// Why a segment gave no batches.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Damaged(#[from] Corrupt),
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
}

impl Unread {
    /// It will not get better by itself.
    pub fn is_final(&self) -> bool {
        match self {
            Unread::Damaged(_) => true,
            Unread::Sql(e) => db::is_damaged(e) || matches!(e, rusqlite::Error::QueryReturnedNoRows),
        }
    }
}

/// The uplink's own connection: it reads while the writer writes.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
    path: PathBuf,
    dictionary: Dictionary,
}

impl Reader {
    pub fn open(disk: &Disk) -> Result<Reader, StoreError> {
        Ok(Reader { db: db::reader(&disk.path)?, path: disk.path.clone(), dictionary: disk.series.dictionary.clone() })
    }

    pub fn segment(&self, n: u64, slot: u32, epoch: Epoch) -> Result<Vec<Sealed>, Unread> {
        let body = self.db.prepare_cached("SELECT body FROM segment WHERE slot = ?1 AND n = ?2")?.query_row(
            params![slot, n.cast_signed()],
            |r| {
                // Without a copy: decoded where SQLite holds it.
                Ok(codec::decode(r.get_ref(0)?.as_blob().unwrap_or_default(), epoch, &self.dictionary))
            },
        )?;
        Ok(body?)
    }
}
