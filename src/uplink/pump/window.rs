//! The acknowledgement book: what was published on this link and has no PUBACK yet.
//!
//! Pure. Invariant: what an acknowledgement releases is what was sent under that packet id on this link; the window is
//! emptied when the link goes, so nothing of one link can be released by another.

use crate::{
    limits,
    model::{Boot, Key},
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

#[derive(Debug, Default)]
pub struct Window {
    open: BTreeMap<u16, (Sent, Boot)>,
}

impl Window {
    /// How many more may be sent.
    pub fn room(&self) -> usize {
        limits::UPLINK_IN_FLIGHT.saturating_sub(self.open.len())
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn sent(&mut self, id: u16, what: Sent, now: Boot) {
        self.open.insert(id, (what, now));
    }

    /// What this acknowledges, and when that was sent. `None`: nothing that is open.
    pub fn acknowledged(&mut self, id: u16) -> Option<(Sent, Boot)> {
        self.open.remove(&id)
    }
}
