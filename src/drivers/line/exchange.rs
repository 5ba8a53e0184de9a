//! One request and its reply on the wire: framing, wire times, deadlines and the buffers that are used again and again.
//!
//! Invariants: only a reply that passed the strict check of `drivers/modbus` leaves here as a reply; a frame ends by its
//! expected length, never by silence. On RTU nothing received before the request is looked at; on Modbus TCP the stream
//! is read frame by frame and never loses its place, or the connection is replaced.

use super::lead::Leads;
use crate::{
    config::{Serial, Transport},
    drivers::modbus::{Ask, Garbled, Scan, mbap, raw, rtu},
    model::{Boot, Settings},
};
use std::{ops::Range, time::Duration};

/// Most bytes kept of what nobody can read: two of the longest frames.
const RX_MAX: usize = 1024;
/// A begun reply may stretch its deadline by this at most.
const STRETCH_MAX: Duration = Duration::from_secs(1);

/// A port gives its bytes in clumps: so late may one be that the line has already brought.
const HELD_BACK: Duration = Duration::from_micros(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Mbap,
    Rtu,
}

/// What the medium is like.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    pub framing: Framing,
    pub is_tcp: bool,
    /// One character; 0 on TCP.
    char_ns: u64,
    /// Between two frames: 3.5 characters, 1.75 ms above 19200 baud; 0 on TCP, where a serial server keeps it.
    pub silence: Duration,
    /// A begun reply may pause so long between two pieces: USB adapters deliver every 16 ms, serial servers were seen to
    /// split a reply by 265 ms.
    pub patience: Duration,
    /// Of a serial port.
    pub settings: Option<Settings>,
}

impl Wire {
    pub fn new(transport: &Transport) -> Wire {
        match transport {
            Transport::Serial(serial) => Wire::serial(serial),
            Transport::Tcp { .. } => Wire::tcp(Framing::Mbap),
            Transport::RtuOverTcp { .. } => Wire::tcp(Framing::Rtu),
        }
    }

    fn serial(serial: &Serial) -> Wire {
        let char_ns = u64::from(serial.bits_per_char()) * 1_000_000_000 / u64::from(serial.baud.max(1));
        let silence = if serial.baud > 19_200 { Duration::from_micros(1750) } else { micros_up(char_ns * 7 / 2) };
        let settings = Settings { baud: serial.baud, parity: serial.parity, bits: serial.bits, stop: serial.stop };
        Wire { framing: Framing::Rtu, is_tcp: false, char_ns, silence, patience: Duration::from_millis(20), settings: Some(settings) }
    }

    /// A serial line with other settings.
    pub fn set_to(settings: &Settings) -> Wire {
        let Settings { baud, parity, bits, stop } = *settings;
        Wire::serial(&Serial { path: std::path::PathBuf::new(), baud, parity, bits, stop })
    }

    /// Whether a late reply tells which request it answers.
    pub fn is_numbered(&self) -> bool {
        self.framing == Framing::Mbap
    }

    pub fn tcp(framing: Framing) -> Wire {
        Wire { framing, is_tcp: true, char_ns: 0, silence: Duration::ZERO, patience: Duration::from_millis(300), settings: None }
    }

    /// The time that so many bytes take.
    pub fn time(&self, bytes: usize) -> Duration {
        micros_up(self.char_ns * bytes as u64)
    }
}

/// The clock counts microseconds: a silence is rounded up, never cut.
fn micros_up(ns: u64) -> Duration {
    Duration::from_micros(ns.div_ceil(1000))
}

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    Wait,
    /// The PDU of the reply, in the receive buffer.
    Reply(Range<usize>),
    /// A valid frame that is no reply to this; it ends there.
    Foreign {
        end: usize,
        why: Garbled,
    },
    Garbled(Garbled),
}

#[derive(Debug)]
pub struct Exchange {
    wire: Wire,
    tx: Vec<u8>,
    rx: Vec<u8>,
    tid: u16,
    unit: u8,
    any_unit: bool,
    ask: Ask,
    begun: Boot,
    sent: Boot,
    until: Boot,
    stretch_to: Boot,
    last_byte: Boot,
    need: usize,
    leads: Leads,
    /// Of the unit that is asked now.
    lead: Duration,
    /// Times that bytes of the reply came.
    looks: u32,
    /// The adapter hears itself. `None`: not known since opening; any reply that differs from its request tells.
    echoes: Option<bool>,
    /// Something that was no reply came while this one was awaited.
    strange: Option<Garbled>,
}

impl Exchange {
    pub fn new(wire: Wire) -> Exchange {
        Exchange {
            wire,
            tx: Vec::new(),
            rx: Vec::new(),
            tid: 0,
            unit: 0,
            any_unit: false,
            ask: Ask::Read { table: crate::config::Table::Holding, start: 0, count: 1 },
            begun: Boot(0),
            sent: Boot(0),
            until: Boot(0),
            stretch_to: Boot(0),
            last_byte: Boot(0),
            need: 0,
            leads: Leads::default(),
            lead: Duration::ZERO,
            looks: 0,
            echoes: None,
            strange: None,
        }
    }

    /// A new connection or port: nothing of the old one counts.
    pub fn reset(&mut self) {
        self.rx.clear();
        self.echoes = if self.wire.framing == Framing::Mbap { Some(false) } else { None };
    }

    /// Builds the frame.
    pub fn begin(&mut self, now: Boot, unit: u8, ask: &Ask) {
        self.tx.clear();
        (self.unit, self.any_unit) = (unit, false);
        self.ask.clone_from(ask);
        self.begun = now;
        self.strange = None;
        self.lead = if self.is_timed() { self.leads.of(unit) } else { Duration::ZERO };
        match self.wire.framing {
            Framing::Mbap => {
                self.tid = self.tid.wrapping_add(1);
                mbap::encode(self.tid, unit, ask, &mut self.tx);
            }
            Framing::Rtu => {
                self.rx.clear();
                rtu::encode(unit, ask, &mut self.tx);
            }
        }
    }

    /// Builds the frame of a request that its own judge follows, `line/site.rs`.
    pub fn begin_raw(&mut self, now: Boot, unit: u8, pdu: &[u8]) {
        self.tx.clear();
        self.begun = now;
        self.strange = None;
        self.lead = Duration::ZERO;
        match self.wire.framing {
            Framing::Mbap => {
                self.tid = self.tid.wrapping_add(1);
                raw::encode_mbap(self.tid, unit, pdu, &mut self.tx);
            }
            Framing::Rtu => {
                self.rx.clear();
                raw::encode_rtu(unit, pdu, &mut self.tx);
            }
        }
    }

    /// A reply to that request which comes from now on is foreign.
    pub fn retire(&mut self) {
        self.tid = self.tid.wrapping_add(1);
        if self.wire.framing == Framing::Rtu {
            self.rx.clear();
        }
    }

    /// A reply whose PDU begins at `start` and which ends at `end`: whether the adapter hears itself shows in most.
    pub fn learn_echo(&mut self, start: usize, end: usize) {
        let is_behind_echo = end > self.tx.len() && self.rx.starts_with(&self.tx);
        let is_request = self.wire.framing == Framing::Rtu && self.rx.get(start - 1..end) == Some(&self.tx);
        if !is_request || is_behind_echo {
            self.echoes = Some(is_behind_echo && self.wire.framing == Framing::Rtu);
        }
    }

    pub fn frame(&self) -> &[u8] {
        &self.tx
    }

    pub fn rx(&self) -> &[u8] {
        &self.rx
    }

    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// What is spoken from now on, on a connection that is opened next.
    pub fn speak(&mut self, wire: Wire) {
        self.wire = wire;
        self.reset();
    }

    /// The reply to the request that was begun may name any unit.
    pub fn accept_any_unit(&mut self) {
        self.any_unit = true;
    }

    /// From the end of the request to the begin of a reply that is complete now.
    pub fn answer_time(&self, now: Boot) -> Duration {
        (now - self.sent).saturating_sub(self.wire.time(self.reply_len()))
    }

    pub fn tid(&self) -> u16 {
        self.tid
    }

    pub fn begun(&self) -> Boot {
        self.begun
    }

    pub fn until(&self) -> Boot {
        self.until
    }

    pub fn echoes(&self) -> Option<bool> {
        self.echoes
    }

    /// The frame was handed to the port at `now`. The timeout runs from its last bit to the first byte of the reply.
    pub fn sent(&mut self, now: Boot, timeout: Duration) {
        self.sent = now + self.wire.time(self.tx.len());
        self.last_byte = self.sent;
        self.looks = 0;
        self.need = self.reply_len() + if self.echoes == Some(true) { self.tx.len() } else { 0 };
        self.until = self.sent + timeout + self.wire.time(self.reply_len());
        self.stretch_to = self.until + STRETCH_MAX;
    }

    fn reply_len(&self) -> usize {
        match self.wire.framing {
            Framing::Mbap => self.ask.reply_len() + 7,
            Framing::Rtu => rtu::reply_len(&self.ask),
        }
    }

    /// Line time that this request needs if its unit says nothing.
    pub fn cost(wire: &Wire, ask: &Ask, timeout: Duration) -> Duration {
        wire.time(rtu::request_len(ask) + rtu::reply_len(ask)) + timeout
    }

    pub fn receive(&mut self, now: Boot, bytes: &[u8]) {
        // A line that never stops talking must not grow the buffer: what is cut here is garbled in any case.
        let room = RX_MAX.saturating_sub(self.rx.len()).min(bytes.len());
        self.rx.extend_from_slice(&bytes[..room]);
        self.last_byte = now;
        self.looks += 1;
    }

    /// Judges what has come so far.
    pub fn judge(&mut self) -> Judged {
        if self.rx.len() >= RX_MAX {
            return Judged::Garbled(Garbled::Malformed { bytes: self.rx.len() });
        }
        match self.scan() {
            Scan::More { at_least } => {
                self.need = at_least.max(1);
                Judged::Wait
            }
            Scan::Reply { pdu, end } => {
                let is_behind_echo = end > self.tx.len() && self.rx.starts_with(&self.tx);
                let is_request = self.wire.framing == Framing::Rtu && self.rx[pdu.start - 1..end] == self.tx;
                if !is_request || is_behind_echo {
                    self.echoes = Some(is_behind_echo && self.wire.framing == Framing::Rtu);
                } else if self.echoes.is_none() {
                    // A single copy of a write, on a line that may echo: only a second copy is certainly the unit's.
                    self.need = self.tx.len();
                    return Judged::Wait;
                }
                self.time_reply();
                Judged::Reply(pdu)
            }
            Scan::Foreign { end, why } => Judged::Foreign { end, why },
            Scan::Garbled(why) => Judged::Garbled(why),
        }
    }

    /// Reads on a serial line: a write may take a unit longer, and TCP tells when something comes.
    fn is_timed(&self) -> bool {
        !self.wire.is_tcp && !self.ask.is_write()
    }

    fn time_reply(&mut self) {
        // From the moment before the write: what kept the thread from running after it is no haste of the unit's.
        let took = (self.last_byte - self.begun).saturating_sub(self.wire.time(self.tx.len() + self.rx.len()));
        match self.looks {
            _ if !self.is_timed() => {}
            0 | 1 => self.leads.complete(self.unit),
            _ => self.leads.timed(self.unit, took),
        }
    }

    /// Judges what came although nothing is awaited. A reply to the last request is a second one.
    pub fn judge_stray(&self) -> Judged {
        match self.scan() {
            Scan::More { .. } if self.rx.len() < RX_MAX => Judged::Wait,
            Scan::More { .. } => Judged::Garbled(Garbled::Malformed { bytes: self.rx.len() }),
            Scan::Reply { pdu, .. } => Judged::Reply(pdu),
            Scan::Foreign { end, why } => Judged::Foreign { end, why },
            Scan::Garbled(why) => Judged::Garbled(why),
        }
    }

    /// Drops everything received.
    pub fn forget(&mut self) {
        self.rx.clear();
    }

    fn scan(&self) -> Scan {
        match self.wire.framing {
            Framing::Mbap => {
                let unit = if self.any_unit { self.rx.get(6).copied().unwrap_or(self.unit) } else { self.unit };
                mbap::scan(&self.rx, self.tid, unit, &self.ask)
            }
            Framing::Rtu if self.any_unit => self.scan_any_unit(),
            Framing::Rtu => rtu::scan_on(&self.rx, self.unit, &self.ask, self.echoes == Some(true)),
        }
    }

    /// Whoever answers is the unit. Our own echo names the unit that was asked: it is cut off first.
    fn scan_any_unit(&self) -> Scan {
        let len = self.tx.len();
        // One copy of a write is its reply, unless more follows or the line is known to echo.
        let is_echo = self.echoes == Some(true) || !self.ask.is_write() || self.rx.len() > len;
        let from = if is_echo && self.rx.starts_with(&self.tx) { len } else { 0 };
        let rest = &self.rx[from..];
        let unit = rest.first().copied().unwrap_or(self.unit);
        match rtu::scan(rest, unit, &self.ask) {
            Scan::Reply { pdu, end } => Scan::Reply { pdu: pdu.start + from..pdu.end + from, end: end + from },
            Scan::Foreign { end, why } => Scan::Foreign { end: end + from, why },
            other => other,
        }
    }

    /// A frame that belongs to nobody here came while the reply was awaited.
    pub fn mark_strange(&mut self, why: Garbled) {
        self.strange = Some(why);
    }

    /// Drops the first bytes of the receive buffer.
    pub fn skip(&mut self, end: usize) {
        self.rx.drain(..end.min(self.rx.len()));
    }

    /// After a whole reply: what follows it belongs to nobody, but on a stream it begins the next frame.
    pub fn done(&mut self, pdu_end: usize) {
        match self.wire.framing {
            Framing::Mbap => self.skip(pdu_end),
            Framing::Rtu => self.rx.clear(),
        }
    }

    /// What to wait for: bytes missing, and the moment before which they cannot all be here.
    pub fn wanted(&self) -> (usize, Boot) {
        let left = if self.rx.is_empty() && self.lead.is_zero() {
            self.wire.time(self.need)
        } else if self.rx.is_empty() {
            let earliest = self.begun + self.wire.time(self.tx.len() + self.need) + self.lead;
            return (self.need, earliest.min(self.until));
        } else if self.looks == 1 && !self.lead.is_zero() && self.wire.time(self.need) <= 3 * HELD_BACK {
            // By now it should have been complete: the rest comes at any moment, in one piece.
            Duration::ZERO
        } else {
            // The last look was in the middle of a byte, and what the port held back then comes sooner than the line could
            // bring it. Sleeping for whole bytes from there cost 2 % of the wire at 9600 and 4 % at 115200.
            self.wire.time(self.need.saturating_sub(1)).saturating_sub(HELD_BACK)
        };
        (self.need, (self.last_byte + left).min(self.until))
    }

    /// The deadline has come. A reply that is on its way may end; returns whether to go on waiting.
    pub fn stretch(&mut self, now: Boot) -> bool {
        if self.rx.is_empty() {
            return false;
        }
        let until = (self.last_byte + self.wire.time(self.need) + self.wire.patience).min(self.stretch_to);
        self.until = self.until.max(until);
        now < self.until
    }

    /// What is there instead of a reply. `None`: nothing at all, or only our own echo.
    pub fn leftover(&self) -> Option<Garbled> {
        let bytes = self.rx.len();
        let partial = match self.wire.framing {
            Framing::Mbap => (bytes > 0).then_some(Garbled::Malformed { bytes }),
            Framing::Rtu => rtu::leftover(&self.rx, self.unit, &self.ask),
        };
        partial.or(self.strange)
    }
}

/// Whether the first bytes are the reply to a request that was given up, and where it ends.
pub fn late_reply(framing: Framing, bytes: &[u8], tid: u16, unit: u8, ask: &Ask) -> Option<usize> {
    let scan = match framing {
        Framing::Mbap => mbap::scan(bytes, tid, unit, ask),
        Framing::Rtu => rtu::scan(bytes, unit, ask),
    };
    match scan {
        Scan::Reply { end, .. } => Some(end),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Parity, Table};

    fn wire(baud: u32, parity: Parity) -> Wire {
        Wire::new(&Transport::Serial(Serial { path: "/dev/null".into(), baud, parity, bits: 8, stop: 1 }))
    }

    #[test]
    fn silences_are_three_and_a_half_characters_and_fixed_above_19200_baud() {
        check(9600, Parity::Even, 4010, 11_459);
        check(9600, Parity::None, 3646, 10_417);
        check(19_200, Parity::Even, 2005, 5730);
        check(115_200, Parity::Even, 1750, 955);
    }

    #[track_caller]
    fn check(baud: u32, parity: Parity, silence_us: u64, ten_chars_us: u64) {
        let wire = wire(baud, parity);
        let got = (wire.silence.as_micros(), wire.time(10).as_micros());
        assert!(got.0.abs_diff(silence_us.into()) <= 1 && got.1.abs_diff(ten_chars_us.into()) <= 1, "{baud} {parity:?}: {got:?}");
    }

    #[test]
    fn a_begun_reply_stretches_its_deadline_and_silence_does_not() {
        let ask = Ask::Read { table: Table::Holding, start: 1, count: 2 };
        let mut x = Exchange::new(wire(9600, Parity::None));
        x.begin(Boot::from_ms(1000), 3, &ask);
        x.sent(Boot::from_ms(1000), Duration::from_millis(300));
        let deadline = x.until();
        assert!(!x.stretch(deadline));
        x.receive(deadline, &[3, 3, 4, 0]);
        assert_eq!(x.judge(), Judged::Wait);
        assert!(x.stretch(deadline), "five bytes are missing");
        assert!(!x.stretch(deadline + Duration::from_millis(30)));
        assert_eq!(x.leftover(), Some(Garbled::Malformed { bytes: 4 }));
    }
}
