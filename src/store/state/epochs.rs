//! Boots, epochs, and how the last run ended.

use super::{State, to_json};
use crate::{
    limits,
    model::{Boot, BootIndex, ClockQuality, ClockReading, ClockSource, Epoch, Wear},
    store::{Before, boots::BootRow, spool::disk::Gone},
    system::trust::SLEW_MS,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::time::Duration;

/// Epochs kept: far more than may still have something in the spool.
const EPOCHS_KEPT: i64 = 10_000;

pub fn boots(db: &Connection) -> rusqlite::Result<Vec<BootRow>> {
    let mut all = db.prepare("SELECT id, uuid, offset_ms, synchronised, seen, quality, source, error_ms FROM boot ORDER BY id")?;
    let rows = all.query_map([], |r| {
        let (synchronised, quality, source): (bool, Option<String>, Option<String>) = (r.get(3)?, r.get(5)?, r.get(6)?);
        let offset_ms = r.get(2)?;
        // Rows of an older version have neither; a word that nobody knows is a guess.
        let plain = if synchronised { ClockReading::synchronised(offset_ms) } else { ClockReading::estimated(offset_ms) };
        let clock = ClockReading {
            quality: quality.and_then(|w| ClockQuality::ALL.into_iter().find(|q| q.word() == w)).unwrap_or(plain.quality),
            source: source.and_then(|w| ClockSource::ALL.into_iter().find(|s| s.word() == w)).unwrap_or(plain.source),
            error_ms: r.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
            ..plain
        };
        let seen = Boot(r.get::<_, i64>(4)?.cast_unsigned());
        Ok(BootRow { id: BootIndex(r.get(0)?), uuid: r.get(1)?, clock, seen })
    })?;
    rows.collect()
}

/// The boot's row, and one more in the list of all offsets if it is news.
pub fn set_clock(tx: &Transaction, row: &BootRow) -> rusqlite::Result<()> {
    let BootRow { id, uuid, clock, seen } = row;
    let (quality, source, error_ms) = (clock.quality.word(), clock.source.word(), clock.error_ms.map(u64::cast_signed));
    tx.prepare_cached(
        "REPLACE INTO boot (id, uuid, offset_ms, synchronised, seen, quality, source, error_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![id.0, uuid, clock.offset_ms, clock.is_synchronised(), seen.0.cast_signed(), quality, source, error_ms])?;
    let slew = i64::try_from(SLEW_MS).unwrap_or(i64::MAX);
    let is_news = tx
        .prepare_cached(
            "INSERT INTO clock (boot, at, offset_ms, quality, source, error_ms) SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE NOT EXISTS (SELECT 1 FROM clock WHERE id = (SELECT max(id) FROM clock WHERE boot = ?1)
                               AND quality = ?4 AND source = ?5 AND abs(offset_ms - ?3) <= ?7)",
        )?
        .execute(params![id.0, seen.0.cast_signed(), clock.offset_ms, quality, source, error_ms, slew])?;
    if is_news > 0 {
        tx.execute("DELETE FROM clock WHERE id <= ?1", [tx.last_insert_rowid() - i64::from(limits::CLOCK_ROWS)])?;
    }
    Ok(())
}

/// What every start writes, tried and taken back: rows that nothing reads before may be the damaged ones.
pub fn rehearse(db: &mut Connection) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    let id = BootIndex(u32::MAX);
    set_clock(&tx, &BootRow { id, uuid: String::new(), clock: ClockReading::estimated(0), seen: Boot(0) })?;
    tx.execute("REPLACE INTO epoch (epoch, boot, window_ms) VALUES (0, ?1, 0)", [id.0])?;
    tx.query_row("SELECT count(window_ms) FROM epoch", [], |_| Ok(()))?;
    tx.rollback()
}

/// The last run that spoke, and whether it ended cleanly. Its telemetry number is only right if it did.
///
/// A run that was killed before its first event and left nothing in the spool is passed over: the cloud never heard of
/// it, and what that event was to say of the run before would be lost. What such a run may have lost counts.
pub fn last(db: &Connection, in_spool: impl Fn(Epoch) -> bool) -> rusqlite::Result<Option<(Before, bool)>> {
    let mut newest_first = db.prepare("SELECT epoch, telemetry, event, window_ms, clean FROM epoch ORDER BY id DESC")?;
    let mut rows = newest_first.query([])?;
    let (mut may_have_lost_ms, mut newest) = (0, None);
    while let Some(r) = rows.next()? {
        let epoch = Epoch(r.get::<_, i64>(0)?.cast_unsigned());
        let (telemetry, event): (i64, i64) = (r.get(1)?, r.get(2)?);
        let clean: bool = r.get(4)?;
        if !clean {
            may_have_lost_ms = may_have_lost_ms.max(r.get::<_, i64>(3)?.cast_unsigned());
        }
        let before = Before { epoch, telemetry: telemetry.cast_unsigned(), event: event.cast_unsigned(), may_have_lost_ms };
        if event > 0 || in_spool(epoch) {
            return Ok(Some((before, clean)));
        }
        newest.get_or_insert((before, clean));
    }
    Ok(newest)
}

/// What the spool's gap events have announced, if the rows may still be there: `file:n,n,…`.
pub fn gone(db: &Connection) -> rusqlite::Result<Option<Gone>> {
    let text: Option<String> = db.query_row("SELECT value FROM meta WHERE key = 'spool_gone'", [], |r| r.get(0)).optional()?;
    Ok(text.and_then(|text| {
        let (file, list) = text.split_once(':')?;
        Some((file.parse().ok()?, list.split(',').filter_map(|n| n.parse().ok()).collect()))
    }))
}

pub fn set_gone(tx: &Transaction, file: i64, segments: &[u64]) -> rusqlite::Result<()> {
    let list: Vec<String> = segments.iter().map(u64::to_string).collect();
    tx.execute("REPLACE INTO meta (key, value) VALUES ('spool_gone', ?1)", [format!("{file}:{}", list.join(","))])?;
    Ok(())
}

/// What the store has cost the disk, as last written.
pub fn wear(db: &Connection) -> rusqlite::Result<Wear> {
    let text: Option<String> = db.query_row("SELECT value FROM meta WHERE key = 'wear'", [], |r| r.get(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

pub fn set_wear(tx: &Transaction, wear: &Wear) -> rusqlite::Result<()> {
    tx.prepare_cached("REPLACE INTO meta (key, value) VALUES ('wear', ?1)")?.execute([to_json(wear)?])?;
    Ok(())
}

/// The first event row that an uplink wanted, by its name. Only written where there are several.
pub fn marks(db: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut all = db.prepare("SELECT substr(key, 12), CAST(value AS INTEGER) FROM meta WHERE key GLOB 'event_from:*'")?;
    let rows = all.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    rows.collect()
}

pub fn set_marks(tx: &Transaction, marks: &[(String, i64)]) -> rusqlite::Result<()> {
    let mut put = tx.prepare_cached("REPLACE INTO meta (key, value) VALUES (?1, ?2)")?;
    for (name, row) in marks {
        put.execute([format!("event_from:{name}"), row.to_string()])?;
    }
    Ok(())
}

/// A run that begins.
#[derive(Debug, Clone)]
pub struct Begin {
    pub boot: BootRow,
    pub window: Duration,
}

/// The rows of this run in a file that was made of a damaged one, if it lost them.
pub fn begin_again(db: &mut Connection, begin: &Begin, epoch: Epoch, event: u64) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    let known: bool = tx.query_row("SELECT exists (SELECT 1 FROM boot WHERE id = ?1)", [begin.boot.id.0], |r| r.get(0))?;
    if !known {
        set_clock(&tx, &begin.boot)?;
    }
    let window = i64::try_from(begin.window.as_millis()).unwrap_or(i64::MAX);
    let epoch = epoch.0.cast_signed();
    let began = begin.boot.seen.0.cast_signed();
    tx.execute(
        "INSERT OR IGNORE INTO epoch (epoch, boot, window_ms, began, seen) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![epoch, begin.boot.id.0, window, began],
    )?;
    tx.execute("UPDATE epoch SET event = max(event, ?2) WHERE epoch = ?1", params![epoch, event.cast_signed()])?;
    tx.commit()
}

impl State {
    /// Draws an epoch that was never used and commits it, before anything is sent under it. `draw` gives 64 random bits
    /// for a count of runs.
    ///
    /// `used`: epochs that the spool still holds. A state.db that was lost knows none of them.
    pub fn begin(
        &mut self,
        begin: &Begin,
        used: impl Fn(Epoch) -> bool,
        mut draw: impl FnMut(u64) -> std::io::Result<u64>,
    ) -> rusqlite::Result<std::io::Result<Epoch>> {
        let tx = self.db.transaction()?;
        let mut count: i64 = tx.query_row("SELECT coalesce(max(id), 0) FROM epoch", [], |r| r.get(0))?;
        let epoch = loop {
            let epoch = match draw(count.cast_unsigned()) {
                Ok(bits) => bits,
                Err(e) => return Ok(Err(e)),
            };
            let known: bool = tx.query_row("SELECT exists (SELECT 1 FROM epoch WHERE epoch = ?1)", [epoch.cast_signed()], |r| r.get(0))?;
            if !known && !used(Epoch(epoch)) {
                break epoch;
            }
            count += 1;
        };
        set_clock(&tx, &begin.boot)?;
        let window = i64::try_from(begin.window.as_millis()).unwrap_or(i64::MAX);
        tx.execute(
            "INSERT INTO epoch (epoch, boot, window_ms, began, seen) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![epoch.cast_signed(), begin.boot.id.0, window, begin.boot.seen.0.cast_signed()],
        )?;
        tx.execute("DELETE FROM epoch WHERE id <= ?1", [tx.last_insert_rowid() - EPOCHS_KEPT])?;
        tx.commit()?;
        (self.epoch, self.boot) = (Epoch(epoch), begin.boot.id);
        self.begun = Some(begin.clone());
        Ok(Ok(Epoch(epoch)))
    }

    /// A clean end: everything is durable. Without it the next run says what may be lost.
    pub fn end(&mut self, telemetry: u64, acknowledged: &[i64], wear: &Wear, now: Boot) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        set_wear(&tx, wear)?;
        self.outbox.delete(&tx, acknowledged)?;
        set_marks(&tx, &self.marks)?;
        tx.execute(
            "UPDATE epoch SET telemetry = ?2, event = ?3, clean = 1, seen = max(seen, ?4) WHERE epoch = ?1",
            [self.epoch.0, telemetry, self.outbox.last_seq(), now.0].map(u64::cast_signed),
        )?;
        tx.commit()
    }
}
