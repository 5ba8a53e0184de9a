//! The field side: lines that are polled and local MQTT that speaks for itself.

pub mod ascii;
pub mod line;
pub mod modbus;
pub mod mqtt;

use crate::model::{Bulk, Urgent};
use tokio::sync::mpsc;

/// Where every driver hands over what it heard. Both queues are bounded (`limits::URGENT`, `limits::BULK`).
#[derive(Clone)]
pub struct Doors {
    pub urgent: mpsc::Sender<Urgent>,
    pub bulk: mpsc::Sender<Bulk>,
}
