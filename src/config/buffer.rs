//! `[buffer]`: how long data may be in RAM only, and how much disk the spool may take.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// Longest time that telemetry is in RAM only. Zero: durable before anything else. Default 1 s.
    pub window: Duration,
    /// A publisher that waits for its acknowledgement starts a commit after this. Default 100 ms.
    pub ack_within: Duration,
    /// For spool.db with its WAL. Default 512 MiB, at least 1 MiB.
    pub disk_max: u64,
    /// At `disk_max` telemetry is thinned to windows of this length before any is dropped. Zero: it is dropped at once.
    /// Default 60 s.
    pub thin_window: Duration,
    /// Bytes that the card takes in its life, for the projection in `status`. Default 5 TB.
    pub card_endurance: u64,
}

impl Buffer {
    /// What a 32 GB consumer card takes after the losses of its own translation layer: an assumption, told with the figure.
    pub const CARD_ENDURANCE: u64 = 5_000_000_000_000;
}
