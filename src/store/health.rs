//! How both files are, and what is owed about it: events that state.db has not taken yet, files to be looked at.

use super::db::{self, Trouble};
use crate::{
    limits,
    model::{Boot, Event, EventKind, Latency, StoreHealth, StoreState, Wear},
};
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
    /// Since when the writer waits for a file.
    busy: [Option<Boot>; 2],
    /// The end of the last commit that was slow.
    slow_at: [Boot; 2],
    wear: Wear,
    /// How long commits took, by file.
    took: [Latency; 2],
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
        let (suspected, busy, slow_at) = ([None, None], [None; 2], [Boot(0); 2]);
        Board(Mutex::new(Inner {
            files: Db::BOTH.map(file),
            owed: Vec::new(),
            suspected,
            busy,
            slow_at,
            wear,
            took: <[Latency; 2]>::default(),
            held: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit that has not come back is shown before anybody can write an event about it.
    pub fn shown(&self, now: Boot) -> Vec<StoreHealth> {
        let inner = self.lock();
        let hangs = |db: Db| inner.busy[db as usize].filter(|since| now.since(*since) >= limits::SLOW_COMMIT);
        let one = |db: Db| match (&inner.files[db as usize], hangs(db)) {
            (file, Some(since)) if file.state.is_written() => {
                let detail = format!("a commit has been waiting for the disk for {} s", now.since(since).as_secs());
                StoreHealth { file: file.file, state: StoreState::Slow, since, detail }
            }
            (file, _) => file.clone(),
        };
        Db::BOTH.map(one).into()
    }

    /// The writer turns to a file.
    pub fn began(&self, db: Db, now: Boot) {
        self.lock().busy[db as usize] = Some(now);
    }

    /// It is back, after so many commits that worked.
    pub fn ended(&self, db: Db, commits: u64, now: Boot) {
        let mut inner = self.lock();
        let Some(since) = inner.busy[db as usize].take() else { return };
        let each = now.since(since) / u32::try_from(commits.max(1)).unwrap_or(u32::MAX);
        inner.took[db as usize].add(each, commits);
        if commits == 0 || each < limits::SLOW_COMMIT {
            return;
        }
        inner.slow_at[db as usize] = now;
        if inner.files[db as usize].state == StoreState::Ok {
            inner.change(db, StoreState::Slow, format!("a commit took {:.1} s", each.as_secs_f64()), now);
        }
    }

    /// A disk that was slow long ago is well.
    pub fn rested(&self, now: Boot) {
        let mut inner = self.lock();
        for db in Db::BOTH {
            let quiet = now.since(inner.slow_at[db as usize]) >= limits::SLOW_OVER_AFTER;
            if quiet && inner.busy[db as usize].is_none() && inner.files[db as usize].state == StoreState::Slow {
                let detail = format!("no slow commit for {} s", limits::SLOW_OVER_AFTER.as_secs());
                inner.change(db, StoreState::Ok, detail, now);
            }
        }
    }

    /// How long the commits of each file took since the start.
    pub fn took(&self) -> [(&'static str, Latency); 2] {
        let inner = self.lock();
        Db::BOTH.map(|db| (db.name(), inner.took[db as usize].clone()))
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

    /// Its commits work, but only in the room that it has. Whoever could not write at all says so with [`Board::set`].
    pub fn crowded(&self, db: Db, detail: &str, now: Boot) {
        let mut inner = self.lock();
        if inner.files[db as usize].state.is_written() {
            inner.change(db, StoreState::Full, detail.to_owned(), now);
        }
    }

    /// There is room on the file system, and nothing was refused since.
    pub fn roomy(&self, db: Db, now: Boot) {
        let mut inner = self.lock();
        let file = &inner.files[db as usize];
        if file.state == StoreState::Full {
            let detail = format!("there is room again after {} s", (now - file.since).as_secs());
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
        assert_eq!(board.shown(Boot(9_000_000))[1].detail, "written again after 5 s");
    }

    #[test]
    fn a_commit_that_takes_seconds_is_shown_at_once_and_told_when_it_is_over() {
        let board = Board::new(Boot(0), Wear::default());
        let at = |s: u64| Boot::from_ms(s * 1000);
        let state = |s| board.shown(at(s))[1].state;
        board.began(Db::Spool, at(10));
        board.ended(Db::Spool, 4, at(11));
        assert_eq!(state(11), StoreState::Ok, "four commits in a second");
        board.began(Db::Spool, at(20));
        assert_eq!(state(20), StoreState::Ok);
        let shown = board.shown(at(27));
        assert_eq!((shown[1].state, shown[1].since, shown[0].state), (StoreState::Slow, at(20), StoreState::Ok));
        assert_eq!(shown[1].detail, "a commit has been waiting for the disk for 7 s");
        assert!(!board.owes(), "nobody could write it");
        board.ended(Db::Spool, 1, at(28));
        board.worked(Db::Spool, at(28));
        assert_eq!((state(28), board.shown(at(28))[1].detail.as_str()), (StoreState::Slow, "a commit took 8.0 s"));
        board.rested(at(87));
        assert_eq!(state(87), StoreState::Slow);
        board.rested(at(88));
        assert_eq!((state(88), board.take_owed().len()), (StoreState::Ok, 2));
        board.began(Db::State, at(90));
        board.ended(Db::State, 0, at(99));
        assert_eq!(board.shown(at(99))[0].state, StoreState::Ok, "what failed is told as a failure");
    }

    #[test]
    fn a_file_that_lives_on_its_own_room_is_full_until_there_is_more() {
        let board = Board::new(Boot(0), Wear::default());
        let state = || board.shown(Boot(0))[1].state;
        board.roomy(Db::Spool, Boot(1));
        board.crowded(Db::Spool, "its own pages", Boot(2));
        board.crowded(Db::Spool, "its own pages", Boot(3));
        assert_eq!((state(), board.take_owed().len()), (StoreState::Full, 1));
        board.roomy(Db::Spool, Boot(4_000_000));
        assert_eq!((state(), board.take_owed().len()), (StoreState::Ok, 1));
        board.failed(Db::Spool, &error(ffi::SQLITE_IOERR), Boot(5_000_000));
        board.crowded(Db::Spool, "its own pages", Boot(6_000_000));
        board.roomy(Db::Spool, Boot(7_000_000));
        assert_eq!(state(), StoreState::Failing, "what fails is told first");
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
