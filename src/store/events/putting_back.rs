//! One message that the broker refused: looked at again, or given back to be sent once more.

use super::{EventQueue, OutgoingEvents};
use crate::model::{Key, UplinkIndex};
use std::sync::Arc;

impl EventQueue {
    /// What is in flight to this uplink under that number.
    pub fn in_flight(&self, u: UplinkIndex, key: Key) -> Option<OutgoingEvents> {
        let inner = self.lock();
        let message = inner.lanes.get(usize::from(u.0))?.in_flight.values().find(|m| m.key == key)?;
        Some(OutgoingEvents { key, events: Arc::clone(&message.events), boot: message.boot })
    }

    /// It is sent again in its order.
    pub fn put_back(&self, u: UplinkIndex, key: Key) {
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get_mut(usize::from(u.0)) else { return };
        let Some(id) = lane.in_flight.iter().find(|(_, m)| m.key == key).map(|(id, _)| *id) else { return };
        if let Some(message) = lane.in_flight.remove(&id) {
            let at = lane.waiting.partition_point(|m| m.id < id);
            lane.waiting.insert(at, message);
        }
    }
}
