//! The cloud side: MQTT session, pump (spool -> batches -> acknowledgement -> release), dialects; webhooks.

pub mod broker;
pub mod brokers;
pub mod client;
pub mod dialect;
pub mod hooks;
pub mod pump;
pub mod replay;
pub mod simulated;

pub use pump::{Parts, run, run_with};
