//! Keeps late replies away from later requests.
//!
//! A framed reply carries no number. So after a timeout or a garbled frame a device is barred for the larger of 1 s and
//! twice the worst lateness seen of it. Where its replies do not carry its address either, a late one could be taken for
//! a neighbour's: then the whole line waits.

use crate::{
    config::{Framed, Line},
    limits,
    model::Boot,
};
use std::{collections::VecDeque, time::Duration};

/// Given-up requests remembered of a device. More: the oldest is forgotten.
const GIVEN_UP: usize = 4;
/// A reply later than this is not expected any more.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Bar {
    /// As configured.
    base: Duration,
    /// Raised by late replies.
    timeout: Duration,
    until: Boot,
    worst: Duration,
    /// When its requests were given up, oldest first.
    given_up: VecDeque<Boot>,
    is_addressed: bool,
}

#[derive(Debug)]
pub struct Guard(Vec<Bar>);

impl Guard {
    pub fn new(line: &Line, devices: &[Framed]) -> Guard {
        let bar = |device: &Framed| {
            let base = device.timeout.unwrap_or(line.timeout);
            let is_addressed = device.is_addressed;
            Bar { base, timeout: base, until: Boot(0), worst: Duration::ZERO, given_up: VecDeque::new(), is_addressed }
        };
        Guard(devices.iter().map(bar).collect())
    }

    /// Nothing may be sent to this device before.
    pub fn barred_until(&self, device: usize) -> Boot {
        let counts = |(n, bar): (usize, &Bar)| (n == device || !bar.is_addressed).then_some(bar.until);
        self.0.iter().enumerate().filter_map(counts).max().unwrap_or(Boot(0))
    }

    pub fn timeout(&self, device: usize) -> Duration {
        self.0[device].timeout
    }

    /// Probes keep to the configured timeout.
    pub fn base_timeout(&self, device: usize) -> Duration {
        self.0[device].base
    }

    /// A request ended without a valid reply. `pending`: its reply may still come.
    pub fn bar(&mut self, now: Boot, device: usize, pending: bool) {
        let bar = &mut self.0[device];
        bar.until = bar.until.max(now + limits::BAR_MIN.max(bar.worst * 2));
        if pending {
            if bar.given_up.len() == GIVEN_UP {
                bar.given_up.pop_front();
            }
            bar.given_up.push_back(now);
        }
    }

    /// Devices whose reply may still come.
    pub fn pending(&self, now: Boot) -> impl Iterator<Item = usize> {
        let is_awaited = move |bar: &Bar| bar.given_up.iter().any(|at| now - *at < GIVEN_UP_FOR);
        self.0.iter().enumerate().filter(move |(_, bar)| is_awaited(bar)).map(|(n, _)| n)
    }

    /// The reply of this device came too late. Says to what its timeout was raised, if it was.
    pub fn late(&mut self, now: Boot, device: usize) -> Option<Duration> {
        let bar = &mut self.0[device];
        bar.given_up.retain(|at| now - *at < GIVEN_UP_FOR);
        // The oldest: lateness is never judged too short. What was given up since may be as late.
        let last = *bar.given_up.back()?;
        let given_up = bar.given_up.pop_front()?;
        let lateness = now - given_up;
        bar.worst = bar.worst.max(lateness);
        bar.until = bar.until.max(last + limits::BAR_MIN.max(bar.worst * 2));
        let wanted = bar.timeout + lateness + lateness / 4 + Duration::from_millis(10);
        let raised = wanted.min(bar.base.max(limits::TIMEOUT_MAX));
        let longer = raised > bar.timeout;
        bar.timeout = bar.timeout.max(raised);
        longer.then_some(bar.timeout)
    }
}
