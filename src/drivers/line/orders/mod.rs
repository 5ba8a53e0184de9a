//! Orders on a line: a write goes on the wire once, is read back where asked, and ends in exactly one outcome.
//!
//! ```text
//! waiting --deadline--> Expired
//!    | its turn
//! look, where present values must be kept or may be right already --equal and `if_changed`--> as if confirmed
//!    |
//! pre-writes, each once --anything but accepted--> Failed, the write itself was not sent
//!    |
//! write --repeated by the unit--> (next point | read back)      --exception 6, 0x0A--> again within the deadline, ever later
//!    |--exception 5, 0x0B, timeout, garbled, connection lost--> in doubt --verify--> read back, else Unknown
//!    |--to all units--> Unknown, since none answers
//!    `--any other exception--> Failed
//! read back --equal--> (next point | Confirmed)   --different, also the second time--> Failed   --no reply--> Unknown
//! ```
//!
//! Several points are written one after the other, those of a group in one request; the first that is not confirmed ends the
//! order. Orders of one device keep their order, and nothing else is written to it between the steps of one.
//! Absent on purpose: min and max, rates and duplicates, which the engine keeps; the wire.

mod active;
mod preview;
mod setup;
mod steps;
mod words;

pub use preview::{PreviewStep, preview};
pub use setup::{Setups, Told};

use crate::{
    config::Device,
    drivers::modbus::{Ask, Holes},
    limits,
    model::{Boot, Order, Outcome, Phase, WriteDone},
};
use active::Active;
use std::{collections::VecDeque, time::Duration};

/// How the request of an order ended.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    Data(&'a [u8]),
    Written,
    /// It went to all units, and none answers.
    Broadcast,
    Exception(u8),
    /// No valid reply, in words.
    NoReply(&'a str),
}

#[derive(Debug, Default)]
pub struct Orders {
    queue: VecDeque<Active>,
    /// Index in `queue` of the order whose request is on the wire.
    on_wire: Option<usize>,
    done: VecDeque<WriteDone>,
}

impl Orders {
    pub fn accept<'h>(&mut self, now: Boot, devices: &[Device], holes: impl Fn(usize) -> &'h Holes, order: Order) {
        if self.queue.len() >= limits::LINE_ORDERS {
            return self.refuse(now, order, "the line has too many commands waiting; try again later".into());
        }
        let Some(device) = devices.iter().position(|d| d.id == order.device) else {
            return self.refuse(now, order, "this device is not on this line".into());
        };
        match Active::new(now, device, &devices[device], holes(device), order) {
            Ok(active) => self.queue.push_back(active),
            Err(refused) => {
                let (order, reason) = *refused;
                self.refuse(now, order, reason);
            }
        }
    }

    fn refuse(&mut self, at: Boot, order: Order, reason: String) {
        let outcome = Outcome::new(Phase::Rejected, reason);
        self.done.push_back(WriteDone { id: order.id, device: order.device, outcome, at });
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Outcomes to hand over.
    pub fn take_done(&mut self) -> Option<WriteDone> {
        self.done.pop_front()
    }

    /// The device and request whose turn it is, if any.
    pub fn pick(&self, now: Boot, free_at: impl Fn(usize) -> Boot) -> Option<usize> {
        (0..self.queue.len()).find(|n| self.is_first_of_device(*n) && self.ready_at(*n, &free_at) <= now)
    }

    /// When to look again: a turn, or a deadline.
    pub fn wake(&self, free_at: impl Fn(usize) -> Boot) -> Boot {
        let moments = (0..self.queue.len()).flat_map(|n| {
            let turn = if self.is_first_of_device(n) { self.ready_at(n, &free_at) } else { Boot(u64::MAX) };
            [turn, self.queue[n].ends_at() + Duration::from_micros(1)]
        });
        moments.min().unwrap_or(Boot(u64::MAX))
    }

    fn is_first_of_device(&self, n: usize) -> bool {
        !self.queue.iter().take(n).any(|a| a.device == self.queue[n].device)
    }

    fn ready_at(&self, n: usize, free_at: impl Fn(usize) -> Boot) -> Boot {
        self.queue[n].not_before.max(free_at(self.queue[n].device))
    }

    pub fn device(&self, n: usize) -> usize {
        self.queue[n].device
    }

    /// Puts the next request of an order on the wire.
    pub fn begin(&mut self, n: usize) -> Ask {
        self.on_wire = Some(n);
        self.queue[n].begin()
    }

    /// Whether an order has changed something on such a device and is not done: nothing else may be written meanwhile.
    pub fn is_amid(&self, of: impl Fn(usize) -> bool) -> bool {
        self.queue.iter().any(|a| of(a.device) && a.is_amid())
    }

    /// Whether the next request of an order carries a secret.
    pub fn is_secret(&self, n: usize) -> bool {
        self.queue[n].is_secret()
    }

    /// The device has other points now: what was still to be read of it has no meaning.
    pub fn outdated(&mut self, now: Boot, device: usize) {
        let on_wire = self.on_wire.is_some();
        for _ in 0..if on_wire { 0 } else { self.queue.len() } {
            let Some(active) = self.queue.pop_front() else { return };
            if active.device == device && active.is_read() {
                let outcome = active.outdated();
                self.end(now, active, outcome);
            } else {
                self.queue.push_back(active);
            }
        }
    }

    /// What was seen of such devices for writes that are still to come may have changed since.
    pub fn look_again(&mut self, of: impl Fn(usize) -> bool) {
        self.queue.iter_mut().filter(|a| of(a.device)).for_each(Active::look_again);
    }

    /// The request on the wire ended like this.
    pub fn verdict(&mut self, now: Boot, devices: &[Device], verdict: Verdict<'_>) {
        let Some(n) = self.on_wire.take() else { return };
        let Some(mut active) = self.queue.remove(n) else { return };
        match active.apply(now, &devices[active.device], verdict) {
            None => self.queue.insert(n, active),
            Some(outcome) => self.end(now, active, outcome),
        }
    }

    /// The connection went away before the reply; a read may be sent again.
    pub fn again(&mut self) {
        self.on_wire = None;
    }

    /// Ends what may not be begun any more. `why`: what kept it waiting.
    pub fn expire(&mut self, now: Boot, why: &str) {
        let mut n = 0;
        while n < self.queue.len() {
            if self.queue[n].ends_at() >= now || self.on_wire == Some(n) {
                n += 1;
                continue;
            }
            let Some(active) = self.queue.remove(n) else { return };
            self.on_wire = self.on_wire.map(|w| if w > n { w - 1 } else { w });
            let outcome = active.expired(why);
            self.end(now, active, outcome);
        }
    }

    /// The gateway stops.
    pub fn stop(&mut self, now: Boot) {
        let mut on_wire = self.on_wire.take();
        while let Some(active) = self.queue.pop_front() {
            let is_on_wire = on_wire == Some(0);
            on_wire = on_wire.and_then(|n| n.checked_sub(1));
            let outcome = active.stopped(is_on_wire);
            self.end(now, active, outcome);
        }
    }

    fn end(&mut self, at: Boot, active: Active, outcome: Outcome) {
        self.done.push_back(WriteDone { id: active.order.id, device: active.order.device, outcome, at });
    }
}
