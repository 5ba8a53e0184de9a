//! The event stream's rows: one per message, numbered in the transaction that writes them.

use super::{json, to_json};
use crate::{
    limits,
    model::{BootIndex, Epoch, Event, EventKind, Key, Stream},
};
use rusqlite::{Connection, Transaction, params};
use std::sync::Arc;

/// One committed message.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: i64,
    pub key: Key,
    pub boot: BootIndex,
    pub events: Arc<[Event]>,
}

/// Counters of the table. A copy is taken before a transaction and put back when it fails.
#[derive(Debug, Clone, Copy)]
pub struct Outbox {
    next_id: i64,
    seq: u64,
    pub rows: u64,
    /// Of their bodies.
    pub bytes: u64,
}

/// Rows dropped at once at the limit, and gaps announced for it at most.
const DROP_ROWS: usize = 2000;
const DROP_GAPS: usize = 64;

impl Outbox {
    pub fn load(db: &Connection) -> rusqlite::Result<Outbox> {
        db.query_row("SELECT coalesce(max(id), 0) + 1, count(*), coalesce(sum(octet_length(body)), 0) FROM event", [], |r| {
            let number = |n| r.get::<_, i64>(n).map(i64::cast_unsigned);
            Ok(Outbox { next_id: r.get(0)?, seq: 0, rows: number(1)?, bytes: number(2)? })
        })
    }

    pub fn last_id(&self) -> i64 {
        self.next_id - 1
    }

    /// All of them as one message, unless they are too many for one.
    pub fn write(&mut self, tx: &Transaction, epoch: Epoch, boot: BootIndex, events: Vec<Event>) -> rusqlite::Result<Vec<Message>> {
        let mut messages = Vec::new();
        for (events, body) in split(events)? {
            self.seq += 1;
            let message =
                Message { id: self.next_id, key: Key { epoch, stream: Stream::Event, seq: self.seq }, boot, events: events.into() };
            let bytes = body.len() as u64;
            let minor = message.events.iter().all(|e| matches!(e.kind, EventKind::Progress { .. } | EventKind::Status { .. }));
            tx.prepare_cached("INSERT INTO event (id, epoch, seq, boot, events, minor, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    message.id,
                    epoch.0.cast_signed(),
                    self.seq.cast_signed(),
                    boot.0,
                    message.events.len() as i64,
                    minor,
                    body
                ])?;
            self.next_id += 1;
            self.rows += 1;
            self.bytes += bytes;
            messages.push(message);
        }
        if !messages.is_empty() {
            tx.prepare_cached("UPDATE epoch SET event = ?2 WHERE epoch = ?1")?.execute([epoch.0.cast_signed(), self.seq.cast_signed()])?;
        }
        Ok(messages)
    }

    pub fn delete(&mut self, tx: &Transaction, ids: &[i64]) -> rusqlite::Result<()> {
        let mut delete = tx.prepare_cached("DELETE FROM event WHERE id = ?1 RETURNING octet_length(body)")?;
        for id in ids {
            let mut gone = delete.query([id])?;
            while let Some(r) = gone.next()? {
                self.rows = self.rows.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(r.get::<_, i64>(0)?.cast_unsigned());
            }
        }
        Ok(())
    }

    /// At the limit the oldest progress and status messages go, and if there are none the oldest of all. Gives the rows
    /// and the events that announce them. What is in flight stays, and so does what was written just now.
    pub fn keep_limit(
        &mut self,
        tx: &Transaction,
        (rows_max, bytes_max): (u64, u64),
        in_flight: &[i64],
        new: &[Message],
    ) -> rusqlite::Result<(Vec<i64>, Vec<Event>)> {
        if self.rows <= rows_max && self.bytes <= bytes_max {
            return Ok((Vec::new(), Vec::new()));
        }
        let before = new.first().map_or(i64::MAX, |m| m.id);
        let at = new.iter().flat_map(|m| m.events.iter()).map(|e| e.at).max().unwrap_or_default();
        let mut dropped = Dropped::default();
        // At the limit of bytes an eighth goes, so that not every event pays for it.
        let enough = if self.bytes > bytes_max { self.bytes - bytes_max / 8 * 7 } else { u64::MAX };
        let sql = "SELECT id, epoch, seq, events, octet_length(body) FROM event WHERE minor AND id < ?1 ORDER BY id";
        dropped.collect(tx, sql, before, enough, in_flight)?;
        if dropped.ids.is_empty() {
            let sql = "SELECT id, epoch, seq, events, octet_length(body) FROM event WHERE id < ?1 ORDER BY id";
            dropped.collect(tx, sql, before, enough, in_flight)?;
        }
        self.delete(tx, &dropped.ids)?;
        let event = |kind| Event { at, kind };
        Ok((dropped.ids, dropped.gaps.into_iter().map(event).collect()))
    }
}

#[derive(Default)]
struct Dropped {
    ids: Vec<i64>,
    gaps: Vec<EventKind>,
    bytes: u64,
}

impl Dropped {
    fn collect(&mut self, tx: &Transaction, sql: &str, before: i64, enough: u64, in_flight: &[i64]) -> rusqlite::Result<()> {
        let mut oldest = tx.prepare_cached(sql)?;
        let mut rows = oldest.query([before])?;
        while let Some(r) = rows.next()? {
            let id: i64 = r.get(0)?;
            if in_flight.contains(&id) {
                continue;
            }
            let (of, seq, count) =
                (Epoch(r.get::<_, i64>(1)?.cast_unsigned()), r.get::<_, i64>(2)?.cast_unsigned(), r.get::<_, i64>(3)?.cast_unsigned());
            let full = self.gaps.len() >= DROP_GAPS;
            match self.gaps.last_mut() {
                Some(EventKind::Gap { epoch, to, samples, .. }) if *epoch == of && *to + 1 == seq => {
                    *to = seq;
                    *samples += count;
                }
                _ if full => break,
                _ => self.gaps.push(EventKind::Gap {
                    epoch: of,
                    stream: Stream::Event,
                    from: seq,
                    to: seq,
                    samples: count,
                    reason: "too many events waited for the cloud".into(),
                    replaced_by: None,
                }),
            }
            self.ids.push(id);
            self.bytes += r.get::<_, i64>(4)?.cast_unsigned();
            if self.ids.len() >= DROP_ROWS || self.bytes >= enough {
                break;
            }
        }
        Ok(())
    }
}

fn split(events: Vec<Event>) -> rusqlite::Result<Vec<(Vec<Event>, String)>> {
    let mut out: Vec<(Vec<Event>, String)> = Vec::new();
    for event in events {
        let text = to_json(&event)?;
        match out.last_mut() {
            Some((of, body)) if of.len() < limits::EVENTS_PER_MESSAGE && body.len() + text.len() < limits::EVENT_MESSAGE_BYTES => {
                body.push(',');
                body.push_str(&text);
                of.push(event);
            }
            _ => out.push((vec![event], format!("[{text}"))),
        }
    }
    out.iter_mut().for_each(|(_, body)| body.push(']'));
    Ok(out)
}

/// Messages from one row to another, at most `max`. A row that is damaged has no events.
pub fn read_messages(db: &Connection, from: i64, to: i64, max: usize) -> rusqlite::Result<Vec<Message>> {
    let mut rows = db.prepare_cached("SELECT id, epoch, seq, boot, body FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3")?;
    let messages = rows.query_map(params![from, to, max as i64], |r| {
        let key =
            Key { epoch: Epoch(r.get::<_, i64>(1)?.cast_unsigned()), stream: Stream::Event, seq: r.get::<_, i64>(2)?.cast_unsigned() };
        let events = json::<Vec<Event>>(&r.get::<_, String>(4)?).unwrap_or_default();
        Ok(Message { id: r.get(0)?, key, boot: BootIndex(r.get(3)?), events: events.into() })
    })?;
    messages.collect()
}
