//! Random histories against a naive model: it walks through time minute by minute with the clock on the wall in its hand.

use super::*;
use crate::logic::testing::models;
use proptest::prelude::*;
use std::rc::Rc;

const CRONS: [&str; 10] = [
    "30 2 * * *",
    "0,30 1-3 * * *",
    "*/20 * * * *",
    "15 * * * sun",
    "45 1,2 * * mon,sun",
    "0 0 * * *",
    "30 23 * * *",
    "0 */2 * * *",
    "10 2 25-31 3,10 *",
    "7 5 1 * 0",
];
/// A zone, and a moment shortly before its clock is changed or nothing is.
const PLACES: [(&str, &str); 9] = [
    ("Europe/Berlin", "2026-03-28T20:00:00Z"),
    ("Europe/Berlin", "2026-10-24T20:00:00Z"),
    ("America/New_York", "2026-03-08T03:00:00Z"),
    ("America/New_York", "2026-11-01T02:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T10:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T10:00:00Z"),
    ("Asia/Beirut", "2026-10-24T16:00:00Z"),
    ("Asia/Kolkata", "2026-10-24T16:00:00Z"),
    ("UTC", "2026-02-28T16:00:00Z"),
];
/// A story ends that is further than this from where it began, in either direction.
const SPAN: i64 = 3 * 86_400;
/// The naive model knows what comes so long before and after that.
const BEFORE: i64 = 4 * 86_400;
const AFTER: i64 = 9 * 86_400;

#[derive(Debug, Clone)]
enum Happens {
    /// It runs for so many seconds.
    Wait(u64),
    /// It is off for so long; `torn`: what was decided last never reached the disk.
    Restart {
        down: u64,
        torn: bool,
    },
    /// Somebody sets the clock.
    Step(i64),
    Disabled(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1u64..20_000).prop_map(Happens::Wait),
        3 => (0u64..40_000, any::<bool>()).prop_map(|(down, torn)| Happens::Restart { down, torn }),
        1 => (0u64..200, any::<bool>()).prop_map(|(down, torn)| Happens::Restart { down, torn }),
        // All of them together go back by less than a day: beyond that what has run is told by its name alone.
        1 => (-6_000i64..30_000).prop_map(Happens::Step),
        1 => (0u64..10_000).prop_map(Happens::Disabled),
    ]
}

/// When it comes: found by looking at the clock on the wall each minute.
fn walked(cron: &Cron, zone: &Zone, from: i64, to: i64) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    let times: BTreeSet<i64> = cron.times().collect();
    let fits = |local: i64| cron.is_on(local.div_euclid(86_400)) && times.contains(&local.rem_euclid(86_400));
    // What it showed at the latest so far.
    let mut shown = zone.local(from - 60);
    for now in (from..to).step_by(60) {
        let local = zone.local(now);
        if cron.is_every_hour() {
            found.extend(fits(local).then_some(now));
            continue;
        }
        let mut minute = shown + 60;
        while minute <= local {
            found.extend(fits(minute).then_some(now));
            minute += 60;
        }
        shown = shown.max(local);
    }
    found
}

/// What the rules of the documentation say, over a list of moments.
#[derive(Debug, Clone)]
struct Naive {
    comes: Rc<BTreeSet<i64>>,
    /// Further than that it knows nothing.
    until: i64,
    missed: Missed,
    dealt_with: i64,
    ran: Option<i64>,
}

impl Naive {
    fn next(&self, wall: i64) -> Option<i64> {
        let from = self.dealt_with.min(wall).max(self.ran.unwrap_or(i64::MIN));
        self.comes.range(from + 1..).next().copied()
    }

    /// How many were missed, and what runs.
    fn turn(&mut self, wall: i64) -> (u64, Vec<i64>) {
        self.dealt_with = self.dealt_with.min(wall);
        let from = self.dealt_with.max(self.ran.unwrap_or(i64::MIN));
        let came: Vec<i64> = if from < wall { self.comes.range(from + 1..=wall).copied().collect() } else { vec![] };
        let Some((newest, before)) = came.split_last() else { return (0, vec![]) };
        self.dealt_with = *newest;
        let is_late = wall - newest > 60;
        let late: Vec<i64> = if is_late { came.clone() } else { before.to_vec() };
        let runs = match self.missed {
            Missed::All => came[came.len().saturating_sub(100 + usize::from(!is_late))..].to_vec(),
            Missed::Once => vec![*newest],
            Missed::Skip if is_late => vec![],
            Missed::Skip => vec![*newest],
        };
        self.ran = runs.last().copied().or(self.ran);
        (late.len() as u64, runs)
    }
}

/// One that is kept on a disk.
struct Real {
    rule: Rule,
    schedules: Schedules,
    disk: Mark,
    /// Names that the store knows.
    executed: BTreeSet<i64>,
    wall: i64,
    now: u64,
}

impl Real {
    fn moment(&self) -> Moment {
        Moment { now: Boot::from_ms(self.now * 1000), wall: WallMs(self.wall * 1000), trusted: true }
    }

    fn restart(&mut self) {
        self.schedules = Schedules::default();
        self.schedules.set(id(), self.rule.clone(), true, self.disk);
    }

    /// How many were missed, and what runs.
    fn decide(&mut self) -> (u64, Vec<i64>, Vec<Effect>) {
        let mut out = Vec::new();
        self.schedules.turn(self.moment(), &mut out);
        let missed = out.iter().map(|e| if let Effect::Missed { count, .. } = e { *count } else { 0 }).sum();
        let runs = out.iter().filter_map(|e| if let Effect::Run { at: Occurrence::Wall(at), .. } = e { Some(*at) } else { None });
        (missed, runs.collect(), out)
    }

    fn commit(&mut self, effects: &[Effect]) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::Moved { mark, .. } => self.disk.mark = Some(*mark),
                Effect::Run { at: at @ Occurrence::Wall(second), .. } => {
                    prop_assert!(self.executed.insert(*second), "{} runs a second time", calendar::text(*second));
                    self.disk = Mark { mark: Some(*second), ran: Some(*second) };
                    self.schedules.kept(&id(), *at);
                }
                Effect::Run { .. } | Effect::Missed { .. } => {}
            }
        }
        Ok(())
    }
}

fn story(rule: Rule, comes: Rc<BTreeSet<i64>>, begin: i64, until: i64, steps: Vec<Happens>) -> Result<(), TestCaseError> {
    let mut naive = Naive { comes, until, missed: rule.missed, dealt_with: begin, ran: None };
    let schedules = Schedules::default();
    let mut real = Real { rule, schedules, disk: Mark::default(), executed: BTreeSet::new(), wall: begin, now: 5000 };
    real.restart();
    let (_, _, effects) = real.decide();
    real.commit(&effects)?;
    for step in steps {
        let was = naive.clone();
        let mut torn = false;
        match step {
            Happens::Wait(seconds) => {
                let end = real.wall + i64::try_from(seconds).unwrap();
                loop {
                    let next = naive.next(real.wall).map(|at| at.max(real.wall));
                    let due = real.schedules.due(real.moment()).map(|due| real.wall + i64::try_from(due.ms() / 1000 - real.now).unwrap());
                    prop_assert_eq!(due.filter(|due| *due < naive.until), next);
                    let Some(next) = next.filter(|next| *next <= end) else { break };
                    real.now += u64::try_from(next - real.wall).unwrap();
                    real.wall = next;
                    let (missed, runs, effects) = real.decide();
                    prop_assert_eq!((missed, runs.clone()), naive.turn(next));
                    prop_assert_eq!((missed, runs), (0, vec![next]), "what comes while it runs is on time");
                    real.commit(&effects)?;
                }
                real.now += u64::try_from(end - real.wall).unwrap();
                real.wall = end;
                continue;
            }
            Happens::Restart { down, torn: is_torn } => {
                real.wall += i64::try_from(down).unwrap();
                real.now = 100;
                real.restart();
                torn = is_torn;
            }
            Happens::Step(by) => real.wall += by,
            Happens::Disabled(seconds) => {
                real.schedules.enable(&id(), false);
                prop_assert_eq!(real.schedules.due(real.moment()), None);
                real.wall += i64::try_from(seconds).unwrap();
                real.now += seconds;
                real.schedules.enable(&id(), true);
                naive.dealt_with = real.wall;
            }
        }
        if (real.wall - begin).abs() > SPAN {
            return Ok(());
        }
        let (missed, runs, effects) = real.decide();
        prop_assert_eq!((missed, runs), naive.turn(real.wall));
        if torn {
            // Killed before the commit: it comes up again at once, and decides the same.
            real.restart();
            naive = was;
            let (missed, runs, again) = real.decide();
            prop_assert_eq!((missed, runs), naive.turn(real.wall));
            prop_assert_eq!(&again, &effects);
        }
        real.commit(&effects)?;
    }
    Ok(())
}

/// The moments of a cron text at a place, which take a while to walk.
type Walked = BTreeMap<(usize, usize), Rc<BTreeSet<i64>>>;

#[test]
fn every_moment_runs_once_or_is_missed_as_the_policy_says() {
    let walked_once: std::cell::RefCell<Walked> = std::cell::RefCell::default();
    let of = (0..PLACES.len(), 0..CRONS.len(), 0..3usize, 0i64..40_000, proptest::collection::vec(happens(), 1..14));
    models(file!(), "schedules by the clock", of, |(place, text, missed, begin, steps)| {
        let (name, near) = PLACES[place];
        let zone = zone(name);
        let rule = Rule { missed: Missed::ALL[missed], ..cron(CRONS[text], zone.clone()) };
        let near = at(near);
        let Timing::Cron(cron) = &rule.timing else { unreachable!() };
        let mut known = walked_once.borrow_mut();
        let comes = known.entry((place, text)).or_insert_with(|| Rc::new(walked(cron, &zone, near - BEFORE, near + AFTER)));
        story(rule, Rc::clone(comes), near + begin, near + AFTER, steps)
    });
}

#[test]
fn intervals_run_once_or_are_missed_as_the_policy_says() {
    let seconds = prop_oneof![1u64..100, 600u64..10_000];
    let of = (seconds, -100_000i64..100_000, 0..3usize, proptest::collection::vec(happens(), 1..8));
    models(file!(), "schedules by intervals", of, |(seconds, anchor, missed, steps)| {
        let begin = at("2026-06-01T12:00:00Z");
        let timing = Timing::Every { every: Duration::from_secs(seconds), anchor };
        let rule = Rule { table: Timetable::new(timing.clone(), Zone::utc()), timing, missed: Missed::ALL[missed], untrusted_clock: false };
        let every = i64::try_from(seconds).unwrap();
        // Not hundreds of thousands of runs.
        let shorter = if seconds < 100 { 50 } else { 1 };
        let steps = steps.into_iter().map(|s| match s {
            Happens::Wait(s) => Happens::Wait(s / shorter),
            Happens::Disabled(s) => Happens::Disabled(s / shorter),
            Happens::Restart { down, torn } => Happens::Restart { down: down / shorter, torn },
            Happens::Step(by) => Happens::Step(by / i64::try_from(shorter).unwrap()),
        });
        let (from, to) = if seconds < 100 { (begin - 20_000, begin + 20_000) } else { (begin - BEFORE, begin + AFTER) };
        let first = (from..).find(|at| (at - anchor).rem_euclid(every) == 0).unwrap();
        let comes = Rc::new((first..to).step_by(usize::try_from(every).unwrap()).collect());
        story(rule, comes, begin, to, steps.collect())
    });
}
