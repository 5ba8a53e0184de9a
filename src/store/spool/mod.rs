//! Telemetry until the cloud has acknowledged it: RAM first, SQLite behind.

use crate::model::{Boot, BootIndex, Epoch, Frame, Key, Receipt, Sealed, SpoolFigures, Stream, event::Alive};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::Notify;

/// One batch to be sent. It stays in flight until it is acknowledged or returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub sealed: Arc<Sealed>,
    /// It is late: from the disk, or sent before on a connection that was lost.
    pub backlog: bool,
}

pub struct Spool {
    inner: Mutex<Inner>,
    notify: Notify,
    epoch: Epoch,
    boot: BootIndex,
}

#[derive(Default)]
struct Inner {
    last: u64,
    live: BTreeMap<u64, (Arc<Sealed>, Vec<Receipt>)>,
    again: BTreeMap<u64, (Arc<Sealed>, Vec<Receipt>)>,
    flight: BTreeMap<u64, (Arc<Sealed>, Vec<Receipt>)>,
    figures: SpoolFigures,
}

impl Spool {
    pub(super) fn new(epoch: Epoch, boot: BootIndex) -> Spool {
        Spool { inner: Mutex::default(), notify: Notify::new(), epoch, boot }
    }
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Seals the frames under the next number. `receipts` are kept when the batch is durable or acknowledged.
    pub fn append(&self, frames: Vec<Frame>, receipts: Vec<Receipt>, _now: Boot) -> u64 {
        let mut inner = self.lock();
        inner.last += 1;
        let seq = inner.last;
        let key = Key { epoch: self.epoch, stream: Stream::Telemetry, seq };
        let sealed = Sealed { key, boot: self.boot, frames };
        inner.figures.sealed_samples += sealed.samples();
        inner.live.insert(seq, (Arc::new(sealed), receipts));
        drop(inner);
        self.notify.notify_one();
        seq
    }

    /// The next batch of this process run that was never sent.
    pub fn next_live(&self) -> Option<Outgoing> {
        let mut inner = self.lock();
        let (seq, batch) = inner.live.pop_first()?;
        let sealed = Arc::clone(&batch.0);
        inner.flight.insert(seq, batch);
        Some(Outgoing { sealed, backlog: false })
    }

    /// The oldest batch that is late.
    pub fn next_backlog(&self) -> Option<Outgoing> {
        let mut inner = self.lock();
        let (seq, batch) = inner.again.pop_first()?;
        let sealed = Arc::clone(&batch.0);
        inner.flight.insert(seq, batch);
        Some(Outgoing { sealed, backlog: true })
    }

    pub fn has_live(&self) -> bool {
        !self.lock().live.is_empty()
    }
    pub fn has_backlog(&self) -> bool {
        !self.lock().again.is_empty()
    }

    /// By its own PUBACK. An unknown key, or one that is not in flight, is ignored.
    pub fn acknowledged(&self, key: Key, _now: Boot) {
        let mut inner = self.lock();
        if key.epoch != self.epoch || key.stream != Stream::Telemetry {
            return;
        }
        let Some((sealed, receipts)) = inner.flight.remove(&key.seq) else { return };
        inner.figures.acknowledged_samples += sealed.samples();
        drop(inner);
        receipts.into_iter().for_each(Receipt::keep);
    }

    /// The connection is lost: what was in flight is to be sent again, the same data in the same order.
    pub fn return_unacknowledged(&self) {
        let mut inner = self.lock();
        let mut flight = std::mem::take(&mut inner.flight);
        inner.again.append(&mut flight);
        drop(inner);
        self.notify.notify_one();
    }

    /// Something new to send.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    pub fn figures(&self, _now: Boot) -> SpoolFigures {
        self.lock().figures.clone()
    }

    pub fn alive(&self) -> Vec<Alive> {
        let inner = self.lock();
        let first = [&inner.live, &inner.again, &inner.flight].into_iter().filter_map(|m| m.keys().next().copied()).min();
        vec![Alive { epoch: self.epoch, stream: Stream::Telemetry, lowest: first.unwrap_or(inner.last + 1), highest: inner.last }]
    }
}
