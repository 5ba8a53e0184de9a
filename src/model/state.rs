//! Online state and its reasons. UI.md section 1 holds the words; the pages, the log, `--json` and events use the same.

use super::{AlarmName, Boot, DeviceId, LineId, PointId, RuleId, Urgency};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Unknown,
    Online,
    Suspect,
    Offline,
}

impl State {
    pub const fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Online => "online",
            State::Suspect => "suspect",
            State::Offline => "offline",
        }
    }

    pub fn parse(word: &str) -> Option<State> {
        [State::Unknown, State::Online, State::Suspect, State::Offline].into_iter().find(|s| s.word() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing was heard for longer than the device's own time.
    Silent,
    /// A status message or a will said so.
    Said,
    /// The line is down: nobody could have seen the device.
    LineDown,
    /// The local broker is down.
    BrokerDown,
    /// Not heard yet since the gateway started, or since its maintenance ended.
    Restored,
    /// A person said: do not judge.
    Maintenance,
}

impl Cause {
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Silent => "silent",
            Cause::Said => "said",
            Cause::LineDown => "line_down",
            Cause::BrokerDown => "broker_down",
            Cause::Restored => "restored",
            Cause::Maintenance => "maintenance",
        }
    }

    pub fn parse(word: &str) -> Option<Cause> {
        [Cause::Silent, Cause::Said, Cause::LineDown, Cause::BrokerDown, Cause::Restored, Cause::Maintenance]
            .into_iter()
            .find(|c| c.word() == word)
    }
}

/// What lasts and somebody should know of: raised once, cleared once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// It comes and goes: its changes are kept, and not told one by one.
    Flapping,
    /// It is offline for longer than its `alarm_after`.
    Offline,
    /// A rule raised it.
    Rule,
    /// A rule fired too often and does nothing until it is switched on again.
    Paused,
}

impl AlarmKind {
    pub const ALL: [AlarmKind; 4] = [AlarmKind::Flapping, AlarmKind::Offline, AlarmKind::Rule, AlarmKind::Paused];

    pub const fn is_of_rule(self) -> bool {
        matches!(self, AlarmKind::Rule | AlarmKind::Paused)
    }

    pub const fn word(self) -> &'static str {
        match self {
            AlarmKind::Flapping => "flapping",
            AlarmKind::Offline => "offline",
            AlarmKind::Rule => "rule",
            AlarmKind::Paused => "paused",
        }
    }

    pub fn parse(word: &str) -> Option<AlarmKind> {
        AlarmKind::ALL.into_iter().find(|k| k.word() == word)
    }

    /// Where nobody said another one.
    pub const fn severity(self) -> Urgency {
        match self {
            AlarmKind::Flapping | AlarmKind::Rule => Urgency::Warning,
            AlarmKind::Offline | AlarmKind::Paused => Urgency::Critical,
        }
    }
}

/// An alarm of a device, as it is now or was.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Alarm {
    pub device: DeviceId,
    pub kind: AlarmKind,
    /// Who raised it, or whom it is about.
    pub rule: Option<RuleId>,
    /// That the rule was about.
    pub point: Option<PointId>,
    pub severity: Urgency,
    /// `false`: it is over.
    pub raised: bool,
    /// When it was raised or cleared.
    pub at: Boot,
    /// Why, for people.
    pub reason: String,
}

impl Alarm {
    /// Of a device itself.
    pub fn of_device(device: DeviceId, kind: AlarmKind, raised: bool, at: Boot, reason: String) -> Alarm {
        Alarm { device, kind, rule: None, point: None, severity: kind.severity(), raised, at, reason }
    }

    pub fn name(&self) -> AlarmName {
        AlarmName { device: self.device.clone(), kind: self.kind, rule: self.rule.clone() }
    }
}

/// A person said: do not judge this device.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Maintenance {
    pub device: DeviceId,
    pub by: String,
    /// Empty: none was given.
    pub reason: String,
    pub since: Boot,
    /// `None`: until somebody ends it.
    pub until: Option<Boot>,
}

/// What was seen of a device. All but `Will` are signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    Poll,
    Message,
    Heartbeat,
    Status,
    Will,
    /// The device refused a request: that is life.
    Exception,
}

impl EvidenceKind {
    pub const fn word(self) -> &'static str {
        match self {
            EvidenceKind::Poll => "poll",
            EvidenceKind::Message => "message",
            EvidenceKind::Heartbeat => "heartbeat",
            EvidenceKind::Status => "status",
            EvidenceKind::Will => "will",
            EvidenceKind::Exception => "exception",
        }
    }

    pub fn parse(word: &str) -> Option<EvidenceKind> {
        use EvidenceKind::{Exception, Heartbeat, Message, Poll, Status, Will};
        [Poll, Message, Heartbeat, Status, Will, Exception].into_iter().find(|k| k.word() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    pub kind: EvidenceKind,
    pub at: Boot,
}

/// Where a device stands. `cause` is `None` only when online.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeviceStatus {
    pub device: DeviceId,
    pub line: Option<LineId>,
    pub state: State,
    pub cause: Option<Cause>,
    pub since: Boot,
    pub evidence: Option<Evidence>,
    /// Polls missed since the last sign of life.
    pub missed: u32,
}

impl DeviceStatus {
    /// As people say it: maintenance is a state of its own.
    pub fn word(&self) -> &'static str {
        if self.cause == Some(Cause::Maintenance) { "maintenance" } else { self.state.word() }
    }
}

/// How many devices are in each state, with those in which none is.
pub fn by_word(devices: impl Iterator<Item = DeviceStatus>) -> BTreeMap<&'static str, usize> {
    let none = [State::Online, State::Suspect, State::Offline, State::Unknown].map(State::word).into_iter().chain(["maintenance"]);
    let mut out: BTreeMap<&'static str, usize> = none.map(|word| (word, 0)).collect();
    devices.for_each(|d| *out.entry(d.word()).or_default() += 1);
    out
}

/// A line is up or down, never online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    Unknown,
    Up,
    Down,
}

impl LineState {
    pub const fn word(self) -> &'static str {
        match self {
            LineState::Unknown => "unknown",
            LineState::Up => "up",
            LineState::Down => "down",
        }
    }
}
