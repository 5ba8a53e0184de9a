//! Uplinks that go and come, as events: kept here, shown here, and told the cloud when it is back.

use super::Engine;
use crate::{
    logic::links::Told,
    model::{Boot, Event, EventKind, Receipt},
    store::Change,
};

impl Engine {
    /// Once a second: an outage that is shorter is seen by its moment.
    pub(super) async fn look_at_links(&mut self, now: Boot) {
        let mut changes = Vec::new();
        for ((uplink, figures), link) in self.uplinks.iter().zip(&mut self.links) {
            let Some(told) = link.see(&figures.borrow(), now) else { continue };
            let Told { state, reason, down_for, changes: often, at } = told;
            let down_for_ms = down_for.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
            let kind = EventKind::Uplink { uplink: uplink.clone(), state, reason, down_for_ms, changes: often };
            changes.push(Change::Event(Event { at, kind }));
        }
        if !changes.is_empty() {
            self.submit(changes, Receipt::none()).await;
        }
    }
}
