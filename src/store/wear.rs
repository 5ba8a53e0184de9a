//! What a commit costs the disk, measured: frames in the write-ahead log, as SQLite counts them in its shared index.
//!
//! Counted are whole pages to the log and, when the log begins anew, from there to the file, with the flushes of both. Not
//! counted is the journal of the file system; `/proc/self/io` beside it is the kernel's own figure for the process.

use super::quarantine::beside;
use crate::model::{Boot, Wear};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// A page in the log, with its header, and in the file.
const FRAME: u64 = 4120;
const PAGE: u64 = 4096;
/// Where the index says how many frames the log holds: a number of this machine's byte order.
const FRAMES_AT: u64 = 16;

/// One database's log.
#[derive(Debug)]
pub struct Gauge {
    index: Option<File>,
    frames: u64,
}

impl Gauge {
    pub fn new(database: &Path) -> Gauge {
        let mut gauge = Gauge { index: File::open(beside(database, "-shm")).ok(), frames: 0 };
        gauge.frames = gauge.read().unwrap_or(0);
        gauge
    }

    fn read(&self) -> Option<u64> {
        let mut bytes = [0; 4];
        self.index.as_ref()?.read_exact_at(&mut bytes, FRAMES_AT).ok()?;
        Some(u64::from(u32::from_ne_bytes(bytes)))
    }

    /// After a turn in which something may have been committed: what it has cost. Half a microsecond.
    pub fn look(&mut self) -> (u64, u64) {
        let Some(now) = self.read() else { return (0, 0) };
        let before = std::mem::replace(&mut self.frames, now);
        cost(before, now)
    }
}

/// Bytes and flushes between two counts of frames. A count that fell: the log was copied into the file and begun anew. Its
/// pages were all different at most.
const fn cost(before: u64, now: u64) -> (u64, u64) {
    if now == before {
        (0, 0)
    } else if now > before {
        ((now - before) * FRAME, 1)
    } else {
        (now * FRAME + before * PAGE, 3)
    }
}

/// The count over restarts.
#[derive(Debug)]
pub struct Total {
    before: Wear,
    run: Wear,
    started: Boot,
    written: Boot,
}

impl Total {
    pub fn new(before: Wear, started: Boot) -> Total {
        Total { before, run: Wear::default(), started, written: started }
    }

    pub fn add(&mut self, (bytes, syncs): (u64, u64)) {
        self.run.bytes += bytes;
        self.run.syncs += syncs;
    }

    pub fn now(&self, now: Boot) -> Wear {
        let ran = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
        Wear {
            bytes: self.before.bytes.saturating_add(self.run.bytes),
            syncs: self.before.syncs.saturating_add(self.run.syncs),
            ran_ms: self.before.ran_ms.saturating_add(ran),
        }
    }

    /// To be written with a commit that is made anyway; `None`: it was written lately.
    pub fn due(&self, now: Boot) -> Option<Wear> {
        (now.since(self.written) >= crate::limits::WEAR_EVERY).then(|| self.now(now))
    }

    pub fn written(&mut self, now: Boot) {
        self.written = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_log_that_begins_anew_has_been_copied_into_the_file() {
        assert_eq!(cost(10, 10), (0, 0));
        assert_eq!(cost(10, 13), (3 * FRAME, 1));
        assert_eq!(cost(200, 4), (4 * FRAME + 200 * PAGE, 3));
    }

    #[test]
    fn the_log_of_a_real_database_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = crate::store::db::open(&path, &["CREATE TABLE t (a)"], 1000).unwrap();
        let mut gauge = Gauge::new(&path);
        db.execute("INSERT INTO t VALUES (zeroblob(20000))", []).unwrap();
        let (bytes, syncs) = gauge.look();
        assert!((5 * FRAME..=8 * FRAME).contains(&bytes), "{bytes}");
        assert_eq!((syncs, gauge.look()), (1, (0, 0)));
        assert_eq!(Gauge::new(&dir.path().join("none")).look(), (0, 0));
    }

    #[test]
    fn the_count_goes_on_after_a_restart() {
        let mut total = Total::new(Wear { bytes: 100, syncs: 10, ran_ms: 1000 }, Boot(0));
        total.add((4120, 1));
        let now = Boot::from_ms(2000);
        assert_eq!(total.now(now), Wear { bytes: 4220, syncs: 11, ran_ms: 3000 });
        assert_eq!(total.due(now), None);
        let later = Boot(0) + crate::limits::WEAR_EVERY + Duration::from_secs(1);
        assert!(total.due(later).is_some());
        total.written(later);
        assert_eq!(total.due(later), None);
    }
}
