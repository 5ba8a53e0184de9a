//! Schedules: how far each has come, and what came of its last runs.
//!
//! Invariant: the row of a run, the mark of its schedule and the ids of its commands are one transaction, so that a kill
//! leaves all of them or none.

use super::Stamp;
use crate::{
    limits,
    model::{Boot, CommandId, DeviceId, Outcome, Schedule, ScheduleId},
    store::{RestoredSchedule, ScheduleChange},
};
use rusqlite::{Connection, Transaction, params};

pub fn apply(tx: &Transaction, change: &ScheduleChange, stamp: &Stamp) -> rusqlite::Result<()> {
    match change {
        // What it has done belongs to its timing, and what comes while it is disabled is not missed.
        ScheduleChange::Put { id, body, timing, enabled, by, at } => tx
            .prepare_cached(
                "INSERT INTO schedule (id, body, timing, enabled, by_whom, wall_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET body = ?2, enabled = ?4, by_whom = ?5, wall_ms = ?6,
                   mark = CASE WHEN timing = ?3 AND enabled = ?4 THEN mark END, ran = CASE WHEN timing = ?3 THEN ran END, timing = ?3",
            )?
            .execute(params![id.as_str(), body.as_ref().map(|b| b.shown().to_string()), timing, enabled, by, stamp.clock.wall(*at).0])
            .map(drop),
        ScheduleChange::Mark { id, mark } => {
            tx.prepare_cached("UPDATE schedule SET mark = ?2 WHERE id = ?1")?.execute(params![id.as_str(), mark]).map(drop)
        }
        ScheduleChange::Ran { id, second, is_wall, commands, at } => run(tx, id, (*second, *is_wall), commands, *at, stamp),
        ScheduleChange::Gone(id) => {
            tx.prepare_cached("DELETE FROM schedule WHERE id = ?1")?.execute([id.as_str()])?;
            tx.prepare_cached("DELETE FROM schedule_run WHERE schedule = ?1")?.execute([id.as_str()]).map(drop)
        }
    }
}

fn run(
    tx: &Transaction,
    id: &ScheduleId,
    (second, is_wall): (i64, bool),
    commands: &[(CommandId, DeviceId)],
    at: Boot,
    stamp: &Stamp,
) -> rusqlite::Result<()> {
    if is_wall {
        let sql = "UPDATE schedule SET mark = ?2, ran = ?2 WHERE id = ?1";
        tx.prepare_cached(sql)?.execute(params![id.as_str(), second])?;
    }
    for (command, device) in commands {
        // One that is there has run: its commands are refused as well.
        tx.prepare_cached("INSERT OR IGNORE INTO schedule_run (schedule, at, wall_ms, command, device) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id.as_str(), second, stamp.clock.wall(at).0, command.as_str(), device.as_str()])?;
    }
    tx.prepare_cached(
        "DELETE FROM schedule_run WHERE schedule = ?1
         AND at NOT IN (SELECT at FROM schedule_run WHERE schedule = ?1 GROUP BY at ORDER BY max(id) DESC LIMIT ?2)",
    )?
    .execute(params![id.as_str(), limits::SCHEDULE_RUNS])?;
    Ok(())
}

/// What came of a command of a run. Others have no row here.
pub fn ended(tx: &Transaction, id: &CommandId, outcome: &Outcome) -> rusqlite::Result<()> {
    if id.is_of_schedule() {
        tx.prepare_cached("UPDATE schedule_run SET phase = ?2, reason = ?3 WHERE command = ?1 AND phase IS NULL")?.execute(params![
            id.as_str(),
            outcome.phase.word(),
            outcome.reason
        ])?;
    }
    Ok(())
}

pub fn all(db: &Connection) -> rusqlite::Result<Vec<RestoredSchedule>> {
    let mut all = db.prepare("SELECT id, body, timing, enabled, by_whom, mark, ran FROM schedule ORDER BY id")?;
    let rows = all.query_map([], |r| {
        let (id, body): (String, Option<String>) = (r.get(0)?, r.get(1)?);
        let read = |text: &str| serde_json::from_str(text).map_err(|e| e.to_string()).and_then(|json| Schedule::read(&json));
        let body = body.map(|text| read(&text)).transpose();
        match (ScheduleId::parse(&id), body) {
            (Ok(id), Ok(body)) => Ok(Some(RestoredSchedule {
                id,
                body,
                timing: r.get(2)?,
                enabled: r.get(3)?,
                by: r.get(4)?,
                mark: r.get(5)?,
                ran: r.get(6)?,
            })),
            (_, body) => {
                tracing::error!(id, error = body.err().unwrap_or_default(), "a stored schedule cannot be understood; it does not run");
                Ok(None)
            }
        }
    })?;
    rows.filter_map(Result::transpose).collect()
}
