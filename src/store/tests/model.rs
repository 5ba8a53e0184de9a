//! The spool against a small model: what may be lost, in which order things come, and that a key has one content.

use super::*;
use crate::store::spool::{codec, core::Room};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Debug, Clone)]
enum Op {
    /// Points; whether a publisher waits for the receipt.
    Append(usize, bool),
    NextLive,
    NextBacklog,
    /// Which of those in flight.
    Ack(prop::sample::Index),
    /// One that was acknowledged or returned before.
    AckStale,
    Return,
    /// Milliseconds.
    Tick(u64),
    Kill,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..30usize, prop::bool::weighted(0.2)).prop_map(|(points, awaited)| Op::Append(points, awaited)),
        4 => Just(Op::NextLive),
        4 => Just(Op::NextBacklog),
        5 => any::<prop::sample::Index>().prop_map(Op::Ack),
        1 => Just(Op::AckStale),
        1 => Just(Op::Return),
        5 => (1..900u64).prop_map(Op::Tick),
        1 => Just(Op::Kill),
        1 => Just(Op::Restart),
    ]
}

/// What is known of one batch.
#[derive(Debug, Clone)]
struct Known {
    content: String,
    sealed_at: Boot,
    receipt: Option<u64>,
    kept: bool,
    acknowledged: bool,
    announced: bool,
    /// A kill came within its window, or after an acknowledgement that was not written down.
    may_be_lost: bool,
    run: usize,
}

struct Harness {
    _dir: TempDir,
    tuning: Tuning,
    /// Makes batches larger.
    times: usize,
    options: Options,
    store: Option<Store>,
    now: Boot,
    epoch: crate::model::Epoch,
    runs: usize,
    batches: BTreeMap<(usize, u64), Known>,
    in_flight: Vec<Key>,
    stale: VecDeque<Key>,
    epochs: Vec<crate::model::Epoch>,
    told: Receiver<(u64, Settled)>,
    receipt: Box<dyn Fn(u64) -> Receipt>,
    receipts: u64,
    /// Nothing that was not in flight at a return may come from the live queue out of order.
    last_live: u64,
    last_backlog: (usize, u64),
}

impl Harness {
    fn new(window: Duration, tuning: impl Fn(&mut Tuning)) -> Harness {
        let dir = dir();
        let mut options = options(dir.path(), Backing::Inline);
        options.buffer.window = window;
        options.epoch_seed = Some(1);
        let mut of = Tuning::of(options.buffer.disk_max, Duration::ZERO);
        tuning(&mut of);
        let (receipt, told) = receipts();
        let mut h = Harness {
            _dir: dir,
            tuning: of,
            times: 1,
            options,
            store: None,
            now: Clock::Real.now(),
            epoch: crate::model::Epoch(0),
            runs: 0,
            batches: BTreeMap::new(),
            in_flight: vec![],
            stale: VecDeque::new(),
            epochs: vec![],
            told,
            receipt: Box::new(receipt),
            receipts: 0,
            last_live: 0,
            last_backlog: (0, 0),
        };
        h.open();
        h
    }

    fn open(&mut self) {
        let (store, restored) = open::open(&self.options, self.tuning).unwrap();
        assert!(!self.epochs.contains(&restored.epoch), "an epoch is used twice");
        if let Some(before) = restored.before {
            // Runs that left nothing are passed over.
            assert!(self.epochs.contains(&before.epoch));
        }
        self.epoch = restored.epoch;
        self.epochs.push(restored.epoch);
        self.runs = self.epochs.len() - 1;
        self.store = Some(store);
        self.last_live = 0;
        self.last_backlog = (0, 0);
        self.in_flight.clear();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append(points, awaited) => self.append(*points, *awaited),
            Op::NextLive => {
                if let Some(out) = self.store().spool().next_live(U) {
                    assert!(!out.backlog);
                    let key = out.sealed.key;
                    assert!(key.epoch == self.epoch && key.seq > self.last_live, "live goes forward");
                    self.last_live = key.seq;
                    self.sent(&out);
                }
            }
            Op::NextBacklog => {
                assert_eq!(self.store().spool().has_backlog(U), self.backlog());
            }
            Op::Ack(which) => {
                if !self.in_flight.is_empty() {
                    let key = self.in_flight.remove(which.index(self.in_flight.len()));
                    self.store().spool().acknowledged(U, key, self.now);
                    let of = self.of(key);
                    self.batches.get_mut(&of).unwrap().acknowledged = true;
                    self.stale.push_back(key);
                }
            }
            Op::AckStale => {
                if let Some(key) = self.stale.pop_front()
                    && !self.in_flight.contains(&key)
                {
                    self.store().spool().acknowledged(U, key, self.now);
                }
            }
            Op::Return => {
                self.store().spool().return_unacknowledged(U);
                self.stale.extend(self.in_flight.drain(..));
                self.last_backlog = (0, 0);
            }
            Op::Tick(ms) => {
                self.now = self.now + Duration::from_millis(*ms);
                self.store().poll(self.now);
            }
            Op::Kill => {
                // With every segment in flight nothing could be dropped for room.
                let full = !self.store().spool().figures(self.now).trouble.is_empty();
                self.store = None;
                self.after_kill(full);
                self.open();
            }
            Op::Restart => {
                let store = self.store.take().unwrap();
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.close());
                drop(store);
                self.open();
            }
        }
        self.hear();
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
            receipt: awaited.then_some(tag),
            kept: false,
            acknowledged: false,
            announced: false,
            may_be_lost: false,
            run: self.runs,
        };
        assert!(self.batches.insert((self.runs, seq), known).is_none(), "a number is used twice");
    }

    fn of(&self, key: Key) -> (usize, u64) {
        (self.epochs.iter().position(|e| *e == key.epoch).unwrap(), key.seq)
    }

    fn backlog(&mut self) -> bool {
        let Some(out) = self.store().spool().next_backlog(U) else {
            return false;
        };
        assert!(out.backlog);
        let of = self.of(out.sealed.key);
        assert!(of > self.last_backlog, "backlog goes forward: {of:?} after {:?}", self.last_backlog);
        self.sent(&out);
        true
    }

    fn sent(&mut self, out: &Outgoing) {
        let of = self.of(out.sealed.key);
        let known = &self.batches[&of];
        assert_eq!(known.content, format!("{:?}", out.sealed.frames), "a key has one content");
        assert!(!known.announced, "{of:?} was announced as lost");
        assert!(!self.in_flight.contains(&out.sealed.key), "{of:?} is in flight already");
        self.in_flight.push(out.sealed.key);
    }

    /// Everything that was kept to a publisher, or is older than the window, must come back. The rest may be lost, and of
    /// this run what could not be written.
    fn after_kill(&mut self, full: bool) {
        self.hear_receipts();
        let late = self.now.saturating_sub(self.options.buffer.window);
        let zero = self.options.buffer.window.is_zero();
        for b in self.batches.values_mut() {
            b.may_be_lost |= b.acknowledged || (b.run == self.runs && !b.kept && ((b.sealed_at >= late && !zero) || full));
            b.acknowledged = false;
        }
    }

    fn hear(&mut self) {
        self.hear_receipts();
        self.hear_gaps();
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
        for (key, to, _) in super::gaps(self.store()) {
            let (run, from) = self.of(key);
            for (_, b) in self.batches.range_mut((run, from)..=(run, to)) {
                assert!(!b.acknowledged, "a gap names what was delivered");
                b.announced = true;
            }
        }
        self.store().events().return_unacknowledged(U);
    }

    /// The end: connection up, everything acknowledged at once.
    fn drain(&mut self) {
        self.step(&Op::Return);
        self.last_live = 0;
        for _ in 0..10_000 {
            let before = self.in_flight.len();
            self.step(&Op::NextLive);
            self.step(&Op::NextBacklog);
            if self.in_flight.len() == before && !self.store().spool().has_live(U) {
                break;
            }
        }
        while let Some(key) = self.in_flight.pop() {
            self.store().spool().acknowledged(U, key, self.now);
            let of = self.of(key);
            // One that a kill could have taken, but did not.
            if let Some(b) = self.batches.get_mut(&of) {
                b.acknowledged = true;
            }
        }
        let missing: BTreeSet<_> =
            self.batches.iter().filter(|(_, b)| !b.acknowledged && !b.announced && !b.may_be_lost).map(|(k, _)| *k).collect();
        assert!(missing.is_empty(), "lost without a word: {missing:?}");
        let figures = self.store().spool().figures(self.now);
        assert_eq!((figures.waiting_batches, figures.waiting_samples), (0, 0), "{figures:?}");
        assert_eq!(self.store().spool().next_backlog(U), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_disordered(ops in prop::collection::vec(op(), 1..80), zero in prop::bool::weighted(0.2)) {
        let mut h = Harness::new(if zero { Duration::ZERO } else { WINDOW }, |_| {});
        ops.iter().for_each(|op| h.step(op));
        h.drain();
    }

    /// The same with segments of a batch or two, RAM for six batches and a file of some pages: everything is dropped at
    /// some time, and every drop is announced.
    #[test]
    fn at_every_limit_the_loss_is_announced(ops in prop::collection::vec(op(), 1..120)) {
        let mut h = Harness::new(WINDOW, |t| {
            t.sizes.segment_bytes = 120;
            t.sizes.segment_samples = 50;
            t.sizes.file_max = 56 << 10;
            t.sizes.disk_max = 1 << 17;
            t.room = Room { ram_bytes: 100_000, ram_batches: 6 };
        });
        h.times = 20;
        ops.iter().for_each(|op| h.step(op));
        h.drain();
    }
}

/// The model can only prove order if the codec does not hide it.
#[test]
fn the_empty_segment_is_no_segment() {
    let body = codec::encode(&[], |_| codec::Shape::Names);
    assert_eq!(codec::directory(&body).unwrap(), []);
}
