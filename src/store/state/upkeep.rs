//! Maintenance and attributes of devices.

use super::Stamp;
use crate::{
    model::{Boot, BootIndex, DeviceId, Maintenance, PointId},
    store::{RestoredAttribute, RestoredMaintenance},
};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::BTreeMap;

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
