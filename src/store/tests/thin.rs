//! At the limit on the disk: thinned first, then dropped, and every sample is accounted for through kills at each step.

use super::*;
use crate::{
    model::{Replaced, Stream, UplinkId},
    store::{health::Db, spool::core::Room},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Number = (crate::model::Epoch, u64);

/// A step that fails until the next start, as if the kill came just there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// B: the new segment is not written.
    Segment,
    /// C: the gap event is not committed.
    Gap,
    /// D: the old rows do not go.
    Rows,
}

#[derive(Debug, Clone)]
enum Op {
    /// Batches, each saved on its own.
    Seal(u8),
    /// Sent to this uplink and acknowledged, so many of the oldest.
    Deliver(usize, u8),
    /// Sent, then the connection is lost.
    SendInVain(usize, u8),
    Break(Fault),
    Mend,
    Kill,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![Just(Fault::Segment), Just(Fault::Gap), Just(Fault::Rows)];
    prop_oneof![
        8 => (1..8u8).prop_map(Op::Seal),
        2 => (0..2usize, 1..6u8).prop_map(|(u, count)| Op::Deliver(u, count)),
        1 => (0..2usize, 1..4u8).prop_map(|(u, count)| Op::SendInVain(u, count)),
        2 => fault.prop_map(Op::Break),
        1 => Just(Op::Mend),
        2 => Just(Op::Kill),
        1 => Just(Op::Restart),
    ]
}

/// Few, so that a case is cheap; the last one is a long text, so that a batch fills two pages.
const POINTS: usize = 4;

fn sample(tag: u64, at: Boot) -> Vec<Frame> {
    let mut frames = frames(tag, POINTS, at);
    let letter = |n: u64| char::from(b'a' + u8::try_from(mix(tag * 1000 + n) % 26).unwrap());
    frames[0].rows[0].values[POINTS - 1] = Value::Text((0..7000).map(letter).collect::<String>().into());
    frames
}

/// Texts that a dictionary does not make smaller.
fn mix(n: u64) -> u64 {
    (n ^ 0x9E37_79B9).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40
}

/// What the consumer behind an uplink knows.
struct Consumer {
    u: UplinkIndex,
    name: UplinkId,
    required: bool,
    /// What each number that arrived stands for, and whether it is thinned.
    arrived: BTreeMap<Number, (u64, bool)>,
    /// The rows that arrived, by time.
    rows: BTreeSet<u64>,
    gaps: BTreeMap<Number, Option<Replaced>>,
    gap_samples: BTreeMap<Number, u64>,
}

/// What was sealed, and who gets it.
struct Site {
    dir: TempDir,
    store: Option<Store>,
    now: Boot,
    epoch: crate::model::Epoch,
    runs: u64,
    /// Samples of each raw batch that was durable; `false`: a kill may have taken it.
    sealed: BTreeMap<Number, bool>,
    consumers: Vec<Consumer>,
    broken: Vec<Fault>,
}

const ONE: &[(&str, bool)] = &[("cloud", true)];
const BOTH: &[(&str, bool)] = &[("cloud", true), ("plant", true)];
const WITH_OPTIONAL: &[(&str, bool)] = &[("cloud", true), ("archive", false)];

impl Site {
    fn new(uplinks: &[(&str, bool)]) -> Site {
        let consumer = |(u, (name, required)): (u8, &(&str, bool))| Consumer {
            u: UplinkIndex(u),
            name: UplinkId::parse(name).unwrap(),
            required: *required,
            arrived: BTreeMap::new(),
            rows: BTreeSet::new(),
            gaps: BTreeMap::new(),
            gap_samples: BTreeMap::new(),
        };
        let mut site = Site {
            dir: dir(),
            store: None,
            now: Clock::Real.now(),
            epoch: crate::model::Epoch(0),
            runs: 0,
            sealed: BTreeMap::new(),
            consumers: (0..).zip(uplinks).map(consumer).collect(),
            broken: Vec::new(),
        };
        site.open();
        site
    }

    fn open(&mut self) {
        let mut o = options(self.dir.path(), Backing::Inline);
        self.runs += 1;
        o.epoch_seed = Some(7);
        o.uplinks = self.consumers.iter().map(|c| Holder { id: c.name.clone(), required: c.required, events_only: false }).collect();
        let mut t = Tuning::of(1 << 20, Duration::from_secs(60));
        t.sizes.file_max = 215 << 10;
        t.sizes.segment_bytes = 32 << 10;
        t.room = Room { ram_bytes: 1 << 20, ram_batches: 1000 };
        let (store, restored) = open::open(&o, t).unwrap();
        self.epoch = restored.epoch;
        // As the engine does: nothing is told before the first event of an epoch.
        let said = submit(&store, vec![Change::Event(event(1))]);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(said).unwrap();
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn db(&self, file: &str) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join(file)).unwrap()
    }

    fn seal(&mut self) {
        let tag = self.sealed.len() as u64;
        let seq = self.store().spool().append(sample(tag, self.now), vec![], self.now);
        self.sealed.insert((self.epoch, seq), false);
        self.now = self.now + Duration::from_millis(1500);
        self.store().poll(self.now);
        let trouble = !self.store().spool().figures(self.now).trouble.is_empty();
        if !trouble {
            // Only of this run: what an earlier kill took from RAM does not come back.
            let ours = self.epoch;
            self.sealed.range_mut((ours, 0)..=(ours, u64::MAX)).for_each(|(_, durable)| *durable = true);
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Seal(count) => (0..*count).for_each(|_| self.seal()),
            Op::Deliver(c, count) => _ = self.deliver(*c, *count),
            Op::SendInVain(c, count) => {
                self.send(*c, *count);
                let u = self.consumer(*c).u;
                self.store().spool().return_unacknowledged(u);
            }
            Op::Break(fault) => {
                let (file, when) = match fault {
                    Fault::Segment => ("spool.db", "INSERT ON thinned"),
                    Fault::Gap => ("state.db", "INSERT ON event"),
                    Fault::Rows => ("spool.db", "DELETE ON segment"),
                };
                let sql = format!("CREATE TRIGGER IF NOT EXISTS {fault:?} BEFORE {when} BEGIN SELECT RAISE(ABORT, 'broken'); END");
                self.db(file).execute_batch(&sql).unwrap();
                self.broken.push(*fault);
            }
            Op::Mend => self.mend(),
            Op::Kill => {
                self.store = None;
                self.mend();
                self.open();
            }
            Op::Restart => {
                self.mend();
                let store = self.store.take().unwrap();
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.close());
                drop(store);
                self.open();
            }
        }
        self.hear();
    }

    fn mend(&mut self) {
        for fault in std::mem::take(&mut self.broken) {
            let file = if fault == Fault::Gap { "state.db" } else { "spool.db" };
            self.db(file).execute_batch(&format!("DROP TRIGGER IF EXISTS {fault:?}")).unwrap();
        }
    }

    fn consumer(&mut self, c: usize) -> &mut Consumer {
        let c = c % self.consumers.len();
        &mut self.consumers[c]
    }

    fn deliver(&mut self, c: usize, count: u8) -> usize {
        let sent = self.send(c, count);
        let u = self.consumer(c).u;
        sent.iter().for_each(|out| self.store().spool().acknowledged(u, out.sealed.key, self.now));
        sent.len()
    }

    /// They arrive whether they are acknowledged or not.
    fn send(&mut self, c: usize, count: u8) -> Vec<Outgoing> {
        let u = self.consumer(c).u;
        let spool = self.store().spool();
        let sent: Vec<Outgoing> = (0..count).map_while(|_| spool.next_backlog(u).or_else(|| spool.next_live(u))).collect();
        let known: BTreeSet<Number> = self.sealed.keys().copied().collect();
        let to = self.consumer(c);
        for out in &sent {
            let key = (out.sealed.key.epoch, out.sealed.key.seq);
            let thinned = out.sealed.frames.iter().any(|f| f.thin.is_some());
            let samples = out.sealed.samples();
            if let Some(before) = to.arrived.insert(key, (samples, thinned)) {
                assert_eq!(before, (samples, thinned), "a key has one content");
            }
            assert_eq!(thinned, !known.contains(&key), "{key:?}: numbers of thinned batches are new");
            // After a kill an optional one may get what it was told is lost to it.
            assert!(!to.required || !to.gaps.contains_key(&key), "{key:?} comes after its gap event");
            to.rows.extend(out.sealed.frames.iter().flat_map(|f| f.rows.iter().map(|r| r.at.ms())));
        }
        sent
    }

    fn hear(&mut self) {
        let store = self.store.as_ref().unwrap();
        for to in &mut self.consumers {
            while let Some(message) = store.events().next(to.u) {
                for e in message.events.iter() {
                    if let EventKind::Gap { epoch, stream: Stream::Telemetry, from, to: last, samples, uplink, replaced_by, .. } = &e.kind
                        && uplink.as_ref().is_none_or(|uplink| *uplink == to.name)
                    {
                        to.gap_samples.insert((*epoch, *from), *samples);
                        for seq in *from..=*last {
                            to.gaps.insert((*epoch, seq), *replaced_by);
                        }
                    }
                }
                store.events().acknowledged(to.u, message.key);
            }
        }
    }

    /// Everything is delivered, and then the sum must be right to the sample.
    fn settle(&mut self) {
        self.step(&Op::Mend);
        for _ in 0..3 {
            self.now = self.now + Duration::from_secs(30);
            self.store().poll(self.now);
        }
        self.hear();
        for c in 0..self.consumers.len() {
            while self.deliver(c, u8::MAX) > 0 {}
        }
        self.hear();
        let durable = self.sealed.values().filter(|durable| **durable).count() * POINTS;
        let all = self.sealed.len() * POINTS;
        for to in &self.consumers {
            if to.required {
                to.check(durable, all);
            }
            let lost: Vec<_> = self.sealed.iter().filter(|(n, durable)| **durable && !to.has_or_knows(n)).collect();
            assert!(lost.is_empty(), "{}: lost without a word: {lost:?}", to.name);
        }
        let figures = self.store().spool().figures(self.now);
        assert_eq!((figures.waiting_batches, figures.waiting_samples), (0, 0), "{figures:?}");
    }
}

impl Consumer {
    fn has_or_knows(&self, n: &Number) -> bool {
        self.arrived.contains_key(n) || self.gaps.contains_key(n)
    }

    fn check(&self, durable: usize, all: usize) {
        // A number that a gap names counts by the gap.
        let arrived: u64 = self.arrived.iter().filter(|(n, _)| !self.gaps.contains_key(n)).map(|(_, (samples, _))| samples).sum();
        let gone: u64 = self.gap_samples.iter().filter(|(n, _)| self.gaps[n].is_none()).map(|(_, samples)| samples).sum();
        let sum = usize::try_from(arrived + gone).unwrap();
        let name = &self.name;
        assert!((durable..=all).contains(&sum), "{name}: {arrived} arrived and {gone} are named as gone, of {durable} to {all}");
        // What stands for others came, or was replaced or dropped in its turn.
        for by in self.gaps.values().flatten() {
            for seq in by.from..=by.to {
                let n = (by.epoch, seq);
                assert!(self.has_or_knows(&n), "{name}: {n:?} stands for others and never came");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn raw_thinned_and_gone_add_up_through_kills_at_every_step(
        ops in prop::collection::vec(op(), 1..40),
        uplinks in prop::sample::select(vec![ONE, BOTH, WITH_OPTIONAL]),
    ) {
        let mut site = Site::new(uplinks);
        ops.iter().for_each(|op| site.step(op));
        site.settle();
    }
}

/// Deterministic: a kill at each step of the first thinning.
#[test]
fn a_kill_between_two_steps_of_thinning_neither_loses_nor_doubles() {
    for (fault, uplinks) in
        [None, Some(Fault::Segment), Some(Fault::Gap), Some(Fault::Rows)].into_iter().flat_map(|f| [(f, ONE), (f, BOTH)])
    {
        let mut site = Site::new(uplinks);
        site.step(&Op::Seal(3));
        if let Some(fault) = fault {
            site.step(&Op::Break(fault));
        }
        for _ in 0..8 {
            site.step(&Op::Seal(10));
            // The first of two has it all.
            if uplinks.len() > 1 {
                site.step(&Op::Deliver(0, 10));
            }
        }
        site.step(&Op::Kill);
        (0..4).for_each(|_| site.step(&Op::Seal(10)));
        site.settle();
        let thinned = site.consumers.last().unwrap().arrived.values().filter(|(_, thinned)| *thinned).count();
        assert!(thinned > 0, "{fault:?}: nothing was thinned");
    }
}

#[test]
fn what_one_of_two_uplinks_has_is_thinned_for_the_other_only() {
    let mut site = Site::new(BOTH);
    // The windows lie on the clock, so how much thinning gains differs: what the first has not yet is kept small.
    for _ in 0..60 {
        site.step(&Op::Seal(2));
        site.step(&Op::Deliver(0, 20));
    }
    site.settle();
    let thinned = |c: &Consumer| c.arrived.values().filter(|(_, thinned)| *thinned).count();
    let [cloud, plant] = &site.consumers[..] else { panic!("two") };
    assert!(thinned(cloud) == 0 && thinned(plant) > 0, "{} and {}", thinned(cloud), thinned(plant));
    assert_eq!(cloud.rows.len(), 120, "the first has every row as it was read");
    assert!(cloud.gap_samples.values().all(|samples| *samples == 0), "{:?}", cloud.gap_samples);
}

#[test]
fn an_optional_uplink_that_lags_thins_nothing_and_loses_its_oldest() {
    let mut site = Site::new(WITH_OPTIONAL);
    for _ in 0..12 {
        site.step(&Op::Seal(10));
        site.step(&Op::Deliver(0, 20));
    }
    let figures = site.store().spool().figures(site.now);
    assert_eq!((figures.thinned_samples, figures.dropped_samples), (0, 0), "{figures:?}");
    site.settle();
    let [cloud, archive] = &site.consumers[..] else { panic!("two") };
    assert_eq!((cloud.rows.len(), cloud.gaps.len()), (120, 0));
    assert!(
        !archive.gaps.is_empty() && archive.rows.len() + archive.gaps.len() == 120,
        "{} rows, {} gaps",
        archive.rows.len(),
        archive.gaps.len()
    );
}

#[test]
fn the_oldest_is_thinned_by_steps_and_dropped_last() {
    let mut site = Site::new(ONE);
    (0..30).for_each(|_| site.step(&Op::Seal(10)));
    let figures = site.store().spool().figures(site.now);
    assert!(figures.thinned_samples > 0, "{figures:?}");
    assert!(figures.disk_bytes <= 1 << 20, "{figures:?}");
    site.settle();
    let cloud = &site.consumers[0];
    let (thin, raw): (Vec<_>, Vec<_>) = cloud.arrived.values().partition(|(_, thinned)| *thinned);
    let of: u64 = thin.iter().map(|(of, _)| of).sum();
    println!("{} raw batches, {} thinned ones for {of} samples, {} rows", raw.len(), thin.len(), cloud.rows.len());
    assert!(of > raw.len() as u64 * POINTS as u64, "thinning keeps more time than it drops");
}

#[test]
fn what_was_thinned_is_known_as_such_after_a_damaged_file_was_replaced() {
    let mut site = Site::new(ONE);
    (0..12).for_each(|_| site.step(&Op::Seal(10)));
    let thinned = |site: &Site| -> i64 {
        let sql = "SELECT count(*) FROM thinned WHERE level > 0 AND n IN (SELECT n FROM segment)";
        site.db("spool.db").query_row(sql, [], |r| r.get(0)).unwrap()
    };
    assert!(thinned(&site) > 0);
    site.store().handle.shared.board.suspect(Db::Spool, "to be replaced".into(), true);
    for _ in 0..40 {
        site.now = site.now + Duration::from_millis(1100);
        site.store().poll(site.now);
    }
    assert!(site.dir.path().join("spool.db.corrupt-1").exists(), "it was not replaced");
    assert!(thinned(&site) > 0);
    site.step(&Op::Kill);
    site.settle();
}
