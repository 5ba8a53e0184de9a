//! The core on a TCP line with one device that says itself what it has.

use super::*;
use crate::{
    config::{Table, Transport},
    drivers::line::{
        event::{Event, Want},
        testing,
    },
    model::Heard,
};
use std::{collections::BTreeMap, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

/// The core and the device behind it, in virtual time.
struct Rig {
    core: Core,
    now: Boot,
    registers: BTreeMap<u16, u16>,
    silent: bool,
    /// Answers everything with this exception.
    shut: Option<u8>,
    /// Start and count of every read.
    asks: Vec<(u16, u16)>,
    readings: Vec<Reading>,
    facts: Vec<(String, bool)>,
    cards: Vec<PointCard>,
    heard: Vec<Heard>,
}

/// Marker, common model with a serial number, a three-phase inverter of 2301.2 W, end.
fn inverter(base: u16, serial: &str) -> BTreeMap<u16, u16> {
    let mut words = vec![0x5375, 0x6e53, 1, 66];
    let mut text = |what: &str, count: usize| {
        let mut bytes = what.as_bytes().to_vec();
        bytes.resize(count * 2, 0);
        words.extend(bytes.as_chunks::<2>().0.iter().map(|b| u16::from_be_bytes(*b)));
    };
    text("Acme", 16);
    text("Sun 5", 16);
    text("", 16);
    text(serial, 16);
    words.extend([1, 0x8000, 103, 50]);
    let mut model = vec![0x8000u16; 50];
    (model[12], model[13]) = (23_012, 0xffff);
    words.extend(model);
    words.extend([0xffff, 0]);
    (base..).zip(words).collect()
}

impl Rig {
    fn new(registers: BTreeMap<u16, u16>, facts: &[Learned]) -> Rig {
        let line = testing::line(Transport::Tcp { host: "inverter".into(), port: 502 });
        let device = Device { sunspec: Some(vec![]), poll: 5 * SECOND, ..testing::device("inv", 1, 0) };
        let core = Core::remembering(&line, vec![device], facts);
        let (asks, readings, facts, cards, heard) = (vec![], vec![], vec![], vec![], vec![]);
        Rig { core, now: Boot::from_ms(1000), registers, silent: false, shut: None, asks, readings, facts, cards, heard }
    }

    fn reply(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (start, count) = (word(8), word(10));
        self.asks.push((start, count));
        if self.silent {
            return None;
        }
        let words: Option<Vec<u16>> = (start..start + count).map(|at| self.registers.get(&at).copied()).collect();
        let code = self.shut.or(words.is_none().then_some(2));
        let mut pdu = vec![frame[6]];
        match (code, words) {
            (None, Some(words)) => {
                pdu.extend([3, u8::try_from(words.len() * 2).unwrap()]);
                pdu.extend(words.iter().flat_map(|w| w.to_be_bytes()));
            }
            (code, _) => pdu.extend([0x83, code.unwrap_or(2)]),
        }
        let length = u16::try_from(pdu.len()).unwrap().to_be_bytes();
        Some([&frame[..4], &length[..], &pdu[..]].concat())
    }

    fn run(&mut self, time: Duration) -> &mut Rig {
        let until = self.now + time;
        let mut coming: Option<Vec<u8>>;
        let mut sent = None;
        let mut event = Event::Time;
        loop {
            let want = match self.core.step(self.now, event) {
                Want::Send(frame) => Err(frame.to_vec()),
                Want::Open => Ok((Event::Opened, self.now)),
                Want::Recv { until, .. } => Ok((Event::Time, until)),
                Want::Silence(at) | Want::Idle(at) => Ok((Event::Time, at.max(self.now))),
                other => panic!("{other:?}"),
            };
            self.drain();
            event = match want {
                Err(frame) => {
                    sent = Some(self.reply(&frame));
                    Event::Sent
                }
                Ok(_) if sent.is_some() => {
                    coming = sent.take().flatten();
                    match &coming {
                        Some(reply) => {
                            self.now = self.now + Duration::from_millis(5);
                            Event::Bytes(reply)
                        }
                        None => Event::Time,
                    }
                }
                Ok((_, at)) if at > until => {
                    self.now = until;
                    return self;
                }
                Ok((event, at)) => {
                    self.now = at;
                    event
                }
            };
        }
    }

    fn drain(&mut self) {
        self.core.out.notes.clear();
        for urgent in self.core.out.urgent.drain(..) {
            match urgent {
                Urgent::Learned { fact, forget, .. } => self.facts.push((format!("{} {}", fact.key, fact.value), forget)),
                Urgent::Discovered { points, .. } => self.cards = points.to_vec(),
                Urgent::Poll { heard, .. } => self.heard.push(heard),
                _ => {}
            }
        }
        for bulk in self.core.out.bulk.drain(..) {
            if let Bulk::Reading(reading) = bulk {
                self.readings.push(reading);
            }
        }
    }

    fn value(&self, point: &str) -> Option<&Value> {
        let of = |r: &'_ Reading| r.points.iter().position(|p| p.as_str() == point);
        self.readings.iter().rev().find_map(|r| Some(&r.values[of(r)?]))
    }
}

#[test]
fn an_inverter_without_a_map_is_found_and_polled() {
    for base in [40_000, 50_000, 0] {
        let mut rig = Rig::new(inverter(base, "SN1"), &[]);
        rig.run(SECOND);
        assert_eq!(rig.value("common_SN"), Some(&Value::Text("SN1".into())), "within the first poll: {:?}", rig.asks);
        assert!(rig.cards.iter().any(|c| c.id.as_str() == "inverter_W" && c.unit == "W"), "{:?}", rig.cards);
        assert_eq!(rig.facts, [(format!("sunspec {base} 1:66,103:50 Acme Sun 5 SN1"), false)]);
        rig.asks.clear();
        rig.run(5 * SECOND);
        assert_eq!(rig.asks, [(base + 72, 50)], "one read for all of it");
        assert_eq!(rig.value("inverter_W"), Some(&Value::Float(2301.2)));
        assert_eq!(rig.value("inverter_Hz"), Some(&Value::Null), "neither it nor its scale factor is there");
    }
}

#[test]
fn a_chain_that_is_remembered_is_confirmed_with_one_read() {
    let fact = Learned { about: "inv".into(), key: "sunspec".into(), value: "40000 1:66,103:50 Acme Sun 5 SN1".into() };
    let mut rig = Rig::new(inverter(40_000, "SN1"), std::slice::from_ref(&fact));
    rig.run(SECOND);
    assert_eq!((rig.asks.as_slice(), rig.facts.as_slice()), (&[(40_000, 68)][..], &[][..]));
    let mut rig = Rig::new(inverter(50_000, "SN2"), &[fact]);
    rig.run(SECOND);
    assert_eq!(rig.facts, [("sunspec 50000 1:66,103:50 Acme Sun 5 SN2".to_owned(), false)], "another device is walked anew");
}

#[test]
fn another_device_in_its_place_is_noticed_when_it_comes_back() {
    let mut rig = Rig::new(inverter(40_000, "SN1"), &[]);
    rig.run(12 * SECOND).silent = true;
    rig.run(30 * SECOND).registers = inverter(0, "SN2");
    rig.silent = false;
    rig.run(90 * SECOND);
    assert_eq!(rig.value("common_SN"), Some(&Value::Text("SN2".into())));
    assert_eq!(rig.asks.last(), Some(&(72, 50)));
}

#[test]
fn the_same_device_coming_back_keeps_its_points() {
    let mut rig = Rig::new(inverter(40_000, "SN1"), &[]);
    rig.run(12 * SECOND).silent = true;
    rig.run(30 * SECOND).silent = false;
    rig.asks.clear();
    rig.cards.clear();
    rig.run(90 * SECOND);
    assert!(rig.cards.is_empty(), "nothing new to tell");
    assert_eq!(rig.asks.iter().filter(|a| **a == (40_000, 68)).count(), 1, "{:?}", rig.asks);
}

#[test]
fn a_device_that_is_busy_is_asked_once_a_poll() {
    let mut rig = Rig::new(inverter(40_000, "SN1"), &[]);
    rig.shut = Some(6);
    rig.run(11 * SECOND);
    assert_eq!(rig.asks, [(40_000, 2); 3]);
    rig.shut = None;
    rig.run(11 * SECOND);
    assert_eq!(rig.value("inverter_W"), Some(&Value::Float(2301.2)));
}

#[test]
fn a_device_without_a_chain_is_alive_and_is_asked_again() {
    let mut rig = Rig::new(BTreeMap::new(), &[]);
    rig.run(6 * SECOND);
    assert_eq!(rig.asks, [(40_000, 2), (50_000, 2), (0, 2)].repeat(2));
    assert!(rig.heard.iter().all(|h| *h == Heard::Refused(2)), "{:?}", rig.heard);
}

#[test]
fn a_walk_that_falls_silent_goes_on_where_it_was() {
    let mut rig = Rig::new(inverter(50_000, "SN1"), &[]);
    // Answers two reads, then nothing for a poll.
    rig.shut = Some(2);
    rig.run(Duration::from_millis(2));
    rig.shut = None;
    rig.silent = true;
    rig.run(4 * SECOND).silent = false;
    rig.run(12 * SECOND);
    assert_eq!(rig.value("inverter_W"), Some(&Value::Float(2301.2)));
}

#[test]
fn what_was_learned_of_a_chain_can_be_forgotten() {
    let mut rig = Rig::new(inverter(40_000, "SN1"), &[]);
    rig.run(6 * SECOND);
    rig.facts.clear();
    rig.asks.clear();
    let now = rig.now;
    let id = rig.core.devices[0].id.clone();
    rig.core.forget(now, &id);
    rig.run(10 * SECOND);
    assert_eq!(rig.asks[0], (40_000, 2), "walked from the start: {:?}", rig.asks);
    let chain = "sunspec 40000 1:66,103:50 Acme Sun 5 SN1".to_owned();
    assert_eq!(rig.facts, [(chain.clone(), true), (chain, false)]);
}

#[test]
fn points_of_the_operator_are_read_beside_those_of_the_chain() {
    let line = testing::line(Transport::Tcp { host: "inverter".into(), port: 502 });
    let own = testing::point(Table::Holding, 40_000);
    let device = Device { sunspec: Some(vec![]), points: [own.clone()].into(), ..testing::device("inv", 1, 0) };
    let mut rig = Rig::new(inverter(40_000, "SN1"), &[]);
    rig.core = Core::new(&line, vec![device]);
    rig.run(12 * SECOND);
    assert!(rig.value(own.id.as_str()).is_some() && rig.value("inverter_W").is_some());
}
