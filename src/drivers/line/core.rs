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

use super::{
    event::{Event, NEVER, Note, Out, Want},
    exchange::{Exchange, Framing, Judged, Wire},
    figures::{Counters, Usage},
    guard::Guard,
    orders::{Orders, Verdict},
    schedule::{Failed, Pick, Schedule},
};
use crate::{
    config::{Device, Line, Table},
    drivers::modbus::{Answer, Garbled, Request, decode, pdu, plan},
    model::{Boot, Bulk, Heard, LineId, LineState, Reading, Urgent},
};
use std::{ops::Range, time::Duration};

/// A serial port is tried again this often.
const REOPEN_SERIAL: Duration = Duration::from_secs(1);
/// A TCP connection backs off from this…
const RECONNECT_MIN: Duration = Duration::from_millis(500);
/// …to this.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// A line that never falls silent is asked all the same after this, so that its devices are reported as garbled.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// Consecutive timeouts without any reply on a TCP connection after which it is replaced: its peer may be gone.
const SILENT_CONNECTION: u32 = 2;

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

#[derive(Debug)]
pub struct Core {
    id: LineId,
    devices: Vec<Device>,
    wire: Wire,
    line_gap: Duration,
    connect_delay: Duration,
    exchange: Exchange,
    guard: Guard,
    schedule: Schedule,
    /// Line time of a probe of each device that gets no reply.
    probe_costs: Vec<Duration>,
    orders: Orders,
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
    /// Timeouts in a row on this connection.
    silent: u32,
    stopped: bool,
    echo_noted: bool,
    counters: Counters,
    usage: Usage,
    pub out: Out,
}

impl Core {
    pub fn new(line: &Line, devices: Vec<Device>) -> Core {
        let wire = Wire::new(&line.transport);
        let guard = Guard::new(wire.framing, line, &devices);
        let polls = devices.iter().map(|d| (d.poll, d.retries.unwrap_or(line.retries), requests(d)));
        let schedule = Schedule::new(polls);
        let cost = |n| Exchange::cost(&wire, &schedule.probe(n).ask(), guard.base_timeout(n));
        Core {
            id: line.id.clone(),
            wire,
            line_gap: line.min_gap,
            connect_delay: line.connect_delay,
            exchange: Exchange::new(wire),
            probe_costs: (0..devices.len()).map(cost).collect(),
            guard,
            schedule,
            orders: Orders::default(),
            devices,
            state: State::Closed { again: Boot(0) },
            job: None,
            last_activity: Boot(0),
            gap: Duration::ZERO,
            line_state: LineState::Unknown,
            reason: String::new(),
            backoff: RECONNECT_MIN,
            reopened: false,
            silent: 0,
            stopped: false,
            echo_noted: false,
            counters: Counters::default(),
            usage: Usage::default(),
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
        match event {
            Event::Time => self.on_time(now),
            Event::Bytes(bytes) => self.on_bytes(now, bytes),
            Event::Sent => self.on_sent(now),
            Event::Opened => self.on_opened(now),
            Event::Failed(reason) => self.close(now, reason),
            Event::Lost(reason) => self.on_lost(now, reason),
            Event::Order(order) => self.orders.accept(now, &self.devices, order),
            Event::Stop => {
                self.stopped = true;
                self.orders.stop(now);
            }
        }
        let why = self.why_waiting();
        self.orders.expire(now, why);
        self.advance(now);
        while let Some(done) = self.orders.take_done() {
            self.out.urgent.push_back(Urgent::Done(done));
        }
        self.want(now)
    }

    fn why_waiting(&self) -> &'static str {
        match self.line_state {
            LineState::Up => "it found no turn on the line",
            LineState::Down | LineState::Unknown => "the line is down",
        }
    }

    /// Moves on as far as is possible without the owner.
    fn advance(&mut self, now: Boot) {
        match self.state {
            State::Closed { again } if again <= now && !self.stopped => self.state = State::Opening,
            State::Draining { since } if now - since > DRAIN_MAX => self.begin(now),
            State::Lapsed | State::Ready => {
                if self.next_turn(now).is_ok() {
                    let open = self.state == State::Ready;
                    self.state = if open { State::Draining { since: self.quiet_at().max(now) } } else { State::Opening };
                }
            }
            _ => {}
        }
    }

    fn want(&mut self, now: Boot) -> Want<'_> {
        match self.state {
            State::Closed { again } => Want::Idle(again.min(self.orders.wake(|_| NEVER))),
            State::Lapsed | State::Ready => Want::Idle(self.next_turn(now).err().unwrap_or(now)),
            State::Opening => Want::Open,
            State::Draining { .. } => Want::Silence(self.quiet_at()),
            State::Sending => Want::Send(self.exchange.frame()),
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
        if let Some(n) = self.orders.pick(now, free_at) {
            return Ok(Turn::Order(n));
        }
        match self.schedule.pick(now, free_at, |device| self.probe_costs[device]) {
            Pick::Poll(device) => Ok(Turn::Poll(device)),
            Pick::Probe(device) => Ok(Turn::Probe(device)),
            Pick::Wait(at) => Err(at.min(self.orders.wake(free_at))),
        }
    }

    /// When the line was silent for long enough.
    fn quiet_at(&self) -> Boot {
        self.last_activity + self.wire.silence.max(self.gap)
    }

    fn on_time(&mut self, now: Boot) {
        match self.state {
            State::Draining { .. } if self.quiet_at() <= now => self.begin(now),
            State::Waiting if now >= self.exchange.until() && !self.exchange.stretch(now) => self.time_out(now),
            _ => {}
        }
    }

    fn begin(&mut self, now: Boot) {
        let (kind, device, ask) = match self.next_turn(now) {
            Ok(Turn::Order(n)) => (Kind::Order, self.orders.device(n), self.orders.begin(n)),
            Ok(Turn::Poll(device)) => (Kind::Poll, device, self.schedule.current(device).ask()),
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
        self.gap = self.devices[device].min_gap.unwrap_or(self.line_gap);
        self.job = Some(Job { kind, device });
        self.state = State::Sending;
    }

    fn on_sent(&mut self, now: Boot) {
        let (State::Sending, Some(job)) = (self.state, self.job) else { return };
        let device = job.device;
        let timeout = match job.kind {
            Kind::Probe => self.guard.base_timeout(device),
            Kind::Order | Kind::Poll => self.guard.timeout(device),
        };
        self.exchange.sent(now, timeout);
        self.counters.requests += 1;
        self.state = State::Waiting;
    }

    fn on_bytes(&mut self, now: Boot, bytes: &[u8]) {
        self.last_activity = now;
        self.exchange.receive(now, bytes);
        match self.state {
            State::Waiting => self.judge(now),
            // Between the want and the sending: what comes is no reply to a frame that is not out yet.
            _ => self.look_at_strays(now),
        }
    }

    fn judge(&mut self, now: Boot) {
        loop {
            match self.exchange.judge() {
                Judged::Wait => break,
                Judged::Reply(pdu) => return self.reply(now, pdu),
                Judged::Garbled(why) => return self.garbled(now, why, false),
                Judged::Foreign { end, why } => {
                    if !self.recognise_late(now) {
                        self.counters.foreign += 1;
                        self.exchange.mark_strange(why);
                        self.exchange.skip(end);
                    }
                }
            }
        }
        // The deadline may have passed while the owner slept until the bytes could be here.
        if now >= self.exchange.until() && !self.exchange.stretch(now) {
            self.time_out(now);
        }
    }

    /// Bytes that nobody asked for now.
    fn look_at_strays(&mut self, now: Boot) {
        loop {
            if self.recognise_late(now) {
                continue;
            }
            match self.exchange.judge_stray() {
                Judged::Wait => return,
                Judged::Foreign { end, .. } => {
                    self.counters.foreign += 1;
                    self.exchange.skip(end);
                }
                Judged::Reply(_) | Judged::Garbled(_) if self.wire.framing == Framing::Mbap => return self.replace(),
                Judged::Reply(_) | Judged::Garbled(_) => return self.exchange.forget(),
            }
        }
    }

    /// Takes a late reply off the front of what was received.
    fn recognise_late(&mut self, now: Boot) -> bool {
        let Some(late) = self.guard.late(now, self.exchange.rx()) else { return false };
        self.exchange.skip(late.end);
        self.counters.late += 1;
        let devices: Vec<usize> = self.guard.devices_of(late.unit).collect();
        for device in devices {
            self.revive(now, device);
            let device = self.devices[device].id.clone();
            if let Some(timeout) = late.raised {
                self.out.notes.push_back(Note::Slow { device: device.clone(), timeout });
            }
            self.out.urgent.push_back(Urgent::Poll { device, heard: Heard::Answered, at: now });
        }
        true
    }

    fn revive(&mut self, now: Boot, device: usize) {
        if self.schedule.alive(now, device) {
            self.out.notes.push_back(Note::Alive { device: self.devices[device].id.clone() });
        }
    }

    /// A reply that passed every check.
    fn reply(&mut self, now: Boot, pdu: Range<usize>) {
        let Some(job) = self.job.take() else { return };
        let device = job.device;
        let trailer = if self.wire.framing == Framing::Rtu { 2 } else { 0 };
        let end = pdu.end + trailer;
        self.ended(now);
        self.reopened = false;
        self.silent = 0;
        self.backoff = RECONNECT_MIN;
        if self.exchange.echoes() && !self.echo_noted {
            self.echo_noted = true;
            self.out.notes.push_back(Note::Echo);
        }
        let said = pdu::check(self.exchange.ask(), &self.exchange.rx()[pdu]);
        match said {
            Ok(Answer::Exception(code)) => self.refused(now, job, device, code),
            Ok(Answer::Data(data)) => {
                self.counters.answers += 1;
                match job.kind {
                    Kind::Order => self.orders.verdict(now, &self.devices, Verdict::Data(data)),
                    Kind::Poll => emit(&mut self.out, now, &self.devices[device], self.schedule.current(device), data),
                    Kind::Probe => emit(&mut self.out, now, &self.devices[device], self.schedule.probe(device), data),
                }
                self.alive_by_reply(now, job, device);
            }
            Ok(Answer::Written) => {
                self.counters.answers += 1;
                self.orders.verdict(now, &self.devices, Verdict::Written);
                self.alive_by_reply(now, job, device);
            }
            Err(why) => {
                // The framing has checked the same PDU; kept as a refusal to trust, not as a panic.
                self.job = Some(job);
                return self.garbled(now, why, false);
            }
        }
        self.exchange.done(end);
    }

    fn alive_by_reply(&mut self, now: Boot, job: Job, device: usize) {
        if job.kind == Kind::Poll {
            self.schedule.answered(now, device);
        }
        self.revive(now, device);
    }

    fn refused(&mut self, now: Boot, job: Job, device: usize, code: u8) {
        // A gateway speaks here, not the unit: nothing is known of the unit but that it did not answer.
        if matches!(code, 0x0a | 0x0b) {
            self.counters.silent += 1;
            match job.kind {
                Kind::Order => self.orders.verdict(now, &self.devices, Verdict::Exception(code)),
                Kind::Poll | Kind::Probe => {
                    let after = now - self.exchange.begun();
                    self.failed(now, job, device, Heard::Silent { after });
                }
            }
            return;
        }
        self.counters.refused += 1;
        match job.kind {
            Kind::Order => self.orders.verdict(now, &self.devices, Verdict::Exception(code)),
            Kind::Poll | Kind::Probe => {
                let device = self.devices[device].id.clone();
                self.out.urgent.push_back(Urgent::Poll { device, heard: Heard::Refused(code), at: now });
            }
        }
        self.alive_by_reply(now, job, device);
    }

    fn time_out(&mut self, now: Boot) {
        match self.exchange.leftover() {
            Some(why) => self.garbled(now, why, true),
            None => self.unanswered(now),
        }
    }

    /// Something came that is no reply. `pending`: the reply may still come.
    fn garbled(&mut self, now: Boot, why: Garbled, pending: bool) {
        let Some(job) = self.job.take() else { return };
        let device = job.device;
        self.ended(now);
        self.counters.garbled += 1;
        self.guard.bar(now, device, self.exchange.tid(), self.exchange.ask(), pending);
        match job.kind {
            Kind::Order => {
                let why = format!("the reply was garbled: {why}");
                self.orders.verdict(now, &self.devices, Verdict::NoReply(&why));
            }
            Kind::Poll | Kind::Probe => self.failed(now, job, device, Heard::Garbled(why.to_string())),
        }
        match self.wire.framing {
            Framing::Mbap => self.replace(),
            Framing::Rtu => self.exchange.forget(),
        }
    }

    /// The deadline passed without a byte of this unit.
    fn unanswered(&mut self, now: Boot) {
        let Some(job) = self.job.take() else { return };
        let device = job.device;
        let after = self.exchange.until() - self.exchange.begun();
        self.ended(now);
        self.counters.silent += 1;
        self.silent += 1;
        self.guard.bar(now, device, self.exchange.tid(), self.exchange.ask(), true);
        match job.kind {
            Kind::Order => {
                let why = format!("no reply within {} ms", after.as_millis());
                self.orders.verdict(now, &self.devices, Verdict::NoReply(&why));
            }
            Kind::Poll | Kind::Probe => self.failed(now, job, device, Heard::Silent { after }),
        }
        if self.wire.is_tcp && self.silent >= SILENT_CONNECTION {
            self.replace();
        }
    }

    /// A poll's or probe's request got no valid reply.
    fn failed(&mut self, now: Boot, job: Job, device: usize, heard: Heard) {
        let silent = matches!(heard, Heard::Silent { .. });
        let ended = match job.kind {
            Kind::Probe if silent => {
                self.schedule.probe_failed(now, device);
                true
            }
            Kind::Probe => {
                self.revive(now, device);
                true
            }
            Kind::Poll | Kind::Order => match self.schedule.failed(now, device, silent) {
                Failed::Retry => false,
                Failed::PollEnded => true,
                Failed::Died => {
                    self.out.notes.push_back(Note::Dead { device: self.devices[device].id.clone() });
                    true
                }
            },
        };
        if ended {
            let device = self.devices[device].id.clone();
            self.out.urgent.push_back(Urgent::Poll { device, heard, at: now });
        }
    }

    /// The wire is free again.
    fn ended(&mut self, now: Boot) {
        self.usage.add(self.exchange.begun(), now + self.wire.silence);
        self.state = State::Ready;
    }

    /// Nothing stale survives on a new connection.
    fn replace(&mut self) {
        if self.wire.is_tcp && !matches!(self.state, State::Closed { .. } | State::Lapsed) {
            self.state = State::Opening;
        }
    }

    fn on_opened(&mut self, now: Boot) {
        self.exchange.reset();
        self.silent = 0;
        self.state = State::Ready;
        self.last_activity = now;
        self.gap = self.connect_delay.max(self.line_gap);
        if self.line_state != LineState::Up {
            self.schedule.start(now + self.connect_delay);
            self.announce(now, LineState::Up, "");
        }
    }

    fn on_lost(&mut self, now: Boot, reason: &str) {
        let may_lapse = self.wire.is_tcp;
        match self.state {
            State::Closed { .. } | State::Lapsed => {}
            State::Ready | State::Draining { .. } if may_lapse => self.state = State::Lapsed,
            State::Sending | State::Waiting => {
                let reopen = may_lapse && !self.reopened;
                self.abort(now, reopen);
                if reopen {
                    self.reopened = true;
                    self.state = State::Opening;
                } else {
                    self.close(now, reason);
                }
            }
            State::Ready | State::Draining { .. } | State::Opening => self.close(now, reason),
        }
    }

    /// The request on the wire is lost with its connection. A read is sent again if `again`; a write never is.
    fn abort(&mut self, now: Boot, again: bool) {
        let Some(job) = self.job.take() else { return };
        if self.state == State::Waiting {
            self.usage.add(self.exchange.begun(), now);
        }
        match job.kind {
            Kind::Order if again && !self.exchange.ask().is_write() => self.orders.again(),
            Kind::Order => self.orders.verdict(now, &self.devices, Verdict::NoReply("the connection was lost before the reply")),
            Kind::Poll | Kind::Probe if again => {}
            Kind::Poll => self.schedule.abandon(now, job.device),
            Kind::Probe => self.schedule.probe_failed(now, job.device),
        }
    }

    fn close(&mut self, now: Boot, reason: &str) {
        let wait = if self.wire.is_tcp { self.backoff } else { REOPEN_SERIAL };
        self.backoff = (self.backoff * 2).min(RECONNECT_MAX);
        self.state = State::Closed { again: now + wait };
        self.announce(now, LineState::Down, reason);
    }

    /// One event per change of state; the latest reason is kept for whoever asks.
    fn announce(&mut self, now: Boot, state: LineState, reason: &str) {
        if self.reason != reason {
            reason.clone_into(&mut self.reason);
        }
        if self.line_state == state {
            return;
        }
        self.line_state = state;
        self.out.notes.push_back(if state == LineState::Up { Note::Up } else { Note::Down { reason: reason.into() } });
        self.out.urgent.push_back(Urgent::Line { line: self.id.clone(), state, reason: reason.into(), at: now });
    }
}

/// The planned requests; a device without points is asked for one register, to learn whether it lives.
fn requests(device: &Device) -> Vec<Request> {
    let mut requests = plan(device);
    if requests.is_empty() {
        requests.push(Request { table: Table::Holding, start: 0, count: 1, points: [].into(), fields: Vec::new() });
    }
    requests
}

fn emit(out: &mut Out, at: Boot, device: &Device, request: &Request, data: &[u8]) {
    if request.points.is_empty() {
        out.urgent.push_back(Urgent::Poll { device: device.id.clone(), heard: Heard::Answered, at });
        return;
    }
    let (values, quality) = decode(device, request, data);
    out.bulk.push_back(Bulk::Reading(Reading { device: device.id.clone(), at, points: request.points.clone(), values, quality }));
}
