//! One message that the broker refused: looked at again, or given back to be sent once more.

use super::{EventQueue, OutgoingEvents};
use crate::model::Key;
use std::sync::Arc;

impl EventQueue {
    /// What is in flight under that number.
    pub fn in_flight(&self, key: Key) -> Option<OutgoingEvents> {
        let inner = self.lock();
        let message = inner.in_flight.values().find(|m| m.key == key)?;
        Some(OutgoingEvents { key, events: Arc::clone(&message.events), boot: message.boot })
    }

    /// It is sent again in its order.
    pub fn put_back(&self, key: Key) {
        let mut inner = self.lock();
        let Some(id) = inner.in_flight.iter().find(|(_, m)| m.key == key).map(|(id, _)| *id) else { return };
        if let Some(message) = inner.in_flight.remove(&id) {
            let at = inner.waiting.partition_point(|m| m.id < id);
            inner.waiting.insert(at, message);
        }
    }
}
