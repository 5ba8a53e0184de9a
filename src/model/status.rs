//! What surfaces show: figures of lines, uplinks and the spool, and the device list that the cloud gets at birth.

use super::{Boot, DeviceId, DeviceStatus, LineId, LineState, PointId};
use std::sync::Arc;

/// Kept by a line's owner, read by `status`, events and metrics.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LineFigures {
    pub line: LineId,
    pub state: LineState,
    pub reason: String,
    pub requests: u64,
    pub answers: u64,
    pub silent: u64,
    pub garbled: u64,
    pub refused: u64,
    /// Replies that came after their request was given up.
    pub late: u64,
    /// Replies of other units or to other requests.
    pub foreign: u64,
    /// Polls that could not run in their period.
    pub missed: u64,
    /// Share of the last minute in which the line was busy, 0 to 1.
    pub utilisation: f64,
    /// What was found to be spoken there, where that is found out: `mbap`, `rtu`, empty.
    pub framing: &'static str,
    pub devices: Vec<DeviceFigures>,
}

/// How one device of a line answers, since the start of the process.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DeviceFigures {
    pub device: DeviceId,
    pub requests: u64,
    pub answers: u64,
    pub silent: u64,
    pub garbled: u64,
    pub refused: u64,
    /// Replies that came after their request was given up, and how late the latest of them was.
    pub late: u64,
    pub worst_late_ms: u64,
    /// The timeout in force, and the one that every late reply so far would have met.
    pub timeout_ms: u64,
    pub timeout_wanted_ms: Option<u64>,
    /// From the end of a request to the begin of its answer: the mean, and what 95 of 100 stay below.
    pub answer_ms: Option<f64>,
    pub answer_p95_ms: Option<f64>,
    /// The silence kept after its answers beyond the line's own.
    pub gap_ms: u64,
    /// The shortest period that the line can give it as things are.
    pub cycle_ms: Option<u64>,
    /// Registers, tables and limits that it was found to refuse.
    pub holes: usize,
    /// What a person should know: a gateway that has no path to it.
    pub trouble: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UplinkState {
    #[default]
    Unknown,
    Up,
    CatchingUp,
    Down,
}

impl UplinkState {
    pub const fn word(self) -> &'static str {
        match self {
            UplinkState::Unknown => "unknown",
            UplinkState::Up => "up",
            UplinkState::CatchingUp => "catching_up",
            UplinkState::Down => "down",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct UplinkFigures {
    pub state: UplinkState,
    pub since: Boot,
    /// Why it is down, in words.
    pub reason: String,
    /// Publish to PUBACK, the latest, in milliseconds.
    pub answer_ms: Option<u64>,
    /// When the cloud acknowledged a message last.
    pub acknowledged: Option<Boot>,
    pub messages_sent: u64,
    pub messages_acknowledged: u64,
    pub bytes_sent: u64,
    pub connects: u64,
    /// Messages without their acknowledgement, and how many there may be at present.
    pub in_flight: usize,
    pub window: usize,
    /// The broker in use, or the one tried last. Empty before the first.
    pub broker: std::sync::Arc<str>,
}

/// What the spool holds for one uplink.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct UplinkSpool {
    pub waiting_samples: u64,
    pub oldest_age_ms: Option<u64>,
    pub acknowledged_samples: u64,
    /// That it never gets.
    pub dropped_samples: u64,
    /// Samples acknowledged in a second, over the last ten.
    pub drain_rate: u64,
    /// Until nothing waits, if it goes on like this. `None`: nothing waits, or it does not become less.
    pub drained_in_s: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct SpoolFigures {
    /// Batches and samples not yet acknowledged by the cloud.
    pub waiting_batches: u64,
    pub waiting_samples: u64,
    pub oldest_age_ms: Option<u64>,
    pub sealed_samples: u64,
    pub acknowledged_samples: u64,
    pub dropped_samples: u64,
    /// That were replaced by thinned ones.
    pub thinned_samples: u64,
    pub commits: u64,
    pub bytes_written: u64,
    pub disk_bytes: u64,
    pub disk_max: u64,
    /// Why the last write failed; empty while writing works.
    pub trouble: String,
}

/// One device as the cloud learns it at birth and on change.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceCard {
    pub status: DeviceStatus,
    pub profile: Option<String>,
    /// One list for devices of one kind.
    pub points: Arc<[PointCard]>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PointCard {
    pub id: PointId,
    pub unit: String,
    /// `u16`, `f32`, `bool`, …; empty where the field decides (MQTT).
    pub kind: &'static str,
    pub writable: bool,
}
