//! What rules remember, so that each fires once for one cause also over restarts.

use super::Stamp;
use crate::{
    model::{Boot, BootIndex, RuleId, RuleMemory},
    store::RestoredRule,
};
use rusqlite::{Connection, Transaction, params};

pub fn put(tx: &Transaction, id: &RuleId, condition: &str, memory: &RuleMemory, stamp: &Stamp) -> rusqlite::Result<()> {
    let RuleMemory { fired, fired_at, held, off, count } = memory;
    let wall = fired_at.map_or(0, |at| stamp.clock.wall(at).0);
    tx.prepare_cached(
        "REPLACE INTO rule (id, condition, fired, boot, fired_at, held, off, count, wall_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        id.as_str(),
        condition,
        fired,
        stamp.boot.0,
        fired_at.map(|at| at.0.cast_signed()),
        held.cast_signed(),
        off,
        count.cast_signed(),
        wall
    ])?;
    Ok(())
}

pub fn forget(tx: &Transaction, id: &RuleId) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM rule WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

pub fn all(db: &Connection) -> rusqlite::Result<Vec<RestoredRule>> {
    let mut all = db.prepare("SELECT id, condition, fired, boot, fired_at, held, off, count FROM rule ORDER BY id")?;
    let rows = all.query_map([], |r| {
        let Ok(id) = RuleId::parse(&r.get::<_, String>(0)?) else { return Ok(None) };
        let memory = RuleMemory {
            fired: r.get(2)?,
            fired_at: r.get::<_, Option<i64>>(4)?.map(|at| Boot(at.cast_unsigned())),
            held: r.get::<_, i64>(5)?.cast_unsigned(),
            off: r.get(6)?,
            count: r.get::<_, i64>(7)?.cast_unsigned(),
        };
        Ok(Some(RestoredRule { id, condition: r.get(1)?, memory, boot: BootIndex(r.get(3)?) }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
