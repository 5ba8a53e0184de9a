//! The body of a segment: the batches of one commit as columns.
//!
//! ```text
//! version, boot, base time
//! shapes      a device with its points, as runs of series ids (or names, where the dictionary is full)
//! batches     number, frames; a frame is a shape and a count of rows, in version 2 with what thinning left out
//! per shape   row times (delta of delta), qualities where not good, then one column per point over ALL rows of the
//!             shape in this segment: integers and decimals as zigzag deltas, other floats raw, booleans as bits
//! crc32       of all before
//! ```
//! Invariant: what is decoded equals what was sealed, floats bit by bit. A body that was damaged, or that claims more
//! than it can hold, is `Corrupt`, never data and never a panic.
//!
//! Absent on purpose: general compression (pages, not bytes, cost the card), SQL.

mod bytes;
mod column;
mod crc;
mod decode;
mod encode;

pub use bytes::{Bytes, put, put_text};
pub use decode::{decode, directory};
pub use encode::encode;

use crate::model::{DeviceId, PointId};
use std::sync::Arc;

const VERSION: u8 = 1;
/// The same, and behind the rows of each frame how many samples it stands for (0: those that are there), then the window.
const VERSION_THIN: u8 = 2;
/// Rows times points that one body may claim: far above what a commit packs, far below what would exhaust memory.
const SAMPLES_MAX: u64 = 4_000_000;

/// The body is damaged or was not written by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the segment's body is damaged: {0}")]
pub struct Corrupt(pub &'static str);

/// A device with the points that are read together, as the encoder wants it.
#[derive(Debug, Clone)]
pub enum Shape {
    /// One series id per point, from the dictionary.
    Ids(Arc<[u32]>),
    /// In full: the dictionary is full, or there are no points to tell the device by.
    Names,
}

/// The dictionary, as the decoder wants it.
pub trait Names {
    fn series(&self, id: u32) -> Option<(DeviceId, PointId)>;
}

#[cfg(test)]
mod tests;
