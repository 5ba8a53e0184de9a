//! How both files are, and what is owed about it: events that state.db has not taken yet, files to be looked at.

use super::db::{self, Trouble};
use crate::model::{Boot, Event, EventKind, StoreHealth, StoreState, Wear};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Db {
    State,
    Spool,
}

impl Db {
    pub const BOTH: [Db; 2] = [Db::State, Db::Spool];

    pub const fn name(self) -> &'static str {
        match self {
            Db::State => "state.db",
            Db::Spool => "spool.db",
        }
    }
}

/// Changes that wait for a commit. More only come while state.db fails, and then the oldest say least.
const OWED_MAX: usize = 32;

#[derive(Debug)]
struct Inner {
    files: [StoreHealth; 2],
    owed: Vec<Event>,
    suspected: [Option<Suspicion>; 2],
    wear: Wear,
    /// Until the first event of the epoch is committed nothing else is told.
    held: bool,
}

/// Why a file may be damaged.
#[derive(Debug)]
pub struct Suspicion {
    pub why: String,
    /// A fresh connection has looked through it.
    pub sure: bool,
}

/// Shared by the writer, the readers and the surfaces.
#[derive(Debug)]
pub struct Board(Mutex<Inner>);

impl Board {
    pub fn new(now: Boot, wear: Wear) -> Board {
        let file = |db: Db| StoreHealth { file: db.name(), state: StoreState::Ok, since: now, detail: String::new() };
        Board(Mutex::new(Inner { files: Db::BOTH.map(file), owed: Vec::new(), suspected: [None, None], wear, held: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn shown(&self) -> Vec<StoreHealth> {
        self.lock().files.to_vec()
    }

    pub fn wear(&self) -> Wear {
        self.lock().wear
    }

    pub fn set_wear(&self, wear: Wear) {
        self.lock().wear = wear;
    }

    /// A commit worked. Whether that is news.
    pub fn worked(&self, db: Db, now: Boot) {
        let mut inner = self.lock();
        let file = &inner.files[db as usize];
        if !file.state.is_written() {
            let detail = format!("written again after {} s", (now - file.since).as_secs());
            inner.change(db, StoreState::Ok, detail, now);
        }
    }

    /// A commit or a reading failed.
    pub fn failed(&self, db: Db, error: &rusqlite::Error, now: Boot) {
        let (state, detail) = match db::trouble(error) {
            Trouble::Full => (StoreState::Full, error.to_string()),
            Trouble::ReadOnly => (StoreState::ReadOnly, error.to_string()),
            Trouble::Failing => (StoreState::Failing, error.to_string()),
            Trouble::Damaged => (StoreState::Failing, format!("{error}; the file is being checked")),
            // The disk did what it was asked.
            Trouble::Content => return,
        };
        self.set(db, state, detail, now);
    }

    /// The same state with other words is no news.
    pub fn set(&self, db: Db, state: StoreState, detail: String, now: Boot) {
        let mut inner = self.lock();
        if inner.files[db as usize].state == state && state != StoreState::Quarantined {
            inner.files[db as usize].detail = detail;
        } else {
            inner.change(db, state, detail, now);
        }
    }

    /// Somebody saw damage: the writer is to look at the file.
    pub fn suspect(&self, db: Db, why: String, sure: bool) {
        let mut inner = self.lock();
        let before = &mut inner.suspected[db as usize];
        if before.as_ref().is_none_or(|b| !b.sure) {
            *before = Some(Suspicion { why, sure });
        }
    }

    pub fn is_suspected(&self) -> bool {
        self.lock().suspected.iter().any(Option::is_some)
    }

    pub fn take_suspicion(&self, db: Db) -> Option<Suspicion> {
        self.lock().suspected[db as usize].take()
    }

    pub fn take_owed(&self) -> Vec<Event> {
        let mut inner = self.lock();
        if inner.held { Vec::new() } else { std::mem::take(&mut inner.owed) }
    }

    pub fn owes(&self) -> bool {
        let inner = self.lock();
        !inner.held && !inner.owed.is_empty()
    }

    /// Something is owed from the start on: it comes after the epoch's first event.
    pub fn hold(&self, held: bool) {
        self.lock().held = held;
    }

    pub fn is_held(&self) -> bool {
        self.lock().held
    }

    /// The commit failed: they are still owed, before all newer ones.
    pub fn give_back(&self, mut events: Vec<Event>) {
        let mut inner = self.lock();
        events.append(&mut inner.owed);
        inner.owed = events;
        inner.bound();
    }
}

impl Inner {
    fn change(&mut self, db: Db, state: StoreState, detail: String, now: Boot) {
        let file = db.name();
        match state {
            StoreState::Ok => tracing::info!(file, detail, "database well again"),
            _ => tracing::error!(file, state = state.word(), detail, "database in trouble"),
        }
        self.owed.push(Event { at: now, kind: EventKind::Store { file: file.into(), state, detail: detail.clone() } });
        self.bound();
        self.files[db as usize] = StoreHealth { file, state, since: now, detail };
    }

    fn bound(&mut self) {
        let over = self.owed.len().saturating_sub(OWED_MAX);
        self.owed.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn error(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn only_changes_are_told() {
        let board = Board::new(Boot(0), Wear::default());
        board.worked(Db::Spool, Boot(1));
        board.failed(Db::Spool, &error(ffi::SQLITE_IOERR), Boot(2_000_000));
        board.failed(Db::Spool, &error(ffi::SQLITE_IOERR), Boot(3_000_000));
        board.failed(Db::Spool, &error(ffi::SQLITE_CONSTRAINT), Boot(3_000_000));
        board.failed(Db::Spool, &error(ffi::SQLITE_FULL), Boot(4_000_000));
        board.worked(Db::Spool, Boot(9_000_000));
        board.worked(Db::Spool, Boot(9_000_000));
        let told: Vec<_> = board
            .take_owed()
            .into_iter()
            .map(|e| match e.kind {
                EventKind::Store { file, state, .. } => (file, state, e.at.ms()),
                other => panic!("{other:?}"),
            })
            .collect();
        let spool = || "spool.db".to_owned();
        assert_eq!(told, [(spool(), StoreState::Failing, 2000), (spool(), StoreState::Full, 4000), (spool(), StoreState::Ok, 9000)]);
        assert_eq!(board.shown()[1].detail, "written again after 5 s");
    }

    #[test]
    fn what_is_owed_is_bounded_and_stays_in_order() {
        let board = Board::new(Boot(0), Wear::default());
        for n in 0..40 {
            board.failed(Db::State, &error(if n % 2 == 0 { ffi::SQLITE_IOERR } else { ffi::SQLITE_FULL }), Boot(n));
        }
        let owed = board.take_owed();
        assert_eq!((owed.len(), owed[0].at), (OWED_MAX, Boot(8)));
        board.worked(Db::State, Boot(50));
        board.give_back(owed);
        let owed = board.take_owed();
        assert_eq!((owed.len(), owed[0].at, owed[31].at), (OWED_MAX, Boot(9), Boot(50)));
    }
}
