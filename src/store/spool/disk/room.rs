//! The limit on the disk and a file system that is full: what a commit may take, and what it does without.

use super::{Disk, Sizes, logged};
use crate::{
    limits,
    store::{db, quarantine::beside, reserve},
};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use std::path::{Path, PathBuf};

/// Of a file that holds nothing.
const FILE_MIN: u64 = 48 * 1024;
/// By which trees may grow with one commit.
const TREES: u64 = 32 * 1024;
/// Room that is set aside at once for a file that grows.
const SECURE_AHEAD: u64 = 256 * 1024;

impl Disk {
    /// The file system is full: from now on the file lives on its own pages, and its log on what it has.
    pub fn squeeze(&mut self) -> rusqlite::Result<()> {
        let bytes = self.file_bytes()?;
        self.restart_log()?;
        // After each commit, so that the next one begins at the start of the log and needs no more of it.
        self.db.query_row("PRAGMA wal_autocheckpoint = 1", [], |_| Ok(()))?;
        self.sizes = Sizes {
            segment_bytes: self.roomy.segment_bytes.min(limits::SPOOL_SEGMENT_BYTES_FULL),
            file_max: self.roomy.file_max.min(bytes),
            squeezed: true,
            ..self.roomy
        };
        Ok(())
    }

    /// Puts the log into the file, so that the next commit begins at its start.
    pub fn restart_log(&self) -> rusqlite::Result<()> {
        db::restart_log(&self.db)
    }

    /// Sees that what such a body makes the file grow by has its place: a page that is in the log and finds none in the
    /// file would keep the log from ever being emptied. `false`: there is no room, and the file stays as large as it is.
    pub fn secure(&mut self, body: usize) -> rusqlite::Result<bool> {
        let bytes = self.file_bytes()?;
        let end = bytes + self.needed(body).saturating_sub(self.unused_bytes()?);
        let Some(file) = self.file_room.as_ref().filter(|_| end > bytes && end > self.secured) else {
            return Ok(true);
        };
        let from = self.secured.max(bytes);
        // More than is needed now, so that not every commit pays for it.
        let ahead = (end + SECURE_AHEAD).min(self.sizes.file_max).max(end);
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
        self.db.query_row(&format!("PRAGMA wal_autocheckpoint = {}", self.page.within(self.roomy.log_bytes)), [], |_| Ok(()))?;
        self.sizes = self.roomy;
        Ok(true)
    }

    /// Free pages in the file, for the day when the file system has none. Without room it goes on all the same.
    pub fn stock(&self) {
        let _ = db::stock(&self.db, limits::FREE_BYTES.min(self.roomy.file_max / 4));
    }

    /// For want of room on the file system, not for a limit of ours.
    pub fn is_full(&self, error: &rusqlite::Error) -> bool {
        self.path.parent().is_some_and(|dir| reserve::Reserve::of(dir).is_full(error) && !reserve::has_room(dir))
    }

    /// What a commit of such a body may take of the file: whole pages.
    fn needed(&self, body: usize) -> u64 {
        let names: usize = self.series.pending().map(|(_, (device, point))| device.as_str().len() + point.as_str().len() + 12).sum();
        // Leaves are not filled to the last byte.
        let names = names as u64 * 17 / 16;
        (self.page.overflow(body as u64) + self.page.within(TREES).max(8) + self.page.within(names)) * self.page.bytes()
    }

    /// Bytes by which the file would grow over its limit with such a body.
    pub fn missing(&self, body: usize) -> rusqlite::Result<u64> {
        let needed = self.needed(body);
        // Then nothing that could be dropped would help.
        if self.sizes.squeezed && needed + FILE_MIN > self.sizes.file_max {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                Some("the file system is full, and spool.db has no pages of its own".into()),
            ));
        }
        Ok((self.file_bytes()?.saturating_sub(self.unused_bytes()?) + needed).saturating_sub(self.sizes.file_max))
    }

    /// Whether the log has room for such a body. It cannot be begun anew while somebody reads an old state of the file.
    pub fn log_takes(&self, body: usize) -> rusqlite::Result<bool> {
        let cost = |body: usize| logged(self.page, body as u64);
        // One transaction may still come before the next look.
        let room = self.sizes.disk_max.saturating_sub(self.roomy.file_max).saturating_sub(cost(self.roomy.segment_bytes));
        if size(&self.log()) + cost(body) <= room {
            return Ok(true);
        }
        let (used, copied): (i64, i64) = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| Ok((r.get(1)?, r.get(2)?)))?;
        Ok(used == copied || used.cast_unsigned() * self.page.logged() + cost(body) <= room)
    }

    fn log(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    pub(super) fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        self.db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// The file without its log, as the last commit left it.
    pub(super) fn file_bytes(&self) -> rusqlite::Result<u64> {
        Ok(self.pragma("page_count")? * self.page.bytes())
    }

    fn unused_bytes(&self) -> rusqlite::Result<u64> {
        Ok(self.pragma("freelist_count")? * self.page.bytes())
    }

    /// The file with its log.
    pub fn bytes(&self) -> u64 {
        size(&self.path) + size(&self.log())
    }

    /// What a commit of such a body writes, to the log and later from there to the file.
    pub fn cost(&self, body: usize) -> u64 {
        (self.page.overflow(body as u64) + 3) * (self.page.logged() + self.page.bytes())
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}
