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
    #[error("database {} is schema {found}, this build knows up to {known}; install a newer fieldgate or move the file away", path.display())]
    TooNew { path: PathBuf, found: u32, known: u32 },
    #[error("cannot draw random bits for the epoch: {0}")]
    Random(std::io::Error),
    #[error("cannot start the database writer: {0}")]
    Thread(std::io::Error),
    #[error("cannot write to {file}: {source}; check the free space and the health of the disk")]
    Write { file: &'static str, source: rusqlite::Error },
    #[error("cannot read from {file}: {source}")]
    Read { file: &'static str, source: rusqlite::Error },
    #[error("the database is closed: the daemon is stopping")]
    Closed,
}
