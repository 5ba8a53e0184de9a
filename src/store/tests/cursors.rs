//! Several uplinks against a model: each gets everything or is told by name what it does not get, through restarts, kills
//! and configurations that change; and what becomes of a database of the version with one uplink.

use super::*;
use crate::{
    limits,
    model::{Epoch, UplinkId},
    store::spool::core::Room,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Op {
    Append(usize, bool),
    Live(prop::sample::Index),
    Backlog(prop::sample::Index),
    Ack(prop::sample::Index, prop::sample::Index),
    /// One that is not in flight to this uplink.
    AckOther(prop::sample::Index, prop::sample::Index),
    Return(prop::sample::Index),
    Tick(u64),
    Kill,
    /// With this configuration.
    Restart(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        8 => (1..30usize, prop::bool::weighted(0.2)).prop_map(|(points, awaited)| Op::Append(points, awaited)),
        6 => any().prop_map(Op::Live),
        6 => any().prop_map(Op::Backlog),
        8 => (any(), any()).prop_map(|(u, which)| Op::Ack(u, which)),
        1 => (any(), any()).prop_map(|(u, which)| Op::AckOther(u, which)),
        2 => any().prop_map(Op::Return),
        6 => (1..900u64).prop_map(Op::Tick),
        1 => Just(Op::Kill),
        1 => (0..CONFIGURATIONS.len()).prop_map(Op::Restart),
    ]
}

type Name = &'static str;

/// The uplinks of a configuration, and whether each is required.
const CONFIGURATIONS: [&[(Name, bool)]; 5] = [
    &[("a", true), ("b", false)],
    &[("a", true)],
    &[("c", true), ("a", true), ("b", false)],
    &[("b", false), ("a", true)],
    &[("a", true), ("b", true)],
];

/// In most of them.
const OPTIONAL: Name = "b";

fn holders(of: &[(Name, bool)]) -> Vec<Holder> {
    of.iter().map(|(name, required)| Holder { id: UplinkId::parse(name).unwrap(), required: *required, events_only: false }).collect()
}

#[derive(Debug, Default)]
struct Known {
    content: String,
    sealed_at: Boot,
    run: usize,
    receipt: Option<u64>,
    kept: bool,
    /// Who has it, who was told that it never comes, who may be left without a word, and who must get it.
    has: BTreeSet<Name>,
    told: BTreeSet<Name>,
    excused: BTreeSet<Name>,
    owed: BTreeSet<Name>,
}

#[derive(Default)]
struct Lane {
    in_flight: Vec<Key>,
    last_live: u64,
    last_backlog: (usize, u64),
}

struct Harness {
    _dir: TempDir,
    tuning: Tuning,
    times: usize,
    options: Options,
    of: &'static [(Name, bool)],
    store: Option<Store>,
    now: Boot,
    epochs: Vec<Epoch>,
    batches: BTreeMap<(usize, u64), Known>,
    lanes: BTreeMap<Name, Lane>,
    told: Receiver<(u64, Settled)>,
    receipt: Box<dyn Fn(u64) -> Receipt>,
    receipts: u64,
}

impl Harness {
    fn new(tuning: impl Fn(&mut Tuning)) -> Harness {
        let dir = dir();
        let mut options = options(dir.path(), Backing::Inline);
        options.epoch_seed = Some(1);
        let mut of = Tuning::of(options.buffer.disk_max, Duration::ZERO);
        tuning(&mut of);
        let (receipt, told) = receipts();
        let mut h = Harness {
            _dir: dir,
            tuning: of,
            times: 1,
            options,
            of: CONFIGURATIONS[0],
            store: None,
            now: Clock::Real.now(),
            epochs: vec![],
            batches: BTreeMap::new(),
            lanes: BTreeMap::new(),
            told,
            receipt: Box::new(receipt),
            receipts: 0,
        };
        h.open();
        h
    }

    fn open(&mut self) {
        self.options.uplinks = holders(self.of);
        let (store, restored) = open::open(&self.options, self.tuning).unwrap();
        self.epochs.push(restored.epoch);
        self.store = Some(store);
        self.lanes = self.of.iter().map(|(name, _)| (*name, Lane::default())).collect();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn run(&self) -> usize {
        self.epochs.len() - 1
    }

    fn pick(&self, which: &prop::sample::Index) -> (UplinkIndex, Name) {
        let n = which.index(self.of.len());
        (UplinkIndex(u8::try_from(n).unwrap()), self.of[n].0)
    }

    fn required(&self) -> BTreeSet<Name> {
        self.of.iter().filter(|(_, required)| *required).map(|(name, _)| *name).collect()
    }

    fn place(&self, key: Key) -> (usize, u64) {
        (self.epochs.iter().position(|e| *e == key.epoch).unwrap(), key.seq)
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append(points, awaited) => self.append(*points, *awaited),
            Op::Live(u) => {
                let (u, name) = self.pick(u);
                self.live(u, name);
            }
            Op::Backlog(u) => {
                let (u, name) = self.pick(u);
                assert_eq!(self.store().spool().has_backlog(u), self.backlog(u, name));
            }
            Op::Ack(u, which) => {
                let (u, name) = self.pick(u);
                let lane = self.lanes.get_mut(name).unwrap();
                if !lane.in_flight.is_empty() {
                    let key = lane.in_flight.remove(which.index(lane.in_flight.len()));
                    self.acknowledge(u, name, key);
                }
            }
            Op::AckOther(u, which) => {
                let (u, name) = self.pick(u);
                let places: Vec<_> = self.batches.keys().copied().collect();
                if !places.is_empty() {
                    let (run, seq) = places[which.index(places.len())];
                    let key = Key { epoch: self.epochs[run], stream: crate::model::Stream::Telemetry, seq };
                    if !self.lanes[name].in_flight.contains(&key) {
                        self.store().spool().acknowledged(u, key, self.now);
                    }
                }
            }
            Op::Return(u) => {
                let (u, name) = self.pick(u);
                self.give_back(u, name);
            }
            Op::Tick(ms) => {
                self.now = self.now + Duration::from_millis(*ms);
                self.store().poll(self.now);
            }
            Op::Kill => {
                let full = self.is_failing();
                self.store = None;
                self.after_kill(full);
                self.open();
            }
            Op::Restart(n) => {
                let store = self.store.take().unwrap();
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.close());
                let full = !store.spool().figures(self.now).trouble.is_empty();
                // What the end gave up, nobody wants any more: who is new is not owed it.
                self.store = Some(store);
                self.hear_gaps();
                self.store = None;
                if full {
                    self.after_kill(true);
                }
                self.hear_receipts();
                self.configure(CONFIGURATIONS[*n]);
                self.open();
            }
        }
        self.hear_receipts();
        self.hear_gaps();
    }

    /// Who is new begins with what is kept for anybody; who is removed holds nothing.
    fn configure(&mut self, of: &'static [(Name, bool)]) {
        let before: BTreeSet<Name> = self.of.iter().map(|(name, _)| *name).collect();
        let after: BTreeSet<Name> = of.iter().map(|(name, _)| *name).collect();
        for b in self.batches.values_mut() {
            let wanted = b.owed.iter().any(|name| !b.has.contains(name) && !b.told.contains(name) && !b.excused.contains(name));
            for list in [&mut b.has, &mut b.told, &mut b.excused, &mut b.owed] {
                list.retain(|name| after.contains(name));
            }
            if wanted {
                b.owed.extend(after.difference(&before));
            }
        }
        self.of = of;
    }

    fn append(&mut self, points: usize, awaited: bool) {
        let tag = self.receipts;
        self.receipts += 1;
        let frames = frames(tag, points * self.times, self.now);
        let receipts = if awaited { vec![(self.receipt)(tag)] } else { vec![] };
        let seq = self.store().spool().append(frames.clone(), receipts, self.now);
        let ms = frames.into_iter().map(|mut f| {
            f.rows.iter_mut().for_each(|r| r.at = Boot::from_ms(r.at.ms()));
            f
        });
        let known = Known {
            content: format!("{:?}", ms.collect::<Vec<_>>()),
            sealed_at: self.now,
            run: self.run(),
            receipt: awaited.then_some(tag),
            owed: self.of.iter().map(|(name, _)| *name).collect(),
            ..Known::default()
        };
        assert!(self.batches.insert((self.run(), seq), known).is_none(), "a number is used twice");
    }

    fn live(&mut self, u: UplinkIndex, name: Name) {
        if let Some(out) = self.store().spool().next_live(u) {
            let key = out.sealed.key;
            assert!(!out.backlog && self.place(key).0 == self.run(), "live is of this run");
            let lane = self.lanes.get_mut(name).unwrap();
            assert!(key.seq > lane.last_live, "live goes forward");
            lane.last_live = key.seq;
            self.sent(&out, name);
        }
    }

    fn backlog(&mut self, u: UplinkIndex, name: Name) -> bool {
        let Some(out) = self.store().spool().next_backlog(u) else {
            return false;
        };
        let place = self.place(out.sealed.key);
        let lane = self.lanes.get_mut(name).unwrap();
        assert!(out.backlog && place > lane.last_backlog, "backlog goes forward: {place:?} after {:?}", lane.last_backlog);
        lane.last_backlog = place;
        self.sent(&out, name);
        true
    }

    fn sent(&mut self, out: &Outgoing, name: Name) {
        let place = self.place(out.sealed.key);
        let known = &self.batches[&place];
        assert_eq!(known.content, format!("{:?}", out.sealed.frames), "a key has one content");
        // What an optional one was told to lose comes again if the process ended before that was written.
        assert!(!known.told.contains(name) || name == OPTIONAL, "{place:?} was announced as lost to {name}");
        assert!(!known.has.contains(name) || known.run < self.run(), "{place:?} was acknowledged by {name} in this run");
        let lane = self.lanes.get_mut(name).unwrap();
        assert!(!lane.in_flight.contains(&out.sealed.key), "{place:?} is in flight to {name} already");
        lane.in_flight.push(out.sealed.key);
    }

    fn acknowledge(&mut self, u: UplinkIndex, name: Name, key: Key) {
        self.store().spool().acknowledged(u, key, self.now);
        let place = self.place(key);
        self.batches.get_mut(&place).unwrap().has.insert(name);
    }

    fn give_back(&mut self, u: UplinkIndex, name: Name) {
        self.store().spool().return_unacknowledged(u);
        *self.lanes.get_mut(name).unwrap() = Lane { last_live: self.lanes[name].last_live, ..Lane::default() };
    }

    /// Every segment had a batch in flight, so nothing could be dropped for room.
    fn is_failing(&self) -> bool {
        !self.store().spool().figures(self.now).trouble.is_empty()
    }

    fn after_kill(&mut self, full: bool) {
        self.hear_receipts();
        let (late, very_late) =
            (self.now.saturating_sub(WINDOW), self.now.saturating_sub(limits::OPTIONAL_WINDOW + Duration::from_secs(1)));
        let (run, required) = (self.run(), self.required());
        for b in self.batches.values_mut() {
            let ours = b.run == run;
            let young = ours && (full || b.sealed_at >= late);
            let spare = ours && required.is_subset(&b.has) && b.sealed_at >= very_late;
            for (name, is_required) in self.of {
                let lost = if *is_required { young && !b.kept } else { young || spare };
                if b.has.remove(name) || lost {
                    b.excused.insert(name);
                }
            }
        }
    }

    fn hear_receipts(&mut self) {
        while let Ok((tag, how)) = self.told.try_recv() {
            if how == Settled::Kept
                && let Some(b) = self.batches.values_mut().find(|b| b.receipt == Some(tag))
            {
                b.kept = true;
            }
        }
    }

    fn hear_gaps(&mut self) {
        while let Some(message) = self.store().events().next(U) {
            for e in message.events.iter() {
                let EventKind::Gap { epoch, from, to, uplink, .. } = &e.kind else { continue };
                let Some(run) = self.epochs.iter().position(|e| e == epoch) else { continue };
                let of = self.of.iter().map(|(name, _)| *name).filter(|name| uplink.as_ref().is_none_or(|u| u.as_str() == *name));
                let names: Vec<Name> = of.collect();
                for (place, b) in self.batches.range_mut((run, *from)..=(run, *to)) {
                    for name in names.iter().filter(|name| **name != OPTIONAL || !b.has.contains(*name)) {
                        assert!(!b.has.contains(name), "a gap names {place:?}, which {name} has");
                        b.told.insert(name);
                    }
                }
            }
        }
        self.store().events().return_unacknowledged(U);
    }

    /// Everybody is there and acknowledges everything.
    fn drain(&mut self) {
        for (n, (name, _)) in self.of.iter().enumerate() {
            let u = UplinkIndex(u8::try_from(n).unwrap());
            self.give_back(u, name);
            self.lanes.get_mut(name).unwrap().last_live = 0;
            loop {
                let before = self.lanes[name].in_flight.len();
                self.live(u, name);
                self.backlog(u, name);
                self.hear_gaps();
                if self.lanes[name].in_flight.len() == before && !self.store().spool().has_live(u) {
                    break;
                }
            }
            while let Some(key) = self.lanes.get_mut(name).unwrap().in_flight.pop() {
                self.acknowledge(u, name, key);
            }
            let missing = |b: &Known| b.owed.contains(name) && ![&b.has, &b.told, &b.excused].iter().any(|list| list.contains(name));
            let missing: Vec<_> = self.batches.iter().filter(|(_, b)| missing(b)).map(|(place, _)| *place).collect();
            assert!(missing.is_empty(), "{name} lost without a word: {missing:?}");
            let figures = self.store().spool().figures_of(u, self.now);
            assert_eq!((figures.waiting_samples, figures.oldest_age_ms), (0, None), "{name}: {figures:?}");
            assert_eq!(self.store().spool().next_backlog(u), None);
        }
        let figures = self.store().spool().figures(self.now);
        assert_eq!((figures.waiting_batches, figures.waiting_samples), (0, 0), "{figures:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn each_uplink_gets_everything(ops in prop::collection::vec(op(), 1..120)) {
        let mut h = Harness::new(|_| {});
        ops.iter().for_each(|op| h.step(op));
        h.drain();
    }

    /// The same with segments of a batch or two, RAM for a few batches and a file of some pages.
    #[test]
    fn or_is_told_by_name_what_it_does_not_get(ops in prop::collection::vec(op(), 1..160)) {
        let mut h = Harness::new(|t| {
            t.sizes.segment_bytes = 120;
            t.sizes.segment_samples = 50;
            t.sizes.file_max = 76 << 10;
            t.sizes.disk_max = 1 << 13;
            t.room = Room { ram_bytes: 100_000, ram_batches: 8 };
        });
        h.times = 20;
        ops.iter().for_each(|op| h.step(op));
        h.drain();
    }
}

/// A store with a required and an optional uplink, inline.
struct Pair {
    store: Store,
    now: Boot,
    dir: TempDir,
}

const A: UplinkIndex = UplinkIndex(0);
const B: UplinkIndex = UplinkIndex(1);

impl Pair {
    fn new(tuning: impl Fn(&mut Tuning)) -> Pair {
        let dir = dir();
        let (store, now) = (Pair::open(&dir, CONFIGURATIONS[0], tuning), Clock::Real.now());
        Pair { store, now, dir }
    }

    fn open(dir: &TempDir, of: &[(Name, bool)], tuning: impl Fn(&mut Tuning)) -> Store {
        let o = Options { uplinks: holders(of), ..options(dir.path(), Backing::Inline) };
        let mut t = Tuning::of(o.buffer.disk_max, Duration::ZERO);
        tuning(&mut t);
        open::open(&o, t).unwrap().0
    }

    fn seal(&mut self, count: u64, points: usize) {
        (0..count).for_each(|n| _ = self.store.spool().append(frames(n, points, self.now), vec![], self.now));
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.store.poll(self.now);
    }

    fn take(&self, u: UplinkIndex) -> Vec<u64> {
        let spool = self.store.spool();
        let all: Vec<Key> = std::iter::from_fn(|| spool.next_backlog(u).or_else(|| spool.next_live(u))).map(|o| o.sealed.key).collect();
        all.iter().for_each(|key| spool.acknowledged(u, *key, self.now));
        all.iter().map(|key| key.seq).collect()
    }

    fn stop(self) -> TempDir {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.store.close());
        self.dir
    }
}

#[test]
fn the_required_uplink_alone_decides_about_receipts() {
    let (receipt, told) = receipts();
    let p = Pair::new(|_| {});
    p.store.spool().append(frames(1, 3, p.now), vec![receipt(1)], p.now);
    p.take(B);
    assert!(told.try_recv().is_err(), "the optional one has it, the required one not");
    p.take(A);
    assert_eq!(told.try_recv().unwrap(), (1, Settled::Kept));
}

#[test]
fn what_only_an_optional_uplink_wants_is_written_seldom() {
    let mut p = Pair::new(|_| {});
    for _ in 0..100 {
        p.seal(1, 3);
        p.take(A);
        p.pass(200);
    }
    let commits = p.store.spool().figures(p.now).commits;
    assert!((1..=4).contains(&commits), "20 s: {commits}");
    assert_eq!(p.take(B), (1..=100).collect::<Vec<_>>());
}

#[test]
fn an_optional_uplink_that_is_away_loses_the_oldest_and_is_named() {
    let mut p = Pair::new(|t| t.sizes.disk_max = 1 << 20);
    for _ in 0..400 {
        p.seal(1, 2000);
        p.take(A);
        p.pass(5_000);
    }
    let (a, b) = (p.store.spool().figures_of(A, p.now), p.store.spool().figures_of(B, p.now));
    assert_eq!((a.waiting_samples, a.dropped_samples), (0, 0));
    assert!(b.dropped_samples > 0, "{b:?}");
    let (mut named, mut samples) = (vec![], 0);
    while let Some(message) = p.store.events().next(A) {
        for e in message.events.iter() {
            let EventKind::Gap { from, to, samples: of, uplink, reason, .. } = &e.kind else { continue };
            assert_eq!(uplink.as_ref().map(UplinkId::as_str), Some("b"), "{reason}");
            named.extend(*from..=*to);
            samples += of;
        }
    }
    assert_eq!(b.dropped_samples, samples);
    assert_eq!(p.store.spool().figures(p.now).dropped_samples, 0, "nothing is lost to the required one");
    let rest = p.take(B);
    assert!(rest.len() > 10 && rest.len() < 350, "{}", rest.len());
    named.extend(rest);
    assert_eq!(named, (1..=400).collect::<Vec<_>>());
}

#[test]
fn a_new_uplink_begins_with_what_is_kept_and_a_removed_one_holds_nothing() {
    let mut p = Pair::new(|_| {});
    p.seal(4, 3);
    p.pass(1500);
    p.take(A);
    let dir = p.stop();
    let new = Pair::open(&dir, &[("a", true), ("b", false), ("c", true)], |_| {});
    let p = Pair { store: new, now: Clock::Real.now(), dir };
    assert_eq!((p.take(A), p.take(UplinkIndex(2))), (vec![], vec![1, 2, 3, 4]));
    let dir = p.stop();
    let p = Pair { store: Pair::open(&dir, &[("a", true)], |_| {}), now: Clock::Real.now(), dir };
    assert_eq!(p.store.spool().figures(p.now).waiting_samples, 0, "it was kept for b alone");
    assert_eq!(p.take(A), [] as [u64; 0]);
}

/// The schema of the version with one uplink, with data in it, a part of which is delivered.
#[test]
fn a_spool_of_the_version_with_one_uplink_is_taken_over() {
    let p = Pair::new(|_| {});
    let dir = p.stop();
    let mut p = Pair { store: Pair::open(&dir, &[("a", true)], |_| {}), now: Clock::Real.now(), dir };
    p.seal(5, 3);
    p.pass(1500);
    let sent: Vec<_> = (0..5).map(|_| p.store.spool().next_backlog(A).or_else(|| p.store.spool().next_live(A)).unwrap()).collect();
    p.store.spool().acknowledged(A, sent[1].sealed.key, p.now);
    let dir = p.stop();
    let db = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    let cursors: Vec<u8> = db.query_row("SELECT cursors FROM meta", [], |r| r.get(0)).unwrap();
    // One uplink: its count, its name and the length come first.
    let alive = &cursors[4..];
    assert_eq!(cursors[..3], [1, 1, b'a']);
    db.execute("UPDATE meta SET alive = ?1", [alive]).unwrap();
    db.execute_batch("ALTER TABLE meta DROP COLUMN cursors; DROP TABLE thinned; PRAGMA user_version = 1").unwrap();
    drop(db);
    let p = Pair { store: Pair::open(&dir, CONFIGURATIONS[0], |_| {}), now: Clock::Real.now(), dir };
    assert_eq!(p.take(A), [1, 3, 4, 5]);
    assert_eq!(p.take(B), [1, 2, 3, 4, 5], "it is new, and gets what is kept");
}

#[test]
fn events_wait_for_the_slowest_and_an_optional_one_far_behind_is_named() {
    let run = |test| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    run(async {
        let p = Pair::new(|t| t.caps.events = 400);
        let acknowledge = |u| {
            while let Some(m) = p.store.events().next(u) {
                p.store.events().acknowledged(u, m.key);
            }
        };
        for n in 1..=150 {
            submit(&p.store, vec![Change::Event(event(n))]).await.unwrap();
            acknowledge(A);
        }
        assert!(p.store.events().alive().iter().all(|a| a.lowest == 1), "the optional one wants them all");
        for n in 151..=260 {
            submit(&p.store, vec![Change::Event(event(n))]).await.unwrap();
            acknowledge(A);
        }
        let mut told = 0;
        let mut first = None;
        while let Some(m) = p.store.events().next(B) {
            first.get_or_insert(m.key.seq);
            for e in m.events.iter() {
                if let EventKind::Gap { from, to, uplink, .. } = &e.kind {
                    assert_eq!(uplink.as_ref().map(UplinkId::as_str), Some("b"));
                    assert_eq!(*from, told + 1);
                    told = *to;
                }
            }
            p.store.events().acknowledged(B, m.key);
        }
        assert_eq!(first, Some(told + 1), "what it did not get is named, the rest came");
        assert!(told >= 50, "{told}");
    });
}

#[tokio::test]
async fn a_clean_stop_keeps_what_each_uplink_has() {
    let mut p = Pair::new(|_| {});
    p.seal(5, 3);
    p.take(A);
    submit(&p.store, vec![Change::Event(event(1))]).await.unwrap();
    let _ = [A, B].map(|u| p.store.events().next(u).map(|m| p.store.events().acknowledged(u, m.key)));
    p.store.close().await;
    drop(p.store);
    let store = Pair::open(&p.dir, CONFIGURATIONS[0], |_| {});
    assert_eq!((store.spool().has_backlog(A), store.spool().has_backlog(B)), (false, true));
    submit(&store, vec![Change::Event(event(2))]).await.unwrap();
    assert!([A, B].iter().all(|u| store.events().next(*u).is_some()), "rows that are gone give no number away twice");
}
