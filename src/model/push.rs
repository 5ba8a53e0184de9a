//! What devices report by HTTP, on its way from the HTTP surface to the engine, and the answer on its way back.

use super::{Action, Boot, CommandId, DeviceId, EvidenceKind, Reading, Receipt};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

/// The way by which such a device was registered. No route of local MQTT is called so.
pub const PUSHED: &str = "http";

/// One report as the engine gets it.
#[derive(Debug)]
pub struct Pushed {
    pub device: DeviceId,
    pub at: Boot,
    pub evidence: EvidenceKind,
    pub readings: Vec<Reading>,
    /// Kept when what the report changed of the device's state is durable; at once if it changed nothing.
    pub state: Receipt,
    /// The same of its readings. Nobody waits for what may be lost.
    pub values: Receipt,
    /// Why the device is not taken in. Set before the receipts fall.
    pub refusal: Arc<OnceLock<String>>,
}

/// What came in for a device, as it was sent.
#[derive(Debug)]
pub struct PushAsk {
    pub device: DeviceId,
    pub what: PushWhat,
    pub body: Vec<u8>,
    /// Who sent it, for the dead letters.
    pub from: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushWhat {
    Heartbeat,
    Telemetry,
    /// The device says what came of an order.
    Acknowledge(CommandId),
}

#[derive(Debug, PartialEq)]
pub enum PushAnswer {
    /// Evidence of life; whatever it changed is durable.
    Alive {
        orders: Vec<WaitingOrder>,
    },
    /// Durable. `stamped`: so many samples carry the time of arrival instead of their own.
    Kept {
        samples: usize,
        values: usize,
        stamped: usize,
        again: bool,
    },
    /// The order's end is durable; these come next.
    Ended {
        orders: Vec<WaitingOrder>,
    },
    Refused(PushRefusal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushRefusal {
    /// Not what it should be. A dead letter holds it.
    Unreadable(String),
    /// The device is unknown here and is not taken in.
    Unwelcome(String),
    /// No such order waits for that device.
    NoOrder,
    /// The same message is being stored at this moment.
    Underway,
    /// It could not be made durable in time.
    NotKept,
    /// The gateway stops.
    Stopping,
}

/// An order that a device fetches.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingOrder {
    pub id: CommandId,
    pub action: Action,
    pub deadline: Boot,
}

/// Where the HTTP surface hands in what devices report.
pub type PushPort = Arc<dyn Fn(PushAsk) -> Pin<Box<dyn Future<Output = PushAnswer> + Send>> + Send + Sync>;
