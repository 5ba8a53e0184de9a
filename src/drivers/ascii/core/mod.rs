//! The core of a line on which framed text is spoken: pure, one owner, every request of the line in turn.
//!
//! ```text
//! Closed --again--> Opening --Opened--> Ready --a turn--> Draining --quiet--> Sending --Sent--> Waiting --reply, deadline--> Ready
//!    ^--Failed, Lost------'        Lapsed <--Lost while idle (TCP)--'                              `--Lost (TCP, first)--> Opening
//! ```
//!
//! The same language and the same order as the Modbus line: orders before polls, polls before probes, silence and drained
//! input before each request. What comes unasked is offered to the devices that speak by themselves.
//! Absent on purpose: clocks, ports, channels, logs.

mod link;
mod replies;
#[cfg(test)]
mod tests;

use super::{
    check,
    fields::Parser,
    guard::Guard,
    orders::Orders,
    schedule::{Pick, Schedule},
};
use crate::{
    config::{Framed, Line, Transport, framed::End},
    drivers::{
        ascii::Garbled,
        line::{
            event::{Event, NEVER, Out, Step, Told, Want},
            figures::{Counters, Usage},
        },
    },
    model::{Boot, LineId, LineState, SiteJob, SiteOutcome, SiteReport, Urgent},
};
use std::time::Duration;

/// A TCP connection backs off from this.
const RECONNECT_MIN: Duration = Duration::from_millis(500);
/// A line that never falls silent is asked all the same after this.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// Pieces of one frame come at most so far apart: USB adapters deliver every 16 ms, serial servers were seen to split a
/// reply by 265 ms. What waits longer for its end belongs to no frame.
const PATIENCE_SERIAL: Duration = Duration::from_millis(100);
const PATIENCE_TCP: Duration = Duration::from_millis(300);
/// A port gives its bytes in clumps: so late may one be that the line has already brought.
const HELD_BACK: Duration = Duration::from_micros(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { again: Boot },
    Lapsed,
    Opening,
    Ready,
    Draining { since: Boot },
    Sending,
    Waiting,
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
}

/// What the medium is like.
#[derive(Debug, Clone, Copy)]
struct Wire {
    is_tcp: bool,
    /// One character; 0 on TCP.
    char_ns: u64,
    patience: Duration,
}

impl Wire {
    fn new(transport: &Transport, devices: &[Framed]) -> Wire {
        let longest = devices.iter().map(|d| silence(&d.frame.end)).max().unwrap_or_default() * 2;
        match transport {
            Transport::Serial(serial) => {
                let char_ns = u64::from(serial.bits_per_char()) * 1_000_000_000 / u64::from(serial.baud.max(1));
                Wire { is_tcp: false, char_ns, patience: PATIENCE_SERIAL.max(longest) }
            }
            _ => Wire { is_tcp: true, char_ns: 0, patience: PATIENCE_TCP.max(longest) },
        }
    }

    /// The time that so many bytes take, rounded up.
    fn time(&self, bytes: usize) -> Duration {
        Duration::from_micros((self.char_ns * bytes as u64).div_ceil(1000))
    }
}

/// The silence that ends a frame; none where something else does.
fn silence(end: &End) -> Duration {
    match end {
        End::Silence(silence) => *silence,
        End::Terminator(_) | End::Length(_) => Duration::ZERO,
    }
}

/// One request and what came since.
#[derive(Debug, Default)]
struct Exchange {
    tx: Vec<u8>,
    rx: Vec<u8>,
    begun: Boot,
    sent: Boot,
    until: Boot,
    stretch_to: Boot,
    last_byte: Boot,
    /// Bytes missing at least.
    need: usize,
    /// Our own request was heard and skipped.
    echo_seen: bool,
    /// Something that was no reply came while this one was awaited.
    strange: Option<Garbled>,
}

#[derive(Debug)]
pub struct Core {
    id: LineId,
    devices: Vec<Framed>,
    parsers: Vec<Parser>,
    /// What each device is asked with; empty for those that speak by themselves.
    requests: Vec<Vec<u8>>,
    /// Length of each device's last reply: the owner sleeps until that much can be here.
    expected: Vec<usize>,
    /// Those that speak by themselves. They share one rule of frames; `check` asks for it.
    talkers: Vec<usize>,
    wire: Wire,
    line_gap: Duration,
    connect_delay: Duration,
    exchange: Exchange,
    /// Most bytes kept of what nobody can read.
    rx_max: usize,
    /// The next byte may begin a frame. Not right after opening: a frame without a start may be half over.
    in_step: bool,
    guard: Guard,
    schedule: Schedule,
    orders: Orders,
    state: State,
    job: Option<Job>,
    /// Whose frames are looked for when nothing is awaited.
    asked_last: usize,
    last_activity: Boot,
    gap: Duration,
    line_state: LineState,
    reason: String,
    backoff: Duration,
    reopened: bool,
    opened: Boot,
    served: bool,
    /// The adapter hears itself. `None`: not known since opening.
    echoes: Option<bool>,
    echo_noted: bool,
    stopped: bool,
    counters: Counters,
    usage: Usage,
    out: Out,
}

impl Core {
    pub fn new(line: &Line, devices: Vec<Framed>) -> Core {
        let period = |d: &Framed| d.request.as_ref().map(|_| d.poll);
        let longest = devices.iter().map(|d| d.frame.max_bytes).max().unwrap_or(0);
        Core {
            id: line.id.clone(),
            requests: devices.iter().map(|d| check::fill(&d.frame, d.request.as_deref().unwrap_or_default(), 0.0)).collect(),
            parsers: devices.iter().map(Parser::new).collect(),
            expected: vec![1; devices.len()],
            talkers: (0..devices.len()).filter(|n| devices[*n].request.is_none()).collect(),
            wire: Wire::new(&line.transport, &devices),
            line_gap: line.min_gap,
            connect_delay: line.connect_delay,
            exchange: Exchange::default(),
            rx_max: longest * 2 + 64,
            in_step: false,
            guard: Guard::new(line, &devices),
            schedule: Schedule::new(devices.iter().map(|d| (period(d), d.retries.unwrap_or(line.retries)))),
            orders: Orders::default(),
            devices,
            state: State::Closed { again: Boot(0) },
            job: None,
            asked_last: 0,
            last_activity: Boot(0),
            gap: Duration::ZERO,
            line_state: LineState::Unknown,
            reason: String::new(),
            backoff: RECONNECT_MIN,
            reopened: false,
            opened: Boot(0),
            served: false,
            echoes: None,
            echo_noted: false,
            stopped: false,
            counters: Counters::default(),
            usage: Usage::default(),
            out: Out::default(),
        }
    }

    fn expire_orders(&mut self, now: Boot) {
        let why = match self.line_state {
            LineState::Up => "it found no turn on the line",
            LineState::Down | LineState::Unknown => "the line is down",
        };
        self.orders.expire(now, why);
    }

    /// The site tools ask by Modbus.
    fn refuse_site(&mut self, job: SiteJob) {
        let why = "this line speaks framed text and no Modbus; watch its values with `fieldgate status`";
        let outcome = SiteOutcome::NotSent(why.into());
        let report = SiteReport { outcome, sent: Vec::new(), heard: Vec::new(), took: Duration::ZERO };
        self.out.site.push_back(Told { job, report });
    }

    /// Moves on as far as is possible without the owner.
    fn advance(&mut self, now: Boot) {
        match self.state {
            State::Closed { again } if again <= now && !self.stopped => self.state = State::Opening,
            State::Draining { since } if now - since > DRAIN_MAX => self.begin(now),
            State::Lapsed | State::Ready => self.take_turn(now),
            _ => {}
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
        match self.state {
            State::Closed { again } => Want::Idle(again.min(self.orders.wake(|_| NEVER))),
            State::Lapsed | State::Ready => {
                let turn = self.next_turn(now).err().unwrap_or(now);
                Want::Idle(turn.min(self.stray_ends()))
            }
            State::Opening => Want::Open,
            State::Draining { .. } => Want::Silence(self.quiet_at()),
            State::Sending => Want::Send(&self.exchange.tx),
            State::Waiting => self.want_reply(),
        }
    }

    fn want_reply(&self) -> Want<'_> {
        let x = &self.exchange;
        let left =
            if x.rx.is_empty() { self.wire.time(x.need) } else { self.wire.time(x.need.saturating_sub(1)).saturating_sub(HELD_BACK) };
        let ends = match self.frame_end() {
            End::Silence(silence) if !x.rx.is_empty() => x.until.min(x.last_byte + *silence),
            _ => x.until,
        };
        Want::Recv { need: x.need, earliest: (x.last_byte + left).min(ends), until: ends }
    }

    /// How the frames end that are looked for now.
    fn frame_end(&self) -> &End {
        let device = self.job.map_or(self.listened(), |job| job.device);
        &self.devices[device].frame.end
    }

    /// Whose frames are looked for when nothing is awaited.
    fn listened(&self) -> usize {
        self.talkers.first().copied().unwrap_or(self.asked_last)
    }

    /// When what came unasked may be a whole frame by silence.
    fn stray_ends(&self) -> Boot {
        match self.devices.get(self.listened()).map(|d| &d.frame.end) {
            Some(End::Silence(silence)) if !self.exchange.rx.is_empty() => self.exchange.last_byte + *silence,
            _ => NEVER,
        }
    }

    /// Whose turn it is, or when to look again.
    fn next_turn(&mut self, now: Boot) -> Result<Turn, Boot> {
        if self.stopped {
            return Err(NEVER);
        }
        let (guard, wire, expected, requests) = (&self.guard, &self.wire, &self.expected, &self.requests);
        let free_at = |device| guard.barred_until(device);
        let cost = |device: usize| wire.time(requests[device].len() + expected[device]) + guard.base_timeout(device);
        // A poll's reply tells whether the line echoes. Before that an echo may look like the answer to a write.
        if self.echoes.is_none()
            && let Pick::Poll(device) = self.schedule.pick(now, free_at, cost)
        {
            return Ok(Turn::Poll(device));
        }
        if let Some(n) = self.orders.pick(now, free_at) {
            return Ok(Turn::Order(n));
        }
        match self.schedule.pick(now, free_at, cost) {
            Pick::Poll(device) => Ok(Turn::Poll(device)),
            Pick::Probe(device) => Ok(Turn::Probe(device)),
            Pick::Wait(at) => Err(at.min(self.orders.wake(free_at))),
        }
    }

    /// When the line was silent for long enough.
    fn quiet_at(&self) -> Boot {
        let frame = self.devices.get(self.listened()).map_or(Duration::ZERO, |d| silence(&d.frame.end));
        self.last_activity + self.wire.time(2).max(self.gap).max(frame)
    }

    fn on_time(&mut self, now: Boot) {
        match self.state {
            State::Waiting => return self.judge(now),
            State::Closed { .. } | State::Opening => return,
            State::Lapsed | State::Ready | State::Draining { .. } | State::Sending => {}
        }
        if self.stray_ends() <= now {
            self.look_at_strays(now);
        }
        if matches!(self.state, State::Draining { .. }) && self.quiet_at() <= now {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Boot) {
        let (kind, device, frame) = match self.next_turn(now) {
            Ok(Turn::Order(n)) => (Kind::Order, self.orders.device(n), self.orders.begin(n, &self.requests)),
            Ok(Turn::Poll(device)) => (Kind::Poll, device, self.requests[device].clone()),
            Ok(Turn::Probe(device)) => (Kind::Probe, device, self.requests[device].clone()),
            Err(_) => {
                self.state = State::Ready;
                return;
            }
        };
        let x = &mut self.exchange;
        // What came before the request is no answer to it.
        x.rx.clear();
        (x.tx, x.begun, x.strange, x.echo_seen) = (frame, now, None, false);
        self.gap = self.devices[device].min_gap.unwrap_or(self.line_gap);
        self.asked_last = device;
        self.job = Some(Job { kind, device });
        self.state = State::Sending;
    }

    fn on_sent(&mut self, now: Boot) {
        let (State::Sending, Some(job)) = (self.state, self.job) else { return };
        let device = job.device;
        let sent = now + self.wire.time(self.exchange.tx.len());
        self.counters.requests += 1;
        self.last_activity = sent;
        if job.kind == Kind::Order && self.orders.rule(&self.devices).is_some_and(|w| w.expect.is_none()) {
            return self.unanswered_by_intent(now);
        }
        let timeout = match job.kind {
            Kind::Probe => self.guard.base_timeout(device),
            Kind::Order | Kind::Poll => self.guard.timeout(device),
        };
        let x = &mut self.exchange;
        (x.sent, x.last_byte) = (sent, sent);
        let echo = if self.echoes == Some(true) { x.tx.len() } else { 0 };
        x.need = echo + if job.kind == Kind::Order { 1 } else { self.expected[device] };
        x.until = sent + timeout;
        x.stretch_to = x.until + self.wire.time(self.devices[device].frame.max_bytes + x.tx.len()) + Duration::from_secs(1);
        self.state = State::Waiting;
    }
}

impl Step for Core {
    fn step(&mut self, now: Boot, event: Event<'_>) -> Want<'_> {
        self.expire_orders(now);
        match event {
            Event::Time => self.on_time(now),
            Event::Bytes(bytes) => self.on_bytes(now, bytes),
            Event::Sent => self.on_sent(now),
            Event::Opened if self.state == State::Opening => self.on_opened(now),
            Event::Failed(reason) if self.state == State::Opening => self.close(now, reason),
            Event::Opened | Event::Failed(_) | Event::Tuned => {}
            Event::Appeared if matches!(self.state, State::Closed { .. }) => self.state = State::Closed { again: now },
            Event::Appeared => {}
            Event::Site(job) => self.refuse_site(job),
            Event::Lost(reason) => self.on_lost(now, reason),
            Event::Order(order) => self.orders.accept(now, &self.devices, order),
            Event::Stop => {
                self.stopped = true;
                self.orders.stop(now, &self.devices);
            }
        }
        self.expire_orders(now);
        self.advance(now);
        while let Some(done) = self.orders.take_done() {
            self.out.urgent.push_back(Urgent::Done(done));
        }
        self.want(now)
    }

    fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    fn counters(&self) -> Counters {
        Counters { missed: self.schedule.missed(), ..self.counters }
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn line_state(&self) -> (LineState, &str) {
        (self.line_state, &self.reason)
    }
}
