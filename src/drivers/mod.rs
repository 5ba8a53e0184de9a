//! The field side: lines that are polled, local MQTT and HTTP reports that speak for themselves.

pub mod ascii;
mod leaves;
pub mod line;
pub mod modbus;
pub mod mqtt;
pub mod push;
mod walk;

use crate::model::{Bulk, Urgent};
use std::time::Duration;
use tokio::sync::mpsc;

/// Where every driver hands over what it heard. Both queues are bounded (`limits::URGENT`, `limits::BULK`).
#[derive(Clone)]
pub struct Doors {
    pub urgent: mpsc::Sender<Urgent>,
    pub bulk: mpsc::Sender<Bulk>,
    /// Readings of a line that is asked without a pause wait so long for the next ones: each handing over wakes the engine,
    /// and at 115200 baud that costs as much as the bus itself.
    pub company: Duration,
}
