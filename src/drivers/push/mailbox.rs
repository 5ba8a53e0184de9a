//! Orders for devices that come by and fetch them. Pure.
//!
//! An order is handed out again and again until the device says what came of it; the device ignores an id that it knows. One
//! that nobody fetched by its deadline has expired; one that was fetched may have been carried out, so it ends as unknown.

use crate::model::{Boot, CommandId, DeviceId, Order, Outcome, Phase, WaitingOrder, WriteDone};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// A device that fetched an order says by so long after its deadline what came of it.
const GRACE: Duration = Duration::from_secs(20);
/// Orders of one device. The engine hands out one at a time. More: given back as busy.
const EACH: usize = 8;

#[derive(Debug, Default)]
pub struct Mailbox {
    devices: BTreeMap<DeviceId, VecDeque<Letter>>,
    stopped: bool,
}

#[derive(Debug)]
struct Letter {
    order: Order,
    fetched: bool,
}

impl Letter {
    fn ends(&self) -> Boot {
        if self.fetched { self.order.deadline + GRACE } else { self.order.deadline }
    }

    fn end(self, phase: Phase, reason: &str, at: Boot) -> WriteDone {
        let outcome = Outcome::new(phase, reason);
        WriteDone { id: self.order.id, device: self.order.device, outcome, at }
    }
}

impl Mailbox {
    /// Gives it back if there is no room.
    pub fn put(&mut self, order: Order) -> Result<(), Order> {
        let waiting = self.devices.entry(order.device.clone()).or_default();
        if self.stopped || waiting.len() >= EACH {
            return Err(order);
        }
        waiting.push_back(Letter { order, fetched: false });
        Ok(())
    }

    /// What waits for the device, in order, also what it fetched before.
    pub fn fetch(&mut self, device: &DeviceId, now: Boot) -> Vec<WaitingOrder> {
        let Some(waiting) = self.devices.get_mut(device) else { return Vec::new() };
        let mut out = Vec::new();
        for letter in waiting.iter_mut().filter(|l| l.order.deadline > now) {
            letter.fetched = true;
            let Order { id, action, deadline, .. } = &letter.order;
            out.push(WaitingOrder { id: id.clone(), action: action.clone(), deadline: *deadline });
        }
        out
    }

    pub fn has(&self, device: &DeviceId, id: &CommandId) -> bool {
        self.devices.get(device).is_some_and(|w| w.iter().any(|l| l.order.id == *id))
    }

    /// Takes back what the device has not fetched. `false`: it may know of it.
    pub fn recall(&mut self, device: &DeviceId, id: &CommandId) -> bool {
        let is_here = self.devices.get(device).is_some_and(|w| w.iter().any(|l| l.order.id == *id && !l.fetched));
        if is_here {
            self.remove(device, id);
        }
        is_here
    }

    pub fn remove(&mut self, device: &DeviceId, id: &CommandId) {
        if let Some(waiting) = self.devices.get_mut(device) {
            waiting.retain(|l| l.order.id != *id);
            if waiting.is_empty() {
                self.devices.remove(device);
            }
        }
    }

    /// When [`Mailbox::expire`] has something to do.
    pub fn next_due(&self) -> Option<Boot> {
        self.devices.values().flatten().map(Letter::ends).min()
    }

    pub fn expire(&mut self, now: Boot) -> Vec<WriteDone> {
        let mut out = Vec::new();
        for waiting in self.devices.values_mut() {
            let (over, left): (VecDeque<Letter>, VecDeque<Letter>) = std::mem::take(waiting).into_iter().partition(|l| l.ends() <= now);
            *waiting = left;
            out.extend(over.into_iter().map(|letter| match letter.fetched {
                true => letter.end(Phase::Unknown, "the device fetched it and did not say what came of it", now),
                false => letter.end(Phase::Expired, "the device did not come by before its deadline; nothing was sent", now),
            }));
        }
        self.devices.retain(|_, waiting| !waiting.is_empty());
        out
    }

    /// The gateway stops: takes no more, and ends what there is.
    pub fn stop(&mut self, now: Boot) -> Vec<WriteDone> {
        self.stopped = true;
        let all = std::mem::take(&mut self.devices).into_values().flatten();
        let end = |letter: Letter| match letter.fetched {
            true => letter.end(Phase::Unknown, "the gateway stopped before the device said what came of it", now),
            false => letter.end(Phase::Failed, "the gateway stopped before the device came by", now),
        };
        all.map(end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, PointId, Value};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn order(id: u64, device: &str, deadline_s: u64) -> Order {
        Order {
            id: CommandId::parse(&id.to_string()).unwrap(),
            device: DeviceId::parse(device).unwrap(),
            action: Action::Write([(PointId::parse("k1").unwrap(), Value::Bool(true))].into()),
            deadline: Boot::from_ms(deadline_s * 1000),
            verify: vec![],
        }
    }

    #[test]
    fn only_what_was_not_fetched_is_taken_back() {
        let (mut box_, pump) = (Mailbox::default(), DeviceId::parse("pump").unwrap());
        let id = |n: u64| CommandId::parse(&n.to_string()).unwrap();
        box_.put(order(1, "pump", 60)).unwrap();
        assert!(!box_.recall(&pump, &id(2)) && !box_.recall(&DeviceId::parse("valve").unwrap(), &id(1)));
        assert!(box_.recall(&pump, &id(1)));
        assert_eq!(box_.fetch(&pump, Boot::from_ms(1000)), []);
        box_.put(order(3, "pump", 60)).unwrap();
        box_.fetch(&pump, Boot::from_ms(1000));
        assert!(!box_.recall(&pump, &id(3)), "the device may be at it");
        assert!(box_.has(&pump, &id(3)));
    }

    fn ids(orders: &[WaitingOrder]) -> Vec<&str> {
        orders.iter().map(|o| o.id.as_str()).collect()
    }

    #[test]
    fn an_order_is_handed_out_until_the_device_says_what_came_of_it() {
        let (mut box_, pump) = (Mailbox::default(), DeviceId::parse("pump").unwrap());
        box_.put(order(1, "pump", 60)).unwrap();
        box_.put(order(2, "valve", 60)).unwrap();
        for _ in 0..3 {
            assert_eq!(ids(&box_.fetch(&pump, Boot::from_ms(1000))), ["1"]);
        }
        box_.remove(&pump, &CommandId::parse("1").unwrap());
        assert_eq!(box_.fetch(&pump, Boot::from_ms(2000)), []);
        assert!(box_.has(&DeviceId::parse("valve").unwrap(), &CommandId::parse("2").unwrap()));
    }

    #[test]
    fn what_nobody_fetched_has_expired_and_what_was_fetched_is_unknown() {
        let (mut box_, pump) = (Mailbox::default(), DeviceId::parse("pump").unwrap());
        box_.put(order(1, "pump", 10)).unwrap();
        box_.put(order(2, "valve", 10)).unwrap();
        box_.fetch(&pump, Boot::from_ms(9000));
        assert_eq!(box_.next_due(), Some(Boot::from_ms(10_000)));
        let phases = |done: Vec<WriteDone>| done.iter().map(|d| (d.device.to_string(), d.outcome.phase)).collect::<Vec<_>>();
        assert_eq!(phases(box_.expire(Boot::from_ms(10_000))), [("valve".to_owned(), Phase::Expired)]);
        assert_eq!(box_.fetch(&pump, Boot::from_ms(10_000)), [], "nothing is handed out after its deadline");
        assert_eq!(phases(box_.expire(Boot::from_ms(30_000))), [("pump".to_owned(), Phase::Unknown)]);
        assert_eq!(box_.next_due(), None);
        box_.put(order(3, "pump", 90)).unwrap();
        assert_eq!(phases(box_.stop(Boot::from_ms(40_000))), [("pump".to_owned(), Phase::Failed)]);
        assert!(box_.put(order(4, "pump", 90)).is_err(), "it is closed");
    }

    proptest! {
        /// Whatever comes in which order: each order that was taken in ends once, by its device, by time or at the stop.
        #[test]
        fn every_order_ends_once(steps in proptest::collection::vec((0..4u8, 0..3u8, 1..40u64), 1..80)) {
            let (mut box_, mut now, mut next) = (Mailbox::default(), 0u64, 0u64);
            let (mut taken, mut ended) = (BTreeSet::new(), Vec::new());
            for (what, device, n) in steps {
                let name = format!("d{device}");
                let device = DeviceId::parse(&name).unwrap();
                match what {
                    0 => {
                        next += 1;
                        if box_.put(order(next, &name, now + n)).is_ok() {
                            taken.insert(next.to_string());
                        }
                    }
                    1 => {
                        let waiting = box_.fetch(&device, Boot::from_ms(now * 1000));
                        prop_assert!(waiting.iter().all(|o| o.deadline.ms() > now * 1000));
                    }
                    2 => {
                        let first = box_.fetch(&device, Boot::from_ms(now * 1000)).first().map(|o| o.id.clone());
                        if let Some(id) = first {
                            box_.remove(&device, &id);
                            ended.push(id.to_string());
                        }
                    }
                    _ => {
                        now += n;
                        ended.extend(box_.expire(Boot::from_ms(now * 1000)).into_iter().map(|d| d.id.to_string()));
                    }
                }
            }
            ended.extend(box_.stop(Boot::from_ms(now * 1000)).into_iter().map(|d| d.id.to_string()));
            let once: BTreeSet<String> = ended.iter().cloned().collect();
            prop_assert_eq!(once.len(), ended.len());
            prop_assert_eq!(once, taken);
        }
    }
}
