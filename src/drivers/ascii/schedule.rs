//! Whose turn it is on a line of framed devices: polls by earliest deadline, probes of dead devices in idle time.
//!
//! The rules are those of the Modbus line (`drivers/line/schedule.rs`), for devices with one request each: a grid that
//! never drifts, missed polls counted and not queued, two silent polls make a device dead, a dead one is probed from
//! 500 ms to every minute. A probe that finds no idle time is sent after a second of waiting.

pub use crate::drivers::line::schedule::{Failed, Pick};
use crate::{
    drivers::line::schedule::{Dead, PROBE_PATIENCE, SILENT_POLLS, SPREAD_MAX},
    model::Boot,
};
use std::time::Duration;

#[derive(Debug)]
struct Poll {
    /// Zero: as fast as the line allows. `None`: never asked, it speaks by itself.
    period: Option<Duration>,
    retries: u8,
    origin: Boot,
    due: Boot,
    /// Its `due` before missed polls were skipped: who waits longest is next.
    owed: Boot,
    tries: u8,
    silent: u32,
    dead: Option<Dead>,
}

#[derive(Debug)]
pub struct Schedule {
    polls: Vec<Poll>,
    missed: u64,
}

impl Schedule {
    /// Period (`None`: it speaks by itself) and retries of each device.
    pub fn new(devices: impl IntoIterator<Item = (Option<Duration>, u8)>) -> Schedule {
        let zero = Boot(0);
        let poll = |(period, retries)| Poll { period, retries, origin: zero, due: zero, owed: zero, tries: 0, silent: 0, dead: None };
        Schedule { polls: devices.into_iter().map(poll).collect(), missed: 0 }
    }

    /// The line is open: everything begins anew, staggered.
    pub fn start(&mut self, now: Boot) {
        let count = u32::try_from(self.polls.len()).unwrap_or(u32::MAX).max(1);
        for (n, poll) in (0u32..).zip(&mut self.polls) {
            poll.origin = now + poll.period.unwrap_or_default().min(SPREAD_MAX) * n / count;
            (poll.due, poll.owed, poll.tries, poll.silent, poll.dead) = (poll.origin, poll.origin, 0, 0, None);
        }
    }

    /// `free_at`: when a device may be asked again; `cost`: line time of a probe that gets no reply.
    pub fn pick(&mut self, now: Boot, free_at: impl Fn(usize) -> Boot, cost: impl Fn(usize) -> Duration) -> Pick {
        let mut poll: Option<(Boot, usize)> = None;
        let mut probe: Option<(Boot, usize)> = None;
        let (mut next_poll, mut next_probe) = (Boot(u64::MAX), Boot(u64::MAX));
        for n in 0..self.polls.len() {
            let p = &mut self.polls[n];
            let Some(period) = p.period else { continue };
            if let Some(dead) = p.dead {
                let ready = dead.next.max(free_at(n));
                if ready > now {
                    next_probe = next_probe.min(ready);
                } else if probe.is_none_or(|(best, _)| ready < best) {
                    probe = Some((ready, n));
                }
                continue;
            }
            self.missed += p.skip_missed(now, period);
            let ready = if p.tries > 0 { free_at(n) } else { p.due.max(free_at(n)) };
            if ready > now {
                next_poll = next_poll.min(ready);
            } else if poll.is_none_or(|(best, _)| p.owed + period < best) {
                poll = Some((p.owed + period, n));
            }
        }
        if let Some((ready, n)) = probe {
            let fits = poll.is_none() && next_poll - now >= cost(n);
            if fits || ready + PROBE_PATIENCE <= now {
                return Pick::Probe(n);
            }
            next_probe = next_probe.min(ready + PROBE_PATIENCE);
        }
        poll.map_or(Pick::Wait(next_poll.min(next_probe)), |(_, n)| Pick::Poll(n))
    }

    pub fn missed(&self) -> u64 {
        self.missed
    }

    pub fn answered(&mut self, now: Boot, device: usize) {
        self.polls[device].silent = 0;
        self.polls[device].finish(now);
    }

    pub fn failed(&mut self, now: Boot, device: usize, silent: bool) -> Failed {
        let poll = &mut self.polls[device];
        if poll.tries < poll.retries {
            poll.tries += 1;
            return Failed::Retry;
        }
        poll.silent = if silent { poll.silent + 1 } else { 0 };
        poll.finish(now);
        if poll.silent < SILENT_POLLS {
            return Failed::PollEnded;
        }
        poll.dead = Some(Dead::since(now));
        Failed::Died
    }

    /// The poll cannot go on, and nobody is to blame but the line.
    pub fn abandon(&mut self, now: Boot, device: usize) {
        self.polls[device].finish(now);
    }

    pub fn probe_failed(&mut self, now: Boot, device: usize) {
        if let Some(dead) = &mut self.polls[device].dead {
            dead.probe_failed(now);
        }
    }

    /// A sign of life from anywhere. Returns whether the device was dead; it is polled at once then.
    pub fn alive(&mut self, now: Boot, device: usize) -> bool {
        let poll = &mut self.polls[device];
        poll.silent = 0;
        let was_dead = poll.dead.take().is_some();
        if was_dead {
            (poll.tries, poll.due, poll.owed) = (0, now, now);
        }
        was_dead
    }
}

impl Poll {
    fn finish(&mut self, now: Boot) {
        self.tries = 0;
        let period = whole_us(self.period.unwrap_or_default());
        // The next point of the grid behind the one that was due.
        let passed = whole_us(self.due - self.origin).checked_div(period);
        self.due = passed.map_or(now, |n| Boot(self.origin.0 + (n + 1) * period));
        self.owed = self.due;
    }

    /// Polls whose whole period went by before they could begin.
    fn skip_missed(&mut self, now: Boot, period: Duration) -> u64 {
        if period.is_zero() || self.tries > 0 || self.due + period > now {
            return 0;
        }
        let missed = whole_us(now - self.due) / whole_us(period).max(1);
        self.due = Boot(self.due.0 + missed * whole_us(period));
        missed
    }
}

fn whole_us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
