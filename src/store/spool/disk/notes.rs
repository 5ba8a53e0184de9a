//! That a segment stands for others: what of both counts after a kill is decided by state.db.

use crate::{model::Epoch, store::spool::gaps::Gap};
use rusqlite::{Connection, Transaction};
use std::collections::BTreeMap;

/// What becomes of the note that a segment stands for others, with the next transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    None,
    /// The gap event was committed: it stands.
    Stands,
    /// It was not: its numbers are void, and a gap event is owed that says so. Until that is committed the note stays.
    Void,
}

/// What is known of thinned segments at the start.
#[derive(Default)]
pub(super) struct Thinned {
    pub levels: BTreeMap<u64, u8>,
    /// Was written, but never announced: what it stands for is still there and counts.
    pub void: Option<(u64, Gap)>,
    /// Was written and announced; the note is still there.
    pub stands: bool,
}

impl Thinned {
    pub(super) fn read(db: &Connection, gone: &[u64]) -> rusqlite::Result<Thinned> {
        let mut out = Thinned::default();
        out.take(db, gone)?;
        Ok(out)
    }

    /// Of a damaged file: up to the damage.
    pub(super) fn readable(db: &Connection, gone: &[u64]) -> Thinned {
        let mut out = Thinned::default();
        let _ = out.take(db, gone);
        out
    }

    fn take(&mut self, db: &Connection, gone: &[u64]) -> rusqlite::Result<()> {
        let mut all = db.prepare("SELECT n, level, replaces FROM thinned")?;
        let mut rows = all.query([])?;
        while let Some(r) = rows.next()? {
            let n = r.get::<_, i64>(0)?.cast_unsigned();
            self.levels.insert(n, r.get(1)?);
            if let Some(replaces) = r.get::<_, Option<String>>(2)? {
                // All of them were announced in one transaction, or none.
                let note = Note::read(&replaces).unwrap_or_default();
                if note.replaces.iter().any(|n| gone.contains(n)) {
                    self.stands = true;
                } else {
                    self.void = Some((n, note.void()));
                }
            }
        }
        Ok(())
    }
}

/// What a segment stands for, as it is written beside it: `epoch/first/last/n,n,…`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Note {
    pub epoch: u64,
    pub first: u64,
    pub last: u64,
    pub replaces: Vec<u64>,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list: Vec<String> = self.replaces.iter().map(u64::to_string).collect();
        write!(f, "{}/{}/{}/{}", self.epoch, self.first, self.last, list.join(","))
    }
}

impl Note {
    fn read(text: &str) -> Option<Note> {
        let mut parts = text.splitn(4, '/');
        let mut number = || parts.next()?.parse().ok();
        let (epoch, first, last) = (number()?, number()?, number()?);
        Some(Note { epoch, first, last, replaces: parts.next()?.split(',').filter_map(|n| n.parse().ok()).collect() })
    }

    /// Its numbers will never come, and what they stood for is still there.
    pub fn void(&self) -> Gap {
        Gap { epoch: Epoch(self.epoch), from: self.first, to: self.last, samples: 0, reason: Gap::VOID, uplink: None, replaced_by: None }
    }
}

pub(super) fn settle(tx: &Transaction, mark: Mark) -> rusqlite::Result<()> {
    match mark {
        Mark::None => Ok(()),
        Mark::Stands => tx.execute("UPDATE thinned SET replaces = NULL WHERE replaces IS NOT NULL", []).map(drop),
        Mark::Void => tx.execute("DELETE FROM thinned WHERE replaces IS NOT NULL", []).map(drop),
    }
}
