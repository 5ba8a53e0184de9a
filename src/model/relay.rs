//! Switched points: whether they are on, since when, and what made them so.

use super::{Boot, CommandId, DeviceId, PointId};

/// A command that switched something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    pub command: CommandId,
    /// Who commanded: `uplink cloud`, `local anna`.
    pub source: String,
}

/// A switched point as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    pub device: DeviceId,
    pub point: PointId,
    pub on: bool,
    pub at: Boot,
    /// `None`: it was seen so; a hand, the device or somebody else did it.
    pub by: Option<By>,
    /// Since it was stored last, with this one: more than one if it switched faster than it is written.
    pub changes: u32,
}
