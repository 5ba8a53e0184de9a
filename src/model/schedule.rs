//! What is written at its time: when, what becomes of runs that were missed, and which points of which devices.

mod read;
mod words;

use super::{Action, Cron, DeviceId, PointId, ScheduleId, Value, WallMs, calendar};
use std::{collections::BTreeMap, time::Duration};

/// The shortest and the longest time between two runs of an interval.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
pub const EVERY_MAX: Duration = Duration::from_secs(366 * 86_400);

#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub timing: Timing,
    /// Of `cron`, and of `at` where it says none itself.
    pub zone: String,
    pub missed: Missed,
    /// It also runs by a clock that nobody has set.
    pub untrusted_clock: bool,
    /// At least one; each point once.
    pub write: Vec<Target>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    At(When),
    Cron(Cron),
    Every {
        /// Whole seconds.
        every: Duration,
        /// One of its runs, in seconds since 1970 of UTC.
        anchor: i64,
    },
}

/// A moment as it was written, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It said its zone: seconds since 1970 of UTC.
    Utc(i64),
    /// What a clock in the schedule's zone shows then.
    Local(i64),
}

/// What becomes of runs whose time passed while nothing could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    #[default]
    Skip,
    /// However many they were, it runs once.
    Once,
    /// Each runs, the oldest first.
    All,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub device: DeviceId,
    pub point: PointId,
    pub value: Value,
}

/// What somebody wants of the schedules that are kept beside those of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleAsk {
    /// Added, or in the place of the one with this id.
    Set(ScheduleId, Schedule),
    Remove(ScheduleId),
    Enable(ScheduleId, bool),
    List,
}

/// What happened to a schedule that is worth an event. Its runs are commands, which have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleNews {
    Set,
    Enabled,
    Disabled,
    Removed,
    Missed,
}

impl ScheduleNews {
    pub const fn word(self) -> &'static str {
        match self {
            ScheduleNews::Set => "set",
            ScheduleNews::Enabled => "enabled",
            ScheduleNews::Disabled => "disabled",
            ScheduleNews::Removed => "removed",
            ScheduleNews::Missed => "missed",
        }
    }
}

impl Missed {
    pub const ALL: [Missed; 3] = [Missed::Skip, Missed::Once, Missed::All];

    pub const fn word(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::Once => "once",
            Missed::All => "all",
        }
    }
}

impl When {
    /// `2026-12-24T18:00:00` with or without seconds, and with or without a zone (`Z`, `+01:00`).
    pub fn parse(text: &str) -> Option<When> {
        let whole = |at: WallMs| (at.0 % 1000 == 0).then_some(at.0 / 1000);
        let text = text.trim();
        if let Some(at) = calendar::parse_rfc3339(text) {
            return whole(at).map(When::Utc);
        }
        let local = calendar::parse_rfc3339(&format!("{text}Z")).or_else(|| calendar::parse_rfc3339(&format!("{text}:00Z")))?;
        whole(local).map(When::Local)
    }

    /// As it is read.
    pub fn text(self) -> String {
        match self {
            When::Utc(at) => calendar::text(at) + "Z",
            When::Local(at) => calendar::text(at),
        }
    }
}

impl Schedule {
    /// What is written, by device in the order in which they were named.
    pub fn actions(&self) -> Vec<(DeviceId, Action)> {
        let mut all: Vec<(DeviceId, BTreeMap<PointId, Value>)> = Vec::new();
        for Target { device, point, value } in &self.write {
            let at = all.iter().position(|(d, _)| d == device).unwrap_or_else(|| {
                all.push((device.clone(), BTreeMap::new()));
                all.len() - 1
            });
            all[at].1.insert(point.clone(), value.clone());
        }
        all.into_iter().map(|(device, values)| (device, Action::Write(values))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        assert_eq!(When::parse(text).map(When::text).as_deref(), want, "{text}");
    }

    #[test]
    fn a_moment_is_read_with_and_without_a_zone() {
        check("2026-12-24T18:00:00", Some("2026-12-24T18:00:00"));
        check("2026-12-24 18:00", Some("2026-12-24T18:00:00"));
        check("2026-12-24T18:00:00Z", Some("2026-12-24T18:00:00Z"));
        check("2026-12-24T18:00:00+01:00", Some("2026-12-24T17:00:00Z"));
        check("2026-12-24T18:00:00.500Z", None);
        check("2026-12-24", None);
        check("18:00", None);
        check("tomorrow", None);
    }
}
