//! The one place that reads clocks. Everything else gets `Boot` passed in or holds a [`Clock`].
//!
//! `Clock::Paused` follows tokio's paused time, so the simulation runs the real tasks in virtual time.

use super::{
    trust::{Observed, Trust},
    witness::Word,
};
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
                let (by, error_ms) = synchronised(Boot::from_ms(boot.cast_unsigned()), wall - boot);
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

/// Whether any time daemon keeps the kernel's clock, and how well. A sandbox may forbid the question; then a witness outside
/// of it has left the answer, or systemd-timesyncd its file once it has set the clock.
fn synchronised(now: Boot, offset_ms: i64) -> (Option<ClockSource>, Option<u64>) {
    let kept = kernel().or_else(|| Word::read().filter(|word| word.is_fresh(now)).map(|word| word.holds(now, offset_ms)));
    match kept {
        Some(Kept::Yes { error_ms }) => return (Some(ClockSource::Ntp), error_ms),
        Some(Kept::No) => return (None, None),
        None => {}
    }
    let file = std::path::Path::new("/run/systemd/timesync/synchronized").exists();
    (file.then_some(ClockSource::File), None)
}

/// Whether a time daemon keeps the clock, and by how much it can be off then, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    No,
    Yes { error_ms: Option<u64> },
}

/// What the kernel says of its clock. It raises the error by 500 ppm and takes 16 s for "not synchronised"; whoever sets the
/// clock by hand makes it so at once. The bit STA_UNSYNC says less: chrony leaves it set unless it is to care for the RTC too.
/// `None`: one may not ask.
#[cfg(target_pointer_width = "64")]
pub fn kernel() -> Option<Kept> {
    let mut kernel = rtime_clock::adjtime::Timex::new();
    rtime_clock::adjtime::adjtimex(&mut kernel).ok()?;
    let error_ms = u64::try_from(kernel.0.maxerror).unwrap_or(u64::MAX).div_ceil(1000);
    Some(if error_ms < super::trust::LOOSE_MS { Kept::Yes { error_ms: Some(error_ms) } } else { Kept::No })
}

/// No crate asks it there (docs/decisions/0038).
#[cfg(not(target_pointer_width = "64"))]
pub fn kernel() -> Option<Kept> {
    None
}

/// When this program was made, or a little before: no clock that shows an earlier time is right.
pub fn built() -> WallMs {
    const SOURCE: i64 = 1_795_219_200;
    let packaged = option_env!("SOURCE_DATE_EPOCH").and_then(|s| s.parse().ok()).unwrap_or(SOURCE);
    WallMs(packaged.max(SOURCE) * 1000)
}

/// The kernel's id of this boot: records of different boots have different clocks. Where /proc shows processes only, systemd
/// has said it, without the hyphens.
pub fn boot_uuid() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|t| t.trim().to_owned()).ok();
    let said = || std::env::var("FIELDGATE_BOOT_ID").ok().and_then(|id| hyphened(&id));
    kernel.or_else(said).unwrap_or_else(|| "unknown".into())
}

/// 32 digits as the kernel writes them.
fn hyphened(id: &str) -> Option<String> {
    let fits = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_one_id_whoever_says_it() {
        let kernel = boot_uuid();
        assert_eq!(hyphened(&kernel.replace('-', "")).as_deref(), Some(kernel.as_str()));
        assert_eq!(hyphened("unknown"), None);
        assert_eq!(hyphened("ééééééééééééééééé"), None);
    }
}
