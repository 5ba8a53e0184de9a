//! Framed serial: devices that send lines of text and speak no Modbus, such as scales, weather stations and meters.
//!
//! ```text
//!   bytes ─► frame.rs: where a frame begins and ends ─► check.rs: its checksum ─► fields.rs: what it says ─► values
//!                                    core: whose turn it is, what was asked, what came too late
//! ```
//!
//! The core speaks the language of `drivers/line/event.rs`, so the owners of `drivers/line` serve it on a serial port and
//! over TCP. Pure here: frame, check, fields and core. The entry for fuzzing is [`parse`], which takes any bytes.
//! Promise kept here: what fails its checksum, fits no pattern or comes too late is never published.
//! Absent on purpose: makes and models; what a device says is in its configuration.

pub mod check;
pub mod core;
pub mod fields;
pub mod frame;
mod guard;
mod orders;
mod schedule;
#[cfg(test)]
mod testing;

use crate::{
    config::{Framed, Line},
    drivers::{
        Doors,
        line::{self, LineHandle},
    },
    system::clock::Clock,
};
use fields::{Parser, Said};
use frame::Found;
use tokio_util::sync::CancellationToken;

/// Why bytes are no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    #[error("longer than max_bytes without an end")]
    TooLong,
    #[error("the checksum is wrong")]
    Checksum,
    #[error("{bytes} bytes and no end of frame")]
    Cut { bytes: usize },
    #[error("`{0}` fits no pattern")]
    NoPattern(String),
}

/// Starts a line on which framed text is spoken.
pub fn start(on: &Line, devices: Vec<Framed>, doors: Doors, clock: Clock, stop: CancellationToken) -> LineHandle {
    line::drive(on, core::Core::new(on, devices), doors, clock, stop)
}

/// All that the bytes say, as if the line fell silent behind them. Whatever they are, it ends and holds no more than they
/// do.
pub fn parse(parser: &Parser, mut bytes: &[u8]) -> Vec<Said> {
    let mut out = Vec::new();
    loop {
        let end = match frame::find(parser.frame(), bytes, true) {
            Found::More(_) => return out,
            Found::Garbled { end, .. } => end,
            Found::Frame { body, end } => {
                out.extend(parser.read(&bytes[body]));
                end
            }
        };
        bytes = &bytes[end.clamp(1, bytes.len())..];
    }
}
