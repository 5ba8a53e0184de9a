//! What can go wrong with the databases, each with what to do about it.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the data directory {}: {source}; give it to the fieldgate user or set gateway.data_dir", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("{} is in use by another fieldgate; stop that one or set another gateway.data_dir", path.display())]
    InUse { path: PathBuf },
    #[error("cannot open database {}: {source}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "{} was written by {by} (schema {found}; fieldgate {} knows up to {known}) and is left as it is; \
         install that version or a newer one, or move the file away with its -wal and begin anew: a step back of one version is possible \
         only where the release notes say that the schema stayed", path.display(), env!("CARGO_PKG_VERSION")
    )]
    TooNew { path: PathBuf, found: u32, known: u32, by: String },
    #[error("{} is damaged: {why}; take another copy", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("cannot draw random bits for the epoch: {0}")]
    Random(std::io::Error),
    #[error("cannot start the database writer: {0}")]
    Thread(std::io::Error),
    #[error("cannot write to {file}: {source}; check the free space and the health of the disk")]
    Write { file: &'static str, source: rusqlite::Error },
    #[error("not stored: {source}; the disk is well, it is put aside as a dead letter")]
    Refused { source: rusqlite::Error },
    #[error("cannot read from {file}: {source}")]
    Read { file: &'static str, source: rusqlite::Error },
    #[error("the database is closed: the daemon is stopping")]
    Closed,
}
