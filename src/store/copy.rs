//! Whole copies of the databases, for a backup and its way back. The daemon may be writing meanwhile.

use super::{
    SCHEMAS, StoreError,
    db::{self, Checked},
    open,
};
use std::{fs::File, path::Path, time::Duration};

/// In the order in which they are copied. A gap event is committed in state.db before its telemetry leaves spool.db, so a
/// state that is younger than the spool is what a kill leaves too; one that is older would not know of a gap.
pub const FILES: [&str; 3] = ["spool.db", "state.db", "samples.db"];
/// A large history on a slow card takes minutes to look through.
const CHECK: Duration = Duration::from_secs(600);

/// A copy of that database under another name, without a log of its own. `false`: there is none.
pub fn copy(data_dir: &Path, name: &'static str, to: &Path) -> Result<bool, StoreError> {
    let path = data_dir.join(name);
    if !path.exists() {
        return Ok(false);
    }
    let fail = |source| StoreError::Read { file: name, source };
    let to = to.to_str().ok_or_else(|| fail(rusqlite::Error::InvalidPath(to.to_owned())))?;
    db::reader(&path)?.execute("VACUUM INTO ?1", [to]).map_err(fail)?;
    Ok(true)
}

/// Whether this program can go on with that copy.
pub fn judge(path: &Path, name: &'static str) -> Result<(), StoreError> {
    let known = SCHEMAS.iter().find(|(file, _)| *file == name).map_or(0, |(_, known)| *known);
    db::refuse_newer(path, u32::try_from(known).unwrap_or(u32::MAX))?;
    match db::check(path, CHECK) {
        Checked::Sound | Checked::Unfinished => Ok(()),
        Checked::Damaged(why) | Checked::Unreadable(why) => Err(StoreError::Damaged { path: path.to_owned(), why }),
    }
}

/// Keeps a daemon from starting on these files as long as what is returned lives; an error where one runs.
pub fn hold(data_dir: &Path) -> Result<File, StoreError> {
    open::lock_directory(data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &[&str] = &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"];

    #[test]
    fn a_copy_holds_what_was_committed_while_its_source_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let db = db::open(&dir.path().join("state.db"), SCHEMA, 64 << 10).unwrap();
        for id in 1..=100 {
            db.execute("INSERT INTO t VALUES (?1, 'x')", [id * 3]).unwrap();
        }
        db.execute_batch("BEGIN; INSERT INTO t VALUES (1, 'not committed')").unwrap();
        let to = dir.path().join("copy");
        assert!(copy(dir.path(), "state.db", &to).unwrap());
        assert!(!copy(dir.path(), "spool.db", &dir.path().join("none")).unwrap());
        judge(&to, "state.db").unwrap();
        let copied = db::reader(&to).unwrap();
        let one = |sql: &str| copied.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!((one("SELECT count(*) FROM t"), one("SELECT max(id) FROM t"), one("PRAGMA user_version")), (100, 300, 1));
        assert_eq!(one("PRAGMA page_size"), 1024);
    }

    #[test]
    fn a_copy_of_a_newer_program_or_a_damaged_one_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let newer = rusqlite::Connection::open(&path).unwrap();
        newer.execute_batch("CREATE TABLE t (v); PRAGMA user_version = 999").unwrap();
        drop(newer);
        assert!(matches!(judge(&path, "state.db"), Err(StoreError::TooNew { .. })));
        std::fs::write(&path, "no database, and longer than a hundred bytes".repeat(50)).unwrap();
        assert!(matches!(judge(&path, "state.db"), Err(StoreError::Damaged { .. })));
    }
}
