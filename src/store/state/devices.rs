//! The device table and its history.

use super::Stamp;
use crate::{
    limits,
    model::{Boot, BootIndex, Cause, DeviceId, DeviceStatus, Evidence, EvidenceKind, LineId, State},
    store::RestoredDevice,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::time::Duration;

/// The row, and a row of history if it is a transition.
pub fn status(tx: &Transaction, s: &DeviceStatus, stamp: &Stamp, history: u64) -> rusqlite::Result<()> {
    let (state, cause) = (s.state.word(), s.cause.map(Cause::word));
    let before = tx
        .prepare_cached("SELECT state, cause FROM device WHERE id = ?1")?
        .query_row([s.device.as_str()], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Option<String>>(1)?)))
        .optional()?;
    let wall = stamp.clock.wall(s.since).0;
    tx.prepare_cached(
        "INSERT INTO device (id, line, state, cause, boot, since, evidence, evidence_at, missed, wall_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET line = ?2, state = ?3, cause = ?4, boot = ?5, since = ?6, evidence = ?7,
           evidence_at = ?8, missed = ?9, wall_ms = ?10",
    )?
    .execute(params![
        s.device.as_str(),
        s.line.as_ref().map(LineId::as_str),
        state,
        cause,
        stamp.boot.0,
        s.since.0.cast_signed(),
        s.evidence.map(|e| e.kind.word()),
        s.evidence.map(|e| e.at.0.cast_signed()),
        s.missed,
        wall
    ])?;
    if stamp.full || before.is_some_and(|(was, why)| was == state && why.as_deref() == cause) {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO status_history (device, boot, at, wall_ms, state, cause, evidence, evidence_at, missed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        s.device.as_str(),
        stamp.boot.0,
        s.since.0.cast_signed(),
        wall,
        state,
        cause,
        s.evidence.map(|e| e.kind.word()),
        s.evidence.map(|e| e.at.0.cast_signed()),
        s.missed
    ])?;
    let oldest = tx.last_insert_rowid().saturating_sub(history.cast_signed());
    tx.prepare_cached("DELETE FROM status_history WHERE id <= ?1")?.execute([oldest])?;
    // One that flaps for weeks must not push the others' history out.
    if tx.last_insert_rowid() % 256 == 0 {
        tx.prepare_cached(
            "DELETE FROM status_history WHERE device = ?1
             AND id <= (SELECT id FROM status_history WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![s.device.as_str(), limits::STATUS_HISTORY_OF_ONE])?;
    }
    Ok(())
}

pub fn registered(
    tx: &Transaction,
    device: &DeviceId,
    via: &str,
    offline_after: Option<Duration>,
    quarantined: bool,
    at: Boot,
    stamp: &Stamp,
) -> rusqlite::Result<()> {
    let offline_after = offline_after.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    tx.prepare_cached(
        "INSERT INTO device (id, state, cause, boot, since, missed, via, offline_after_ms, quarantined, wall_ms)
         VALUES (?1, 'unknown', 'restored', ?2, ?3, 0, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET via = ?4, offline_after_ms = ?5, quarantined = ?6",
    )?
    .execute(params![device.as_str(), stamp.boot.0, at.0.cast_signed(), via, offline_after, quarantined, stamp.clock.wall(at).0])?;
    Ok(())
}

/// As stored. A row that cannot be understood is left out with a word in the log: the device will be heard again.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<RestoredDevice>> {
    let sql = "SELECT id, line, state, cause, boot, since, evidence, evidence_at, missed, via, offline_after_ms, quarantined FROM device ORDER BY id";
    let mut all = db.prepare(sql)?;
    let mut rows = all.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        match device(row)? {
            Some(device) => out.push(device),
            None => tracing::warn!(device = ?row.get_ref(0)?, "stored device cannot be understood; it is left out"),
        }
    }
    Ok(out)
}

fn device(r: &Row) -> rusqlite::Result<Option<RestoredDevice>> {
    let (id, line): (String, Option<String>) = (r.get(0)?, r.get(1)?);
    let (state, cause): (String, Option<String>) = (r.get(2)?, r.get(3)?);
    let (Ok(device), Some(state)) = (DeviceId::parse(&id), State::parse(&state)) else {
        return Ok(None);
    };
    let status = DeviceStatus {
        device,
        line: line.and_then(|l| LineId::parse(&l).ok()),
        state,
        cause: cause.as_deref().and_then(Cause::parse),
        since: Boot(r.get::<_, i64>(5)?.cast_unsigned()),
        evidence: evidence(r.get(6)?, r.get(7)?),
        missed: r.get(8)?,
    };
    let offline_after = r.get::<_, Option<i64>>(10)?.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    Ok(Some(RestoredDevice { status, boot: BootIndex(r.get(4)?), via: r.get(9)?, offline_after, quarantined: r.get(11)? }))
}

fn evidence(kind: Option<String>, at: Option<i64>) -> Option<Evidence> {
    Some(Evidence { kind: EvidenceKind::parse(&kind?)?, at: Boot(at?.cast_unsigned()) })
}
