//! A batch that is replaced by parts: what is offered, what is said, and what a crash at each step leaves.

use super::*;
use crate::{
    limits,
    model::{Replaced, UplinkId, event::Alive},
};
use std::collections::BTreeMap;

struct Bench {
    dir: TempDir,
    store: Store,
    now: Boot,
}

impl Bench {
    fn new() -> Bench {
        let dir = dir();
        let store = Store::open(options(dir.path(), Backing::Inline)).unwrap().0;
        Bench { dir, store, now: Clock::Real.now() }
    }

    fn save(&mut self) {
        self.now = self.now + Duration::from_millis(1500);
        self.store.poll(self.now);
    }

    /// One batch of `points` samples, in flight.
    fn in_flight(&mut self, tag: u64, points: usize, saved: bool) -> Key {
        self.store.spool().append(frames(tag, points, self.now), vec![], self.now);
        if saved {
            self.save();
        }
        let spool = self.store.spool();
        spool.next_live(U).or_else(|| spool.next_backlog(U)).unwrap().sealed.key
    }

    /// Both files as a power cut would leave them now.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let all = std::fs::read_dir(self.dir.path()).unwrap().map(|f| f.unwrap());
        let name = |f: &std::fs::DirEntry| f.file_name().into_string().unwrap();
        all.filter(|f| !name(f).ends_with("-shm") && name(f) != "lock").map(|f| (name(&f), std::fs::read(f.path()).unwrap())).collect()
    }
}

/// Every sample that is sent after the start from these files, with how often.
fn after_crash(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<u64, usize> {
    let dir = dir();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let store = Store::open(options(dir.path(), Backing::Inline)).unwrap().0;
    rest(&store)
}

fn rest(store: &Store) -> BTreeMap<u64, usize> {
    rest_of(store, U)
}

fn rest_of(store: &Store, u: UplinkIndex) -> BTreeMap<u64, usize> {
    let spool = store.spool();
    let mut all = BTreeMap::new();
    while let Some(out) = spool.next_backlog(u).or_else(|| spool.next_live(u)) {
        for value in out.sealed.frames.iter().flat_map(|f| &f.rows).flat_map(|r| &r.values) {
            let Value::Uint(value) = value else { panic!("{value:?}") };
            *all.entry(*value).or_default() += 1;
        }
    }
    all
}

fn each_once(values: impl IntoIterator<Item = u64>) -> BTreeMap<u64, usize> {
    values.into_iter().map(|v| (v, 1)).collect()
}

fn gaps(store: &Store) -> Vec<EventKind> {
    let queue = store.events();
    std::iter::from_fn(|| queue.next(U)).flat_map(|m| m.events.iter().map(|e| e.kind.clone()).collect::<Vec<_>>()).collect()
}

#[test]
fn parts_come_under_new_numbers_and_the_gap_names_them() {
    let mut b = Bench::new();
    for saved in [false, true] {
        let old = b.in_flight(7, 4, saved);
        let parts = [0..2, 2..4].map(|range| split(&b.store, old, range)).to_vec();
        assert!(b.store.spool().replace(U, old, parts, 0, "refused".into(), b.now));
        assert!(!b.store.spool().replace(U, old, vec![], 4, "again".into(), b.now), "it is not in flight any more");
        let (first, second) = (b.store.spool().next_part(U).unwrap(), b.store.spool().next_part(U).unwrap());
        assert_eq!((first.sealed.key.seq, second.sealed.key.seq), (old.seq + 1, old.seq + 2));
        assert!(first.backlog && first.sealed.key.epoch == old.epoch);
        let gap = EventKind::Gap {
            epoch: old.epoch,
            stream: old.stream,
            from: old.seq,
            to: old.seq,
            samples: 4,
            reason: "refused".into(),
            uplink: None,
            replaced_by: Some(Replaced { epoch: old.epoch, from: old.seq + 1, to: old.seq + 2 }),
        };
        assert_eq!(gaps(&b.store).last(), Some(&gap));
        b.store.spool().acknowledged(U, first.sealed.key, b.now);
        b.store.spool().acknowledged(U, second.sealed.key, b.now);
        assert_eq!(b.store.spool().figures(b.now).waiting_samples, 0);
    }
    let alive = b.store.spool().alive();
    assert!(matches!(alive[..], [Alive { lowest: 7, highest: 6, .. }]), "{alive:?}");
}

/// The values of the batch in flight at those places, as frames.
fn split(store: &Store, key: Key, range: std::ops::Range<usize>) -> Vec<Frame> {
    let sealed = store.spool().in_flight(U, key).unwrap();
    let f = &sealed.frames[0];
    let row = &f.rows[0];
    let rows = vec![Row { at: row.at, values: row.values[range.clone()].to_vec(), quality: None }];
    vec![Frame { device: f.device.clone(), points: f.points[range].iter().cloned().collect(), rows, thin: None }]
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
    let mut b = Bench::new();
    let old = b.in_flight(7, 4, true);
    let whole = each_once(7000..7004);
    let before = b.files();
    let parts = [0..1, 1..4].map(|range| split(&b.store, old, range)).to_vec();
    assert!(b.store.spool().replace(U, old, parts, 0, "refused".into(), b.now));
    let after = b.files();
    assert_eq!(after_crash(&before), whole);
    assert_eq!(after_crash(&after), whole);
    // The gap event is committed, the parts are not: the old batch is still here.
    let mut between = before.clone();
    between.extend(after.iter().filter(|(name, _)| name.starts_with("state")).map(|(n, f)| (n.clone(), f.clone())));
    assert_ne!(between, after);
    assert_eq!(after_crash(&between), whole);
    // One part is delivered, and the next commit says so.
    let part = b.store.spool().next_part(U).unwrap();
    b.store.spool().acknowledged(U, part.sealed.key, b.now);
    b.in_flight(8, 1, true);
    assert_eq!(after_crash(&b.files()), each_once([7001, 7002, 7003, 8000]));
}

#[test]
fn what_is_put_aside_is_lost_here_and_the_rest_stays() {
    let mut b = Bench::new();
    let old = b.in_flight(7, 3, true);
    let rest_of_it = split(&b.store, old, 1..3);
    assert!(b.store.spool().replace(U, old, vec![rest_of_it], 1, "put aside".into(), b.now));
    assert_eq!(b.store.spool().figures(b.now).dropped_samples, 1);
    assert_eq!(after_crash(&b.files()), each_once([7001, 7002]));
    let part = b.store.spool().next_part(U).unwrap().sealed.key;
    assert!(b.store.spool().replace(U, part, vec![], 2, "all of it".into(), b.now));
    assert_eq!(after_crash(&b.files()), BTreeMap::new());
    assert_eq!(rest(&b.store), BTreeMap::new());
}

#[test]
fn a_disk_that_refuses_leaves_the_batch_and_its_numbers_are_a_gap_of_nothing() {
    let mut b = Bench::new();
    let old = b.in_flight(7, 2, true);
    let parts = [0..1, 1..2].map(|range| split(&b.store, old, range)).to_vec();
    let other = rusqlite::Connection::open(b.dir.path().join("spool.db")).unwrap();
    other.execute_batch("ALTER TABLE segment RENAME TO away").unwrap();
    assert!(b.store.spool().replace(U, old, parts, 0, "refused".into(), b.now));
    assert!(b.store.spool().next_part(U).is_none());
    b.store.spool().return_unacknowledged(U);
    assert!(b.store.spool().next_backlog(U).is_none(), "offered to nobody meanwhile");
    other.execute_batch("ALTER TABLE away RENAME TO segment").unwrap();
    b.now = b.now + Duration::from_secs(30);
    b.store.poll(b.now);
    assert_eq!(rest(&b.store), each_once([7000, 7001]));
    let told: Vec<(u64, u64, u64, bool)> = gaps(&b.store)
        .into_iter()
        .filter_map(|kind| match kind {
            EventKind::Gap { from, to, samples, replaced_by, .. } => Some((from, to, samples, replaced_by.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(1, 1, 2, true), (2, 3, 0, false), (1, 1, 2, true)]);
}

#[test]
fn a_letter_comes_back_with_the_moments_of_its_boot() {
    let mut b = Bench::new();
    let boot = b.store.handle.shared.clocks.here().id;
    let (receipt, told) = receipts();
    b.store.spool().restore(U, boot, frames(9, 2, Boot::from_ms(5)), receipt(3), b.now);
    assert_eq!(told.try_recv(), Ok((3, Settled::Kept)), "durable");
    let back = b.store.spool().next_backlog(U).unwrap();
    assert_eq!((back.sealed.boot, back.sealed.key.seq, back.sealed.frames[0].rows[0].at), (boot, 1, Boot::from_ms(5)));
    b.save();
    assert_eq!(after_crash(&b.files()), each_once([9000, 9001]));
}

#[test]
fn a_refused_event_message_is_sent_again_in_its_order() {
    let b = Bench::new();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for n in 0..3 {
            submit(&b.store, vec![Change::Event(event(n))]).await.unwrap();
        }
    });
    let keys: Vec<Key> = std::iter::from_fn(|| b.store.events().next(U)).map(|m| m.key).collect();
    assert_eq!(b.store.events().in_flight(U, keys[1]).unwrap().key, keys[1]);
    b.store.events().put_back(U, keys[1]);
    assert!(b.store.events().in_flight(U, keys[1]).is_none());
    b.store.events().put_back(U, keys[0]);
    let again: Vec<Key> = std::iter::from_fn(|| b.store.events().next(U)).map(|m| m.key).collect();
    assert_eq!(again, keys[..2]);
}

#[test]
fn a_batch_that_one_of_two_clouds_refuses_is_parted_for_it_alone() {
    let name = |id: &str| UplinkId::parse(id).unwrap();
    let holders = || ["a", "b"].map(|id| Holder { id: name(id), required: true, events_only: false }).to_vec();
    let (a, b) = (UplinkIndex(0), UplinkIndex(1));
    let dir = dir();
    let with_both = |dir: &Path| Options { uplinks: holders(), ..options(dir, Backing::Inline) };
    let store = Store::open(with_both(dir.path())).unwrap().0;
    let mut bench = Bench { dir, store, now: Clock::Real.now() };
    let spool = bench.store.spool();
    spool.append(frames(7, 4, bench.now), vec![], bench.now);
    let old = spool.next_live(a).unwrap().sealed.key;
    assert!(spool.in_flight(b, old).is_none());
    let parts = [0..1, 1..4].map(|range| split(&bench.store, old, range)).to_vec();
    assert!(bench.store.spool().replace(a, old, parts, 0, "refused".into(), bench.now));
    let told: Vec<_> = gaps(&bench.store)
        .into_iter()
        .map(|kind| match kind {
            EventKind::Gap { from, to, samples, uplink, replaced_by, .. } => {
                (from, to, samples, uplink, replaced_by.map(|r| (r.from, r.to)))
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(1, 1, 4, Some(name("a")), Some((2, 3))), (2, 3, 0, Some(name("b")), None)]);

    let whole = each_once(7000..7004);
    let files = bench.files();
    for (u, took) in [(a, "the parts"), (b, "the batch")] {
        let again = super::dir();
        files.iter().for_each(|(name, bytes)| std::fs::write(again.path().join(name), bytes).unwrap());
        let store = Store::open(with_both(again.path())).unwrap().0;
        assert_eq!(rest_of(&store, u), whole, "{took}, after a crash");
    }
    bench.save();
    let spool = bench.store.spool();
    assert_eq!(spool.figures_of(a, bench.now).waiting_samples, 4);
    for (u, keys) in [(a, vec![2, 3]), (b, vec![1])] {
        let mut got = Vec::new();
        while let Some(out) = spool.next_backlog(u).or_else(|| spool.next_live(u)) {
            got.push(out.sealed.key.seq);
            spool.acknowledged(u, out.sealed.key, bench.now);
        }
        assert_eq!((got, spool.figures_of(u, bench.now).waiting_samples), (keys, 0));
    }
    assert_eq!(spool.figures(bench.now).waiting_batches, 0);
    // The cursors alone are written when there is time.
    bench.now = bench.now + limits::OPTIONAL_WINDOW;
    bench.save();
    for u in [a, b] {
        let again = super::dir();
        bench.files().iter().for_each(|(name, bytes)| std::fs::write(again.path().join(name), bytes).unwrap());
        assert_eq!(rest_of(&Store::open(with_both(again.path())).unwrap().0, u), BTreeMap::new());
    }
}

#[test]
fn a_limit_that_is_reached_does_not_take_a_batch_that_is_being_replaced() {
    let mut b = Bench::new();
    let old = b.in_flight(7, 2, true);
    let parts = [0..1, 1..2].map(|range| split(&b.store, old, range)).to_vec();
    let other = rusqlite::Connection::open(b.dir.path().join("spool.db")).unwrap();
    other.execute_batch("ALTER TABLE segment RENAME TO away").unwrap();
    assert!(b.store.spool().replace(U, old, parts, 0, "refused".into(), b.now));
    // Its link ends meanwhile.
    b.store.spool().return_unacknowledged(U);
    assert_eq!(b.store.spool().lock().take_oldest(u64::MAX).len(), 0, "a second gap would name it as lost");
    assert!(b.store.spool().next_backlog(U).is_none() && b.store.spool().in_flight(U, old).is_none());
}
