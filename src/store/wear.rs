//! What a commit costs the disk, measured: frames in the write-ahead log, as SQLite counts them in its shared index.
//!
//! Counted are whole pages to the log and, when the log begins anew, from there to the file, with the flushes of both. Not
//! counted is the journal of the file system; `/proc/self/io` beside it is the kernel's own figure for the process.

use super::{db::Page, quarantine::beside};
use crate::model::{Boot, Wear};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Where the index says how large a page is, and behind that how many frames the log holds: two bytes and four, in this
/// machine's byte order.
const FRAMES_AT: u64 = 14;

/// One database's log.
#[derive(Debug)]
pub struct Gauge {
    index: Option<File>,
    frames: u64,
}

impl Gauge {
    pub fn new(database: &Path) -> Gauge {
        let mut gauge = Gauge { index: File::open(beside(database, "-shm")).ok(), frames: 0 };
        gauge.frames = gauge.read().map_or(0, |(_, frames)| frames);
        gauge
    }

    fn read(&self) -> Option<(Page, u64)> {
        let mut bytes = [0; 6];
        self.index.as_ref()?.read_exact_at(&mut bytes, FRAMES_AT).ok()?;
        let [p0, p1, frames @ ..] = bytes;
        let page = Page::sized(u64::from(u16::from_ne_bytes([p0, p1])));
        Some((page, u64::from(u32::from_ne_bytes(frames))))
    }

    /// After a turn in which something may have been committed: what it has cost. Half a microsecond.
    pub fn look(&mut self) -> (u64, u64) {
        let Some((page, now)) = self.read() else { return (0, 0) };
        let before = std::mem::replace(&mut self.frames, now);
        cost(page, before, now)
    }
}

/// Bytes and flushes between two counts of frames. A count that fell: the log was copied into the file and begun anew. Its
/// pages were all different at most.
const fn cost(page: Page, before: u64, now: u64) -> (u64, u64) {
    if now == before {
        (0, 0)
    } else if now > before {
        ((now - before) * page.logged(), 1)
    } else {
        (now * page.logged() + before * page.bytes(), 3)
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
        let page = Page::sized(4096);
        assert_eq!(cost(page, 10, 10), (0, 0));
        assert_eq!(cost(page, 10, 13), (3 * 4120, 1));
        assert_eq!(cost(page, 200, 4), (4 * 4120 + 200 * 4096, 3));
    }

    #[test]
    fn the_log_of_a_real_database_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = crate::store::db::open(&path, &["CREATE TABLE t (a)"], 4 << 20).unwrap();
        let mut gauge = Gauge::new(&path);
        db.execute("INSERT INTO t VALUES (zeroblob(20000))", []).unwrap();
        let (bytes, syncs) = gauge.look();
        assert!((20 * Page::NEW.logged()..=26 * Page::NEW.logged()).contains(&bytes), "{bytes}");
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
