//! Commands: what was asked, of whom, until when, and what came of it.

use super::{AlarmName, BadId, Boot, DeviceId, Own, PointId, ScheduleAsk, ScheduleId, Value, WallMs};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Chosen by whoever commands: 1 to 128 printable ASCII characters. The same id is executed once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct CommandId(Arc<str>);

impl CommandId {
    pub fn parse(text: &str) -> Result<CommandId, BadId> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if fits { Ok(CommandId(text.into())) } else { Err(BadId("use 1 to 128 printable ASCII characters, best a UUID")) }
    }

    /// For orders that the gateway gives itself. Nobody else's id can be equal: these are not printable.
    pub fn own(what: &str, n: u64) -> CommandId {
        CommandId(format!("\u{1}{what} {n}").into())
    }

    /// Of a run: the schedule, its moment, and which of several commands. The same again is refused as known.
    pub fn of_schedule(schedule: &ScheduleId, moment: &str, n: usize) -> CommandId {
        let more = if n == 0 { String::new() } else { format!("#{}", n + 1) };
        CommandId(format!("{SCHEDULE}{schedule}@{moment}{more}").into())
    }

    /// Of what one device does of a command to several. `None`: the id has no room for it.
    pub fn part(&self, device: &DeviceId) -> Option<CommandId> {
        CommandId::parse(&format!("{self}@{device}")).ok()
    }

    pub fn is_of_schedule(&self) -> bool {
        self.0.starts_with(SCHEDULE)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Begins the ids and the source of commands that a schedule gave.
pub const SCHEDULE: &str = "schedule:";

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for CommandId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        CommandId::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Write(BTreeMap<PointId, Value>),
    /// Empty: all points.
    Read(Vec<PointId>),
    /// Of the gateway itself; the device is [`DeviceId::gateway`].
    Run(Box<ScheduleAsk>),
    /// Of the gateway itself: somebody has seen an alarm of the device.
    Acknowledge(Box<AlarmName>),
    /// The same of several devices, each by itself; the device of the command is [`DeviceId::gateway`].
    Each(Box<Each>),
    /// Of the gateway itself: what of this command has not been sent is not to be sent.
    Cancel(CommandId),
    /// Of the gateway itself.
    Own(Box<Own>),
}

/// What several devices are to do. Each has its own order, limits and end; one result is told.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Each {
    /// In order, each once.
    pub devices: Vec<DeviceId>,
    /// A write or a read.
    pub action: Action,
}

impl Action {
    /// As a person or a program may see it, by the words of a command: `write`, `read`, `devices`, `run`, …
    pub fn shown(&self) -> Map<String, Json> {
        let one = |key: &str, value: Json| Map::from_iter([(key.to_owned(), value)]);
        match self {
            Action::Write(values) => one("write", values.iter().map(|(p, v)| (p.to_string(), v.plain())).collect::<Map<_, _>>().into()),
            Action::Read(points) => one("read", json!(points)),
            Action::Run(ask) => one("run", ask.shown()),
            Action::Acknowledge(alarm) => one("acknowledge", json!(alarm.to_string())),
            Action::Each(each) => one("devices", json!(each.devices)).into_iter().chain(each.action.shown()).collect(),
            Action::Cancel(id) => one("cancel", json!(id)),
            Action::Own(own) => one("run", own.shown()),
        }
    }
}

/// As received from the cloud, the API or the command line.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub device: DeviceId,
    pub action: Action,
    /// Who asked: `uplink cloud`, `local anna`, `schedule:night`.
    pub from: String,
    pub received: Boot,
    /// The sender's own wall time, trusted only on a synchronised clock.
    pub issued_at: Option<WallMs>,
    pub expires_in: Duration,
    /// It reached us as stored mail of a resumed session, so its age is unknown without `issued_at`.
    pub from_stored_session: bool,
}

impl Command {
    /// What its devices are to do, one command each. Empty: it is no command to several.
    pub fn parts(&self) -> Vec<Command> {
        let Action::Each(each) = &self.action else { return Vec::new() };
        let part = |device: &DeviceId| {
            let (id, action) = (self.id.part(device)?, each.action.clone());
            Some(Command { id, device: device.clone(), action, from: self.from.clone(), ..*self })
        };
        each.devices.iter().filter_map(part).collect()
    }
}

/// `accepted → sent → confirmed | failed | expired | rejected | unknown`. The last five are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Accepted,
    Sent,
    Confirmed,
    Failed,
    Expired,
    Rejected,
    Unknown,
}

impl Phase {
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Accepted => "accepted",
            Phase::Sent => "sent",
            Phase::Confirmed => "confirmed",
            Phase::Failed => "failed",
            Phase::Expired => "expired",
            Phase::Rejected => "rejected",
            Phase::Unknown => "unknown",
        }
    }

    pub fn parse(word: &str) -> Option<Phase> {
        use Phase::{Accepted, Confirmed, Expired, Failed, Rejected, Sent, Unknown};
        [Accepted, Sent, Confirmed, Failed, Expired, Rejected, Unknown].into_iter().find(|p| p.word() == word)
    }

    pub const fn is_terminal(self) -> bool {
        !matches!(self, Phase::Accepted | Phase::Sent)
    }
}

/// What came of a command: kept with its id and told to the cloud, also to whoever asks again with the same id.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    pub phase: Phase,
    /// Plain words; empty when confirmed.
    pub reason: String,
    /// What was read: the answer of a read, or the read-back of a verified write.
    pub values: BTreeMap<PointId, Value>,
    /// Of a command to several devices: what came of it at each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<DeviceId, Outcome>,
}

impl Outcome {
    pub fn new(phase: Phase, reason: impl Into<String>) -> Outcome {
        Outcome { phase, reason: reason.into(), values: BTreeMap::new(), results: BTreeMap::new() }
    }

    pub fn with(self, values: BTreeMap<PointId, Value>) -> Outcome {
        Outcome { values, ..self }
    }
}
