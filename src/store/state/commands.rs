//! Commands by id: the same id is executed once, whoever sends it, however often, also across restarts.

use super::{Stamp, json, to_json};
use crate::{
    limits,
    model::{Boot, ClockQuality, Command, CommandId, Outcome, Phase},
    store::Accepted,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;

/// New: stored as `sent`, because from this commit on it may be on the wire; a restart must not send it again.
pub fn accept(tx: &Transaction, command: &Command, stamp: &Stamp, kept: u64) -> rusqlite::Result<Accepted> {
    let known = tx
        .prepare_cached("SELECT outcome FROM command WHERE id = ?1")?
        .query_row([command.id.as_str()], |r| r.get::<_, Option<String>>(0))
        .optional()?;
    if let Some(outcome) = known {
        return Ok(Accepted::Again(outcome.map(|text| json(&text).unwrap_or_else(|_| unreadable()))));
    }
    tx.prepare_cached(
        "INSERT INTO command (id, source, device, boot, received, wall_ms, phase, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        command.id.as_str(),
        command.from,
        command.device.as_str(),
        stamp.boot.0,
        command.received.0.cast_signed(),
        stamp.clock.wall(command.received).0,
        Phase::Sent.word(),
        to_json(command)?
    ])?;
    forget(tx, tx.last_insert_rowid(), command.received, stamp, kept)?;
    Ok(Accepted::New)
}

/// Of a command that has ended, how cannot be read any more. One such row must not keep others from being stored.
fn unreadable() -> Outcome {
    Outcome::new(Phase::Unknown, "it ended, but its stored outcome is damaged")
}

/// The oldest ended ones, by count and by age, a few at a time. Age is measured on the boot clock; a command of another
/// boot has one only if that boot's offset to wall time was known, and ours is. A wall clock that jumps ahead must not
/// make yesterday's ids old: what is forgotten would be executed again.
fn forget(tx: &Transaction, newest: i64, now: Boot, stamp: &Stamp, kept: u64) -> rusqlite::Result<()> {
    let oldest = newest.saturating_sub(kept.cast_signed());
    tx.prepare_cached("DELETE FROM command WHERE n <= ?1 AND outcome IS NOT NULL")?.execute([oldest])?;
    let kept_for = i64::try_from(limits::COMMANDS_KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
    let sql = "DELETE FROM command WHERE n IN (SELECT n FROM command ORDER BY n LIMIT 16) AND outcome IS NOT NULL
               AND CASE WHEN boot = ?1 THEN received < ?2
                   ELSE ?3 AND EXISTS (SELECT 1 FROM boot WHERE id = command.boot AND synchronised
                                       AND command.received / 1000 + offset_ms < ?4) END";
    tx.prepare_cached(sql)?.execute(params![
        stamp.boot.0,
        now.saturating_sub(limits::COMMANDS_KEPT_FOR).0.cast_signed(),
        stamp.clock.quality == ClockQuality::Synchronised,
        stamp.clock.wall(now).0.saturating_sub(kept_for)
    ])?;
    Ok(())
}

pub fn phase(tx: &Transaction, id: &CommandId, phase: Phase) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE command SET phase = ?2 WHERE id = ?1 AND outcome IS NULL")?.execute([id.as_str(), phase.word()])?;
    Ok(())
}

/// The first outcome stands.
pub fn done(tx: &Transaction, id: &CommandId, outcome: &Outcome, at: Boot, stamp: &Stamp) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE command SET phase = ?2, outcome = ?3, ended_wall_ms = ?4 WHERE id = ?1 AND outcome IS NULL")?
        .execute(params![id.as_str(), outcome.phase.word(), to_json(outcome)?, stamp.clock.wall(at).0])?;
    Ok(())
}

/// What had not ended when the process did.
#[derive(Debug, Default)]
pub struct Open {
    /// In the order of acceptance.
    pub commands: Vec<(Command, Phase)>,
    /// Of those to several devices, the parts that have ended.
    pub ended_parts: BTreeMap<CommandId, Outcome>,
}

pub fn open(db: &Connection) -> rusqlite::Result<Open> {
    let mut open = db.prepare("SELECT body, phase, n FROM command WHERE outcome IS NULL ORDER BY n")?;
    let rows = open.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?)))?;
    let mut out = Open::default();
    for row in rows {
        let (body, phase, n) = row?;
        let command: Command = match json(&body) {
            Ok(command) => command,
            Err(e) => {
                tracing::warn!(error = %e, "a stored command cannot be understood; it is left out");
                continue;
            }
        };
        for part in command.parts() {
            // A row before the whole is another command that had this id.
            let mut ended = db.prepare_cached("SELECT outcome FROM command WHERE id = ?1 AND n > ?2 AND outcome IS NOT NULL")?;
            let outcome = ended.query_row(params![part.id.as_str(), n], |r| r.get::<_, String>(0)).optional()?;
            if let Some(text) = outcome {
                out.ended_parts.insert(part.id, json(&text).unwrap_or_else(|_| unreadable()));
            }
        }
        out.commands.push((command, Phase::parse(&phase).unwrap_or(Phase::Sent)));
    }
    Ok(out)
}
