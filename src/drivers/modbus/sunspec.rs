//! SunSpec: devices that say themselves what they have. A marker at one of three bases, then a chain of models, each with
//! its number and length; what the registers of a model mean is the same on every device.
//!
//! ```text
//! marker "SunS" at 40000, 50000, 0 ─► (number, length) ─► (number, length) ─► … ─► 0xFFFF ─► who it is ─► points
//! ```
//!
//! `walk` finds the chain, `models` says what is in it. Values come with scale-factor registers, which a device may
//! change at run time, so a value and its factor are read together. Absent on purpose: writing (schedules and limits of
//! an inverter are set by who is responsible for the grid connection), texts of models, curves.

pub mod models;
pub mod walk;

pub use models::points;
pub use walk::{BASES, Chain, Discovery, Identity, Link, MARKER, Outcome};
