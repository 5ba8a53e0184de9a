//! A line's other end: units that answer with values that tell where they come from, and what goes wrong on the way.
//!
//! A telemetry register block holds unit, address and a count of answers, so a value of another unit, of another register
//! or of an earlier request is recognised at the door: it must be the answer to the very request that is on the wire.

use crate::{brain, dice::Dice, plan::Ill, world::World};
use fieldgate::{
    drivers::modbus::rtu,
    model::{Boot, Reading, Value},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// As configured for both lines; a late answer comes this long after its request and then some.
pub const TIMEOUT: Duration = Duration::from_millis(300);
/// The register that commands write. Those before it are telemetry, from it on each is a word that stays what it was set to.
pub const SETPOINT: u16 = 200;

/// What came of waiting.
#[derive(Debug)]
pub enum Came {
    Time,
    Bytes(Vec<u8>),
    Lost(&'static str),
}

pub struct Bus {
    pub name: &'static str,
    tcp: bool,
    world: Arc<World>,
    inner: Mutex<Inner>,
    changed: Notify,
}

struct Inner {
    dice: Dice,
    plugged: bool,
    lost: Option<&'static str>,
    /// On its way to the gateway, by arrival.
    coming: BTreeMap<(Boot, u64), Vec<u8>>,
    /// The second piece of an answer: nothing else comes between the two.
    rest: BTreeMap<u64, (Boot, Vec<u8>)>,
    /// The first piece was read.
    next: Option<(Boot, Vec<u8>)>,
    number: u64,
    units: BTreeMap<u8, Unit>,
    /// What the request on the wire was truly answered.
    answer: Option<Answer>,
}

#[derive(Debug, Default)]
struct Unit {
    ill: Option<(Ill, u64)>,
    answers: u32,
    /// How often a read of this address was refused by a code that may mean that there is nothing there.
    refused: BTreeMap<u16, u32>,
    /// From [`SETPOINT`] on.
    words: BTreeMap<u16, u16>,
}

#[derive(Debug, Clone)]
struct Answer {
    unit: u8,
    start: u16,
    words: Vec<u16>,
}

impl Bus {
    pub fn new(name: &'static str, tcp: bool, units: u8, seed: u64, world: Arc<World>) -> Bus {
        let units = (1..=units).map(|n| (n, Unit::default())).collect();
        let inner = Inner {
            dice: Dice::new(seed ^ u64::from(tcp)),
            plugged: true,
            lost: None,
            coming: BTreeMap::new(),
            rest: BTreeMap::new(),
            next: None,
            number: 0,
            units,
            answer: None,
        };
        Bus { name, tcp, world, inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_ill(&self, unit: u8, ill: Option<(Ill, u64)>) {
        if let Some(unit) = self.lock().units.get_mut(&unit) {
            unit.ill = ill;
        }
    }

    pub fn set_word(&self, unit: u8, address: u16, value: u16) {
        if let Some(unit) = self.lock().units.get_mut(&unit) {
            unit.words.insert(address, value);
        }
    }

    pub fn plug(&self, plugged: bool) {
        let mut inner = self.lock();
        inner.plugged = plugged;
        if !plugged {
            inner.cut("unplugged");
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Takes some time, as opening does.
    pub async fn open(&self) -> Result<(), &'static str> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut inner = self.lock();
        inner.cut("");
        inner.lost = None;
        if inner.plugged { Ok(()) } else { Err("nothing is plugged in") }
    }

    /// A request leaves the gateway.
    pub fn send(&self, frame: &[u8]) -> Came {
        let now = self.world.now();
        self.world.note(format!("{} > {}", self.name, hex(frame)));
        let mut inner = self.lock();
        if let Some(why) = inner.lost.take() {
            return Came::Lost(why);
        }
        if !inner.plugged {
            return Came::Lost("unplugged");
        }
        inner.answer = None;
        let (unit, pdu) = if self.tcp { (frame[6], &frame[7..]) } else { (frame[0], &frame[1..frame.len() - 2]) };
        let Some(state) = inner.units.get(&unit) else { return Came::Time };
        let ill = state.ill.filter(|(_, chance)| inner.dice.percent(*chance)).map(|(ill, _)| ill);
        let reply = inner.serve(&self.world, unit, pdu, ill);
        let reply = reply.map(|pdu| self.framed(frame, unit, &pdu));
        let latency = Duration::from_micros(inner.dice.range(4_000, 60_000));
        let wire = if self.tcp { Duration::ZERO } else { Duration::from_millis(frame.len() as u64 + 8) };
        let soon = now + latency + wire;
        match (ill, reply) {
            (Some(Ill::Silent | Ill::Mute), _) | (_, None) => inner.answer = None,
            (Some(Ill::Cut), _) => inner.cut("the peer closed the connection"),
            (Some(Ill::Late(by)), Some(reply)) => inner.come(soon + TIMEOUT + Duration::from_millis(by), reply),
            (Some(Ill::BadCrc), Some(mut reply)) => {
                let at = if self.tcp { 1 } else { reply.len() - 1 };
                reply[at] ^= 0x55;
                inner.answer = None;
                inner.come(soon, reply);
            }
            (Some(Ill::WrongUnit), Some(mut reply)) => {
                inner.answer = None;
                if self.tcp {
                    reply[6] = reply[6].wrapping_add(1);
                } else {
                    reply[0] = reply[0].wrapping_add(1);
                    let end = reply.len() - 2;
                    let crc = rtu::crc16(&reply[..end]).to_le_bytes();
                    reply[end..].copy_from_slice(&crc);
                }
                inner.come(soon, reply);
            }
            (Some(Ill::Short), Some(mut reply)) => {
                inner.answer = None;
                reply.truncate(reply.len() / 2);
                inner.come(soon, reply);
            }
            (Some(Ill::Noise), Some(reply)) => {
                let mut noisy = vec![0xff, 0x00, 0xa5];
                noisy.extend(reply);
                inner.come(soon, noisy);
            }
            (Some(Ill::Exception(_)) | None, Some(reply)) => {
                if inner.dice.percent(20) {
                    let at = reply.len() / 2;
                    let pause = Duration::from_millis(inner.dice.range(1, 15));
                    inner.come(soon, reply[..at].to_vec());
                    let number = inner.number;
                    inner.rest.insert(number, (soon + pause, reply[at..].to_vec()));
                } else {
                    inner.come(soon, reply);
                }
            }
        }
        drop(inner);
        self.changed.notify_waiters();
        Came::Time
    }

    fn framed(&self, request: &[u8], unit: u8, pdu: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.tcp {
            let length = u16::try_from(pdu.len() + 1).expect("short");
            out.extend([request[0], request[1], 0, 0]);
            out.extend(length.to_be_bytes());
            out.push(unit);
            out.extend(pdu);
        } else {
            out.push(unit);
            out.extend(pdu);
            out.extend(rtu::crc16(&out).to_le_bytes());
        }
        out
    }

    /// What is there, without waiting.
    pub fn look(&self) -> Option<Came> {
        let now = self.world.now();
        let mut inner = self.lock();
        if let Some(why) = inner.lost.take() {
            return Some(Came::Lost(why));
        }
        let mut bytes = Vec::new();
        while inner.due().is_some_and(|at| at <= now) {
            bytes.extend(inner.take());
        }
        if bytes.is_empty() {
            return None;
        }
        drop(inner);
        self.world.note(format!("{} < {}", self.name, hex(&bytes)));
        Some(Came::Bytes(bytes))
    }

    /// Waits for bytes, for the end of the connection or for the moment. Cancelling it loses nothing.
    pub async fn next(&self, until: Boot) -> Came {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(came) = self.look() {
                return came;
            }
            if self.world.now() >= until {
                return Came::Time;
            }
            let next = self.lock().due();
            let until = next.map_or(until, |at| at.min(until));
            tokio::select! {
                biased;
                () = changed => {}
                () = self.world.clock.sleep_until(until) => {}
            }
        }
    }

    /// A reading at the door: whether it says what the unit said to this request, word by word. What it refused twice may be
    /// told as not there.
    pub fn judge(&self, unit: u8, reading: &Reading) {
        let (answer, refused) = {
            let inner = self.lock();
            (inner.answer.clone(), inner.units.get(&unit).map(|u| u.refused.clone()).unwrap_or_default())
        };
        let is_refused = |point: &str| address_of(point).and_then(|address| refused.get(&address)).is_some_and(|times| *times >= 2);
        let wanted = |point: &str| -> Option<Value> {
            let answer = answer.as_ref().filter(|a| a.unit == unit)?;
            let address = address_of(point)?;
            let n = usize::from(address.checked_sub(answer.start)?);
            let words = answer.words.get(n..n + if address >= SETPOINT { 1 } else { 4 })?;
            Some(Value::Uint(words.iter().fold(0, |v, w| v << 16 | u64::from(*w))))
        };
        for (point, value) in reading.points.iter().zip(&reading.values) {
            let is_gone = *value == Value::Null && reading.quality.is_some() && is_refused(point.as_str());
            if !is_gone && wanted(point.as_str()).as_ref() != Some(value) {
                let want = wanted(point.as_str());
                self.world.violation(format!("wrong value at the door: {} {point} = {value:?}, served {want:?}", reading.device));
            }
        }
    }
}

pub fn address_of(point: &str) -> Option<u16> {
    point.strip_prefix('r')?.parse().ok()
}

impl Inner {
    fn come(&mut self, at: Boot, bytes: Vec<u8>) {
        self.number += 1;
        self.coming.insert((at, self.number), bytes);
    }

    fn due(&self) -> Option<Boot> {
        self.next.as_ref().map(|(at, _)| *at).or_else(|| self.coming.first_key_value().map(|((at, _), _)| *at))
    }

    fn take(&mut self) -> Vec<u8> {
        if let Some((_, rest)) = self.next.take() {
            return rest;
        }
        let Some(((_, number), bytes)) = self.coming.pop_first() else { return Vec::new() };
        self.next = self.rest.remove(&number);
        bytes
    }

    fn cut(&mut self, why: &'static str) {
        self.lost = Some(why);
        self.coming.clear();
        self.rest.clear();
        self.next = None;
        self.answer = None;
    }

    /// The unit's answer PDU, carried out.
    fn serve(&mut self, world: &World, unit: u8, pdu: &[u8], ill: Option<Ill>) -> Option<Vec<u8>> {
        let state = self.units.get_mut(&unit)?;
        let word = |n: usize| u16::from_be_bytes([pdu[n], pdu[n + 1]]);
        let refusal = match ill {
            Some(Ill::Exception(code)) => Some(code),
            _ => None,
        };
        if matches!(pdu[0], 6 | 16) {
            let (address, value) = (word(1), if pdu[0] == 6 { word(3) } else { word(6) });
            let executed = ill != Some(Ill::Silent) && refusal.is_none_or(|code| matches!(code, 5 | 11));
            let busy = refusal.is_some_and(|code| matches!(code, 6 | 10));
            if address == SETPOINT {
                wrote(world, value, executed, busy);
            } else {
                brain::wrote(world, address, value, executed, busy);
            }
            if executed {
                state.words.insert(address, value);
            }
        }
        if ill == Some(Ill::Silent) {
            return None;
        }
        if let Some(code) = refusal {
            if pdu[0] == 3 && code <= 3 {
                (word(1)..word(1) + word(3)).for_each(|address| *state.refused.entry(address).or_default() += 1);
            }
            return Some(vec![pdu[0] | 0x80, code]);
        }
        match pdu[0] {
            6 => Some(pdu.to_vec()),
            16 => Some(pdu[..5].to_vec()),
            3 => {
                let (start, count) = (word(1), word(3));
                state.answers += 1;
                let words: Vec<u16> = (start..start + count)
                    .map(|address| {
                        let block = [u16::from(unit), address - address % 4, (state.answers >> 16) as u16, (state.answers & 0xffff) as u16];
                        if address >= SETPOINT { state.words.get(&address).copied().unwrap_or(0) } else { block[usize::from(address % 4)] }
                    })
                    .collect();
                let mut out = vec![3, u8::try_from(count * 2).expect("at most 125 words")];
                out.extend(words.iter().flat_map(|w| w.to_be_bytes()));
                if matches!(ill, None | Some(Ill::Noise)) {
                    brain::served(world, start, &words);
                }
                self.answer = Some(Answer { unit, start, words });
                Some(out)
            }
            other => Some(vec![other | 0x80, 1]),
        }
    }
}

/// A write frame is on the wire.
fn wrote(world: &World, value: u16, executed: bool, busy: bool) {
    let now = world.now();
    let mut log = world.log();
    let Some(id) = log.writers.get(&value).cloned() else {
        drop(log);
        return world.violation(format!("a write of {value}, which no command asked for"));
    };
    let asked = log.commands.get_mut(&id).expect("writers name commands");
    asked.frames.push((now, busy));
    asked.executed += u32::from(executed);
    let deadline = asked.orders.last().copied();
    if std::mem::take(&mut log.kill_at_write) {
        world.kill.notify_one();
    }
    drop(log);
    if deadline.is_none_or(|at| now > at) {
        world.violation(format!("command {id} was begun after its deadline, or without an order ({deadline:?}, now {now:?})"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
