//! A new spool.db made from a damaged one, some segments at a time, while everything else goes on.
//!
//! The new file lies beside the old one as `spool.db.new` until it is whole; a kill in between begins again. Nothing is
//! written to the old file meanwhile: telemetry waits in RAM, where it is sent from. So no series gets a number that a
//! segment of the old file uses for another one: segments are carried over only if the dictionary names all of theirs.

use super::{
    Disk, Found, MIGRATIONS, Meta, Reader, Sizes, Unread,
    found::{self, MetaRow, SegmentRow, load_meta, run_of, take_row},
    notes::Thinned,
};
use crate::{
    limits,
    model::{Boot, BootIndex, ClockReading, DeviceId, Epoch, PointId, Sealed},
    store::{
        Holder, StoreError,
        boots::BootRow,
        db::{self, Page},
        quarantine::{self, beside},
        spool::{Spool, codec, core::Run, gaps::Gap, ring::Segment, series::Series},
    },
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Of a file, for each of its slots at least, on an average.
const SLOT_BYTES: u64 = 512;

type Name = Option<(DeviceId, PointId)>;

pub struct Salvage {
    /// `None`: the file is gone from its place, and only the writer's own connection still reads it.
    old: Option<Connection>,
    new: Connection,
    path: PathBuf,
    file: i64,
    todo: VecDeque<u64>,
    /// Unreadable the first time, maybe for the disk's sake.
    again: VecDeque<u64>,
    /// Segments that cannot be read, with the numbers that RAM had of them.
    pub cut: BTreeMap<u64, BTreeSet<u64>>,
    pub whole: u64,
}

impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").field("todo", &self.todo.len()).field("cut", &self.cut).finish_non_exhaustive()
    }
}

impl Salvage {
    /// `gone`: the file is not in its place any more.
    pub fn begin(disk: &Disk, gone: bool, file: i64, spool: &Spool) -> Result<Salvage, StoreError> {
        let path = beside(&disk.path, ".new");
        quarantine::remove(&path).map_err(|source| StoreError::Directory { path: path.clone(), source })?;
        // Where not even that works, the writer's own connection may have something in its cache.
        let old = if gone { None } else { db::reader(&disk.path).ok() };
        let new = db::open(&path, MIGRATIONS, disk.sizes.log_bytes)?;
        let todo = spool.lock().ring.from(0).map(|(n, _)| n).collect();
        let salvage = Salvage { old, new, path, file, todo, again: VecDeque::new(), cut: BTreeMap::new(), whole: 0 };
        salvage.names(disk).map_err(|source| StoreError::Write { file: "spool.db", source })?;
        Ok(salvage)
    }

    /// The dictionary as RAM has it, and the boots as far as they can be read: state.db knows them too.
    fn names(&self, disk: &Disk) -> rusqlite::Result<()> {
        let tx = self.new.unchecked_transaction()?;
        for (id, (device, point)) in disk.series.dictionary.all().into_iter().enumerate().filter_map(|(id, name)| Some((id, name?))) {
            tx.prepare_cached("INSERT INTO series (id, device, point) VALUES (?1, ?2, ?3)")?.execute(params![
                id as i64,
                device.as_str(),
                point.as_str()
            ])?;
        }
        for (id, uuid, offset_ms, quality) in readable_boots(self.old.as_ref().unwrap_or(&disk.db)) {
            let sql = "INSERT OR IGNORE INTO boot (id, uuid, offset_ms, quality) VALUES (?1, ?2, ?3, ?4)";
            tx.prepare_cached(sql)?.execute(params![id, uuid, offset_ms, quality])?;
        }
        tx.commit()
    }

    /// Carries some segments over. `true`: there are no more. An error is one of the new file, and nothing is lost by it.
    pub fn step(&mut self, disk: &mut Disk, spool: &Spool) -> rusqlite::Result<bool> {
        let mut taken = Vec::new();
        let before = self.whole;
        let result = self.carry(disk, spool, &mut taken);
        if result.is_err() {
            // Rolled back with the transaction.
            self.whole = before;
            for n in taken.into_iter().rev() {
                self.cut.remove(&n);
                self.todo.push_front(n);
            }
        }
        result
    }

    fn carry(&mut self, disk: &mut Disk, spool: &Spool, taken: &mut Vec<u64>) -> rusqlite::Result<bool> {
        self.new.execute_batch("BEGIN")?;
        let result = self.carry_some(disk, spool, taken).and_then(|()| self.new.execute_batch("COMMIT"));
        if result.is_err() {
            // It may have rolled back by itself.
            let _ = self.new.execute_batch("ROLLBACK");
        }
        result.map(|()| self.todo.is_empty() && self.again.is_empty())
    }

    fn carry_some(&mut self, disk: &mut Disk, spool: &Spool, taken: &mut Vec<u64>) -> rusqlite::Result<()> {
        let mut bytes = 0;
        while bytes < limits::SALVAGE_BYTES {
            let (n, last_try) = match (self.todo.pop_front(), self.again.is_empty()) {
                (Some(n), _) => (n, false),
                (None, false) => (self.again.pop_front().unwrap_or(0), true),
                (None, true) => return Ok(()),
            };
            let found = {
                let core = spool.lock();
                core.ring.get(n).cloned().map(|s| (core.runs[s.epoch as usize], s))
            };
            // Delivered meanwhile.
            let Some((run, segment)) = found else { continue };
            taken.push(n);
            let old = self.old.as_ref().unwrap_or(&disk.db);
            match read(old, n, segment.slot, run.epoch, disk) {
                Ok((body, batches)) => {
                    bytes += body.len();
                    self.whole += 1;
                    self.put(n, &segment, run, &body, batches.len() as u64, batches.iter().map(Sealed::samples).sum())?;
                }
                Err(Unread::Sql(e)) if !last_try && db::trouble(&e) == db::Trouble::Failing => {
                    taken.pop();
                    self.again.push_back(n);
                }
                Err(_) => bytes += self.rescue(n, &segment, run, disk, spool)?,
            }
        }
        Ok(())
    }

    /// A segment of what RAM has of the one that cannot be read.
    fn rescue(&mut self, n: u64, segment: &Segment, run: Run, disk: &mut Disk, spool: &Spool) -> rusqlite::Result<usize> {
        let (held, delivered) = {
            let core = spool.lock();
            let held = core.held(n);
            let delivered = (segment.first..=segment.last()).filter(|seq| core.ring.is_delivered(n, *seq)).count();
            (held, delivered)
        };
        let kept: BTreeSet<u64> = held.iter().map(|b| b.key.seq).collect();
        let mut bytes = 0;
        if !held.is_empty() {
            let body = codec::encode(&held, |frame| disk.series.shape(frame));
            // New names cannot come up: these frames were written before. If they did, they would not be in the new file.
            disk.series.rolled_back();
            bytes = body.len();
            // All that are not in it count as delivered from here on.
            let lost = usize::try_from(segment.span).unwrap_or(usize::MAX).saturating_add(1).saturating_sub(held.len());
            let batches = (held.len() + lost.max(delivered)) as u64;
            self.put(n, segment, run, &body, batches, held.iter().map(|b| b.samples()).sum())?;
        }
        self.cut.insert(n, kept);
        Ok(bytes)
    }

    fn put(&self, n: u64, s: &Segment, run: Run, body: &[u8], batches: u64, samples: u64) -> rusqlite::Result<()> {
        let sql = "REPLACE INTO segment (slot, n, epoch, boot, at, first_seq, last_seq, batches, samples, bytes, body)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        self.new.prepare_cached(sql)?.execute(params![
            s.slot,
            n.cast_signed(),
            run.epoch.0.cast_signed(),
            s.boot.0,
            s.at.0.cast_signed(),
            s.first.cast_signed(),
            s.last().cast_signed(),
            batches.cast_signed(),
            samples.cast_signed(),
            body.len() as i64,
            body
        ])?;
        if s.level > 0 {
            let sql = "REPLACE INTO thinned (n, level, replaces) VALUES (?1, ?2, NULL)";
            self.new.prepare_cached(sql)?.execute(params![n.cast_signed(), s.level])?;
        }
        Ok(())
    }

    /// There is no room for more: what was not reached is lost but for what RAM has of it, which is written later.
    pub fn give_up(&mut self) {
        let rest: Vec<u64> = self.todo.drain(..).chain(self.again.drain(..)).collect();
        self.cut.extend(rest.into_iter().map(|n| (n, BTreeSet::new())));
    }

    /// The row that makes it a whole file, and the log into the file. Dropped, it can take its place.
    pub fn finish(&self, meta: &Meta) -> rusqlite::Result<()> {
        let Salvage { new, file, .. } = self;
        new.execute(
            "REPLACE INTO meta (id, file, head, epoch, telemetry, alive, cursors) VALUES (1, ?1, ?2, ?3, ?4, x'0000', ?5)",
            params![file, meta.head.cast_signed(), meta.epoch.0.cast_signed(), meta.telemetry.cast_signed(), meta.cursors],
        )?;
        new.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read(old: &Connection, n: u64, slot: u32, epoch: Epoch, disk: &Disk) -> Result<(Vec<u8>, Vec<Sealed>), Unread> {
    let sql = "SELECT body FROM segment WHERE slot = ?1 AND n = ?2";
    let body: Vec<u8> = old.prepare_cached(sql)?.query_row(params![slot, n.cast_signed()], |r| r.get(0))?;
    let batches = codec::decode(&body, epoch, &disk.series.dictionary)?;
    Ok((body, batches))
}

fn readable_boots(db: &Connection) -> Vec<(u32, String, i64, i64)> {
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut all = db.prepare("SELECT id, uuid, offset_ms, quality FROM boot ORDER BY id")?;
        let rows = all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?;
        // Up to the damage.
        Ok(rows.map_while(Result::ok).collect())
    };
    read().unwrap_or_default()
}

impl Disk {
    /// Leaves the file, whatever state it is in. Every write fails until it is opened again.
    pub fn let_go(&mut self) -> rusqlite::Result<()> {
        self.db = Connection::open_in_memory()?;
        // After the database, whose locks it would drop.
        self.file_room = None;
        Ok(())
    }

    /// A fresh connection: to the same file after an error, or to the one that has taken its place.
    pub fn open_again(&mut self) -> Result<(), StoreError> {
        let fail = |source| StoreError::Open { path: self.path.clone(), source };
        let db = db::open(&self.path, MIGRATIONS, self.roomy.log_bytes)?;
        self.file = db.query_row("SELECT file FROM meta", [], |r| r.get(0)).map_err(fail)?;
        self.page = Page::of(&db).map_err(fail)?;
        self.db = db;
        // Closed while the same file is open it would drop the locks of the database.
        let known = self.file_room.as_ref().and_then(|file| file.metadata().ok()).map(|m| (m.dev(), m.ino()));
        if known.is_none() || known != quarantine::identity(&self.path) {
            self.file_room = File::options().write(true).open(&self.path).ok();
        }
        (self.sizes, self.secured) = (self.roomy, 0);
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As far as a damaged file can be read without any body: row by row. The gaps are those segments of which not even
    /// the row can be read.
    pub fn load_readable(
        path: &Path,
        sizes: Sizes,
        new_file: i64,
        gone: Option<&super::Gone>,
        holders: &[Holder],
    ) -> Result<(Found, Vec<Gap>), StoreError> {
        let fail = |source| StoreError::Open { path: path.to_owned(), source };
        let db = db::open(path, MIGRATIONS, sizes.log_bytes)?;
        let meta = load_meta(&db).ok();
        let file = meta.as_ref().map_or_else(|| gone.map_or(new_file, |(of, _)| *of), |m| m.file);
        let gone = gone.filter(|(of, _)| *of == file).map(|(_, n)| n.as_slice()).unwrap_or_default();
        let boots = readable_boots(&db).into_iter().map(|(id, uuid, offset_ms, quality)| BootRow {
            id: BootIndex(id),
            uuid,
            clock: if quality == 1 { ClockReading::synchronised(offset_ms) } else { ClockReading::estimated(offset_ms) },
            seen: Boot(0),
        });
        let boots = boots.collect();
        let series = Series::new(readable_names(&db, sizes.series), sizes.series);
        let rows = readable_rows(&db, path);
        let kept = meta.as_ref().map_or_else(found::everything, |m| m.kept(holders));
        let thinned = Thinned::readable(&db, gone);
        let mut found = Found::empty(Disk::of(db, path, series, sizes, file), boots, holders, gone);
        for row in rows.values() {
            take_row(row, &kept, gone, &thinned, &mut found.runs, &mut found.ring, &mut found.cursors);
        }
        found.settle(thinned);
        let mut gaps = Vec::new();
        if let Some(meta) = &meta {
            found.ring.head = found.ring.head.max(meta.head);
            let run = run_of(&mut found.runs, meta.epoch, BootIndex(0));
            found.runs[run].highest = found.runs[run].highest.max(meta.telemetry);
            let listed: BTreeSet<u64> = kept.iter().flat_map(|(_, alive)| alive.listed(meta.head)).collect();
            let lost: Vec<u64> = listed.into_iter().filter(|n| !rows.contains_key(n) && !gone.contains(n)).collect();
            gaps = holes(&rows, &lost, meta);
        }
        found.disk.pragma("page_count").map_err(fail)?;
        Ok((found, gaps))
    }
}

/// Numbers of segments of which nothing can be read: what lies between their neighbours. How many samples they held is not
/// known.
fn holes(rows: &BTreeMap<u64, SegmentRow>, lost: &[u64], meta: &MetaRow) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for n in lost {
        let before = rows.range(..n).next_back().map(|(_, r)| r);
        let after = rows.range(n + 1..).next().map(|(_, r)| r);
        let (epoch, from, to) = match (before, after) {
            (Some(b), Some(a)) if b.epoch == a.epoch => (b.epoch, b.last + 1, a.first.saturating_sub(1)),
            (None, Some(a)) => (a.epoch, 1, a.first.saturating_sub(1)),
            (Some(b), _) if b.epoch == meta.epoch => (b.epoch, b.last + 1, meta.telemetry),
            (None, None) => (meta.epoch, 1, meta.telemetry),
            _ => continue,
        };
        let known = gaps.last().is_some_and(|g| g.epoch == epoch && g.to >= to);
        if from <= to && !known {
            gaps.push(Gap { epoch, from, to, samples: 0, reason: Gap::UNKNOWN, uplink: None, replaced_by: None });
        }
    }
    gaps
}

fn readable_names(db: &Connection, max: usize) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    let Ok(mut one) = db.prepare("SELECT device, point FROM series WHERE id = ?1") else { return names };
    let mut misses = 0;
    for id in 0..max {
        let row = one.query_row([id as i64], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))).optional();
        match row {
            Ok(Some((device, point))) => {
                names.resize(id, None);
                names.push(DeviceId::parse(&device).ok().zip(PointId::parse(&point).ok()));
                misses = 0;
            }
            Ok(None) => misses += 1,
            Err(_) => {}
        }
        // Behind the end: ids are given without holes.
        if misses > 64 {
            break;
        }
    }
    names
}

/// By `n`. Slots are given without holes.
fn readable_rows(db: &Connection, path: &Path) -> BTreeMap<u64, SegmentRow> {
    let mut rows = BTreeMap::new();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let most = (size(path) + size(&beside(path, "-wal"))) / SLOT_BYTES;
    let sql = format!("{} WHERE slot = ?1", found::SEGMENT_ROW);
    let Ok(mut one) = db.prepare(&sql) else { return rows };
    let mut misses = 0;
    for slot in 0..most.min(u64::from(u32::MAX)) {
        match one.query_row([slot.cast_signed()], found::segment_row).optional() {
            Ok(Some(row)) => {
                rows.insert(row.n, row);
                misses = 0;
            }
            Ok(None) => misses += 1,
            Err(_) => {}
        }
        // Some slots are empty after a delivery, never so many in a row but at the end.
        if misses > 100_000 {
            break;
        }
    }
    rows
}

impl Reader {
    /// Leaves its file; reads fail until it is opened again, and are tried again.
    pub fn let_go(&mut self) -> rusqlite::Result<()> {
        self.db = Connection::open_in_memory()?;
        Ok(())
    }

    pub fn open_again(&mut self) -> Result<(), StoreError> {
        self.db = db::reader(&self.path)?;
        Ok(())
    }
}

/// Whether the file was finished before a kill kept it from taking its place.
pub fn is_whole(path: &Path) -> bool {
    db::reader(path).is_ok_and(|db| db.query_row("SELECT count(*) FROM meta", [], |r| r.get::<_, i64>(0)).is_ok_and(|n| n == 1))
}
