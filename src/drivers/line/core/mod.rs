//! The core of a line: pure, one owner, every request of the line in turn.
//!
//! ```text
//! Closed --again--> Opening --Opened--> Ready --a turn--> Draining --quiet--> Sending --Sent--> Waiting --reply, deadline--> Ready
//!    ^--Failed, Lost------'        Lapsed <--Lost while idle (TCP)--'                              `--Lost (TCP, first)--> Opening
//! ```
//!
//! `Lapsed` is a TCP connection that the peer closed while nothing was asked: no fault, opened again when it is needed.
//! Orders come before polls, polls before probes. Before each request the line is silent and the input drained.
//! Absent on purpose: clocks, ports, channels, logs. The owner passes the time in and carries [`Out`] out.

mod framing;
mod link;
mod planning;
mod replies;
mod site;

use super::{
    event::{Event, NEVER, Out, Step, Want},
    exchange::{Exchange, Wire},
    figures::{Answers, Counters, Usage},
    guard::Guard,
    learn::Learner,
    orders::Orders,
    schedule::{Pick, Schedule},
    site::{Phase, Site},
};
use crate::{
    config::{Device, Line, Table},
    drivers::modbus::Request,
    model::{Boot, DeviceId, Learned, LineId, LineState, Urgent},
};
use framing::Auto;
use planning::Factors;
use std::time::Duration;

/// A TCP connection backs off from this.
const RECONNECT_MIN: Duration = Duration::from_millis(500);
/// A line that never falls silent is asked all the same after this, so that its devices are reported as garbled.
const DRAIN_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        again: Boot,
    },
    Lapsed,
    Opening,
    Ready,
    Draining {
        since: Boot,
    },
    Sending,
    Waiting,
    /// A request of a site tool.
    Site(Phase),
}

/// Whose request is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    kind: Kind,
    device: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Order,
    Poll,
    Probe,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Place in the queue of orders.
    Order(usize),
    Poll(usize),
    Probe(usize),
    Site,
}

#[derive(Debug)]
pub struct Core {
    id: LineId,
    devices: Vec<Device>,
    wire: Wire,
    line_gap: Duration,
    connect_delay: Duration,
    /// A connection that was not needed for so long is closed.
    idle_close: Option<Duration>,
    closing: bool,
    auto: Option<Auto>,
    exchange: Exchange,
    guard: Guard,
    schedule: Schedule,
    /// What each device refuses.
    learners: Vec<Learner>,
    factors: Factors,
    /// Line time of a probe of each device that gets no reply.
    probe_costs: Vec<Duration>,
    orders: Orders,
    site: Site,
    timeout: Duration,
    state: State,
    job: Option<Job>,
    /// The last byte, sent or received, of anybody.
    last_activity: Boot,
    /// The gap that the unit asked last wants, or the delay after opening.
    gap: Duration,
    line_state: LineState,
    reason: String,
    backoff: Duration,
    /// The connection was lost once since the last valid reply and opened again without a word.
    reopened: bool,
    opened: Boot,
    /// This connection gave a valid reply.
    served: bool,
    /// Timeouts in a row on this connection.
    silent: u32,
    stopped: bool,
    /// Something was asked since opening.
    asked: bool,
    echo_noted: bool,
    counters: Counters,
    usage: Usage,
    /// Of each device, and those whose figures were not told yet.
    answers: Vec<Answers>,
    untold: Vec<usize>,
    pub out: Out,
}

impl Core {
    pub fn new(line: &Line, devices: Vec<Device>) -> Core {
        Core::remembering(line, devices, &[])
    }

    /// With what is remembered of the line and its devices.
    pub fn remembering(line: &Line, devices: Vec<Device>, facts: &[Learned]) -> Core {
        let auto = line.auto_framing.then(|| Auto::new(&line.id, facts));
        let wire = auto.as_ref().and_then(Auto::remembered).map_or_else(|| Wire::new(&line.transport), Wire::tcp);
        let answers = devices.iter().map(|d| Answers::of(d.poll)).collect();
        let guard = Guard::new(wire.framing, line, &devices);
        let learners: Vec<Learner> = devices.iter().map(|d| Learner::new(d, facts)).collect();
        let polls = devices.iter().zip(&learners).map(|(d, l)| (d.poll, d.retries.unwrap_or(line.retries), requests(l.plan(d))));
        let schedule = Schedule::new(polls);
        let cost = |n| Exchange::cost(&wire, &schedule.probe(n).ask(), guard.base_timeout(n));
        Core {
            id: line.id.clone(),
            wire,
            line_gap: line.min_gap,
            connect_delay: line.connect_delay,
            idle_close: if line.connect_per_poll { Some(Duration::ZERO) } else { line.idle_close }.filter(|_| wire.is_tcp),
            closing: false,
            auto,
            exchange: Exchange::new(wire),
            probe_costs: (0..devices.len()).map(cost).collect(),
            guard,
            schedule,
            learners,
            factors: Factors::default(),
            orders: Orders::default(),
            site: Site::default(),
            timeout: line.timeout,
            devices,
            state: State::Closed { again: Boot(0) },
            job: None,
            last_activity: Boot(0),
            gap: Duration::ZERO,
            line_state: LineState::Unknown,
            reason: String::new(),
            backoff: RECONNECT_MIN,
            reopened: false,
            opened: Boot(0),
            served: false,
            silent: 0,
            stopped: false,
            asked: false,
            echo_noted: false,
            counters: Counters::default(),
            usage: Usage::default(),
            answers,
            untold: Vec::new(),
            out: Out::default(),
        }
    }

    pub fn counters(&self) -> Counters {
        Counters { missed: self.schedule.missed(), ..self.counters }
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub fn line_state(&self) -> (LineState, &str) {
        (self.line_state, &self.reason)
    }

    /// What happened, and what is to be done now.
    pub fn step(&mut self, now: Boot, event: Event<'_>) -> Want<'_> {
        // Before anything is begun: the line may have had to be silent until after a deadline.
        self.expire_orders(now);
        self.expire_site(now);
        match event {
            Event::Time => self.on_time(now),
            Event::Bytes(bytes) => self.on_bytes(now, bytes),
            Event::Sent => self.on_sent(now),
            // Unasked they would forget a request that is on its way.
            Event::Opened if self.state == State::Opening => self.on_opened(now),
            Event::Failed(reason) if self.state == State::Opening => self.close(now, reason),
            Event::Failed(reason) if self.state == State::Site(Phase::Tune) => self.cannot_tune(now, reason),
            Event::Tuned if self.state == State::Site(Phase::Tune) => self.on_tuned(now),
            Event::Opened | Event::Failed(_) | Event::Tuned => {}
            Event::Appeared => self.on_appeared(now),
            Event::Lost(reason) => self.on_lost(now, reason),
            Event::Order(order) => self.orders.accept(now, &self.devices, order),
            Event::Site(job) => self.accept_site(now, job),
            Event::Stop => {
                self.stopped = true;
                self.orders.stop(now);
            }
        }
        self.expire_orders(now);
        self.expire_site(now);
        self.advance(now);
        while let Some(told) = self.site.take_done() {
            self.out.site.push_back(told);
        }
        while let Some(done) = self.orders.take_done() {
            self.out.urgent.push_back(Urgent::Done(done));
        }
        self.want(now)
    }

    fn expire_orders(&mut self, now: Boot) {
        let why = match self.line_state {
            LineState::Up => "it found no turn on the line",
            LineState::Down | LineState::Unknown => "the line is down",
        };
        self.orders.expire(now, why);
    }

    /// Moves on as far as is possible without the owner.
    fn advance(&mut self, now: Boot) {
        match self.state {
            State::Closed { again } if again <= now && !self.stopped => self.state = State::Opening,
            State::Draining { since } if now - since > DRAIN_MAX => self.begin(now),
            State::Lapsed | State::Ready => self.take_turn(now),
            _ => {}
        }
        if self.state == State::Ready && self.is_idle(now) {
            self.state = State::Lapsed;
            self.closing = true;
        }
    }

    /// Somebody's turn: silence first, on an open line.
    fn take_turn(&mut self, now: Boot) {
        if self.next_turn(now).is_ok() {
            let is_open = self.state == State::Ready;
            self.state = if is_open { State::Draining { since: self.quiet_at().max(now) } } else { State::Opening };
        }
    }

    fn want(&mut self, now: Boot) -> Want<'_> {
        if std::mem::take(&mut self.closing) {
            return Want::Close;
        }
        match self.state {
            State::Closed { again } => Want::Idle(again.min(self.orders.wake(|_| NEVER)).min(self.site.wake())),
            State::Lapsed => Want::Idle(self.next_turn(now).err().unwrap_or(now)),
            State::Ready => Want::Idle(self.next_turn(now).err().unwrap_or(now).min(self.idle_end())),
            State::Opening => Want::Open,
            State::Draining { .. } => Want::Silence(self.quiet_at()),
            State::Sending => Want::Send(self.exchange.frame()),
            State::Site(phase) => self.want_site(phase),
            State::Waiting => {
                let (need, earliest) = self.exchange.wanted();
                Want::Recv { need, earliest, until: self.exchange.until() }
            }
        }
    }

    /// Whose turn it is, or when to look again.
    fn next_turn(&mut self, now: Boot) -> Result<Turn, Boot> {
        if self.stopped {
            return Err(NEVER);
        }
        let guard = &self.guard;
        let free_at = |device| guard.barred_until(device);
        // A reply to a read tells whether the line echoes. Before that an echo looks like the reply to a write: the first
        // request is a read if one is due.
        let reads_first = !self.asked && self.exchange.echoes().is_none();
        if reads_first && let Pick::Poll(device) = self.schedule.pick(now, free_at, |device| self.probe_costs[device]) {
            return Ok(Turn::Poll(device));
        }
        if let Some(n) = self.orders.pick(now, free_at) {
            return Ok(Turn::Order(n));
        }
        let pick = self.schedule.pick(now, free_at, |device| self.probe_costs[device]);
        let site = match self.site_turn(now, matches!(pick, Pick::Wait(_))) {
            Ok(()) => return Ok(Turn::Site),
            Err(at) => at,
        };
        match pick {
            Pick::Poll(device) => Ok(Turn::Poll(device)),
            Pick::Probe(device) => Ok(Turn::Probe(device)),
            Pick::Wait(at) => Err(at.min(self.orders.wake(|device| self.guard.barred_until(device))).min(site)),
        }
    }

    /// When the line was silent for long enough.
    fn quiet_at(&self) -> Boot {
        self.last_activity + self.wire.silence.max(self.gap)
    }

    /// When a connection that nobody needs is closed.
    fn idle_end(&self) -> Boot {
        self.idle_close.map_or(NEVER, |after| self.last_activity.max(self.opened) + after)
    }

    fn is_idle(&mut self, now: Boot) -> bool {
        self.idle_end() <= now && self.asked && self.next_turn(now).is_err()
    }

    /// The figures of a device, which change.
    fn tally(&mut self, device: usize) -> &mut Answers {
        if !self.untold.contains(&device) {
            self.untold.push(device);
        }
        &mut self.answers[device]
    }

    fn on_time(&mut self, now: Boot) {
        match self.state {
            State::Draining { .. } if self.quiet_at() <= now => self.begin(now),
            State::Waiting if now >= self.exchange.until() && !self.exchange.stretch(now) => self.time_out(now),
            State::Site(phase) => self.site_time(now, phase),
            _ => {}
        }
    }

    fn begin(&mut self, now: Boot) {
        let (kind, device, ask) = match self.next_turn(now) {
            Ok(Turn::Order(n)) => (Kind::Order, self.orders.device(n), self.orders.begin(n)),
            Ok(Turn::Poll(device)) => (Kind::Poll, device, self.schedule.current(device).ask()),
            Ok(Turn::Site) => return self.begin_site(now),
            Ok(Turn::Probe(device)) => {
                self.schedule.spend(self.probe_costs[device]);
                (Kind::Probe, device, self.schedule.probe(device).ask())
            }
            Err(_) => {
                self.state = State::Ready;
                return;
            }
        };
        self.exchange.begin(now, self.devices[device].unit, &ask);
        if self.devices[device].accept_any_unit {
            self.exchange.accept_any_unit();
        }
        self.gap = self.devices[device].min_gap.unwrap_or(self.line_gap).max(self.guard.gap(device));
        self.asked = true;
        self.job = Some(Job { kind, device });
        self.state = State::Sending;
    }

    fn on_sent(&mut self, now: Boot) {
        if self.state == State::Site(Phase::Send) {
            return self.site_sent(now);
        }
        let (State::Sending, Some(job)) = (self.state, self.job) else { return };
        let device = job.device;
        let timeout = match job.kind {
            Kind::Probe => self.guard.base_timeout(device),
            Kind::Order | Kind::Poll => self.guard.timeout(device),
        };
        self.exchange.sent(now, timeout);
        self.counters.requests += 1;
        self.tally(device).requests += 1;
        self.state = State::Waiting;
    }
}

impl Step for Core {
    fn step(&mut self, now: Boot, event: Event<'_>) -> Want<'_> {
        Core::step(self, now, event)
    }

    fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    fn counters(&self) -> Counters {
        Core::counters(self)
    }

    fn usage(&self) -> Usage {
        Core::usage(self)
    }

    fn line_state(&self) -> (LineState, &str) {
        Core::line_state(self)
    }

    fn forget(&mut self, now: Boot, device: &DeviceId) {
        Core::forget(self, now, device);
    }

    fn tell_devices(&mut self, figures: &mut Vec<(DeviceId, Answers)>) {
        if figures.len() != self.devices.len() {
            *figures = self.devices.iter().map(|d| (d.id.clone(), Answers::default())).collect();
            self.untold = (0..self.devices.len()).collect();
        }
        for n in self.untold.drain(..) {
            let (holes, timeout, gap) = (self.learners[n].holes(), self.guard.timeout(n), self.guard.gap(n));
            let told = &mut figures[n].1;
            *told = self.answers[n];
            (told.holes, told.timeout, told.gap) = (holes, timeout, gap);
        }
    }

    fn framing(&self) -> &'static str {
        self.auto.as_ref().map_or("", Auto::word)
    }
}

/// The planned requests; a device without points is asked for one register, to learn whether it lives.
fn requests(mut planned: Vec<Request>) -> Vec<Request> {
    if planned.is_empty() {
        planned.push(Request::bare(Table::Holding, &(0..1)));
    }
    planned
}
