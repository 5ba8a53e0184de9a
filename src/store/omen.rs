//! A word beside the databases that says since when the disk has failed, for the run after this one.
//!
//! A run that ends while its disk fails cannot write down what it lost. This file is laid out at the start and only
//! overwritten, so it needs no room on a full disk. On one that is gone or read-only it says nothing.

use crate::model::{Boot, ClockReading};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

const BYTES: usize = 128;
const WELL: &str = "well";

#[derive(Debug)]
pub struct Omen {
    file: Option<File>,
    failing: bool,
}

/// When the trouble began that the run before did not see the end of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    boot_uuid: String,
    at: Boot,
    wall_ms: i64,
}

impl Since {
    fn parse(text: &str) -> Option<Since> {
        let mut words = text.split_whitespace();
        if words.next()? != "failing" {
            return None;
        }
        Some(Since {
            boot_uuid: words.next()?.into(),
            at: Boot::from_ms(words.next()?.parse().ok()?),
            wall_ms: words.next()?.parse().ok()?,
        })
    }

    /// At most so long is missing: until now, for when the run ended nobody knows. Across boots by wall time.
    pub fn age(&self, boot_uuid: &str, now: Boot, clock: ClockReading) -> Duration {
        if self.boot_uuid == boot_uuid {
            return now.since(self.at);
        }
        Duration::from_millis(u64::try_from(clock.wall(now).0.saturating_sub(self.wall_ms)).unwrap_or(0))
    }
}

impl Omen {
    /// What the run before left, and the file laid out for this one.
    pub fn open(dir: &Path) -> (Omen, Option<Since>) {
        let path = dir.join("disk-trouble");
        let before = std::fs::read_to_string(&path).ok().and_then(|text| Since::parse(&text));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok();
        // It stays until the next commit works, in case this run dies as well.
        let mut omen = Omen { file, failing: before.is_some() };
        if before.is_none() {
            omen.write(WELL);
        }
        (omen, before)
    }

    /// The first failure, or the first success after one. Anything else costs nothing.
    pub fn tell(&mut self, fails: bool, boot_uuid: &str, now: Boot, clock: ClockReading) {
        if std::mem::replace(&mut self.failing, fails) == fails {
            return;
        }
        let text = if fails { format!("failing {boot_uuid} {} {}", now.ms(), clock.wall(now).0) } else { WELL.to_owned() };
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        let Some(file) = &self.file else { return };
        let mut line = text.to_owned();
        line.extend(std::iter::repeat_n(' ', (BYTES - 1).saturating_sub(text.len())));
        line.push('\n');
        // The disk may fail for this as for everything else.
        let _ = file.write_all_at(line.as_bytes(), 0).and_then(|()| file.sync_data());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_knows_since_when_the_disk_failed() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ClockReading::synchronised(1_000_000);
        let (mut omen, before) = Omen::open(dir.path());
        assert_eq!(before, None);
        omen.tell(true, "boot-1", Boot::from_ms(5000), clock);
        omen.tell(true, "boot-1", Boot::from_ms(9000), clock);
        let (_, before) = Omen::open(dir.path());
        let before = before.unwrap();
        assert_eq!(before.age("boot-1", Boot::from_ms(65_000), clock), Duration::from_secs(60));
        let later = ClockReading { offset_ms: 2_000_000, ..clock };
        assert_eq!(before.age("boot-2", Boot::from_ms(5000), later), Duration::from_secs(1000));
        assert_eq!(before.age("boot-2", Boot::from_ms(5000), ClockReading { offset_ms: 0, ..clock }), Duration::ZERO);
        let (mut omen, _) = Omen::open(dir.path());
        omen.tell(false, "boot-2", Boot(0), clock);
        assert_eq!(Omen::open(dir.path()).1, None);
    }

    #[test]
    fn garbage_says_nothing() {
        for text in ["", "failing", "failing b", "failing b x 1", "\u{0}\u{0}", "well"] {
            assert_eq!(Since::parse(text), None, "{text:?}");
        }
    }
}
