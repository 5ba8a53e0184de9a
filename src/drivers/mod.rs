//! The field side: lines that are polled, local MQTT and HTTP reports that speak for themselves.

pub mod ascii;
mod leaves;
pub mod line;
pub mod modbus;
pub mod mqtt;
pub mod push;
mod walk;

use crate::model::{Bulk, Urgent};
use tokio::sync::mpsc;

/// Where every driver hands over what it heard. Both queues are bounded (`limits::URGENT`, `limits::BULK`).
#[derive(Clone)]
pub struct Doors {
    pub urgent: mpsc::Sender<Urgent>,
    pub bulk: mpsc::Sender<Bulk>,
}
