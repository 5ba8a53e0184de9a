//! The acknowledgement book: what was published on this link and has no PUBACK yet.
//!
//! Pure. Invariant: what an acknowledgement releases is what was sent under that packet id on this link; the window is
//! emptied when the link goes, so nothing of one link can be released by another.

use crate::{
    logic::flight::{Flight, Open},
    model::{Boot, Key, Stream},
};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Birth, or the last word before an orderly end.
    State,
    Devices,
    Events(Key),
    Telemetry(Key),
}

impl Sent {
    pub const fn of(key: Key) -> Sent {
        match key.stream {
            Stream::Telemetry => Sent::Telemetry(key),
            Stream::Event => Sent::Events(key),
        }
    }
}

#[derive(Debug)]
pub struct Window {
    open: BTreeMap<u16, (Sent, Boot, usize)>,
    bytes: usize,
    flight: Flight,
}

impl Window {
    pub fn new(receive_max: Option<u16>, now: Boot) -> Window {
        Window { open: BTreeMap::new(), bytes: 0, flight: Flight::new(receive_max, now) }
    }

    fn now_open(&self) -> Open {
        Open { messages: self.open.len(), bytes: self.bytes }
    }

    /// How many more may be sent.
    pub fn room(&self) -> usize {
        self.flight.room(self.now_open())
    }

    /// Whether the backlog may have one of them.
    pub fn takes_backlog(&self) -> bool {
        self.flight.takes_backlog(self.now_open())
    }

    /// How many may be open at present.
    pub fn size(&self) -> usize {
        self.flight.size()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Birth or the device list are open.
    pub fn has_greeting(&self) -> bool {
        self.open.values().any(|(what, ..)| matches!(what, Sent::State | Sent::Devices))
    }

    /// A part of the device list is open.
    pub fn has_list(&self) -> bool {
        self.open.values().any(|(what, ..)| *what == Sent::Devices)
    }

    /// What of the store is open, and when it was sent, oldest first.
    pub fn in_order(&self) -> Vec<(Key, Boot)> {
        let mut all: Vec<(Boot, u16, Key)> = Vec::new();
        for (id, (what, at, _)) in &self.open {
            if let Sent::Telemetry(key) | Sent::Events(key) = what {
                all.push((*at, *id, *key));
            }
        }
        all.sort_unstable();
        all.into_iter().map(|(at, _, key)| (key, at)).collect()
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn sent(&mut self, id: u16, what: Sent, bytes: usize, now: Boot) {
        self.bytes += bytes;
        self.open.insert(id, (what, now, bytes));
    }

    /// What this acknowledges, and when that was sent. `None`: nothing that is open.
    pub fn acknowledged(&mut self, id: u16, now: Boot) -> Option<(Sent, Boot)> {
        let open = self.now_open();
        let (what, at, bytes) = self.open.remove(&id)?;
        self.bytes -= bytes;
        self.flight.answered(at, now, bytes, open);
        Some((what, at))
    }
}
