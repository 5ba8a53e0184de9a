//! The device list that the cloud gets at birth and on change.

use super::Engine;
use crate::{
    config::Device,
    model::{DeviceCard, DeviceStatus, PointCard, PointId},
};
use std::{sync::Arc, time::Duration};

/// Changes of the list are told together, so that a line with a hundred devices is one message and not a hundred.
pub(super) const CARDS_EVERY: Duration = Duration::from_millis(200);

impl Engine {
    /// Something that the list shows has changed.
    pub(super) fn cards_changed(&mut self) {
        let now = self.clock.now();
        self.duties.cards.get_or_insert(now + CARDS_EVERY);
    }

    pub(super) fn publish_cards(&mut self) {
        self.duties.cards = None;
        let known = self.device_cards().into_iter().filter(|c| !self.guests.is_quarantined(&c.status.device));
        self.cards.send_replace(Arc::new(known.collect()));
    }

    pub(super) fn device_cards(&self) -> Vec<DeviceCard> {
        self.registry.statuses().map(|status| self.card(status)).collect()
    }

    fn card(&self, status: DeviceStatus) -> DeviceCard {
        let latest = self.latest.of(&status.device);
        let value = |point: &PointId| latest.get(point).map(|(at, v)| (*at, (*v).clone()));
        if let Ok(n) = self.config.framed.binary_search_by(|d| d.id.cmp(&status.device)) {
            let points = self.config.framed[n].points.iter().map(|p| PointCard {
                id: p.id.clone(),
                unit: p.unit.clone(),
                kind: p.kind.word().to_owned(),
                writable: p.write.is_some(),
                latest: value(&p.id),
            });
            let points = points.collect();
            return DeviceCard { status, profile: None, points };
        }
        let Ok(n) = self.config.devices.binary_search_by(|d| d.id.cmp(&status.device)) else {
            let points = latest.keys().map(|p| PointCard {
                id: (*p).clone(),
                unit: String::new(),
                kind: String::new(),
                writable: false,
                latest: value(p),
            });
            let points = points.collect();
            return DeviceCard { status, profile: None, points };
        };
        let device = &self.config.devices[n];
        let increases = increases(device).map(|p| PointCard { latest: value(&p.id), ..p });
        if let Some(points) = self.discovered.get(&device.id) {
            let points = points.iter().map(|p| PointCard { latest: value(&p.id), ..p.clone() }).chain(increases).collect();
            return DeviceCard { status, profile: device.profile.clone(), points };
        }
        let points = device.points.iter().map(|p| PointCard {
            id: p.id.clone(),
            unit: p.unit.clone(),
            kind: p.kind.word().to_owned(),
            writable: p.write.is_some(),
            latest: value(&p.id),
        });
        let points = points.chain(increases).collect();
        DeviceCard { status, profile: device.profile.clone(), points }
    }
}

/// The points of the increases of its counters. They are computed here, so they have no type on the wire.
fn increases(device: &Device) -> impl Iterator<Item = PointCard> {
    let card = |id, unit: &str| PointCard { id, unit: unit.to_owned(), kind: String::new(), writable: false, latest: None };
    device.points.iter().filter_map(move |p| Some(card(p.delta_id()?, &p.unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Counter, DataType, Point, Register, Table},
        model::{DeviceId, LineId},
    };

    #[test]
    fn the_increase_of_a_counter_has_a_card_of_its_own() {
        let point = |name: &str, counter| {
            let register = Register { table: Table::Input, address: 0 };
            Point { unit: "kWh".into(), counter, ..Point::new(PointId::parse(name).unwrap(), register, DataType::U32) }
        };
        let told = Counter { delta: true, ..Counter::default() };
        let points = vec![point("energy", Some(told)), point("silent", Some(Counter::default())), point("plain", None)];
        let device = Device { points, ..Device::new(DeviceId::parse("meter").unwrap(), LineId::parse("bus").unwrap(), 1) };
        let cards: Vec<PointCard> = increases(&device).collect();
        assert_eq!(cards.len(), 1);
        assert_eq!((cards[0].id.as_str(), cards[0].unit.as_str(), cards[0].writable), ("energy_delta", "kWh", false));
    }
}
