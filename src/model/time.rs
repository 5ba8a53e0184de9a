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
    /// The offset comes from a clock that was synchronised in this boot, or that the operator trusts.
    Synchronised,
    /// Wall time is the best guess; a later message may correct it.
    Estimated,
    /// Of a boot that is over and was never synchronised: it lies between two known moments. The time told is the later
    /// end, the error the distance to the other one.
    Interval,
}

impl ClockQuality {
    pub const ALL: [ClockQuality; 3] = [ClockQuality::Synchronised, ClockQuality::Estimated, ClockQuality::Interval];

    pub const fn word(self) -> &'static str {
        match self {
            ClockQuality::Synchronised => "synchronised",
            ClockQuality::Estimated => "estimated",
            ClockQuality::Interval => "interval",
        }
    }
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    /// The kernel: a time daemon of whatever kind keeps its clock.
    Ntp,
    /// systemd-timesyncd's file, where the kernel may not be asked.
    File,
    /// The machine's own clock, because the operator trusts it.
    Rtc,
    /// The boots before and after.
    Neighbours,
    /// Nobody: whatever the wall clock shows.
    #[default]
    Guess,
}

impl ClockSource {
    pub const ALL: [ClockSource; 5] = [ClockSource::Ntp, ClockSource::File, ClockSource::Rtc, ClockSource::Neighbours, ClockSource::Guess];

    pub const fn word(self) -> &'static str {
        match self {
            ClockSource::Ntp => "ntp",
            ClockSource::File => "file",
            ClockSource::Rtc => "rtc",
            ClockSource::Neighbours => "neighbours",
            ClockSource::Guess => "guess",
        }
    }
}

/// How the boot clock of one boot maps to wall time: wall = boot + offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClockReading {
    pub offset_ms: i64,
    pub quality: ClockQuality,
    /// Times are wrong by at most so much. `None`: nobody knows.
    pub error_ms: Option<u64>,
    pub source: ClockSource,
}

impl ClockReading {
    /// From a time daemon that does not say how good it is.
    pub const fn synchronised(offset_ms: i64) -> ClockReading {
        ClockReading { offset_ms, quality: ClockQuality::Synchronised, error_ms: None, source: ClockSource::Ntp }
    }

    pub const fn estimated(offset_ms: i64) -> ClockReading {
        ClockReading { offset_ms, quality: ClockQuality::Estimated, error_ms: None, source: ClockSource::Guess }
    }

    pub fn is_synchronised(&self) -> bool {
        self.quality == ClockQuality::Synchronised
    }

    pub fn wall(&self, at: Boot) -> WallMs {
        WallMs(i64::try_from(at.ms()).unwrap_or(i64::MAX).saturating_add(self.offset_ms))
    }
}

/// What became known of a boot's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockChange {
    pub boot: BootIndex,
    pub before: Option<ClockReading>,
    pub after: ClockReading,
}
