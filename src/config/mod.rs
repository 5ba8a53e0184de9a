//! What the operator wrote: TOML read twice, raw (a tree with places) and then checked (these types), with every
//! problem reported at once. The rest of the program sees only the checked types.
//!
//! ```text
//! files ─ tree::parse ─► tree ─ merge conf.d ─ fill groups ─ overlay profiles ─► check::* ─► Config
//!                          └──────────────── problems, each with its place ─────────────► render
//! ```
//! The raw side is a walk over the document instead of serde structs: serde stops at the first error, and an operator
//! wants them all. Absent on purpose: what drivers know (the plan of requests); `cli::check` adds that.

pub mod buffer;
mod check;
pub mod device;
pub mod gateway;
mod keys;
pub mod line;
mod load;
pub mod mqtt;
mod nearest;
pub mod problem;
pub mod profile;
pub mod render;
pub mod source;
pub mod surroundings;
mod table;
#[cfg(test)]
mod tests;
mod tree;
pub mod uplink;
mod words;

pub use buffer::Buffer;
pub use device::{Bits, DataType, Device, Point, Register, Report, Table, WordOrder, WriteRule};
pub use gateway::Gateway;
pub use line::{Line, Parity, Serial, Transport};
pub use load::{Counts, Loaded, load, load_with};
pub use mqtt::{LocalMqtt, Mode, Route, RouteKind, User};
pub use nearest::nearest;
pub use problem::{Code, Problem, Problems, Severity};
pub use profile::{Expect, Probe, Profile};
pub use surroundings::{Secrets, Surroundings};
pub use uplink::{Dialect, Secret, Uplink};

/// A configuration that checks. Everything in it is resolved: groups expanded, profiles merged, defaults filled in,
/// every device's line present in `lines`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub gateway: Gateway,
    /// In order of id.
    pub lines: Vec<Line>,
    /// In order of id.
    pub devices: Vec<Device>,
    pub mqtt: Option<LocalMqtt>,
    /// One in this version; `None` keeps everything here (a warning says so).
    pub uplink: Option<Uplink>,
    pub buffer: Buffer,
}
