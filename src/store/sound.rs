//! Both files at the start: sound, or what can be read of them. Bounded in time, and without reading a single body.

use super::{
    Backing, Holder, Options, StoreError,
    db::{self, Checked},
    health::Db,
    open::random,
    quarantine::{self, beside},
    reserve::Reserve,
    spool::{
        disk::{self, Disk, Gone, Sizes},
        gaps::Gap,
    },
    state::{self, Caps, State},
    writer::Shared,
};
use crate::{
    limits,
    model::{Boot, Event},
    system::clock::Clock,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file that was begun anew.
pub struct News {
    pub detail: String,
    pub kept_as: Option<PathBuf>,
}

pub struct FoundState {
    pub found: state::Found,
    pub replaced: Option<News>,
    /// Of event rows that cannot be read.
    pub gaps: Vec<Event>,
}

pub struct FoundSpool {
    pub found: disk::Found,
    pub news: Option<News>,
    /// Of segments whose rows cannot be read.
    pub gaps: Vec<Gap>,
    /// It is damaged, and the writer is to carry it over.
    pub mend: Option<String>,
}

/// state.db is needed whole before anything starts, so it is looked through and mended first.
pub fn state(path: &Path, caps: Caps, o: &Options, reserve: &Reserve) -> Result<FoundState, StoreError> {
    adopt(path, |_| true)?;
    let checked = if o.backing == Backing::Thread && path.exists() { db::check(path, limits::CHECK_WITHIN) } else { Checked::Unfinished };
    let why = match checked {
        Checked::Damaged(why) => why,
        _ => match twice(|| State::load(path, caps)) {
            Err(StoreError::Open { source, .. }) if db::is_unreadable(&source) => source.to_string(),
            other => return other.map(|found| FoundState { found, replaced: None, gaps: Vec::new() }),
        },
    };
    // A newer program's file is its own business, even a damaged one.
    if let Err(e @ StoreError::TooNew { .. }) = State::load(path, caps) {
        return Err(e);
    }
    let new = beside(path, ".new");
    let saved = reserve.with_room(|| db::reader(path).and_then(|old| state::salvage(&old, &new, &[], None, Clock::Real, || ())));
    let moved = |source| StoreError::Directory { path: path.to_owned(), source };
    let kept_as = quarantine::move_aside(path).map_err(moved)?;
    let (words, gaps) = match saved {
        Ok(saved) => {
            quarantine::put_in_place(&new, path).map_err(moved)?;
            (saved.words(), saved.gaps)
        }
        Err(error) => {
            tracing::error!(%error, "nothing can be read of the damaged state.db");
            quarantine::remove(&new).map_err(moved)?;
            ("nothing could be read of it".into(), Vec::new())
        }
    };
    let name = kept_as.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let detail = format!("{why}; kept as {name}; {words}");
    tracing::error!(file = %path.display(), detail, "database damaged; a new one is begun");
    let found = State::load(path, caps)?;
    Ok(FoundState { found, replaced: Some(News { detail, kept_as: Some(kept_as) }), gaps })
}

/// spool.db is opened as far as its rows can be read; the writer carries it over while everything runs.
pub fn spool(path: &Path, sizes: Sizes, gone: Option<&Gone>, holders: &[Holder]) -> Result<FoundSpool, StoreError> {
    adopt(path, disk::is_whole)?;
    let new_file = random().map_err(StoreError::Random)?.cast_signed();
    let why = match twice(|| Disk::load(path, sizes, new_file, gone, holders)) {
        Err(StoreError::Open { source, .. }) if db::is_unreadable(&source) => source.to_string(),
        other => return other.map(|found| FoundSpool { found, news: None, gaps: Vec::new(), mend: None }),
    };
    tracing::error!(file = %path.display(), error = why, "database damaged; what can be read is carried into a new one");
    match Disk::load_readable(path, sizes, new_file, gone, holders) {
        Ok((found, gaps)) => return Ok(FoundSpool { found, news: None, gaps, mend: Some(why) }),
        Err(e @ StoreError::TooNew { .. }) => return Err(e),
        Err(error) => tracing::error!(%error, "nothing can be read of the damaged spool.db"),
    }
    let kept_as = quarantine::move_aside(path).map_err(|source| StoreError::Directory { path: path.to_owned(), source })?;
    let found = Disk::load(path, sizes, new_file, gone, holders)?;
    let name = kept_as.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let detail = format!("{why}; kept as {name}; nothing could be read of it");
    Ok(FoundSpool { found, news: Some(News { detail, kept_as: Some(kept_as) }), gaps: Vec::new(), mend: None })
}

/// After an I/O error SQLite may call a sound file malformed: a fresh connection has to say the same.
fn twice<T>(load: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    match load() {
        Err(StoreError::Open { source, .. }) if db::is_unreadable(&source) => load(),
        other => other,
    }
}

/// A kill between the two renames of a replacement: the new file is whole and the place is empty.
fn adopt(path: &Path, is_whole: impl Fn(&Path) -> bool) -> Result<(), StoreError> {
    let new = beside(path, ".new");
    let moved = |source| StoreError::Directory { path: path.to_owned(), source };
    if !path.exists() && new.exists() && is_whole(&new) {
        return quarantine::put_in_place(&new, path).map_err(moved);
    }
    quarantine::remove(&new).map_err(moved)
}

/// Looks through spool.db at low priority while everything runs. It may hold half a gigabyte.
pub fn look_behind(path: PathBuf, shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    let look = move || {
        // The kernel derives the priority of reads from it.
        let _ = rustix::process::setpriority_process(None, 19);
        let found = db::check(&path, limits::CHECK_BEHIND);
        tracing::debug!(?found, "spool.db looked through");
        if let (Checked::Damaged(why), Some(shared)) = (found, shared.upgrade()) {
            shared.board.suspect(Db::Spool, why, true);
            shared.inbox.ring(Boot(0));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("store-check".into()).spawn(look) {
        tracing::warn!(%error, "spool.db is not looked through");
    }
}
