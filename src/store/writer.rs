//! The one writer of both files. The thread drives it in the daemon; with `Backing::Inline` the callers do.
//!
//! A turn: the jobs that wait become one transaction of state.db, with the gap events that are owed; then spool.db, if a
//! commit is due. Callbacks are collected and called when no lock is held.

use super::{
    Change, StoreError,
    boots::Clocks,
    db::{self, Trouble},
    events::EventQueue,
    health::{Board, Db},
    inbox::{Inbox, Job, Turn},
    omen::Omen,
    quarantine,
    queries::Queries,
    reserve::Reserve,
    spool::{Spool, commit::Saver, gaps::Gap},
    state::{State, Work},
    wear::{Gauge, Total},
};
use crate::{
    limits,
    model::{Boot, Event, EventKind, StoreState, UplinkIndex, Wear},
    system::{clock::Clock, stream::Stream},
};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What everybody holds of the store.
pub struct Shared {
    pub spool: Spool,
    pub events: EventQueue,
    pub clocks: Arc<Clocks>,
    pub inbox: Arc<Inbox>,
    pub clock: Clock,
    pub board: Arc<Board>,
    pub queries: Queries,
}

mod mend;

pub struct Writer {
    shared: Arc<Shared>,
    state: State,
    saver: Saver,
    /// The clock's row could not be written: again from this moment on.
    clock_owed: Option<Boot>,
    closed: bool,
    places: Places,
    /// A damaged spool.db, as long as it is being replaced.
    mending: Option<mend::Mending>,
    gauges: [Gauge; 2],
    total: Total,
    omen: Omen,
    reserve: Reserve,
    /// The last commit of state.db.
    written: Boot,
    /// The reserve was given away: when to look next whether there is room for it again.
    refill_at: Option<Boot>,
}

/// Which files were opened, to notice that they are gone.
struct Places {
    lock_path: PathBuf,
    lock: Option<(u64, u64)>,
    files: [Option<(u64, u64)>; 2],
    /// A fresh connection was opened because of damage, and nothing has been committed since.
    doubted: [bool; 2],
    /// The last write was refused.
    refused: [bool; 2],
    /// The directory was not there the last time.
    away: bool,
    /// News of the disk are not written before this moment.
    news_at: Boot,
    /// A replacement that could not be begun.
    again: Option<(Boot, String)>,
}

/// While states of devices stream in, commits are so far apart that several share one: a card wears by commits. The first ones wait
/// for nothing, and what somebody waits for never does.
const REST: Duration = Duration::from_millis(60);
/// Groups of changes a second, from which on they stream in: three in a rest. Far from what a flood of messages brings (a hundred, one for
/// each round of its thread), lest it rests by turns only.
const STREAM: u64 = 50;
/// Over so long it is counted.
const STREAM_OVER: Duration = Duration::from_millis(100);

/// To be called without any lock.
pub type After = Vec<Box<dyn FnOnce() + Send>>;

impl Writer {
    pub fn new(shared: Arc<Shared>, state: State, mut saver: Saver, omen: Omen, reserve: Reserve) -> Writer {
        let paths = [state.path().to_owned(), saver.disk().path().to_owned()];
        let lock_path = paths[0].with_file_name("lock");
        let places = Places {
            lock: quarantine::identity(&lock_path),
            lock_path,
            files: paths.each_ref().map(|path| quarantine::identity(path)),
            doubted: [false; 2],
            refused: [false; 2],
            away: false,
            news_at: Boot(0),
            again: None,
        };
        let gauges = paths.each_ref().map(|path| Gauge::new(path));
        let total = Total::new(shared.board.wear(), shared.clock.now());
        // Not there when the file system was full at the start.
        let refill_at = (!reserve.refill()).then_some(Boot(0));
        let (clock_owed, closed, mending, written) = (None, false, None, shared.clock.now());
        Writer { shared, state, saver, clock_owed, closed, places, mending, gauges, total, omen, reserve, written, refill_at }
    }

    /// The thread.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let clock = shared.clock;
        let (mut stream, mut groups) = (Stream::over(STREAM_OVER), 0);
        while !self.closed {
            let mend = self.mend_due();
            let due = || [mend, shared.spool.lock().due()].into_iter().flatten().min();
            if stream.rate(clock.now(), groups) >= STREAM {
                shared.inbox.rest(REST, || clock.now(), due);
            }
            let Turn::Jobs(jobs) = shared.inbox.wait(|| clock.now(), due) else {
                return;
            };
            groups += jobs.len() as u64;
            let after = self.turn(jobs, clock.now());
            after.into_iter().for_each(|call| call());
            shared.inbox.last_turn.store(clock.now().0, Ordering::Relaxed);
        }
        shared.inbox.close();
    }

    pub fn turn(&mut self, jobs: Vec<Job>, now: Boot) -> After {
        let mut after = After::new();
        if self.closed {
            jobs.into_iter().for_each(|job| after.push(Box::new(|| job.refuse())));
            return after;
        }
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut group: Vec<Job> = std::iter::from_fn(|| jobs.next_if(|j| !matches!(j, Job::Close(_)))).collect();
            self.say(&mut group, now, &mut after);
            if !group.is_empty() {
                self.group(group, now, &mut after);
            }
            if let Some(Job::Close(told)) = jobs.next() {
                self.close(now);
                // Whoever asked may have stopped waiting.
                after.push(Box::new(move || _ = told.send(())));
                jobs.by_ref().for_each(|job| after.push(Box::new(|| job.refuse())));
            }
        }
        if !self.closed {
            self.mend(now);
            self.refill(now);
            self.pay(now, false);
            self.spool_turn(now, false);
            self.measure(now);
        }
        after
    }

    /// Whether there is room again on a file system that was full.
    fn refill(&mut self, now: Boot) {
        // Nothing is made in a directory that is not ours.
        if self.places.away {
            return;
        }
        if self.mending.is_none() {
            // If that fails, so does what follows.
            let _ = self.saver.disk().relax();
        }
        if self.state.full {
            self.refill_at.get_or_insert(now + limits::WRITER_TURN);
        }
        if self.refill_at.is_some_and(|at| at <= now) {
            self.refill_at = Some(now + limits::WRITER_TURN);
            if self.reserve.refill() && self.state.stock().is_ok() {
                self.refill_at = None;
                self.state.full = false;
                self.places.refused[Db::State as usize] = false;
            }
        }
        self.tell_room(now);
    }

    /// A file that lives on the room that it has is full, even if its commits work.
    fn tell_room(&mut self, now: Boot) {
        if self.places.away {
            return;
        }
        for db in Db::BOTH {
            match self.crowded(db) {
                _ if self.places.refused[db as usize] => {}
                Some(detail) => self.shared.board.crowded(db, &detail, now),
                None => self.shared.board.roomy(db, now),
            }
        }
    }

    /// `None`: it may take more.
    fn crowded(&mut self, db: Db) -> Option<String> {
        let disk = self.saver.disk();
        match db {
            Db::State => self.state.full.then(|| "the file system is full: history stops, the room is for events and commands".into()),
            Db::Spool => disk.sizes.squeezed.then(|| format!("the file system is full: telemetry stays within {} KiB", disk.bytes() >> 10)),
        }
    }

    /// What the turn has cost, and whether the disk is well.
    fn measure(&mut self, now: Boot) {
        self.gauges.iter_mut().for_each(|gauge| self.total.add(gauge.look()));
        self.shared.board.set_wear(self.total.now(now));
        self.shared.board.rested(now);
        self.tell_room(now);
        // What is full and still takes commits has lost nothing.
        let shown = self.shared.board.shown(now);
        let fails = shown.iter().zip(self.places.refused).any(|(file, refused)| match file.state {
            StoreState::Full => refused,
            state => !state.is_written(),
        });
        let here = self.shared.clocks.here();
        self.omen.tell(fails, &here.uuid, now, here.clock);
    }

    /// Progress while all is well needs no commit of its own: it reports no change, the next one replaces it, and a disk
    /// that is written once a minute for nothing else wears. It waits for the next transaction as telemetry does.
    fn say(&mut self, jobs: &mut Vec<Job>, now: Boot, after: &mut After) {
        let [Job::Submit(changes, _)] = jobs.as_slice() else { return };
        let [Change::Event(event)] = changes.as_slice() else { return };
        let Shared { spool, events, clocks, board, .. } = &*self.shared;
        let is_well = board.shown(now)[Db::State as usize].state == StoreState::Ok;
        let is_fresh = now.since(self.written) < limits::PROGRESS_UNWRITTEN;
        let can_wait = matches!(event.kind, EventKind::Progress { .. }) && is_well && is_fresh && events.is_quiet();
        let is_owed = board.is_held() || board.owes() || self.clock_owed.is_some() || !clocks.unwritten().is_empty();
        if !can_wait || is_owed || spool.lock().gaps.owes() {
            return;
        }
        let message = self.state.say(event.clone());
        events.committed(vec![message], &[]);
        for job in jobs.drain(..) {
            if let Job::Submit(_, done) = job {
                after.push(Box::new(move || done(Ok(()))));
            }
        }
    }

    /// The jobs as one transaction. All of them fail or none, but for what cannot be stored for its own sake.
    fn group(&mut self, jobs: Vec<Job>, now: Boot, after: &mut After) {
        let clocks = self.shared.clocks.unwritten();
        let news = (!clocks.is_empty()).then_some(Work::Clock(&clocks));
        let work: Vec<Work> = news
            .into_iter()
            .chain(jobs.iter().flat_map(|job| match job {
                Job::Submit(changes, _) => vec![Work::Changes(changes)],
                Job::Accept(command, _) => vec![Work::Accept(command)],
                Job::Run(changes, commands, _) => {
                    std::iter::once(Work::Changes(changes)).chain(commands.iter().map(Work::Accept)).collect()
                }
                Job::Clock | Job::Close(_) => vec![],
            }))
            .collect();
        let held = self.shared.board.is_held();
        let gaps = if held { Vec::new() } else { self.shared.spool.lock().gaps.take() };
        let owed = gaps.iter().cloned().map(|gap| gap.event(now)).collect();
        match self.commit(&work, owed, now) {
            Ok(mut accepted) => {
                self.shared.board.hold(false);
                self.shared.clocks.written(&clocks);
                accepted.reverse();
                for job in jobs {
                    match job {
                        Job::Submit(_, done) => after.push(Box::new(move || done(Ok(())))),
                        Job::Accept(_, done) => {
                            let answer = accepted.pop().expect("one answer for each command");
                            let answer = answer.map_err(|source| Arc::new(StoreError::Refused { source }));
                            after.push(Box::new(move || done(answer)));
                        }
                        Job::Run(_, commands, done) => {
                            let answers = commands.iter().map(|_| {
                                let answer = accepted.pop().expect("one answer for each command");
                                answer.map_err(|source| Arc::new(StoreError::Refused { source }))
                            });
                            let answers = answers.collect();
                            after.push(Box::new(move || done(Ok(answers))));
                        }
                        Job::Clock | Job::Close(_) => {}
                    }
                }
            }
            Err(error) => {
                self.owe(gaps, now);
                for job in jobs {
                    let error = Arc::clone(&error);
                    match job {
                        Job::Submit(_, done) => after.push(Box::new(move || done(Err(error)))),
                        Job::Accept(_, done) => after.push(Box::new(move || done(Err(error)))),
                        Job::Run(_, _, done) => after.push(Box::new(move || done(Err(error)))),
                        Job::Clock => self.clock_owed = Some(now + limits::WRITE_RETRY_MIN),
                        Job::Close(_) => {}
                    }
                }
            }
        }
    }

    fn owe(&self, gaps: Vec<Gap>, now: Boot) {
        if !gaps.is_empty() {
            self.shared.spool.lock().gaps_failed(gaps, now);
        }
    }

    /// Gap events that nothing else took along, news of the disk, and a clock that could not be written.
    fn pay(&mut self, now: Boot, last_chance: bool) {
        let gaps_due = {
            let core = self.shared.spool.lock();
            core.are_gaps_due(now) || (last_chance && core.gaps.owes())
        };
        let held = self.shared.board.is_held() && !last_chance;
        let clock_due = self.clock_owed.is_some_and(|at| at <= now || last_chance);
        let news_due = self.shared.board.owes() && self.places.news_at <= now;
        if held || !(gaps_due || clock_due || news_due) {
            return;
        }
        let clocks = self.shared.clocks.unwritten();
        let work: Vec<Work> = (!clocks.is_empty()).then_some(Work::Clock(&clocks)).into_iter().collect();
        let gaps = self.shared.spool.lock().gaps.take();
        if self.commit(&work, gaps.iter().cloned().map(|gap| gap.event(now)).collect(), now).is_err() {
            self.owe(gaps, now);
            self.places.news_at = now + limits::WRITE_RETRY_MIN;
            self.clock_owed = self.clock_owed.map(|_| now + limits::WRITE_RETRY_MIN);
        } else {
            self.shared.clocks.written(&clocks);
            self.clock_owed = None;
        }
    }

    fn commit(&mut self, work: &[Work], events: Vec<Event>, now: Boot) -> Result<Committed, Arc<StoreError>> {
        let shared = Arc::clone(&self.shared);
        let wear = self.total.due(now);
        shared.board.began(Db::State, shared.clock.now());
        let result = announce_with_room(&mut self.state, &shared, &self.reserve, work, events, wear.as_ref());
        shared.board.ended(Db::State, u64::from(result.is_ok()), shared.clock.now());
        self.outcome(Db::State, result.as_ref().err(), now);
        if result.is_ok() {
            self.written = now;
            if wear.is_some() {
                self.total.written(now);
            }
        }
        result.map_err(|source| Arc::new(StoreError::Write { file: "state.db", source }))
    }

    /// A commit that was tried.
    fn outcome(&mut self, db: Db, error: Option<&rusqlite::Error>, now: Boot) {
        let Some(error) = error else {
            self.places.doubted[db as usize] = false;
            self.places.refused[db as usize] = false;
            // A removed directory takes writes on, and nobody will find them.
            if !self.places.away {
                match self.crowded(db) {
                    Some(detail) => self.shared.board.set(db, StoreState::Full, detail, now),
                    None => self.shared.board.worked(db, now),
                }
            }
            return;
        };
        self.places.refused[db as usize] |= db::trouble(error) != Trouble::Content;
        // SQLite calls a write that is refused so an I/O error.
        if db::trouble(error) == Trouble::Failing && quarantine::is_read_only(&self.places.lock_path) {
            self.shared.board.set(db, StoreState::ReadOnly, error.to_string(), now);
        } else if self.reserve.is_full(error) {
            self.shared.board.set(db, StoreState::Full, error.to_string(), now);
        } else {
            self.shared.board.failed(db, error, now);
        }
        match db::trouble(error) {
            Trouble::Damaged => self.shared.board.suspect(db, error.to_string(), false),
            // What it says next may be the disk's fault.
            _ => self.places.doubted[db as usize] = false,
        }
    }

    /// spool.db, if it is due or `all` is to be written. Whether nothing failed.
    pub fn spool_turn(&mut self, now: Boot, all: bool) -> bool {
        if self.mending.is_some() {
            return false;
        }
        let Writer { shared, state, saver, reserve, .. } = self;
        let file = saver.file();
        let mut told = Ok(());
        let mut tell = |gaps: Vec<Gap>, gone: &[u64]| {
            let events = gaps.into_iter().map(|gap| gap.event(now)).collect();
            told = announce_with_room(state, shared, reserve, &[Work::Gone(file, gone)], events, None).map(drop);
            told.is_ok()
        };
        let commits = shared.spool.lock().counts.commits;
        shared.board.began(Db::Spool, shared.clock.now());
        let done = if all {
            saver.close(&shared.spool, &shared.clocks, now, &mut tell)
        } else {
            saver.turn(&shared.spool, &shared.clocks, now, false, &mut tell)
        };
        let made = shared.spool.lock().counts.commits - commits;
        shared.board.ended(Db::Spool, made, shared.clock.now());
        if let Err(e) = told {
            self.outcome(Db::State, Some(&e), now);
        }
        match self.saver.take_error() {
            Some(e) => self.outcome(Db::Spool, Some(&e), now),
            None if made > 0 => self.outcome(Db::Spool, None, now),
            None => {}
        }
        done
    }

    /// Everything that is in RAM, then the mark of a clean stop; without the first not the second.
    fn close(&mut self, now: Boot) {
        // A damaged spool is replaced before the end, if the disk lets it: it takes as long as it takes to read.
        for _ in 0..limits::MEND_TURNS {
            self.mend(now);
            if self.mend_due().is_none_or(|at| at > now) {
                break;
            }
        }
        self.pay(now, true);
        let mut all = self.spool_turn(now, true);
        if !all {
            // No acknowledgement comes any more, so what was on its way need not stay for one: there may be room then.
            (0..self.shared.spool.uplinks()).for_each(|n| self.shared.spool.lock().return_unacknowledged(UplinkIndex(n)));
            all = self.spool_turn(now, true);
        }
        let all = all && !self.shared.spool.lock().gaps.owes();
        let last = self.shared.spool.lock().last();
        let along = self.shared.events.take_along();
        self.state.mark(along.marks);
        let _ = self.commit(&[Work::Clock(&self.shared.clocks.last(now))], Vec::new(), now);
        self.measure(now);
        let ended = if all { self.state.end(last, &along.done, &self.total.now(now), now) } else { Ok(()) };
        if let Err(e) = ended.and_then(|()| self.state.checkpoint()) {
            tracing::error!(error = %e, "the clean stop could not be written to state.db");
        }
        self.closed = true;
    }

    /// When something is to be done next.
    pub fn due(&self) -> Option<Boot> {
        [self.mend_due(), self.clock_owed, self.shared.spool.lock().due()].into_iter().flatten().min()
    }
}

type Committed = Vec<rusqlite::Result<super::Accepted>>;

/// The same on a file system that is full: from the start of the log, then with the reserve.
fn announce_with_room(
    state: &mut State,
    shared: &Shared,
    reserve: &Reserve,
    work: &[Work],
    events: Vec<Event>,
    wear: Option<&Wear>,
) -> rusqlite::Result<Committed> {
    let is_full = |result: &rusqlite::Result<Committed>| result.as_ref().is_err_and(|e| reserve.is_full(e));
    let first = announce(state, shared, work, events.clone(), wear);
    if !is_full(&first) {
        return first;
    }
    state.full = true;
    let second = if state.restart_log().is_ok() { announce(state, shared, work, events.clone(), wear) } else { first };
    if is_full(&second) && reserve.release() { announce(state, shared, work, events, wear) } else { second }
}

/// One transaction of state.db, and its messages to the queue.
fn announce(state: &mut State, shared: &Shared, work: &[Work], mut events: Vec<Event>, wear: Option<&Wear>) -> rusqlite::Result<Committed> {
    let mut along = shared.events.take_along();
    let news = shared.board.take_owed();
    events.extend(along.owed.iter().chain(&news).cloned());
    let at = events.iter().map(|e| e.at).max().unwrap_or_else(|| shared.clock.now());
    events.extend(along.jumps.iter().flat_map(|(.., lost)| lost.iter().map(move |e| Event { at, ..e.clone() })));
    state.mark(along.marks.clone());
    let with_wear: Vec<Work> = work.iter().copied().chain(wear.map(Work::Wear)).collect();
    match state.group(&with_wear, events, &along.done, &along.in_flight, shared.clocks.here().clock) {
        Ok(done) => {
            shared.events.committed(done.messages, &done.dropped);
            shared.events.taken(&along.marks, &along.jumps);
            Ok(done.accepted)
        }
        Err(e) => {
            along.in_flight.clear();
            shared.events.give_back(along);
            shared.board.give_back(news);
            Err(e)
        }
    }
}

/// How long ago the writer came round.
pub fn age(inbox: &Inbox, now: Boot) -> Duration {
    now - Boot(inbox.last_turn.load(Ordering::Relaxed))
}
