//! Moves of devices that the writer has no place for yet: they wait here, in order, and the engine does not.
//!
//! A hundred thousand devices that fall silent together are judged in their time, whatever the disk needs to write that down.
//! What is told locally and what rules make of it does not wait either; the cloud hears of a move once it is stored.

use super::Engine;
use crate::{
    limits,
    model::{Boot, Receipt},
    store::Change,
};
use std::{collections::VecDeque, time::Duration};

/// How often it is looked whether the writer has taken what was handed in.
const AGAIN: Duration = Duration::from_millis(5);

/// Groups, each of which is one transaction.
#[derive(Debug, Default)]
pub(super) struct Late {
    groups: VecDeque<(Vec<Change>, Receipt)>,
    changes: usize,
}

impl Late {
    fn push(&mut self, changes: Vec<Change>, receipt: Receipt) {
        self.changes += changes.len();
        self.groups.push_back((changes, receipt));
    }

    fn pop(&mut self) -> Option<(Vec<Change>, Receipt)> {
        let group = self.groups.pop_front()?;
        self.changes -= group.0.len();
        Some(group)
    }

    /// Changes that may still wait.
    pub fn room(&self) -> usize {
        limits::MOVES_WAITING.saturating_sub(self.changes)
    }

    /// When the writer is to be looked after. `None`: nothing waits.
    pub fn due(&self, now: Boot) -> Option<Boot> {
        (!self.groups.is_empty()).then_some(now + AGAIN)
    }
}

impl Engine {
    /// What belongs together, behind whatever waits.
    pub(super) async fn hand_in(&mut self, changes: Vec<Change>, receipt: Receipt) {
        if changes.is_empty() || self.late.groups.is_empty() && self.is_taken_at_once(&changes) {
            return self.submit(changes, receipt).await;
        }
        while self.late.room() < changes.len() {
            let Some((changes, receipt)) = self.late.pop() else { break };
            self.submit(changes, receipt).await;
        }
        self.late.push(changes, receipt);
    }

    /// As much of it as the writer takes without waiting.
    pub(super) async fn hand_in_late(&mut self) {
        while self.late.groups.front().is_some_and(|(changes, _)| self.is_taken_at_once(changes)) {
            let Some((changes, receipt)) = self.late.pop() else { return };
            self.submit(changes, receipt).await;
        }
    }

    /// All of it, however long that takes.
    pub(super) async fn end_late(&mut self) {
        while let Some((changes, receipt)) = self.late.pop() {
            self.submit(changes, receipt).await;
        }
    }

    fn is_taken_at_once(&self, changes: &[Change]) -> bool {
        self.store.room() >= changes.len().min(limits::STORE_CHANGES)
    }
}

/// Where changes may be parted: an event stays with the change that it reports, which follows it.
pub(super) fn parting(changes: &[Change], most: usize) -> usize {
    let torn = |at: usize| matches!((&changes[at - 1], &changes[at]), (Change::Event(_), Change::Status(_)));
    (1..=most.min(changes.len() - 1)).rev().find(|at| !torn(*at)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, DeviceId, DeviceStatus, Event, EventKind, State};

    #[test]
    fn an_event_is_not_parted_from_its_change() {
        let device = DeviceId::parse("d").unwrap();
        let event = || Change::Event(Event { at: Boot(0), kind: EventKind::Registered { device: device.clone(), via: String::new() } });
        let (state, cause) = (State::Offline, Some(Cause::Silent));
        let row =
            || Change::Status(DeviceStatus { device: device.clone(), line: None, state, cause, since: Boot(0), evidence: None, missed: 0 });
        let pairs = [event(), row(), event(), row(), event(), row()];
        let check = |changes: &[Change], most, want| assert_eq!(parting(changes, most), want, "{changes:?}");
        check(&pairs, 4, 4);
        check(&pairs, 3, 2);
        check(&[event(), event(), row(), event(), row()], 4, 3);
        check(&[row(), row(), row()], 2, 2);
        check(&[event(), row()], 1, 1);
    }
}
