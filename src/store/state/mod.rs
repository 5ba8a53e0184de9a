//! state.db: devices, history, commands, dead letters, events, boots and epochs. One transaction per group commit.
//!
//! Invariant: an event is written in the transaction of the change it reports, and nobody sees it before the commit.

mod alarms;
mod apart;
mod commands;
mod devices;
mod epochs;
mod learned;
mod letters;
mod outbox;
mod relays;
mod rules;
mod salvage;
mod schedules;
mod upkeep;

pub use epochs::Begin;
pub use learned::all as learned;
pub use outbox::{Message, read_messages};
pub use salvage::salvage;
pub use upkeep::all_attributes as attributes;

use super::{
    Accepted, Before, Change, RestoredAlarm, RestoredAttribute, RestoredDevice, RestoredMaintenance, RestoredRule, RestoredSchedule,
    StoreError,
    boots::BootRow,
    db::{self, Trouble},
    spool::disk::Gone,
};
use crate::{
    limits,
    model::{BootIndex, ClockReading, Command, DeviceId, Epoch, Event, Learned, PointId, Wear},
};
use outbox::Outbox;
use rusqlite::{Connection, Transaction};
use std::path::{Path, PathBuf};

pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/state_001.sql"),
    include_str!("../migrations/state_002.sql"),
    include_str!("../migrations/state_clock.sql"),
    include_str!("../migrations/state_letters.sql"),
    include_str!("../migrations/state_watch.sql"),
    include_str!("../migrations/state_schedules.sql"),
    include_str!("../migrations/state_relays.sql"),
    include_str!("../migrations/state_alarms.sql"),
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
    path: PathBuf,
    begun: Option<Begin>,
    /// Said, and not written: see [`State::say`].
    unwritten: Option<Message>,
}

/// What a transaction is about: the stamp of its rows.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    boot: BootIndex,
    clock: ClockReading,
    full: bool,
}

/// One thing to do in a group commit.
#[derive(Clone, Copy)]
pub enum Work<'a> {
    Changes(&'a [Change]),
    Accept(&'a Command),
    Clock(&'a [BootRow]),
    Wear(&'a Wear),
    /// Segments of the spool file that the gap events of this transaction announce as gone.
    Gone(i64, &'a [u64]),
}

/// What a group commit brought about.
#[derive(Debug, Default)]
pub struct Committed {
    /// One per `Work::Accept`, in order.
    pub accepted: Vec<Result<Accepted, rusqlite::Error>>,
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
    pub alarms: Vec<RestoredAlarm>,
    pub rules: Vec<RestoredRule>,
    pub maintenance: Vec<RestoredMaintenance>,
    pub attributes: Vec<RestoredAttribute>,
    pub schedules: Vec<RestoredSchedule>,
    pub relays: Vec<(DeviceId, PointId, bool)>,
    pub open_commands: commands::Open,
    pub gone: Option<Gone>,
    /// The first event row that an uplink wanted, by its name.
    pub marks: Vec<(String, i64)>,
    pub learned: Vec<Learned>,
    pub wear: Wear,
}

impl State {
    pub fn load(path: &Path, caps: Caps) -> Result<Found, StoreError> {
        let mut db = db::open(path, MIGRATIONS, db::LOG_BYTES)?;
        let mut load = || -> rusqlite::Result<_> {
            epochs::rehearse(&mut db)?;
            let marks = epochs::marks(&db)?;
            let outbox = Outbox::load(&db, &marks)?;
            Ok((
                epochs::boots(&db)?,
                devices::all(&db)?,
                commands::open(&db)?,
                epochs::gone(&db)?,
                learned::all(&db)?,
                epochs::wear(&db)?,
                marks,
                outbox,
                (alarms::open(&db)?, rules::all(&db)?, upkeep::all_maintenance(&db)?, upkeep::all_attributes(&db, None)?),
                (schedules::all(&db)?, relays::all(&db)?),
            ))
        };
        let (
            boots,
            devices,
            open_commands,
            gone,
            learned,
            wear,
            marks,
            outbox,
            (alarms, rules, maintenance, attributes),
            (schedules, relays),
        ) = load().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let (path, marks_due) = (path.to_owned(), Vec::new());
        let state = State {
            full: false,
            db,
            caps,
            outbox,
            epoch: Epoch(0),
            boot: BootIndex(0),
            marks: marks_due,
            path,
            begun: None,
            unwritten: None,
        };
        Ok(Found {
            state,
            boots,
            devices,
            alarms,
            rules,
            maintenance,
            attributes,
            schedules,
            relays,
            open_commands,
            gone,
            marks,
            learned,
            wear,
        })
    }

    pub fn mark(&mut self, marks: Vec<(String, i64)>) {
        self.marks = marks;
    }

    /// Numbers an event that reports no change and that the next one replaces. It is written with the next transaction,
    /// unless the cloud has it by then. A kill takes it along: the next run names the last number that was written.
    pub fn say(&mut self, event: Event) -> Message {
        let message = self.outbox.number(self.epoch, self.boot, event);
        self.unwritten = Some(message.clone());
        message
    }

    /// All of it or nothing, but for what cannot be stored for its own sake: that is put aside, and the rest goes on.
    /// `acknowledged`: event rows that may go. `in_flight`: those that may not.
    pub fn group(
        &mut self,
        work: &[Work],
        events: Vec<Event>,
        acknowledged: &[i64],
        in_flight: &[i64],
        clock: ClockReading,
    ) -> rusqlite::Result<Committed> {
        match self.try_group(work, events.clone(), acknowledged, in_flight, clock, false) {
            Err(e) if db::trouble(&e) == Trouble::Content => self.try_group(work, events, acknowledged, in_flight, clock, true),
            other => other,
        }
    }

    /// `apart`: each change can fail alone. That costs a savepoint each, so it is done only when one has failed.
    fn try_group(
        &mut self,
        work: &[Work],
        mut events: Vec<Event>,
        acknowledged: &[i64],
        in_flight: &[i64],
        clock: ClockReading,
        apart: bool,
    ) -> rusqlite::Result<Committed> {
        let stamp = Stamp { boot: self.boot, clock, full: self.full };
        let mut done = Committed::default();
        let before = self.outbox;
        let mut tx = self.db.transaction()?;
        let result = (|| {
            for one in work {
                if apart {
                    apart::apply_all(&mut tx, one, &stamp, &self.caps, &mut events, &mut done.accepted)?;
                } else {
                    apply(&tx, one, &stamp, &self.caps, &mut events, &mut done.accepted)?;
                }
            }
            self.outbox.delete(&tx, acknowledged)?;
            if let Some(said) = self.unwritten.as_ref().filter(|said| !acknowledged.contains(&said.id)) {
                self.outbox.write_numbered(&tx, said)?;
            }
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
        self.unwritten = None;
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
        db::restart_log(&self.db)
    }

    /// Free pages in the file, for the day when the file system has none.
    pub fn stock(&self) -> rusqlite::Result<()> {
        db::stock(&self.db, limits::FREE_BYTES)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the file that is open, wherever it is now.
    pub fn connection(&self) -> &Connection {
        &self.db
    }

    /// Leaves the file, whatever state it is in. Every write fails until it is opened again.
    pub fn let_go(&mut self) -> rusqlite::Result<()> {
        self.db = Connection::open_in_memory()?;
        Ok(())
    }

    /// A fresh connection: to the same file after an error, or to the one that has taken its place. This run is known there
    /// when this returns.
    pub fn open_again(&mut self) -> Result<(), StoreError> {
        let fail = |source| StoreError::Open { path: self.path.clone(), source };
        let mut db = db::open(&self.path, MIGRATIONS, db::LOG_BYTES)?;
        if let Some(begun) = &self.begun {
            epochs::begin_again(&mut db, begun, self.epoch, self.outbox.last_seq()).map_err(fail)?;
        }
        self.outbox.moved(&db).map_err(fail)?;
        self.db = db;
        Ok(())
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
    accepted: &mut Vec<Result<Accepted, rusqlite::Error>>,
) -> rusqlite::Result<()> {
    match work {
        Work::Changes(changes) => changes.iter().try_for_each(|change| apply_change(tx, change, stamp, caps, events)),
        Work::Accept(command) => {
            accepted.push(Ok(commands::accept(tx, command, stamp, caps.commands)?));
            Ok(())
        }
        Work::Clock(rows) => rows.iter().try_for_each(|row| epochs::set_clock(tx, row)),
        Work::Wear(wear) => epochs::set_wear(tx, wear),
        Work::Gone(file, segments) => epochs::set_gone(tx, *file, segments),
    }
}

fn apply_change(tx: &Transaction, change: &Change, stamp: &Stamp, caps: &Caps, events: &mut Vec<Event>) -> rusqlite::Result<()> {
    match change {
        Change::Status(status) => devices::status(tx, status, stamp, caps.history),
        Change::Registered { device, via, offline_after, quarantined, at } => {
            devices::registered(tx, device, via, *offline_after, *quarantined, *at, stamp)
        }
        Change::Alarm(alarm) => alarms::put(tx, alarm, stamp),
        Change::AlarmSeen { alarm, by, at } => alarms::seen(tx, alarm, by, *at, stamp),
        Change::Rule { id, condition, memory } => rules::put(tx, id, condition, memory, stamp),
        Change::RuleGone(id) => rules::forget(tx, id),
        Change::Maintenance { device, is } => upkeep::maintenance(tx, device, is.as_ref(), stamp),
        Change::Attributes { device, values, at } => upkeep::attributes(tx, device, values, *at, stamp),
        Change::Relay(relay) => relays::put(tx, relay, stamp),
        Change::CommandPhase { id, phase, .. } => commands::phase(tx, id, *phase),
        Change::CommandDone { id, outcome, at, .. } => {
            commands::done(tx, id, outcome, *at, stamp)?;
            schedules::ended(tx, id, outcome)
        }
        Change::Schedule(change) => schedules::apply(tx, change, stamp),
        Change::Learned { fact, forget: false, at } => learned::put(tx, fact, *at, stamp),
        Change::Learned { fact, forget: true, .. } => learned::forget(tx, fact),
        Change::DeadLetter(letter) => letters::add(tx, letter, stamp, caps.dead_letters),
        Change::ForgetLetters(ids) => letters::forget(tx, ids),
        Change::Event(event) => {
            events.push(event.clone());
            Ok(())
        }
    }
}

/// Dead letters, in a file that nobody has open.
pub fn forget_letters(path: &Path, ids: &[i64]) -> Result<(), StoreError> {
    let mut db = db::open(path, MIGRATIONS, db::LOG_BYTES)?;
    let mut gone = || {
        let tx = db.transaction()?;
        letters::forget(&tx, ids)?;
        tx.commit()
    };
    gone().map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

/// All facts about a device or line, in a file that nobody has open.
pub fn forget(path: &Path, about: &str) -> Result<(), StoreError> {
    let db = db::open(path, MIGRATIONS, db::LOG_BYTES)?;
    let gone = db.execute("DELETE FROM learned WHERE about = ?1", [about]);
    gone.map(drop).map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

/// Text that does not parse is a damaged row: an error of its own, never a panic.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}
