//! spool.db: what the writer and the reader do to it.

use super::{
    codec::{self, Corrupt},
    core::{
        Run,
        cursor::{self, Cursor, Partial},
    },
    gaps::Gap,
    ring::{Alive, Ring, Segment},
    series::{Dictionary, Series},
};
use crate::{
    limits,
    model::{Boot, BootIndex, ClockReading, DeviceId, Epoch, PointId, Sealed},
    store::{Holder, StoreError, boots::BootRow, db, reserve},
};
use rusqlite::{Connection, params};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/spool_001.sql"),
    include_str!("../migrations/spool_002.sql"),
    include_str!("../migrations/spool_003.sql"),
];
const PAGE: u64 = 4096;
/// Of a row's body, what one of its overflow pages holds.
const PAGE_BODY: u64 = 4092;
/// Of a file that holds nothing.
const PAGES_MIN: u64 = 12;
/// Room that is set aside at once for a file that grows.
const SECURE_AHEAD: u64 = 256 * 1024;
/// A page in the write-ahead log.
const PAGE_LOGGED: u64 = 4120;

mod notes;

pub use notes::{Mark, Note};
use notes::{Thinned, settle};

/// How the limit on the disk is divided.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub disk_max: u64,
    pub checkpoint: u32,
    pub segment_bytes: usize,
    pub segment_samples: u64,
    pub series: usize,
    /// Windows of the first thinning in milliseconds; 0: nothing is thinned.
    pub thin_ms: u32,
    /// Of the file without its log.
    pub pages_max: u64,
    /// The file system is full: the file stays as large as it is.
    pub squeezed: bool,
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
            thin_ms: 0,
            pages_max,
            squeezed: false,
        }
    }

    pub fn thinned_by(self, window: Duration) -> Sizes {
        Sizes { thin_ms: u32::try_from(window.as_millis()).unwrap_or(u32::MAX), ..self }
    }

    /// Room that thinning keeps free, so that there is some for what it makes: bytes of bodies.
    pub fn slack(&self) -> usize {
        self.segment_bytes + usize::try_from(self.pages_max * PAGE / 64).unwrap_or(0).min(1 << 20)
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
    pub mark: Mark,
    /// As configured, while `sizes` are squeezed.
    roomy: Sizes,
    /// The file itself, to set room aside for it. Never closed before the database: that would drop its locks.
    file_room: Option<File>,
    /// So many bytes of the file have their place on the file system.
    secured: u64,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Found {
    pub disk: Disk,
    pub ring: Ring,
    pub cursors: Vec<Cursor>,
    pub runs: Vec<Run>,
    pub boots: Vec<BootRow>,
    /// Of thinning that a kill interrupted: numbers without content.
    pub void: Vec<Gap>,
    /// Announced as gone, but their rows may still be there.
    pub gone: Vec<u64>,
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
    /// How often it was thinned, and the segments that it stands for.
    pub thinned: Option<(u8, &'a str)>,
}

/// The row that goes with each commit.
pub struct Meta {
    pub head: u64,
    pub epoch: Epoch,
    pub telemetry: u64,
    /// How far each uplink is.
    pub cursors: Vec<u8>,
    /// Gap events are owed that state.db has not taken.
    pub owes: bool,
}

impl Disk {
    /// `holders`: the uplinks, and at least one. One that is not among them holds nothing any more; one that is new begins
    /// with what is kept.
    pub fn load(path: &Path, sizes: Sizes, new_file: i64, gone: Option<&Gone>, holders: &[Holder]) -> Result<Found, StoreError> {
        let db = db::open(path, MIGRATIONS, sizes.checkpoint)?;
        load(db, path, sizes, new_file, gone, holders).map_err(|source| StoreError::Open { path: path.to_owned(), source })
    }

    /// One transaction: what is new in the dictionary and the boots, the segment, the meta row.
    pub fn commit(&mut self, write: Option<&Write>, meta: &Meta, boots: &[BootRow]) -> rusqlite::Result<()> {
        let mark = if self.mark == Mark::Void && meta.owes { Mark::None } else { self.mark };
        let result = self.try_commit(write, meta, boots, mark);
        match result {
            Ok(()) => {
                self.series.committed();
                if mark != Mark::None {
                    self.mark = Mark::None;
                }
            }
            Err(_) => self.series.rolled_back(),
        }
        result
    }

    fn try_commit(&mut self, write: Option<&Write>, meta: &Meta, boots: &[BootRow], mark: Mark) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        settle(&tx, mark)?;
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
            if let Some((level, replaces)) = w.thinned {
                tx.prepare_cached("REPLACE INTO thinned (n, level, replaces) VALUES (?1, ?2, ?3)")?.execute(params![
                    w.n.cast_signed(),
                    level,
                    replaces
                ])?;
            }
        }
        tx.prepare_cached("UPDATE meta SET head = ?1, epoch = ?2, telemetry = ?3, cursors = ?4")?.execute(params![
            meta.head.cast_signed(),
            meta.epoch.0.cast_signed(),
            meta.telemetry.cast_signed(),
            meta.cursors
        ])?;
        tx.commit()
    }

    /// Deletes rows that nobody needs; their pages are used again.
    pub fn delete(&mut self, slots: &[u32]) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        // A void note must outlive the gap event that it owes; that is seen to by whoever commits.
        let mark = if self.mark == Mark::Stands { Mark::Stands } else { Mark::None };
        settle(&tx, mark)?;
        {
            let mut delete = tx.prepare_cached("DELETE FROM segment WHERE slot = ?1")?;
            for slot in slots {
                delete.execute([slot])?;
            }
        }
        tx.commit()?;
        if mark == Mark::Stands {
            self.mark = Mark::None;
        }
        Ok(())
    }

    pub fn read(&self, slot: u32, epoch: Epoch) -> Result<Vec<Sealed>, Unread> {
        Ok(codec::decode(&self.body(slot)?, epoch, &self.series.dictionary)?)
    }

    /// The file system is full: from now on the file lives on its own pages, and its log on what it has.
    pub fn squeeze(&mut self) -> rusqlite::Result<()> {
        let pages = self.pragma("page_count")?;
        self.restart_log()?;
        // After each commit, so that the next one begins at the start of the log and needs no more of it.
        self.db.query_row("PRAGMA wal_autocheckpoint = 1", [], |_| Ok(()))?;
        self.sizes = Sizes {
            segment_bytes: self.roomy.segment_bytes.min(limits::SPOOL_SEGMENT_BYTES_FULL),
            pages_max: self.roomy.pages_max.min(pages),
            squeezed: true,
            ..self.roomy
        };
        Ok(())
    }

    /// Puts the log into the file, so that the next commit begins at its start.
    pub fn restart_log(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Sees that what such a body makes the file grow by has its place: a page that is in the log and finds none in the
    /// file would keep the log from ever being emptied. `false`: there is no room, and the file stays as large as it is.
    pub fn secure(&mut self, body: usize) -> rusqlite::Result<bool> {
        let (pages, unused) = (self.pragma("page_count")?, self.pragma("freelist_count")?);
        let end = (pages + self.needed(body).saturating_sub(unused)) * PAGE;
        let Some(file) = self.file_room.as_ref().filter(|_| end > pages * PAGE && end > self.secured) else {
            return Ok(true);
        };
        let from = self.secured.max(pages * PAGE);
        // More than is needed now, so that not every commit pays for it.
        let ahead = (end + SECURE_AHEAD).min(self.sizes.pages_max * PAGE).max(end);
        for to in [ahead, end] {
            match fallocate(file, FallocateFlags::KEEP_SIZE, from, to - from) {
                Ok(()) => {
                    self.secured = to;
                    return Ok(true);
                }
                Err(Errno::NOSPC) => {}
                // A file system that cannot set room aside.
                Err(_) => return Ok(true),
            }
        }
        self.squeeze()?;
        tracing::warn!("the file system is full: telemetry stays within the {} KiB of spool.db", self.bytes() >> 10);
        Ok(false)
    }

    /// Whether there is room again, and all is as configured.
    pub fn relax(&mut self) -> rusqlite::Result<bool> {
        if !self.sizes.squeezed {
            return Ok(true);
        }
        if !self.path.parent().is_none_or(reserve::has_room) {
            return Ok(false);
        }
        self.db.query_row(&format!("PRAGMA wal_autocheckpoint = {}", self.roomy.checkpoint), [], |_| Ok(()))?;
        self.sizes = self.roomy;
        Ok(true)
    }

    /// For want of room on the file system, not for a limit of ours.
    pub fn is_full(&self, error: &rusqlite::Error) -> bool {
        self.path.parent().is_some_and(|dir| reserve::Reserve::of(dir).is_full(error) && !reserve::has_room(dir))
    }

    /// Pages that a commit of such a body may take.
    fn needed(&self, body: usize) -> u64 {
        let names: usize = self.series.pending().map(|(_, (device, point))| device.as_str().len() + point.as_str().len() + 12).sum();
        body as u64 / PAGE_BODY + 8 + names as u64 / PAGE
    }

    /// Bytes by which the file would grow over its limit with such a body.
    pub fn missing(&self, body: usize) -> rusqlite::Result<u64> {
        let needed = self.needed(body);
        let (pages, unused) = (self.pragma("page_count")?, self.pragma("freelist_count")?);
        // Then nothing that could be dropped would help.
        if self.sizes.squeezed && needed + PAGES_MIN > self.sizes.pages_max {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                Some("the file system is full, and spool.db has no pages of its own".into()),
            ));
        }
        Ok((pages.saturating_sub(unused) + needed).saturating_sub(self.sizes.pages_max) * PAGE)
    }

    /// Whether the log has room for such a body. It cannot be begun anew while somebody reads an old state of the file.
    pub fn log_takes(&self, body: usize) -> rusqlite::Result<bool> {
        let cost = |body: usize| (body as u64 / PAGE_BODY + 16) * PAGE_LOGGED;
        // One transaction may still come before the next look.
        let room = self.sizes.disk_max.saturating_sub(self.roomy.pages_max * PAGE).saturating_sub(cost(self.roomy.segment_bytes));
        if size(&self.log()) + cost(body) <= room {
            return Ok(true);
        }
        let (used, copied): (i64, i64) = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| Ok((r.get(1)?, r.get(2)?)))?;
        Ok(used == copied || used.cast_unsigned() * PAGE_LOGGED + cost(body) <= room)
    }

    fn log(&self) -> PathBuf {
        PathBuf::from(format!("{}-wal", self.path.display()))
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        self.db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// The file with its log.
    pub fn bytes(&self) -> u64 {
        size(&self.path) + size(&self.log())
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
    let (file, head, epoch, telemetry, alive, cursors) =
        db.query_row("SELECT file, head, epoch, telemetry, alive, cursors FROM meta", [], |r| {
            let (alive, cursors): (Vec<u8>, Vec<u8>) = (r.get(4)?, r.get(5)?);
            Ok((r.get(0)?, r.get::<_, i64>(1)?, r.get::<_, i64>(2)?, r.get::<_, i64>(3)?, alive, cursors))
        })?;
    let kept = if cursors.is_empty() {
        // Of a version with one uplink, whose name it did not write: the first one's.
        vec![(holders.first().map_or(String::new(), |h| h.id.to_string()), Alive::read(&alive).unwrap_or_default())]
    } else {
        // What cannot be read only repeats.
        cursor::read(&cursors).unwrap_or_else(|_| vec![(String::new(), Alive::default())])
    };
    let cursors: Vec<Cursor> = holders.iter().enumerate().map(|(n, h)| Cursor::new(h.clone(), n)).collect();
    let gone = gone.filter(|(of, _)| *of == file).map(|(_, n)| n.as_slice()).unwrap_or_default();
    let boots = boots(&db)?;
    let series = series(&db, sizes.series)?;
    let disk = Disk {
        db,
        path: path.to_owned(),
        series,
        sizes,
        file,
        mark: Mark::None,
        roomy: sizes,
        file_room: File::options().write(true).open(path).ok(),
        secured: 0,
    };
    let gone = gone.to_vec();
    let mut found = Found { disk, ring: Ring::default(), cursors, runs: Vec::new(), boots, void: Vec::new(), gone };
    found.read_segments(&kept)?;
    found.ring.head = found.ring.head.max(head.cast_unsigned());
    found.shrink()?;
    // Without room it starts all the same.
    let _ = db::stock(&found.disk.db, limits::FREE_PAGES.min(sizes.pages_max / 4));
    let epoch = Epoch(epoch.cast_unsigned());
    if let Some(run) = found.runs.iter_mut().find(|r| r.epoch == epoch) {
        run.highest = run.highest.max(telemetry.cast_unsigned());
    } else if telemetry > 0 {
        found.runs.push(Run { epoch, boot: BootIndex(0), highest: telemetry.cast_unsigned() });
    }
    Ok(found)
}

impl Found {
    /// The file outgrew a limit that was lowered since. It can only shrink cheaply while nothing waits in it.
    fn shrink(&mut self) -> rusqlite::Result<()> {
        if self.ring.left == 0 && self.void.is_empty() && self.disk.pragma("page_count")? > self.disk.sizes.pages_max {
            self.disk.db.execute_batch("DELETE FROM segment; DELETE FROM thinned WHERE replaces IS NULL; VACUUM")?;
            let head = self.ring.head;
            self.ring = Ring::default();
            self.ring.head = head;
        }
        Ok(())
    }

    /// `kept`: by name, what each uplink did not have.
    fn read_segments(&mut self, kept: &[(String, Alive)]) -> rusqlite::Result<()> {
        let thinned = Thinned::read(&self.disk.db, &self.gone)?;
        let Found { disk, ring, runs, cursors, gone, .. } = self;
        let sql = "SELECT slot, n, epoch, boot, at, first_seq, last_seq, batches, samples, bytes FROM segment ORDER BY n";
        let mut all = disk.db.prepare(sql)?;
        let mut rows = all.query([])?;
        while let Some(r) = rows.next()? {
            let (slot, n, bytes): (u32, u64, u32) = (r.get(0)?, r.get::<_, i64>(1)?.cast_unsigned(), r.get(9)?);
            let epoch = Epoch(r.get::<_, i64>(2)?.cast_unsigned());
            let boot = BootIndex(r.get(3)?);
            let (first, last) = (r.get::<_, i64>(5)?.cast_unsigned(), r.get::<_, i64>(6)?.cast_unsigned());
            let (batches, samples): (u32, u32) = (r.get(7)?, r.get(8)?);
            let run = run_of(runs, epoch, boot);
            runs[run].highest = runs[run].highest.max(last);
            let mut segment = Segment {
                at: Boot(r.get::<_, i64>(4)?.cast_unsigned()),
                first,
                slot,
                epoch: u32::try_from(run).unwrap_or(0),
                span: u32::try_from(last.saturating_sub(first)).unwrap_or(u32::MAX),
                left: batches,
                samples,
                bytes,
                boot,
                level: thinned.levels.get(&n).copied().unwrap_or(0),
                done: 0,
            };
            let share = |of: u32| u64::from(samples) * u64::from(of) / u64::from(batches.max(1));
            let is_void = thinned.void.as_ref().is_some_and(|(void, _)| *void == n);
            let is_kept = kept.iter().any(|(_, alive)| alive.contains(n)) && !gone.contains(&n) && !is_void;
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
                continue;
            }
            // With one uplink the ring itself knows what is delivered of a segment.
            let delivered = if cursors.len() == 1 { parts.pop().flatten().unwrap_or_default().seqs } else { Default::default() };
            segment.left -= u32::try_from(delivered.len()).unwrap_or(0);
            segment.samples = u32::try_from(share(segment.left)).unwrap_or(samples);
            parts.resize(cursors.len(), None);
            cursors.iter_mut().zip(parts).filter(|(c, _)| c.wants(&segment)).for_each(|(c, part)| c.restore(n, &segment, part));
            ring.insert(n, segment, delivered);
        }
        drop(rows);
        drop(all);
        self.disk.mark = match (&thinned.void, thinned.stands) {
            (Some(_), _) => Mark::Void,
            (None, true) => Mark::Stands,
            (None, false) => Mark::None,
        };
        self.void.extend(thinned.void.map(|(_, gap)| gap));
        // Notes of segments that are overwritten by now.
        self.disk.db.execute("DELETE FROM thinned WHERE replaces IS NULL AND n NOT IN (SELECT n FROM segment)", [])?;
        Ok(())
    }
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

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
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
    dictionary: Dictionary,
}

impl Reader {
    pub fn open(disk: &Disk) -> Result<Reader, StoreError> {
        Ok(Reader { db: db::reader(&disk.path)?, dictionary: disk.series.dictionary.clone() })
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
