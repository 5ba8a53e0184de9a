//! The native dialect as a consumer reads it: the one parser for `fieldgate consume` and the demo's cloud.
//!
//! Whatever a stranger sends becomes a reason in words. Members that are not known are ignored, as `docs/protocol.md`
//! asks of every consumer; a higher version is refused, because nobody may guess.
//!
//! Absent on purpose: `async`, clocks, storage.

mod content;
mod wire;

use crate::model::{ClockQuality, DeviceId, Epoch, GatewayId, PointId, Stream, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// The version that is understood.
pub const V: u64 = 1;

/// One message of the streams `telemetry` or `event`.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub gateway: GatewayId,
    pub epoch: Epoch,
    pub stream: Stream,
    pub seq: u64,
    /// It is late: newer values may have come before.
    pub backlog: bool,
    pub clock: Sent,
    pub body: Body,
}

/// The clock of one sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub offset_ms: i64,
    pub quality: ClockQuality,
    pub boot: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Telemetry(BTreeMap<DeviceId, Vec<Frame>>),
    Events(Vec<Event>),
}

/// A small table; every column is as long as `dt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub at: i64,
    pub dt: Vec<i64>,
    pub v: BTreeMap<PointId, Vec<Value>>,
    /// Only points of which a row is not good. Words, because a later version may have more of them.
    pub q: BTreeMap<PointId, Vec<Box<str>>>,
    /// These rows are what is left of more samples.
    pub thin: Option<Thin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Thin {
    pub window_ms: u64,
    /// The samples that these rows stand for.
    pub of: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub at: i64,
    /// The word of `type`, also of a type that is not known here.
    pub word: String,
    pub known: Known,
    /// As it came.
    pub members: Map<String, Json>,
}

/// What a consumer has to act on.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    Gap(Gap),
    Epoch(Began),
    Progress(Vec<Alive>),
    /// `boot`: none is named by versions before; that of the envelope.
    Clock {
        boot: Option<u32>,
        offset_ms: i64,
        synchronised: bool,
    },
    Other,
}

/// The numbers `from..=to` will never come.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Gap {
    pub epoch: Epoch,
    pub stream: Stream,
    pub from: u64,
    pub to: u64,
    pub samples: u64,
    pub reason: String,
    #[serde(default)]
    pub replaced_by: Option<crate::model::event::Replaced>,
}

/// The first event of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Began {
    pub epoch: Epoch,
    pub before: Option<Epoch>,
    /// How far the epoch before got.
    pub telemetry: u64,
    pub event: u64,
    pub may_have_lost_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Alive {
    pub epoch: Epoch,
    pub stream: Stream,
    pub lowest: u64,
    pub highest: u64,
}

/// Why something is no message of this dialect, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What a topic of ours carries, by its last levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream(Stream),
    State,
    Devices,
    Command,
}

/// `{prefix}/telemetry`, `{prefix}/devices/2`. `None`: a stranger's.
pub fn kind(topic: &str) -> Option<Kind> {
    let mut levels = topic.rsplit('/');
    let (last, before) = (levels.next()?, levels.next());
    match last {
        "telemetry" => Some(Kind::Stream(Stream::Telemetry)),
        "event" => Some(Kind::Stream(Stream::Event)),
        "state" => Some(Kind::State),
        "devices" => Some(Kind::Devices),
        "command" => Some(Kind::Command),
        n if before == Some("devices") && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => Some(Kind::Devices),
        _ => None,
    }
}

/// One message. `Err` says what is wrong with it.
pub fn message(body: &[u8]) -> Result<Message, Refused> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let envelope: wire::Envelope = serde::Deserialize::deserialize(&mut from).map_err(|e| Refused(e.to_string()))?;
    from.end().map_err(|e| Refused(e.to_string()))?;
    Message::try_from(envelope)
}

impl Message {
    /// One per point and row.
    pub fn samples(&self) -> u64 {
        match &self.body {
            Body::Telemetry(devices) => devices.values().flatten().map(|f| (f.v.len() * f.dt.len()) as u64).sum(),
            Body::Events(_) => 0,
        }
    }

    /// A number that stands for the content without what describes one sending: equal for every sending of a key.
    pub fn content(&self) -> u64 {
        content::hash(self)
    }

    pub fn events(&self) -> &[Event] {
        match &self.body {
            Body::Events(events) => events,
            Body::Telemetry(_) => &[],
        }
    }

    pub fn is_estimated(&self) -> bool {
        self.clock.quality != ClockQuality::Synchronised
    }
}

impl<'de> serde::Deserialize<'de> for Message {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Message, D::Error> {
        Message::try_from(wire::Envelope::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
