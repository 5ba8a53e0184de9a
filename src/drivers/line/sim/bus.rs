//! A simulated bus: scripted slaves that answer each register with a value that tells its address and unit.

use super::super::exchange::{Framing, Wire};
use crate::{
    drivers::modbus::rtu::crc16,
    model::{Boot, Settings},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What a slave does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every reply begins so long after the request.
    After(Duration),
    /// One request in a hundred is answered up to this late.
    OneInHundredLate(Duration),
    WrongUnit,
    WrongFunction,
    /// Says and sends one register less; says and sends one more; says what is right and sends less.
    ShortCount,
    LongCount,
    Truncated,
    CorruptCrc,
    Silent,
    /// Random bytes before the reply, and sometimes at any time.
    Noise,
    /// Random bytes within the reply, one time in four.
    NoiseInside,
    /// The reply comes in two pieces, so far apart.
    Split(Duration),
    /// Says that another unit answers.
    Renamed,
    /// Misses a request that begins sooner than this after its last answer.
    NeedsGap(Duration),
    /// The same, behind a gateway that says so.
    NeedsGapBehindGateway(Duration),
    /// Random bytes instead of replies.
    OnlyNoise,
    Refuses(u8),
    /// Writes are carried out, and their reply is lost.
    MuteOnWrites,
    RefusesWrites(u8),
    /// Writes are acknowledged and forgotten.
    Forgetful,
}

#[derive(Debug)]
pub struct Slave {
    pub fault: Fault,
    pub latency: Duration,
    pub registers: BTreeMap<u16, u16>,
    pub writes: u32,
    /// Write requests, in order.
    pub seen: Vec<Vec<u8>>,
    /// Reads before the first write.
    pub reads_before: u32,
    /// It understands nothing else.
    pub settings: Option<Settings>,
    /// Reads that touch one of these are refused with 2.
    pub missing: BTreeSet<u16>,
    answered: Boot,
}

pub fn value(unit: u8, address: u16) -> u16 {
    u16::from(unit) * 2048 + address
}

/// splitmix64: small, seeded, good enough to choose faults.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn micros(&mut self, below: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(below.as_micros()).unwrap_or(1).max(1)))
    }

    #[allow(clippy::cast_possible_truncation)] // a random byte
    fn bytes(&mut self, n: u64) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

pub struct Bus {
    pub wire: Wire,
    pub slaves: BTreeMap<u8, Slave>,
    pub echoes: bool,
    /// The echo comes in one piece with the reply.
    pub glued: bool,
    pub requests: u64,
    pub rng: Rng,
    /// Bytes on their way, by the moment they are there.
    pending: BTreeMap<(Boot, u64), Vec<u8>>,
    count: u64,
    last_request_end: Boot,
    last_heard: Boot,
    /// Requests that began before the line had been silent for 3.5 characters.
    pub rude: u64,
}

impl Bus {
    pub fn new(wire: Wire, seed: u64) -> Bus {
        Bus {
            wire,
            slaves: BTreeMap::new(),
            echoes: false,
            glued: false,
            requests: 0,
            rng: Rng(seed),
            pending: BTreeMap::new(),
            count: 0,
            last_request_end: Boot(0),
            last_heard: Boot(0),
            rude: 0,
        }
    }

    pub fn add(&mut self, unit: u8) {
        let latency = Duration::from_millis(4);
        let slave = Slave {
            fault: Fault::None,
            latency,
            registers: BTreeMap::new(),
            writes: 0,
            seen: Vec::new(),
            reads_before: 0,
            settings: None,
            missing: BTreeSet::new(),
            answered: Boot(0),
        };
        self.slaves.insert(unit, slave);
    }

    pub fn first(&self) -> Option<Boot> {
        self.pending.keys().next().map(|(at, _)| *at)
    }

    pub fn take(&mut self, now: Boot) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(first) = self.pending.first_entry() {
            if first.key().0 > now {
                break;
            }
            self.last_heard = first.key().0;
            out.extend(first.remove());
        }
        out
    }

    /// A new connection: a Modbus TCP server forgets the old one, a serial server does not.
    pub fn reconnect(&mut self) {
        if self.wire.framing == Framing::Mbap {
            self.pending.clear();
        }
    }

    fn send(&mut self, start: Boot, bytes: &[u8]) {
        let mut from = 0;
        while from < bytes.len() {
            let piece = 1 + usize::try_from(self.rng.below(32)).unwrap_or(0);
            let to = (from + piece).min(bytes.len());
            self.count += 1;
            self.pending.insert((start + self.wire.time(to), self.count), bytes[from..to].to_vec());
            from = to;
        }
    }

    /// Bytes that nobody asked for.
    pub fn babble(&mut self, at: Boot, bytes: &[u8]) {
        self.send(at, bytes);
    }

    /// The master's frame, beginning on the wire now.
    pub fn frame(&mut self, now: Boot, frame: &[u8]) {
        if !self.wire.is_tcp && now - self.last_request_end.max(self.last_heard) < self.wire.silence {
            self.rude += 1;
        }
        let end = now + self.wire.time(frame.len());
        self.last_request_end = end;
        self.requests += 1;
        if self.echoes && !self.glued {
            self.send(now, frame);
        }
        if !self.understands(frame) {
            return;
        }
        let (head, unit, pdu) = match self.wire.framing {
            Framing::Mbap => (frame[..4].to_vec(), frame[6], &frame[7..]),
            Framing::Rtu => {
                assert_eq!(crc16(frame), 0, "the master's own checksum");
                (Vec::new(), frame[0], &frame[1..frame.len() - 2])
            }
        };
        if unit == 0 && self.wire.framing == Framing::Rtu {
            self.slaves.values_mut().for_each(|slave| drop(slave.reply(0, pdu)));
            return;
        }
        let Some(slave) = self.slaves.get_mut(&unit) else { return };
        if slave.settings.is_some() && slave.settings != self.wire.settings {
            return;
        }
        let (fault, latency) = (slave.fault, slave.latency);
        if matches!(fault, Fault::NeedsGap(gap) if now - slave.answered < gap) {
            return;
        }
        let is_hasty = matches!(fault, Fault::NeedsGapBehindGateway(gap) if now - slave.answered < gap);
        let Some(reply) = (if is_hasty { Some(vec![pdu[0] | 0x80, 0x0b]) } else { slave.reply(unit, pdu) }) else { return };
        let (delay, noise) = match fault {
            Fault::After(late) => (late, 0),
            Fault::OneInHundredLate(most) if self.rng.below(100) == 0 => (Duration::from_millis(300) + self.rng.micros(most), 0),
            Fault::Noise => (latency, self.rng.below(40)),
            _ => (latency, 0),
        };
        let start = end + delay + self.rng.micros(Duration::from_millis(2));
        let mut bytes = match fault {
            Fault::OnlyNoise => {
                let n = 1 + self.rng.below(60);
                self.rng.bytes(n)
            }
            _ => self.wrap(&head, unit, reply, fault),
        };
        let noise = self.rng.bytes(noise);
        if fault == Fault::Noise && self.rng.below(10) == 0 {
            let (late, stray) = (self.rng.micros(Duration::from_secs(1)), self.rng.bytes(5));
            self.send(end + late, &stray);
        }
        if fault == Fault::NoiseInside && self.rng.below(4) == 0 {
            let at = usize::try_from(self.rng.below(bytes.len() as u64)).unwrap_or(0);
            let stray = self.rng.bytes(3);
            bytes.splice(at..at, stray);
        }
        if self.glued {
            bytes.splice(0..0, frame.iter().copied());
            self.count += 1;
            self.pending.insert((start + self.wire.time(bytes.len()), self.count), bytes);
            return;
        }
        if let Fault::Split(pause) = fault {
            let rest = bytes.split_off(bytes.len() / 2);
            self.send(start, &bytes);
            self.send(start + self.wire.time(bytes.len()) + pause, &rest);
            return;
        }
        let all = [noise, bytes].concat();
        if !is_hasty {
            self.slaves.get_mut(&unit).expect("it answers").answered = start + self.wire.time(all.len());
        }
        self.send(start, &all);
    }

    /// Whether the frame is one in what is spoken here; another framing is noise to it.
    fn understands(&self, frame: &[u8]) -> bool {
        match self.wire.framing {
            Framing::Mbap => frame.get(2..4) == Some(&[0, 0]) && frame.get(5).is_some_and(|n| usize::from(*n) + 6 == frame.len()),
            Framing::Rtu if self.wire.is_tcp => crc16(frame) == 0,
            Framing::Rtu => true,
        }
    }

    /// The reply to a frame, right now.
    pub fn reply_to(&mut self, frame: &[u8], reply: &mut Vec<u8>) {
        if !frame.is_empty() {
            self.frame(Boot(0), frame);
            reply.extend(self.take(Boot(u64::MAX)));
        }
    }

    fn wrap(&mut self, head: &[u8], unit: u8, mut pdu: Vec<u8>, fault: Fault) -> Vec<u8> {
        let unit = if matches!(fault, Fault::WrongUnit | Fault::Renamed) { unit + 1 } else { unit };
        match fault {
            Fault::WrongFunction => pdu[0] ^= 7,
            // The others have no count.
            Fault::ShortCount if pdu[0] <= 4 => {
                pdu[1] -= 2;
                pdu.truncate(pdu.len() - 2);
            }
            Fault::LongCount if pdu[0] <= 4 => {
                pdu[1] += 2;
                pdu.extend([1, 2]);
            }
            Fault::Truncated => pdu.truncate(pdu.len() - 1),
            _ => {}
        }
        let mut frame = head.to_vec();
        if self.wire.framing == Framing::Mbap {
            frame.extend(u16::try_from(pdu.len() + 1).expect("short").to_be_bytes());
        }
        frame.push(unit);
        frame.extend(pdu);
        if self.wire.framing == Framing::Rtu {
            let crc = crc16(&frame) ^ if fault == Fault::CorruptCrc { 0x0100 } else { 0 };
            frame.extend(crc.to_le_bytes());
        } else if fault == Fault::CorruptCrc {
            // TCP has none: a broken header is its like.
            frame[3] = 9;
        }
        frame
    }
}

impl Slave {
    fn write(&mut self, unit: u8, pdu: &[u8]) {
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        let start = word(1);
        match pdu[0] {
            16 => self.registers.extend((0..word(3)).map(|n| (start + n, word(6 + usize::from(n) * 2)))),
            22 => {
                let old = self.registers.get(&start).copied().unwrap_or_else(|| value(unit, start));
                self.registers.insert(start, old & word(3) | word(5) & !word(3));
            }
            _ => {
                self.registers.insert(start, word(3));
            }
        }
    }

    fn reply(&mut self, unit: u8, pdu: &[u8]) -> Option<Vec<u8>> {
        let function = pdu[0];
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        let is_write = matches!(function, 5 | 6 | 15 | 16 | 22);
        // What it refuses it does not carry out, and may be asked again.
        if is_write && !matches!(self.fault, Fault::Silent | Fault::Refuses(_)) {
            self.seen.push(pdu.to_vec());
        } else if self.seen.is_empty() {
            self.reads_before += 1;
        }
        match self.fault {
            Fault::Silent => return None,
            Fault::Refuses(code) => return Some(vec![function | 0x80, code]),
            Fault::RefusesWrites(code) if is_write => {
                self.writes += 1;
                return Some(vec![function | 0x80, code]);
            }
            _ => {}
        }
        match function {
            17 => return Some(vec![17, 3, unit, 0xff, 9]),
            0x41 => return Some(vec![0x41, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            _ => {}
        }
        if is_write {
            self.writes += 1;
            if self.fault != Fault::Forgetful {
                self.write(unit, pdu);
            }
            let echo = if function == 22 { 7 } else { 5 };
            return (self.fault != Fault::MuteOnWrites).then(|| pdu[..echo].to_vec());
        }
        let words = (0..word(3)).map(|n| word(1) + n);
        if words.clone().any(|a| self.missing.contains(&a)) {
            return Some(vec![function | 0x80, 2]);
        }
        let data: Vec<u8> = words.flat_map(|a| self.registers.get(&a).copied().unwrap_or_else(|| value(unit, a)).to_be_bytes()).collect();
        let mut reply = vec![function, u8::try_from(data.len()).expect("short")];
        reply.extend(data);
        Some(reply)
    }
}
