//! Requests of site tools on a line: the queue, the one on the wire with its deadline, and the bars of units that no
//! device is configured for.
//!
//! A request takes a turn of its own, goes on the wire once (a read a second time if an idle TCP connection was found
//! closed) and ends in one report. While polls are due it leaves the line to them for as long as it took itself.
//! Absent on purpose: the wire, the order of turns (`core/site.rs`).

use super::exchange::{Framing, Wire};
use crate::{
    drivers::modbus::{Garbled, Scan, raw},
    limits,
    model::{Boot, Settings, SiteJob, SiteOutcome, SiteReport},
};
use std::{collections::VecDeque, ops::RangeInclusive, time::Duration};

/// The frame of an exception, and of the shortest reply.
const SHORTEST: usize = 5;
/// A frame of unknown length ends by this much silence, if 3.5 characters are less: serial servers send in pieces.
const QUIET_MIN: Duration = Duration::from_millis(5);
/// Most PDU bytes of a frame.
const PDU: RangeInclusive<usize> = 1..=253;

/// A report on its way to whoever asked.
#[derive(Debug)]
pub struct Told {
    pub job: SiteJob,
    pub report: SiteReport,
}

/// Where the current request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The port is set to other settings, or back.
    Tune,
    /// Silence with these settings.
    Settle,
    Send,
    Wait,
}

#[derive(Debug)]
pub struct Current {
    pub job: SiteJob,
    pub begun: Boot,
    tid: u16,
    /// The last bit of the request has left.
    sent_at: Boot,
    /// Moment of the verdict, as far as is known.
    pub until: Boot,
    stretch_to: Boot,
    last_byte: Boot,
    sent: Vec<u8>,
    heard: Vec<u8>,
    strange: Option<Garbled>,
    /// Bytes that are missing, as far as is known.
    need: usize,
    /// The silence that may end the frame was looked at.
    was_quiet: bool,
    /// It was sent over a connection that was closed, and may be sent again.
    again: bool,
}

#[derive(Debug, Default)]
pub struct Site {
    queue: VecDeque<SiteJob>,
    pub current: Option<Current>,
    /// How the port is set now, if not as the line.
    pub tuned: Option<(Settings, Wire)>,
    /// Units without a device that did not answer, and until when a late reply may come.
    bars: Vec<(u8, Boot)>,
    /// Polls that are due come first until then.
    resting_until: Boot,
    done: VecDeque<Told>,
}

impl Site {
    pub fn accept(&mut self, job: SiteJob, wire: &Wire) {
        let units = if wire.is_tcp { 0..=255 } else { 1..=247 };
        if !PDU.contains(&job.ask.pdu.len()) {
            self.refuse(job, "a request has 1 to 253 bytes");
        } else if !units.contains(&job.ask.unit) {
            self.refuse(job, "a unit on a serial line has a number from 1 to 247");
        } else if self.queue.len() >= limits::SITE_JOBS {
            self.refuse(job, "too many requests wait for this line; try again later");
        } else {
            self.queue.push_back(job);
        }
    }

    fn refuse(&mut self, job: SiteJob, why: &str) {
        self.end(job, SiteOutcome::NotSent(why.into()), Vec::new(), Vec::new(), Duration::ZERO);
    }

    fn end(&mut self, job: SiteJob, outcome: SiteOutcome, sent: Vec<u8>, heard: Vec<u8>, took: Duration) {
        self.done.push_back(Told { job, report: SiteReport { outcome, sent, heard, took } });
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn take_done(&mut self) -> Option<Told> {
        self.done.pop_front()
    }

    /// What waited too long, and everything if the line is down for this reason.
    pub fn expire(&mut self, now: Boot, down: Option<&str>) {
        for _ in 0..self.queue.len() {
            let Some(job) = self.queue.pop_front() else { return };
            match down {
                Some(reason) => self.refuse(job, reason),
                None if job.deadline < now => self.refuse(job, "it found no turn on the line in time"),
                None => self.queue.push_back(job),
            }
        }
    }

    /// When the next request may be sent; `idle`: no poll wants the line. `bar`: of a configured unit, for a read
    /// or for something else.
    pub fn ready_at(&self, idle: bool, bar: impl Fn(u8, bool) -> Boot) -> Boot {
        let free = self.queue.iter().map(|job| self.free_at(job, &bar)).min().unwrap_or(Boot(u64::MAX));
        if idle { free } else { free.max(self.resting_until) }
    }

    /// When to look again because of a deadline.
    pub fn wake(&self) -> Boot {
        self.queue.iter().map(|job| job.deadline + Duration::from_micros(1)).min().unwrap_or(Boot(u64::MAX))
    }

    fn free_at(&self, job: &SiteJob, bar: &impl Fn(u8, bool) -> Boot) -> Boot {
        let unit = job.ask.unit;
        let own = self.bars.iter().find(|(barred, _)| *barred == unit).map_or(Boot(0), |(_, until)| *until);
        own.max(bar(unit, raw::is_read(&job.ask.pdu)))
    }

    /// Takes the request whose turn it is.
    pub fn begin(&mut self, now: Boot, bar: impl Fn(u8, bool) -> Boot) -> Option<&Current> {
        let n = (0..self.queue.len()).find(|n| self.free_at(&self.queue[*n], &bar) <= now)?;
        let job = self.queue.remove(n)?;
        self.bars.retain(|(_, until)| now < *until);
        Some(self.current.insert(Current {
            job,
            begun: now,
            tid: 0,
            sent_at: now,
            until: now,
            stretch_to: now,
            last_byte: now,
            sent: Vec::new(),
            heard: Vec::new(),
            strange: None,
            need: 1,
            was_quiet: false,
            again: true,
        }))
    }

    /// The connection was lost under the current request: a read goes again, once.
    pub fn lost(&mut self, now: Boot, may_reopen: bool) -> bool {
        let Some(mut current) = self.current.take() else { return false };
        if may_reopen && current.again && raw::is_read(&current.job.ask.pdu) {
            current.again = false;
            self.queue.push_front(current.job);
            return true;
        }
        self.current = Some(current);
        self.finish(now, SiteOutcome::Garbled("the connection was lost before the reply".into()));
        false
    }

    /// The gateway stops.
    pub fn stop(&mut self, now: Boot) {
        self.finish(now, SiteOutcome::Garbled("the gateway stops before the reply".into()));
        self.expire(now, Some("the gateway stops"));
    }

    /// Ends the current request.
    pub fn finish(&mut self, now: Boot, outcome: SiteOutcome) {
        let Some(current) = self.current.take() else { return };
        let took = if matches!(outcome, SiteOutcome::NotSent(_)) { Duration::ZERO } else { now - current.sent_at };
        let share = limits::SITE_SHARE_PERCENT;
        self.resting_until = now + (now - current.begun) * (100 - share) / share;
        self.end(current.job, outcome, current.sent, current.heard, took);
    }

    /// Nothing is sent to a unit without a device before.
    pub fn bar(&mut self, now: Boot, unit: u8) {
        self.bars.retain(|(barred, until)| *barred != unit && now < *until);
        // One entry per unit: 256 at most.
        self.bars.push((unit, now + limits::BAR_MIN));
    }
}

impl Current {
    pub fn sent(&mut self, now: Boot, frame: &[u8], tid: u16, wire: &Wire, timeout: Duration) {
        self.sent_at = now + wire.time(frame.len());
        self.last_byte = self.sent_at;
        self.sent = frame.to_vec();
        self.tid = tid;
        self.until = self.sent_at + timeout + wire.time(self.reply_bytes(&[]));
        self.stretch_to = self.until + Duration::from_secs(1) + wire.time(260);
    }

    /// Bytes of the reply frame on RTU, as far as is known.
    fn reply_bytes(&self, head: &[u8]) -> usize {
        match raw::reply_length(&self.job.ask.pdu, head) {
            raw::Length::Is(pdu) | raw::Length::AtLeast(pdu) => pdu + 3,
            raw::Length::Unknown => SHORTEST,
        }
    }

    pub fn heard(&mut self, now: Boot, bytes: &[u8]) {
        let room = limits::SITE_HEARD_BYTES.saturating_sub(self.heard.len()).min(bytes.len());
        self.heard.extend_from_slice(&bytes[..room]);
        self.last_byte = now;
        self.was_quiet = false;
    }

    /// Judges what is in the line's receive buffer.
    pub fn judge(&mut self, now: Boot, rx: &[u8], wire: &Wire, echoes: Option<bool>) -> Scan {
        self.was_quiet = self.is_quiet(now, wire);
        let ask = &self.job.ask;
        let scan = match wire.framing {
            Framing::Mbap => raw::scan_mbap(rx, self.tid, ask.unit, &ask.pdu),
            Framing::Rtu => raw::scan_rtu(rx, ask.unit, &ask.pdu, echoes, self.was_quiet),
        };
        self.need = if let Scan::More { at_least } = &scan { *at_least } else { 1 };
        scan
    }

    fn is_quiet(&self, now: Boot, wire: &Wire) -> bool {
        !self.heard.is_empty() && now >= self.last_byte + wire.silence.max(QUIET_MIN)
    }

    /// A reply that repeats the request, of which one copy came on a line that may echo.
    pub fn is_in_doubt(&mut self, rx: &[u8], echoes: Option<bool>) -> bool {
        self.need = self.sent.len();
        echoes.is_none() && rx == self.sent
    }

    pub fn mark_strange(&mut self, why: Garbled) {
        self.strange = Some(why);
    }

    /// What to wait for: bytes, not before, until.
    pub fn wanted(&self, wire: &Wire) -> (usize, Boot, Boot) {
        let need = if self.heard.is_empty() { self.reply_bytes(&[]) } else { self.need };
        let quiet_at = self.last_byte + wire.silence.max(QUIET_MIN);
        let is_open = raw::known(&self.job.ask.pdu).is_none() && !self.heard.is_empty() && !self.was_quiet;
        let ends_by_silence = wire.framing == Framing::Rtu && is_open;
        let until = if ends_by_silence { self.until.min(quiet_at) } else { self.until };
        let earliest = if self.heard.is_empty() { self.sent_at + wire.time(need) } else { self.last_byte };
        (need, earliest.min(until), until)
    }

    /// The deadline has come; bytes that came before it may be followed by others. Whether to go on waiting.
    pub fn stretch(&mut self, now: Boot, wire: &Wire) -> bool {
        if self.heard.is_empty() {
            return now < self.until;
        }
        let until = (self.last_byte + wire.time(self.need) + wire.patience).min(self.stretch_to);
        self.until = self.until.max(until);
        now < self.until
    }

    /// The verdict of a deadline.
    pub fn leftover(&self, rx: &[u8], echoes: Option<bool>) -> SiteOutcome {
        let has_echo = rx.starts_with(&self.sent);
        let rest = if has_echo { &rx[self.sent.len()..] } else { rx };
        let pdu = &self.job.ask.pdu;
        if has_echo && rest.is_empty() && echoes.is_none() && raw::check(pdu, pdu).is_ok() {
            return SiteOutcome::Garbled("one copy of the request came back: its reply, or an adapter that hears itself".into());
        }
        match (rest.is_empty(), self.strange) {
            (true, None) => SiteOutcome::Silent,
            (true, Some(why)) => SiteOutcome::Garbled(why.to_string()),
            (false, _) => SiteOutcome::Garbled(Garbled::Malformed { bytes: rest.len() }.to_string()),
        }
    }
}
