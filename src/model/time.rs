//! Two clocks that are never mixed: the boot clock orders and expires, the wall clock is for people and the cloud.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A moment on CLOCK_BOOTTIME, in microseconds. It counts through suspend and never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Boot(pub u64);

impl Boot {
    pub const fn from_ms(ms: u64) -> Boot {
        Boot(ms * 1000)
    }

    /// Whole milliseconds, the resolution that records and messages carry.
    pub const fn ms(self) -> u64 {
        self.0 / 1000
    }

    /// Zero if `earlier` is later: a monotonic clock read on two cores may differ by a tick.
    pub fn since(self, earlier: Boot) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub fn saturating_sub(self, by: Duration) -> Boot {
        Boot(self.0.saturating_sub(micros(by)))
    }
}

impl Add<Duration> for Boot {
    type Output = Boot;
    fn add(self, by: Duration) -> Boot {
        Boot(self.0.saturating_add(micros(by)))
    }
}

impl Sub<Boot> for Boot {
    type Output = Duration;
    fn sub(self, earlier: Boot) -> Duration {
        self.since(earlier)
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct WallMs(pub i64);

/// Index of a kernel boot in the spool's table of boots: records of an earlier boot keep their own offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BootIndex(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockQuality {
    /// The kernel says its clock is synchronised.
    Synchronised,
    /// Wall time is the best guess; a later message may correct it.
    Estimated,
}

/// How the boot clock of one boot maps to wall time: wall = boot + offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClockReading {
    pub offset_ms: i64,
    pub quality: ClockQuality,
}

impl ClockReading {
    pub fn wall(&self, at: Boot) -> WallMs {
        WallMs(i64::try_from(at.ms()).unwrap_or(i64::MAX).saturating_add(self.offset_ms))
    }
}
