//! What happens at each limit, and when the disk fails.

use super::*;
use crate::{
    model::{DeadLetter, Epoch, Stream},
    store::spool::core::Room,
};

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Inline, at moments of its own.
struct Bench {
    dir: TempDir,
    store: Store,
    epoch: Epoch,
    now: Boot,
}

impl Bench {
    fn new(tuning: impl Fn(&mut Tuning)) -> Bench {
        let dir = dir();
        let (store, restored) = Bench::open(&dir, &tuning);
        Bench { dir, store, epoch: restored.epoch, now: Clock::Real.now() }
    }

    fn open(dir: &TempDir, tuning: &impl Fn(&mut Tuning)) -> (Store, Restored) {
        let o = options(dir.path(), Backing::Inline);
        let mut t = Tuning::of(o.buffer.disk_max, Duration::ZERO);
        tuning(&mut t);
        open::open(&o, t).unwrap()
    }

    /// Seals so many batches, each its own segment if `apart`.
    fn seal(&mut self, count: u64, points: usize, apart: bool) {
        for n in 0..count {
            self.store.spool().append(frames(n, points, self.now), vec![], self.now);
            if apart {
                self.save();
            }
        }
        self.save();
    }

    fn save(&mut self) {
        self.now = self.now + Duration::from_millis(1500);
        self.store.poll(self.now);
    }

    fn db(&self, file: &str) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join(file)).unwrap()
    }

    /// Everything that is still to be sent.
    fn rest(&self) -> Vec<u64> {
        let spool = self.store.spool();
        std::iter::from_fn(|| spool.next_backlog(U).or_else(|| spool.next_live(U))).map(|o| o.sealed.key.seq).collect()
    }
}

/// A file of so many KiB.
fn kib(max: u64) -> impl Fn(&mut Tuning) {
    move |t| {
        t.sizes.file_max = max << 10;
        t.sizes.disk_max = max << 10;
    }
}

#[test]
fn a_full_disk_drops_the_oldest_and_names_exactly_what_went() {
    let mut b = Bench::new(kib(400));
    b.seal(3, 2000, true);
    // Of the oldest segment one batch is delivered: it must not be named.
    b.seal(3, 2000, false);
    let sent: Vec<_> =
        (0..6).map(|_| b.store.spool().next_backlog(U).or_else(|| b.store.spool().next_live(U)).unwrap().sealed.key).collect();
    b.store.spool().acknowledged(U, sent[4], b.now);
    b.store.spool().return_unacknowledged(U);
    b.seal(80, 2000, true);
    let gaps = gaps(&b.store);
    let rest = b.rest();
    let mut all: Vec<u64> = gaps.iter().flat_map(|(key, to, _)| key.seq..=*to).collect();
    assert!(gaps.iter().all(|(key, to, samples)| *samples == (to - key.seq + 1) * 2000 && key.epoch == b.epoch), "{gaps:?}");
    assert!(!all.is_empty() && !all.contains(&5) && !rest.contains(&5), "{all:?}");
    all.extend(&rest);
    all.push(5);
    all.sort_unstable();
    assert_eq!(all, (1..=86).collect::<Vec<_>>(), "each is to come, delivered, or named once");
    let figures = b.store.spool().figures(b.now);
    assert!(figures.disk_bytes <= (400 << 10) + (880 << 10), "{figures:?}");
    assert_eq!(figures.dropped_samples, gaps.iter().map(|g| g.2).sum::<u64>());
    assert_eq!(figures.waiting_samples, rest.len() as u64 * 2000);
}

/// Files of earlier versions have larger pages, and keep them.
#[test]
fn a_file_with_other_pages_keeps_its_limit_and_its_data() {
    for bytes in [512, 4096, 32_768] {
        let dir = dir();
        for file in ["spool.db", "state.db"] {
            let db = rusqlite::Connection::open(dir.path().join(file)).unwrap();
            let made = format!("PRAGMA page_size = {bytes}; PRAGMA journal_mode = WAL; CREATE TABLE t (a); DROP TABLE t");
            db.execute_batch(&made).unwrap();
        }
        let (store, restored) = Bench::open(&dir, &kib(1200));
        let mut b = Bench { dir, store, epoch: restored.epoch, now: Clock::Real.now() };
        let wear = b.store.wear().bytes;
        b.seal(10, 2000, true);
        assert!(b.store.wear().bytes - wear >= 10 * bytes, "{bytes}");
        b.seal(400, 2000, true);
        let size = |tail: &str| std::fs::metadata(b.dir.path().join(format!("spool.db{tail}"))).unwrap().len();
        assert!(size("") <= 1200 << 10, "{bytes}: {}", size(""));
        assert!(size("") + size("-wal") <= (1200 + 1000) << 10, "{bytes}: {}", size("-wal"));
        for file in ["spool.db", "state.db"] {
            let found: u64 = b.db(file).query_row("PRAGMA page_size", [], |r| r.get(0)).map(i64::cast_unsigned).unwrap();
            assert_eq!(found, bytes, "{file}");
        }
        let gone: Vec<u64> = gaps(&b.store).iter().flat_map(|(key, to, _)| key.seq..=*to).collect();
        assert!(gone.len() > 10, "{bytes}: {gone:?}");
        let Bench { dir, store, .. } = b;
        drop(store);
        let (store, _) = Bench::open(&dir, &kib(1200));
        let mut all = gone;
        all.extend(std::iter::from_fn(|| store.spool().next_backlog(U)).map(|o| o.sealed.key.seq));
        all.sort_unstable();
        assert_eq!(all, (1..=410).collect::<Vec<_>>(), "{bytes}: each is there or named once");
    }
}

#[test]
fn what_was_announced_as_gone_does_not_come_back_after_a_kill() {
    let mut b = Bench::new(kib(400));
    b.seal(8, 2000, true);
    loop {
        // The spool before the rows went: as if the kill came between the two commits.
        let copy = (std::fs::read(b.dir.path().join("spool.db")).unwrap(), std::fs::read(b.dir.path().join("spool.db-wal")).unwrap());
        b.seal(1, 2000, true);
        let announced = gaps(&b.store);
        if !announced.is_empty() {
            let Bench { dir, store, .. } = b;
            drop(store);
            std::fs::write(dir.path().join("spool.db"), copy.0).unwrap();
            std::fs::write(dir.path().join("spool.db-wal"), copy.1).unwrap();
            let _ = std::fs::remove_file(dir.path().join("spool.db-shm"));
            let (store, _) = Bench::open(&dir, &kib(400));
            let first = store.spool().next_backlog(U).unwrap().sealed.key.seq;
            assert_eq!(first, announced[0].1 + 1);
            return;
        }
    }
}

#[test]
fn a_damaged_body_becomes_a_gap_and_the_rest_is_sent() {
    let mut b = Bench::new(|_| {});
    b.seal(2, 10, false);
    b.seal(2, 10, false);
    b.db("spool.db")
        .execute("UPDATE segment SET body = substr(body, 1, length(body) - 9) || x'00112233445566778899' WHERE first_seq = 1", [])
        .unwrap();
    assert_eq!(b.rest(), [3, 4]);
    b.store.poll(b.now);
    assert_eq!(gaps(&b.store), [(Key { epoch: b.epoch, stream: Stream::Telemetry, seq: 1 }, 2, 20)]);
    assert_eq!(b.store.spool().figures(b.now).dropped_samples, 20);
}

#[test]
fn a_failing_disk_keeps_ram_bounded_says_so_and_recovers() {
    let (receipt, told) = receipts();
    let mut b = Bench::new(|t| t.room = Room { ram_bytes: usize::MAX, ram_batches: 5 });
    b.db("spool.db").execute_batch("ALTER TABLE meta RENAME TO elsewhere").unwrap();
    b.store.spool().append(frames(0, 3, b.now), vec![receipt(1)], b.now);
    for n in 1..9 {
        b.store.spool().append(frames(n, 3, b.now), vec![], b.now);
        b.save();
    }
    let figures = b.store.spool().figures(b.now);
    assert!(figures.trouble.contains("cannot write spool.db"), "{figures:?}");
    assert_eq!((figures.waiting_batches, figures.dropped_samples), (5, 12));
    assert_eq!(told.try_recv().unwrap(), (1, Settled::NotKept));
    let named: Vec<_> = gaps(&b.store).iter().map(|(key, to, samples)| (key.seq, *to, *samples)).collect();
    assert_eq!(named.iter().map(|(from, to, _)| to - from + 1).sum::<u64>(), 4, "{named:?}");
    b.db("spool.db").execute_batch("ALTER TABLE elsewhere RENAME TO meta").unwrap();
    b.now = b.now + Duration::from_secs(20);
    b.store.poll(b.now);
    let figures = b.store.spool().figures(b.now);
    assert_eq!((figures.trouble.as_str(), figures.commits), ("", 1));
    assert_eq!(b.rest(), [5, 6, 7, 8, 9]);
}

#[test]
fn a_long_reader_does_not_let_the_log_grow() {
    let mut b = Bench::new(|t| t.sizes = crate::store::spool::disk::Sizes::of(2 << 20));
    b.seal(3, 2000, true);
    let reader = b.db("spool.db");
    reader.execute_batch("BEGIN; SELECT count(*) FROM segment").unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM segment", [], |r| r.get(0)).unwrap();
    for _ in 0..400 {
        b.seal(1, 2000, true);
        let figures = b.store.spool().figures(b.now);
        assert!(figures.disk_bytes <= 2 << 20, "{figures:?}");
    }
    let figures = b.store.spool().figures(b.now);
    assert!(figures.trouble.contains("holds its log"), "{figures:?}");
    drop(reader);
    b.now = b.now + Duration::from_secs(20);
    b.store.poll(b.now);
    let figures = b.store.spool().figures(b.now);
    assert_eq!(figures.trouble, "");
    assert!(figures.disk_bytes <= 2 << 20, "{figures:?}");
}

#[test]
fn events_keep_their_quota_in_bytes() {
    run(async {
        let b = Bench::new(|t| t.caps.event_bytes = 20_000);
        let minor = |n| Event { at: Boot(n), kind: EventKind::Progress { alive: vec![] } };
        for n in 0..600 {
            submit(&b.store, vec![Change::Event(if n % 3 == 0 { event(n) } else { minor(n) })]).await.unwrap();
        }
        let bytes: i64 = b.db("state.db").query_row("SELECT sum(octet_length(body)) FROM event", [], |r| r.get(0)).unwrap();
        assert!((10_000..=21_000).contains(&bytes), "{bytes}");
        let mut seqs: Vec<u64> = gaps(&b.store).iter().flat_map(|(key, to, _)| key.seq..=*to).collect();
        b.store.events().return_unacknowledged(U);
        seqs.extend(std::iter::from_fn(|| b.store.events().next(U)).map(|m| m.key.seq));
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=*seqs.last().unwrap()).collect::<Vec<_>>(), "each is there or named once");
    });
}

#[test]
fn gaps_of_telemetry_outlive_the_quota_of_events_to_the_sample() {
    run(async {
        let mut b = Bench::new(|t| {
            kib(330)(t);
            t.caps.event_bytes = 6_000;
        });
        for n in 0..40 {
            b.seal(3, 2000, true);
            for k in 0..10 {
                submit(&b.store, vec![Change::Event(event(n * 10 + k))]).await.unwrap();
            }
        }
        let bytes: i64 = b.db("state.db").query_row("SELECT sum(octet_length(body)) FROM event", [], |r| r.get(0)).unwrap();
        assert!(bytes <= 7_000, "{bytes}");
        let (told, events): (Vec<_>, Vec<_>) = gaps(&b.store).into_iter().partition(|(key, ..)| key.stream == Stream::Telemetry);
        assert!(!events.is_empty(), "no event was dropped");
        let mut all: Vec<u64> = told.iter().flat_map(|(key, to, _)| key.seq..=*to).collect();
        assert!(all.len() > 40, "{told:?}");
        assert_eq!(told.iter().map(|(.., samples)| samples).sum::<u64>(), all.len() as u64 * 2000);
        all.extend(b.rest());
        all.sort_unstable();
        assert_eq!(all, (1..=120).collect::<Vec<_>>(), "each is to come or named once");
    });
}

/// What was on its way held its place on the disk, and so what was sealed last found none.
#[test]
fn an_orderly_stop_loses_nothing_without_a_word_though_the_disk_is_full_of_what_is_on_its_way() {
    let mut b = Bench::new(kib(120));
    b.seal(12, 2000, true);
    while b.store.spool().next_backlog(U).or_else(|| b.store.spool().next_live(U)).is_some() {}
    (0..8).for_each(|n| _ = b.store.spool().append(frames(n, 2000, b.now), vec![], b.now));
    run(b.store.close());
    let Bench { dir, store, .. } = b;
    drop(store);
    let (store, _) = Bench::open(&dir, &kib(120));
    let mut all: Vec<u64> = gaps(&store).iter().flat_map(|(key, to, _)| key.seq..=*to).collect();
    all.extend(std::iter::from_fn(|| store.spool().next_backlog(U)).map(|o| o.sealed.key.seq));
    all.sort_unstable();
    assert_eq!(all, (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_gap_that_state_db_cannot_take_drops_nothing() {
    let mut b = Bench::new(kib(330));
    b.seal(6, 2000, true);
    b.db("state.db").execute_batch("ALTER TABLE event RENAME TO elsewhere").unwrap();
    b.seal(60, 2000, true);
    assert!(b.store.spool().figures(b.now).trouble.contains("disk_max"), "{:?}", b.store.spool().figures(b.now));
    b.db("state.db").execute_batch("ALTER TABLE elsewhere RENAME TO event").unwrap();
    b.now = b.now + Duration::from_secs(20);
    b.store.poll(b.now);
    let named: Vec<u64> = gaps(&b.store).iter().flat_map(|(key, to, _)| key.seq..=*to).collect();
    let mut all = b.rest();
    all.extend(named);
    all.sort_unstable();
    assert_eq!(all, (1..=66).collect::<Vec<_>>());
}

#[test]
fn a_clean_stop_names_what_was_dropped_just_before() {
    let mut b = Bench::new(|t| t.room = Room { ram_bytes: usize::MAX, ram_batches: 2 });
    b.db("state.db").execute_batch("ALTER TABLE event RENAME TO elsewhere").unwrap();
    b.now = b.now + Duration::from_secs(3600);
    (0..4).for_each(|n| _ = b.store.spool().append(frames(n, 3, b.now), vec![], b.now));
    b.store.poll(b.now);
    b.db("state.db").execute_batch("ALTER TABLE elsewhere RENAME TO event").unwrap();
    run(b.store.close());
    let Bench { dir, store, epoch, .. } = b;
    drop(store);
    let (store, _) = Bench::open(&dir, &|_| {});
    assert_eq!(gaps(&store), [(Key { epoch, stream: Stream::Telemetry, seq: 1 }, 2, 6)]);
}

#[test]
fn too_many_events_drop_minor_ones_first_and_name_them() {
    run(async {
        let b = Bench::new(|t| t.caps.events = 10);
        let minor = |n| Event { at: Boot(n), kind: EventKind::Progress { alive: vec![] } };
        submit(&b.store, vec![Change::Event(event(1))]).await.unwrap();
        for n in 2..=12 {
            submit(&b.store, vec![Change::Event(minor(n))]).await.unwrap();
        }
        let sent: Vec<_> = std::iter::from_fn(|| b.store.events().next(U)).map(|m| (m.key.seq, m.events.len())).collect();
        let seqs: Vec<_> = sent.iter().map(|s| s.0).collect();
        // Dropped at the eleventh: 2 to 10. Then come 11, the gap, and 12.
        assert_eq!(seqs, [1, 11, 12, 13]);
        b.store.events().return_unacknowledged(U);
        let gap: Vec<_> = gaps(&b.store).iter().map(|(key, to, count)| (key.stream, key.seq, *to, *count)).collect();
        assert_eq!(gap, [(Stream::Event, 2, 10, 9)]);
    });
}

#[test]
fn tables_keep_their_limits() {
    run(async {
        let b = Bench::new(|t| t.caps.dead_letters = 5);
        for n in 0..12u64 {
            let letter = DeadLetter { source: "s".into(), topic: n.to_string(), reason: "r".into(), body: vec![], at: Boot(n) };
            submit(&b.store, vec![Change::DeadLetter(letter)]).await.unwrap();
        }
        let topics: Vec<_> = b.store.dead_letters(100).unwrap().into_iter().map(|d| d.topic).collect();
        assert_eq!(topics, ["11", "10", "9", "8", "7"]);
    });
}

#[test]
fn many_events_wait_on_the_disk_and_come_in_order() {
    run(async {
        let b = Bench::new(|_| {});
        for n in 1..=600 {
            submit(&b.store, vec![Change::Event(event(n))]).await.unwrap();
        }
        let mut seqs = vec![];
        while let Some(m) = b.store.events().next(U) {
            seqs.push(m.key.seq);
            if seqs.len() == 300 {
                submit(&b.store, vec![Change::Event(event(601))]).await.unwrap();
            }
            if m.key.seq % 2 == 0 {
                b.store.events().acknowledged(U, m.key);
            }
        }
        assert_eq!(seqs, (1..=601).collect::<Vec<_>>());
        b.store.events().return_unacknowledged(U);
        let odd: Vec<_> = std::iter::from_fn(|| b.store.events().next(U)).map(|m| m.key.seq).collect();
        assert_eq!(odd, (1..=601).step_by(2).collect::<Vec<_>>());
    });
}

#[test]
fn a_transaction_with_very_many_events_becomes_several_messages() {
    run(async {
        let b = Bench::new(|_| {});
        submit(&b.store, (0..600).map(|n| Change::Event(event(n))).collect()).await.unwrap();
        let counts: Vec<_> = std::iter::from_fn(|| b.store.events().next(U)).map(|m| m.events.len()).collect();
        assert_eq!(counts, [256, 256, 88]);
    });
}
