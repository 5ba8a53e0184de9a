//! A file of nothing that keeps room for state.db on a file system that others can fill.
//!
//! While there is room it lies in the data directory. When state.db finds none, at the start or later, it is removed
//! and the write is tried again; when room has come back it is made again. Telemetry never gets it: spool.db stays
//! within its own pages while the file system is full.

use super::StoreError;
use crate::limits;
use rusqlite::ErrorCode;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    path: PathBuf,
}

impl Reserve {
    pub fn of(dir: &Path) -> Reserve {
        Reserve { dir: dir.to_owned(), path: dir.join("reserve") }
    }

    /// Gives its room to whoever writes next. `false`: it was gone already.
    pub fn release(&self) -> bool {
        let gone = std::fs::remove_file(&self.path).is_ok();
        if gone {
            tracing::warn!("no room on the file system: the reserve of {} KiB is given to state.db", limits::RESERVE_BYTES >> 10);
        }
        gone
    }

    /// Tries what needs room, and on a file system that is full once more with the reserve's.
    pub fn with_room<T>(&self, mut work: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match work() {
            Err(StoreError::Open { source, .. } | StoreError::Write { source, .. }) if self.is_full(&source) && self.release() => work(),
            other => other,
        }
    }

    /// Makes it again where there is room for it and as much again.
    pub fn refill(&self) -> bool {
        if std::fs::metadata(&self.path).is_ok_and(|m| m.len() == limits::RESERVE_BYTES) {
            return true;
        }
        has_room(&self.dir) && self.make().inspect_err(|_| drop(std::fs::remove_file(&self.path))).is_ok()
    }

    fn make(&self) -> std::io::Result<()> {
        let mut file = File::create(&self.path)?;
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, limits::RESERVE_BYTES).is_ok() {
            return Ok(());
        }
        // A file system that cannot set room aside takes zeros.
        let zeros = [0u8; 16 * 1024];
        for _ in 0..limits::RESERVE_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        Ok(())
    }

    /// Whether this error is for want of room.
    pub fn is_full(&self, error: &rusqlite::Error) -> bool {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            // Of the files beside the database SQLite does not say why.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                free(&self.dir).is_some_and(|free| free < limits::RESERVE_BYTES / 4)
            }
            _ => false,
        }
    }
}

/// Room for the reserve and as much again, so that what was full is not full again at once.
pub fn has_room(dir: &Path) -> bool {
    has_room_for(dir, 2 * limits::RESERVE_BYTES)
}

/// Whether so many bytes are free, or nobody can say.
pub fn has_room_for(dir: &Path, bytes: u64) -> bool {
    free(dir).is_none_or(|free| free >= bytes)
}

/// `None`: the system does not say.
fn free(dir: &Path) -> Option<u64> {
    let fs = rustix::fs::statvfs(dir).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_there_is_room_and_gone_once() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(dir.path());
        assert!(reserve.refill() && reserve.refill());
        let file = std::fs::metadata(dir.path().join("reserve")).unwrap();
        assert_eq!(file.len(), limits::RESERVE_BYTES);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file) * 512 >= limits::RESERVE_BYTES, "it holds its room");
        assert!(reserve.release() && !reserve.release());
        let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        let busy = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
        assert!(reserve.is_full(&full) && !reserve.is_full(&busy));
    }
}
