//! Damaged databases: moved aside under a name that says so, kept within a quota for whoever wants to look.

use crate::limits;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// A name beside the database: `spool.db` and `.new` are `spool.db.new`.
pub fn beside(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// Moves the file with its log to `NAME.corrupt-N` and deletes what goes beyond the quota. Nobody may have it open: a
/// connection that is closed later deletes the log by its name, and that name is the new file's.
pub fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let used = kept(path)?;
    let n = used.iter().map(|(n, ..)| n + 1).max().unwrap_or(1);
    let to = beside(path, &format!(".corrupt-{n}"));
    for tail in COMPANIONS.iter().rev() {
        rename_if_there(&beside(path, tail), &beside(&to, tail))?;
    }
    sync_directory(path)?;
    keep_quota(path)?;
    Ok(to)
}

/// Deletes a database that is not worth keeping.
pub fn remove(path: &Path) -> io::Result<()> {
    for tail in COMPANIONS.iter().rev() {
        match fs::remove_file(beside(path, tail)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// A finished file, closed and without a log, takes the name of the database.
pub fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    File::open(new)?.sync_all()?;
    fs::rename(new, path)?;
    sync_directory(path)
}

/// Which file a path names. `None`: none, or it cannot be told.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Whether the file system refuses writes to this file, as ext4 does after an error.
pub fn is_read_only(path: &Path) -> bool {
    File::options().write(true).open(path).is_err_and(|e| e.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Those of this database: number, bytes with the log, name.
fn kept(path: &Path) -> io::Result<Vec<(u32, u64, PathBuf)>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Vec::new());
    };
    let start = format!("{name}.corrupt-");
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|n| n.strip_prefix(&start)?.parse().ok());
        if let Some(n) = number {
            let bytes = COMPANIONS.iter().filter_map(|tail| fs::metadata(beside(&entry.path(), tail)).ok()).map(|m| m.len()).sum();
            all.push((n, bytes, entry.path()));
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// The newest stays whatever its size, as long as it is below the limit itself.
fn keep_quota(path: &Path) -> io::Result<()> {
    let mut bytes = 0;
    for (count, (_, size, file)) in kept(path)?.into_iter().rev().enumerate() {
        bytes += size;
        if count >= limits::QUARANTINE_FILES || bytes > limits::QUARANTINE_BYTES {
            tracing::warn!(file = %file.display(), "an old damaged database is deleted: the quota for them is reached");
            remove(&file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_damaged_files_are_kept_with_their_logs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.db");
        for n in 1..=limits::QUARANTINE_FILES + 2 {
            fs::write(&path, [0; 10]).unwrap();
            fs::write(beside(&path, "-wal"), [0; 10]).unwrap();
            assert_eq!(move_aside(&path).unwrap(), beside(&path, &format!(".corrupt-{n}")));
        }
        let want: Vec<_> = (3..=limits::QUARANTINE_FILES + 2)
            .flat_map(|n| [format!("spool.db.corrupt-{n}"), format!("spool.db.corrupt-{n}-wal")])
            .collect();
        assert_eq!(names(dir.path()), want);
    }

    #[test]
    fn a_damaged_file_above_the_quota_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.db");
        fs::write(&path, [0; 10]).unwrap();
        move_aside(&path).unwrap();
        // Sparse: it takes no room here.
        File::create(&path).unwrap().set_len(limits::QUARANTINE_BYTES + 1).unwrap();
        move_aside(&path).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
