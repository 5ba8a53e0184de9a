//! The way to the writer: jobs in order, bounded by the changes in them, and an alarm clock for the spool.

use super::{Accepted, Change, StoreError};
use crate::{
    limits,
    model::{Boot, Command},
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
