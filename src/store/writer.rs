//! The one writer of both files. The thread drives it in the daemon; with `Backing::Inline` the callers do.
//!
//! A turn: the jobs that wait become one transaction of state.db, with the gap events that are owed; then spool.db, if a
//! commit is due. Callbacks are collected and called when no lock is held.

use super::{
    StoreError,
    boots::Clocks,
    events::EventQueue,
    inbox::{Inbox, Job, Turn},
    reserve::Reserve,
    spool::{Spool, commit::Saver, gaps::Gap},
    state::{State, Work},
};
use crate::{
    limits,
    model::{Boot, Event, UplinkIndex},
    system::clock::Clock,
};
use std::{
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
}

pub struct Writer {
    shared: Arc<Shared>,
    state: State,
    saver: Saver,
    /// state.db could not be written the last time.
    failing: bool,
    closed: bool,
    reserve: Reserve,
    /// The reserve was given away: when to look next whether there is room for it again.
    refill_at: Option<Boot>,
}

/// To be called without any lock.
pub type After = Vec<Box<dyn FnOnce() + Send>>;

impl Writer {
    pub fn new(shared: Arc<Shared>, state: State, saver: Saver, reserve: Reserve) -> Writer {
        // Not there when the file system was full at the start.
        let refill_at = (!reserve.refill()).then_some(Boot(0));
        Writer { shared, state, saver, failing: false, closed: false, reserve, refill_at }
    }

    /// The thread.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let clock = shared.clock;
        while !self.closed {
            let Turn::Jobs(jobs) = shared.inbox.wait(|| clock.now(), || shared.spool.lock().due()) else {
                return;
            };
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
            let group: Vec<Job> = std::iter::from_fn(|| jobs.next_if(|j| !matches!(j, Job::Close(_)))).collect();
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
            self.refill(now);
            self.pay_gaps(now, false);
            self.spool_turn(now, false);
        }
        after
    }

    /// Whether there is room again on a file system that was full.
    fn refill(&mut self, now: Boot) {
        if self.state.full {
            self.refill_at.get_or_insert(now + limits::WRITER_TURN);
        }
        if self.refill_at.is_none_or(|at| at > now) {
            return;
        }
        self.refill_at = Some(now + limits::WRITER_TURN);
        if self.reserve.refill() && self.state.stock().is_ok() {
            tracing::info!("there is room on the file system again");
            self.refill_at = None;
            self.state.full = false;
        }
    }

    /// The jobs as one transaction. All of them fail or none.
    fn group(&mut self, jobs: Vec<Job>, now: Boot, after: &mut After) {
        let clocks = self.shared.clocks.unwritten();
        let news = (!clocks.is_empty()).then_some(Work::Clock(&clocks));
        let work: Vec<Work> = news
            .into_iter()
            .chain(jobs.iter().filter_map(|job| match job {
                Job::Submit(changes, _) => Some(Work::Changes(changes)),
                Job::Accept(command, _) => Some(Work::Accept(command)),
                Job::Clock | Job::Close(_) => None,
            }))
            .collect();
        let gaps = self.shared.spool.lock().gaps.take();
        let owed = gaps.iter().cloned().map(|gap| gap.event(now)).collect();
        match self.commit(&work, owed) {
            Ok(mut accepted) => {
                self.shared.clocks.written(&clocks);
                accepted.reverse();
                for job in jobs {
                    match job {
                        Job::Submit(_, done) => after.push(Box::new(move || done(Ok(())))),
                        Job::Accept(_, done) => {
                            let answer = accepted.pop().expect("one answer for each command");
                            after.push(Box::new(move || done(Ok(answer))));
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
                        Job::Clock | Job::Close(_) => {}
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

    /// Gap events that nothing else took along.
    fn pay_gaps(&mut self, now: Boot, last_chance: bool) {
        let due = {
            let core = self.shared.spool.lock();
            core.are_gaps_due(now) || (last_chance && core.gaps.owes())
        };
        if due {
            let gaps = self.shared.spool.lock().gaps.take();
            if self.commit(&[], gaps.iter().cloned().map(|gap| gap.event(now)).collect()).is_err() {
                self.owe(gaps, now);
            }
        }
    }

    fn commit(&mut self, work: &[Work], events: Vec<Event>) -> Result<Vec<super::Accepted>, Arc<StoreError>> {
        let shared = Arc::clone(&self.shared);
        let result = announce_with_room(&mut self.state, &shared, &self.reserve, work, events);
        match &result {
            Ok(_) if std::mem::take(&mut self.failing) => tracing::info!("state.db is written again"),
            Err(e) if !std::mem::replace(&mut self.failing, true) => tracing::error!(error = %e, "state.db cannot be written"),
            _ => {}
        }
        result.map_err(Arc::new)
    }

    /// spool.db, if it is due or `all` is to be written. Whether nothing failed.
    pub fn spool_turn(&mut self, now: Boot, all: bool) -> bool {
        let Writer { shared, state, saver, reserve, .. } = self;
        let file = saver.file();
        let mut tell = |gaps: Vec<Gap>, gone: &[u64]| {
            let events = gaps.into_iter().map(|gap| gap.event(now)).collect();
            announce_with_room(state, shared, reserve, &[Work::Gone(file, gone)], events).is_ok()
        };
        if all {
            saver.close(&shared.spool, &shared.clocks, now, &mut tell)
        } else {
            saver.turn(&shared.spool, &shared.clocks, now, false, &mut tell)
        }
    }

    /// Everything that is in RAM, then the mark of a clean stop; without the first not the second.
    fn close(&mut self, now: Boot) {
        self.pay_gaps(now, true);
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
        let _ = self.commit(&[Work::Clock(&self.shared.clocks.last(now))], Vec::new());
        let ended = if all { self.state.end(last, &along.done) } else { Ok(()) };
        if let Err(e) = ended.and_then(|()| self.state.checkpoint()) {
            tracing::error!(error = %e, "the clean stop could not be written to state.db");
        }
        self.closed = true;
    }

    /// When something is to be done next.
    pub fn due(&self) -> Option<Boot> {
        self.shared.spool.lock().due()
    }
}

/// The same on a file system that is full: from the start of the log, then with the reserve.
fn announce_with_room(
    state: &mut State,
    shared: &Shared,
    reserve: &Reserve,
    work: &[Work],
    events: Vec<Event>,
) -> Result<Vec<super::Accepted>, StoreError> {
    let first = announce(state, shared, work, events.clone());
    if !is_full(&first, reserve) {
        return first;
    }
    state.full = true;
    let second = if state.restart_log().is_ok() { announce(state, shared, work, events.clone()) } else { first };
    if is_full(&second, reserve) && reserve.release() { announce(state, shared, work, events) } else { second }
}

fn is_full<T>(result: &Result<T, StoreError>, reserve: &Reserve) -> bool {
    matches!(result, Err(StoreError::Write { source, .. }) if reserve.is_full(source))
}

/// One transaction of state.db, and its messages to the queue.
fn announce(state: &mut State, shared: &Shared, work: &[Work], mut events: Vec<Event>) -> Result<Vec<super::Accepted>, StoreError> {
    let mut along = shared.events.take_along();
    let owed = along.owed.clone();
    events.extend(owed);
    let at = events.iter().map(|e| e.at).max().unwrap_or_else(|| shared.clock.now());
    events.extend(along.jumps.iter().flat_map(|(.., lost)| lost.iter().map(move |e| Event { at, ..e.clone() })));
    state.mark(along.marks.clone());
    match state.group(work, events, &along.done, &along.in_flight, shared.clocks.here().clock) {
        Ok(done) => {
            shared.events.committed(done.messages, &done.dropped);
            shared.events.taken(&along.marks, &along.jumps);
            Ok(done.accepted)
        }
        Err(source) => {
            along.in_flight.clear();
            shared.events.give_back(along);
            Err(StoreError::Write { file: "state.db", source })
        }
    }
}

/// How long ago the writer came round.
pub fn age(inbox: &Inbox, now: Boot) -> Duration {
    now - Boot(inbox.last_turn.load(Ordering::Relaxed))
}
