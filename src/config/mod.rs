//! What the operator wrote: TOML read twice, raw (serde, with places) and then checked (these types), with every
//! problem reported at once. The rest of the program sees only the checked types.

pub mod buffer;
pub mod device;
pub mod gateway;
pub mod line;
pub mod mqtt;
pub mod uplink;

pub use buffer::Buffer;
pub use device::{Bits, DataType, Device, Point, Register, Report, Table, WordOrder, WriteRule};
pub use gateway::Gateway;
pub use line::{Line, Parity, Serial, Transport};
pub use mqtt::{LocalMqtt, Mode, Route, RouteKind, User};
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
