//! The event stream: committed with the change it reports, then sent in order.

use crate::model::{BootIndex, Epoch, Event, Key, Stream, event::Alive};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
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

pub struct EventQueue {
    inner: Mutex<Inner>,
    notify: Notify,
    epoch: Epoch,
    boot: BootIndex,
}
#[derive(Default)]
struct Inner {
    last: u64,
    waiting: BTreeMap<u64, Arc<[Event]>>,
    flight: BTreeMap<u64, Arc<[Event]>>,
}

impl EventQueue {
    pub(super) fn new(epoch: Epoch, boot: BootIndex) -> EventQueue {
        EventQueue { inner: Mutex::default(), notify: Notify::new(), epoch, boot }
    }
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    pub(super) fn push(&self, events: Vec<Event>) {
        let mut inner = self.lock();
        inner.last += 1;
        let seq = inner.last;
        inner.waiting.insert(seq, events.into());
        drop(inner);
        self.notify.notify_one();
    }
    /// The oldest message that is not in flight.
    pub fn next(&self) -> Option<OutgoingEvents> {
        let mut inner = self.lock();
        let (seq, events) = inner.waiting.pop_first()?;
        inner.flight.insert(seq, Arc::clone(&events));
        Some(OutgoingEvents { key: Key { epoch: self.epoch, stream: Stream::Event, seq }, events, boot: self.boot })
    }
    pub fn has_next(&self) -> bool {
        !self.lock().waiting.is_empty()
    }
    pub fn acknowledged(&self, key: Key) {
        if key.epoch == self.epoch && key.stream == Stream::Event {
            self.lock().flight.remove(&key.seq);
        }
    }
    pub fn return_unacknowledged(&self) {
        let mut inner = self.lock();
        let mut flight = std::mem::take(&mut inner.flight);
        inner.waiting.append(&mut flight);
        drop(inner);
        self.notify.notify_one();
    }
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
    pub fn alive(&self) -> Vec<Alive> {
        let inner = self.lock();
        let first = [&inner.waiting, &inner.flight].into_iter().filter_map(|m| m.keys().next().copied()).min();
        vec![Alive { epoch: self.epoch, stream: Stream::Event, lowest: first.unwrap_or(inner.last + 1), highest: inner.last }]
    }
}
