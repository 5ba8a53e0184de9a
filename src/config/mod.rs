//! What the operator wrote: TOML read twice, raw (a tree with places) and then checked (these types), with every
//! problem reported at once. The rest of the program sees only the checked types.
//!
//! ```text
//! files ─ tree::parse ─► tree ─ merge conf.d ─ fill groups ─ overlay profiles ─► check::* ─► Config
//!                          └──────────────── problems, each with its place ─────────────► render
//! ```
//! The raw side is a walk over the document instead of serde structs: serde stops at the first error, and an operator
//! wants them all. Absent on purpose: what drivers know (the plan of requests); `cli::check` adds that.

mod adhoc;
pub mod api;
pub mod buffer;
mod check;
mod condition;
pub mod device;
pub mod framed;
pub mod gateway;
pub mod history;
mod keys;
pub mod line;
mod load;
pub mod mqtt;
mod nearest;
pub mod problem;
pub mod profile;
pub mod render;
pub mod rules;
pub mod schedule;
pub mod source;
pub mod surroundings;
mod table;
#[cfg(test)]
mod tests;
mod tree;
pub mod uplink;
mod watching;
pub mod webhook;
mod words;
pub mod writing;
pub mod written;
pub mod zone;

pub use adhoc::point as adhoc_point;
pub use api::Api;
pub use buffer::Buffer;
pub use check::preset_sheet as preset;
pub use device::{
    Bits, Chars, Counter, DataType, Device, Encoding, Lane, Layout, Names, Point, Register, Report, Table, Time, TimeForm, WordOrder,
    WriteRule,
};
pub use framed::Framed;
pub use gateway::Gateway;
pub use history::History;
pub use line::{Line, Parity, Protocol, Serial, Transport};
pub use load::{Counts, Loaded, load, load_with};
pub use mqtt::{LocalMqtt, Mode, Route, RouteKind, Shape, User};
pub use nearest::nearest;
pub use problem::{Code, Problem, Problems, Severity};
pub use profile::{Expect, Probe, Profile};
pub use rules::Rule;
pub use schedule::Schedule;
pub use surroundings::{Secrets, Surroundings};
pub use uplink::{Dialect, Mqtt, Secret, Uplink};
pub use watching::Watching;
pub use webhook::Webhook;
pub use writing::{FixedWrite, RawPdu, Refresh};

use crate::model::{Analysis, DeviceId, LineId};

/// A configuration that checks. Everything in it is resolved: groups expanded, profiles merged, defaults filled in,
/// every device's line present in `lines`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub gateway: Gateway,
    /// In order of id.
    pub lines: Vec<Line>,
    /// In order of id.
    pub devices: Vec<Device>,
    /// Those on lines with `protocol = "ascii"`, in order of id.
    pub framed: Vec<Framed>,
    /// `None`: values are not kept here beyond the latest.
    pub history: Option<History>,
    pub mqtt: Option<LocalMqtt>,
    /// `None`: nothing listens.
    pub api: Option<Api>,
    /// In order of their names; none keeps everything here (a warning says so).
    pub uplinks: Vec<Uplink>,
    pub buffer: Buffer,
    pub watch: Watching,
    /// In order of id.
    pub schedules: Vec<Schedule>,
    /// In order of name.
    pub webhooks: Vec<Webhook>,
    /// In order of their names.
    pub rules: Vec<Rule>,
    /// In order of their names.
    pub analytics: Vec<Analysis>,
}

impl Config {
    /// For what concerns a cloud at all: the first required one.
    pub fn uplink(&self) -> Option<&Uplink> {
        self.uplinks.iter().find(|u| u.required).or(self.uplinks.first())
    }

    /// `None`: the device is not configured, a message made it.
    pub fn line_of(&self, device: &DeviceId) -> Option<&LineId> {
        if let Ok(n) = self.devices.binary_search_by(|d| d.id.cmp(device)) {
            return Some(&self.devices[n].line);
        }
        self.framed.binary_search_by(|d| d.id.cmp(device)).ok().map(|n| &self.framed[n].line)
    }
}
