//! Opening a database: its settings, its migrations, and what happens to a file that is none.

use super::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Pages after which the write-ahead log goes back into the file.
pub const CHECKPOINT_PAGES: u32 = 200;

/// Opens or creates the database and brings it to the newest schema. `checkpoint`: the size of the log in pages.
pub fn open(path: &Path, migrations: &[&str], checkpoint: u32) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source };
    let mut db = Connection::open(path).map_err(fail)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
    let found: u32 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(fail)?;
    let known = u32::try_from(migrations.len()).expect("a handful of migrations");
    // Before anything is written to it.
    if found > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    // NORMAL lost the schema itself in a measured power cut; FULL makes a commit a commit.
    let settings = format!(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = {checkpoint}; PRAGMA journal_size_limit = {}; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;",
        checkpoint * 4120
    );
    db.execute_batch(&settings).map_err(fail)?;
    for (version, sql) in (1u32..).zip(migrations).skip(found as usize) {
        let tx = db.transaction().map_err(fail)?;
        tx.execute_batch(sql).map_err(fail)?;
        tx.pragma_update(None, "user_version", version).map_err(fail)?;
        tx.commit().map_err(fail)?;
    }
    Ok(db)
}

/// Sees that so many pages of the file are free, so that it can take rows while the file system takes nothing.
pub fn stock(db: &Connection, pages: u64) -> rusqlite::Result<()> {
    let unused: i64 = db.query_row("PRAGMA freelist_count", [], |r| r.get(0))?;
    let missing = pages.saturating_sub(unused.cast_unsigned());
    if missing > pages / 4 {
        let size = (missing * 4092).cast_signed();
        let tx = db.unchecked_transaction()?;
        tx.execute_batch("CREATE TABLE IF NOT EXISTS stock (room BLOB NOT NULL)")?;
        tx.execute("INSERT INTO stock VALUES (zeroblob(?1))", [size])?;
        tx.commit()?;
    }
    // Also what a kill left.
    db.execute_batch("DROP TABLE IF EXISTS stock")?;
    Ok(())
}

/// A second connection that only reads. It never blocks the writer.
pub fn reader(path: &Path) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source };
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(fail)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
    db.pragma_update(None, "cache_size", -256).map_err(fail)?;
    Ok(db)
}

/// Opens by `load`; a file that is damaged is moved aside once and a new one begun. Its new name is added to `aside`.
pub fn or_new<T>(path: &Path, aside: &mut Vec<PathBuf>, load: impl Fn(&Path) -> Result<T, StoreError>) -> Result<T, StoreError> {
    match load(path) {
        Err(StoreError::Open { source, .. }) if is_damaged(&source) => {
            let to = move_aside(path).map_err(|source| StoreError::Directory { path: path.to_owned(), source })?;
            tracing::error!(file = %path.display(), kept_as = %to.display(), error = %source, "database damaged; a new one is begun");
            aside.push(to);
            load(path)
        }
        other => other,
    }
}

pub fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let named = |n: u32, tail: &str| PathBuf::from(format!("{}.damaged-{n}{tail}", path.display()));
    let n = (1..).find(|n| !named(*n, "").exists()).unwrap_or(u32::MAX);
    for tail in ["-wal", "-shm"] {
        let with = PathBuf::from(format!("{}{tail}", path.display()));
        if with.exists() {
            std::fs::rename(with, named(n, tail))?;
        }
    }
    std::fs::rename(path, named(n, ""))?;
    Ok(named(n, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_are_kept_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("x.db"), &["CREATE TABLE t (v BLOB)"], 16).unwrap();
        let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).unwrap();
        stock(&db, 64).unwrap();
        let pages = pragma("page_count");
        assert!(pragma("freelist_count") >= 64, "{}", pragma("freelist_count"));
        stock(&db, 64).unwrap();
        assert_eq!(pragma("page_count"), pages);
    }
}
