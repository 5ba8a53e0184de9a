//! spool.db: what the writer and the reader do to it.

use super::{
    codec::{self, Corrupt},
    core::{Run, cursor::Cursor},
    gaps::Gap,
    ring::Ring,
    series::{Dictionary, Series},
};
use crate::{
    limits,
    model::{Boot, BootIndex, Epoch, Sealed},
    store::{
        Holder, StoreError,
        boots::BootRow,
        db::{self, Page},
    },
};
use rusqlite::{Connection, params};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

mod found;
mod notes;
mod room;
mod salvage;

pub use notes::{Mark, Note};
pub use salvage::{Salvage, is_whole};

use notes::settle;

pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/spool_001.sql"),
    include_str!("../migrations/spool_002.sql"),
    include_str!("../migrations/spool_003.sql"),
];
/// What a commit may write beside its bodies: trees that grow, the row of the uplinks.
const BESIDE: u64 = 64 * 1024;
const LOG_MIN: u64 = 64 * 1024;

/// How the limit on the disk is divided.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub disk_max: u64,
    /// The write-ahead log in bytes of pages, after which it goes back into the file.
    pub log_bytes: u64,
    pub segment_bytes: usize,
    pub segment_samples: u64,
    pub series: usize,
    /// Windows of the first thinning in milliseconds; 0: nothing is thinned.
    pub thin_ms: u32,
    /// The file without its log, in bytes.
    pub file_max: u64,
    /// The file system is full: the file stays as large as it is.
    pub squeezed: bool,
}

impl Sizes {
    pub fn of(disk_max: u64) -> Sizes {
        let log_bytes = (disk_max / 32).clamp(LOG_MIN, db::LOG_BYTES);
        let segment_bytes = usize::try_from(disk_max / 32).unwrap_or(usize::MAX).min(limits::SPOOL_SEGMENT_BYTES);
        // The log is emptied by the commit after the one that fills it.
        let file_max = disk_max.saturating_sub(logged(Page::NEW, log_bytes + 2 * segment_bytes as u64));
        Sizes {
            disk_max,
            log_bytes,
            segment_bytes,
            segment_samples: limits::SPOOL_SEGMENT_SAMPLES,
            series: limits::SPOOL_SERIES,
            thin_ms: 0,
            file_max,
            squeezed: false,
        }
    }

    pub fn thinned_by(self, window: Duration) -> Sizes {
        Sizes { thin_ms: u32::try_from(window.as_millis()).unwrap_or(u32::MAX), ..self }
    }

    /// Room that thinning keeps free, so that there is some for what it makes: bytes of bodies.
    pub fn slack(&self) -> usize {
        self.segment_bytes + usize::try_from(self.file_max / 64).unwrap_or(0).min(1 << 20)
    }
}

/// What such bodies take in the log, with what a commit writes beside them. Smaller pages take more.
fn logged(page: Page, bodies: u64) -> u64 {
    (page.overflow(bodies) + page.within(BESIDE).max(16)) * page.logged()
}

#[derive(Debug)]
pub struct Disk {
    db: Connection,
    /// Of the file that is open.
    page: Page,
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

/// The row that says how far each uplink is.
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
        let db = db::open(path, MIGRATIONS, sizes.log_bytes)?;
        found::load(db, path, sizes, new_file, gone, holders).map_err(|source| StoreError::Open { path: path.to_owned(), source })
    }

    fn of(db: Connection, path: &Path, series: Series, sizes: Sizes, file: i64) -> Disk {
        let file_room = File::options().write(true).open(path).ok();
        let page = Page::of(&db).unwrap_or(Page::NEW);
        Disk { db, page, path: path.to_owned(), series, sizes, file, mark: Mark::None, roomy: sizes, file_room, secured: 0 }
    }

    /// One transaction: what is new in the dictionary and the boots, the segment, the meta row where it changed.
    pub fn commit(&mut self, write: Option<&Write>, meta: Option<&Meta>, boots: &[BootRow]) -> rusqlite::Result<()> {
        let owes = meta.is_none_or(|m| m.owes);
        let mark = if self.mark == Mark::Void && owes { Mark::None } else { self.mark };
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

    fn try_commit(&mut self, write: Option<&Write>, meta: Option<&Meta>, boots: &[BootRow], mark: Mark) -> rusqlite::Result<()> {
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

    /// All of the log into the file, at the end.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    pub fn body(&self, slot: u32) -> rusqlite::Result<Vec<u8>> {
        self.db.query_row("SELECT body FROM segment WHERE slot = ?1", [slot], |r| r.get(0))
    }
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
