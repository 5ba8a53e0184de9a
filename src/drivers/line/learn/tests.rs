use super::super::{schedule::Schedule, testing};
use super::*;
use crate::config::{DataType, Point};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A device that refuses every read of a register it does not have, polled by the real schedule.
struct Rig {
    device: Device,
    missing: BTreeSet<(Table, u32)>,
    /// Refuses everything with this code.
    shut: Option<u8>,
    /// Refuses longer reads with exception 3.
    longest: u16,
    learner: Learner,
    schedule: Schedule,
    now: Boot,
    facts: Vec<(Learned, bool)>,
    untold: Vec<usize>,
}

/// What one poll did.
#[derive(Debug, PartialEq, Eq)]
struct Polled {
    requests: usize,
    refused: usize,
    /// Points that gave a value.
    values: usize,
}

impl Rig {
    fn new(device: Device, missing: &[u32], facts: &[Learned]) -> Rig {
        let learner = Learner::new(&device, facts);
        let mut schedule = Schedule::new([(SECOND, 0, learner.plan(&device))]);
        let now = Boot::from_ms(1000);
        schedule.start(now);
        let missing = missing.iter().map(|a| (Table::Holding, *a)).collect();
        Rig { device, missing, shut: None, longest: 125, learner, schedule, now, facts: vec![], untold: vec![] }
    }

    fn serves(&self, request: &Request) -> Option<u8> {
        let lacks = request.span().any(|a| self.missing.contains(&(request.table, a)));
        self.shut.or(lacks.then_some(2)).or((request.count > self.longest).then_some(3))
    }

    /// One poll, as the core of a line runs it.
    fn poll(&mut self) -> Polled {
        let mut polled = Polled { requests: 0, refused: 0, values: 0 };
        loop {
            let request = self.schedule.current(0).clone();
            let refused = self.serves(&request);
            polled.requests += 1;
            polled.refused += usize::from(refused.is_some());
            polled.values += if refused.is_none() { request.points.len() } else { 0 };
            self.now = self.now + Duration::from_millis(20);
            match (self.schedule.is_detour(0), refused) {
                (true, code) => self.learner.outcome(self.now, &self.device, &request, code),
                (false, None) => self.learner.answered(self.now, &request),
                (false, Some(code)) => self.learner.refused(self.now, &self.device, &request, code),
            }
            let (learner, device, now) = (&mut self.learner, &self.device, self.now);
            if self.schedule.answered(now, 0, |at_end| learner.next(now, device, at_end)) {
                break;
            }
            assert!(polled.requests < 1000, "a poll ends");
        }
        self.learner.poll_ended();
        if let Some(plan) = self.learner.changed_plan(&self.device) {
            self.schedule.replan(0, plan);
        }
        self.untold.extend(self.learner.untold(&self.device));
        self.facts.extend(std::iter::from_fn(|| self.learner.take_fact()));
        polled
    }

    fn polls(&mut self, count: u32, every: Duration) -> Polled {
        let mut last = self.poll();
        for _ in 1..count {
            self.now = self.now + every;
            last = self.poll();
        }
        last
    }

    fn keys(&self) -> Vec<&str> {
        self.facts.iter().filter(|(f, forget)| !forget && f.key != OF).map(|(f, _)| f.key.as_str()).collect()
    }
}

fn registers(addresses: impl IntoIterator<Item = u16>) -> Device {
    let points = addresses.into_iter().map(|a| testing::point(Table::Holding, a)).collect();
    Device { points, ..testing::device("meter-1", 1, 0) }
}

#[test]
fn a_missing_register_is_found_within_one_poll_and_remembered_after_a_second_refusal() {
    let mut rig = Rig::new(registers(0..16), &[5], &[]);
    let first = rig.poll();
    assert_eq!((first.values, first.refused), (15, 5), "the others have their values at once: {first:?}");
    assert_eq!(rig.facts, []);
    assert_eq!(rig.polls(3, SECOND), Polled { requests: 2, refused: 0, values: 15 });
    rig.polls(12, SECOND);
    assert_eq!(rig.keys(), ["hole holding:5+1"]);
    assert_eq!(rig.untold, [5], "published once");
    assert_eq!(rig.polls(100, SECOND), Polled { requests: 2, refused: 0, values: 15 });
    assert_eq!((rig.facts.len(), rig.untold.len()), (2, 1));
}

#[test]
fn a_gap_that_holds_a_missing_register_is_not_spanned_and_costs_no_point() {
    let mut rig = Rig::new(Device { max_gap: 10, ..registers([0, 1, 8, 9]) }, &[4], &[]);
    assert_eq!(rig.poll(), Polled { requests: 3, refused: 1, values: 4 });
    rig.polls(20, SECOND);
    assert_eq!(rig.keys(), ["hole holding:2+6"]);
    assert_eq!(rig.poll(), Polled { requests: 2, refused: 0, values: 4 });
    assert_eq!(rig.untold, [] as [usize; 0]);
}

#[test]
fn holes_that_are_remembered_are_not_found_out_again() {
    let mut first = Rig::new(registers(0..16), &[5], &[]);
    first.polls(20, SECOND);
    let facts: Vec<Learned> = first.facts.iter().map(|(f, _)| f.clone()).collect();
    let mut second = Rig::new(registers(0..16), &[5], &facts);
    assert_eq!(second.poll(), Polled { requests: 2, refused: 0, values: 15 });
    assert_eq!((second.untold.clone(), second.facts.len()), (vec![5], 0), "told once in each run");
    // Another unit under the same name is another device.
    let mut other = Rig::new(Device { unit: 9, ..registers(0..16) }, &[], &facts);
    assert_eq!(other.poll(), Polled { requests: 1, refused: 0, values: 16 });
    assert_eq!(other.facts.iter().filter(|(f, forget)| *forget && f.key == "hole holding:5+1").count(), 1);
}

#[test]
fn a_device_that_refuses_everything_while_it_boots_loses_no_point() {
    let mut rig = Rig::new(registers([0, 1, 50, 51]), &[], &[]);
    rig.shut = Some(2);
    rig.polls(100, SECOND);
    assert_eq!((rig.facts.len(), rig.untold.len()), (0, 0));
    rig.shut = None;
    rig.polls(15, SECOND);
    assert_eq!(rig.poll(), Polled { requests: 2, refused: 0, values: 4 });
}

#[test]
fn a_register_that_comes_late_is_read_again_after_minutes_not_for_ever_lost() {
    let mut rig = Rig::new(registers(0..16), &[5], &[]);
    rig.polls(30, SECOND);
    rig.missing.clear();
    rig.polls(700, SECOND);
    assert_eq!(rig.poll(), Polled { requests: 1, refused: 0, values: 16 });
    assert!(rig.facts.last().is_some_and(|(f, forget)| *forget && f.key == "hole holding:5+1"), "{:?}", rig.facts);
}

#[test]
fn what_is_forgotten_is_learned_anew() {
    let mut rig = Rig::new(registers(0..16), &[5], &[]);
    rig.polls(30, SECOND);
    rig.learner.forget();
    rig.polls(2, SECOND);
    rig.polls(30, SECOND);
    assert_eq!(rig.keys(), ["hole holding:5+1"; 2]);
}

#[test]
fn a_function_that_the_device_does_not_know_closes_its_table() {
    let mut device = registers(0..4);
    let more = (0..4).map(|a| testing::point(Table::Input, a + 100));
    device.points = device.points.iter().cloned().chain(more).collect();
    let mut rig = Rig::new(device, &[], &[]);
    rig.missing.extend((0..200).map(|a| (Table::Input, a)));
    // Refused by function: the same code for every read of the table.
    let mut refused = 0;
    for _ in 0..20 {
        let request = rig.schedule.current(0).clone();
        let code = (request.table == Table::Input).then_some(1);
        refused += usize::from(code.is_some());
        match (rig.schedule.is_detour(0), code) {
            (true, code) => rig.learner.outcome(rig.now, &rig.device, &request, code),
            (false, None) => rig.learner.answered(rig.now, &request),
            (false, Some(code)) => rig.learner.refused(rig.now, &rig.device, &request, code),
        }
        let (learner, device, now) = (&mut rig.learner, &rig.device, rig.now);
        if rig.schedule.answered(now, 0, |at_end| learner.next(now, device, at_end)) {
            rig.learner.poll_ended();
            rig.learner.changed_plan(&rig.device).into_iter().for_each(|plan| rig.schedule.replan(0, plan));
        }
        rig.facts.extend(std::iter::from_fn(|| rig.learner.take_fact()));
        rig.now = rig.now + SECOND;
    }
    assert_eq!((rig.keys(), refused), (vec!["table input"], 2));
    assert_eq!(rig.learner.untold(&rig.device), [4, 5, 6, 7]);
}

#[test]
fn a_device_that_takes_only_short_reads_is_read_in_short_ones() {
    let mut rig = Rig::new(registers(0..125), &[], &[]);
    rig.longest = 64;
    rig.polls(40, SECOND);
    assert_eq!(rig.keys(), ["limit holding+63"]);
    assert_eq!(rig.poll(), Polled { requests: 2, refused: 0, values: 125 });
}

#[test]
fn a_scale_factor_behind_a_hole_is_read_by_a_request_of_its_own() {
    let mut device = registers([10]);
    std::sync::Arc::make_mut(&mut device.points)[0].scale_register = Some(crate::config::Register { table: Table::Holding, address: 20 });
    let mut rig = Rig::new(device.clone(), &[15], &[]);
    rig.polls(20, SECOND);
    assert_eq!(rig.poll(), Polled { requests: 2, refused: 0, values: 1 });
    assert_eq!(rig.keys(), ["hole holding:11+9"]);
    let mut rig = Rig::new(Device { points: [&device.points[..], &registers([40]).points].concat().into(), ..registers([]) }, &[20], &[]);
    rig.polls(20, SECOND);
    assert_eq!((rig.keys(), rig.untold.clone()), (vec!["hole holding:20+1"], vec![0]), "a value without its factor is none");
}

/// The figure: a map of 300 points with 20 holes.
#[test]
fn figure_of_a_map_with_twenty_holes() {
    let missing: Vec<u32> = (0..20).map(|n| 7 + n * 15).collect();
    let mut rig = Rig::new(registers(0..300), &missing, &[]);
    let before = Polled { requests: rig.learner.plan(&rig.device).len(), refused: 3, values: 0 };
    let (mut asked, mut polls) = (0, 0);
    while rig.keys().len() < missing.len() && polls < 200 {
        asked += rig.poll().requests;
        polls += 1;
        rig.now = rig.now + SECOND * 5;
    }
    let after = rig.poll();
    // 21 runs between 20 holes, each shorter than the longest read.
    assert_eq!(after, Polled { requests: 21, refused: 0, values: 280 });
    assert_eq!(before.requests, 3);
    println!(
        "300 points, 20 holes: before learning {} requests a cycle, all refused, 0 points; after learning {} requests, none refused, {} points; learned by {asked} requests in {polls} polls",
        before.requests, after.requests, after.values
    );
}

fn any_map() -> impl Strategy<Value = (Device, Vec<u32>)> {
    let kinds = prop::sample::select(vec![DataType::U16, DataType::F32, DataType::F64]);
    let point = (0u16..30, kinds, prop::bool::weighted(0.1));
    let points = prop::collection::vec(point, 1..8);
    (points, 4u16..20, 0u16..6, prop::collection::vec(0u32..34, 0..6)).prop_map(|(points, max_words, max_gap, missing)| {
        let make = |(n, (address, kind, read_alone)): (usize, (u16, DataType, bool))| Point {
            kind,
            read_alone,
            id: crate::model::PointId::parse(&format!("p{n}")).unwrap(),
            ..testing::point(Table::Holding, address)
        };
        let mut points: Vec<Point> = points.into_iter().enumerate().map(make).collect();
        points.sort_by_key(|p| p.register);
        (Device { points: points.into(), max_words, max_gap, ..testing::device("meter-1", 1, 0) }, missing)
    })
}

/// Whether these points may be one request to this device, told without the planner's words.
fn permitted(device: &Device, missing: &[u32], points: &[usize]) -> bool {
    let of = |n: &usize| &device.points[*n];
    let asked: BTreeSet<u32> = points.iter().flat_map(|n| span(of(n))).collect();
    let (first, last) = (*asked.first().unwrap(), *asked.last().unwrap());
    if missing.iter().any(|m| (first..=last).contains(m)) {
        return false;
    }
    if points.len() == 1 {
        return true;
    }
    let alone: BTreeSet<u32> = device.points.iter().filter(|p| p.read_alone).flat_map(span).collect();
    let mut gap = 0;
    for register in first..=last {
        gap = if asked.contains(&register) { 0 } else { gap + 1 };
        if gap > u32::from(device.max_gap) || (gap > 0 && alone.contains(&register)) {
            return false;
        }
    }
    last - first < u32::from(device.max_words) && !points.iter().any(|n| of(n).read_alone)
}

/// The fewest permitted groups of these points, by trying every partition.
fn fewest(device: &Device, missing: &[u32], points: &[usize], groups: &mut Vec<Vec<usize>>) -> usize {
    let Some((next, rest)) = points.split_first() else {
        return if groups.iter().all(|group| permitted(device, missing, group)) { groups.len() } else { usize::MAX };
    };
    let mut best = usize::MAX;
    for n in 0..groups.len() {
        groups[n].push(*next);
        best = best.min(fewest(device, missing, rest, groups));
        groups[n].pop();
    }
    groups.push(vec![*next]);
    best = best.min(fewest(device, missing, rest, groups));
    groups.pop();
    best
}

proptest! {
    #[test]
    fn after_learning_a_cycle_has_the_fewest_requests_possible((device, missing) in any_map()) {
        let readable: Vec<usize> = (0..device.points.len()).filter(|n| permitted(&device, &missing, &[*n])).collect();
        prop_assume!(!readable.is_empty());
        let want = fewest(&device, &missing, &readable, &mut Vec::new());
        let mut rig = Rig::new(device, &missing, &[]);
        rig.polls(45, SECOND * 11);
        let plan = rig.learner.plan(&rig.device);
        prop_assert_eq!(plan.len(), want, "{:?}", rig.learner.holes);
        prop_assert!(plan.iter().all(|r| rig.serves(r).is_none()), "nothing is refused any more");
        let mut read: Vec<usize> = plan.iter().flat_map(|r| r.fields.iter().map(|f| f.point)).collect();
        read.sort_unstable();
        prop_assert_eq!(read, readable);
        let unreadable = (0..rig.device.points.len()).filter(|n| !permitted(&rig.device, &missing, &[*n]));
        rig.untold.sort_unstable();
        prop_assert_eq!(&rig.untold, &unreadable.collect::<Vec<_>>(), "each published once");
    }
}
