//! Schedules over changes of the clock, steps, restarts and time in which nothing ran.

mod changes;
mod model;

use super::*;
use crate::model::{Cron, When, Zone, calendar};
use std::collections::{BTreeMap, BTreeSet};

fn zone(name: &str) -> Zone {
    thread_local!(static READ: std::cell::RefCell<BTreeMap<String, Zone>> = std::cell::RefCell::default());
    let read = || {
        let path = std::path::Path::new("/usr/share/zoneinfo").join(name);
        Zone::of_file(name, &std::fs::read(path).expect("tzdata is installed")).expect("a sound file")
    };
    READ.with_borrow_mut(|all| all.entry(name.to_owned()).or_insert_with(read).clone())
}

fn id() -> ScheduleId {
    ScheduleId::parse("night").unwrap()
}

/// `2026-03-29T01:00:00Z` in seconds.
fn at(text: &str) -> i64 {
    calendar::parse_rfc3339(text).unwrap().0 / 1000
}

fn cron(text: &str, zone: Zone) -> Rule {
    let timing = Timing::Cron(Cron::parse(text).unwrap());
    Rule { table: Timetable::new(timing.clone(), zone), timing, missed: Missed::Skip, untrusted_clock: false }
}

fn every(seconds: u64) -> Rule {
    let timing = Timing::Every { every: Duration::from_secs(seconds), anchor: 0 };
    Rule { table: Timetable::new(timing.clone(), Zone::utc()), timing, missed: Missed::Skip, untrusted_clock: false }
}

/// The clocks of a machine that started at 1000 s.
struct Machine {
    schedules: Schedules,
    now_ms: u64,
    wall_ms: i64,
    trusted: bool,
}

impl Machine {
    fn new(rule: Rule, begin: &str) -> Machine {
        let mut schedules = Schedules::default();
        schedules.set(id(), rule, true, Mark::default());
        let mut machine = Machine { schedules, now_ms: 1_000_000, wall_ms: at(begin) * 1000, trusted: true };
        machine.turn();
        machine
    }

    fn moment(&self) -> Moment {
        Moment { now: Boot::from_ms(self.now_ms), wall: WallMs(self.wall_ms), trusted: self.trusted }
    }

    fn turn(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.schedules.turn(self.moment(), &mut out);
        out.iter().map(said).collect()
    }

    /// The clocks go on, and whatever is due is done at its moment.
    fn wait(&mut self, seconds: u64) -> Vec<String> {
        let end = self.now_ms + seconds * 1000;
        let mut all = Vec::new();
        while let Some(due) = self.schedules.due(self.moment()).filter(|due| due.ms() <= end) {
            assert!(due.ms() > self.now_ms, "it asks to be called again at once");
            self.go_to(due.ms());
            all.extend(self.turn());
        }
        self.go_to(end);
        all
    }

    fn go_to(&mut self, ms: u64) {
        self.wall_ms += i64::try_from(ms - self.now_ms).unwrap();
        self.now_ms = ms;
    }

    /// Somebody sets the clock.
    fn step(&mut self, seconds: i64) -> Vec<String> {
        self.wall_ms += seconds * 1000;
        self.turn()
    }
}

fn said(effect: &Effect) -> String {
    match effect {
        Effect::Run { at: Occurrence::Wall(at), .. } => format!("run {}Z", calendar::text(*at)),
        Effect::Run { at: Occurrence::Boot(at), .. } => format!("run boot {at}"),
        Effect::Missed { count, first, last, ran, .. } => {
            format!("missed {count} {}Z {}Z ran {ran}", calendar::text(*first), calendar::text(*last))
        }
        Effect::Moved { mark, .. } => format!("moved {}Z", calendar::text(*mark)),
    }
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[test]
fn a_week_off_is_made_up_for_as_the_policy_says() {
    let berlin = || zone("Europe/Berlin");
    for (missed, want) in [
        (Missed::Skip, vec!["missed 7 2026-06-02T04:00:00Z 2026-06-08T04:00:00Z ran 0", "moved 2026-06-08T04:00:00Z"]),
        (Missed::Once, vec!["missed 7 2026-06-02T04:00:00Z 2026-06-08T04:00:00Z ran 1", "run 2026-06-08T04:00:00Z"]),
        (
            Missed::All,
            vec![
                "missed 7 2026-06-02T04:00:00Z 2026-06-08T04:00:00Z ran 7",
                "run 2026-06-02T04:00:00Z",
                "run 2026-06-03T04:00:00Z",
                "run 2026-06-04T04:00:00Z",
                "run 2026-06-05T04:00:00Z",
                "run 2026-06-06T04:00:00Z",
                "run 2026-06-07T04:00:00Z",
                "run 2026-06-08T04:00:00Z",
            ],
        ),
    ] {
        let mut m = Machine::new(Rule { missed, ..cron("0 6 * * *", berlin()) }, "2026-06-01T12:00:00Z");
        m.go_to(m.now_ms + 7 * DAY * 1000);
        assert_eq!(m.turn(), want, "{missed:?}");
        assert_eq!(m.wait(DAY), ["run 2026-06-09T04:00:00Z"], "{missed:?}");
    }
}

#[test]
fn a_run_that_is_a_little_late_is_on_time() {
    let late = |missed, seconds: u64| {
        let mut m = Machine::new(Rule { missed, ..every(HOUR) }, "2026-06-01T12:30:00Z");
        m.go_to(m.now_ms + (3 * HOUR / 2 + seconds) * 1000);
        m.turn()
    };
    let one = "missed 1 2026-06-01T13:00:00Z 2026-06-01T13:00:00Z ran";
    assert_eq!(late(Missed::Skip, 60), [format!("{one} 0"), "run 2026-06-01T14:00:00Z".into()]);
    assert_eq!(late(Missed::Once, 60), [format!("{one} 0"), "run 2026-06-01T14:00:00Z".into()]);
    assert_eq!(late(Missed::All, 60), [format!("{one} 1"), "run 2026-06-01T13:00:00Z".into(), "run 2026-06-01T14:00:00Z".into()]);
    let two = "missed 2 2026-06-01T13:00:00Z 2026-06-01T14:00:00Z ran";
    assert_eq!(late(Missed::Skip, 61), [format!("{two} 0"), "moved 2026-06-01T14:00:00Z".into()]);
    assert_eq!(late(Missed::Once, 61), [format!("{two} 1"), "run 2026-06-01T14:00:00Z".into()]);
}

#[test]
fn more_than_can_be_made_up_for_is_counted() {
    let mut m = Machine::new(Rule { missed: Missed::All, ..every(60) }, "2026-06-01T12:00:00Z");
    m.go_to(m.now_ms + 1000 * 60_000);
    let told = m.turn();
    assert_eq!(told[0], "missed 999 2026-06-01T12:01:00Z 2026-06-02T04:39:00Z ran 100");
    assert_eq!((told.len(), told[1].as_str(), told[101].as_str()), (102, "run 2026-06-02T03:00:00Z", "run 2026-06-02T04:40:00Z"));
}

#[test]
fn a_clock_that_nobody_has_set_runs_nothing_unless_it_may() {
    let mut m = Machine::new(every(HOUR), "2026-06-01T12:30:00Z");
    m.trusted = false;
    assert_eq!(m.wait(DAY), [""; 0]);
    assert_eq!(m.schedules.due(m.moment()), None);
    m.trusted = true;
    assert_eq!(m.turn()[0], "missed 24 2026-06-01T13:00:00Z 2026-06-02T12:00:00Z ran 0");

    let mut m = Machine::new(Rule { untrusted_clock: true, ..cron("0 13 * * *", Zone::utc()) }, "2026-06-01T12:30:00Z");
    m.trusted = false;
    assert_eq!(m.wait(HOUR), ["run 2026-06-01T13:00:00Z"]);
}

#[test]
fn an_interval_that_may_runs_on_the_boot_clock_until_the_wall_clock_is_set() {
    let mut m = Machine::new(Rule { untrusted_clock: true, missed: Missed::All, ..every(HOUR) }, "2016-01-01T00:00:00Z");
    m.schedules.set(id(), Rule { untrusted_clock: true, missed: Missed::All, ..every(HOUR) }, true, Mark::default());
    m.trusted = false;
    assert_eq!(m.turn(), [""; 0]);
    // The machine started at 1000 s.
    assert_eq!(m.wait(3 * HOUR), ["run boot 3600", "run boot 7200", "run boot 10800"]);
    assert_eq!(m.step(-86_400 * 365), [""; 0], "what the wall clock shows is nothing to it");
    m.trusted = true;
    assert_eq!(m.step(11 * 365 * 86_400 + 100), ["moved 2025-12-29T03:01:40Z"], "nothing to make up for");
    assert_eq!(m.wait(HOUR), ["run 2025-12-29T04:00:00Z"]);
}

#[test]
fn steps_forward_are_missed_time_and_steps_back_repeat_nothing() {
    let mut m = Machine::new(Rule { missed: Missed::Once, ..every(HOUR) }, "2026-06-01T12:30:00Z");
    assert_eq!(m.wait(HOUR), ["run 2026-06-01T13:00:00Z"]);
    // Now 13:30, set to 17:30.
    assert_eq!(m.step(4 * 3600), ["missed 4 2026-06-01T14:00:00Z 2026-06-01T17:00:00Z ran 1", "run 2026-06-01T17:00:00Z"]);
    // Back at 13:30: 17:00 has run.
    assert_eq!(m.step(-4 * 3600), [""; 0]);
    assert_eq!(m.wait(5 * HOUR), ["run 2026-06-01T18:00:00Z"]);
    // A step back by an hour at 18:30, over a run.
    assert_eq!(m.step(-3600), [""; 0]);
    assert_eq!(m.wait(2 * HOUR), ["run 2026-06-01T19:00:00Z"]);
}

#[test]
fn a_clock_that_was_years_ahead_stops_nothing_when_it_is_put_right() {
    for missed in Missed::ALL {
        let mut m = Machine::new(Rule { missed, ..every(HOUR) }, "2026-06-01T12:30:00Z");
        m.step(86_400 * 365 * 3);
        assert_eq!(m.step(-86_400 * 365 * 3), ["moved 2026-06-01T12:30:00Z"]);
        assert_eq!(m.wait(HOUR), ["run 2026-06-01T13:00:00Z"], "{missed:?}");
        // What was skipped by mistake comes in its time.
        m.step(6 * 3600);
        m.step(-6 * 3600);
        let next = m.wait(HOUR);
        assert_eq!(next.is_empty(), missed != Missed::Skip, "{missed:?}: {next:?}");
    }
}

#[test]
fn a_run_that_could_not_be_remembered_is_tried_again() {
    let mut m = Machine::new(every(HOUR), "2026-06-01T12:30:00Z");
    assert_eq!(m.wait(1800), ["run 2026-06-01T13:00:00Z"]);
    m.schedules.undone(&id(), m.moment().now);
    assert_eq!(m.turn(), [""; 0]);
    assert_eq!(m.wait(10), ["run 2026-06-01T13:00:00Z"]);
    m.schedules.kept(&id(), Occurrence::Wall(at("2026-06-01T13:00:00Z")));
    m.schedules.undone(&id(), m.moment().now);
    assert_eq!(m.wait(20), [""; 0], "it is on the disk");
    assert_eq!(m.wait(HOUR), ["run 2026-06-01T14:00:00Z"]);
}

#[test]
fn once_is_once_and_a_new_schedule_has_missed_nothing() {
    let once = |when: &str| {
        let timing = Timing::At(When::parse(when).unwrap());
        let table = Timetable::new(timing.clone(), zone("Europe/Berlin"));
        Rule { timing, table, missed: Missed::All, untrusted_clock: false }
    };
    let mut m = Machine::new(once("2026-06-01T15:00:00"), "2026-06-01T12:30:00Z");
    assert!(!m.schedules.is_over(&id(), m.moment()));
    assert_eq!(m.wait(DAY), ["run 2026-06-01T13:00:00Z"]);
    assert!(m.schedules.is_over(&id(), m.moment()));
    assert_eq!(m.step(-3600 * 24), [""; 0]);
    assert_eq!(m.wait(DAY), [""; 0]);
    let mut m = Machine::new(once("2026-06-01T10:00:00"), "2026-06-01T12:30:00Z");
    assert_eq!(m.wait(DAY), [""; 0]);
}

#[test]
fn what_came_longer_ago_than_is_looked_back_is_left_behind() {
    let mut m = Machine::new(Rule { missed: Missed::All, ..cron("0 0 1 7 *", Zone::utc()) }, "2026-06-01T00:00:00Z");
    m.go_to(m.now_ms + 500 * DAY * 1000);
    // 2027-10-14: of two only the later one is seen.
    assert_eq!(m.turn(), ["missed 1 2027-07-01T00:00:00Z 2027-07-01T00:00:00Z ran 1", "run 2027-07-01T00:00:00Z"]);
    let mut m = Machine::new(cron("0 0 29 2 *", Zone::utc()), "2026-06-01T00:00:00Z");
    m.schedules.set(id(), cron("0 0 29 2 *", Zone::utc()), true, Mark { mark: Some(at("2024-01-01T00:00:00Z")), ran: None });
    assert_eq!(m.turn(), ["moved 2025-04-27T00:00:00Z"]);
    assert_eq!(m.wait(30 * DAY), [""; 0]);
}

#[test]
fn what_comes_while_it_is_disabled_is_not_missed() {
    let mut m = Machine::new(Rule { missed: Missed::All, ..every(HOUR) }, "2026-06-01T12:30:00Z");
    m.schedules.enable(&id(), false);
    assert_eq!(m.wait(DAY), [""; 0]);
    m.schedules.enable(&id(), true);
    assert_eq!(m.turn(), ["moved 2026-06-02T12:30:00Z"]);
    assert_eq!(m.wait(HOUR), ["run 2026-06-02T13:00:00Z"]);
}
