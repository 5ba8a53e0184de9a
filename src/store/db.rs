//! Opening a database: its settings, its migrations, what an error means, and whether a file is sound.

use super::{StoreError, quarantine::beside, reserve};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

/// Bytes of pages after which the write-ahead log goes back into the file.
pub const LOG_BYTES: u64 = 800 * 1024;

/// How large the pages of a file are. It is said once, when the file is made, and cannot be changed while it has a log: so
/// whoever counts pages asks the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    bytes: u64,
}

impl Page {
    /// Of new files. A commit writes whole pages, and few of them are full: larger ones wear the disk.
    pub const NEW: Page = Page { bytes: 1024 };

    pub fn of(db: &Connection) -> rusqlite::Result<Page> {
        let bytes: i64 = db.query_row("PRAGMA page_size", [], |r| r.get(0))?;
        Ok(Page::sized(bytes.cast_unsigned()))
    }

    pub const fn sized(bytes: u64) -> Page {
        // Nobody knows smaller ones.
        Page { bytes: if bytes < 512 { 512 } else { bytes } }
    }

    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// With its header in the log.
    pub const fn logged(self) -> u64 {
        self.bytes + 24
    }

    /// Pages that the part of a row takes that overflows, or would if it were all of it.
    pub const fn overflow(self, row: u64) -> u64 {
        row / (self.bytes - 4)
    }

    /// Pages in so many bytes.
    pub const fn within(self, bytes: u64) -> u64 {
        bytes / self.bytes
    }
}

/// Opens or creates the database and brings it to the newest schema. `log`: the size of the log in bytes of pages.
pub fn open(path: &Path, migrations: &[&str], log: u64) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source };
    let known = u32::try_from(migrations.len()).expect("a handful of migrations");
    refuse_newer(path, known)?;
    create(path);
    let mut db = Connection::open(path).map_err(fail)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
    let found: u32 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(fail)?;
    // NORMAL lost the schema itself in a measured power cut; FULL makes a commit a commit.
    let settings = format!(
        "PRAGMA page_size = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -512;
         PRAGMA temp_store = MEMORY;",
        Page::NEW.bytes()
    );
    db.execute_batch(&settings).map_err(fail)?;
    let page = Page::of(&db).map_err(fail)?;
    let full = page.within(log) * page.logged();
    db.execute_batch(&format!("PRAGMA wal_autocheckpoint = {}; PRAGMA journal_size_limit = {full}", page.within(log))).map_err(fail)?;
    for (version, sql) in (1u32..).zip(migrations).skip(found as usize) {
        let tx = db.transaction().map_err(fail)?;
        tx.execute_batch(sql).map_err(fail)?;
        tx.pragma_update(None, "user_version", version).map_err(fail)?;
        // Who brought it there: an older program that refuses the file says which one to install.
        tx.pragma_update(None, "application_id", stamp(env!("CARGO_PKG_VERSION"))).map_err(fail)?;
        tx.commit().map_err(fail)?;
    }
    let _ = fill_log(path, full);
    Ok(db)
}

/// A new file can be read by the group, for tools beside the daemon, and by nobody else, whatever the process takes from
/// new files. SQLite gives the same to its log. What cannot be made is said by the opening itself.
fn create(path: &Path) {
    if let Ok(file) = std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o640));
    }
}

/// Sees that so many bytes of the file are free, so that it can take rows while the file system takes nothing.
pub fn stock(db: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let unused: i64 = db.query_row("PRAGMA freelist_count", [], |r| r.get(0))?;
    let missing = bytes.saturating_sub(unused.cast_unsigned() * Page::of(db)?.bytes());
    if missing > bytes / 4 {
        let size = missing.cast_signed();
        let tx = db.unchecked_transaction()?;
        tx.execute_batch("CREATE TABLE IF NOT EXISTS stock (room BLOB NOT NULL)")?;
        tx.execute("INSERT INTO stock VALUES (zeroblob(?1))", [size])?;
        tx.commit()?;
    }
    // Also what a kill left.
    db.execute_batch("DROP TABLE IF EXISTS stock")?;
    if missing > bytes / 4 {
        // They have their place when they are in the file. Where that does not work now, the log is emptied later.
        let _ = restart_log(db);
        // Its pages fill the cache, and nobody reads them again.
        db.execute_batch("PRAGMA shrink_memory")?;
    }
    Ok(())
}

/// Puts the log into the file, so that the next transaction begins at its start and needs no new room for it.
pub fn restart_log(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Gives the write-ahead log its full length. A log that grows costs two more blocks of the file system's journal with
/// each commit. SQLite reads it only as far as its checksums go. Where room is short it grows as it is needed.
fn fill_log(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut log = std::fs::OpenOptions::new().append(true).open(beside(path, "-wal"))?;
    let length = log.metadata()?.len();
    if path.parent().is_none_or(reserve::has_room) {
        let zeros = std::io::Read::take(std::io::repeat(0), bytes.saturating_sub(length));
        std::io::copy(&mut { zeros }, &mut log).or_else(|_| log.set_len(length).map(|()| 0))?;
    }
    Ok(())
}

/// A second connection that only reads. It never blocks the writer.
pub fn reader(path: &Path) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source };
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(fail)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
    db.pragma_update(None, "cache_size", -64).map_err(fail)?;
    Ok(db)
}

/// A file of a newer program stays as it is to the byte, its log too: so it is looked at by a connection that cannot write.
pub fn refuse_newer(path: &Path, known: u32) -> Result<(), StoreError> {
    // What cannot be read so is found out by the opening itself.
    let look = || -> rusqlite::Result<(u32, u32)> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let one = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get(0));
        Ok((one("user_version")?, one("application_id")?))
    };
    match look() {
        Ok((found, by)) if found > known => Err(StoreError::TooNew { path: path.to_owned(), found, known, by: unstamp(by) }),
        _ => Ok(()),
    }
}

/// A version as SQLite's application id: `FG` and three numbers, of which the last has six bits.
fn stamp(version: &str) -> u32 {
    let mut parts = version.split(['.', '-']).map(|p| p.parse().unwrap_or(0u32));
    let mut next = |bits: u32| parts.next().unwrap_or(0).min((1 << bits) - 1);
    0x4000_0000 | next(10) << 16 | next(10) << 6 | next(6)
}

fn unstamp(id: u32) -> String {
    match id >> 30 {
        1 => format!("fieldgate {}.{}.{}", id >> 16 & 0x3ff, id >> 6 & 0x3ff, id & 0x3f),
        _ => "a newer fieldgate".into(),
    }
}

/// What an error says about the disk or the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Maybe: after an I/O error SQLite may call a sound file malformed.
    Damaged,
    Full,
    ReadOnly,
    Failing,
    /// The disk is well: what was to be written cannot be.
    Content,
}

/// An abort that a trigger raised. The schema has none: it is how tests make a disk fail.
const RAISED: i32 = rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER;

pub fn trouble(error: &rusqlite::Error) -> Trouble {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(e, _) if e.extended_code == RAISED => Trouble::Failing,
        E::ToSqlConversionFailure(_)
        | E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => Trouble::Content,
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
            Some(ErrorCode::DiskFull) => Trouble::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Trouble::ReadOnly,
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => Trouble::Content,
            _ => Trouble::Failing,
        },
    }
}

/// Rows that hold what no program of ours has written are damage as well, where a whole file is read.
pub fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(trouble(error), Trouble::Damaged | Trouble::Content)
}

pub fn is_damaged(error: &rusqlite::Error) -> bool {
    trouble(error) == Trouble::Damaged
}

/// What a fresh connection finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    Sound,
    Damaged(String),
    /// It could not be looked through in time.
    Unfinished,
    /// The disk does not give it away: says nothing about the file.
    Unreadable(String),
}

/// Looks through the structure of a file over a connection of its own, for at most so long.
pub fn check(path: &Path, limit: Duration) -> Checked {
    let db = match reader(path) {
        Ok(db) => db,
        Err(StoreError::Open { source, .. }) => return verdict(Err(source)),
        Err(e) => return Checked::Unreadable(e.to_string()),
    };
    let stop = db.get_interrupt_handle();
    let (done, over) = channel::<()>();
    let timer = std::thread::Builder::new().name("check-limit".into()).spawn(move || {
        let mut wait = limit;
        // Again and again: one that comes before the check has begun interrupts nothing.
        while over.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            stop.interrupt();
            wait = Duration::from_millis(1);
        }
    });
    let found = db.query_row("PRAGMA quick_check(1)", [], |r| r.get::<_, String>(0));
    drop(done);
    if let Ok(timer) = timer {
        // It cannot panic, and nothing hangs on it.
        let _ = timer.join();
    }
    verdict(found)
}

fn verdict(found: rusqlite::Result<String>) -> Checked {
    match found {
        Ok(word) if word == "ok" => Checked::Sound,
        Ok(word) => Checked::Damaged(word.lines().next().unwrap_or("damaged").to_owned()),
        Err(e) if is_damaged(&e) => Checked::Damaged(e.to_string()),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Checked::Unfinished,
        Err(e) => Checked::Unreadable(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_wrote_a_file_can_be_read_from_it() {
        for version in ["0.1.0", "1.2.3", "12.34.56"] {
            assert_eq!(unstamp(stamp(version)), format!("fieldgate {version}"));
        }
        assert_eq!(unstamp(stamp("2.0.0-rc.1")), "fieldgate 2.0.0");
        assert_eq!(unstamp(0), "a newer fieldgate");
    }

    #[track_caller]
    fn check_trouble(code: i32, want: Trouble) {
        assert_eq!(trouble(&rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)), want, "{code}");
    }

    #[test]
    fn an_error_says_whether_disk_file_or_content_is_at_fault() {
        use rusqlite::ffi;
        check_trouble(ffi::SQLITE_CORRUPT, Trouble::Damaged);
        check_trouble(ffi::SQLITE_NOTADB, Trouble::Damaged);
        check_trouble(ffi::SQLITE_FULL, Trouble::Full);
        check_trouble(ffi::SQLITE_READONLY, Trouble::ReadOnly);
        check_trouble(ffi::SQLITE_READONLY_CANTINIT, Trouble::ReadOnly);
        check_trouble(ffi::SQLITE_IOERR_FSYNC, Trouble::Failing);
        check_trouble(ffi::SQLITE_CANTOPEN, Trouble::Failing);
        check_trouble(ffi::SQLITE_BUSY, Trouble::Failing);
        check_trouble(ffi::SQLITE_CONSTRAINT_UNIQUE, Trouble::Content);
        check_trouble(ffi::SQLITE_TOOBIG, Trouble::Content);
        check_trouble(ffi::SQLITE_CONSTRAINT_TRIGGER, Trouble::Failing);
    }

    #[test]
    fn a_check_ends_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = Connection::open(&path).unwrap();
        let fill = "CREATE TABLE t (b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
                    INSERT INTO t SELECT randomblob(5000) FROM n;";
        db.execute_batch(fill).unwrap();
        assert_eq!(check(&path, Duration::from_secs(60)), Checked::Sound);
        assert_eq!(check(&path, Duration::ZERO), Checked::Unfinished);
        assert!(matches!(check(&dir.path().join("none.db"), Duration::from_secs(1)), Checked::Unreadable(_)));
    }

    #[test]
    fn a_database_and_its_log_are_for_owner_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let _db = open(&path, &["CREATE TABLE t (v BLOB)"], 64 << 10).unwrap();
        for tail in ["", "-wal", "-shm"] {
            let mode = std::fs::metadata(beside(&path, tail)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{tail}");
        }
    }

    #[test]
    fn free_pages_are_kept_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("x.db"), &["CREATE TABLE t (v BLOB)"], 64 << 10).unwrap();
        let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).unwrap();
        stock(&db, 64 << 10).unwrap();
        let pages = pragma("page_count");
        assert!(pragma("freelist_count") >= 64, "{}", pragma("freelist_count"));
        stock(&db, 64 << 10).unwrap();
        assert_eq!(pragma("page_count"), pages);
    }
}
