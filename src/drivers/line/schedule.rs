//! Whose turn it is: polls by earliest deadline, probes of dead devices last.
//!
//! ```text
//! Alive --two silent polls--> Dead(backoff 500 ms .. 60 s) --any sign of life--> Alive, polled at once
//! ```
//!
//! A device's polls lie on a grid that never drifts. A poll that could not begin in its period is counted as missed and
//! never queued twice. A period of zero means as fast as the line allows: such devices take turns behind those that have
//! a period. A poll is all planned requests of its device, one after the other; it ends at the first one without a reply,
//! after the retries.
//!
//! A probe is the cheapest planned request of a dead device. It is sent into time that no poll needs; a probe that finds
//! none has a reserve of 3 % of the line. Absent on purpose: the wire, bars (asked for by a closure), orders.

use crate::{drivers::modbus::Request, limits, model::Boot};
use std::time::Duration;

/// First polls are spread over the period, but at most over this: a slow line shows its devices soon.
pub const SPREAD_MAX: Duration = Duration::from_secs(10);
/// So long a probe waits for idle time before it takes from the reserve.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// A unit that is busy is asked again at the end of its poll, but not before so long. Its neighbours have the line meanwhile.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Requests of one poll that are asked again at most.
const BUSY_MAX: usize = 4;
/// A unit that was busy the second time too is taken at its word for so many polls.
const BUSY_REST: u8 = 10;
/// Consecutive silent polls that make a device dead.
pub const SILENT_POLLS: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    Poll(usize),
    Probe(usize),
    /// Nothing before this moment.
    Wait(Boot),
}

/// How a failed request leaves its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The same request again, in the same poll.
    Retry,
    PollEnded,
    /// The poll ended and the device is dead from now on.
    Died,
}

#[derive(Debug)]
struct Poll {
    /// Zero: as fast as the line allows.
    period: Duration,
    requests: Vec<Request>,
    /// The cheapest of them.
    smallest: usize,
    retries: u8,
    /// A point of the grid.
    origin: Boot,
    /// When the current or next poll may begin.
    due: Boot,
    /// Since when the device waits: its `due` before any missed poll was skipped. On an overloaded line the one that waits
    /// longest is next, where the skipped deadline would starve it for ever.
    owed: Boot,
    /// The next request of the poll; 0 with no tries: not begun.
    at: usize,
    tries: u8,
    /// Requests, by place, that are asked again behind the planned ones.
    busy: Vec<usize>,
    /// Those are not asked before.
    not_before: Boot,
    /// So many polls ask nothing again.
    rest: u8,
    silent: u32,
    dead: Option<Dead>,
    /// A request beside the plan, within the running poll.
    detour: Option<Request>,
    /// The plan from the next poll on.
    planned: Option<Vec<Request>>,
}

/// A device that is probed instead of polled.
#[derive(Debug, Clone, Copy)]
pub struct Dead {
    /// When the next probe is due.
    pub next: Boot,
    backoff: Duration,
}

impl Dead {
    pub fn since(now: Boot) -> Dead {
        Dead { next: now + limits::PROBE_MIN, backoff: limits::PROBE_MIN }
    }

    /// The probe had no answer.
    pub fn probe_failed(&mut self, now: Boot) {
        self.backoff = (self.backoff * 2).min(limits::PROBE_MAX);
        self.next = now + self.backoff;
    }
}

#[derive(Debug)]
pub struct Schedule {
    polls: Vec<Poll>,
    /// The deadline of a poll without period lies so far behind its turn.
    idle_period: Duration,
    missed: u64,
    /// Line time that probes may still take from polls.
    reserve: Duration,
    reserve_at: Boot,
}

impl Schedule {
    /// One entry per device: period, retries, planned requests (at least one).
    pub fn new(devices: impl IntoIterator<Item = (Duration, u8, Vec<Request>)>) -> Schedule {
        let polls: Vec<Poll> = devices.into_iter().map(|(period, retries, requests)| Poll::new(period, retries, requests)).collect();
        let idle_period = polls.iter().map(|p| p.period).max().unwrap_or_default().max(Duration::from_secs(1));
        Schedule { polls, idle_period, missed: 0, reserve: Duration::ZERO, reserve_at: Boot(0) }
    }

    /// The requests that are planned.
    pub fn requests_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.polls.iter_mut().flat_map(|poll| &mut poll.requests)
    }

    /// The line is open: everything begins anew, staggered. Nothing is held against a device that could not be seen.
    pub fn start(&mut self, now: Boot) {
        let count = u32::try_from(self.polls.len()).unwrap_or(u32::MAX).max(1);
        for (n, poll) in (0u32..).zip(&mut self.polls) {
            poll.origin = now + poll.period.min(SPREAD_MAX) * n / count;
            (poll.due, poll.owed) = (poll.origin, poll.origin);
            (poll.at, poll.tries, poll.silent, poll.dead, poll.detour) = (0, 0, 0, None, None);
            (poll.rest, poll.not_before) = (0, now);
            poll.busy.clear();
        }
        (self.reserve, self.reserve_at) = (Duration::ZERO, now);
    }

    /// `free_at`: when a device's unit may be asked again; `cost`: line time of a probe that gets no reply.
    pub fn pick(&mut self, now: Boot, free_at: impl Fn(usize) -> Boot, cost: impl Fn(usize) -> Duration) -> Pick {
        let mut poll: Option<(Boot, usize)> = None;
        let mut probe: Option<(Boot, usize)> = None;
        let (mut next_poll, mut next_probe) = (Boot(u64::MAX), Boot(u64::MAX));
        for n in 0..self.polls.len() {
            let p = &mut self.polls[n];
            if let Some(dead) = p.dead {
                let ready = dead.next.max(free_at(n));
                let first = probe.is_none_or(|(best, _)| ready < best);
                match ready <= now {
                    true if first => probe = Some((ready, n)),
                    true => {}
                    false => next_probe = next_probe.min(ready),
                }
                continue;
            }
            self.missed += p.skip_missed(now);
            let ready = if p.has_begun() { p.not_before.max(free_at(n)) } else { p.due.max(free_at(n)) };
            if ready > now {
                next_poll = next_poll.min(ready);
                continue;
            }
            let deadline = p.owed + if p.period.is_zero() { self.idle_period } else { p.period };
            if poll.is_none_or(|(best, _)| deadline < best) {
                poll = Some((deadline, n));
            }
        }
        if let Some((ready, n)) = probe {
            let cost = cost(n);
            match self.may_probe(now, ready, cost, poll.is_none().then_some(next_poll)) {
                Ok(()) => return Pick::Probe(n),
                Err(again) => next_probe = next_probe.min(again),
            }
        }
        poll.map_or(Pick::Wait(next_poll.min(next_probe)), |(_, n)| Pick::Poll(n))
    }

    /// `idle_until`: no poll needs the line before. Says when to look again.
    fn may_probe(&mut self, now: Boot, ready: Boot, cost: Duration, idle_until: Option<Boot>) -> Result<(), Boot> {
        let most = cost.max(limits::TIMEOUT_MAX);
        let gained = (now - self.reserve_at) * u32::try_from(limits::PROBE_SHARE_PERCENT).unwrap_or(0) / 100;
        self.reserve = (self.reserve + gained).min(most);
        self.reserve_at = now;
        if idle_until.is_some_and(|until| until - now >= cost) {
            return Ok(());
        }
        let patient_until = ready + PROBE_PATIENCE;
        let missing = cost.saturating_sub(self.reserve);
        if missing.is_zero() && patient_until <= now {
            return Ok(());
        }
        let share = u32::try_from(limits::PROBE_SHARE_PERCENT).unwrap_or(1).max(1);
        Err(patient_until.max(now + missing * 100 / share).max(now + Duration::from_millis(1)))
    }

    /// A probe is sent. One in idle time spends what reserve there is, too.
    pub fn spend(&mut self, cost: Duration) {
        self.reserve = self.reserve.saturating_sub(cost);
    }

    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The request that a poll of the device sends next.
    pub fn current(&self, device: usize) -> &Request {
        let poll = &self.polls[device];
        poll.detour.as_ref().unwrap_or(&poll.requests[poll.place()])
    }

    /// Whether that is a request beside the plan.
    pub fn is_detour(&self, device: usize) -> bool {
        self.polls[device].detour.is_some()
    }

    /// The unit refused the current request because it is busy: it is asked again in this poll, once.
    pub fn busy(&mut self, device: usize) {
        let poll = &mut self.polls[device];
        if poll.detour.is_some() {
            return;
        }
        if poll.at >= poll.requests.len() {
            poll.rest = BUSY_REST;
        } else if poll.rest == 0 && poll.busy.len() < BUSY_MAX {
            poll.busy.push(poll.at);
        }
    }

    pub fn probe(&self, device: usize) -> &Request {
        let poll = &self.polls[device];
        &poll.requests[poll.smallest]
    }

    /// A valid reply, also a refusal, to the current request of a poll. `detour` may name a request to be sent next, beside
    /// the plan; it is told whether the planned ones are done. Returns whether the poll is over.
    pub fn answered(&mut self, now: Boot, device: usize, detour: impl FnOnce(bool) -> Option<Request>) -> bool {
        let poll = &mut self.polls[device];
        (poll.silent, poll.tries) = (0, 0);
        if poll.detour.take().is_none() {
            poll.at += 1;
            if poll.at == poll.requests.len() && !poll.busy.is_empty() {
                poll.not_before = now + BUSY_PAUSE;
                // By then others are due, and this one is not more in a hurry than they are.
                poll.owed = poll.owed.max(now);
            }
        }
        let at_end = poll.at >= poll.requests.len() + poll.busy.len();
        poll.detour = detour(at_end);
        if poll.detour.is_some() {
            // What is asked beside the plan must not keep the others waiting, however long the poll is overdue by then.
            poll.owed = poll.owed.max(now);
        }
        let ended = at_end && poll.detour.is_none();
        if ended {
            poll.finish(now);
            poll.factors_first();
        }
        ended
    }

    /// The poll is over, because what it asked for is history.
    pub fn end(&mut self, now: Boot, device: usize) {
        let poll = &mut self.polls[device];
        poll.silent = 0;
        poll.finish(now);
    }

    /// Other requests from the next poll on.
    pub fn replan(&mut self, device: usize, requests: Vec<Request>) {
        let poll = &mut self.polls[device];
        poll.planned = Some(requests);
        if !poll.has_begun() {
            poll.take_plan();
        }
    }

    /// No valid reply to the current request of a poll.
    pub fn failed(&mut self, now: Boot, device: usize, silent: bool) -> Failed {
        let poll = &mut self.polls[device];
        if poll.tries < poll.retries {
            poll.tries += 1;
            return Failed::Retry;
        }
        poll.silent = if silent { poll.silent + 1 } else { 0 };
        poll.put_last();
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
            (poll.at, poll.tries, poll.due, poll.owed, poll.detour) = (0, 0, now, now, None);
            poll.busy.clear();
        }
        was_dead
    }
}

impl Poll {
    fn new(period: Duration, retries: u8, requests: Vec<Request>) -> Poll {
        let (zero, smallest) = (Boot(0), smallest(&requests));
        Poll {
            period,
            requests,
            smallest,
            retries,
            origin: zero,
            due: zero,
            owed: zero,
            at: 0,
            tries: 0,
            busy: Vec::new(),
            not_before: zero,
            rest: 0,
            silent: 0,
            dead: None,
            detour: None,
            planned: None,
        }
    }

    fn take_plan(&mut self) {
        if let Some(requests) = self.planned.take().filter(|r| !r.is_empty()) {
            self.smallest = smallest(&requests);
            self.requests = requests;
        }
    }

    /// Of the request that is next.
    fn place(&self) -> usize {
        let behind = || self.busy.get(self.at - self.requests.len()).copied().unwrap_or(0);
        if self.at < self.requests.len() { self.at } else { behind() }
    }

    fn has_begun(&self) -> bool {
        self.at > 0 || self.tries > 0
    }

    /// The next poll begins behind the request that failed: a unit may be silent at one of them and answer the others, which
    /// would never be read behind it.
    fn put_last(&mut self) {
        let (len, by) = (self.requests.len(), self.at + 1);
        if self.detour.is_none() && by < len {
            // Scale factors stay in front of their values; one that fails itself goes behind them.
            let first = if self.at < self.factors() { 0 } else { self.factors() };
            self.requests[first..].rotate_left(by - first);
            self.smallest = smallest(&self.requests);
        }
    }

    /// Requests in front that are for scale factors.
    fn factors(&self) -> usize {
        self.requests.iter().take_while(|r| r.points.is_empty()).count()
    }

    fn factors_first(&mut self) {
        if self.requests.iter().skip(self.factors()).any(|r| r.points.is_empty()) {
            self.requests.sort_by_key(|r| !r.points.is_empty());
            self.smallest = smallest(&self.requests);
        }
    }

    fn finish(&mut self, now: Boot) {
        (self.at, self.tries, self.detour) = (0, 0, None);
        self.rest = self.rest.saturating_sub(1);
        self.busy.clear();
        self.not_before = now;
        self.take_plan();
        self.due = if self.period.is_zero() { now } else { self.grid_after(self.due) };
        self.owed = self.due;
    }

    /// The next point of the grid behind `t`.
    fn grid_after(&self, t: Boot) -> Boot {
        let period = whole_us(self.period).max(1);
        Boot(self.origin.0 + (whole_us(t - self.origin) / period + 1) * period)
    }

    /// Polls whose whole period went by before they could begin.
    fn skip_missed(&mut self, now: Boot) -> u64 {
        if self.period.is_zero() || self.has_begun() || self.due + self.period > now {
            return 0;
        }
        let missed = whole_us(now - self.due) / whole_us(self.period).max(1);
        self.due = Boot(self.due.0 + missed * whole_us(self.period));
        missed
    }
}

/// The cheapest request.
fn smallest(requests: &[Request]) -> usize {
    (0..requests.len()).min_by_key(|n| requests[*n].ask().reply_len()).unwrap_or(0)
}

fn whole_us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::{line::testing::device, modbus::plan};

    const MS: Duration = Duration::from_millis(1);

    /// Runs polls that take `busy` each until `until`, and returns how often each device had its turn.
    fn run(schedule: &mut Schedule, devices: usize, busy: Duration, until: Boot) -> Vec<u32> {
        let mut turns = vec![0; devices];
        let mut now = Boot::from_ms(1000);
        schedule.start(now);
        while now < until {
            match schedule.pick(now, |_| Boot(0), |_| MS * 300) {
                Pick::Poll(n) => {
                    now = now + busy;
                    schedule.answered(now, n, |_| None);
                    turns[n] += 1;
                }
                Pick::Probe(_) => unreachable!("nobody is dead"),
                Pick::Wait(at) => now = at,
            }
        }
        turns
    }

    fn schedule(periods_ms: &[u64]) -> Schedule {
        Schedule::new(periods_ms.iter().map(|ms| (Duration::from_millis(*ms), 0, plan(&device("a", 1, 1)))))
    }

    #[test]
    fn every_device_gets_its_rate_while_the_line_has_time() {
        check(&[1000, 1000, 100], 10, &[100, 100, 1000], 0);
        check(&[1000; 10], 100, &[100; 10], 0);
        // A grid that drifted by the length of a poll would lose one poll in ten.
        check(&[100], 10, &[1000], 0);
    }

    #[test]
    fn an_overloaded_line_shares_and_counts_what_it_missed() {
        check(&[1000, 1000], 1000, &[50, 50], 99);
        check(&[0, 0, 0, 0], 10, &[2500, 2500, 2500, 2500], 0);
        check(&[0, 0, 1000], 10, &[4950, 4950, 100], 0);
    }

    #[track_caller]
    fn check(periods_ms: &[u64], busy_ms: u32, want: &[u32], missed: u64) {
        let mut schedule = schedule(periods_ms);
        let got = run(&mut schedule, periods_ms.len(), MS * busy_ms, Boot::from_ms(101_000));
        let close = got.iter().zip(want).all(|(got, want)| got.abs_diff(*want) <= 1 + want / 100);
        assert!(close, "{periods_ms:?} at {busy_ms} ms each: {got:?}, want {want:?}");
        assert!(schedule.missed().abs_diff(missed) <= 2, "missed {}, want {missed}", schedule.missed());
    }

    #[test]
    fn a_request_that_always_fails_hides_none_behind_it() {
        [false, true].into_iter().for_each(check_hidden);
    }

    #[track_caller]
    fn check_hidden(silent: bool) {
        let mut s = Schedule::new([(Duration::from_millis(100), 0, plan(&device("a", 1, 3)))]);
        let mut now = Boot::from_ms(1000);
        s.start(now);
        let mut asked = Vec::new();
        while asked.len() < 6 {
            match s.pick(now, |_| Boot(0), |_| MS * 300) {
                Pick::Wait(at) => now = at,
                _ if s.current(0).start == 10 => {
                    asked.push(10);
                    assert_eq!(s.failed(now, 0, silent), Failed::PollEnded);
                }
                _ => {
                    asked.push(s.current(0).start);
                    s.answered(now, 0, |_| None);
                }
            }
        }
        assert_eq!(asked, [0, 10, 20, 0, 10, 20]);
    }

    #[test]
    fn two_silent_polls_make_a_device_dead_and_the_first_answer_brings_it_back() {
        let mut s = schedule(&[100]);
        let mut now = Boot::from_ms(1000);
        s.start(now);
        assert_eq!(s.failed(now, 0, true), Failed::PollEnded);
        assert_eq!(s.failed(now, 0, false), Failed::PollEnded, "garbled is alive");
        assert_eq!(s.failed(now, 0, true), Failed::PollEnded);
        assert_eq!(s.failed(now, 0, true), Failed::Died);
        let mut probes = Vec::new();
        while probes.len() < 10 {
            match s.pick(now, |_| Boot(0), |_| MS * 300) {
                Pick::Wait(at) => now = at,
                Pick::Probe(0) => {
                    probes.push((now - Boot::from_ms(1000)).as_millis());
                    s.probe_failed(now, 0);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(probes[..9], [500, 1500, 3500, 7500, 15_500, 31_500, 63_500, 123_500, 183_500]);
        assert!(s.alive(now, 0));
        assert_eq!(s.pick(now, |_| Boot(0), |_| MS * 300), Pick::Poll(0));
    }

    #[test]
    fn probes_on_a_line_that_is_always_busy_take_three_percent() {
        let mut s = schedule(&[0, 0, 0, 0, 0, 0]);
        let mut now = Boot::from_ms(1000);
        s.start(now);
        for dead in 1..6 {
            s.failed(now, dead, true);
            s.failed(now, dead, true);
        }
        let (mut probing, mut polls) = (Duration::ZERO, 0u32);
        while now < Boot::from_ms(1_001_000) {
            match s.pick(now, |_| Boot(0), |_| MS * 300) {
                Pick::Poll(n) => {
                    now = now + MS * 10;
                    polls += 1;
                    s.answered(now, n, |_| None);
                }
                Pick::Probe(n) => {
                    now = now + MS * 300;
                    probing += MS * 300;
                    s.spend(MS * 300);
                    s.probe_failed(now, n);
                }
                Pick::Wait(at) => panic!("idle until {at:?}"),
            }
        }
        let share = probing.as_secs_f64() / 1000.0;
        assert!((0.02..=0.031).contains(&share), "probes took {share} of the line, {polls} polls");
    }
}
