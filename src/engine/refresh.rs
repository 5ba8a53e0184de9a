//! Carries the refreshes of watchdog set-points to their lines, and says when one stops.

use super::Engine;
use crate::{
    config::Config,
    logic::{
        links::Link,
        refresh::{Refreshes, Rule, Stopped},
    },
    model::{Boot, Event, EventKind, Phase, Receipt, UplinkFigures, UplinkId, UplinkState, WriteDone},
    store::Change,
};
use tokio::sync::watch;

pub(super) fn refreshes(config: &Config) -> Refreshes {
    let points = config.devices.iter().flat_map(|d| d.points.iter().map(move |p| (d, p)));
    let rules = points.filter_map(|(device, point)| {
        let refresh = point.write.as_ref()?.refresh?;
        let rule = Rule { every: refresh.every, lasts: refresh.lasts, stop: refresh.stop };
        Some(((device.id.clone(), point.id.clone()), rule))
    });
    Refreshes::new(rules.collect())
}

/// `from`: who commanded, as `uplink cloud`.
fn down_since(uplinks: &[(UplinkId, watch::Receiver<UplinkFigures>)], from: &str) -> Option<Boot> {
    let from = from.strip_prefix("uplink ")?;
    let figures = uplinks.iter().find(|(id, _)| id.as_str() == from)?.1.borrow();
    matches!(figures.state, UplinkState::Down | UplinkState::Unknown).then_some(figures.since)
}

impl Engine {
    /// The state of an uplink decides how long values that it commanded are written again, and its changes are told.
    #[must_use]
    pub fn watching(self, uplinks: &[(UplinkId, watch::Receiver<UplinkFigures>)]) -> Engine {
        Engine { uplinks: uplinks.to_vec(), links: vec![Link::default(); uplinks.len()], ..self }
    }

    pub(super) async fn refresh(&mut self) {
        let now = self.clock.now();
        if self.refreshes.next_due().is_none() {
            return;
        }
        let mut stopped = Vec::new();
        for order in self.refreshes.tick(now, |from| down_since(&self.uplinks, from), &mut stopped) {
            let id = order.id.clone();
            let bounced = self.port_of(&order.device).is_none_or(|port| port(order).is_err());
            if bounced {
                self.refreshes.done(&id);
            }
        }
        let changes: Vec<Change> = stopped.into_iter().map(|s| self.refresh_stopped(s)).collect();
        if !changes.is_empty() {
            self.submit(changes, Receipt::none()).await;
        }
    }

    pub(super) fn refresh_stopped(&self, stopped: Stopped) -> Change {
        let Stopped { device, point, reason } = stopped;
        tracing::warn!(%device, %point, reason, "its value is not written again any more; the device's own fail-safe acts");
        Change::Event(Event { at: self.clock.now(), kind: EventKind::RefreshStopped { device, point, reason } })
    }

    /// Whether it was one of our own orders. The next one follows at its time in any case.
    pub(super) fn refreshed(&mut self, done: &WriteDone) -> bool {
        let ours = self.refreshes.done(&done.id);
        if ours && done.outcome.phase != Phase::Confirmed {
            tracing::warn!(device = %done.device, phase = done.outcome.phase.word(), reason = %done.outcome.reason, "a refresh was not confirmed");
        }
        ours
    }
}
