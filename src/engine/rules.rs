//! Carries what rules do: commands on the way of every command, alarms, messages to local subscribers,
//! webhooks. And what they must
//! remember, stored with it.

use super::{Engine, alarms::answered};
use crate::{
    config::{self, Config},
    limits,
    logic::rules::{Did, Effect, Rule, Rules},
    model::{
        Action, Alarm, AlarmKind, Boot, Command, CommandId, DeviceId, Event, EventKind, LocalMessage, PointId, PointRef, Receipt,
        RuleAction, RuleId, RuleMemory, Urgency,
    },
    store::{Change, Restored},
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

pub(super) fn rules(config: &Config) -> Rules {
    let rule = |r: &config::Rule| Rule { id: r.id.clone(), when: r.when.clone(), unless: r.unless.clone(), pace: r.pace };
    Rules::new(config.rules.iter().map(rule).collect())
}

/// The points, as they are read, on which rules depend: they must not wait on their way here.
pub fn watched(config: &Config) -> BTreeMap<DeviceId, BTreeSet<PointId>> {
    let mut all: BTreeMap<DeviceId, BTreeSet<PointId>> = BTreeMap::new();
    for point in config.rules.iter().flat_map(config::Rule::points) {
        let PointRef { device, point } = read_as(config, point);
        all.entry(device).or_default().insert(point);
    }
    all
}

/// What is computed here comes from what was read.
fn read_as(config: &Config, of: &PointRef) -> PointRef {
    if let Some(a) = config.analytics.iter().find(|a| a.of.device == of.device && a.made().any(|p| p == of.point)) {
        return a.of.clone();
    }
    let device = config.devices.binary_search_by(|d| d.id.cmp(&of.device)).ok().map(|n| &config.devices[n]);
    let counted = device.and_then(|d| d.points.iter().find(|p| p.delta_id().as_ref() == Some(&of.point)));
    PointRef { point: counted.map_or(&of.point, |p| &p.id).clone(), device: of.device.clone() }
}

/// What somebody wants of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Switch {
    pub rule: RuleId,
    pub on: bool,
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("there is no rule {0}; fieldgate rules lists them")]
    Unknown(RuleId),
    #[error("the disk does not take it, so it would not outlive a restart; fieldgate status says what is wrong")]
    NotStored,
    #[error("the daemon is stopping")]
    Stopping,
}

/// The answer, once it is durable.
pub(super) type Switched = oneshot::Sender<Result<(), RuleError>>;

impl Engine {
    /// Before the alarms: what rules remember. A memory belongs to a condition; another one begins anew.
    pub(super) fn restore_rules(&mut self, restored: &Restored, now: Boot) -> Vec<Change> {
        let mut changes = Vec::new();
        for row in &restored.rules {
            let Some(rule) = self.config.rules.iter().find(|r| r.id == row.id) else {
                changes.push(Change::RuleGone(row.id.clone()));
                continue;
            };
            let same = condition(rule) == row.condition;
            let fired_at = row.memory.fired_at.map(|at| self.on_our_clock(at, row.boot, now));
            // Who switched it off meant the rule, not its wording.
            let memory = RuleMemory {
                fired: row.memory.fired && same,
                held: if same { row.memory.held } else { 0 },
                fired_at,
                ..row.memory.clone()
            };
            self.rules.restore(&row.id, memory);
        }
        changes
    }

    /// How devices are at the start, once everything that is remembered of them is known.
    pub(super) fn show_rules(&mut self, now: Boot) {
        let devices: Vec<_> = self.registry.statuses().filter(|s| self.rules.watches(&s.device)).collect();
        for status in devices {
            self.rules.state(&status.device, status.state, now, &mut self.fired);
        }
    }

    /// What the last messages made rules do.
    pub(super) async fn carry_rules(&mut self) {
        if self.fired.is_empty() {
            return;
        }
        let (mut changes, mut commands) = (Vec::new(), Vec::new());
        for effect in std::mem::take(&mut self.fired) {
            self.carry_rule(effect, &mut changes, &mut commands);
        }
        // First what somebody waits for. A crash between the two repeats a write, and forgets none.
        for command in commands {
            self.on_command(command, Receipt::none()).await;
        }
        self.submit(changes, Receipt::none()).await;
    }

    fn carry_rule(&mut self, effect: Effect, changes: &mut Vec<Change>, commands: &mut Vec<Command>) {
        let Effect { rule, did, at } = effect;
        let config = std::sync::Arc::clone(&self.config);
        let Some(asked) = config.rules.get(rule) else { return };
        changes.extend(self.remember_rule(rule));
        let because = self.rules.because(rule);
        match did {
            Did::Fired => {
                tracing::info!(rule = %asked.id, %because, "rule fired");
                for (n, action) in asked.actions.iter().enumerate() {
                    match action {
                        RuleAction::Write { device, point, value } => {
                            let action = Action::Write(BTreeMap::from([(point.clone(), value.clone())]));
                            commands.extend(self.rule_command(rule, n, device, action, at));
                        }
                        RuleAction::Alarm { severity, text } => {
                            let reason = if because.is_empty() { text.clone() } else { format!("{text} ({because})") };
                            changes.extend(self.rule_alarm(rule, AlarmKind::Rule, *severity, true, at, reason));
                        }
                        RuleAction::Publish { topic, payload, retain } => self.publish(&asked.id, topic, payload, *retain),
                        RuleAction::Webhook(webhook) => {
                            let kind = EventKind::Rule { rule: asked.id.clone(), webhook: webhook.clone(), reason: because.clone() };
                            changes.push(Change::Event(Event { at, kind }));
                        }
                    }
                }
            }
            Did::Cleared => {
                tracing::info!(rule = %asked.id, %because, "rule cleared");
                if asked.actions.iter().any(|a| matches!(a, RuleAction::Alarm { .. })) {
                    let why = if because.is_empty() { "its condition is false again".to_owned() } else { because };
                    changes.extend(self.rule_alarm(rule, AlarmKind::Rule, Urgency::Info, false, at, why));
                }
            }
            Did::Paused => {
                let why = self.rules.memory(rule).and_then(|(_, m)| m.off.clone()).unwrap_or_default();
                changes.extend(self.rule_alarm(rule, AlarmKind::Paused, AlarmKind::Paused.severity(), true, at, why));
            }
        }
    }

    fn remember_rule(&self, rule: usize) -> Option<Change> {
        let (id, memory) = self.rules.memory(rule)?;
        let condition = condition(self.config.rules.get(rule)?);
        Some(Change::Rule { id: id.clone(), condition, memory: memory.clone() })
    }

    fn rule_alarm(&mut self, rule: usize, kind: AlarmKind, severity: Urgency, raised: bool, at: Boot, reason: String) -> Vec<Change> {
        let Some((device, point)) = self.rules.about(rule).map(|(d, p)| (d.clone(), p.cloned())) else { return Vec::new() };
        let id = self.config.rules.get(rule).map(|r| r.id.clone());
        let mut actions = self.config.rules.get(rule).into_iter().flat_map(|r| &r.actions);
        // An alarm that is over is still of its severity.
        let own = actions.find_map(|a| if let RuleAction::Alarm { severity, .. } = a { Some(*severity) } else { None });
        let severity = if kind == AlarmKind::Rule { own.unwrap_or(severity) } else { severity };
        self.alarm(Alarm { device, kind, rule: id, point, severity, raised, at, reason })
    }

    /// `None`: no id can be given, as in no run that begins.
    fn rule_command(&mut self, rule: usize, n: usize, device: &DeviceId, action: Action, at: Boot) -> Option<Command> {
        let (id, memory) = self.rules.memory(rule)?;
        // The count is stored with the firing; a run whose count was lost has another epoch.
        let name = format!("rule:{id}:{}:{}.{n}", self.epoch, memory.count);
        Some(Command {
            id: CommandId::parse(&name).ok()?,
            device: device.clone(),
            action,
            from: format!("rule:{id}"),
            received: at.max(self.last_turn),
            issued_at: None,
            expires_in: limits::RULE_COMMAND,
            from_stored_session: false,
        })
    }

    fn publish(&self, rule: &RuleId, topic: &str, payload: &str, retain: bool) {
        let told = self
            .ping_mqtt
            .as_ref()
            .is_some_and(|tell| tell(LocalMessage { topic: topic.to_owned(), body: payload.as_bytes().to_vec(), retain }));
        if !told {
            tracing::warn!(%rule, topic, "nobody takes what the rule publishes");
        }
    }

    /// Holds and cooldowns that are over. What waits in a door happened before, and is not overtaken.
    pub(super) fn expire_rules(&mut self, now: Boot) {
        if self.rules.next_due().is_none_or(|at| at > now) {
            return;
        }
        let mut upto = now;
        for waiting in [self.urgent.oldest(), self.bulk.oldest()].into_iter().flatten() {
            upto = upto.min(waiting);
        }
        self.rules.expire(upto, &mut self.fired);
    }

    pub(super) async fn switch_rule(&mut self, wish: Switch, answer: Switched) {
        let Switch { rule, on, by } = wish;
        let now = self.clock.now();
        let by = super::upkeep::cut(by, limits::MAINTENANCE_TEXT);
        let why = (!on).then(|| format!("switched off by {by}"));
        let Some(n) = self.rules.switch(&rule, why, now, &mut self.fired) else {
            return drop(answer.send(Err(RuleError::Unknown(rule))));
        };
        tracing::info!(%rule, on, %by, "rule switched");
        let mut changes: Vec<Change> = self.remember_rule(n).into_iter().collect();
        if on {
            changes.extend(self.rule_alarm(n, AlarmKind::Paused, AlarmKind::Paused.severity(), false, now, format!("switched on by {by}")));
        }
        self.submit(changes, answered(answer, (), RuleError::NotStored)).await;
    }
}

/// To know it again.
fn condition(rule: &config::Rule) -> String {
    match &rule.unless {
        None => rule.when.text.clone(),
        Some(unless) => format!("{} unless {}", rule.when.text, unless.text),
    }
}
