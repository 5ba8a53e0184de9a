//! The event stream on its way to the cloud: committed first, then sent in order, gone after its acknowledgement.
//!
//! What was just committed is handed over in RAM; when more waits than fits there, it is read back from state.db. The
//! events of older epochs come first, because their rows do. Rows are deleted with the next commit.

use super::state::{Message, read_messages};
use crate::{
    limits,
    model::{Boot, BootIndex, Epoch, Event, EventKind, Key, Stream, event::Alive},
};
use rusqlite::{Connection, OptionalExtension};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

pub struct EventQueue {
    inner: Mutex<Inner>,
    notify: Notify,
    epoch: Epoch,
}

struct Inner {
    reader: Connection,
    /// Read or handed over, in order, not in flight.
    waiting: VecDeque<Message>,
    /// The first row that was not read yet; `None`: `waiting` reaches up to the newest.
    unread: Option<i64>,
    /// The newest row that is known to be committed.
    newest: i64,
    /// By row.
    in_flight: BTreeMap<i64, Message>,
    /// Acknowledged, to be deleted with the next commit.
    done: BTreeSet<i64>,
    /// Gaps for rows that turned out to be damaged.
    owed: Vec<Event>,
    /// The last number of our epoch.
    last: u64,
}

impl std::fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventQueue").finish_non_exhaustive()
    }
}

impl EventQueue {
    /// `newest`: the last row that older epochs left.
    pub(super) fn new(reader: Connection, newest: i64, epoch: Epoch) -> EventQueue {
        let inner = Inner {
            reader,
            waiting: VecDeque::new(),
            unread: Some(0),
            newest,
            in_flight: BTreeMap::new(),
            done: BTreeSet::new(),
            owed: Vec::new(),
            last: 0,
        };
        EventQueue { inner: Mutex::new(inner), notify: Notify::new(), epoch }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Committed just now, in order.
    pub(super) fn committed(&self, messages: Vec<Message>, dropped: &[i64]) {
        let mut inner = self.lock();
        inner.waiting.retain(|m| !dropped.contains(&m.id));
        let any = !messages.is_empty();
        for message in messages {
            inner.newest = message.id;
            inner.last = message.key.seq;
            if inner.unread.is_none() && inner.waiting.len() < limits::EVENTS_IN_RAM {
                inner.waiting.push_back(message);
            } else {
                inner.unread.get_or_insert(message.id);
            }
        }
        drop(inner);
        if any {
            self.notify.notify_one();
        }
    }

    /// The connection that reads on: to be let go and opened again when another file takes the place of this one.
    pub(super) fn reader(&self, change: impl FnOnce(&mut Connection)) {
        change(&mut self.lock().reader);
    }

    /// What is known without the disk.
    pub(super) fn in_ram(&self) -> Vec<Message> {
        let inner = self.lock();
        inner.in_flight.values().chain(&inner.waiting).cloned().collect()
    }

    /// Of rows that a damaged file has lost.
    pub(super) fn owe(&self, gaps: Vec<Event>) {
        self.lock().owed.extend(gaps);
    }

    /// What the next transaction takes along.
    pub(super) fn take_along(&self) -> Along {
        let mut inner = self.lock();
        Along {
            done: std::mem::take(&mut inner.done).into_iter().collect(),
            in_flight: inner.in_flight.keys().copied().collect(),
            owed: std::mem::take(&mut inner.owed),
        }
    }

    /// The transaction failed.
    pub(super) fn give_back(&self, along: Along) {
        let mut inner = self.lock();
        inner.done.extend(along.done);
        let newer = std::mem::replace(&mut inner.owed, along.owed);
        inner.owed.extend(newer);
    }

    /// The oldest message that is not in flight.
    pub fn next(&self) -> Option<OutgoingEvents> {
        let mut inner = self.lock();
        inner.fill();
        let message = inner.waiting.pop_front()?;
        let out = OutgoingEvents { key: message.key, events: Arc::clone(&message.events), boot: message.boot };
        inner.in_flight.insert(message.id, message);
        Some(out)
    }

    pub fn has_next(&self) -> bool {
        let mut inner = self.lock();
        inner.fill();
        !inner.waiting.is_empty()
    }

    /// By its own PUBACK. Unknown, repeated or not in flight: ignored.
    pub fn acknowledged(&self, key: Key) {
        let mut inner = self.lock();
        let Some(id) = inner.in_flight.iter().find(|(_, m)| m.key == key).map(|(id, _)| *id) else {
            return;
        };
        inner.in_flight.remove(&id);
        inner.done.insert(id);
    }

    /// The connection is lost: what was in flight is sent again, in order.
    pub fn return_unacknowledged(&self) {
        let mut inner = self.lock();
        while let Some((_, message)) = inner.in_flight.pop_last() {
            let at = inner.waiting.partition_point(|m| m.id < message.id);
            inner.waiting.insert(at, message);
        }
        drop(inner);
        self.notify.notify_one();
    }

    /// Something new to send. One waiter.
    pub async fn changed(&self) {
        self.notify.notified().await;
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
        inner.in_flight.iter().for_each(|(id, m)| seen(*id, &m.key, m.key.seq));
        inner.waiting.iter().for_each(|m| seen(m.id, &m.key, m.key.seq));
        for (id, epoch, first, last) in inner.unread_ranges() {
            seen(id, &Key { epoch, stream: Stream::Event, seq: first }, last);
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
    /// Reads on when nothing waits in RAM.
    fn fill(&mut self) {
        while let (true, Some(from)) = (self.waiting.is_empty(), self.unread) {
            match read_messages(&self.reader, from, self.newest, limits::EVENTS_IN_RAM / 4) {
                Ok(messages) => {
                    let last = messages.last().map_or(self.newest, |m| m.id);
                    self.unread = (last < self.newest).then_some(last + 1);
                    // A damaged row has no events: its number will never come, and the next commit says so.
                    let (damaged, good): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.events.is_empty());
                    self.waiting.extend(good);
                    self.done.extend(damaged.iter().map(|m| m.id));
                    self.owed.extend(damaged.iter().map(gap));
                }
                Err(e) => {
                    tracing::error!(error = %e, "events cannot be read back from state.db; tried again with the next");
                    return;
                }
            }
        }
    }

    fn unread_ranges(&self) -> Vec<(i64, Epoch, u64, u64)> {
        let Some(from) = self.unread else {
            return Vec::new();
        };
        let ranges = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT id, event.epoch, seq, coalesce((SELECT e.event FROM epoch e WHERE e.epoch = event.epoch), seq)
                       FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";
            let mut first = self.reader.prepare_cached(sql)?;
            let (mut all, mut from) = (Vec::new(), from);
            // Rows and numbers of an epoch go up together, so one look-up per epoch does: reading all rows took seconds.
            while let Some((id, epoch, seq, last)) = first
                .query_row([from, self.newest], |r| {
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
}

fn gap(message: &Message) -> Event {
    let Key { epoch, stream, seq } = message.key;
    Event {
        at: Boot::default(),
        kind: EventKind::Gap { epoch, stream, from: seq, to: seq, samples: 0, reason: "damaged on the disk".into(), replaced_by: None },
    }
}
