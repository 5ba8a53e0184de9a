//! What can be read of a damaged state.db, copied into a new one row by row, what matters most first.
//!
//! Rows are looked up one by one where a walk ends at a damaged page, so that one page costs only its own rows. A row that
//! the new table does not take (a constraint, garbage) counts as lost.

use super::{MIGRATIONS, Message, outbox::put_messages};
use crate::{
    limits,
    model::{BootIndex, Epoch, Event, EventKind, Key, Stream},
    store::{StoreError, db, quarantine},
    system::clock::Clock,
};
use rusqlite::{Connection, OptionalExtension, params_from_iter, types::Value};
use std::{collections::BTreeMap, path::Path};

/// Those without which something would be done twice or never be told come first.
const TABLES: [(&str, &str); 16] = [
    ("meta", "key, value"),
    ("boot", "id, uuid, offset_ms, synchronised, seen, quality, source, error_ms"),
    ("clock", "id, boot, at, offset_ms, quality, source, error_ms"),
    ("epoch", "id, epoch, boot, window_ms, telemetry, event, clean, began, seen"),
    ("command", "n, id, source, device, boot, received, wall_ms, phase, body, outcome, ended_wall_ms"),
    ("schedule", "id, body, timing, enabled, by_whom, mark, ran, wall_ms"),
    ("event", "id, epoch, seq, boot, events, minor, body"),
    ("device", "id, line, state, cause, boot, since, evidence, evidence_at, missed, via, offline_after_ms, quarantined, wall_ms"),
    ("maintenance", "device, by_whom, reason, boot, since, until, wall_ms"),
    ("rule", "id, condition, fired, boot, fired_at, held, off, count, wall_ms"),
    (
        "alarm",
        "id, device, kind, boot, at, wall_ms, reason, cleared_boot, cleared_at, cleared_wall_ms, rule, point, severity, seen_by, \
         seen_boot, seen_at, seen_wall_ms",
    ),
    ("attribute", "id, device, name, value, boot, at, wall_ms"),
    ("schedule_run", "id, schedule, at, wall_ms, command, device, phase, reason"),
    ("relay", "id, device, point, is_on, boot, at, wall_ms, command, source"),
    ("learned", "id, about, key, value, wall_ms"),
    ("dead_letter", "id, boot, at, wall_ms, source, topic, reason, body"),
];
const HISTORY: [(&str, &str); 2] = [
    ("status_history", "id, device, boot, at, wall_ms, state, cause, evidence, evidence_at, missed"),
    ("relay_history", "id, device, point, is_on, boot, at, wall_ms, command, source, changes"),
];
/// Tables that are looked up by a text: no row ids.
const BY_TEXT: [(&str, &str); 5] = [("meta", "key"), ("device", "id"), ("maintenance", "device"), ("schedule", "id"), ("rule", "id")];
/// Of a table that cannot be walked, so many row ids behind the last readable one are tried.
const TRIED: i64 = 4096;

/// What became of the rows.
#[derive(Debug, Default, PartialEq)]
pub struct Salvaged {
    pub rows: u64,
    /// Table and rows that are known to be lost.
    pub lost: BTreeMap<&'static str, u64>,
    /// Rows of the event stream that cannot be read, as gaps of their epochs.
    pub gaps: Vec<Event>,
    /// Time ran out before everything was looked at.
    pub cut: bool,
}

impl Salvaged {
    /// For people.
    pub fn words(&self) -> String {
        let mut out = format!("{} rows carried over", self.rows);
        for (table, rows) in &self.lost {
            out.push_str(&match rows {
                0 => format!(", a part of {table} lost"),
                rows => format!(", {rows} of {table} lost"),
            });
        }
        if self.cut {
            out.push_str(", the rest not looked at for lack of time");
        }
        out
    }
}

/// Makes `new` and fills it from `old`. `alive` is called now and then.
/// `held`: messages that RAM has of the event stream; `newest`: its last row, where that is known.
pub fn salvage(
    old: &Connection,
    new: &Path,
    held: &[Message],
    newest: Option<i64>,
    clock: Clock,
    mut alive: impl FnMut(),
) -> Result<Salvaged, StoreError> {
    quarantine::remove(new).map_err(|source| StoreError::Directory { path: new.to_owned(), source })?;
    let mut db = db::open(new, MIGRATIONS, db::LOG_BYTES)?;
    let fail = |source| StoreError::Write { file: "state.db", source };
    put_messages(&db, held).map_err(fail)?;
    let begun = clock.now();
    let mut out = Salvaged::default();
    for (table, columns) in TABLES.into_iter().chain(HISTORY) {
        alive();
        if clock.now().since(begun) > limits::SALVAGE_STATE {
            out.cut = true;
            break;
        }
        let tx = db.transaction().map_err(fail)?;
        let mut copy =
            Copy { old, tx: &tx, table, columns, failed: Vec::new(), copied: 0, ended: false, newest: newest.filter(|_| table == "event") };
        copy.all(&mut alive).map_err(fail)?;
        let Copy { failed, copied, ended, .. } = copy;
        out.rows += copied;
        if ended || !failed.is_empty() {
            out.lost.insert(table, failed.len() as u64);
        }
        if table == "event" {
            let lost: Vec<i64> = failed.iter().copied().filter(|id| held.iter().all(|m| m.id != *id)).collect();
            out.gaps = gaps(&tx, &lost).map_err(fail)?;
        }
        tx.commit().map_err(fail)?;
    }
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(fail)?;
    Ok(out)
}

struct Copy<'a> {
    old: &'a Connection,
    tx: &'a Connection,
    table: &'static str,
    columns: &'static str,
    /// Row ids.
    failed: Vec<i64>,
    copied: u64,
    /// A walk ended early, and how many rows were behind is not known.
    ended: bool,
    /// The last row id that was given, where that is known.
    newest: Option<i64>,
}

impl Copy<'_> {
    /// An error is one of the new file.
    fn all(&mut self, alive: &mut impl FnMut()) -> rusqlite::Result<()> {
        if let Some((_, key)) = BY_TEXT.iter().find(|(table, _)| *table == self.table) {
            // From both ends: what lies between two damaged pages is lost.
            for order in ["ASC", "DESC"] {
                let sql = format!("SELECT {} FROM {} ORDER BY {key} {order}", self.columns, self.table);
                let (_, ended) = self.walk(&sql, &[])?;
                self.ended |= ended;
                if !ended {
                    break;
                }
            }
            return Ok(());
        }
        let up = format!("SELECT {}, rowid FROM {} ORDER BY rowid", self.columns, self.table);
        let (low, ended) = self.walk(&up, &[])?;
        if !ended {
            return Ok(());
        }
        let down = format!("SELECT {}, rowid FROM {} WHERE rowid > ?1 ORDER BY rowid DESC", self.columns, self.table);
        let (high, _) = self.walk(&down, &[low.unwrap_or(0)])?;
        let end = high.or(self.newest.map(|id| id + 1));
        self.ended = end.is_none();
        if low.is_none() && end.is_none() {
            return Ok(());
        }
        // No table holds more than that.
        let most = i64::try_from(limits::EVENTS).unwrap_or(i64::MAX);
        let from = (low.unwrap_or(0) + 1).max(end.unwrap_or(0).saturating_sub(most));
        let one = format!("SELECT {} FROM {} WHERE rowid = ?1", self.columns, self.table);
        let (mut sure, mut failed) = (0, Vec::new());
        for id in from..end.unwrap_or_else(|| from.saturating_add(TRIED)) {
            if id % 1024 == 0 {
                alive();
            }
            match self.read_one(&one, id) {
                Ok(Some(row)) => {
                    self.put(row)?;
                    sure = failed.len();
                }
                Ok(None) => {}
                Err(_) => failed.push(id),
            }
        }
        // Behind the last readable row nobody knows how many there were: a gap must never name what is still to come.
        failed.truncate(if end.is_some() { failed.len() } else { sure });
        self.failed.extend(failed);
        Ok(())
    }

    /// Copies until the end or the damage. The last row id read, and whether it was the damage.
    fn walk(&mut self, sql: &str, from: &[i64]) -> rusqlite::Result<(Option<i64>, bool)> {
        let (old, width) = (self.old, self.columns.split(", ").count());
        let Ok(mut all) = old.prepare(sql) else { return Ok((None, true)) };
        let Ok(mut rows) = all.query(params_from_iter(from)) else { return Ok((None, true)) };
        let mut last = None;
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: Result<Vec<Value>, _> = (0..width).map(|n| row.get(n)).collect();
                    last = row.get(width).ok().or(last);
                    match values {
                        Ok(values) => self.put(values)?,
                        Err(_) => self.failed.extend(last),
                    }
                }
                Ok(None) => return Ok((last, false)),
                Err(_) => return Ok((last, true)),
            }
        }
    }

    fn read_one(&self, sql: &str, id: i64) -> rusqlite::Result<Option<Vec<Value>>> {
        let width = self.columns.split(", ").count();
        self.old.prepare_cached(sql)?.query_row([id], |r| (0..width).map(|n| r.get(n)).collect()).optional()
    }

    fn put(&mut self, row: Vec<Value>) -> rusqlite::Result<()> {
        let marks = vec!["?"; row.len()].join(", ");
        let id = match row.first() {
            Some(Value::Integer(id)) => Some(*id),
            _ => None,
        };
        let sql = format!("INSERT OR IGNORE INTO {} ({}) VALUES ({marks})", self.table, self.columns);
        match self.tx.prepare_cached(&sql)?.execute(params_from_iter(row)) {
            Ok(rows) => self.copied += rows as u64,
            // Garbage where a number should be.
            Err(e) if db::trouble(&e) == db::Trouble::Content => self.failed.extend(id),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// Row ids and numbers of an epoch go up together, so a row's number follows from any other row of its epoch.
fn gaps(db: &Connection, failed: &[i64]) -> rusqlite::Result<Vec<Event>> {
    let mut below = db.prepare("SELECT id, epoch, seq, boot FROM event WHERE id < ?1 ORDER BY id DESC LIMIT 1")?;
    let mut above = db.prepare("SELECT id, epoch, seq, boot FROM event WHERE id > ?1 ORDER BY id LIMIT 1")?;
    let read = |r: &rusqlite::Row<'_>| {
        let key =
            Key { epoch: Epoch(r.get::<_, i64>(1)?.cast_unsigned()), stream: Stream::Event, seq: r.get::<_, i64>(2)?.cast_unsigned() };
        Ok((r.get::<_, i64>(0)?, key, BootIndex(r.get(3)?)))
    };
    let mut runs: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for id in failed {
        let after = above.query_row([id], read).optional()?.and_then(|(other, key, _)| {
            let seq = key.seq.checked_sub(other.abs_diff(*id)).filter(|seq| *seq > 0)?;
            Some((key.epoch, seq))
        });
        let before = || Ok(below.query_row([id], read).optional()?.map(|(other, key, _)| (key.epoch, key.seq + other.abs_diff(*id))));
        let Some((epoch, seq)) = after.map_or_else(before, |found| Ok::<_, rusqlite::Error>(Some(found)))? else { continue };
        let of = runs.entry(epoch.0).or_default();
        match of.last_mut() {
            Some((_, to)) if *to + 1 == seq => *to = seq,
            _ => of.push((seq, seq)),
        }
    }
    let gap = |epoch, (from, to): (u64, u64)| Event {
        at: crate::model::Boot(0),
        kind: EventKind::Gap {
            epoch: Epoch(epoch),
            stream: Stream::Event,
            from,
            to,
            samples: 0,
            reason: "damaged on the disk".into(),
            uplink: None,
            replaced_by: None,
        },
    };
    Ok(runs.into_iter().flat_map(|(epoch, of)| of.into_iter().map(move |range| gap(epoch, range))).collect())
}
