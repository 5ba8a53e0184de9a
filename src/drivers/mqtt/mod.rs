//! Local MQTT: our own endpoint, or an external broker, and the routes that map topics to devices.

mod codec;
mod leaves;
mod receipts;
mod routes;
mod said;
pub mod server;
mod topics;
