//! The retained device list: sent at birth, then what changed of it, at most once a second and part by part: the list of ten
//! thousand devices is megabytes, and an event must not wait behind them.

use crate::{
    model::{Boot, ClockReading, DeviceCard},
    uplink::dialect::{Native, Part},
};
use std::{collections::VecDeque, time::Duration};

/// A storm of state changes makes one new list, not one each; events tell every change at once.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Devices {
    /// Hashes of the parts that this link has been given.
    given: Vec<u64>,
    queue: VecDeque<Part>,
    last: Option<Boot>,
    due: Option<Boot>,
    /// This link had the whole list once.
    whole: bool,
}

impl Devices {
    /// A new link: the broker may have forgotten everything.
    pub fn connected(&mut self) {
        *self = Devices::default();
    }

    pub fn changed(&mut self, now: Boot) {
        let soonest = self.last.map_or(now, |last| last + EVERY);
        self.due.get_or_insert(soonest.max(now));
    }

    pub fn due(&self) -> Option<Boot> {
        self.due
    }

    /// Writes the list anew if it is time, and queues the parts that differ.
    pub fn refresh(&mut self, native: &Native, cards: &[DeviceCard], clock: ClockReading, now: Boot) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        self.last = Some(now);
        let parts = native.devices(cards, clock);
        let hashes: Vec<u64> = parts.iter().map(|part| part.hash).collect();
        // An empty retained message removes what a longer list left behind.
        let gone =
            (parts.len()..self.given.len()).map(|n| Part { topic: native.topic(&format!("devices/{}", n + 1)), body: vec![], hash: 0 });
        let given = std::mem::replace(&mut self.given, hashes);
        let differs = |(n, part): &(usize, Part)| given.get(*n) != Some(&part.hash);
        let news: Vec<Part> = gone.chain(parts.into_iter().enumerate().filter(differs).map(|(_, part)| part)).collect();
        // A part that still waits is replaced by its successor; one that did not change stays in the queue.
        self.queue.retain(|old| news.iter().all(|new| new.topic != old.topic));
        self.queue.extend(news);
    }

    /// At birth one after the other. Later none goes while another is open or an event waits, which `must_wait` says.
    pub fn next(&mut self, must_wait: impl FnOnce() -> bool) -> Option<Part> {
        if self.queue.is_empty() || (self.whole && must_wait()) {
            return None;
        }
        let part = self.queue.pop_front();
        self.whole |= self.queue.is_empty();
        part
    }
}
