//! The MQTT client, 3.1.1 and 5: rumqttc's packet codec with an acknowledgement book of our own (docs/decisions, uplink client).
//!
//! One [`session::Session`] per TCP connection. It is never repaired: on any error it is dropped whole, and the spool
//! sends again on the next one.

mod connect;
mod heard;
mod oversized;
mod packets;
mod session;
pub(super) mod tls;
mod words;

pub use connect::Client;

#[cfg(test)]
mod tests;
