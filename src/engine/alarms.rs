//! Alarms of devices and of rules: raised, seen by somebody, cleared, each with its event; and what of them outlived a
//! restart.

use super::Engine;
use crate::{
    limits,
    model::{Alarm, AlarmKind, AlarmName, Boot, Event, EventKind, Receipt, RuleAction, Settled},
    store::{Change, Restored},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// Those that are raised, with who has seen each.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    open: BTreeMap<AlarmName, (Alarm, Option<String>)>,
}

/// Why an alarm was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlarmError {
    #[error("{0} of {1} is not raised; fieldgate alarms lists what is")]
    NotRaised(String, String),
    #[error("the disk does not take it, so it would not outlive a restart; fieldgate status says what is wrong")]
    NotStored,
    #[error("the daemon is stopping")]
    Stopping,
}

/// The answer, once it is durable.
pub(super) type Seen = oneshot::Sender<Result<(), AlarmError>>;

impl Alarms {
    /// Of rules; those of devices show in their states.
    pub fn unseen(&self) -> usize {
        self.open.values().filter(|(alarm, by)| alarm.kind.is_of_rule() && by.is_none()).count()
    }
}

impl Engine {
    /// After the devices and the rules: what was raised before. Gives what is to be stored of those that nobody can clear
    /// any more.
    pub(super) fn restore_alarms(&mut self, restored: &Restored, now: Boot) -> Vec<Change> {
        let mut changes = Vec::new();
        for row in &restored.alarms {
            self.alarms.open.insert(row.is.name(), (row.is.clone(), row.by.clone()));
        }
        for row in &restored.alarms {
            let reason = match row.is.kind {
                AlarmKind::Flapping | AlarmKind::Offline if self.registry.contains(&row.is.device) => {
                    self.registry.remember(&row.is.device, row.is.kind, now);
                    continue;
                }
                AlarmKind::Flapping | AlarmKind::Offline => "the device is not configured any more",
                kind if self.stands_behind(&row.is, kind == AlarmKind::Paused) => continue,
                _ => "its rule is not as it was",
            };
            let over = Alarm { raised: false, at: now, reason: reason.to_owned(), ..row.is.clone() };
            changes.extend(self.alarm(over));
        }
        changes
    }

    /// Whether the rule of an alarm would raise it again if it were not raised.
    fn stands_behind(&self, alarm: &Alarm, paused: bool) -> bool {
        let Some(rule) = self.config.rules.iter().position(|r| Some(&r.id) == alarm.rule.as_ref()) else { return false };
        let Some((_, memory)) = self.rules.memory(rule) else { return false };
        let raises = self.config.rules[rule].actions.iter().any(|a| matches!(a, RuleAction::Alarm { .. }));
        let about = self.rules.about(rule).is_some_and(|(device, _)| *device == alarm.device);
        about && if paused { memory.off.is_some() } else { raises && memory.fired }
    }

    /// An alarm is raised or over.
    pub(super) fn alarm(&mut self, alarm: Alarm) -> Vec<Change> {
        let Alarm { device, kind, raised, reason, severity, .. } = &alarm;
        let name = alarm.name();
        // A rule does not know whether its alarm was raised by it or by an earlier wording of it.
        if kind.is_of_rule() && *raised == self.alarms.open.contains_key(&name) {
            return Vec::new();
        }
        match (kind, raised) {
            (_, false) => tracing::info!(%device, alarm = %name, %reason, "alarm cleared"),
            (AlarmKind::Flapping, true) => {
                tracing::warn!(%device, alarm = %name, %reason, "device flaps; its changes are kept, not told")
            }
            (AlarmKind::Offline, true) => tracing::error!(%device, alarm = %name, %reason, "device offline for too long"),
            (AlarmKind::Rule, true) => tracing::warn!(%device, alarm = %name, severity = severity.word(), %reason, "alarm"),
            (AlarmKind::Paused, true) => tracing::error!(%device, alarm = %name, %reason, "rule paused; fieldgate rules on ID goes on"),
        }
        if *raised {
            self.alarms.open.insert(name, (alarm.clone(), None));
        } else {
            self.alarms.open.remove(&name);
        }
        let told = self.tells(&alarm, None, alarm.at);
        [Change::Alarm(alarm)].into_iter().chain(told).collect()
    }

    /// What is in quarantine is shown here and is nothing to the cloud.
    fn tells(&self, alarm: &Alarm, by: Option<String>, at: Boot) -> Option<Change> {
        if self.guests.is_quarantined(&alarm.device) {
            return None;
        }
        let Alarm { device, kind, rule, point, severity, raised, reason, .. } = alarm.clone();
        let kind = EventKind::Alarm { device, alarm: kind, raised, reason, severity: Some(severity), rule, point, by };
        Some(Change::Event(Event { at, kind }))
    }

    /// Who saw it first stands.
    pub(super) fn see_alarm(&mut self, name: &AlarmName, by: &str) -> Result<Vec<Change>, AlarmError> {
        let (at, by) = (self.clock.now(), super::upkeep::cut(by.to_owned(), limits::MAINTENANCE_TEXT));
        let Some((alarm, seen)) = self.alarms.open.get_mut(name) else {
            return Err(AlarmError::NotRaised(name.to_string(), name.device.to_string()));
        };
        if seen.is_some() {
            return Ok(Vec::new());
        }
        *seen = Some(by.clone());
        let alarm = alarm.clone();
        tracing::info!(device = %name.device, alarm = %name, %by, "alarm acknowledged");
        let told = self.tells(&alarm, Some(by.clone()), at);
        Ok([Change::AlarmSeen { alarm: name.clone(), by, at }].into_iter().chain(told).collect())
    }

    pub(super) async fn acknowledge(&mut self, name: &AlarmName, by: &str, answer: Seen) {
        let changes = match self.see_alarm(name, by) {
            Ok(changes) => changes,
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.submit(changes, answered(answer, (), AlarmError::NotStored)).await;
    }
}

/// Answers when what it goes along with is durable, or cannot be.
pub(super) fn answered<T, E>(answer: oneshot::Sender<Result<T, E>>, done: T, failed: E) -> Receipt
where
    T: Send + 'static,
    E: Send + 'static,
{
    let waiting = Mutex::new(Some((answer, done, failed)));
    let tell = move |_, how| {
        if let Some((answer, done, failed)) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(answer.send(if how == Settled::Kept { Ok(done) } else { Err(failed) }));
        }
    };
    Receipt::new(0, Arc::new(tell))
}
