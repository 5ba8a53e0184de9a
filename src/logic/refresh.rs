//! Set-points that a device forgets unless they are written again, for as long as somebody stands behind them.
//!
//! ```text
//! confirmed command ──► alive ──► written again at its interval
//!                         │ a new command for the point is under way: paused until that ended
//!                         └ no new command for `lasts`, the commanding uplink away for `stop`, or a new command whose
//!                           outcome is bad or unknown: stopped, nothing is written any more, the device's own fail-safe acts
//! ```
//!
//! Invariants: nothing is written that was not confirmed before; nothing older than the last command that went to the
//! device. Nothing survives a restart. Absent on purpose: the wire, storage, the state of the uplink (passed in).

use crate::{
    limits,
    model::{Action, Boot, CommandId, DeviceId, Order, Phase, PointId, Value},
};
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub every: Duration,
    pub lasts: Duration,
    pub stop: Duration,
}

/// Why a value is written no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    pub device: DeviceId,
    pub point: PointId,
    pub reason: String,
}

type Place = (DeviceId, PointId);

#[derive(Debug)]
struct Alive {
    value: Value,
    from: String,
    commanded: Boot,
    next: Boot,
    /// A command for this point is at the device.
    paused_by: Option<CommandId>,
}

/// A command under way that writes such points.
#[derive(Debug)]
struct Pending {
    device: DeviceId,
    values: BTreeMap<PointId, Value>,
    from: String,
}

#[derive(Debug, Default)]
pub struct Refreshes {
    rules: BTreeMap<Place, Rule>,
    alive: BTreeMap<Place, Alive>,
    pending: BTreeMap<CommandId, Pending>,
    /// Our own orders at ports: at most one for each device.
    at_port: BTreeMap<DeviceId, CommandId>,
    count: u64,
}

impl Refreshes {
    pub fn new(rules: BTreeMap<(DeviceId, PointId), Rule>) -> Refreshes {
        Refreshes { rules, ..Refreshes::default() }
    }

    /// A command was admitted.
    pub fn admitted(&mut self, id: &CommandId, device: &DeviceId, action: &Action, from: &str) {
        let Action::Write(values) = action else { return };
        let watched = |point: &PointId| self.rules.contains_key(&(device.clone(), point.clone()));
        let values: BTreeMap<PointId, Value> = values.iter().filter(|(p, _)| watched(p)).map(|(p, v)| (p.clone(), v.clone())).collect();
        if !values.is_empty() {
            self.pending.insert(id.clone(), Pending { device: device.clone(), values, from: from.to_owned() });
        }
    }

    /// It goes to the device now: what was written before must not follow it.
    pub fn dispatched(&mut self, id: &CommandId) {
        let Some(pending) = self.pending.get(id) else { return };
        for point in pending.values.keys() {
            if let Some(alive) = self.alive.get_mut(&(pending.device.clone(), point.clone())) {
                alive.paused_by = Some(id.clone());
            }
        }
    }

    /// It has ended.
    pub fn ended(&mut self, now: Boot, id: &CommandId, phase: Phase) -> Vec<Stopped> {
        let Some(Pending { device, values, from }) = self.pending.remove(id) else { return Vec::new() };
        let mut stopped = Vec::new();
        for (point, value) in values {
            let place = (device.clone(), point);
            match phase {
                Phase::Confirmed => {
                    let Some(rule) = self.rules.get(&place) else { continue };
                    let next = now + rule.every;
                    self.alive.insert(place, Alive { value, from: from.clone(), commanded: now, next, paused_by: None });
                }
                // Never sent: what stood before still stands.
                Phase::Rejected | Phase::Expired => {
                    if let Some(alive) = self.alive.get_mut(&place).filter(|a| a.paused_by.as_ref() == Some(id)) {
                        alive.paused_by = None;
                    }
                }
                Phase::Failed | Phase::Unknown => {
                    if self.alive.remove(&place).is_some() {
                        let reason = format!("a new command for it ended as {}", phase.word());
                        stopped.push(Stopped { device: place.0, point: place.1, reason });
                    }
                }
                Phase::Accepted | Phase::Sent => {}
            }
        }
        stopped
    }

    /// One of our own orders has ended. `false`: it was none.
    pub fn done(&mut self, id: &CommandId) -> bool {
        let device = self.at_port.iter().find(|(_, other)| *other == id).map(|(device, _)| device.clone());
        device.is_some_and(|device| self.at_port.remove(&device).is_some())
    }

    pub fn next_due(&self) -> Option<Boot> {
        let due = |(place, alive): (&Place, &Alive)| {
            let end = alive.commanded + self.rules.get(place).map_or(Duration::ZERO, |r| r.lasts);
            let is_waiting = alive.paused_by.is_some() || self.at_port.contains_key(&place.0);
            if is_waiting { end } else { end.min(alive.next) }
        };
        self.alive.iter().map(due).min()
    }

    /// What is to be written now, one order for each device. `down`: since when an uplink is away, by the
    /// word for who commanded.
    pub fn tick(&mut self, now: Boot, down: impl Fn(&str) -> Option<Boot>, stopped: &mut Vec<Stopped>) -> Vec<Order> {
        let rules = &self.rules;
        self.alive.retain(|place, alive| {
            let Some(rule) = rules.get(place) else { return false };
            let away = down(&alive.from).filter(|since| alive.from.starts_with("uplink ") && *since + rule.stop <= now);
            let reason = match away {
                Some(_) => format!("{} has been away for {} s", alive.from, rule.stop.as_secs()),
                None if alive.commanded + rule.lasts <= now => format!("no new command for {} s", rule.lasts.as_secs()),
                None => return true,
            };
            stopped.push(Stopped { device: place.0.clone(), point: place.1.clone(), reason });
            false
        });
        let mut due: BTreeMap<DeviceId, (Duration, BTreeMap<PointId, Value>)> = BTreeMap::new();
        for ((device, point), alive) in &mut self.alive {
            if alive.next > now || alive.paused_by.is_some() || self.at_port.contains_key(device) {
                continue;
            }
            let every = rules.get(&(device.clone(), point.clone())).map_or(Duration::ZERO, |r| r.every);
            alive.next = now + every;
            let (within, values) = due.entry(device.clone()).or_insert((every, BTreeMap::new()));
            *within = every.min(*within);
            values.insert(point.clone(), alive.value.clone());
        }
        let mut orders = Vec::with_capacity(due.len());
        for (device, (within, values)) in due {
            self.count += 1;
            let id = CommandId::own("refresh", self.count);
            self.at_port.insert(device.clone(), id.clone());
            let deadline = now + within.min(limits::REFRESH_WITHIN);
            orders.push(Order { id, device, action: Action::Write(values), deadline, verify: Vec::new() });
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device() -> DeviceId {
        DeviceId::parse("d").unwrap()
    }

    fn point(name: &str) -> PointId {
        PointId::parse(name).unwrap()
    }

    fn id(n: u64) -> CommandId {
        CommandId::parse(&format!("c{n}")).unwrap()
    }

    fn s(n: u64) -> Boot {
        Boot::from_ms(n * 1000)
    }

    fn refreshes() -> Refreshes {
        let rule = Rule { every: Duration::from_secs(10), lasts: Duration::from_secs(60), stop: Duration::from_secs(30) };
        Refreshes::new(["a", "b"].map(|p| ((device(), point(p)), rule)).into())
    }

    fn command(r: &mut Refreshes, n: u64, values: &[(&str, u64)], from: &str) {
        let values = values.iter().map(|(p, v)| (point(p), Value::Uint(*v))).collect();
        r.admitted(&id(n), &device(), &Action::Write(values), from);
        r.dispatched(&id(n));
    }

    /// Runs to `until`, every order done at once; `second: point=value …` of what was written, and why it stopped.
    fn run(r: &mut Refreshes, from: u64, until: u64, down: Option<u64>) -> (Vec<String>, Vec<String>) {
        let (mut written, mut stopped) = (Vec::new(), Vec::new());
        for at in from..=until {
            let mut out = Vec::new();
            for order in r.tick(s(at), |_| down.filter(|d| *d <= at).map(s), &mut out) {
                let Action::Write(values) = &order.action else { panic!("a write") };
                let words: Vec<String> = values.iter().map(|(p, v)| format!("{p}={}", v.as_f64().unwrap())).collect();
                written.push(format!("{at}: {}", words.join(" ")));
                assert!(r.done(&order.id) && !r.done(&order.id));
            }
            stopped.extend(out.into_iter().map(|x| format!("{at}: {} {}", x.point, x.reason)));
        }
        (written, stopped)
    }

    #[test]
    fn a_confirmed_value_is_written_again_until_nobody_stands_behind_it() {
        let mut r = refreshes();
        command(&mut r, 1, &[("a", 5), ("b", 6), ("other", 7)], "uplink cloud");
        assert_eq!(run(&mut r, 0, 20, None).0, [""; 0], "not confirmed yet");
        assert_eq!(r.ended(s(20), &id(1), Phase::Confirmed), []);
        let (written, stopped) = run(&mut r, 20, 200, None);
        assert_eq!(written, ["30: a=5 b=6", "40: a=5 b=6", "50: a=5 b=6", "60: a=5 b=6", "70: a=5 b=6"]);
        assert_eq!(stopped, ["80: a no new command for 60 s", "80: b no new command for 60 s"]);
        assert_eq!(r.next_due(), None);
    }

    #[test]
    fn an_uplink_that_is_away_stops_what_it_commanded_and_nothing_else() {
        for (from, want) in [("uplink cloud", "41: a uplink cloud has been away for 30 s"), ("local anna", "60: a no new command for 60 s")]
        {
            let mut r = refreshes();
            command(&mut r, 1, &[("a", 5)], from);
            r.ended(s(0), &id(1), Phase::Confirmed);
            assert_eq!(run(&mut r, 0, 100, Some(11)).1, [want]);
        }
    }

    #[test]
    fn a_new_command_pauses_the_old_value_and_its_end_decides() {
        for (phase, written, stopped) in [
            (Phase::Confirmed, vec!["35: a=9", "45: a=9"], vec![]),
            (Phase::Expired, vec!["25: a=5", "35: a=5", "45: a=5"], vec![]),
            (Phase::Rejected, vec!["25: a=5", "35: a=5", "45: a=5"], vec![]),
            (Phase::Failed, vec![], vec!["a a new command for it ended as failed"]),
            (Phase::Unknown, vec![], vec!["a a new command for it ended as unknown"]),
        ] {
            let mut r = refreshes();
            command(&mut r, 1, &[("a", 5)], "local anna");
            r.ended(s(0), &id(1), Phase::Confirmed);
            command(&mut r, 2, &[("a", 9)], "local anna");
            assert_eq!(run(&mut r, 1, 24, None).0, [""; 0], "{phase:?}: paused");
            let out: Vec<String> = r.ended(s(25), &id(2), phase).iter().map(|x| format!("{} {}", x.point, x.reason)).collect();
            assert_eq!(
                (run(&mut r, 25, 45, None).0, out),
                (written.iter().map(|w| (*w).to_owned()).collect(), stopped.iter().map(|w| (*w).to_owned()).collect()),
                "{phase:?}"
            );
        }
    }

    proptest! {
        /// Whatever happens: only the last confirmed value is written, and never longer than it lasts.
        #[test]
        fn nothing_is_refreshed_but_the_last_confirmed_value(moves in proptest::collection::vec((0u64..40, 0usize..6), 1..40)) {
            let mut r = refreshes();
            let (mut now, mut n) = (0, 0);
            let mut confirmed: Option<(u64, u64)> = None;
            let mut open: Option<u64> = None;
            for (pause, what) in moves {
                for at in now..now + pause {
                    let mut stopped = Vec::new();
                    for order in r.tick(s(at), |_| None, &mut stopped) {
                        let Action::Write(values) = &order.action else { panic!("a write") };
                        let (since, value) = confirmed.expect("something was confirmed");
                        prop_assert!(open.is_none() && at < since + 60);
                        prop_assert_eq!(&values[&point("a")], &Value::Uint(value));
                        r.done(&order.id);
                    }
                }
                now += pause;
                match open.take() {
                    None => {
                        n += 1;
                        open = Some(n);
                        command(&mut r, n, &[("a", n)], "local anna");
                    }
                    Some(c) => {
                        let phase = [Phase::Confirmed, Phase::Failed, Phase::Unknown, Phase::Rejected, Phase::Expired, Phase::Confirmed][what];
                        r.ended(s(now), &id(c), phase);
                        match phase {
                            Phase::Confirmed => confirmed = Some((now, c)),
                            Phase::Failed | Phase::Unknown => confirmed = None,
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}
