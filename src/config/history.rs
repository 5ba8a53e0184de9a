//! `[history]`: values kept on this machine for whoever asks here, for how long and how large.

use crate::model::{DeviceId, PointId};
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Samples as they were read. Default 7 d.
    pub keep: Duration,
    /// Least, mean and greatest of each minute. Zero: none are made. Default 30 d.
    pub minutes: Duration,
    /// The same of each quarter of an hour. Default 365 d.
    pub quarters: Duration,
    /// For samples.db. Default 64 MiB.
    pub disk_max: u64,
    /// Written so often; what came since is lost by a crash. Default 5 min.
    pub commit_every: Duration,
    /// Where it is another time than `keep`.
    pub points: Exceptions,
}

/// Zero: not kept at all, neither as samples nor as minutes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exceptions {
    pub devices: BTreeMap<DeviceId, Duration>,
    pub points: BTreeMap<DeviceId, BTreeMap<PointId, Duration>>,
}

impl History {
    /// Whether slots so wide are made; 0 stands for the samples themselves.
    pub fn keeps(&self, seconds: u32) -> bool {
        match seconds {
            0 => true,
            60 => !self.minutes.is_zero(),
            _ => !self.quarters.is_zero(),
        }
    }

    /// Whether anything of the device is kept.
    pub fn wants(&self, device: &DeviceId) -> bool {
        let whole = self.points.devices.get(device).copied().unwrap_or(self.keep);
        !whole.is_zero() || self.points.points.get(device).is_some_and(|points| points.values().any(|keep| !keep.is_zero()))
    }

    pub fn keep_of(&self, device: &DeviceId, point: &PointId) -> Duration {
        let own = self.points.points.get(device).and_then(|points| points.get(point));
        own.or_else(|| self.points.devices.get(device)).copied().unwrap_or(self.keep)
    }

    /// Whether one time holds for all points of the device.
    pub fn keep_of_all(&self, device: &DeviceId) -> Option<Duration> {
        let one = !self.points.points.contains_key(device);
        one.then(|| self.points.devices.get(device).copied().unwrap_or(self.keep))
    }
}
