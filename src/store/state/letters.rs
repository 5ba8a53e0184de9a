//! Dead letters: what could not be read, with the reason.

use super::Stamp;
use crate::{limits, model::DeadLetter};
use rusqlite::{Transaction, params};

/// Full: the oldest goes.
pub fn add(tx: &Transaction, letter: &DeadLetter, stamp: &Stamp, kept: u64) -> rusqlite::Result<()> {
    let body = letter.body.get(..limits::DEAD_LETTER_BYTES).unwrap_or(&letter.body);
    tx.prepare_cached("INSERT INTO dead_letter (boot, at, wall_ms, source, topic, reason, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            stamp.boot.0,
            letter.at.0.cast_signed(),
            stamp.clock.wall(letter.at).0,
            letter.source,
            letter.topic,
            letter.reason,
            body
        ])?;
    let oldest = tx.last_insert_rowid().saturating_sub(kept.cast_signed());
    tx.prepare_cached("DELETE FROM dead_letter WHERE id <= ?1")?.execute([oldest])?;
    Ok(())
}

/// What was replayed or purged.
pub fn forget(tx: &Transaction, ids: &[i64]) -> rusqlite::Result<()> {
    let mut delete = tx.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?;
    ids.iter().try_for_each(|id| delete.execute([id]).map(drop))
}
