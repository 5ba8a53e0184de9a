//! The Modbus protocol as pure functions: requests, replies, framing, read plan, decoding, encoding.
//!
//! ```text
//! Device --plan--> Request --Ask::encode + rtu | mbap--> wire
//! wire --rtu | mbap scan--> PDU --pdu::check--> bytes --decode--> values
//! ```
//!
//! Invariant: bytes become values only after unit, function, byte count and, for writes, the echoed address and value
//! were all found to be what was asked. Absent on purpose: ports, sockets, clocks, `async`, retries.

pub mod decode;
pub mod encode;
pub mod exception;
mod float;
pub mod holes;
pub mod mbap;
pub mod pdu;
pub mod plan;
pub mod raw;
pub mod rtu;
#[cfg(test)]
mod samples;

pub use decode::decode;
pub use encode::{Unwritable, write_asks};
pub use holes::{Hole, Holes};
pub use pdu::{Answer, Ask, Garbled, Scan};
pub use plan::{Field, Request, plan};
