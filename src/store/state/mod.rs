//! state.db: devices, history, commands, dead letters, events, boots and epochs. One transaction per group commit.
//!
//! Invariant: an event is written in the transaction of the change it reports, and nobody sees it before the commit.

mod commands;
mod devices;
mod epochs;
mod learned;
mod letters;
mod outbox;

pub use epochs::Begin;
pub use learned::all as learned;
pub use outbox::{Message, read_messages};

use super::{Accepted, Before, Change, RestoredDevice, StoreError, boots::BootRow, db, spool::disk::Gone};
use crate::{
    limits,
    model::{BootIndex, ClockReading, Command, Epoch, Event, Learned, Phase},
};
use outbox::Outbox;
use rusqlite::{Connection, Transaction};
use std::path::Path;

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/state_001.sql"),
    include_str!("../migrations/state_002.sql"),
    include_str!("../migrations/state_clock.sql"),
];

/// Row limits that tests make small.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub events: u64,
    pub event_bytes: u64,
    pub dead_letters: u64,
    pub commands: u64,
    pub history: u64,
}

impl Default for Caps {
    fn default() -> Caps {
        Caps {
            events: limits::EVENTS,
            event_bytes: limits::EVENT_BYTES_MAX,
            dead_letters: limits::DEAD_LETTERS,
            commands: limits::COMMANDS_KEPT,
            history: limits::STATUS_HISTORY,
        }
    }
}

impl Caps {
    /// What goes beside a spool of this size.
    pub fn beside(disk_max: u64) -> Caps {
        Caps { event_bytes: (disk_max / 8).clamp(limits::EVENT_BYTES_MIN, limits::EVENT_BYTES_MAX), ..Caps::default() }
    }
}

#[derive(Debug)]
pub struct State {
    /// The file system is full: history stops, so that the room is for events and commands.
    pub full: bool,
    db: Connection,
    caps: Caps,
    outbox: Outbox,
    epoch: Epoch,
    boot: BootIndex,
    /// To be written with the next group: the first event row that each uplink wants.
    marks: Vec<(String, i64)>,
}

/// What a transaction is about: the stamp of its rows.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    boot: BootIndex,
    clock: ClockReading,
    full: bool,
}

/// One thing to do in a group commit.
pub enum Work<'a> {
    Changes(&'a [Change]),
    Accept(&'a Command),
    Clock(&'a [BootRow]),
    /// Segments of the spool file that the gap events of this transaction announce as gone.
    Gone(i64, &'a [u64]),
}

/// What a group commit brought about.
#[derive(Debug, Default)]
pub struct Committed {
    /// One per `Work::Accept`, in order.
    pub accepted: Vec<Accepted>,
    pub messages: Vec<Message>,
    /// Event rows that were dropped for the limit.
    pub dropped: Vec<i64>,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Found {
    pub state: State,
    pub boots: Vec<BootRow>,
    pub devices: Vec<RestoredDevice>,
    pub open_commands: Vec<(Command, Phase)>,
    pub gone: Option<Gone>,
    /// The first event row that an uplink wanted, by its name.
    pub marks: Vec<(String, i64)>,
    pub learned: Vec<Learned>,
}

impl State {
    pub fn load(path: &Path, caps: Caps) -> Result<Found, StoreError> {
        let db = db::open(path, MIGRATIONS, db::CHECKPOINT_PAGES)?;
        let load = || -> rusqlite::Result<_> {
            let marks = epochs::marks(&db)?;
            let outbox = Outbox::load(&db, &marks)?;
            Ok((epochs::boots(&db)?, devices::all(&db)?, commands::open(&db)?, epochs::gone(&db)?, learned::all(&db)?, marks, outbox))
        };
        let (boots, devices, open_commands, gone, learned, marks, outbox) =
            load().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let state = State { full: false, db, caps, outbox, epoch: Epoch(0), boot: BootIndex(0), marks: Vec::new() };
        Ok(Found { state, boots, devices, open_commands, gone, marks, learned })
    }

    pub fn mark(&mut self, marks: Vec<(String, i64)>) {
        self.marks = marks;
    }

    /// All of it or nothing. `acknowledged`: event rows that may go. `in_flight`: those that may not.
    pub fn group(
        &mut self,
        work: &[Work],
        mut events: Vec<Event>,
        acknowledged: &[i64],
        in_flight: &[i64],
        clock: ClockReading,
    ) -> rusqlite::Result<Committed> {
        let stamp = Stamp { boot: self.boot, clock, full: self.full };
        let mut done = Committed::default();
        let before = self.outbox;
        let tx = self.db.transaction()?;
        let result = (|| {
            for one in work {
                apply(&tx, one, &stamp, &self.caps, &mut events, &mut done.accepted)?;
            }
            self.outbox.delete(&tx, acknowledged)?;
            epochs::set_marks(&tx, &self.marks)?;
            done.messages = self.outbox.write(&tx, self.epoch, self.boot, events)?;
            let (dropped, gaps) = self.outbox.keep_limit(&tx, (self.caps.events, self.caps.event_bytes), in_flight, &done.messages)?;
            done.dropped = dropped;
            let mut naming = self.outbox.write(&tx, self.epoch, self.boot, gaps)?;
            self.outbox.named(&naming);
            done.messages.append(&mut naming);
            tx.commit()
        })();
        if let Err(e) = result {
            self.outbox = before;
            return Err(e);
        }
        Ok(done)
    }

    /// The last run that the cloud can know of: its numbers, and whether it ended cleanly. `in_spool`: it left telemetry.
    pub fn before(&self, in_spool: impl Fn(Epoch) -> bool) -> rusqlite::Result<Option<(Before, bool)>> {
        epochs::last(&self.db, in_spool)
    }

    /// The newest row of the event stream.
    pub fn last_event_row(&self) -> i64 {
        self.outbox.last_id()
    }

    /// Puts the log into the file, so that the next transaction begins at its start and needs no new room for it.
    pub fn restart_log(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Free pages in the file, for the day when the file system has none.
    pub fn stock(&self) -> rusqlite::Result<()> {
        db::stock(&self.db, limits::FREE_PAGES)
    }

    /// The end: the log goes into the file.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

fn apply(
    tx: &Transaction,
    work: &Work,
    stamp: &Stamp,
    caps: &Caps,
    events: &mut Vec<Event>,
    accepted: &mut Vec<Accepted>,
) -> rusqlite::Result<()> {
    match work {
        Work::Changes(changes) => changes.iter().try_for_each(|change| match change {
            Change::Status(status) => devices::status(tx, status, stamp, caps.history),
            Change::Registered { device, via, offline_after, quarantined, at } => {
                devices::registered(tx, device, via, *offline_after, *quarantined, *at, stamp)
            }
            Change::CommandPhase { id, phase, .. } => commands::phase(tx, id, *phase),
            Change::CommandDone { id, outcome, at, .. } => commands::done(tx, id, outcome, *at, stamp),
            Change::Learned { fact, forget: false, at } => learned::put(tx, fact, *at, stamp),
            Change::Learned { fact, forget: true, .. } => learned::forget(tx, fact),
            Change::DeadLetter(letter) => letters::add(tx, letter, stamp, caps.dead_letters),
            Change::Event(event) => {
                events.push(event.clone());
                Ok(())
            }
        }),
        Work::Accept(command) => {
            accepted.push(commands::accept(tx, command, stamp, caps.commands)?);
            Ok(())
        }
        Work::Clock(rows) => rows.iter().try_for_each(|row| epochs::set_clock(tx, row)),
        Work::Gone(file, segments) => epochs::set_gone(tx, *file, segments),
    }
}

/// All facts about a device or line, in a file that nobody has open.
pub fn forget(path: &Path, about: &str) -> Result<(), StoreError> {
    let db = db::open(path, MIGRATIONS, db::CHECKPOINT_PAGES)?;
    let gone = db.execute("DELETE FROM learned WHERE about = ?1", [about]);
    gone.map(drop).map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

/// Text that does not parse is a damaged row: an error of its own, never a panic.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}
