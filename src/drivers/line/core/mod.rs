//! The core of a line: pure, one owner, every request of the line in turn.
//!
//! ```text
//! Closed --again--> Opening --Opened--> Ready --a turn--> Draining --quiet--> Sending --Sent--> Waiting --reply, deadline--> Ready
//!    ^--Failed, Lost------'        Lapsed <--Lost while idle (TCP)--'                              `--Lost (TCP, first)--> Opening
//! ```
//!
//! `Lapsed` is a TCP connection that the peer closed while nothing was asked: no fault, opened again when it is needed.
//! Setups come before orders, orders before polls, polls before probes. Before each request the line is silent and the input drained.
//! Absent on purpose: clocks, ports, channels, logs. The owner passes the time in and carries [`Out`] out.

mod finding;
mod framing;
mod link;
mod planning;
mod replies;
mod site;
mod trace;

use super::{
    event::{Event, NEVER, Note, Out, Step, Want},
    exchange::{Exchange, Framing, Wire},
    figures::{Answers, Counters, Usage},
    guard::Guard,
    learn::Learner,
    orders::{Orders, Setups, Told, Verdict},
    schedule::{Pick, Schedule},
    site::{Phase, Site},
};
use crate::{
    config::{Device, Line, Table},
    drivers::modbus::{Request, plan::Plans},
    limits,
    model::{Boot, DeviceId, Learned, LineId, LineState, Urgent},
};
use finding::Finder;
use framing::Auto;
pub(super) use planning::Factors;
use std::time::Duration;

/// A TCP connection backs off from this.
const RECONNECT_MIN: Duration = Duration::from_millis(500);
/// A line that never falls silent is asked all the same after this, so that its devices are reported as garbled.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// What is heard for so long after a write of a secret that was not answered is not shown: a late reply may repeat it.
const LATE_SECRET: Duration = Duration::from_secs(10);

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
    Setup,
    Poll,
    Probe,
    /// Reads something before a setup, where it is not known whether the line echoes.
    Look,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Place in the queue of orders.
    Order(usize),
    Setup(usize),
    Poll(usize),
    Probe(usize),
    Site,
}

impl Pick {
    fn turn(self) -> Result<Turn, Boot> {
        match self {
            Pick::Poll(device) => Ok(Turn::Poll(device)),
            Pick::Probe(device) => Ok(Turn::Probe(device)),
            Pick::Wait(at) => Err(at),
        }
    }
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
    /// Devices that say themselves what they have.
    finders: Vec<Option<Finder>>,
    factors: Factors,
    /// Line time of a probe of each device that gets no reply.
    probe_costs: Vec<Duration>,
    orders: Orders,
    setups: Setups,
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
    /// A device's poll whose request was lost with its connection: it goes out first on the next one, bar or not.
    resend: Option<usize>,
    /// This connection gave a valid reply.
    served: bool,
    /// Timeouts in a row on this connection.
    silent: u32,
    stopped: bool,
    /// Something was asked since opening.
    asked: bool,
    /// A command, setup or site request got no answer: a poll that is due comes before the next one, or orders to units that
    /// are silent would hold up all others.
    owes_poll: bool,
    /// When the last poll began.
    polled: Boot,
    /// The request on the wire carries a secret, and until when a late reply may repeat one.
    secret: bool,
    secret_until: Boot,
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
        let finders: Vec<Option<Finder>> = devices.iter().map(|d| Finder::new(d, facts)).collect();
        let first = |n: usize| finders[n].as_ref().and_then(Finder::request).map(|r| vec![r]);
        let period = |d: &Device| if d.broadcast { Duration::ZERO } else { d.poll };
        let polls = devices.iter().zip(&learners).enumerate();
        let polls =
            polls.map(|(n, (d, l))| (period(d), d.retries.unwrap_or(line.retries), first(n).unwrap_or_else(|| requests(l.plan(d)))));
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
            finders,
            factors: Factors::default(),
            orders: Orders::default(),
            setups: Setups::new(&devices),
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
            resend: None,
            served: false,
            silent: 0,
            stopped: false,
            asked: false,
            owes_poll: false,
            polled: Boot(0),
            secret: false,
            secret_until: Boot(0),
            echo_noted: false,
            counters: Counters::default(),
            usage: Usage::default(),
            answers,
            untold: Vec::new(),
            out: Out::default(),
        }
    }

    /// Shares what its plans have in common with those of other lines.
    pub fn share(&mut self, plans: &mut Plans) {
        self.schedule.requests_mut().for_each(|request| plans.share(request));
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
            Event::Order(order) => {
                let learners = &self.learners;
                self.orders.accept(now, &self.devices, |n| learners[n].refused_so_far(), order);
            }
            Event::Site(job) => self.accept_site(now, job),
            Event::Stop => {
                self.stopped = true;
                self.orders.stop(now);
                self.site.stop(now);
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
        if self.orders.is_empty() {
            return;
        }
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
            State::Sending if self.secret => Want::SendSecret(self.exchange.frame()),
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
        let (setups, devices) = (&self.setups, &self.devices);
        let polls_at = |device: usize| if devices[device].broadcast { NEVER } else { free_at(device) };
        // Nearly always, and twice per request: what is below costs a busy line more than its poll does.
        if self.orders.is_empty() && self.site.is_empty() && setups.is_empty() {
            return self.schedule.pick(now, polls_at, |device| self.probe_costs[device]).turn();
        }
        // A reply to a read tells whether the line echoes. Before that an echo looks like the reply to a write: the first
        // request is a read if one is due.
        let reads_first = !self.asked && self.exchange.echoes().is_none();
        let unheld = |device: usize| if setups.holds_polls(device) { NEVER } else { polls_at(device) };
        let owes_poll = self.owes_poll || now - self.polled > limits::ORDERS_BEFORE_POLL;
        if (reads_first || owes_poll)
            && let Pick::Poll(device) = self.schedule.pick(now, unheld, |device| self.probe_costs[device])
        {
            return Ok(Turn::Poll(device));
        }
        let orders = &self.orders;
        let amid = |device: usize| orders.is_amid(|other| share_unit(devices, device, other));
        let setup_at = |device: usize| if amid(device) { NEVER } else { free_at(device) };
        if let Some(device) = setups.pick(now, setup_at) {
            return Ok(Turn::Setup(device));
        }
        // A device is not written to between the steps of an order to another that is the same unit.
        let others_amid = |device: usize| orders.is_amid(|other| other != device && share_unit(devices, device, other));
        let orders_at = |device: usize| if setups.holds_orders(device) || others_amid(device) { NEVER } else { free_at(device) };
        if let Some(n) = orders.pick(now, orders_at) {
            return Ok(Turn::Order(n));
        }
        let polls_at = |device: usize| if setups.holds_polls(device) { NEVER } else { polls_at(device) };
        let pick = self.schedule.pick(now, polls_at, |device| self.probe_costs[device]);
        let wake = orders.wake(orders_at).min(setups.wake(setup_at));
        let site = match self.site_turn(now, matches!(pick, Pick::Wait(_))) {
            Ok(()) => return Ok(Turn::Site),
            Err(at) => at,
        };
        pick.turn().map_err(|at| at.min(wake).min(site))
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
        self.secret = false;
        let turn = match self.resend.take() {
            Some(device) => Ok(Turn::Poll(device)),
            None => self.next_turn(now),
        };
        let (kind, device, ask) = match turn {
            Ok(Turn::Order(n)) => {
                let (device, is_secret, ask) = (self.orders.device(n), self.orders.is_secret(n), self.orders.begin(n));
                self.secret = is_secret;
                if ask.is_write() {
                    let devices = &self.devices;
                    self.orders.look_again(|other| other != device && share_unit(devices, device, other));
                }
                (Kind::Order, device, ask)
            }
            Ok(Turn::Setup(device)) if self.exchange.echoes().is_none() && self.may_look(device) => {
                (Kind::Look, device, self.schedule.probe(device).ask())
            }
            Ok(Turn::Setup(device)) => {
                let devices = &self.devices;
                self.orders.look_again(|other| share_unit(devices, device, other));
                self.secret = self.setups.is_secret(device);
                (Kind::Setup, device, self.setups.begin(now, device))
            }
            Ok(Turn::Poll(device)) => {
                (self.owes_poll, self.polled) = (false, now);
                (Kind::Poll, device, self.schedule.current(device).ask())
            }
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
        // Of several, a late reply of another would pass for this one's.
        if self.devices[device].accept_any_unit && self.is_alone(device) {
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
            Kind::Order | Kind::Setup | Kind::Poll | Kind::Look => self.guard.timeout(device),
        };
        self.exchange.sent(now, timeout);
        self.counters.requests += 1;
        self.tally(device).requests += 1;
        self.state = State::Waiting;
        if self.is_broadcast(device) {
            self.all_told(now, job);
        }
    }

    /// Whether something can be read of it. One copy of a write would be its reply or an echo, and a setup has no read back.
    fn may_look(&self, device: usize) -> bool {
        !self.devices[device].broadcast && self.wire.framing == Framing::Rtu
    }

    fn is_alone(&self, device: usize) -> bool {
        let unit = self.devices[device].unit;
        self.devices.iter().all(|d| d.unit == unit || d.broadcast)
    }

    /// A reply that comes late may repeat what was written.
    fn keep_secret(&mut self, now: Boot) {
        if self.secret {
            self.secret_until = now + LATE_SECRET;
        }
    }

    fn is_broadcast(&self, device: usize) -> bool {
        self.devices[device].broadcast && self.wire.framing == Framing::Rtu
    }

    /// Nobody answers a broadcast: the line is silent while all units carry it out.
    fn all_told(&mut self, now: Boot, job: Job) {
        self.job = None;
        self.last_activity = now + self.wire.time(self.exchange.frame().len());
        self.gap = self.gap.max(self.devices[job.device].turnaround);
        self.usage.add(self.exchange.begun(), self.last_activity + self.wire.silence);
        self.state = State::Ready;
        self.written(now, job, Verdict::Broadcast);
    }

    /// What came of an order's or setup's request.
    fn written(&mut self, now: Boot, job: Job, verdict: Verdict<'_>) {
        if job.kind == Kind::Order {
            return self.orders.verdict(now, &self.devices, verdict);
        }
        let device = self.devices[job.device].id.clone();
        match self.setups.verdict(now, job.device, verdict) {
            Told::Nothing => {}
            Told::Works => self.out.notes.push_back(Note::SetUp { device }),
            Told::Fails(reason) => self.out.notes.push_back(Note::NotSetUp { device, reason }),
        }
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

    fn hears_secret(&self, now: Boot) -> bool {
        now < self.secret_until || self.secret && matches!(self.state, State::Sending | State::Waiting)
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

/// Whether what is written to one device may be seen in the other.
fn share_unit(devices: &[Device], one: usize, other: usize) -> bool {
    let (one, other) = (&devices[one], &devices[other]);
    one.unit == other.unit || one.broadcast || other.broadcast
}

/// The planned requests; a device without points is asked for one register, to learn whether it lives.
fn requests(mut planned: Vec<Request>) -> Vec<Request> {
    if planned.is_empty() {
        planned.push(Request::bare(Table::Holding, &(0..1)));
    }
    planned
}
