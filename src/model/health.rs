//! How the databases are: what `status` shows and what an event says when it changes.

use super::Boot;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    #[default]
    Ok,
    /// Commits take seconds; they still work.
    Slow,
    /// Writes fail: an I/O error, a disk that is gone.
    Failing,
    /// No space is left. Changes may still fit into the room that the file has.
    Full,
    /// The file system does not take writes.
    ReadOnly,
    /// It was damaged, moved aside and begun anew; writing works.
    Quarantined,
}

impl StoreState {
    pub const fn word(self) -> &'static str {
        match self {
            StoreState::Ok => "ok",
            StoreState::Slow => "slow",
            StoreState::Failing => "failing",
            StoreState::Full => "full",
            StoreState::ReadOnly => "read_only",
            StoreState::Quarantined => "quarantined",
        }
    }

    /// Whether all changes reach the disk.
    pub const fn is_written(self) -> bool {
        matches!(self, StoreState::Ok | StoreState::Slow | StoreState::Quarantined)
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StoreHealth {
    /// `state.db` or `spool.db`.
    pub file: &'static str,
    pub state: StoreState,
    /// When it came into this state.
    pub since: Boot,
    /// What failed, or what became of what the damaged file held.
    pub detail: String,
}

/// How long something took, in classes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latency {
    /// Of each bound how many took longer than the one before and at most so long.
    pub counts: [u64; Latency::BOUNDS_MS.len()],
    pub count: u64,
    pub sum: Duration,
}

impl Latency {
    /// From a fast disk in a commit to a card that is dying.
    pub const BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];

    /// So many took so long each.
    pub fn add(&mut self, each: Duration, many: u64) {
        if let Some(n) = Latency::BOUNDS_MS.iter().position(|ms| each <= Duration::from_millis(*ms)) {
            self.counts[n] += many;
        }
        self.count += many;
        self.sum = self.sum.saturating_add(each.saturating_mul(u32::try_from(many).unwrap_or(u32::MAX)));
    }
}

/// What the store has cost the disk, counted over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Wear {
    /// Since the counting began: bytes in whole pages, to the logs and from there to the files, and flushes.
    pub bytes: u64,
    pub syncs: u64,
    /// Time that was counted over, in milliseconds of running.
    pub ran_ms: u64,
}

impl Wear {
    const DAY_MS: u128 = 86_400_000;
    /// A day's rate is not told from less than this.
    const SHORT_MS: u64 = 60_000;

    fn per_day(self, count: u64) -> Option<u64> {
        (self.ran_ms >= Wear::SHORT_MS)
            .then(|| u64::try_from(u128::from(count) * Wear::DAY_MS / u128::from(self.ran_ms)).unwrap_or(u64::MAX))
    }

    /// `None`: counted for less than a minute.
    pub fn bytes_per_day(self) -> Option<u64> {
        self.per_day(self.bytes)
    }

    pub fn syncs_per_day(self) -> Option<u64> {
        self.per_day(self.syncs)
    }

    /// How many days a card lasts that takes so many bytes, if only the store wrote to it.
    pub fn card_days(self, endurance: u64) -> Option<u64> {
        self.bytes_per_day().map(|bytes| endurance / bytes.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_longer_than_every_bound_counts_in_the_sum_alone() {
        let mut took = Latency::default();
        took.add(Duration::from_millis(5), 2);
        took.add(Duration::from_micros(5001), 1);
        took.add(Duration::from_secs(6), 1);
        assert_eq!((took.counts, took.count), ([0, 0, 2, 1, 0, 0, 0, 0, 0, 0], 4));
        assert_eq!(took.sum, Duration::from_micros(6_015_001));
    }

    #[test]
    fn the_life_of_a_card_follows_from_the_bytes_of_a_day() {
        let half_a_day = Wear { bytes: 18_000_000, syncs: 4320, ran_ms: 43_200_000 };
        assert_eq!((half_a_day.bytes_per_day(), half_a_day.syncs_per_day()), (Some(36_000_000), Some(8640)));
        assert_eq!(half_a_day.card_days(5_000_000_000_000), Some(138_888));
        let just_started = Wear { bytes: 1 << 20, syncs: 9, ran_ms: 59_999 };
        assert_eq!(just_started.card_days(1), None, "the first commits of a run say nothing about a day");
        assert_eq!(Wear { ran_ms: 60_000, ..Wear::default() }.card_days(7), Some(7), "nothing is divided by zero");
    }
}
