//! Devices that no configuration file names: messages registered them, under the policy of the route they came by.

use super::{Engine, setup};
use crate::{
    config::mqtt::Unknown,
    limits,
    model::{Boot, DeviceId, Event, EventKind, PUSHED},
    store::Change,
};
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Default)]
pub(super) struct Guests {
    list: BTreeMap<DeviceId, Guest>,
}

#[derive(Debug)]
struct Guest {
    quarantined: bool,
    /// It reports by HTTP and fetches its orders there.
    pushed: bool,
}

impl Guests {
    pub fn add(&mut self, device: &DeviceId, quarantined: bool, via: &str) {
        self.list.insert(device.clone(), Guest { quarantined, pushed: via == PUSHED });
    }

    pub fn is_pushed(&self, device: &DeviceId) -> bool {
        self.list.get(device).is_some_and(|g| g.pushed)
    }

    pub fn contains(&self, device: &DeviceId) -> bool {
        self.list.contains_key(device)
    }

    pub fn is_quarantined(&self, device: &DeviceId) -> bool {
        self.list.get(device).is_some_and(|g| g.quarantined)
    }

    pub fn quarantined(&self) -> impl Iterator<Item = &DeviceId> {
        self.list.iter().filter(|(_, g)| g.quarantined).map(|(id, _)| id)
    }
}

impl Engine {
    /// Makes sure that the device is known, by its route's policy. Gives what is to be stored for that (nothing for a
    /// device that is known), or says why it is refused.
    pub(super) fn welcome(&mut self, device: &DeviceId, via: &str, allowed: Option<Duration>, at: Boot) -> Result<Vec<Change>, String> {
        if self.registry.contains(device) {
            self.allow_longer(device, allowed, at);
            return Ok(vec![]);
        }
        let Some((unknown, allowed_there)) = self.policy_of(via) else {
            return Err(format!("device {device} is unknown, and no route {via} says what to do with it"));
        };
        if unknown == Unknown::Refuse {
            let place = if via == PUSHED { "[api]".to_owned() } else { format!("mqtt.route.{via}") };
            return Err(format!("device {device} is unknown, and {place} refuses unknown devices"));
        }
        if self.guests.list.len() >= limits::REGISTERED_DEVICES {
            return Err(format!("{} devices have registered already; device {device} is one too many", limits::REGISTERED_DEVICES));
        }
        let quarantined = unknown == Unknown::Quarantine;
        let offline_after = allowed.or(allowed_there);
        self.guests.add(device, quarantined, via);
        self.registry.watch(at, device, setup::guest_watch(via, offline_after), None);
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
        let Some(allowed) = allowed.filter(|_| self.guests.contains(device)) else { return };
        if self.registry.watch_of(device).is_some_and(|w| w.offline_after.is_none_or(|now| now < allowed)) {
            let via = if self.guests.is_pushed(device) { PUSHED } else { "" };
            self.registry.watch(at, device, setup::guest_watch(via, Some(allowed)), None);
        }
    }

    /// The silence that a route allows its devices.
    pub(super) fn allowed_by(&self, via: &str) -> Option<Duration> {
        self.policy_of(via).and_then(|(_, allowed)| allowed)
    }

    /// What the way by which a device speaks says of unknown ones, and the silence that it allows. `None`: it is not in the
    /// configuration.
    pub(super) fn policy_of(&self, via: &str) -> Option<(Unknown, Option<Duration>)> {
        if via == PUSHED {
            return self.config.api.as_ref().map(|api| (api.unknown, Some(api.offline_after)));
        }
        let routes = self.config.mqtt.iter().flat_map(|m| &m.routes);
        routes.into_iter().find(|r| r.id.as_str() == via).map(|r| (r.unknown, r.offline_after))
    }
}
