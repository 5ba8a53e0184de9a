//! The field side: lines that are polled, local MQTT and HTTP reports that speak for themselves.

pub mod ascii;
mod leaves;
pub mod line;
pub mod modbus;
pub mod mqtt;
pub mod push;
mod walk;

use crate::{
    model::{Bulk, DeviceId, PointId, Urgent},
    system::bursts::Bursts,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// Where every driver hands over what it heard. Both queues are bounded (`limits::URGENT`, `limits::BULK`).
#[derive(Clone)]
pub struct Doors {
    pub urgent: mpsc::Sender<Urgent>,
    pub bulk: mpsc::Sender<Bulk>,
    /// Readings of a line that is asked without a pause wait so long for the next ones: each handing over wakes the engine,
    /// and at 115200 baud that costs as much as the bus itself.
    pub company: Duration,
    /// Except readings of these points: a rule waits for them.
    pub watched: Watched,
    /// Lines over TCP that share the memory for frames (`limits::CAPTURE_BYTES_TCP`).
    pub tcp_lines: usize,
    /// Of telemetry; whoever hands it in message by message tells when one is over.
    pub bursts: Arc<Bursts>,
}

impl Doors {
    /// Nothing waits for company, no rule watches, and no other line shares the memory for frames.
    pub fn new(urgent: mpsc::Sender<Urgent>, bulk: mpsc::Sender<Bulk>) -> Doors {
        Doors { urgent, bulk, company: Duration::ZERO, watched: Watched::default(), tcp_lines: 1, bursts: Arc::default() }
    }
}

pub type Watched = Arc<BTreeMap<DeviceId, BTreeSet<PointId>>>;
