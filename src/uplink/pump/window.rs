//! The acknowledgement book: what was published on this link and has no PUBACK yet.
//!
//! Pure. Invariant: what an acknowledgement releases is what was sent under that packet id on this link; the window is
//! emptied when the link goes, so nothing of one link can be released by another.

use crate::{
    limits,
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

#[derive(Debug, Default)]
pub struct Window {
    open: BTreeMap<u16, (Sent, Boot)>,
    /// What the broker takes at once, if it says.
    receive_max: Option<u16>,
}

impl Window {
    pub fn new(receive_max: Option<u16>) -> Window {
        Window { receive_max, ..Window::default() }
    }

    /// How many more may be sent.
    pub fn room(&self) -> usize {
        let most = self.receive_max.map_or(usize::MAX, usize::from).min(limits::UPLINK_IN_FLIGHT);
        most.saturating_sub(self.open.len())
    }

    /// The same, as if the window had its usual size: one that is smaller than the places kept free for what is new would
    /// never send the backlog.
    pub fn room_in_all(&self) -> usize {
        let small = self.receive_max.is_some_and(|max| usize::from(max) < limits::UPLINK_IN_FLIGHT);
        if small && self.room() > 0 { limits::UPLINK_IN_FLIGHT } else { self.room() }
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Birth or the device list are open.
    pub fn has_greeting(&self) -> bool {
        self.open.values().any(|(what, _)| matches!(what, Sent::State | Sent::Devices))
    }

    /// What of the store is open, and when it was sent, oldest first.
    pub fn in_order(&self) -> Vec<(Key, Boot)> {
        let mut all: Vec<(Boot, u16, Key)> = Vec::new();
        for (id, (what, at)) in &self.open {
            if let Sent::Telemetry(key) | Sent::Events(key) = what {
                all.push((*at, *id, *key));
            }
        }
        all.sort_unstable();
        all.into_iter().map(|(at, _, key)| (key, at)).collect()
    }

    pub fn sent(&mut self, id: u16, what: Sent, now: Boot) {
        self.open.insert(id, (what, now));
    }

    /// What this acknowledges, and when that was sent. `None`: nothing that is open.
    pub fn acknowledged(&mut self, id: u16) -> Option<(Sent, Boot)> {
        self.open.remove(&id)
    }
}
