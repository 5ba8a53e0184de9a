//! SQLite with one writer: state.db for what things are, spool.db for telemetry on its way.
//!
//! ```text
//!  engine ──submit, accept──► inbox ──┐
//!                                     ▼
//!  engine ──append──► spool ──due──► WRITER ──► state.db (changes with their events), spool.db (segments)
//!                      │  ▲           │
//!  uplink ◄──next──────┘  └──saved────┘
//! ```
//! - Two files, so that the spool's churn never checkpoints the state. A commit over both is not atomic, so nothing
//!   relies on one: the gap event is committed before its rows go, and an event lives with its change in state.db.
//! - WAL and `synchronous=FULL`; one transaction for all that waits (group commit).
//! - One writer: a thread, or with [`Backing::Inline`] whoever calls. Readers have connections of their own.
//! - A disk that fails stops nobody: spooling goes on in RAM up to its limit, changes are refused to their `done`.
//!
//! Absent on purpose: what states and commands mean (engine, logic), wire formats (uplink).

mod boots;
mod change;
pub mod copy;
mod db;
mod desk;
mod error;
mod events;
mod health;
mod inbox;
mod omen;
mod open;
mod quarantine;
mod queries;
mod reserve;
pub mod samples;
mod sound;
mod spool;
mod state;
#[cfg(test)]
mod tests;
mod wear;
mod writer;

pub use change::{
    Accepted, Backing, Before, Change, Holder, Options, Restored, RestoredAlarm, RestoredAttribute, RestoredDevice, RestoredMaintenance,
    RestoredRule, RestoredSchedule, ScheduleChange,
};
pub use error::StoreError;
pub use events::{EventQueue, OutgoingEvents};
pub use queries::{AlarmRow, CommandRow, DeadLetterRow, HistoryRow, LetterFilter, RelayRow, Run, ScheduleRunRow};
pub use spool::{Outgoing, Spool};

use crate::{
    config, limits,
    model::{Boot, BootIndex, ClockChange, ClockReading, Command, DeviceId, Latency, Learned, ScheduleId, StoreHealth, WallMs, Wear},
};
use inbox::Job;
use open::{Driver, Handle, Tuning};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// The schema that this build brings each database to. A package asks before it is put in the place of a newer one, which
/// may have brought them further.
pub const SCHEMAS: [(&str, usize); 3] =
    [("state.db", state::MIGRATIONS.len()), ("spool.db", spool::disk::MIGRATIONS.len()), ("samples.db", samples::SCHEMA.len())];

/// What was found out about devices and lines, read beside a daemon or with none running. Empty where no store is yet, or
/// one of a version that learned nothing.
pub fn learned(data_dir: &std::path::Path) -> Result<Vec<Learned>, StoreError> {
    let path = data_dir.join("state.db");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let db = db::reader(&path)?;
    let fail = |source| StoreError::Read { file: "state.db", source };
    let version: u32 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(fail)?;
    if version < 2 { Ok(Vec::new()) } else { state::learned(&db).map_err(fail) }
}

/// Forgets what was found out about a device or line, with the daemon stopped.
pub fn forget(data_dir: &std::path::Path, about: &str) -> Result<(), StoreError> {
    let path = data_dir.join("state.db");
    if !path.exists() {
        return Ok(());
    }
    let _lock = open::lock_directory(data_dir)?;
    state::forget(&path, about)
}

/// Dead letters, with the daemon stopped or beside it.
pub fn dead_letters(data_dir: &std::path::Path, filter: &LetterFilter, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
    let path = data_dir.join("state.db");
    if path.exists() { queries::Queries::open(&path)?.dead_letters(filter, limit) } else { Ok(Vec::new()) }
}

/// Throws them away, with the daemon stopped.
pub fn forget_letters(data_dir: &std::path::Path, ids: &[i64]) -> Result<(), StoreError> {
    let path = data_dir.join("state.db");
    if !path.exists() {
        return Ok(());
    }
    let _lock = open::lock_directory(data_dir)?;
    state::forget_letters(&path, ids)
}

/// The handle that everybody shares. The last one that is dropped without [`Store::close`] kills the writer.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates both databases and draws this run's epoch, which is committed before this returns.
    pub fn open(o: Options) -> Result<(Store, Restored), StoreError> {
        let tuning = Tuning::of(o.buffer.disk_max, o.buffer.thin_window);
        open::open(&o, tuning)
    }

    /// Writes the changes in one transaction with their neighbours, then calls `done`, from the writer's thread.
    /// Waits only while the queue is full.
    pub async fn submit(&self, changes: Vec<Change>, done: impl FnOnce(Result<(), Arc<StoreError>>) + Send + 'static) {
        self.send(Job::Submit(changes, Box::new(done))).await;
    }

    /// Remembers the command's id and says whether it is new. New means committed as about to be sent.
    pub async fn accept(&self, command: Command, done: impl FnOnce(Result<Accepted, Arc<StoreError>>) + Send + 'static) {
        self.send(Job::Accept(Box::new(command), Box::new(done))).await;
    }

    /// Remembers the ids of commands that belong together, with changes that hold only if they do, in one transaction. The
    /// answers are in the order of the commands.
    pub async fn accept_all(
        &self,
        changes: Vec<Change>,
        commands: Vec<Command>,
        done: impl FnOnce(Result<Vec<Result<Accepted, Arc<StoreError>>>, Arc<StoreError>>) + Send + 'static,
    ) {
        self.send(Job::Run(changes, commands, Box::new(done))).await;
    }

    /// How many changes can be handed in without waiting; as many as one likes if nothing else waits for the writer.
    pub fn room(&self) -> usize {
        match &self.handle.driver {
            Driver::Thread(_) => Some(self.handle.shared.inbox.room()).filter(|room| *room < limits::STORE_CHANGES).unwrap_or(usize::MAX),
            Driver::Inline(_) => usize::MAX,
        }
    }

    async fn send(&self, job: Job) {
        match &self.handle.driver {
            Driver::Thread(_) => self.handle.shared.inbox.send(job).await,
            Driver::Inline(_) => self.run_inline(vec![job], self.handle.shared.clock.now()),
        }
    }

    fn run_inline(&self, jobs: Vec<Job>, now: Boot) {
        if let Driver::Inline(writer) = &self.handle.driver {
            let after = writer.lock().unwrap_or_else(PoisonError::into_inner).turn(jobs, now);
            after.into_iter().for_each(|call| call());
        }
    }

    pub fn spool(&self) -> &Spool {
        &self.handle.shared.spool
    }

    pub fn events(&self) -> &EventQueue {
        &self.handle.shared.events
    }

    /// How both files are.
    pub fn health(&self) -> Vec<StoreHealth> {
        let shared = &self.handle.shared;
        shared.board.shown(shared.clock.now())
    }

    /// How long the commits of each file took since the start.
    pub fn commits(&self) -> [(&'static str, Latency); 2] {
        self.handle.shared.board.took()
    }

    /// What the store has cost the disk, over restarts.
    pub fn wear(&self) -> Wear {
        self.handle.shared.board.wear()
    }

    /// Inline only: runs the commits that are due, and says when the next one is. Sealing a batch runs them too.
    pub fn poll(&self, now: Boot) -> Option<Boot> {
        let Driver::Inline(writer) = &self.handle.driver else {
            return None;
        };
        self.run_inline(Vec::new(), now);
        writer.lock().unwrap_or_else(PoisonError::into_inner).due()
    }

    /// From now on a thread of its own reads what is sent back from the disk: a batch or an event that must be read first is
    /// not there until `changed` has told. Once, before anything is sent. Not inline, where there are no threads.
    pub fn read_beside(&self) -> Result<(), StoreError> {
        self.handle.read_beside()
    }

    /// How long ago the writer last came round, whether with success or not. At most some seconds while it lives.
    pub fn writer_age(&self) -> Duration {
        match &self.handle.driver {
            Driver::Thread(_) => writer::age(&self.handle.shared.inbox, self.handle.shared.clock.now()),
            Driver::Inline(_) => Duration::ZERO,
        }
    }

    /// Writes everything that is in RAM, marks the stop as clean and ends the writer. Nothing may be sealed after it.
    pub async fn close(&self) {
        let (told, closed) = tokio::sync::oneshot::channel();
        self.handle.closing.store(true, std::sync::atomic::Ordering::Relaxed);
        match &self.handle.driver {
            Driver::Thread(_) => self.handle.shared.inbox.put(Job::Close(told), None),
            Driver::Inline(_) => self.run_inline(vec![Job::Close(told)], self.handle.shared.clock.now()),
        }
        // An error means that it was closed before.
        let _ = closed.await;
    }

    /// What is believed of this boot's clock now. Gives what others are to hear of, of this boot and of earlier ones; it is
    /// written with the next changes, which should be its events.
    pub fn set_clock(&self, reading: ClockReading) -> Vec<ClockChange> {
        let shared = &self.handle.shared;
        let changes = shared.clocks.set(reading, shared.clock.now());
        // News are written with the event that tells them: whoever sees the row has told it.
        if changes.is_empty() && !shared.clocks.unwritten().is_empty() {
            match &self.handle.driver {
                Driver::Thread(_) => shared.inbox.put(Job::Clock, None),
                Driver::Inline(_) => self.run_inline(vec![Job::Clock], shared.clock.now()),
            }
        }
        if !changes.is_empty() {
            // What was held may go.
            shared.spool.tell();
        }
        changes
    }

    /// How this boot's clock maps to wall time, and the moment of which that was said.
    pub fn clock(&self) -> (ClockReading, Boot) {
        let here = self.handle.shared.clocks.here();
        (here.clock, here.seen)
    }

    /// Telemetry of a boot without a synchronised clock is not sent before the boot is so old.
    pub fn hold_telemetry(&self, hold: Duration) {
        self.handle.shared.clocks.hold(hold);
    }

    /// Until when telemetry is not sent, unless the clock is synchronised before. `None`: it is.
    pub fn held_until(&self, now: Boot) -> Option<Boot> {
        self.handle.shared.clocks.held_until(now)
    }

    /// The latest wall time that has certainly come: certificates are judged by it.
    pub fn latest_known(&self, now: Boot) -> WallMs {
        self.handle.shared.clocks.latest_known(now)
    }

    /// How the clock of a boot maps to wall time, as far as is known.
    pub fn clock_of(&self, boot: BootIndex) -> ClockReading {
        self.handle.shared.clocks.of(boot)
    }

    /// The same of all boots.
    pub fn offsets(&self) -> BTreeMap<BootIndex, ClockReading> {
        self.handle.shared.clocks.all()
    }

    /// Opens the local history beside the other files. Once.
    pub fn keep_samples(&self, dir: &std::path::Path, config: config::History) -> Result<samples::Samples, StoreError> {
        let shared = &self.handle.shared;
        samples::Samples::open(dir, config, shared.clock, Arc::clone(&shared.clocks))
    }

    /// The newest transitions of a device, newest first. These three read from the disk: some milliseconds.
    pub fn history(&self, device: &DeviceId, limit: u32) -> Result<Vec<HistoryRow>, StoreError> {
        self.handle.shared.queries.history(device, limit)
    }

    /// The newest transitions of all devices, newest first.
    pub fn moves(&self, limit: u32) -> Result<Vec<(String, HistoryRow)>, StoreError> {
        self.handle.shared.queries.moves(limit)
    }

    /// Its transitions, newest first, back to the one that began before `since` by today's knowledge of the clocks.
    pub fn history_since(&self, device: &DeviceId, since: WallMs) -> Result<Vec<HistoryRow>, StoreError> {
        self.handle.shared.queries.history_since(device, since, &self.offsets())
    }

    /// When a process was there to see devices, oldest first. The last one is this one.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.handle.shared.queries.runs()
    }

    /// The newest alarms, newest first; only those that are raised, or all. Of one device, or of all.
    pub fn alarms(&self, device: Option<&DeviceId>, raised: bool, limit: u32) -> Result<Vec<AlarmRow>, StoreError> {
        self.handle.shared.queries.alarms(device, raised, limit)
    }

    /// What a device said of itself last.
    pub fn attributes(&self, device: &DeviceId) -> Result<Vec<RestoredAttribute>, StoreError> {
        self.handle.shared.queries.attributes(device)
    }

    /// The switched points of a device, in order of name.
    pub fn relays(&self, device: &DeviceId) -> Result<Vec<RelayRow>, StoreError> {
        self.handle.shared.queries.relays(device)
    }

    /// Their newest changes, newest first.
    pub fn relay_history(&self, device: &DeviceId, limit: u32) -> Result<Vec<RelayRow>, StoreError> {
        self.handle.shared.queries.relay_history(device, limit)
    }

    pub fn commands(&self, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        self.handle.shared.queries.commands(limit)
    }

    /// The last runs of a schedule, or of all, the newest first; one row for each command.
    pub fn schedule_runs(&self, of: Option<&ScheduleId>) -> Result<Vec<ScheduleRunRow>, StoreError> {
        self.handle.shared.queries.schedule_runs(of)
    }

    /// The command of this id, if there was one.
    pub fn command(&self, id: &str) -> Result<Option<CommandRow>, StoreError> {
        self.handle.shared.queries.command(id)
    }

    /// What was found out about devices and lines.
    pub fn learned(&self) -> Result<Vec<Learned>, StoreError> {
        self.handle.shared.queries.learned()
    }

    pub fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.dead_letters_of(&LetterFilter::default(), limit)
    }

    /// The same, of some of them.
    pub fn dead_letters_of(&self, filter: &LetterFilter, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.handle.shared.queries.dead_letters(filter, limit)
    }
}
