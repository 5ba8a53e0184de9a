//! The way to the writer: jobs in order, bounded by the changes in them, and an alarm clock for the spool.

use super::{Accepted, Change, StoreError};
use crate::{
    limits,
    model::{Boot, Command, EventKind},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub type Done<T> = Box<dyn FnOnce(Result<T, Arc<StoreError>>) + Send>;

pub enum Job {
    Submit(Vec<Change>, Done<()>),
    Accept(Box<Command>, Done<Accepted>),
    /// Commands with changes that hold only if they do.
    Run(Vec<Change>, Vec<Command>, Done<Vec<Result<Accepted, Arc<StoreError>>>>),
    /// This boot's clock has changed: write its row.
    Clock,
    Close(oneshot::Sender<()>),
}

impl Job {
    /// What it counts towards the limits of the queue and of a group.
    pub fn weight(&self) -> usize {
        match self {
            Job::Submit(changes, _) => changes.len().clamp(1, limits::STORE_CHANGES),
            Job::Run(changes, commands, _) => (changes.len() + commands.len()).clamp(1, limits::STORE_CHANGES),
            _ => 1,
        }
    }

    /// Nobody waits for it who could tell: states that devices have, not what becomes of a command.
    fn is_patient(&self) -> bool {
        let told = |kind: &EventKind| matches!(kind, EventKind::Status { .. } | EventKind::Registered { .. } | EventKind::Changed { .. });
        let patient = |change: &Change| match change {
            Change::Status(_) | Change::Registered { .. } | Change::Attributes { .. } => true,
            Change::Event(event) => told(&event.kind),
            _ => false,
        };
        matches!(self, Job::Submit(changes, _) if changes.iter().all(patient))
    }

    /// The writer is gone.
    pub fn refuse(self) {
        match self {
            Job::Submit(_, done) => done(Err(Arc::new(StoreError::Closed))),
            Job::Accept(_, done) => done(Err(Arc::new(StoreError::Closed))),
            Job::Run(_, _, done) => done(Err(Arc::new(StoreError::Closed))),
            // A closed writer needs no closing: dropping the sender says so.
            Job::Clock | Job::Close(_) => {}
        }
    }
}

/// So many changes share a commit well enough: they wait for no others.
const ENOUGH: usize = limits::STORE_GROUP / 4;

#[derive(Default)]
struct Queue {
    /// With the permit that bounds the queue; given back when the writer takes the job.
    jobs: VecDeque<(Job, Option<OwnedSemaphorePermit>)>,
    rung: bool,
    closed: bool,
}

pub struct Inbox {
    queue: Mutex<Queue>,
    wake: Condvar,
    room: Arc<Semaphore>,
    /// When the writer comes round by itself: only an earlier commit rings. 0: it is awake and will look.
    wakes_at: AtomicU64,
    pub last_turn: AtomicU64,
}

/// What the writer has to do now.
pub enum Turn {
    Jobs(Vec<Job>),
    /// The handle was dropped: end without flushing, as a kill would.
    Abandoned,
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox {
            queue: Mutex::default(),
            wake: Condvar::new(),
            room: Arc::new(Semaphore::new(limits::STORE_CHANGES)),
            wakes_at: AtomicU64::new(0),
            last_turn: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the queue is full.
    pub async fn send(&self, job: Job) {
        let weight = u32::try_from(job.weight()).unwrap_or(1);
        match Arc::clone(&self.room).acquire_many_owned(weight).await {
            Ok(permit) => self.put(job, Some(permit)),
            Err(_) => job.refuse(),
        }
    }

    /// Changes that can be sent without waiting.
    pub fn room(&self) -> usize {
        self.room.available_permits()
    }

    /// For the few jobs that must not wait.
    pub fn put(&self, job: Job, permit: Option<OwnedSemaphorePermit>) {
        let mut queue = self.lock();
        if queue.closed {
            drop(queue);
            return job.refuse();
        }
        queue.jobs.push_back((job, permit));
        drop(queue);
        self.wake.notify_one();
    }

    /// A commit is due at this moment. Costs two loads unless the writer would sleep past it.
    pub fn ring(&self, due: Boot) {
        if due.0 < self.wakes_at.load(Ordering::SeqCst) {
            self.lock().rung = true;
            self.wake.notify_one();
        }
    }

    /// Lets patient jobs come together for so long, or until they are enough; anything else ends it, and so does the moment that
    /// `due` gives.
    pub fn rest(&self, rest: Duration, now: impl Fn() -> Boot, due: impl Fn() -> Option<Boot>) {
        let queue = self.lock();
        // As in `wait`: announced before looking.
        self.wakes_at.store(u64::MAX, Ordering::SeqCst);
        let until = due().unwrap_or(Boot(u64::MAX)).min(now() + rest);
        self.wakes_at.store(until.0, Ordering::SeqCst);
        let enough = |q: &Queue| q.jobs.iter().map(|(job, _)| job.weight()).sum::<usize>() >= ENOUGH;
        let rests = |q: &mut Queue| !q.rung && !q.closed && q.jobs.iter().all(|(job, _)| job.is_patient()) && !enough(q);
        drop(self.wake.wait_timeout_while(queue, until - now(), rests));
        self.wakes_at.store(0, Ordering::SeqCst);
    }

    /// Sleeps until there is something to do: a job, a ring, or the moment that `due` gives. At most `limits::WRITER_TURN`.
    pub fn wait(&self, now: impl Fn() -> Boot, due: impl Fn() -> Option<Boot>) -> Turn {
        let mut queue = self.lock();
        if queue.jobs.is_empty() && !queue.rung && !queue.closed {
            // Announced before looking, so that nothing sealed in between is slept over.
            self.wakes_at.store(u64::MAX, Ordering::SeqCst);
            let now = now();
            let until = due().unwrap_or(Boot(u64::MAX)).min(now + limits::WRITER_TURN);
            self.wakes_at.store(until.0, Ordering::SeqCst);
            let left = until - now;
            if !left.is_zero() {
                // A timer's slack must not make it wake just before the moment.
                let left = left + Duration::from_micros(50);
                let asleep = |q: &mut Queue| q.jobs.is_empty() && !q.rung && !q.closed;
                queue = self.wake.wait_timeout_while(queue, left, asleep).map_or_else(|e| e.into_inner().0, |(q, _)| q);
            }
            self.wakes_at.store(0, Ordering::SeqCst);
        }
        queue.rung = false;
        if queue.closed {
            return Turn::Abandoned;
        }
        let mut weight = 0;
        let mut jobs = Vec::new();
        while let Some((job, _)) = queue.jobs.front() {
            weight += job.weight();
            if !jobs.is_empty() && weight > limits::STORE_GROUP {
                break;
            }
            jobs.extend(queue.jobs.pop_front().map(|(job, _)| job));
        }
        Turn::Jobs(jobs)
    }

    /// No more jobs: those that wait and those that come are refused.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.jobs);
        drop(queue);
        self.room.close();
        left.into_iter().for_each(|(job, _)| job.refuse());
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{DeviceId, DeviceStatus, Event, State},
        system::clock::Clock,
    };

    fn job(changes: Vec<Change>) -> Job {
        Job::Submit(changes, Box::new(|_| {}))
    }

    fn registered() -> Change {
        let device = DeviceId::parse("d").unwrap();
        Change::Event(Event { at: Boot(0), kind: EventKind::Registered { device, via: String::new() } })
    }

    fn online() -> Change {
        let device = DeviceId::parse("d").unwrap();
        Change::Status(DeviceStatus { device, line: None, state: State::Online, cause: None, since: Boot(0), evidence: None, missed: 0 })
    }

    /// Whether a rest of ten minutes ends by this.
    fn ends_a_rest(by: impl FnOnce(&Inbox) + Send) {
        let (inbox, clock) = (Inbox::new(), Clock::Real);
        let until = clock.now() + Duration::from_secs(600);
        let due = || Some(until);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Only a rest that has begun announces itself.
                while inbox.wakes_at.load(Ordering::SeqCst) != until.0 {
                    std::thread::yield_now();
                }
                by(&inbox);
            });
            inbox.rest(Duration::from_secs(1_000), || clock.now(), due);
        });
        assert!(clock.now() < until);
    }

    #[test]
    fn a_rest_ends_for_what_somebody_waits_for() {
        ends_a_rest(|inbox| {
            inbox.put(job(vec![registered(), online()]), None);
            inbox.put(Job::Clock, None);
        });
        ends_a_rest(|inbox| inbox.put(job(vec![online(), Change::RuleGone(crate::model::RuleId::parse("r").unwrap())]), None));
        ends_a_rest(|inbox| inbox.ring(Boot(1)));
        ends_a_rest(Inbox::close);
    }

    #[test]
    fn a_rest_ends_once_enough_changes_wait() {
        ends_a_rest(|inbox| {
            for _ in 0..ENOUGH / 2 {
                inbox.put(job(vec![registered(), online()]), None);
            }
        });
    }

    #[test]
    fn states_that_stream_in_come_together_for_a_rest() {
        let (inbox, clock) = (Inbox::new(), Clock::Real);
        inbox.put(job(vec![registered(), online()]), None);
        let begun = clock.now();
        inbox.rest(Duration::from_millis(5), || clock.now(), || None);
        assert!(clock.now() >= begun + Duration::from_millis(5));
        inbox.put(job(vec![online()]), None);
        let Turn::Jobs(jobs) = inbox.wait(|| clock.now(), || None) else { panic!("it is open") };
        assert_eq!(jobs.len(), 2);
    }
}
