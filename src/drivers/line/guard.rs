//! Keeps late replies away from later requests: bars, timeouts that adapt, and the requests that were given up.
//!
//! A reply on RTU carries no number. If a unit answers late, the answer looks like the one to the next request of the same
//! shape; measured, 8,333 of 10,000 values were wrong that way. So after a timeout or a garbled frame the unit (not the
//! line) is barred for the larger of 1 s and twice the worst lateness seen of it; what comes from it meanwhile is compared
//! with what was given up. A late reply proves life, is counted, and raises that unit's timeout.

use super::exchange::{Framing, late_reply};
use crate::{
    config::{Device, Line},
    drivers::modbus::Ask,
    limits,
    model::Boot,
};
use std::{collections::VecDeque, time::Duration};

/// Given-up requests remembered of a unit. More: the oldest is forgotten.
const GIVEN_UP: usize = 4;
/// A reply later than this is not expected any more, so that one lost for good does not bend the figures for ever.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10);

/// A unit that misses a request more often than once in so many is asked more slowly.
const MISSED_OFTEN: u32 = 20;
/// Valid replies in a row after which its gap is halved.
const GOOD_RUN: u32 = 100;
const PATIENCE_MAX: u32 = 16;

#[derive(Debug)]
struct GivenUp {
    tid: u16,
    ask: Ask,
    at: Boot,
}

#[derive(Debug)]
struct Unit {
    unit: u8,
    /// As configured.
    base: Duration,
    /// Raised by late replies.
    timeout: Duration,
    barred_until: Boot,
    worst: Duration,
    /// Silence after its answers beyond the configured one.
    gap: Duration,
    /// Valid replies since the last miss.
    good: u32,
    /// A gap that had to be lengthened again after it was shortened is kept so many times longer.
    patience: u32,
    was_shortened: bool,
    /// Oldest first.
    given_up: VecDeque<GivenUp>,
}

#[derive(Debug)]
pub struct Guard {
    framing: Framing,
    units: Vec<Unit>,
    /// Index in `units`, by device: devices may share a unit.
    of_device: Vec<usize>,
}

/// A reply that came too late was recognised.
#[derive(Debug, PartialEq, Eq)]
pub struct Late {
    /// Where it ends in the bytes.
    pub end: usize,
    pub unit: u8,
    /// The unit's timeout was raised to this.
    pub raised: Option<Duration>,
    /// So long after its request had been given up, and the timeout that it would have met.
    pub lateness: Duration,
    pub wanted: Duration,
}

impl Guard {
    pub fn new(framing: Framing, line: &Line, devices: &[Device]) -> Guard {
        let mut units: Vec<Unit> = Vec::new();
        let mut of_device = Vec::new();
        for device in devices {
            let base = device.timeout.unwrap_or(line.timeout);
            let at = units.iter().position(|u| u.unit == device.unit).unwrap_or_else(|| {
                units.push(Unit {
                    unit: device.unit,
                    base,
                    timeout: base,
                    barred_until: Boot(0),
                    worst: Duration::ZERO,
                    gap: Duration::ZERO,
                    good: 0,
                    patience: 1,
                    was_shortened: false,
                    given_up: VecDeque::new(),
                });
                units.len() - 1
            });
            units[at].base = units[at].base.max(base);
            units[at].timeout = units[at].base;
            of_device.push(at);
        }
        // Most lines have one unit, and there may be hundreds of lines.
        units.shrink_to_fit();
        Guard { framing, units, of_device }
    }

    /// Nothing may be sent to this device before.
    pub fn barred_until(&self, device: usize) -> Boot {
        self.units[self.of_device[device]].barred_until
    }

    pub fn timeout(&self, device: usize) -> Duration {
        self.units[self.of_device[device]].timeout
    }

    /// Probes keep to the configured timeout: a late reply is recognised and proves life all the same.
    pub fn base_timeout(&self, device: usize) -> Duration {
        self.units[self.of_device[device]].base
    }

    /// A request to the device ended without a valid reply. `pending`: its reply may still come.
    pub fn bar(&mut self, now: Boot, device: usize, tid: u16, ask: &Ask, pending: bool) {
        let unit = &mut self.units[self.of_device[device]];
        unit.barred_until = unit.barred_until.max(now + bar(unit.worst));
        if pending {
            if unit.given_up.len() == GIVEN_UP {
                unit.given_up.pop_front();
            }
            unit.given_up.push_back(GivenUp { tid, ask: ask.clone(), at: now });
        }
    }

    /// Looks for a late reply at the start of `bytes`.
    pub fn late(&mut self, now: Boot, bytes: &[u8]) -> Option<Late> {
        let framing = self.framing;
        for unit in &mut self.units {
            unit.given_up.retain(|g| now - g.at < GIVEN_UP_FOR);
            let n = unit.given_up.iter().position(|g| late_reply(framing, bytes, g.tid, unit.unit, &g.ask).is_some());
            // The oldest that fits: lateness is never judged too short.
            let Some(given_up) = n.and_then(|n| unit.given_up.remove(n)) else { continue };
            let end = late_reply(framing, bytes, given_up.tid, unit.unit, &given_up.ask)?;
            let lateness = now - given_up.at;
            unit.worst = unit.worst.max(lateness);
            unit.barred_until = unit.barred_until.max(given_up.at + bar(unit.worst));
            let wanted = unit.timeout + lateness;
            return Some(Late { end, unit: unit.unit, raised: unit.raise(lateness), lateness, wanted });
        }
        None
    }

    /// What is spoken from now on; what was asked before is not answered any more.
    pub fn speak(&mut self, framing: Framing) {
        self.framing = framing;
        self.units.iter_mut().for_each(|u| u.given_up.clear());
    }

    pub fn gap(&self, device: usize) -> Duration {
        self.units[self.of_device[device]].gap
    }

    /// A valid reply of the device. The gap it was given is taken back slowly, after a long good run.
    pub fn good(&mut self, device: usize) {
        let unit = &mut self.units[self.of_device[device]];
        unit.good = unit.good.saturating_add(1);
        if unit.gap.is_zero() || !unit.good.is_multiple_of(GOOD_RUN * unit.patience) {
            return;
        }
        unit.was_shortened = true;
        unit.gap /= 2;
        if unit.gap < limits::GAP_STEP {
            (unit.gap, unit.patience) = (Duration::ZERO, 1);
        }
    }

    /// The device missed a request. Units that miss one now and then, between answers, are given more time between
    /// requests; one that answers nothing is dead or away, and more silence would only cost its neighbours. Returns the gap
    /// if it grew.
    pub fn missed(&mut self, device: usize) -> Option<Duration> {
        let unit = &mut self.units[self.of_device[device]];
        let is_between = (1..MISSED_OFTEN).contains(&std::mem::take(&mut unit.good));
        if !is_between || unit.gap >= limits::GAP_MAX {
            return None;
        }
        if std::mem::take(&mut unit.was_shortened) {
            unit.patience = (unit.patience * 2).min(PATIENCE_MAX);
        }
        unit.gap = (unit.gap * 2).clamp(limits::GAP_STEP, limits::GAP_MAX);
        Some(unit.gap)
    }

    /// Devices that answer as this unit.
    pub fn devices_of(&self, unit: u8) -> impl Iterator<Item = usize> {
        self.of_device.iter().enumerate().filter(move |(_, at)| self.units[**at].unit == unit).map(|(device, _)| device)
    }
}

impl Unit {
    fn raise(&mut self, lateness: Duration) -> Option<Duration> {
        let ceiling = self.base.max(limits::TIMEOUT_MAX);
        let wanted = self.timeout + lateness + lateness / 4 + Duration::from_millis(10);
        let raised = wanted.min(ceiling);
        let longer = raised > self.timeout;
        self.timeout = self.timeout.max(raised);
        longer.then_some(self.timeout)
    }
}

fn bar(worst: Duration) -> Duration {
    limits::BAR_MIN.max(worst * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Table,
        drivers::{
            line::testing::{device, serial_line},
            modbus::rtu,
        },
    };

    const MS: Duration = Duration::from_millis(1);

    fn read(start: u16) -> Ask {
        Ask::Read { table: Table::Holding, start, count: 1 }
    }

    fn reply(unit: u8) -> Vec<u8> {
        let mut frame = vec![unit, 3, 2, 0, 7];
        frame.extend(rtu::crc16(&frame).to_le_bytes());
        frame
    }

    #[test]
    fn a_late_reply_raises_the_timeout_of_its_unit_and_lengthens_its_bar() {
        check(30, 300, 1000, 300 + 37 + 10);
        check(610, 300, 1220, 300 + 762 + 10);
        check(3000, 300, 6000, 2000);
        check(500, 5000, 1000, 5000);
    }

    #[test]
    fn a_unit_that_misses_often_gets_a_gap_and_loses_it_again() {
        let mut guard = Guard::new(Framing::Rtu, &serial_line(9600), &[device("a", 1, 1), device("b", 2, 1)]);
        let answers = |guard: &mut Guard, n: u32| (0..n).for_each(|_| guard.good(0));
        assert_eq!(guard.missed(0), None, "never seen");
        answers(&mut guard, 200);
        assert_eq!(guard.missed(0), None, "once in 200 is no habit");
        for want in [2, 4, 8, 16, 32, 64, 100] {
            answers(&mut guard, 3);
            assert_eq!(guard.missed(0), Some(MS * want));
        }
        answers(&mut guard, 3);
        assert_eq!((guard.missed(0), guard.missed(0), guard.gap(0)), (None, None, limits::GAP_MAX), "never above the ceiling");
        answers(&mut guard, GOOD_RUN);
        assert_eq!(guard.gap(0), MS * 50);
        answers(&mut guard, GOOD_RUN * 6);
        assert_eq!((guard.gap(0), guard.gap(1)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_dead_unit_gets_no_gap() {
        let mut guard = Guard::new(Framing::Rtu, &serial_line(9600), &[device("a", 1, 1)]);
        (0..500).for_each(|_| guard.good(0));
        (0..100).for_each(|_| assert_eq!(guard.missed(0), None));
        assert_eq!(guard.gap(0), Duration::ZERO);
    }

    #[track_caller]
    fn check(late_ms: u32, timeout_ms: u32, bar_ms: u32, raised_ms: u32) {
        let mut line = serial_line(9600);
        line.timeout = MS * timeout_ms;
        let mut guard = Guard::new(Framing::Rtu, &line, &[device("a", 1, 1), device("b", 2, 1)]);
        let given_up = Boot::from_ms(5000);
        guard.bar(given_up, 0, 0, &read(10), true);
        assert_eq!(guard.barred_until(0), given_up + MS * 1000);
        assert_eq!(guard.late(given_up + MS, &reply(2)), None, "another unit");
        let late = guard.late(given_up + MS * late_ms, &reply(1)).expect("recognised");
        assert_eq!((late.end, late.unit), (7, 1));
        assert_eq!(guard.barred_until(0), given_up + MS * bar_ms);
        assert!(guard.timeout(0).abs_diff(MS * raised_ms) <= MS, "{:?}", guard.timeout(0));
        assert_eq!((guard.barred_until(1), guard.timeout(1)), (Boot(0), MS * timeout_ms), "the neighbour");
        assert_eq!(guard.late(given_up + MS * 4000, &reply(1)), None, "each is expected once");
    }
}
