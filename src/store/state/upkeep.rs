//! Alarms, maintenance and attributes of devices.

use super::Stamp;
use crate::{
    limits,
    model::{Alarm, AlarmKind, Boot, BootIndex, DeviceId, Maintenance, PointId},
    store::{RestoredAttribute, RestoredMaintenance},
};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::BTreeMap;

/// An alarm that is raised again while it is raised stays one row.
pub fn alarm(tx: &Transaction, alarm: &Alarm, stamp: &Stamp) -> rusqlite::Result<()> {
    let Alarm { device, kind, raised, at, reason } = alarm;
    let (device, kind, wall) = (device.as_str(), kind.word(), stamp.clock.wall(*at).0);
    if !*raised {
        tx.prepare_cached(
            "UPDATE alarm SET cleared_boot = ?3, cleared_at = ?4, cleared_wall_ms = ?5
             WHERE device = ?1 AND kind = ?2 AND cleared_at IS NULL",
        )?
        .execute(params![device, kind, stamp.boot.0, at.0.cast_signed(), wall])?;
        return Ok(());
    }
    let new = tx
        .prepare_cached(
            "INSERT INTO alarm (device, kind, boot, at, wall_ms, reason) SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE NOT EXISTS (SELECT 1 FROM alarm WHERE device = ?1 AND kind = ?2 AND cleared_at IS NULL)",
        )?
        .execute(params![device, kind, stamp.boot.0, at.0.cast_signed(), wall, reason])?;
    if new > 0 {
        // Those that are raised stay: each device has at most one of a kind.
        let oldest = tx.last_insert_rowid().saturating_sub(limits::ALARMS.cast_signed());
        tx.prepare_cached("DELETE FROM alarm WHERE id <= ?1 AND cleared_at IS NOT NULL")?.execute([oldest])?;
    }
    Ok(())
}

pub fn maintenance(tx: &Transaction, device: &DeviceId, is: Option<&Maintenance>, stamp: &Stamp) -> rusqlite::Result<()> {
    let Some(m) = is else {
        tx.prepare_cached("DELETE FROM maintenance WHERE device = ?1")?.execute([device.as_str()])?;
        return Ok(());
    };
    tx.prepare_cached(
        "REPLACE INTO maintenance (device, by_whom, reason, boot, since, until, wall_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        device.as_str(),
        m.by,
        m.reason,
        stamp.boot.0,
        m.since.0.cast_signed(),
        m.until.map(|until| until.0.cast_signed()),
        stamp.clock.wall(m.since).0
    ])?;
    Ok(())
}

/// `None`: it is not said any more.
pub fn attributes(
    tx: &Transaction,
    device: &DeviceId,
    values: &BTreeMap<PointId, Option<String>>,
    at: Boot,
    stamp: &Stamp,
) -> rusqlite::Result<()> {
    let wall = stamp.clock.wall(at).0;
    for (name, value) in values {
        match value {
            None => {
                tx.prepare_cached("DELETE FROM attribute WHERE device = ?1 AND name = ?2")?.execute([device.as_str(), name.as_str()])?;
            }
            Some(value) => {
                tx.prepare_cached(
                    "INSERT INTO attribute (device, name, value, boot, at, wall_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (device, name) DO UPDATE SET value = ?3, boot = ?4, at = ?5, wall_ms = ?6",
                )?
                .execute(params![device.as_str(), name.as_str(), value, stamp.boot.0, at.0.cast_signed(), wall])?;
            }
        }
    }
    Ok(())
}

/// Those that are raised.
pub fn open_alarms(db: &Connection) -> rusqlite::Result<Vec<(DeviceId, AlarmKind)>> {
    let mut all = db.prepare("SELECT device, kind FROM alarm WHERE cleared_at IS NULL ORDER BY id")?;
    let rows = all.query_map([], |r| Ok((DeviceId::parse(&r.get::<_, String>(0)?).ok(), AlarmKind::parse(&r.get::<_, String>(1)?))))?;
    rows.filter_map(|row| row.map(|(device, kind)| device.zip(kind)).transpose()).collect()
}

pub fn all_maintenance(db: &Connection) -> rusqlite::Result<Vec<RestoredMaintenance>> {
    let mut all = db.prepare("SELECT device, by_whom, reason, boot, since, until FROM maintenance ORDER BY device")?;
    let rows = all.query_map([], |r| {
        let Ok(device) = DeviceId::parse(&r.get::<_, String>(0)?) else { return Ok(None) };
        let is = Maintenance { device, by: r.get(1)?, reason: r.get(2)?, since: moment(r, 4)?.unwrap_or_default(), until: moment(r, 5)? };
        Ok(Some(RestoredMaintenance { is, boot: BootIndex(r.get(3)?) }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

pub fn all_attributes(db: &Connection, of: Option<&DeviceId>) -> rusqlite::Result<Vec<RestoredAttribute>> {
    let mut all =
        db.prepare_cached("SELECT device, name, value, boot, at FROM attribute WHERE ?1 IS NULL OR device = ?1 ORDER BY device, name")?;
    let rows = all.query_map([of.map(DeviceId::as_str)], |r| {
        let (device, name) = (DeviceId::parse(&r.get::<_, String>(0)?), PointId::parse(&r.get::<_, String>(1)?));
        let (Ok(device), Ok(name)) = (device, name) else { return Ok(None) };
        Ok(Some(RestoredAttribute { device, name, value: r.get(2)?, boot: BootIndex(r.get(3)?), at: moment(r, 4)?.unwrap_or_default() }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn moment(r: &Row, n: usize) -> rusqlite::Result<Option<Boot>> {
    Ok(r.get::<_, Option<i64>>(n)?.map(|at| Boot(at.cast_unsigned())))
}
