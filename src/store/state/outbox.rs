//! The event stream's rows: one per message, numbered in the transaction that writes them.

use super::{json, to_json};
use crate::{
    limits,
    model::{Boot, BootIndex, Epoch, Event, EventKind, Key, Stream, UplinkId},
    store::spool::gaps::Gap,
};
use rusqlite::{Connection, Transaction, params};
use std::{collections::BTreeMap, sync::Arc};
use told::Told;

mod told;

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
    /// The newest row that names what was dropped at the limit.
    naming: Option<i64>,
}

/// Rows dropped at once at the limit, and gaps that may be added for it to those that the dropped rows named.
const DROP_ROWS: usize = 2000;
const DROP_GAPS: usize = 64;
/// About what one of them takes.
const GAP_BYTES: u64 = 170;

impl Outbox {
    /// Another file has taken the place of the one before: numbers go on.
    pub fn moved(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let found = Outbox::load(db, &[])?;
        self.next_id = self.next_id.max(found.next_id);
        (self.rows, self.bytes) = (found.rows, found.bytes);
        Ok(())
    }

    /// No row gets a number below what an uplink waits for, not even when all rows are gone.
    pub fn load(db: &Connection, marks: &[(String, i64)]) -> rusqlite::Result<Outbox> {
        let wanted = marks.iter().map(|(_, row)| *row).max().unwrap_or(0);
        db.query_row("SELECT coalesce(max(id), 0) + 1, count(*), coalesce(sum(octet_length(body)), 0) FROM event", [], |r| {
            let number = |n| r.get::<_, i64>(n).map(i64::cast_unsigned);
            Ok(Outbox { next_id: wanted.max(r.get(0)?), seq: 0, rows: number(1)?, bytes: number(2)?, naming: None })
        })
    }

    pub fn last_seq(&self) -> u64 {
        self.seq
    }

    pub fn last_id(&self) -> i64 {
        self.next_id - 1
    }

    /// The next message, that is not written yet.
    pub fn number(&mut self, epoch: Epoch, boot: BootIndex, event: Event) -> Message {
        self.seq += 1;
        let key = Key { epoch, stream: Stream::Event, seq: self.seq };
        let message = Message { id: self.next_id, key, boot, events: [event].into() };
        self.next_id += 1;
        message
    }

    /// One that has its number already.
    pub fn write_numbered(&mut self, tx: &Transaction, message: &Message) -> rusqlite::Result<()> {
        // A file that took the place of another one may have it.
        if put_messages(tx, std::slice::from_ref(message))? > 0 {
            self.rows += 1;
            self.bytes += to_json(&*message.events)?.len() as u64;
        }
        Ok(())
    }

    /// All of them as one message, unless they are too many for one.
    pub fn write(&mut self, tx: &Transaction, epoch: Epoch, boot: BootIndex, events: Vec<Event>) -> rusqlite::Result<Vec<Message>> {
        let mut messages = Vec::new();
        for (events, body) in split(events)? {
            self.seq += 1;
            let message =
                Message { id: self.next_id, key: Key { epoch, stream: Stream::Event, seq: self.seq }, boot, events: events.into() };
            let bytes = body.len() as u64;
            let minor = is_minor(&message.events);
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
            // An event comes at least with each progress: so far the devices were watched.
            let seen = messages.iter().flat_map(|m| m.events.iter()).map(|e| e.at.0.cast_signed()).max();
            tx.prepare_cached("UPDATE epoch SET event = ?2, seen = max(coalesce(seen, 0), coalesce(?3, 0)) WHERE epoch = ?1")?
                .execute(params![epoch.0.cast_signed(), self.seq.cast_signed(), seen])?;
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

    /// At the limit the oldest progress and status messages go, and if that is not enough the oldest of all. Gives the
    /// rows and the events that announce them. What is in flight stays, and so does what was written just now.
    ///
    /// What a dropped row named is named again: else a number would be missing without a word, and samples uncounted.
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
        // One row that names what went grows, instead of many.
        if let Some(id) = self.naming.filter(|id| !in_flight.contains(id)) {
            dropped.absorb(tx, id)?;
        }
        let absorbed = dropped.ids.len();
        let over = self.bytes.saturating_sub(bytes_max);
        // At the limit of bytes an eighth goes, so that not every event pays for it.
        let enough = if over > 0 { over + bytes_max / 8 } else { u64::MAX };
        dropped.collect(tx, true, before, enough, in_flight)?;
        if dropped.ids.len() == absorbed || dropped.freed() < over {
            dropped.collect(tx, false, before, enough, in_flight)?;
        }
        if dropped.ids.len() == absorbed {
            return Ok((Vec::new(), Vec::new()));
        }
        self.delete(tx, &dropped.ids)?;
        Ok((std::mem::take(&mut dropped.ids), dropped.events(at)))
    }

    /// These name what was dropped.
    pub fn named(&mut self, messages: &[Message]) {
        self.naming = messages.last().map(|m| m.id).or(self.naming);
    }
}

/// Numbers of an epoch, of all uplinks or of one.
type Of = (Epoch, Option<UplinkId>);

/// First number of a run, to its last and the events that went with them.
type Runs = BTreeMap<u64, (u64, u64)>;

#[derive(Default)]
struct Dropped {
    ids: Vec<i64>,
    /// The oldest epoch first.
    gone: Vec<(Of, Runs)>,
    /// Gaps of telemetry that went with them, to be told again.
    told: Told,
    /// Runs that rows named which are dropped now.
    named: usize,
    bytes: u64,
}

const COLUMNS: &str = "id, epoch, seq, events, octet_length(body), CASE WHEN instr(body, 'gap') > 0 THEN body END";

impl Dropped {
    /// The row that names what was dropped before, unless it is long.
    fn absorb(&mut self, tx: &Transaction, id: i64) -> rusqlite::Result<()> {
        let mut one = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM event WHERE id = ?1 AND events <= ?2"))?;
        let mut rows = one.query(params![id, DROP_GAPS as i64])?;
        match rows.next()? {
            Some(r) => self.take(r),
            None => Ok(()),
        }
    }

    fn collect(&mut self, tx: &Transaction, minor: bool, before: i64, enough: u64, in_flight: &[i64]) -> rusqlite::Result<()> {
        let which = if minor { "minor" } else { "NOT minor" };
        let mut oldest = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM event WHERE {which} AND id < ?1 ORDER BY id"))?;
        let mut rows = oldest.query([before])?;
        let absorbed = self.ids.first().copied();
        while let Some(r) = rows.next()? {
            let id: i64 = r.get(0)?;
            if in_flight.contains(&id) || absorbed == Some(id) {
                continue;
            }
            let (epoch, seq) = (Epoch(r.get::<_, i64>(1)?.cast_unsigned()), r.get::<_, i64>(2)?.cast_unsigned());
            if self.runs() >= self.named + DROP_GAPS && !self.touches(epoch, seq) {
                break;
            }
            self.take(r)?;
            if self.ids.len() >= DROP_ROWS || self.freed() >= enough {
                break;
            }
        }
        Ok(())
    }

    fn runs(&self) -> usize {
        self.gone.iter().map(|(_, runs)| runs.len()).sum::<usize>() + self.told.len()
    }

    /// Bytes, less those that it takes to name what went.
    fn freed(&self) -> u64 {
        self.bytes.saturating_sub(self.runs() as u64 * GAP_BYTES)
    }

    /// A row goes: its number, and what it named.
    fn take(&mut self, r: &rusqlite::Row) -> rusqlite::Result<()> {
        let number = |n| r.get::<_, i64>(n).map(i64::cast_unsigned);
        let (epoch, seq, mut count) = (Epoch(number(1)?), number(2)?, number(3)?);
        // One that cannot be read names nothing.
        let events = r.get::<_, Option<String>>(5)?.and_then(|body| json::<Vec<Event>>(&body).ok()).unwrap_or_default();
        for event in events {
            match event.kind {
                EventKind::Gap { epoch, stream: Stream::Event, from, to, samples, uplink, .. } => {
                    self.name((epoch, uplink), from, to, samples)
                }
                EventKind::Gap { epoch, stream: Stream::Telemetry, from, to, samples, reason, uplink, replaced_by } => {
                    self.told.add(Gap { epoch, from, to, samples, reason: reason.into(), uplink, replaced_by });
                }
                _ => continue,
            }
            self.named += 1;
            // It is said again, so it is not lost.
            count = count.saturating_sub(1);
        }
        self.name((epoch, None), seq, seq, count);
        self.ids.push(r.get(0)?);
        self.bytes += number(4)?;
        Ok(())
    }

    fn touches(&self, epoch: Epoch, seq: u64) -> bool {
        let runs = self.gone.iter().find(|(of, _)| *of == (epoch, None)).map(|(_, runs)| runs);
        runs.is_some_and(|runs| {
            runs.contains_key(&(seq + 1)) || runs.range(..seq).next_back().is_some_and(|(_, (last, _))| *last + 1 == seq)
        })
    }

    /// Neighbours become one.
    fn name(&mut self, of: Of, mut from: u64, mut to: u64, mut events: u64) {
        let at = self.gone.iter().position(|(known, _)| *known == of).unwrap_or_else(|| {
            self.gone.push((of, Runs::new()));
            self.gone.len() - 1
        });
        let runs = &mut self.gone[at].1;
        if let Some((first, (last, count))) = runs.range(..from).next_back().map(|(first, run)| (*first, *run))
            && last.saturating_add(1) == from
        {
            runs.remove(&first);
            (from, events) = (first, events + count);
        }
        if let Some((last, count)) = runs.remove(&to.saturating_add(1)) {
            (to, events) = (last, events + count);
        }
        runs.insert(from, (to, events));
    }

    fn events(self, at: Boot) -> Vec<Event> {
        let gap = |(epoch, uplink): Of, from, (to, samples)| EventKind::Gap {
            epoch,
            stream: Stream::Event,
            from,
            to,
            samples,
            reason: "too many events waited for the cloud".into(),
            uplink,
            replaced_by: None,
        };
        let all = self.gone.into_iter().flat_map(|(of, runs)| runs.into_iter().map(move |(from, run)| gap(of.clone(), from, run)));
        all.map(|kind| Event { at, kind }).chain(self.told.events(at)).collect()
    }
}

/// Messages that were written before, into a file that begins anew.
pub fn put_messages(db: &Connection, messages: &[Message]) -> rusqlite::Result<usize> {
    let mut put =
        db.prepare("INSERT OR IGNORE INTO event (id, epoch, seq, boot, events, minor, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut new = 0;
    for m in messages {
        let (epoch, seq) = (m.key.epoch.0.cast_signed(), m.key.seq.cast_signed());
        new += put.execute(params![m.id, epoch, seq, m.boot.0, m.events.len() as i64, is_minor(&m.events), to_json(&*m.events)?])?;
    }
    Ok(new)
}

fn is_minor(events: &[Event]) -> bool {
    events.iter().all(|e| matches!(e.kind, EventKind::Progress { .. } | EventKind::Status { .. }))
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
