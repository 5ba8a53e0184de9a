//! What the doors (lines, local MQTT, uplink) hand to the engine, and what it hands back.

use super::{Action, Boot, Command, CommandId, DeviceId, Learned, LineId, LineState, Outcome, PointCard, PointId, Pushed, Reading};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What one poll or probe told us, apart from values. Only `Silent` and `Garbled` are evidence of absence.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An exception reply: badly mapped or busy, but alive.
    Refused(u8),
    /// Bytes came, but no valid reply.
    Garbled(String),
    Silent {
        after: Duration,
    },
    /// A good answer that carried no data (a probe): life.
    Answered,
}

/// Low in rate, never throttled behind telemetry.
#[derive(Debug)]
pub enum Urgent {
    /// A poll or probe of a device that ended without a reading.
    Poll { device: DeviceId, heard: Heard, at: Boot },
    /// A line, or the local broker under the id `mqtt`, went up or down.
    Line { line: LineId, state: LineState, reason: String, at: Boot },
    /// A device said something about itself by a status topic or a will.
    Said(Said),
    /// What a device said of itself beside being there: its address, its firmware, whatever it likes. `None`: not any more.
    Attributes { device: DeviceId, values: BTreeMap<PointId, Option<String>>, at: Boot, receipt: Receipt },
    /// A device said itself which points it has.
    Discovered { device: DeviceId, points: Arc<[PointCard]>, at: Boot },
    /// A heartbeat by HTTP.
    Heartbeat(Pushed),
    /// A device that fetches its orders says what came of one: keep the receipt once that is durable.
    Acknowledged { done: WriteDone, receipt: Receipt },
    /// A command from the cloud.
    Command { command: Command, receipt: Receipt },
    /// The terminal phase of an order, or that it is now on the wire.
    Done(WriteDone),
    /// Something was found out that is worth remembering over a restart, or with `forget` is not true any more.
    Learned { fact: Learned, forget: bool, at: Boot },
    /// Something unreadable at a door.
    DeadLetter(DeadLetter),
    /// The same, from a publisher who waits for its acknowledgement: keep the receipt once the letter is durable.
    DeadLetterHeld { letter: DeadLetter, receipt: Receipt },
}

/// Telemetry: last in the engine's order.
#[derive(Debug)]
pub enum Bulk {
    /// From a line: one planned request.
    Reading(Reading),
    /// Telemetry by HTTP.
    Pushed(Pushed),
    /// From a publisher whose acknowledgement is held. `device` may be unknown so far.
    Message { device: DeviceId, via: Arc<str>, readings: Vec<Reading>, at: Boot, retained: bool, receipt: Receipt },
}

#[derive(Debug)]
pub struct Said {
    pub device: DeviceId,
    /// The route that mapped it, for the registration of unknown devices.
    pub via: Arc<str>,
    pub online: bool,
    pub will: bool,
    /// A retained message is no proof of life.
    pub retained: bool,
    /// Which session said it; a will of an older session than the last evidence is ignored.
    pub session: Option<u64>,
    pub at: Boot,
    /// The silence that a device of this route is allowed.
    pub offline_after: Option<Duration>,
    pub receipt: Receipt,
}

/// Kept with its reason, bounded, replayable.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    pub source: String,
    pub topic: String,
    pub reason: String,
    /// Cut to `limits::DEAD_LETTER_BYTES`.
    pub body: Vec<u8>,
    pub at: Boot,
}

/// The door that a dead letter came from, and why it was put aside, in words of which there are few: what a metric may have as
/// labels.
pub fn letter_kind(source: &str, reason: &str) -> (&'static str, &'static str) {
    let door = source.split(' ').next().unwrap_or_default();
    let known = ["mqtt", "http", "route", "uplink", "webhook", "store"].into_iter().find(|d| *d == door);
    let why = match known {
        Some("route") => "refused",
        Some("webhook") => "not_taken",
        Some("uplink") if reason.starts_with("the broker does not take it") => "not_taken",
        Some("mqtt" | "http" | "uplink") => "unreadable",
        _ => "other",
    };
    (known.unwrap_or("other"), why)
}

/// Work for a line or for the local MQTT door: the engine has committed it as about to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub id: CommandId,
    pub device: DeviceId,
    pub action: Action,
    /// Not begun after this moment.
    pub deadline: Boot,
    /// Read back and compare after a write.
    pub verify: Vec<PointId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WriteDone {
    pub id: CommandId,
    pub device: DeviceId,
    pub outcome: Outcome,
    pub at: Boot,
}

/// Where orders for a device go: a serial line's thread, a TCP line's task, local MQTT, or a test. Gives the order
/// back when its queue is full.
pub type OrderPort = Arc<dyn Fn(Order) -> Result<(), Order> + Send + Sync>;

/// Takes an order back that the device has not fetched yet. `false`: too late, or it is not there.
pub type RecallPort = Arc<dyn Fn(&DeviceId, &CommandId) -> bool + Send + Sync>;

/// A message for local subscribers.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalMessage {
    pub topic: String,
    pub body: Vec<u8>,
    pub retain: bool,
}

/// Where the engine publishes locally: `devices/status/{id}` and the like. `false`: nobody there or queue full.
pub type LocalPort = Arc<dyn Fn(LocalMessage) -> bool + Send + Sync>;

/// How a held acknowledgement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Promise 1 is kept: acknowledge.
    Kept,
    /// It could not be kept: do not acknowledge.
    NotKept,
}

/// The right to acknowledge one message, held until promise 1 is kept. Dropped without `keep`, it tells the door that
/// the promise was not kept, so a forgotten path can never acknowledge.
pub struct Receipt {
    id: u64,
    door: Option<Arc<dyn Fn(u64, Settled) + Send + Sync>>,
}

impl Receipt {
    /// `tell` must not block: it puts the id in a queue that is as long as the door's window of unacknowledged messages.
    pub fn new(id: u64, tell: Arc<dyn Fn(u64, Settled) + Send + Sync>) -> Receipt {
        Receipt { id, door: Some(tell) }
    }

    /// For messages that expect no acknowledgement (QoS 0).
    pub const fn none() -> Receipt {
        Receipt { id: 0, door: None }
    }

    /// Whether somebody waits for it.
    pub fn is_awaited(&self) -> bool {
        self.door.is_some()
    }

    pub fn keep(mut self) {
        if let Some(door) = self.door.take() {
            door(self.id, Settled::Kept);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            door(self.id, Settled::NotKept);
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({}{})", self.id, if self.door.is_some() { ", awaited" } else { "" })
    }
}
