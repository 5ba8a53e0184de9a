//! Switched points and their past.

use super::Stamp;
use crate::{
    limits,
    model::{DeviceId, PointId, Relay},
};
use rusqlite::{Connection, Transaction, params};

pub fn put(tx: &Transaction, relay: &Relay, stamp: &Stamp) -> rusqlite::Result<()> {
    let Relay { device, point, on, at, by, changes } = relay;
    let (command, source) = (by.as_ref().map(|by| by.command.as_str()), by.as_ref().map(|by| by.source.as_str()));
    let (device, point, wall, at) = (device.as_str(), point.as_str(), stamp.clock.wall(*at).0, at.0.cast_signed());
    tx.prepare_cached(
        "INSERT INTO relay (device, point, is_on, boot, at, wall_ms, command, source) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (device, point) DO UPDATE SET is_on = ?3, boot = ?4, at = ?5, wall_ms = ?6, command = ?7, source = ?8",
    )?
    .execute(params![device, point, on, stamp.boot.0, at, wall, command, source])?;
    if stamp.full {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO relay_history (device, point, is_on, boot, at, wall_ms, command, source, changes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![device, point, on, stamp.boot.0, at, wall, command, source, changes])?;
    let newest = tx.last_insert_rowid();
    let oldest = newest.saturating_sub(limits::RELAY_HISTORY.cast_signed());
    tx.prepare_cached("DELETE FROM relay_history WHERE id <= ?1")?.execute([oldest])?;
    // One that never rests must not push the others' past out.
    if newest % 256 == 0 {
        tx.prepare_cached(
            "DELETE FROM relay_history WHERE device = ?1
             AND id <= (SELECT id FROM relay_history WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![device, limits::RELAY_HISTORY_OF_ONE])?;
    }
    Ok(())
}

/// As they stood. What cannot be understood is left out: it will be seen again.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<(DeviceId, PointId, bool)>> {
    let mut all = db.prepare("SELECT device, point, is_on FROM relay ORDER BY device, point")?;
    let rows = all.query_map([], |r| {
        let (device, point) = (DeviceId::parse(&r.get::<_, String>(0)?), PointId::parse(&r.get::<_, String>(1)?));
        Ok(device.ok().zip(point.ok()).zip(Some(r.get(2)?)).map(|((device, point), on)| (device, point, on)))
    })?;
    rows.filter_map(Result::transpose).collect()
}
