//! Devices that no configuration file names: messages registered them, under the policy of the route they came by.

use super::{
    Engine,
    setup::{self, Way},
};
use crate::{
    config::{Config, mqtt::Unknown},
    limits,
    model::{Boot, DeviceId, Event, EventKind, PUSHED, RouteId},
    store::Change,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

#[derive(Debug, Default)]
pub(super) struct Guests {
    list: BTreeMap<DeviceId, Guest>,
    /// Few or none, so that it costs little to ask for each message.
    quarantined: BTreeSet<DeviceId>,
}

#[derive(Debug)]
struct Guest {
    /// `None`: the configuration does not name it any more, or it never came by one.
    via: Option<RouteId>,
    /// It reports by HTTP and fetches its orders there.
    pushed: bool,
}

impl Guests {
    pub fn add(&mut self, device: &DeviceId, quarantined: bool, way: Option<Way>) {
        let (via, pushed) = match way {
            Some(Way::Route(route)) => (Some(route.id.clone()), false),
            Some(Way::Pushed(_)) => (None, true),
            None => (None, false),
        };
        self.list.insert(device.clone(), Guest { via, pushed });
        if quarantined {
            self.quarantined.insert(device.clone());
        } else {
            self.quarantined.remove(device);
        }
    }

    pub fn is_pushed(&self, device: &DeviceId) -> bool {
        self.list.get(device).is_some_and(|g| g.pushed)
    }

    pub fn contains(&self, device: &DeviceId) -> bool {
        self.list.contains_key(device)
    }

    /// By which way it registered, if the configuration still knows it.
    pub fn way<'a>(&self, device: &DeviceId, config: &'a Config) -> Option<Way<'a>> {
        let guest = self.list.get(device)?;
        let via = if guest.pushed { PUSHED } else { guest.via.as_ref()?.as_str() };
        Way::find(config, via)
    }

    pub fn is_quarantined(&self, device: &DeviceId) -> bool {
        self.quarantined.contains(device)
    }

    pub fn quarantined(&self) -> impl Iterator<Item = &DeviceId> {
        self.quarantined.iter()
    }
}

impl Engine {
    /// Makes sure that the device is known, by its route's policy. Gives what is to be stored for that (nothing for a
    /// device that is known), or says why it is refused.
    pub(super) fn welcome(&mut self, device: &DeviceId, via: &str, allowed: Option<Duration>, at: Boot) -> Result<Vec<Change>, String> {
        if let Some(watch) = self.registry.watch_of(device) {
            if watch.is_shorter_than(allowed) {
                self.allow_longer(device, allowed, at);
            }
            return Ok(vec![]);
        }
        let config = std::sync::Arc::clone(&self.config);
        let Some(way) = Way::find(&config, via) else {
            return Err(format!("device {device} is unknown, and no route {via} says what to do with it"));
        };
        if way.unknown() == Unknown::Refuse {
            let place = if via == PUSHED { "[api]".to_owned() } else { format!("mqtt.route.{via}") };
            return Err(format!("device {device} is unknown, and {place} refuses unknown devices"));
        }
        if self.guests.list.len() >= limits::REGISTERED_DEVICES {
            return Err(format!("{} devices have registered already; device {device} is one too many", limits::REGISTERED_DEVICES));
        }
        let quarantined = way.unknown() == Unknown::Quarantine;
        let offline_after = allowed.or(way.offline_after());
        self.guests.add(device, quarantined, Some(way));
        self.registry.watch(at, device, setup::guest_watch(offline_after, Some(way), &config.watch), None);
        self.cards_changed();
        tracing::info!(%device, via, quarantined, "device registered");
        let row = Change::Registered { device: device.clone(), via: via.to_owned(), offline_after, quarantined, at };
        let told = EventKind::Registered { device: device.clone(), via: via.to_owned() };
        let mut changes = vec![row, Change::Event(Event { at, kind: told })];
        if let Some(status) = self.registry.status(device) {
            self.tell_local(&status);
            changes.push(Change::Status(status));
        }
        Ok(changes)
    }

    /// A device may speak by several routes; the most patient one counts.
    fn allow_longer(&mut self, device: &DeviceId, allowed: Option<Duration>, at: Boot) {
        if self.guests.contains(device) {
            let config = std::sync::Arc::clone(&self.config);
            let way = self.guests.way(device, &config);
            self.registry.watch(at, device, setup::guest_watch(allowed, way, &config.watch), None);
        }
    }

    /// The silence that a route allows its devices.
    pub(super) fn allowed_by(&self, via: &str) -> Option<Duration> {
        Way::find(&self.config, via).and_then(Way::offline_after)
    }
}
