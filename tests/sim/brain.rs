//! A plant with rules and schedules, and what the field sees of them.
//!
//! The first device measures a level. Two rules switch a relay of the last device with it, and two schedules write to the
//! first one. Nobody else writes to those registers, so a write frame tells who wanted it.

use crate::{
    bus::Bus,
    dice::Dice,
    gateway::devices,
    plan::{Action, Plan},
    world::{Handed, Log, World},
};
use fieldgate::{
    config::{self, Watching},
    model::{
        Boot, Compare, Condition, Cron, DeviceId, Expr, Missed, Order, Pace, PointId, PointRef, RuleAction, RuleId, Schedule, ScheduleId,
        Target, Test, Timing, Value,
    },
};
use std::time::Duration;

pub const LEVEL: u16 = 210;
const RELAY: u16 = 211;
const TICK: u16 = 212;
const NIGHT: u16 = 213;
/// By both schedules.
const WRITES: u16 = 7;
/// Above it the relay is to be closed.
pub const LIMIT: u16 = 50;

/// What of the brain a seed decides.
#[derive(Debug, Clone)]
pub struct Brain {
    /// Of the interval; the other schedule comes each minute.
    pub every_s: u64,
    pub missed: [Missed; 2],
    /// Nobody sets the clock.
    pub steady: bool,
}

/// Schedules by name, each with its register.
pub const SCHEDULES: [(&str, u16); 2] = [("tick", TICK), ("night", NIGHT)];
/// Rules by name, each with what it writes.
pub const RULES: [(&str, u16); 2] = [("on", 1), ("off", 0)];

impl Plan {
    /// Five minutes in which devices, lines, links and the process come and go, with an outside that is known.
    pub fn of_the_brain(seed: u64) -> Plan {
        let mut d = Dice::new(seed.wrapping_mul(0x3000_0005).wrapping_add(41));
        let mut plan = Plan::draw(seed);
        let steady = d.percent(50);
        let missed = [d.pick(&Missed::ALL), d.pick(&Missed::ALL)];
        plan.brain = Some(Brain { every_s: d.range(5, 20), missed, steady });
        plan.disk_max = 64 << 20;
        plan.ends_ms = d.range(200_000, 400_000);
        plan.publishers = d.range(0, 1);
        plan.actions.clear();
        let mut at = d.range(500, 5000);
        while at < plan.ends_ms {
            if let Some(action) = plan.of_the_field(&mut d, steady) {
                plan.actions.push((at, action));
            }
            at += d.range(10, 9000);
        }
        // Not so often that it is taken for a loop.
        let mut at = d.range(500, 5000);
        while at < plan.ends_ms {
            let value = u16::try_from(d.below(u64::from(2 * LIMIT) + 2)).expect("small");
            plan.actions.push((at, Action::Level { value }));
            at += d.range(8_000, 30_000);
        }
        // The last word on the clock is the truth.
        plan.actions.push((plan.ends_ms - 1, Action::ClockShift { seconds: 0 }));
        plan.actions.sort_by_key(|(at, _)| *at);
        plan
    }

    fn of_the_field(&self, d: &mut Dice, steady: bool) -> Option<Action> {
        const HOUR: i64 = 3600;
        match self.action(d) {
            // A disk that takes no writes is another campaign.
            Action::SpoolFull { .. } | Action::StateFull { .. } => None,
            Action::ClockStep { .. } if steady => None,
            Action::ClockStep { .. } => {
                Some(Action::ClockShift { seconds: d.pick(&[-365 * 24 * HOUR, -2 * HOUR, -90, 0, 45, 600, 2 * HOUR, 365 * 24 * HOUR]) })
            }
            // The relay has its device for itself, so that nothing but a rule's own write is before a rule's write.
            Action::Command { device, .. } if device + 1 == devices(self).len() => None,
            action => Some(action),
        }
    }
}

/// That the device of this number has beside the others.
pub fn registers(plan: &Plan, device: usize) -> impl Iterator<Item = u16> {
    let here = plan.brain.is_some();
    let first = [LEVEL, TICK, NIGHT].into_iter().filter(move |_| here && device == 0);
    let is_last = device + 1 == usize::from(plan.units[0] + plan.units[1]);
    first.chain([RELAY].into_iter().filter(move |_| here && is_last))
}

pub fn is_written(address: u16) -> bool {
    matches!(address, RELAY | TICK | NIGHT)
}

/// Every change is told, so that what is told is all there was.
pub fn watching(plan: &Plan) -> Watching {
    let usual = Watching::default();
    if plan.brain.is_some() { Watching { flaps: 0, ..usual } } else { usual }
}

fn point(plan: &Plan, device: usize, address: u16) -> PointRef {
    PointRef { device: devices(plan)[device].id.clone(), point: PointId::parse(&format!("r{address}")).expect("fits") }
}

pub fn rules(plan: &Plan) -> Vec<config::Rule> {
    if plan.brain.is_none() {
        return vec![];
    }
    let relay = point(plan, devices(plan).len() - 1, RELAY);
    let rule = |(name, value): (&str, u16)| {
        let sign = if value == 1 { Compare::More } else { Compare::AtMost };
        let test = Test::Value(point(plan, 0, LEVEL), sign, Value::Uint(LIMIT.into()));
        let when = Condition { text: test.to_string(), tests: vec![test], expr: Expr::Test(0) };
        let PointRef { device, point } = relay.clone();
        let actions = vec![RuleAction::Write { device, point, value: Value::Uint(value.into()) }];
        config::Rule { id: RuleId::parse(name).expect("fits"), when, unless: None, pace: Pace::default(), actions }
    };
    RULES.into_iter().map(rule).collect()
}

pub fn schedules(plan: &Plan) -> Vec<config::Schedule> {
    let Some(brain) = &plan.brain else { return vec![] };
    let cron = Cron::parse("* * * * *").expect("each minute");
    let timings = [Timing::Every { every: Duration::from_secs(brain.every_s), anchor: 0 }, Timing::Cron(cron)];
    let schedule = |(((name, address), timing), missed)| {
        let PointRef { device, point } = point(plan, 0, address);
        let write = vec![Target { device, point, value: Value::Uint(WRITES.into()) }];
        let is = Schedule { timing, zone: "Europe/Berlin".into(), missed, untrusted_clock: false, write };
        config::Schedule { id: ScheduleId::parse(name).expect("fits"), is, enabled: true }
    };
    SCHEDULES.into_iter().zip(timings).zip(brain.missed).map(schedule).collect()
}

/// Given by the gateway itself.
pub fn is_own(id: &str) -> bool {
    id.starts_with("rule:") || id.starts_with("schedule:")
}

/// The engine hands an order of its own to a line.
pub fn handed(world: &World, order: &Order, at: Boot) {
    let mut log = world.log();
    let life = log.life;
    log.handed.push(Handed { id: order.id.to_string(), life, at, deadline: order.deadline, frames: vec![], executed: 0, held: false });
}

/// The last order that writes this value to this register.
fn last(log: &mut Log, address: u16, value: u16) -> Option<&mut Handed> {
    let begins = match SCHEDULES.iter().find(|(_, register)| *register == address) {
        Some((name, _)) => format!("schedule:{name}@"),
        None => RULES.iter().find(|(_, writes)| *writes == value).map_or_else(String::new, |(name, _)| format!("rule:{name}:")),
    };
    let life = log.life;
    log.handed.iter_mut().rev().find(|h| h.id.starts_with(&begins) && h.life == life)
}

/// A unit's answer to a read leaves it unharmed. What is in doubt is read back, and holds if it is as it was to be.
pub fn served(world: &World, start: u16, words: &[u16]) {
    for (address, value) in (start..).zip(words).filter(|(address, _)| is_written(*address)) {
        let wanted = if address == RELAY { *value } else { WRITES };
        if let Some(order) = last(&mut world.log(), address, wanted) {
            order.held |= *value == wanted;
        }
    }
}

/// A write frame to one of our registers is on the wire. A device has one order at a time, so it is of the last one.
pub fn wrote(world: &World, address: u16, value: u16, executed: bool, busy: bool) {
    let now = world.now();
    let mut log = world.log();
    let begun = last(&mut log, address, value).map(|order| {
        order.frames.push((value, busy));
        order.executed += u32::from(executed);
        order.held = false;
        (order.id.clone(), order.deadline)
    });
    let kills = begun.is_some() && std::mem::take(&mut log.kill_at_write);
    drop(log);
    if kills {
        world.kill.notify_one();
    }
    match begun {
        None => world.violation(format!("{value} was written to {address}, which nobody asked for")),
        Some((id, deadline)) if now > deadline => world.violation(format!("{id} was begun at {now:?}, after its deadline {deadline:?}")),
        Some(_) => {}
    }
}

/// Whoever was told by a schedule has done so, and waits to be told again: what stands there does not pass for the next write.
pub fn is_done(bus: &Bus) {
    SCHEDULES.iter().for_each(|(_, register)| bus.set_word(1, *register, 0));
}

/// The device that measures the level, and the name of that point.
pub fn level(plan: &Plan) -> (DeviceId, PointId) {
    let PointRef { device, point } = point(plan, 0, LEVEL);
    (device, point)
}
