//! What everybody in a simulation shares: the clock, the trace, and a log of what really happened, for the checkers.

use fieldgate::{
    model::{Boot, Cause, DeviceId, LineState, Settled, State, Value},
    system::clock::{Clock, Wall},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};
use tokio::{sync::Notify, time::Instant};

/// True wall time at the start of every simulation.
pub const WALL_MS: i64 = 1_795_255_200_000;
/// The boot clock then.
pub const BASE: Boot = Boot(50_000_000_000);

/// A sample is named by device, point and the millisecond of its reading: no device reads a point twice in one.
pub type Name = (String, String, u64);

#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    pub value: Value,
    pub life: usize,
    pub at: Boot,
    /// Every reading of this point goes upstream, so this one must arrive.
    pub due: bool,
    /// A publication, by its number: due only if its receipt was kept.
    pub publication: Option<u64>,
}

/// A command as the cloud sent it, and what the field saw of it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub body: String,
    /// The only value that this command writes, and no other one.
    pub value: Option<u16>,
    pub issued: u64,
    pub expires_ms: u64,
    pub dated: bool,
    /// Write frames on the wire: when, and whether the unit refused it as "not executed" (6, 10).
    pub frames: Vec<(Boot, bool)>,
    pub executed: u32,
    /// The deadlines under which the engine handed it to a line.
    pub orders: Vec<Boot>,
}

/// What a rule or a schedule had handed to a line, and what the field saw of it.
#[derive(Debug, Clone)]
pub struct Handed {
    pub id: String,
    pub life: usize,
    pub at: Boot,
    pub deadline: Boot,
    /// Write frames on the wire: value, and whether the unit refused it as "not executed" (6, 10).
    pub frames: Vec<(u16, bool)>,
    pub executed: u32,
    /// After its last frame the unit answered a read with what was to be written.
    pub held: bool,
}

/// A message at the broker.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub at: Boot,
    pub life: usize,
    pub link: u64,
    pub topic: String,
    pub body: Vec<u8>,
    /// When its acknowledgement reached the gateway.
    pub acknowledged: Option<Boot>,
}

/// The end of one run of the process.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub at: Boot,
    pub clean: bool,
    /// Since when the spool's file could not be written.
    pub spool_full_since: Option<Boot>,
}

#[derive(Debug, Default)]
pub struct Log {
    pub lines: Vec<String>,
    hash: u64,
    pub violations: Vec<String>,
    /// The run of the process, from 0.
    pub life: usize,
    /// One for each life.
    pub epochs: Vec<String>,
    pub begins: Vec<Boot>,
    pub ends: Vec<End>,
    /// The highest numbers of the last life: telemetry, events.
    pub highest: [u64; 2],
    /// Samples that the last life sealed.
    pub sealed: u64,
    pub taken: BTreeMap<Name, Taken>,
    /// Signs of life of polled devices that the line took.
    pub signs: Vec<(DeviceId, Boot)>,
    /// Polls that got no valid answer.
    pub misses: Vec<(DeviceId, Boot)>,
    /// What lines said of themselves: the life, the line, whether it is up, since when.
    pub lines_said: Vec<(usize, &'static str, LineState, Boot)>,
    /// Every change of a device that the gateway kept, oldest first.
    pub moves: Vec<(String, State, Option<Cause>, Boot)>,
    /// In order.
    pub handed: Vec<Handed>,
    pub receipts: BTreeMap<u64, Settled>,
    pub commands: BTreeMap<String, Asked>,
    /// Which command writes this value.
    pub writers: BTreeMap<u16, String>,
    pub arrivals: Vec<Arrival>,
    pub kill_at_write: bool,
    pub kill_at_publish: Option<u64>,
    /// Lives in which the state's file took no writes for a time: events of that time are lost.
    pub state_full: BTreeSet<usize>,
}

pub struct World {
    pub clock: Clock,
    wall: &'static Wall,
    log: Mutex<Log>,
    /// Rung by whatever finds that now is the moment.
    pub kill: Notify,
}

impl World {
    pub fn new() -> World {
        // A few bytes for each seed, so that the clock stays a plain value.
        let wall: &'static Wall = Box::leak(Box::default());
        let clock = Clock::Stepped { start: Instant::now(), base: BASE, wall };
        let world = World { clock, wall, log: Mutex::default(), kill: Notify::new() };
        world.step_clock(0, true);
        world
    }

    pub fn now(&self) -> Boot {
        self.clock.now()
    }

    /// Virtual milliseconds since the start.
    pub fn ms(&self) -> u64 {
        self.now().ms() - BASE.ms()
    }

    /// The wall time of whoever is not fooled.
    pub fn true_wall_ms(&self) -> i64 {
        WALL_MS + i64::try_from(self.ms()).expect("minutes")
    }

    pub fn step_clock(&self, days: i64, synchronised: bool) {
        self.shift_clock(days * 86_400, synchronised);
    }

    pub fn shift_clock(&self, seconds: i64, synchronised: bool) {
        let base = i64::try_from(BASE.ms()).expect("fits");
        self.wall.offset_ms.store(WALL_MS - base + seconds * 1000, Ordering::Relaxed);
        self.wall.synchronised.store(synchronised, Ordering::Relaxed);
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of the trace. All of them together make the hash.
    pub fn note(&self, text: impl AsRef<str>) {
        let now = self.now().0 - BASE.0;
        self.log().note(now, text.as_ref());
    }

    pub fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        self.note(format!("VIOLATION {text}"));
        self.log().violations.push(text);
    }
}

impl Log {
    fn note(&mut self, now_us: u64, text: &str) {
        let line = format!("{:>12.6} {text}", std::time::Duration::from_micros(now_us).as_secs_f64());
        // FNV-1a: the same on every build.
        let start = if self.hash == 0 { 0xcbf2_9ce4_8422_2325 } else { self.hash };
        self.hash = line.bytes().fold(start, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.lines.push(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}
