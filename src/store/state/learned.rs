//! Facts that were learned: one row each, replaced when the fact is learned anew.

use super::Stamp;
use crate::{
    limits,
    model::{Boot, Learned},
};
use rusqlite::{Connection, Transaction, params};

/// Full: the fact that was learned longest ago goes, and is learned again when it matters.
pub fn put(tx: &Transaction, fact: &Learned, at: Boot, stamp: &Stamp) -> rusqlite::Result<()> {
    forget(tx, fact)?;
    tx.prepare_cached("INSERT INTO learned (about, key, value, wall_ms) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        fact.about,
        fact.key,
        fact.value,
        stamp.clock.wall(at).0
    ])?;
    tx.prepare_cached("DELETE FROM learned WHERE id <= (SELECT id FROM learned ORDER BY id DESC LIMIT 1 OFFSET ?1)")?
        .execute([limits::LEARNED])?;
    Ok(())
}

pub fn forget(tx: &Transaction, fact: &Learned) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM learned WHERE about = ?1 AND key = ?2")?.execute([&fact.about, &fact.key])?;
    Ok(())
}

/// In order of whom they are about.
pub fn all(db: &Connection) -> rusqlite::Result<Vec<Learned>> {
    let mut rows = db.prepare_cached("SELECT about, key, value FROM learned ORDER BY about, key")?;
    rows.query_map([], |r| Ok(Learned { about: r.get(0)?, key: r.get(1)?, value: r.get(2)? }))?.collect()
}
