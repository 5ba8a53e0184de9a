//! The one place that reads clocks. Everything else gets `Boot` passed in or holds a [`Clock`].
//!
//! `Clock::Paused` follows tokio's paused time, so the simulation runs the real tasks in virtual time.

use crate::model::{Boot, ClockQuality, ClockReading};
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

    /// How the boot clock maps to wall time now, and whether that can be trusted.
    pub fn reading(&self) -> ClockReading {
        match self {
            Clock::Real => {
                let boot = i64::try_from(read(rustix::time::ClockId::Boottime).ms()).unwrap_or(i64::MAX);
                let wall = i64::try_from(read(rustix::time::ClockId::Realtime).ms()).unwrap_or(i64::MAX);
                let quality = if synchronised() { ClockQuality::Synchronised } else { ClockQuality::Estimated };
                ClockReading { offset_ms: wall - boot, quality }
            }
            Clock::Paused { offset_ms, .. } => ClockReading { offset_ms: *offset_ms, quality: ClockQuality::Synchronised },
            Clock::Stepped { wall, .. } => {
                let synchronised = wall.synchronised.load(Ordering::Relaxed);
                let quality = if synchronised { ClockQuality::Synchronised } else { ClockQuality::Estimated };
                ClockReading { offset_ms: wall.offset_ms.load(Ordering::Relaxed), quality }
            }
        }
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

/// systemd-timesyncd leaves this file once the clock was set from the network; a container's or chrony's host does not.
fn synchronised() -> bool {
    std::path::Path::new("/run/systemd/timesync/synchronized").exists()
}

/// The kernel's id of this boot: records of different boots have different clocks.
pub fn boot_uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|t| t.trim().to_owned()).unwrap_or_else(|_| "unknown".into())
}
