//! A group of which something cannot be stored for its own sake (a constraint, too large): each change by itself, and the
//! one that fails is put aside with its reason. The others are no worse for it.

use super::{Caps, Stamp, Work, apply, apply_change, commands, letters, to_json};
use crate::{
    model::{Alarm, Boot, DeadLetter, Event, Relay},
    store::{
        Accepted, Change,
        db::{self, Trouble},
    },
};
use rusqlite::{Result, Transaction};

pub fn apply_all(
    tx: &mut Transaction,
    work: &Work,
    stamp: &Stamp,
    caps: &Caps,
    events: &mut Vec<Event>,
    accepted: &mut Vec<Result<Accepted>>,
) -> Result<()> {
    match work {
        Work::Changes(changes) => changes.iter().try_for_each(|change| one(tx, change, stamp, caps, events)),
        Work::Accept(command) => {
            let answer = within(tx, |tx| commands::accept(tx, command, stamp, caps.commands));
            accepted.push(own_fault(answer)?);
            Ok(())
        }
        _ => apply(tx, work, stamp, caps, events, accepted),
    }
}

fn one(tx: &mut Transaction, change: &Change, stamp: &Stamp, caps: &Caps, events: &mut Vec<Event>) -> Result<()> {
    let kept = events.len();
    let stored = within(tx, |tx| {
        // It is written with all others, where nobody could tell whose fault it is.
        if let Change::Event(event) = change {
            to_json(event)?;
        }
        apply_change(tx, change, stamp, caps, events)
    });
    let Err(error) = own_fault(stored)? else { return Ok(()) };
    events.truncate(kept);
    tracing::error!(%error, ?change, "a change cannot be stored; it is put aside as a dead letter");
    let letter = DeadLetter {
        source: "store".into(),
        topic: String::new(),
        reason: format!("cannot be stored: {error}"),
        body: format!("{change:?}").into_bytes(),
        at: moment(change),
    };
    own_fault(within(tx, |tx| letters::add(tx, &letter, stamp, caps.dead_letters))).map(drop)
}

/// The inner error is the change's own; the outer one is the disk's and ends the whole group.
fn own_fault<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(e) if db::trouble(&e) != Trouble::Content => Err(e),
        other => Ok(other),
    }
}

fn within<T>(tx: &mut Transaction, work: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
    tx.execute_batch("SAVEPOINT one")?;
    let result = work(tx);
    tx.execute_batch(if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" })?;
    result
}

fn moment(change: &Change) -> Boot {
    match change {
        Change::Status(status) => status.since,
        Change::Registered { at, .. }
        | Change::Alarm(Alarm { at, .. })
        | Change::AlarmSeen { at, .. }
        | Change::Attributes { at, .. }
        | Change::CommandPhase { at, .. }
        | Change::CommandDone { at, .. }
        | Change::Relay(Relay { at, .. })
        | Change::Learned { at, .. }
        | Change::DeadLetter(DeadLetter { at, .. })
        | Change::Event(Event { at, .. }) => *at,
        Change::Maintenance { is, .. } => is.as_ref().map_or(Boot(0), |m| m.since),
        // They carry no moment that matters, and none of their rows can be at fault.
        Change::ForgetLetters(_) | Change::Schedule(_) | Change::RuleGone(_) => Boot(0),
        Change::Rule { memory, .. } => memory.fired_at.unwrap_or_default(),
    }
}
