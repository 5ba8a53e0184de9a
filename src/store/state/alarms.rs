//! Alarms of devices and of rules: one row from raised to cleared, with who has seen it.

use super::Stamp;
use crate::{
    limits,
    model::{Alarm, AlarmKind, AlarmName, Boot, DeviceId, PointId, RuleId, Urgency},
    store::RestoredAlarm,
};
use rusqlite::{Connection, Transaction, params};

fn rule(of: Option<&RuleId>) -> &str {
    of.map_or("", RuleId::as_str)
}

/// An alarm that is raised again while it is raised stays one row.
pub fn put(tx: &Transaction, alarm: &Alarm, stamp: &Stamp) -> rusqlite::Result<()> {
    let Alarm { device, kind, point, severity, raised, at, reason, .. } = alarm;
    let (device, kind, wall) = (device.as_str(), kind.word(), stamp.clock.wall(*at).0);
    let rule = rule(alarm.rule.as_ref());
    if !*raised {
        tx.prepare_cached(
            "UPDATE alarm SET cleared_boot = ?4, cleared_at = ?5, cleared_wall_ms = ?6
             WHERE device = ?1 AND kind = ?2 AND rule = ?3 AND cleared_at IS NULL",
        )?
        .execute(params![device, kind, rule, stamp.boot.0, at.0.cast_signed(), wall])?;
        return Ok(());
    }
    let new = tx
        .prepare_cached(
            "INSERT INTO alarm (device, kind, rule, boot, at, wall_ms, reason, point, severity) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             WHERE NOT EXISTS (SELECT 1 FROM alarm WHERE device = ?1 AND kind = ?2 AND rule = ?3 AND cleared_at IS NULL)",
        )?
        .execute(params![
            device,
            kind,
            rule,
            stamp.boot.0,
            at.0.cast_signed(),
            wall,
            reason,
            point.as_ref().map(PointId::as_str),
            severity.word()
        ])?;
    if new > 0 {
        // Those that are raised stay: each device has at most one of a name.
        let oldest = tx.last_insert_rowid().saturating_sub(limits::ALARMS.cast_signed());
        tx.prepare_cached("DELETE FROM alarm WHERE id <= ?1 AND cleared_at IS NOT NULL")?.execute([oldest])?;
    }
    Ok(())
}

/// Who saw it first stands.
pub fn seen(tx: &Transaction, alarm: &AlarmName, by: &str, at: Boot, stamp: &Stamp) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE alarm SET seen_by = ?4, seen_boot = ?5, seen_at = ?6, seen_wall_ms = ?7
         WHERE device = ?1 AND kind = ?2 AND rule = ?3 AND cleared_at IS NULL AND seen_by IS NULL",
    )?
    .execute(params![
        alarm.device.as_str(),
        alarm.kind.word(),
        rule(alarm.rule.as_ref()),
        by,
        stamp.boot.0,
        at.0.cast_signed(),
        stamp.clock.wall(at).0
    ])?;
    Ok(())
}

/// Those that are raised.
pub fn open(db: &Connection) -> rusqlite::Result<Vec<RestoredAlarm>> {
    let mut all =
        db.prepare("SELECT device, kind, rule, point, severity, at, reason, seen_by FROM alarm WHERE cleared_at IS NULL ORDER BY id")?;
    let rows = all.query_map([], |r| {
        let (device, kind) = (DeviceId::parse(&r.get::<_, String>(0)?), AlarmKind::parse(&r.get::<_, String>(1)?));
        let (Ok(device), Some(kind)) = (device, kind) else { return Ok(None) };
        let is = Alarm {
            device,
            kind,
            rule: RuleId::parse(&r.get::<_, String>(2)?).ok(),
            point: r.get::<_, Option<String>>(3)?.and_then(|p| PointId::parse(&p).ok()),
            severity: r.get::<_, Option<String>>(4)?.and_then(|s| Urgency::parse(&s)).unwrap_or(kind.severity()),
            raised: true,
            at: Boot(r.get::<_, i64>(5)?.cast_unsigned()),
            reason: r.get(6)?,
        };
        Ok(Some(RestoredAlarm { is, by: r.get(7)? }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
