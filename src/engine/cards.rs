//! The device list that the cloud gets at birth and on change.

use super::Engine;
use crate::model::{DeviceCard, DeviceStatus, PointCard, PointId};
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
        let points = device.points.iter().map(|p| PointCard {
            id: p.id.clone(),
            unit: p.unit.clone(),
            kind: p.kind.word().to_owned(),
            writable: p.write.is_some(),
            latest: value(&p.id),
        });
        let points = points.collect();
        DeviceCard { status, profile: device.profile.clone(), points }
    }
}
