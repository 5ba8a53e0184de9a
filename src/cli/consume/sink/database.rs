//! SQLite: messages under their key, samples, events, gaps. Several consumers may share one file.
//!
//! One transaction holds a group of messages with all that follows from them; the unique key decides what is new, so
//! memory does not grow with what came. Names of series are remembered only as long as there are few.

mod load;

use super::{Delivery, Sink, SinkError, Took};
use crate::{
    cli::consume::books::Books,
    limits,
    model::{DeviceId, GatewayId, PointId, Value},
    uplink::dialect::read::{Body, Event, Frame, Known, Message},
};
use rusqlite::{Connection, OptionalExtension, params, types::ToSqlOutput};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

const SCHEMA: &str = include_str!("schema_001.sql");
/// `FgCo`, so that another program's database is not written to.
const APPLICATION: i64 = 0x4667_436f;
const VERSION: i64 = 1;
/// Another consumer's commit is waited for so long.
const BUSY: Duration = Duration::from_secs(30);
/// And so often where SQLite refuses to wait.
const ATTEMPTS: usize = 100;

pub struct Database {
    name: String,
    db: Connection,
    in_transaction: bool,
    sequences: HashMap<(GatewayId, u64, bool), i64>,
    series: HashMap<GatewayId, HashMap<DeviceId, HashMap<PointId, i64>>>,
    series_known: usize,
}

impl Database {
    pub fn open(path: &Path) -> Result<Database, SinkError> {
        let name = path.display().to_string();
        let db = Connection::open(path).and_then(|db| db.busy_timeout(BUSY).map(|()| db));
        let mut db = db.map_err(|source| SinkError::Database { file: name.clone(), source })?;
        prepare(&mut db, &name)?;
        Ok(Database { name, db, in_transaction: false, sequences: HashMap::new(), series: HashMap::new(), series_known: 0 })
    }

    /// For the report alone: nothing is written.
    pub fn books_of(path: &Path) -> Result<Books, SinkError> {
        let name = path.display().to_string();
        let failed = |source| SinkError::Database { file: name.clone(), source };
        // A log that a crash left needs a writer to be read.
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        db.busy_timeout(BUSY).map_err(failed)?;
        check(&db, &name)?;
        load::books(&db).map_err(failed)
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if !self.in_transaction {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn insert(&mut self, delivery: &Delivery<'_>, message: &Message) -> rusqlite::Result<Took> {
        self.begin()?;
        let sequence = self.sequence(message)?;
        let (seq, content) = (message.seq.cast_signed(), message.content().cast_signed());
        let samples = message.samples().cast_signed();
        let inserted = self
            .db
            .prepare_cached(
                "INSERT INTO message (sequence, seq, content, samples, backlog, boot, offset_ms, estimated, received_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                sequence,
                seq,
                content,
                samples,
                message.backlog,
                message.clock.boot,
                message.clock.offset_ms,
                message.is_estimated(),
                delivery.received_ms
            ])?;
        let id = self.db.last_insert_rowid();
        if inserted == 0 {
            let known: i64 = self
                .db
                .prepare_cached("SELECT content FROM message WHERE sequence = ? AND seq = ?")?
                .query_row([sequence, seq], |r| r.get(0))?;
            return self.again(delivery, message, sequence, known == content);
        }
        if !self.note_number(sequence, seq)? {
            // It came, and its row was deleted since.
            self.db.prepare_cached("DELETE FROM message WHERE id = ?")?.execute([id])?;
            return self.again(delivery, message, sequence, true);
        }
        self.db
            .prepare_cached("UPDATE sequence SET messages = messages + 1, samples = samples + ? WHERE id = ?")?
            .execute([samples, sequence])?;
        match &message.body {
            Body::Telemetry(devices) => self.telemetry(id, message, devices)?,
            Body::Events(events) => {
                for (n, event) in events.iter().enumerate() {
                    self.event(id, n, message, event)?;
                }
            }
        }
        Ok(Took::New)
    }

    fn again(&mut self, delivery: &Delivery<'_>, message: &Message, sequence: i64, is_same: bool) -> rusqlite::Result<Took> {
        if is_same {
            self.db.prepare_cached("UPDATE sequence SET resent = resent + 1 WHERE id = ?")?.execute([sequence])?;
            return Ok(Took::Resent);
        }
        self.db.prepare_cached("UPDATE sequence SET conflicting = conflicting + 1 WHERE id = ?")?.execute([sequence])?;
        self.db.execute(
            "INSERT INTO conflict VALUES (?, ?, ?, ?, ?, ?)",
            params![
                message.gateway.as_str(),
                message.epoch.to_string(),
                message.stream.word(),
                message.seq.cast_signed(),
                delivery.received_ms,
                String::from_utf8_lossy(delivery.body)
            ],
        )?;
        Ok(Took::Conflicting)
    }

    fn sequence(&mut self, m: &Message) -> rusqlite::Result<i64> {
        let name = (m.gateway.clone(), m.epoch.0, m.stream == crate::model::Stream::Event);
        if let Some(id) = self.sequences.get(&name) {
            return Ok(*id);
        }
        let (gateway, epoch, stream) = (m.gateway.as_str(), m.epoch.to_string(), m.stream.word());
        let known: Option<i64> = self
            .db
            .query_row("SELECT id FROM sequence WHERE gateway = ? AND epoch = ? AND stream = ?", params![gateway, epoch, stream], |r| {
                r.get(0)
            })
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                // The rule of the books, for an epoch that is seen for the first time.
                let joined = "SELECT coalesce(
                    (SELECT joined FROM sequence WHERE gateway = ?1 AND epoch = ?2 LIMIT 1),
                    CASE WHEN EXISTS (SELECT 1 FROM sequence WHERE gateway = ?1) THEN ?3 ELSE 1 END)";
                let joined: bool = self.db.query_row(joined, params![gateway, epoch, m.backlog], |r| r.get(0))?;
                self.db.execute(
                    "INSERT INTO sequence (gateway, epoch, stream, joined) VALUES (?, ?, ?, ?)",
                    params![gateway, epoch, stream, joined],
                )?;
                self.db.last_insert_rowid()
            }
        };
        if self.sequences.len() >= limits::CONSUME_CONTENTS {
            self.sequences.clear();
        }
        self.sequences.insert(name, id);
        Ok(id)
    }

    /// Adds a number to the ranges of those that came; `false`: it is in one.
    fn note_number(&self, sequence: i64, seq: i64) -> rusqlite::Result<bool> {
        let before: Option<(i64, i64)> = self
            .db
            .prepare_cached("SELECT first, last FROM received WHERE sequence = ? AND first <= ? ORDER BY first DESC LIMIT 1")?
            .query_row([sequence, seq], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        if before.is_some_and(|(_, last)| last >= seq) {
            return Ok(false);
        }
        let after: Option<i64> = self
            .db
            .prepare_cached("SELECT last FROM received WHERE sequence = ? AND first = ?")?
            .query_row([sequence, seq.saturating_add(1)], |r| r.get(0))
            .optional()?;
        if after.is_some() {
            self.db.prepare_cached("DELETE FROM received WHERE sequence = ? AND first = ?")?.execute([sequence, seq.saturating_add(1)])?;
        }
        let last = after.unwrap_or(seq);
        match before.filter(|(_, end)| *end == seq - 1) {
            Some((first, _)) => {
                self.db.prepare_cached("UPDATE received SET last = ? WHERE sequence = ? AND first = ?")?.execute([last, sequence, first])?
            }
            None => self.db.prepare_cached("INSERT INTO received VALUES (?, ?, ?)")?.execute([sequence, seq, last])?,
        };
        Ok(true)
    }

    fn telemetry(&mut self, id: i64, m: &Message, devices: &BTreeMap<DeviceId, Vec<Frame>>) -> rusqlite::Result<()> {
        let mut shift = 0;
        if m.is_estimated() {
            // The correction may have come before what it corrects.
            let known: Option<i64> = self
                .db
                .prepare_cached("SELECT offset_ms FROM clock WHERE gateway = ? AND boot = ? AND synchronised")?
                .query_row(params![m.gateway.as_str(), m.clock.boot], |r| r.get(0))
                .optional()?;
            if let Some(offset) = known {
                shift = offset.saturating_sub(m.clock.offset_ms);
                self.db.prepare_cached("UPDATE message SET offset_ms = ?, estimated = 0 WHERE id = ?")?.execute([offset, id])?;
            } else {
                return self.samples(id, m, devices, 0, Some(1));
            }
        }
        self.samples(id, m, devices, shift, None)
    }

    fn samples(
        &mut self,
        id: i64,
        m: &Message,
        devices: &BTreeMap<DeviceId, Vec<Frame>>,
        shift: i64,
        estimated: Option<i64>,
    ) -> rusqlite::Result<()> {
        let mut base = 0i64;
        for (device, frames) in devices {
            for frame in frames {
                for (point, column) in &frame.v {
                    let series = self.series(&m.gateway, device, point)?;
                    let words = frame.q.get(point);
                    let mut insert = self.db.prepare_cached("INSERT OR IGNORE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)")?;
                    for (n, (dt, value)) in (0i64..).zip(frame.dt.iter().zip(column)) {
                        let word = words.map(|w| &*w[usize::try_from(n).unwrap_or(0)]).filter(|w| *w != "good");
                        let at = frame.at.saturating_add(*dt).saturating_add(shift);
                        insert.execute(params![series, at, id, base + n, Cell(value), word, estimated])?;
                    }
                }
                base += i64::try_from(frame.dt.len()).unwrap_or(0);
            }
        }
        Ok(())
    }

    fn series(&mut self, gateway: &GatewayId, device: &DeviceId, point: &PointId) -> rusqlite::Result<i64> {
        if let Some(id) = self.series.get(gateway).and_then(|g| g.get(device)?.get(point)) {
            return Ok(*id);
        }
        let name = [gateway.as_str(), device.as_str(), point.as_str()];
        self.db.prepare_cached("INSERT INTO series (gateway, device, point) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?.execute(name)?;
        let id = self
            .db
            .prepare_cached("SELECT id FROM series WHERE gateway = ? AND device = ? AND point = ?")?
            .query_row(name, |r| r.get(0))?;
        if self.series_known >= limits::CONSUME_CONTENTS {
            self.series.clear();
            self.series_known = 0;
        }
        self.series_known += 1;
        self.series.entry(gateway.clone()).or_default().entry(device.clone()).or_default().insert(point.clone(), id);
        Ok(id)
    }

    fn event(&mut self, id: i64, n: usize, m: &Message, event: &Event) -> rusqlite::Result<()> {
        let (gateway, epoch, seq) = (m.gateway.as_str(), m.epoch.to_string(), m.seq.cast_signed());
        match &event.known {
            Known::Progress(alive) => {
                let newer: bool = self
                    .db
                    .prepare_cached("SELECT EXISTS (SELECT 1 FROM progress WHERE gateway = ? AND said_epoch = ? AND said_seq > ?)")?
                    .query_row(params![gateway, epoch, seq], |r| r.get(0))?;
                if newer {
                    return Ok(());
                }
                self.db.prepare_cached("DELETE FROM progress WHERE gateway = ?")?.execute([gateway])?;
                for a in alive {
                    let (of, stream) = (a.epoch.to_string(), a.stream.word());
                    self.db.prepare_cached("INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(params![
                        gateway,
                        epoch,
                        seq,
                        of,
                        stream,
                        a.lowest.cast_signed(),
                        a.highest.cast_signed()
                    ])?;
                }
                return Ok(());
            }
            Known::Gap(g) => {
                let by = g.replaced_by;
                self.db.prepare_cached("INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
                    gateway,
                    g.epoch.to_string(),
                    g.stream.word(),
                    g.from.cast_signed(),
                    g.to.cast_signed(),
                    g.samples.cast_signed(),
                    g.reason,
                    by.map(|b| b.epoch.to_string()),
                    by.map(|b| b.from.cast_signed()),
                    by.map(|b| b.to.cast_signed()),
                    event.at
                ])?;
            }
            Known::Epoch(began) => {
                self.db
                    .execute("UPDATE sequence SET joined = 0 WHERE gateway = ? AND epoch = ?", params![gateway, began.epoch.to_string()])?;
            }
            Known::Clock { boot, offset_ms, synchronised } => {
                self.correct((m.gateway.as_str(), boot.unwrap_or(m.clock.boot)), *offset_ms, *synchronised)?;
            }
            Known::Other => {}
        }
        let device = event.members.get("device").and_then(serde_json::Value::as_str);
        let body = serde_json::to_string(&event.members).unwrap_or_default();
        self.db
            .prepare_cached(
                "INSERT INTO event (message, n, gateway, epoch, seq, at, type, device, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![id, i64::try_from(n).unwrap_or(i64::MAX), gateway, epoch, seq, event.at, event.word, device, body])?;
        Ok(())
    }

    /// Times of this boot that were estimated move by the difference; with a synchronised clock they are right for good.
    fn correct(&mut self, (gateway, boot): (&str, u32), offset_ms: i64, synchronised: bool) -> rusqlite::Result<()> {
        self.db.execute(
            "INSERT INTO clock VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET offset_ms = excluded.offset_ms, synchronised = excluded.synchronised",
            params![gateway, boot, offset_ms, synchronised],
        )?;
        let find = "SELECT m.id, m.offset_ms FROM message m JOIN sequence q ON q.id = m.sequence
                    WHERE m.estimated = 1 AND m.boot = ? AND q.gateway = ?";
        let mut find = self.db.prepare_cached(find)?;
        let rows: Vec<(i64, i64)> = find.query_map(params![boot, gateway], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
        for (id, had) in rows {
            let shift = offset_ms.saturating_sub(had);
            let still = (!synchronised).then_some(1);
            self.db
                .prepare_cached("UPDATE sample SET at = at + ?, estimated = ? WHERE message = ? AND estimated = 1")?
                .execute(params![shift, still, id])?;
            self.db.prepare_cached("UPDATE event SET at = at + ? WHERE message = ?")?.execute([shift, id])?;
            self.db.prepare_cached("UPDATE message SET offset_ms = ?, estimated = ? WHERE id = ?")?.execute(params![
                offset_ms,
                !synchronised,
                id
            ])?;
        }
        Ok(())
    }

    fn put_aside(&mut self, delivery: &Delivery<'_>, reason: &str) -> rusqlite::Result<()> {
        self.begin()?;
        let body = &delivery.body[..delivery.body.len().min(limits::DEAD_LETTER_BYTES)];
        self.db.prepare_cached("INSERT INTO rejected (topic, reason, received_at, body) VALUES (?, ?, ?, ?)")?.execute(params![
            delivery.topic,
            reason,
            delivery.received_ms,
            body
        ])?;
        let oldest = self.db.last_insert_rowid().saturating_sub(limits::CONSUME_REJECTED.cast_signed());
        self.db.prepare_cached("DELETE FROM rejected WHERE id <= ?")?.execute([oldest])?;
        self.db.prepare_cached("INSERT INTO counter VALUES ('rejected', 1) ON CONFLICT DO UPDATE SET n = n + 1")?.execute([]).map(drop)
    }

    fn keep(&mut self, delivery: &Delivery<'_>) -> rusqlite::Result<()> {
        self.begin()?;
        let body = String::from_utf8_lossy(delivery.body);
        self.db
            .prepare_cached(
                "INSERT INTO retained VALUES (?, ?, ?)
                 ON CONFLICT DO UPDATE SET received_at = excluded.received_at, body = excluded.body",
            )?
            .execute(params![delivery.topic, delivery.received_ms, body])
            .map(drop)
    }

    fn failed<T>(&self, result: rusqlite::Result<T>) -> Result<T, SinkError> {
        result.map_err(|source| SinkError::Database { file: self.name.clone(), source })
    }
}

impl Sink for Database {
    fn take(&mut self, delivery: &Delivery<'_>, message: &Message) -> Result<Took, SinkError> {
        let took = self.insert(delivery, message);
        self.failed(took)
    }

    fn retained(&mut self, delivery: &Delivery<'_>) -> Result<(), SinkError> {
        let kept = self.keep(delivery);
        self.failed(kept)
    }

    fn reject(&mut self, delivery: &Delivery<'_>, reason: &str) -> Result<(), SinkError> {
        let put = self.put_aside(delivery, reason);
        self.failed(put)
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        if !std::mem::take(&mut self.in_transaction) {
            return Ok(());
        }
        let done = self.db.execute_batch("COMMIT");
        self.failed(done)
    }

    fn books(&mut self) -> Result<Books, SinkError> {
        let books = load::books(&self.db);
        self.failed(books)
    }
}

/// Settings, and the tables if it is new. Two consumers may come at once: one makes them.
fn prepare(db: &mut Connection, name: &str) -> Result<(), SinkError> {
    let failed = |source| SinkError::Database { file: name.to_owned(), source };
    // Two that turn a new file to its log at once refuse each other without waiting: the next lock waits until the other has.
    let log = || db.execute_batch("PRAGMA journal_mode = WAL");
    let mut turned = log();
    for _ in 0..ATTEMPTS {
        match turned {
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                db.execute_batch("BEGIN IMMEDIATE; COMMIT").map_err(failed)?;
                turned = log();
            }
            _ => break,
        }
    }
    turned.map_err(failed)?;
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;").map_err(failed)?;
    db.set_prepared_statement_cache_capacity(64);
    let make = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    let tables: i64 = make.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(failed)?;
    if tables == 0 {
        make.execute_batch(SCHEMA).map_err(failed)?;
        make.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        make.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    }
    make.commit().map_err(failed)?;
    check(db, name)
}

/// Another program's database, or a later version's, is left alone.
fn check(db: &Connection, name: &str) -> Result<(), SinkError> {
    let failed = |source| SinkError::Database { file: name.to_owned(), source };
    let pragma = |what: &str| db.query_row(&format!("PRAGMA {what}"), [], |r| r.get::<_, i64>(0)).map_err(failed);
    let foreign = |why: &str| Err(SinkError::Foreign { file: name.to_owned(), why: why.to_owned() });
    if pragma("application_id")? != APPLICATION {
        return foreign("this is no database of a consumer; name another file");
    }
    if pragma("user_version")? > VERSION {
        return foreign("a newer fieldgate wrote this database; use that one");
    }
    Ok(())
}

/// A value as SQLite keeps it: integers above its range as text, so that no digit is lost.
struct Cell<'a>(&'a Value);

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Null => rusqlite::types::Null.into(),
            Value::Bool(b) => i64::from(*b).into(),
            Value::Int(i) => (*i).into(),
            Value::Uint(u) => i64::try_from(*u).map_or_else(|_| u.to_string().into(), Into::into),
            Value::Float(f) => (*f).into(),
            Value::Text(t) => t.as_ref().into(),
        })
    }
}

#[cfg(test)]
mod tests;
