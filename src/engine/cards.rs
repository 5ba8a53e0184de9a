//! The device list that the cloud gets at birth and on change.

use super::Engine;
use crate::{
    config::Point,
    limits,
    model::{DeviceCard, DeviceId, DeviceStatus, PointCard, PointId, Value},
};
use std::{sync::Arc, time::Duration};

/// Changes of the list are told together, so that a line with a hundred devices is one message and not a hundred.
pub(super) const CARDS_EVERY: Duration = Duration::from_millis(200);
/// And the longer it is, the longer it may wait: it is made and sent anew as a whole. Ten thousand devices: every ten seconds.
const CARD_EVERY: Duration = Duration::from_millis(1);

/// The list while it is made, some devices in each turn of the engine.
#[derive(Debug, Default)]
pub(super) struct Listing {
    cards: Vec<DeviceCard>,
    /// The last one that it has.
    last: Option<DeviceId>,
}

impl Engine {
    /// Something that the list shows has changed.
    pub(super) fn cards_changed(&mut self) {
        let now = self.clock.now();
        let long = CARD_EVERY * u32::try_from(self.registry.count()).unwrap_or(u32::MAX);
        self.duties.cards.get_or_insert(now + CARDS_EVERY.max(long));
    }

    /// At once, as a whole.
    pub(super) fn publish_cards(&mut self) {
        self.listing = None;
        self.list_cards();
        while self.listing.is_some() {
            self.list_cards();
        }
    }

    /// The next part of it; with the last one it is told. What changes meanwhile is in the list that follows.
    pub(super) fn list_cards(&mut self) {
        if self.listing.is_none() {
            self.duties.cards = None;
        }
        let Listing { mut cards, last } = self.listing.take().unwrap_or_default();
        let part: Vec<DeviceStatus> = self.registry.statuses_after(last.as_ref()).take(limits::CARDS_TURN).collect();
        let last = part.last().map(|status| status.device.clone()).filter(|_| part.len() == limits::CARDS_TURN);
        let known = part.into_iter().filter(|status| !self.guests.is_quarantined(&status.device));
        cards.extend(known.map(|status| self.card(status)));
        if last.is_some() {
            self.listing = Some(Listing { cards, last });
        } else {
            self.cards.send_replace(Arc::new(cards));
        }
    }

    pub(super) fn device_cards(&self) -> Vec<DeviceCard> {
        self.registry.statuses().map(|status| self.card(status)).collect()
    }

    pub(super) fn card(&self, status: DeviceStatus) -> DeviceCard {
        if let Ok(n) = self.config.framed.binary_search_by(|d| d.id.cmp(&status.device)) {
            let points = self.config.framed[n].points.iter().map(|p| PointCard {
                id: p.id.clone(),
                unit: p.unit.clone(),
                kind: p.kind.word(),
                writable: p.write.is_some(),
            });
            let points = points.chain(self.computed_of(&status.device)).collect();
            return DeviceCard { status, profile: None, points };
        }
        let Ok(n) = self.config.devices.binary_search_by(|d| d.id.cmp(&status.device)) else {
            let seat = self.registry.seat(&status.device);
            let points = seat.map_or_else(Arc::default, |seat| self.latest.shown(seat));
            return DeviceCard { status, profile: None, points };
        };
        let device = &self.config.devices[n];
        let points = match self.discovered.get(&device.id) {
            Some(points) => {
                let own = points.iter().cloned().chain(increases(&device.points));
                own.chain(self.computed_of(&device.id)).collect()
            }
            None if self.computed.contains_key(&device.id) => self.shown[n].iter().cloned().chain(self.computed_of(&device.id)).collect(),
            None => Arc::clone(&self.shown[n]),
        };
        DeviceCard { status, profile: device.profile.clone(), points }
    }

    fn computed_of(&self, device: &DeviceId) -> impl Iterator<Item = PointCard> + '_ {
        self.computed.get(device).into_iter().flatten().cloned()
    }

    /// The last value of each point that has one, in the order of its card. `None`: no such device.
    pub(super) fn values(&self, device: &DeviceId) -> Option<Vec<(PointId, Value)>> {
        let card = self.card(self.registry.status(device)?);
        let latest = self.latest.of(self.registry.seat(device)?);
        Some(card.points.iter().filter_map(|p| Some((p.id.clone(), latest.get(&p.id)?.1.clone()))).collect())
    }
}

/// What is shown of a device's points.
pub(super) fn shown(points: &[Point]) -> Arc<[PointCard]> {
    let card = |p: &Point| PointCard { id: p.id.clone(), unit: p.unit.clone(), kind: p.kind.word(), writable: p.write.is_some() };
    points.iter().map(card).chain(increases(points)).collect()
}

/// The points of the increases of its counters. They are computed here, so they have no type on the wire.
fn increases(points: &[Point]) -> impl Iterator<Item = PointCard> {
    points.iter().filter_map(|p| Some(PointCard { id: p.delta_id()?, unit: p.unit.clone(), kind: "", writable: false }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Counter, DataType, Register, Table};

    #[test]
    fn the_increase_of_a_counter_has_a_card_of_its_own() {
        let point = |name: &str, counter| {
            let register = Register { table: Table::Input, address: 0 };
            Point { unit: "kWh".into(), counter, ..Point::new(PointId::parse(name).unwrap(), register, DataType::U32) }
        };
        let told = Counter { delta: true, ..Counter::default() };
        let points = vec![point("energy", Some(told)), point("silent", Some(Counter::default())), point("plain", None)];
        let cards: Vec<PointCard> = increases(&points).collect();
        assert_eq!(cards.len(), 1);
        assert_eq!((cards[0].id.as_str(), cards[0].unit.as_str(), cards[0].writable), ("energy_delta", "kWh", false));
    }
}
