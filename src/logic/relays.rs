//! Switched points, a relay on local MQTT and a coil alike: what each was last, since when, and what made it so.
//!
//! A change is seen in a reading, or told by the end of a command. A reading belongs to a command if it says what that
//! commanded, no later than [`AFTER`] its end. A reading that was under way when its relay was switched is older than the
//! change and says nothing.
//!
//! Invariants: one [`Relay`] per change, or for several that came faster than [`limits::RELAY_EVERY`]; the last of them is
//! given at the latest then, so what is stored is what it is.
//! Absent on purpose: clocks, SQLite, which points are switched.

use crate::{
    limits,
    model::{Action, Boot, CommandId, DeviceId, Outcome, Phase, PointId, Relay, RelayBy, Value},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// A poll or report that shows what a command did comes within this time of its end.
const AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Relays {
    known: BTreeMap<DeviceId, BTreeMap<PointId, Known>>,
    count: usize,
    /// Oldest first.
    commanded: VecDeque<Commanded>,
    due: BTreeSet<(Boot, DeviceId, PointId)>,
}

#[derive(Debug)]
struct Known {
    on: bool,
    at: Boot,
    by: Option<RelayBy>,
    written: Option<Boot>,
    /// Changes since.
    unwritten: u32,
}

#[derive(Debug)]
struct Commanded {
    by: RelayBy,
    device: DeviceId,
    values: BTreeMap<PointId, bool>,
    ended: Option<Boot>,
}

/// What a value says of a switch.
pub fn on(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Int(n @ (0 | 1)) => Some(*n == 1),
        Value::Uint(n @ (0 | 1)) => Some(*n == 1),
        Value::Float(n) if *n == 0.0 || *n == 1.0 => Some(*n == 1.0),
        _ => None,
    }
}

impl Relays {
    /// What was stored, of an earlier run: whatever is heard now is newer.
    pub fn restore(&mut self, device: DeviceId, point: PointId, on: bool) {
        let known = Known { on, at: Boot(0), by: None, written: None, unwritten: 0 };
        self.count += usize::from(self.known.entry(device).or_default().insert(point, known).is_none());
    }

    /// A command is under way. `switches`: whether a point of the device is one.
    pub fn commanded(&mut self, id: &CommandId, device: &DeviceId, action: &Action, from: &str, switches: impl Fn(&PointId) -> bool) {
        let Action::Write(values) = action else { return };
        let of = |(point, value): (&PointId, &Value)| Some((point.clone(), on(value)?)).filter(|(point, _)| switches(point));
        let values: BTreeMap<PointId, bool> = values.iter().filter_map(of).collect();
        if values.is_empty() {
            return;
        }
        if self.commanded.len() >= limits::COMMANDS_OPEN {
            self.commanded.pop_front();
        }
        let by = RelayBy { command: id.clone(), source: from.to_owned() };
        self.commanded.push_back(Commanded { by, device: device.clone(), values, ended: None });
    }

    /// What came of a command: confirmed, it has switched, unless the device answered otherwise.
    pub fn ended(&mut self, id: &CommandId, outcome: &Outcome, at: Boot, out: &mut Vec<Relay>) {
        self.commanded.retain(|c| c.ended.is_none_or(|ended| at.since(ended) <= AFTER));
        let Some(n) = self.commanded.iter().position(|c| c.by.command == *id) else { return };
        let commanded = &mut self.commanded[n];
        let told: Vec<(PointId, bool)> = match outcome.phase {
            Phase::Confirmed => {
                let told = |(point, wanted): (&PointId, &bool)| {
                    let answered = outcome.values.get(point).and_then(on);
                    (point.clone(), answered.unwrap_or(*wanted))
                };
                commanded.values.iter().map(told).collect()
            }
            // Nothing was sent.
            Phase::Rejected | Phase::Expired => {
                self.commanded.remove(n);
                return;
            }
            _ => commanded.values.keys().filter_map(|point| Some((point.clone(), on(outcome.values.get(point)?)?))).collect(),
        };
        commanded.ended = Some(at);
        let device = commanded.device.clone();
        for (point, on) in told {
            out.extend(self.seen(&device, &point, on, at));
        }
    }

    /// What a switch was at a moment. Called for every reading of one: a look-up while nothing changes.
    pub fn seen(&mut self, device: &DeviceId, point: &PointId, on: bool, at: Boot) -> Option<Relay> {
        let known = self.known.get(device).and_then(|points| points.get(point));
        match known {
            Some(known) if known.on == on || at <= known.at => return None,
            None if self.count >= limits::RELAYS => return None,
            _ => {}
        }
        let by = self.trigger(device, point, on, at);
        let points = match self.known.get_mut(device) {
            Some(points) => points,
            None => self.known.entry(device.clone()).or_default(),
        };
        let known = points.entry(point.clone()).or_insert_with(|| {
            self.count += 1;
            Known { on, at, by: None, written: None, unwritten: 0 }
        });
        (known.on, known.at, known.by) = (on, at, by);
        known.unwritten += 1;
        match known.written.map(|written| written + limits::RELAY_EVERY).filter(|due| *due > at) {
            Some(due) => {
                if known.unwritten == 1 {
                    self.due.insert((due, device.clone(), point.clone()));
                }
                None
            }
            None => Some(known.write(device, point, at)),
        }
    }

    /// When [`Relays::overdue`] must be called next.
    pub fn due(&self) -> Option<Boot> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Those that switched faster than they are written, as they are now.
    pub fn overdue(&mut self, now: Boot, most: usize) -> Vec<Relay> {
        let mut out = Vec::new();
        while self.due().is_some_and(|at| at <= now) && out.len() < most {
            let Some((_, device, point)) = self.due.pop_first() else { break };
            let known = self.known.get_mut(&device).and_then(|points| points.get_mut(&point));
            // A later change may have been written since.
            out.extend(known.filter(|k| k.unwritten > 0).map(|known| known.write(&device, &point, now)));
        }
        out
    }

    /// The latest command that wanted this.
    fn trigger(&self, device: &DeviceId, point: &PointId, on: bool, at: Boot) -> Option<RelayBy> {
        let is_it = |c: &&Commanded| {
            let in_time = c.ended.is_none_or(|ended| at <= ended + AFTER);
            in_time && c.device == *device && c.values.get(point) == Some(&on)
        };
        self.commanded.iter().rev().find(is_it).map(|c| c.by.clone())
    }
}

impl Known {
    fn write(&mut self, device: &DeviceId, point: &PointId, now: Boot) -> Relay {
        self.written = Some(now);
        let changes = std::mem::take(&mut self.unwritten);
        Relay { device: device.clone(), point: point.clone(), on: self.on, at: self.at, by: self.by.clone(), changes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device() -> DeviceId {
        DeviceId::parse("plug-1").unwrap()
    }

    fn point(name: &str) -> PointId {
        PointId::parse(name).unwrap()
    }

    fn id(name: &str) -> CommandId {
        CommandId::parse(name).unwrap()
    }

    const fn s(seconds: u64) -> Boot {
        Boot(seconds * 1_000_000)
    }

    fn command(relays: &mut Relays, name: &str, value: Value) {
        let action = Action::Write([(point("POWER"), value), (point("Dimmer"), Value::Int(1))].into());
        relays.commanded(&id(name), &device(), &action, "uplink cloud", |p| p.as_str() == "POWER");
    }

    fn end(relays: &mut Relays, name: &str, phase: Phase, value: Option<Value>, at: Boot) -> Vec<String> {
        let values = value.map(|value| (point("POWER"), value)).into_iter().collect();
        let mut out = Vec::new();
        relays.ended(&id(name), &Outcome::new(phase, "").with(values), at, &mut out);
        out.iter().map(show).collect()
    }

    fn see(relays: &mut Relays, on: bool, at: Boot) -> String {
        relays.seen(&device(), &point("POWER"), on, at).map_or_else(String::new, |relay| show(&relay))
    }

    fn show(relay: &Relay) -> String {
        let by = relay.by.as_ref().map_or("itself".to_owned(), |by| format!("{} of {}", by.command, by.source));
        let more = if relay.changes > 1 { format!(", {} changes", relay.changes) } else { String::new() };
        format!("{} {} at {} by {by}{more}", relay.point, if relay.on { "on" } else { "off" }, relay.at.0 / 1_000_000)
    }

    #[test]
    fn a_change_is_told_once_with_what_made_it() {
        let mut r = Relays::default();
        assert_eq!(see(&mut r, false, s(1)), "POWER off at 1 by itself");
        assert_eq!(see(&mut r, false, s(2)), "");
        assert_eq!(see(&mut r, true, s(3)), "POWER on at 3 by itself");
        command(&mut r, "c1", Value::Bool(false));
        assert_eq!(see(&mut r, false, s(10)), "POWER off at 10 by c1 of uplink cloud", "seen before its end is told");
        assert_eq!(end(&mut r, "c1", Phase::Confirmed, Some(Value::Bool(false)), s(11)), [""; 0]);
        assert_eq!(see(&mut r, true, s(12)), "POWER on at 12 by itself", "it wanted the other");
        command(&mut r, "c2", Value::Uint(0));
        assert_eq!(end(&mut r, "c2", Phase::Confirmed, None, s(20)), ["POWER off at 20 by c2 of uplink cloud"]);
        assert_eq!(see(&mut r, true, s(19)), "", "read before it was switched");
        assert_eq!(see(&mut r, false, s(21)), "");
    }

    #[test]
    fn an_unknown_end_is_settled_by_what_is_seen_in_time() {
        let mut r = Relays::default();
        see(&mut r, false, s(1));
        command(&mut r, "c1", Value::Bool(true));
        assert_eq!(end(&mut r, "c1", Phase::Unknown, None, s(5)), [""; 0]);
        assert_eq!(see(&mut r, true, s(15)), "POWER on at 15 by c1 of uplink cloud");
        command(&mut r, "c2", Value::Bool(false));
        assert_eq!(end(&mut r, "c2", Phase::Unknown, None, s(20)), [""; 0]);
        assert_eq!(see(&mut r, false, s(31)), "POWER off at 31 by itself");
        command(&mut r, "c3", Value::Bool(true));
        assert_eq!(end(&mut r, "c3", Phase::Rejected, None, s(40)), [""; 0]);
        assert_eq!(see(&mut r, true, s(41)), "POWER on at 41 by itself", "it was never sent");
        command(&mut r, "c4", Value::Bool(false));
        assert_eq!(end(&mut r, "c4", Phase::Failed, Some(Value::Bool(true)), s(50)), [""; 0], "the device says that it stayed");
    }

    #[test]
    fn what_switches_too_fast_is_written_now_and_then() {
        let mut r = Relays::default();
        see(&mut r, false, s(1));
        let ms = |n: u64| Boot(1_000_000 + n * 1000);
        let told: Vec<String> = (1..=9).map(|n| see(&mut r, n % 2 == 1, ms(n * 10))).collect();
        assert_eq!(told, [""; 9]);
        assert_eq!(r.due(), Some(s(1) + limits::RELAY_EVERY));
        assert!(r.overdue(ms(500), 10).is_empty());
        let now = s(1) + limits::RELAY_EVERY;
        assert_eq!(r.overdue(now, 10).iter().map(show).collect::<Vec<_>>(), ["POWER on at 1 by itself, 9 changes"]);
        assert_eq!(r.due(), None);
        assert_eq!(see(&mut r, false, s(60)), "POWER off at 60 by itself");
    }

    #[test]
    fn what_was_stored_is_no_news() {
        let mut r = Relays::default();
        r.restore(device(), point("POWER"), true);
        assert_eq!(see(&mut r, true, s(1)), "");
        assert_eq!(see(&mut r, false, s(2)), "POWER off at 2 by itself");
    }

    #[test]
    fn relays_are_bounded() {
        let mut r = Relays::default();
        for n in 0..limits::RELAYS + 10 {
            r.seen(&device(), &point(&format!("p{n}")), true, s(1));
        }
        assert_eq!(r.count, limits::RELAYS);
        for n in 0..limits::COMMANDS_OPEN + 10 {
            command(&mut r, &format!("c{n}"), Value::Bool(true));
        }
        assert_eq!(r.commanded.len(), limits::COMMANDS_OPEN);
    }

    proptest! {
        /// Whatever happens, what is written last is what it is once nothing is due, and no change is lost count of.
        #[test]
        fn what_is_written_is_what_it_is(steps in proptest::collection::vec((1u64..900_000, any::<bool>()), 1..60)) {
            let (mut r, mut now, mut is, mut changes) = (Relays::default(), s(1), None, 0u32);
            let (mut written, mut counted) = (None, 0);
            for (after, on) in steps {
                now = Boot(now.0 + after);
                let overdue = r.overdue(now, usize::MAX);
                changes += u32::from(is != Some(on));
                is = Some(on);
                for relay in overdue.into_iter().chain(r.seen(&device(), &point("POWER"), on, now)) {
                    (written, counted) = (Some(relay.on), counted + relay.changes);
                }
            }
            for relay in r.overdue(Boot(u64::MAX / 2), usize::MAX) {
                (written, counted) = (Some(relay.on), counted + relay.changes);
            }
            prop_assert_eq!((written, counted), (is, changes));
        }
    }
}
