//! What the engine counts, for health and metrics: numbers without a list of devices, so that it may be asked for often.

use super::Engine;
use crate::model::{Boot, LineId, LineState, by_word};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Devices by the word for how they are, with `maintenance`.
    pub devices: BTreeMap<&'static str, usize>,
    /// With the reason for its state; the local broker as `mqtt`.
    pub lines: Vec<(LineId, LineState, String)>,
    /// Messages that came in by each door since the start, and when the last one did.
    pub urgent: u64,
    pub bulk: u64,
    pub heard: Option<Boot>,
    pub readings: u64,
    pub samples: u64,
    /// Messages that wait in each door.
    pub urgent_waiting: usize,
    pub bulk_waiting: usize,
    pub commands_open: usize,
    pub alarms_unseen: usize,
}

impl Figures {
    pub fn all_devices(&self) -> usize {
        self.devices.values().sum()
    }

    pub fn count(&self, word: &str) -> usize {
        self.devices.get(word).copied().unwrap_or(0)
    }
}

impl Engine {
    pub(super) fn figures(&self) -> Figures {
        Figures {
            devices: by_word(self.registry.statuses()),
            lines: self.registry.lines().map(|(line, state, reason)| (line.clone(), state, reason.to_owned())).collect(),
            urgent: self.urgent.taken(),
            bulk: self.bulk.taken(),
            heard: self.heard,
            readings: self.readings_in,
            samples: self.samples_in,
            urgent_waiting: self.urgent.waiting(),
            bulk_waiting: self.bulk.waiting(),
            commands_open: self.commands.open(),
            alarms_unseen: self.alarms.unseen(),
        }
    }
}
