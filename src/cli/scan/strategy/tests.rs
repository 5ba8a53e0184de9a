//! The strategy on a simulated bus: virtual time, units that understand only their own settings, and what their replies
//! look like to a port that is set otherwise.

use super::*;
use crate::{
    cli::{
        interrupt::Interrupt,
        scan::{
            pace,
            sweep::{Event, Sweep},
        },
        site::{Bus, BusError},
    },
    model::Parity,
};
use std::collections::BTreeMap;

fn at(baud: u32, parity: Parity) -> Settings {
    Settings { baud, parity, bits: 8, stop: 1 }
}

#[derive(Clone, Copy)]
enum Manner {
    Answers,
    Refuses,
    /// Two units with one address talk at once.
    Collides,
    /// The first answer is broken.
    Stumbles,
    /// Thinks for so long.
    Thinks(u64),
}

/// Settings and address to how the unit behaves.
struct Wire {
    units: BTreeMap<(Settings, u8), Manner>,
    asked: Vec<(Option<Settings>, u8, Vec<u8>)>,
    now: Duration,
    /// What is still to come of a unit that was too slow: when it was asked at these settings, and which unit.
    late: Option<(Settings, u8)>,
}

impl Wire {
    fn new(units: &[(Settings, u8, Manner)]) -> Wire {
        let units = units.iter().map(|(s, u, m)| ((*s, *u), *m)).collect();
        Wire { units, asked: Vec::new(), now: Duration::ZERO, late: None }
    }
}

fn frame(unit: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![unit];
    out.extend_from_slice(body);
    let crc = rtu::crc16(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

impl Bus for Wire {
    fn ask(&mut self, ask: &SiteAsk) -> Result<SiteReport, BusError> {
        let settings = ask.settings.expect("a serial scan says its settings");
        let timeout = ask.timeout.expect("a scan says its timeout");
        self.asked.push((ask.settings, ask.unit, ask.pdu.clone()));
        self.now += pace::chars(ask.settings, 3 + ask.pdu.len());
        let manner = self.units.get(&(settings, ask.unit)).copied();
        let mut heard = match self.late.take() {
            Some((s, unit)) if s == settings => frame(unit, &[3, 2, 0, 7]),
            _ => Vec::new(),
        };
        let probe = ask.pdu == PROBE;
        let (outcome, thought) = match manner {
            None => (SiteOutcome::Silent, None),
            Some(Manner::Thinks(ms)) if Duration::from_millis(ms) > timeout => {
                self.late = Some((settings, ask.unit));
                (SiteOutcome::Silent, None)
            }
            Some(Manner::Collides) => (SiteOutcome::Garbled("the checksum does not fit".into()), Some(20)),
            Some(Manner::Stumbles) => {
                self.units.insert((settings, ask.unit), Manner::Answers);
                (SiteOutcome::Garbled("the checksum does not fit".into()), Some(20))
            }
            Some(Manner::Refuses) => (SiteOutcome::Exception(2), Some(20)),
            Some(_) if !probe => (SiteOutcome::Exception(1), Some(20)),
            Some(Manner::Answers) => (SiteOutcome::Answer(vec![3, 2, 0, 7]), Some(20)),
            Some(Manner::Thinks(ms)) => (SiteOutcome::Answer(vec![3, 2, 0, 7]), Some(ms)),
        };
        match &outcome {
            SiteOutcome::Answer(pdu) => heard.extend(frame(ask.unit, pdu)),
            SiteOutcome::Exception(code) => heard.extend(frame(ask.unit, &[ask.pdu[0] | 0x80, *code])),
            SiteOutcome::Garbled(_) => heard.extend([ask.unit, 3, 0xff, 0]),
            _ => {}
        }
        let took = match thought {
            Some(ms) => Duration::from_millis(ms) + pace::chars(ask.settings, heard.len()),
            None => timeout,
        };
        self.now += took;
        Ok(SiteReport { outcome, sent: frame(ask.unit, &ask.pdu), heard, took })
    }

    fn settings(&self) -> Option<Settings> {
        None
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn place(&self) -> String {
        "/dev/simulated".into()
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[derive(Debug, Default)]
struct Scanned {
    found: Vec<String>,
    collisions: Vec<u8>,
    swept: crate::cli::scan::sweep::Swept,
}

fn scan(wire: &mut Wire, wanted: Wanted) -> Scanned {
    let mut result = Scanned::default();
    let sweep = Sweep { profiles: &[], bases: &[40000], interrupt: Interrupt::default(), framing: None };
    let swept = sweep.run(wire, wanted, |event| match event {
        Event::Found(f) => result.found.push(format!("{} {}", f.settings().map(|s| s.to_string()).unwrap_or_default(), f.unit)),
        Event::Collision { unit, .. } => result.collisions.push(unit),
        Event::Look(strategy) => assert!(strategy.part() <= 1.0),
    });
    result.swept = swept.expect("the simulated bus is always there");
    result
}

fn wanted(settings: &[Settings]) -> Wanted {
    let settings = settings.iter().copied().map(Some).collect();
    Wanted { settings, units: (1..=247).collect(), stop_at: None, patience: Duration::from_millis(100) }
}

const N: Parity = Parity::None;
const E: Parity = Parity::Even;

#[test]
fn a_unit_that_answers_at_either_parity_is_listed_once() {
    let mut wire = Wire::new(&[(at(9600, N), 3, Manner::Answers), (at(9600, E), 3, Manner::Answers), (at(19_200, N), 3, Manner::Answers)]);
    let result = scan(&mut wire, wanted(&[at(9600, N), at(9600, E), at(19_200, N)]));
    assert_eq!(result.found, ["9600 8N1 3", "19200 8N1 3"]);
}

#[test]
fn eight_units_at_three_settings_are_found_near_the_theoretical_minimum() {
    let (a, b, c) = (at(9600, N), at(19_200, E), at(38_400, N));
    let units = [
        (a, 1, Manner::Answers),
        (a, 2, Manner::Refuses),
        (a, 200, Manner::Answers),
        (b, 1, Manner::Answers),
        (b, 17, Manner::Refuses),
        (c, 5, Manner::Answers),
        (c, 101, Manner::Answers),
        (c, 247, Manner::Refuses),
    ];
    let mut wire = Wire::new(&units);
    let result = scan(&mut wire, wanted(&[a, at(9600, E), b, at(19_200, N), c]));
    let mut found = result.found.clone();
    found.sort();
    let mut want: Vec<String> = units.iter().map(|(s, u, _)| format!("{s} {u}")).collect();
    want.sort();
    assert_eq!(found, want);
    // Five were found at a speed that is tried with another parity as well.
    assert_eq!(result.swept.tries, 5 * 247 - 5, "every unit at every setting, each once");
    // What a scan costs beyond silent units' timeouts: the devices' own thinking, and asking eight of them who they are.
    let (took, least) = (wire.now.as_secs_f64(), result.swept.minimum.as_secs_f64());
    println!("8 devices in {took:.1} s, at least {least:.1} s needed for {} tries", result.swept.tries);
    assert!(took < least * 1.03, "{took} s, minimum {least} s");
    // And the minimum is what it says: requests on the wire and the silence of those who are not there.
    let silent = |s: Settings| pace::least_silent(Some(s), Duration::from_millis(100)).as_secs_f64();
    let all: f64 = [a, at(9600, E), b, at(19_200, N), c].into_iter().map(|s| silent(s) * 247.0).sum();
    assert!((all - least).abs() < (8.0 + 5.0) * 0.13, "{all} s if nobody were there");
}

#[test]
fn nothing_but_reads_goes_on_the_wire() {
    let s = at(9600, N);
    let mut wire = Wire::new(&[(s, 3, Manner::Answers), (s, 9, Manner::Refuses), (s, 12, Manner::Collides)]);
    let _ = scan(&mut wire, wanted(&[s]));
    assert!(wire.asked.len() > 247);
    for (_, unit, pdu) in &wire.asked {
        assert!(matches!(pdu[0], 1..=4 | 17 | 43), "unit {unit} was sent {pdu:02x?}");
    }
}

#[test]
fn likely_units_come_first_and_settings_that_found_something_come_next() {
    let (a, b) = (at(9600, N), at(19_200, E));
    let mut wire = Wire::new(&[(b, 3, Manner::Refuses)]);
    let _ = scan(&mut wire, wanted(&[a, b]));
    let probes: Vec<(Settings, u8)> = wire.asked.iter().filter(|(_, _, p)| *p == PROBE).map(|(s, u, _)| (s.unwrap(), *u)).collect();
    assert_eq!(probes[..3], [(a, 1), (a, 2), (a, 3)]);
    assert_eq!(probes[10], (b, 1));
    assert_eq!(probes[20], (b, 11), "the setting that found something goes first in the second round");
    assert_eq!(probes.len(), 494);
}

#[test]
fn it_ends_when_enough_is_found() {
    let s = at(9600, N);
    let mut wire = Wire::new(&[(s, 3, Manner::Answers), (s, 4, Manner::Answers), (s, 5, Manner::Answers)]);
    let result = scan(&mut wire, Wanted { stop_at: Some(2), ..wanted(&[s]) });
    assert_eq!(result.found, ["9600 8N1 3", "9600 8N1 4"]);
    assert_eq!(result.swept.tries, 4);
}

#[test]
fn a_unit_that_is_broken_each_time_is_two_and_one_that_stumbles_once_is_one() {
    let s = at(9600, N);
    let mut wire = Wire::new(&[(s, 12, Manner::Collides), (s, 13, Manner::Stumbles)]);
    let result = scan(&mut wire, wanted(&[s]));
    assert_eq!(result.collisions, [12]);
    assert_eq!(result.found, ["9600 8N1 13"]);
    assert_eq!(result.swept.tries, 247 + 3, "two more looks at the one, one at the other");
}

#[test]
fn a_slow_unit_is_recognised_by_its_late_answer() {
    let s = at(9600, N);
    let mut wire = Wire::new(&[(s, 20, Manner::Thinks(180))]);
    let result = scan(&mut wire, wanted(&[s]));
    assert_eq!(result.found, ["9600 8N1 20"]);
}

#[test]
fn the_slowest_answer_sets_the_pace() {
    let s = at(9600, N);
    let mut wire = Wire::new(&[(s, 2, Manner::Thinks(80)), (s, 3, Manner::Thinks(150))]);
    let result = scan(&mut wire, wanted(&[s]));
    assert_eq!(result.found, ["9600 8N1 2", "9600 8N1 3"]);
    assert_eq!(result.swept.tries, 247, "the second needed no second look");
}

#[test]
fn noise_whoever_is_asked_is_no_collision() {
    let s = at(9600, N);
    let units: Vec<_> = (1..=247).map(|u| (s, u, Manner::Collides)).collect();
    let result = scan(&mut Wire::new(&units), wanted(&[s]));
    assert_eq!(result.collisions, [0u8; 0]);
    assert_eq!(result.swept.noisy, Some(s));
    assert_eq!(result.found, [""; 0]);
}
