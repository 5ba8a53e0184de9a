//! The one place that reads clocks. Everything else gets `Boot` passed in or holds a [`Clock`].
//!
//! `Clock::Paused` follows tokio's paused time, so the simulation runs the real tasks in virtual time.

use super::trust::{LOOSE_MS, Observed, Trust};
use crate::model::{Boot, ClockReading, ClockSource, WallMs};
use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

/// A wall clock that a simulation sets while everything runs: somebody steps it by years, or its battery is empty.
#[derive(Debug, Default)]
pub struct Wall {
    pub offset_ms: AtomicI64,
    pub synchronised: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// CLOCK_BOOTTIME and CLOCK_REALTIME.
    Real,
    /// Virtual: tokio's (paused) clock since `start`, at `base` then, with a made-up wall clock.
    Paused { start: tokio::time::Instant, base: Boot, offset_ms: i64 },
    /// The same with a wall clock that can be stepped. `'static`, so that a clock stays a plain value.
    Stepped { start: tokio::time::Instant, base: Boot, wall: &'static Wall },
}

impl Clock {
    pub fn now(&self) -> Boot {
        match self {
            Clock::Real => read(rustix::time::ClockId::Boottime),
            Clock::Paused { start, base, .. } | Clock::Stepped { start, base, .. } => *base + start.elapsed(),
        }
    }

    /// What the machine says of its clocks now.
    pub fn observe(&self) -> Observed {
        match self {
            Clock::Real => {
                let boot = i64::try_from(read(rustix::time::ClockId::Boottime).ms()).unwrap_or(i64::MAX);
                let wall = i64::try_from(read(rustix::time::ClockId::Realtime).ms()).unwrap_or(i64::MAX);
                let (by, error_ms) = synchronised();
                Observed { offset_ms: wall - boot, by, error_ms }
            }
            Clock::Paused { offset_ms, .. } => Observed { offset_ms: *offset_ms, by: Some(ClockSource::Ntp), error_ms: None },
            Clock::Stepped { wall, .. } => {
                let synchronised = wall.synchronised.load(Ordering::Relaxed);
                let by = synchronised.then_some(ClockSource::Ntp);
                Observed { offset_ms: wall.offset_ms.load(Ordering::Relaxed), by, error_ms: by.map(|_| 10) }
            }
        }
    }

    /// How the boot clock maps to wall time by this one look. The daemon asks its store, which remembers better ones.
    pub fn reading(&self) -> ClockReading {
        Trust::default().see(self.now(), self.observe())
    }

    /// Sleeps until the boot clock shows `at`. Returns at once if that has passed.
    pub async fn sleep_until(&self, at: Boot) {
        loop {
            let left = at - self.now();
            if left.is_zero() {
                return;
            }
            // tokio's timer has millisecond resolution and does not count suspend: look again after each sleep.
            tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
        }
    }
}

fn read(id: rustix::time::ClockId) -> Boot {
    let t = rustix::time::clock_gettime(id);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    Boot(secs * 1_000_000 + nanos / 1000)
}

/// Whether any time daemon keeps the kernel's clock, and how well. The kernel raises its largest possible error by 500
/// ppm and takes 16 s for "not synchronised"; whoever sets the clock by hand makes it so at once. The bit STA_UNSYNC says
/// less: chrony leaves it set unless it is to care for the RTC too.
fn synchronised() -> (Option<ClockSource>, Option<u64>) {
    let mut kernel = rtime_clock::adjtime::Timex::new();
    if rtime_clock::adjtime::adjtimex(&mut kernel).is_ok() {
        let error_ms = u64::try_from(kernel.0.maxerror).unwrap_or(u64::MAX).div_ceil(1000);
        return if error_ms < LOOSE_MS { (Some(ClockSource::Ntp), Some(error_ms)) } else { (None, None) };
    }
    // A sandbox forbids the question. systemd-timesyncd leaves this file once it has set the clock.
    let file = std::path::Path::new("/run/systemd/timesync/synchronized").exists();
    (file.then_some(ClockSource::File), None)
}

/// When this program was made, or a little before: no clock that shows an earlier time is right.
pub fn built() -> WallMs {
    const SOURCE: i64 = 1_795_219_200;
    let packaged = option_env!("SOURCE_DATE_EPOCH").and_then(|s| s.parse().ok()).unwrap_or(SOURCE);
    WallMs(packaged.max(SOURCE) * 1000)
}

/// The kernel's id of this boot: records of different boots have different clocks.
pub fn boot_uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|t| t.trim().to_owned()).unwrap_or_else(|_| "unknown".into())
}
