//! The event stream on its way to the cloud: committed first, then sent in order, gone after its acknowledgement.
//!
//! What was just committed is handed over in RAM; when more waits than fits there, it is read back from state.db. The
//! events of older epochs come first, because their rows do. Rows are deleted with the next commit.
//!
//! Each uplink has a lane. With one, what it acknowledged is deleted row by row. With several, a row goes when it lies
//! before everything that any of them still wants, and where each of them is is written with the commits: after a restart
//! one of them may get again what it acknowledged out of order. An optional one that is far behind the required ones loses
//! the oldest, and a gap event names it.

mod putting_back;

use super::{
    Holder,
    desk::{Desk, Wish},
    state::{Message, read_messages},
};
use crate::{
    limits,
    model::{Boot, BootIndex, Epoch, Event, EventKind, Key, Stream, UplinkId, UplinkIndex, event::Alive, letter_kind},
};
use rusqlite::{Connection, OptionalExtension};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::sync::Notify;

/// One message of the event stream.
#[derive(Debug, Clone, PartialEq)]
pub struct OutgoingEvents {
    pub key: Key,
    pub events: Arc<[Event]>,
    /// The boot whose clock the events were stamped with.
    pub boot: BootIndex,
}

/// Rows that may be deleted, rows that may not, and events that must be written.
pub(super) struct Along {
    pub done: Vec<i64>,
    pub in_flight: Vec<i64>,
    pub owed: Vec<Event>,
    /// The first row that each uplink wants, where that is to be written.
    pub marks: Vec<(String, i64)>,
    /// What optional uplinks lose with it: the lane, the last row, the events that say so.
    pub jumps: Vec<(usize, i64, Vec<Event>)>,
}

/// How far one uplink is.
struct Lane {
    holder: Holder,
    /// Read or handed over, in order, not in flight.
    waiting: VecDeque<Message>,
    /// The first row that was not read yet; `None`: `waiting` reaches up to the newest.
    unread: Option<i64>,
    /// By row.
    in_flight: BTreeMap<i64, Message>,
    /// As last written.
    marked: i64,
}

/// Rows deleted at once, with several uplinks.
const DONE_AT_ONCE: i64 = 2000;
/// Rows by which an optional uplink falls behind its share before it loses them at once.
const JUMP: i64 = 1000;

pub struct EventQueue {
    inner: Mutex<Inner>,
    /// One for each uplink.
    notify: Vec<Notify>,
    epoch: Epoch,
    /// Locked for as long as a reading takes; who holds it never asks for `inner`.
    reader: Mutex<Connection>,
    /// Where reading is asked for, once somebody reads beside.
    desk: OnceLock<Arc<Desk>>,
}

struct Inner {
    /// By uplink.
    lanes: Vec<Lane>,
    /// The newest row that is known to be committed.
    newest: i64,
    /// To be deleted with the next commit: every uplink has it.
    done: BTreeSet<i64>,
    /// With several uplinks: rows up to here are deleted, or in `done`.
    done_to: i64,
    /// Rows that an optional uplink may be behind the required ones.
    share: i64,
    /// Gaps for rows that turned out to be damaged.
    owed: Vec<Event>,
    /// The last number of our epoch.
    last: u64,
    /// Of each epoch with rows at the start, and of ours: its first row, that row's number, the last number. Rows and
    /// numbers of an epoch go up together.
    runs: Vec<(i64, Epoch, u64, u64)>,
    /// How often rows were dropped for the limit.
    drops: u64,
    /// The newest of this run, whatever became of their rows: for who looks on the spot.
    recent: VecDeque<Event>,
    /// Dead letters that were told in this run, by door and kind of reason.
    letters: BTreeMap<(&'static str, &'static str), u64>,
}

impl std::fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventQueue").finish_non_exhaustive()
    }
}

impl EventQueue {
    /// `newest`: the last row that older epochs left. `marks`: the first row that an uplink wanted, by name. `max`: rows
    /// that are kept.
    pub(super) fn new(reader: Connection, newest: i64, epoch: Epoch, holders: &[Holder], marks: &[(String, i64)], max: u64) -> EventQueue {
        let first = reader.query_row("SELECT coalesce(min(id), 1) FROM event", [], |r| r.get::<_, i64>(0)).unwrap_or(1);
        let lane = |holder: &Holder| {
            let mark = marks.iter().find(|(name, _)| name == holder.id.as_str()).map(|(_, row)| *row);
            let (waiting, in_flight) = (VecDeque::new(), BTreeMap::new());
            // A new webhook is told what happens from now on; a new uplink gets what is kept.
            let from = mark.unwrap_or(if holder.events_only { newest + 1 } else { 0 });
            Lane { holder: holder.clone(), waiting, unread: Some(from), in_flight, marked: mark.unwrap_or(0) }
        };
        let lanes: Vec<Lane> = holders.iter().map(lane).collect();
        let notify = lanes.iter().map(|_| Notify::new()).collect();
        // With one uplink: what it had while there were others.
        let had = if let [one] = lanes.as_slice() { first..one.marked } else { 0..0 };
        // The epochs that left rows: of each the first row and number, and the last number.
        let runs = ranges(&reader, newest);
        let inner = Inner {
            runs,
            drops: 0,
            recent: VecDeque::new(),
            letters: BTreeMap::new(),
            lanes,
            newest,
            done: had.collect(),
            done_to: first - 1,
            share: i64::try_from(max / limits::OPTIONAL_SHARE).unwrap_or(i64::MAX),
            owed: Vec::new(),
            last: 0,
        };
        EventQueue { inner: Mutex::new(inner), notify, epoch, reader: Mutex::new(reader), desk: OnceLock::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Committed just now, in order.
    pub(super) fn committed(&self, messages: Vec<Message>, dropped: &[i64]) {
        let mut inner = self.lock();
        let any = !messages.is_empty();
        inner.drops += u64::from(!dropped.is_empty());
        if let Some(first) = messages.first().filter(|m| inner.runs.last().is_none_or(|(_, epoch, ..)| *epoch != m.key.epoch)) {
            inner.runs.push((first.id, first.key.epoch, first.key.seq, first.key.seq));
        }
        if let Some(last) = messages.last() {
            (inner.newest, inner.last) = (last.id, last.key.seq);
        }
        let told = messages.iter().flat_map(|m| &*m.events).filter(|e| !matches!(e.kind, EventKind::Progress { .. }));
        for event in told {
            if let EventKind::DeadLetter { source, reason, count } = &event.kind {
                *inner.letters.entry(letter_kind(source, reason)).or_default() += count;
            }
            inner.recent.push_back(event.clone());
        }
        let over = inner.recent.len().saturating_sub(limits::EVENTS_SHOWN);
        inner.recent.drain(..over);
        for lane in &mut inner.lanes {
            lane.waiting.retain(|m| !dropped.contains(&m.id));
            // The oldest are dropped, in order.
            lane.unread = lane.unread.map(|row| dropped.iter().fold(row, |row, id| if *id == row { row + 1 } else { row }));
            for message in &messages {
                if lane.unread.is_none() && lane.waiting.len() < limits::EVENTS_IN_RAM {
                    lane.waiting.push_back(message.clone());
                } else {
                    lane.unread.get_or_insert(message.id);
                }
            }
        }
        drop(inner);
        if any {
            self.notify.iter().for_each(Notify::notify_one);
        }
    }

    /// What happened last in this run, newest first.
    pub fn recent(&self, most: usize) -> Vec<Event> {
        self.lock().recent.iter().rev().take(most).cloned().collect()
    }

    /// Dead letters that were told in this run, by door and kind of reason.
    pub fn letters(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.lock().letters.clone()
    }

    /// Whether every uplink has everything.
    pub(super) fn is_quiet(&self) -> bool {
        let inner = self.lock();
        let has_all = |l: &Lane| l.waiting.is_empty() && l.in_flight.is_empty() && l.unread.is_none();
        inner.owed.is_empty() && inner.lanes.iter().all(has_all)
    }

    /// The connection that reads on: to be let go and opened again when another file takes the place of this one.
    pub(super) fn reader(&self, change: impl FnOnce(&mut Connection)) {
        change(&mut connection(&self.reader));
    }

    pub(super) fn read_at(&self, desk: &Arc<Desk>) {
        // What little there is was read before anybody waits for it.
        (0..self.notify.len()).for_each(|u| self.fill(&mut self.lock(), u));
        // Once.
        let _ = self.desk.set(Arc::clone(desk));
    }

    /// Reads on for an uplink, without holding up whoever sends or commits meanwhile.
    pub(super) fn read_on(&self, u: usize) {
        let Some((from, newest, drops)) = self.lock().wanted(u) else { return };
        let read = read_messages(&connection(&self.reader), from, newest, limits::EVENTS_IN_RAM / 4);
        let mut inner = self.lock();
        // Another answer than the one that was asked for is read anew.
        let worked = inner.wanted(u) != Some((from, newest, drops)) || inner.take_in(u, newest, read);
        drop(inner);
        if let Some(notify) = self.notify.get(u).filter(|_| worked) {
            notify.notify_one();
        }
    }

    /// Reads on when nothing waits in RAM, or asks for it.
    fn fill(&self, inner: &mut Inner, u: usize) {
        while let Some((from, newest, _)) = inner.wanted(u) {
            if let Some(desk) = self.desk.get() {
                return desk.ask(Wish::Events(u));
            }
            let read = read_messages(&connection(&self.reader), from, newest, limits::EVENTS_IN_RAM / 4);
            if !inner.take_in(u, newest, read) {
                return;
            }
        }
    }

    /// What is known without the disk.
    pub(super) fn in_ram(&self) -> Vec<Message> {
        let inner = self.lock();
        let all: BTreeMap<i64, &Message> =
            inner.lanes.iter().flat_map(|l| l.in_flight.values().chain(&l.waiting)).map(|m| (m.id, m)).collect();
        all.into_values().cloned().collect()
    }

    /// Of rows that a damaged file has lost.
    pub(super) fn owe(&self, gaps: Vec<Event>) {
        self.lock().owed.extend(gaps);
    }

    /// What the next transaction takes along.
    pub(super) fn take_along(&self) -> Along {
        let mut inner = self.lock();
        let mut along = Along {
            done: Vec::new(),
            in_flight: inner.lanes.iter().flat_map(|l| l.in_flight.keys().copied()).collect(),
            owed: std::mem::take(&mut inner.owed),
            marks: Vec::new(),
            jumps: Vec::new(),
        };
        if inner.lanes.len() > 1 {
            inner.several(&mut along, &self.reader);
        }
        along.done = std::mem::take(&mut inner.done).into_iter().collect();
        along
    }

    /// It is committed.
    pub(super) fn taken(&self, marks: &[(String, i64)], jumps: &[(usize, i64, Vec<Event>)]) {
        let mut inner = self.lock();
        for (name, row) in marks {
            inner.lanes.iter_mut().filter(|l| l.holder.id.as_str() == name).for_each(|l| l.marked = *row);
        }
        for (lane, to, _) in jumps {
            let lane = &mut inner.lanes[*lane];
            lane.waiting.retain(|m| m.id > *to);
            lane.unread = lane.unread.map(|row| row.max(to + 1));
        }
    }

    /// The transaction failed.
    pub(super) fn give_back(&self, along: Along) {
        let mut inner = self.lock();
        inner.done.extend(along.done);
        let newer = std::mem::replace(&mut inner.owed, along.owed);
        inner.owed.extend(newer);
    }

    /// The oldest message that is not in flight to this uplink.
    pub fn next(&self, u: UplinkIndex) -> Option<OutgoingEvents> {
        let mut inner = self.lock();
        self.fill(&mut inner, usize::from(u.0));
        let lane = inner.lanes.get_mut(usize::from(u.0))?;
        let message = lane.waiting.pop_front()?;
        let out = OutgoingEvents { key: message.key, events: Arc::clone(&message.events), boot: message.boot };
        lane.in_flight.insert(message.id, message);
        Some(out)
    }

    pub fn has_next(&self, u: UplinkIndex) -> bool {
        let mut inner = self.lock();
        self.fill(&mut inner, usize::from(u.0));
        inner.lanes.get(usize::from(u.0)).is_some_and(|l| !l.waiting.is_empty())
    }

    /// By its own PUBACK. Unknown, repeated or not in flight: ignored.
    pub fn acknowledged(&self, u: UplinkIndex, key: Key) {
        let mut inner = self.lock();
        let alone = inner.lanes.len() == 1;
        let Some(lane) = inner.lanes.get_mut(usize::from(u.0)) else {
            return;
        };
        let Some(id) = lane.in_flight.iter().find(|(_, m)| m.key == key).map(|(id, _)| *id) else {
            return;
        };
        lane.in_flight.remove(&id);
        if alone {
            inner.done.insert(id);
        }
    }

    /// The connection is lost: what was in flight is sent again, in order.
    pub fn return_unacknowledged(&self, u: UplinkIndex) {
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get_mut(usize::from(u.0)) else {
            return;
        };
        while let Some((_, message)) = lane.in_flight.pop_last() {
            let at = lane.waiting.partition_point(|m| m.id < message.id);
            lane.waiting.insert(at, message);
        }
        drop(inner);
        self.notify.iter().for_each(Notify::notify_one);
    }

    /// Something new to send. One waiter for each uplink.
    pub async fn changed(&self, u: UplinkIndex) {
        match self.notify.get(usize::from(u.0)) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The numbers that are still to come, per epoch; ours in any case.
    pub fn alive(&self) -> Vec<Alive> {
        let inner = self.lock();
        let mut all: BTreeMap<i64, Alive> = BTreeMap::new();
        let mut seen = |id: i64, key: &Key, last: u64| match all.values_mut().find(|a| a.epoch == key.epoch) {
            Some(a) => {
                a.lowest = a.lowest.min(key.seq);
                a.highest = a.highest.max(last);
            }
            None => {
                all.insert(id, Alive { epoch: key.epoch, stream: Stream::Event, lowest: key.seq, highest: last });
            }
        };
        // What only a webhook waits for comes to no consumer.
        let lanes = || inner.lanes.iter().filter(|l| !l.holder.events_only);
        for lane in lanes() {
            lane.in_flight.iter().for_each(|(id, m)| seen(*id, &m.key, m.key.seq));
            lane.waiting.iter().for_each(|m| seen(m.id, &m.key, m.key.seq));
        }
        if let Some(from) = lanes().filter_map(|l| l.unread).min() {
            for (n, (first, epoch, seq, last)) in inner.runs.iter().enumerate() {
                let end = inner.runs.get(n + 1).map_or(inner.newest + 1, |(next, ..)| *next);
                if from < end {
                    let seq = seq + from.saturating_sub(*first).max(0).cast_unsigned();
                    seen(from.max(*first), &Key { epoch: *epoch, stream: Stream::Event, seq }, *last);
                }
            }
        }
        let mut all: Vec<Alive> = all.into_values().collect();
        match all.iter_mut().find(|a| a.epoch == self.epoch) {
            Some(ours) => ours.highest = inner.last,
            None => all.push(Alive { epoch: self.epoch, stream: Stream::Event, lowest: inner.last + 1, highest: inner.last }),
        }
        all
    }
}

impl Inner {
    /// The next row to be read for an uplink that has nothing in RAM, up to which one, and how often rows were dropped.
    fn wanted(&self, u: usize) -> Option<(i64, i64, u64)> {
        let lane = self.lanes.get(u).filter(|l| l.waiting.is_empty())?;
        lane.unread.map(|from| (from, self.newest, self.drops))
    }

    /// Rows up to `newest` that were read for an uplink. Whether they were.
    fn take_in(&mut self, u: usize, newest: i64, read: rusqlite::Result<Vec<Message>>) -> bool {
        let alone = self.lanes.len() == 1;
        let Some(lane) = self.lanes.get_mut(u) else { return false };
        let messages = match read {
            Ok(messages) => messages,
            Err(e) => {
                tracing::error!(error = %e, "events cannot be read back from state.db; tried again with the next");
                return false;
            }
        };
        let last = messages.last().map_or(newest, |m| m.id);
        lane.unread = (last < self.newest).then_some(last + 1);
        // A damaged row has no events: its number will never come, and the next commit says so.
        let (damaged, good): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.events.is_empty());
        lane.waiting.extend(good);
        if alone {
            self.done.extend(damaged.iter().map(|m| m.id));
        }
        // To others it is told when they come to it.
        let name = (!alone).then(|| lane.holder.id.clone());
        self.owed.extend(damaged.iter().map(|m| gap(m, name.clone())));
        true
    }

    /// The first row that this uplink wants.
    fn low(&self, lane: &Lane) -> i64 {
        let first = [lane.in_flight.keys().next().copied(), lane.waiting.front().map(|m| m.id), lane.unread];
        first.into_iter().flatten().min().unwrap_or(self.newest + 1)
    }

    fn several(&mut self, along: &mut Along, reader: &Mutex<Connection>) {
        let lows: Vec<i64> = self.lanes.iter().map(|l| self.low(l)).collect();
        let all = lows.iter().copied().min().unwrap_or(0);
        let to = (all - 1).min(self.done_to + DONE_AT_ONCE);
        self.done.extend(self.done_to + 1..=to);
        self.done_to = self.done_to.max(to);
        let news = |(lane, low): (&Lane, &i64)| (lane.marked != *low).then(|| (lane.holder.id.to_string(), *low));
        along.marks = self.lanes.iter().zip(&lows).filter_map(news).collect();
        let required = self.lanes.iter().zip(&lows).filter(|(l, _)| l.holder.required).map(|(_, low)| *low).min().unwrap_or(0);
        for (n, low) in lows.into_iter().enumerate() {
            let lane = &self.lanes[n];
            let to = (required - self.share - 1).min(low + DONE_AT_ONCE);
            let in_flight = lane.in_flight.keys().next().is_some_and(|id| *id <= to);
            if !lane.holder.required && required - low > self.share + JUMP.min(self.share) && !in_flight {
                let events = lost(&connection(reader), low, to, &lane.holder).unwrap_or_default();
                if !events.is_empty() {
                    along.jumps.push((n, to, events));
                }
            }
        }
    }
}

fn connection(reader: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rows of a range as gaps for one uplink.
fn lost(reader: &Connection, from: i64, to: i64, holder: &Holder) -> rusqlite::Result<Vec<Event>> {
    let sql = "SELECT epoch, min(seq), max(seq), sum(events) FROM event WHERE id BETWEEN ?1 AND ?2 GROUP BY epoch ORDER BY min(id)";
    let mut all = reader.prepare_cached(sql)?;
    let rows = all.query_map([from, to], |r| {
        let kind = EventKind::Gap {
            epoch: Epoch(r.get::<_, i64>(0)?.cast_unsigned()),
            stream: Stream::Event,
            from: r.get::<_, i64>(1)?.cast_unsigned(),
            to: r.get::<_, i64>(2)?.cast_unsigned(),
            samples: r.get::<_, i64>(3)?.cast_unsigned(),
            reason: "too many events waited for an optional uplink".into(),
            uplink: Some(holder.id.clone()),
            replaced_by: None,
        };
        Ok(Event { at: Boot::default(), kind })
    })?;
    rows.collect()
}

/// Of each epoch with rows up to `newest`: its first row, that row's number, the last number.
fn ranges(reader: &Connection, newest: i64) -> Vec<(i64, Epoch, u64, u64)> {
    let ranges = || -> rusqlite::Result<Vec<_>> {
        let sql = "SELECT id, event.epoch, seq, coalesce((SELECT e.event FROM epoch e WHERE e.epoch = event.epoch), seq)
                   FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";
        let mut first = reader.prepare_cached(sql)?;
        let (mut all, mut from) = (Vec::new(), 0);
        // Rows and numbers of an epoch go up together, so one look-up per epoch does: reading all rows took seconds.
        while let Some((id, epoch, seq, last)) = first
            .query_row([from, newest], |r| {
                let (seq, last): (i64, i64) = (r.get(2)?, r.get(3)?);
                Ok((r.get::<_, i64>(0)?, Epoch(r.get::<_, i64>(1)?.cast_unsigned()), seq, last.max(seq)))
            })
            .optional()?
        {
            all.push((id, epoch, seq.cast_unsigned(), last.cast_unsigned()));
            from = id + (last - seq) + 1;
        }
        Ok(all)
    };
    ranges().unwrap_or_default()
}

fn gap(message: &Message, uplink: Option<UplinkId>) -> Event {
    let Key { epoch, stream, seq } = message.key;
    Event {
        at: Boot::default(),
        kind: EventKind::Gap {
            epoch,
            stream,
            from: seq,
            to: seq,
            samples: 0,
            reason: "damaged on the disk".into(),
            uplink,
            replaced_by: None,
        },
    }
}
