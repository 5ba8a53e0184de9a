//! What is kept of devices beside their state: maintenance, and what they say of themselves.

use super::{Engine, alarms::answered, setup::Way};
use crate::{
    config::Route,
    limits,
    logic::registry::Effect,
    model::{Boot, BootIndex, DeviceId, Event, EventKind, LocalMessage, Maintenance, PointId, Receipt, Value},
    store::{Change, Restored},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// With the boot whose clock its moments are on.
    maintenance: BTreeMap<DeviceId, (Maintenance, BootIndex)>,
    boot: Option<BootIndex>,
    said: BTreeMap<DeviceId, Said>,
    /// Devices with something to be written, and when it may be.
    waiting: BTreeSet<(Boot, DeviceId)>,
}

#[derive(Debug, Default)]
struct Said {
    now: BTreeMap<PointId, String>,
    /// Not written yet.
    next: BTreeMap<PointId, Option<String>>,
    written: Option<Boot>,
}

/// What somebody wants of a device's maintenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Maintain {
    pub device: DeviceId,
    /// `false`: it is to be judged again.
    pub on: bool,
    /// `None`: until somebody ends it.
    pub lasts: Option<Duration>,
    pub by: String,
    pub reason: String,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaintainError {
    #[error("there is no device {0} here")]
    Unknown(DeviceId),
    #[error("the disk does not take it, so it would not outlive a restart; fieldgate status says what is wrong")]
    NotStored,
    #[error("the daemon is stopping")]
    Stopping,
}

/// The answer, once it is durable: how it is now. `None`: the device is judged.
pub(super) type Maintained = oneshot::Sender<Result<Option<Maintenance>, MaintainError>>;

impl Upkeep {
    pub fn due(&self) -> Option<Boot> {
        self.waiting.first().map(|(at, _)| *at)
    }

    pub fn maintenance(&self) -> impl Iterator<Item = &Maintenance> {
        self.maintenance.values().map(|(m, _)| m)
    }
}

impl Said {
    /// Whether it never said something of that name before: that may not happen often, as only so many names are kept.
    fn remember(&mut self, values: BTreeMap<PointId, Option<String>>) -> bool {
        let mut is_new = false;
        for (name, value) in values {
            let known = self.now.contains_key(&name) || self.next.contains_key(&name);
            if !known && self.now.len() + self.next.len() >= limits::ATTRIBUTES {
                continue;
            }
            is_new |= !known && value.is_some();
            let value = value.map(|text| cut(text, limits::ATTRIBUTE_BYTES));
            if self.now.get(&name) == value.as_ref() {
                self.next.remove(&name);
            } else {
                self.next.insert(name, value);
            }
        }
        is_new
    }

    fn written(&mut self, at: Boot) -> BTreeMap<PointId, Option<String>> {
        self.written = Some(at);
        let news = std::mem::take(&mut self.next);
        for (name, value) in &news {
            match value {
                Some(value) => drop(self.now.insert(name.clone(), value.clone())),
                None => drop(self.now.remove(name)),
            }
        }
        news
    }
}

impl Engine {
    /// After the devices: what is remembered of them. Gives what is to be stored.
    pub(super) fn restore_upkeep(&mut self, restored: &Restored, now: Boot) -> Vec<Change> {
        let mut changes = Vec::new();
        self.upkeep.boot = Some(restored.boot);
        for row in &restored.attributes {
            self.upkeep.said.entry(row.device.clone()).or_default().now.insert(row.name.clone(), row.value.clone());
        }
        changes.extend(self.restore_rules(restored, now));
        changes.extend(self.restore_alarms(restored, now));
        for row in &restored.maintenance {
            let device = row.is.device.clone();
            if self.registry.contains(&device) {
                self.upkeep.maintenance.insert(device, (row.is.clone(), row.boot));
            } else {
                changes.push(Change::Maintenance { device, is: None });
            }
        }
        self.settle_maintenance(now);
        // The cloud knows it since it began. An alarm that is over by it is news.
        for effect in std::mem::take(&mut self.moves) {
            if let Effect::Alarm(alarm) = effect {
                changes.extend(self.alarm(alarm));
            }
        }
        self.show_rules(now);
        changes
    }

    /// When those of earlier boots end on this boot's clock, as well as that is known today.
    pub(super) fn settle_maintenance(&mut self, now: Boot) {
        let (here, _) = self.store.clock();
        for (device, (m, boot)) in &self.upkeep.maintenance {
            let until = match m.until {
                Some(until) if self.upkeep.boot != Some(*boot) => {
                    let left = self.store.clock_of(*boot).wall(until).0.saturating_sub(here.wall(now).0);
                    // A clock that is far behind must not make it longer than it was meant.
                    Some(now + Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(until - m.since))
                }
                until => until,
            };
            self.registry.maintain(device, until, now, &mut self.moves);
        }
    }

    /// A moment of an earlier boot, as well as that is known today; never later than now.
    pub(super) fn on_our_clock(&self, at: Boot, boot: BootIndex, now: Boot) -> Boot {
        if self.upkeep.boot == Some(boot) {
            return at.min(now);
        }
        let (here, _) = self.store.clock();
        let ago = here.wall(now).0.saturating_sub(self.store.clock_of(boot).wall(at).0);
        now.saturating_sub(Duration::from_millis(u64::try_from(ago).unwrap_or(0)))
    }

    pub(super) async fn maintain(&mut self, asked: Maintain, answer: Maintained) {
        match self.maintain_now(asked) {
            Ok((changes, is)) => self.carry_moves(changes, answered(answer, is, MaintainError::NotStored)).await,
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// What is to be stored for it, beside the moves; and how it is now.
    pub(super) fn maintain_now(&mut self, asked: Maintain) -> Result<(Vec<Change>, Option<Maintenance>), MaintainError> {
        let now = self.clock.now();
        let Maintain { device, on, lasts, by, reason } = asked;
        if !self.registry.contains(&device) {
            return Err(MaintainError::Unknown(device));
        }
        let (by, reason) = (cut(by, limits::MAINTENANCE_TEXT), cut(reason, limits::MAINTENANCE_TEXT));
        let mut changes = Vec::new();
        let mut is = None;
        if on {
            let since =
                self.upkeep.maintenance.get(&device).filter(|(_, boot)| self.upkeep.boot == Some(*boot)).map_or(now, |(m, _)| m.since);
            let m = Maintenance { device: device.clone(), by, reason, since, until: lasts.map(|lasts| now + lasts) };
            tracing::info!(%device, by = %m.by, reason = %m.reason, lasts_s = lasts.map(|l| l.as_secs()), "device in maintenance");
            self.registry.maintain(&device, m.until, now, &mut self.moves);
            changes.extend(self.maintenance_changes(&device, Some(&m), &m.by, &m.reason, now));
            self.upkeep.maintenance.insert(device, (m.clone(), self.upkeep.boot.unwrap_or(BootIndex(0))));
            is = Some(m);
        } else if self.upkeep.maintenance.remove(&device).is_some() {
            tracing::info!(%device, %by, %reason, "maintenance ended");
            self.registry.resume(&device, now, &mut self.moves);
            changes.extend(self.maintenance_changes(&device, None, &by, &reason, now));
        }
        Ok((changes, is))
    }

    fn maintenance_changes(&self, device: &DeviceId, is: Option<&Maintenance>, by: &str, reason: &str, at: Boot) -> Vec<Change> {
        let until = is.and_then(|m| m.until);
        let kind = EventKind::Maintenance { device: device.clone(), on: is.is_some(), until, by: by.into(), reason: reason.into() };
        let told = (!self.guests.is_quarantined(device)).then_some(Change::Event(Event { at, kind }));
        [Change::Maintenance { device: device.clone(), is: is.cloned() }].into_iter().chain(told).collect()
    }

    /// Its time was over by itself.
    pub(super) fn maintenance_over(&mut self, device: &DeviceId, at: Boot) -> Vec<Change> {
        let Some((m, _)) = self.upkeep.maintenance.remove(device) else { return Vec::new() };
        tracing::info!(%device, by = %m.by, "maintenance is over");
        self.maintenance_changes(device, None, &m.by, "its time is over", at)
    }

    /// Asks a silent device by its route whether it is there.
    pub(super) fn ping(&self, device: &DeviceId) {
        let (Some(Way::Route(Route { ping: Some(ping), .. })), Some(tell)) = (self.guests.way(device, &self.config), &self.ping_mqtt)
        else {
            return;
        };
        let topic = ping.topic.replace("{device}", device.as_str());
        // Nobody there: then it is silent, which is what is to be found out.
        let _told = tell(LocalMessage { topic, body: ping.payload.clone().into_bytes(), retain: false });
    }

    /// What of it is news is written: the first of each name at once, word by word or in one message. What changes too often waits,
    /// and its receipt does not: the device says it again.
    pub(super) async fn on_attributes(&mut self, device: DeviceId, values: BTreeMap<PointId, Option<String>>, at: Boot, receipt: Receipt) {
        // Refused: its status has become a dead letter with the reason.
        if !self.registry.contains(&device) {
            return receipt.keep();
        }
        let now = self.clock.now();
        let said = self.upkeep.said.entry(device.clone()).or_default();
        let is_new = said.remember(values);
        if said.next.is_empty() {
            return receipt.keep();
        }
        match said.written.map(|at| (at + limits::ATTRIBUTES_EVERY, device.clone())).filter(|(due, _)| *due > now) {
            Some(turn) if !is_new => {
                self.upkeep.waiting.insert(turn);
                receipt.keep();
            }
            turn => {
                // What waits of it goes along.
                turn.map(|turn| self.upkeep.waiting.remove(&turn));
                let changes = self.attribute_changes(&device, at);
                self.submit(changes, receipt).await;
            }
        }
    }

    pub(super) async fn write_attributes(&mut self, now: Boot) {
        let mut changes = Vec::new();
        while self.upkeep.due().is_some_and(|at| at <= now) && changes.len() < limits::STORE_GROUP {
            let Some((_, device)) = self.upkeep.waiting.pop_first() else { break };
            changes.extend(self.attribute_changes(&device, now));
        }
        if !changes.is_empty() {
            self.submit(changes, Receipt::none()).await;
        }
    }

    /// What is known of it beside its values; `names` empty: all.
    pub(super) fn attributes_of(&self, device: &DeviceId, names: &[PointId]) -> Result<BTreeMap<PointId, Value>, String> {
        if !self.registry.contains(device) {
            return Err(MaintainError::Unknown(device.clone()).to_string());
        }
        let Some(said) = self.upkeep.said.get(device) else { return Ok(BTreeMap::new()) };
        let mut now: BTreeMap<&PointId, &String> = said.now.iter().collect();
        for (name, value) in &said.next {
            match value {
                Some(value) => drop(now.insert(name, value)),
                None => drop(now.remove(name)),
            }
        }
        let wanted = |name: &PointId| names.is_empty() || names.contains(name);
        Ok(now.into_iter().filter(|(name, _)| wanted(name)).map(|(n, v)| (n.clone(), Value::Text(v.as_str().into()))).collect())
    }

    /// What somebody says of a device: kept and told with what it says itself, and replaced when it says otherwise.
    pub(super) fn set_attributes(
        &mut self,
        device: &DeviceId,
        values: BTreeMap<PointId, Option<String>>,
        now: Boot,
    ) -> Result<Vec<Change>, String> {
        if !self.registry.contains(device) {
            return Err(MaintainError::Unknown(device.clone()).to_string());
        }
        let said = self.upkeep.said.entry(device.clone()).or_default();
        let is_known = |name: &PointId| said.now.contains_key(name) || said.next.contains_key(name);
        let more = values.iter().filter(|(name, value)| value.is_some() && !is_known(name)).count();
        if said.now.len() + said.next.len() + more > limits::ATTRIBUTES {
            return Err(format!("{device} has at most {} attributes; take some away first", limits::ATTRIBUTES));
        }
        if let Some((name, _)) = values.iter().find(|(_, v)| v.as_ref().is_some_and(|text| text.len() > limits::ATTRIBUTE_BYTES)) {
            return Err(format!("{name} is longer than {} bytes", limits::ATTRIBUTE_BYTES));
        }
        said.remember(values);
        Ok(self.attribute_changes(device, now))
    }

    fn attribute_changes(&mut self, device: &DeviceId, at: Boot) -> Vec<Change> {
        let Some(said) = self.upkeep.said.get_mut(device) else { return Vec::new() };
        let values = said.written(at);
        if values.is_empty() {
            return Vec::new();
        }
        let kind = EventKind::Changed { device: device.clone(), attributes: values.clone() };
        let told = (!self.guests.is_quarantined(device)).then_some(Change::Event(Event { at, kind }));
        [Change::Attributes { device: device.clone(), values, at }].into_iter().chain(told).collect()
    }
}

/// At a character's edge.
pub(super) fn cut(mut text: String, most: usize) -> String {
    text.truncate((0..=most.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0));
    text
}
