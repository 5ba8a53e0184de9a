//! Changes that the disk refused: the registry and the command lanes have moved on, so nobody would report them again.
//!
//! They are handed in again every second until they are stored. An event says when it happened, so a later number does no
//! harm; of a device only the present row counts.

use super::Engine;
use crate::{
    limits,
    model::{Boot, EventKind, Receipt},
    store::Change,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const AGAIN: Duration = Duration::from_secs(1);

/// Shared with the writer's thread, which puts back what it could not write.
#[derive(Debug, Clone, Default)]
pub(super) struct Unstored {
    list: Arc<Mutex<VecDeque<Change>>>,
}

impl Unstored {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Full: the oldest goes, but the ends of commands stay as long as there is something else.
    pub fn put(&self, changes: Vec<Change>) {
        let mut list = self.lock();
        for change in changes {
            if list.len() >= limits::UNSTORED {
                let n = list.iter().position(|c| !is_end(c)).unwrap_or(0);
                list.remove(n);
            }
            list.push_back(change);
        }
    }

    fn take(&self) -> Vec<Change> {
        let mut list = self.lock();
        let n = list.len().min(limits::STORE_GROUP);
        list.drain(..n).collect()
    }
}

/// What is worth keeping of changes that are handed in. A publisher who waits brings his own letter again.
pub(super) fn worth_keeping(changes: &[Change], is_awaited: bool) -> Vec<Change> {
    let fleeting = |c: &Change| match c {
        Change::DeadLetter(_) => is_awaited,
        Change::Event(event) => matches!(event.kind, EventKind::Progress { .. }),
        _ => false,
    };
    changes.iter().filter(|c| !fleeting(c)).cloned().collect()
}

fn is_end(change: &Change) -> bool {
    match change {
        Change::CommandDone { .. } => true,
        Change::Event(event) => matches!(event.kind, EventKind::Command { .. }),
        _ => false,
    }
}

impl Engine {
    /// Hands in again what the disk refused, if it is time.
    pub(super) async fn store_again(&mut self, now: Boot) {
        if now < self.duties.again {
            return;
        }
        self.duties.again = self.clock.now() + AGAIN;
        let mut seen = BTreeSet::new();
        let mut changes = self.unstored.take();
        // The newest row first, so that each device is written once, as it stands now.
        changes.reverse();
        changes.retain_mut(|change| match change {
            Change::Status(status) => {
                if let Some(now) = self.registry.status(&status.device) {
                    *status = now;
                }
                seen.insert(status.device.clone())
            }
            // A later memory of the rule may be stored already.
            Change::Rule { id, memory, .. } => {
                if let Some(now) = self.rules.remembered(id) {
                    *memory = now.clone();
                }
                true
            }
            _ => true,
        });
        changes.reverse();
        self.submit(changes, Receipt::none()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommandId, DeviceId, Event, Outcome, Phase};

    #[test]
    fn at_the_limit_the_ends_of_commands_stay() {
        let (id, device) = (CommandId::parse("c").unwrap(), DeviceId::parse("d").unwrap());
        let outcome = Outcome::new(Phase::Confirmed, "");
        let end = Change::CommandDone { id, device: device.clone(), outcome, at: Boot(0) };
        let other = |n| Change::Event(Event { at: Boot(n), kind: EventKind::Registered { device: device.clone(), via: String::new() } });
        let unstored = Unstored::default();
        unstored.put(vec![end.clone()]);
        unstored.put((0..limits::UNSTORED as u64).map(other).collect());
        assert_eq!(unstored.lock().len(), limits::UNSTORED);
        assert_eq!(unstored.take()[..2], [end, other(1)]);
    }
}
