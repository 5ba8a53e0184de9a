//! The real core in virtual time: the owner of these tests is a loop over a heap of moments.

mod bus;
mod chaos;
mod connections;
mod dead;
mod faults;
mod learning;
mod mixed;
mod orders;
mod replay;
mod site;
mod tcp;
mod writes;

use super::{
    core::Core,
    event::{Event, Want},
    exchange::Wire,
    testing,
};
use crate::{
    config::{Device, Line, Transport},
    model::{
        Boot, Bulk, DeviceId, Heard, Learned, LineState, Order, PointId, Quality, SiteAsk, SiteJob, SiteReport, Urgent, Value, WriteDone,
    },
};
use bus::{Bus, Fault, value};
use std::{collections::BTreeMap, time::Duration};

const MS: Duration = Duration::from_millis(1);

fn rtu(baud: u32) -> Transport {
    testing::serial_line(baud).transport
}

fn mbap() -> Transport {
    Transport::Tcp { host: "sim".into(), port: 502 }
}

fn rtu_over_tcp() -> Transport {
    Transport::RtuOverTcp { host: "sim".into(), port: 502 }
}

/// Whether the next `Want::Open` succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Refused,
    /// Accepted, and closed at once.
    Slammed,
}

struct Sim {
    core: Core,
    bus: Bus,
    now: Boot,
    door: Door,
    opened: u32,
    /// Events to tell the core at a moment, in order.
    script: Vec<(Boot, Scripted)>,
    readings: BTreeMap<DeviceId, u64>,
    wrong: Vec<String>,
    heard: Vec<(Boot, DeviceId, Heard)>,
    lines: Vec<(Boot, LineState, String)>,
    done: Vec<WriteDone>,
    site: Vec<(Boot, SiteAsk, SiteReport)>,
    facts: Vec<(Learned, bool)>,
    /// Values that came as Null, and how they were called.
    nulls: Vec<(PointId, Quality)>,
    closed: u32,
    /// Of the line, while the port is set to other settings.
    own: Option<Wire>,
    /// What is sent and heard, and the readings it gives, where a test wants them.
    tape: Option<super::capture::Capture>,
    told: Vec<(DeviceId, Vec<PointId>, Vec<Value>)>,
}

enum Scripted {
    Order(Order),
    Site(SiteJob),
    Lost(&'static str),
}

impl Sim {
    fn new(transport: Transport, devices: &[Device], seed: u64) -> Sim {
        Sim::on(&testing::line(transport), devices, &[], seed)
    }

    fn on(line: &Line, devices: &[Device], facts: &[Learned], seed: u64) -> Sim {
        let mut bus = Bus::new(Wire::new(&line.transport), seed);
        for device in devices {
            bus.add(device.unit);
        }
        Sim {
            core: Core::remembering(line, devices.to_vec(), facts),
            bus,
            now: Boot::from_ms(10_000),
            door: Door::Open,
            opened: 0,
            script: Vec::new(),
            readings: BTreeMap::new(),
            wrong: Vec::new(),
            heard: Vec::new(),
            lines: Vec::new(),
            done: Vec::new(),
            facts: Vec::new(),
            nulls: Vec::new(),
            closed: 0,
            own: None,
            tape: None,
            told: Vec::new(),
            site: Vec::new(),
        }
    }

    fn fault(&mut self, unit: u8, fault: Fault) {
        self.bus.slaves.get_mut(&unit).expect("added").fault = fault;
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn run_until(&mut self, end: Boot) {
        while self.now < end {
            self.turn(end);
        }
    }

    /// Until so many requests were sent in all.
    fn run_requests(&mut self, requests: u64) {
        let end = self.now + Duration::from_secs(10_000_000);
        while self.bus.requests < requests && self.now < end {
            self.turn(end);
        }
    }

    /// From the owner looking up to the owner sleeping.
    fn turn(&mut self, end: Boot) {
        let mut bytes = Vec::new();
        let mut lost = None;
        let mut order = None;
        let mut site = None;
        if self.script.first().is_some_and(|(at, _)| *at <= self.now) {
            match self.script.remove(0).1 {
                Scripted::Order(o) => order = Some(o),
                Scripted::Site(job) => site = Some(job),
                Scripted::Lost(reason) => lost = Some(reason),
            }
        }
        if order.is_none() && lost.is_none() && site.is_none() {
            bytes = self.bus.take(self.now);
        }
        if let Some(tape) = self.tape.as_ref().filter(|_| !bytes.is_empty()) {
            tape.put(self.now, false, &bytes);
        }
        let event = match (order, lost, site) {
            (Some(order), ..) => Event::Order(order),
            (_, Some(reason), _) => Event::Lost(reason),
            (.., Some(job)) => Event::Site(job),
            _ if bytes.is_empty() => Event::Time,
            _ => Event::Bytes(&bytes),
        };
        let mut want = self.core.step(self.now, event);
        loop {
            let event = match want {
                Want::Open => {
                    self.now = self.now + MS;
                    self.bus.reconnect();
                    self.opened += 1;
                    self.bus.wire = self.own.unwrap_or(self.bus.wire);
                    match self.door {
                        Door::Open => Event::Opened,
                        Door::Refused => Event::Failed("connection refused"),
                        Door::Slammed => {
                            let _ = self.core.step(self.now, Event::Opened);
                            Event::Lost("the peer closed the connection")
                        }
                    }
                }
                Want::Tune(settings) => {
                    self.own.get_or_insert(self.bus.wire);
                    self.bus.wire = Wire::set_to(&settings);
                    Event::Tuned
                }
                Want::Close => {
                    self.bus.reconnect();
                    self.closed += 1;
                    Event::Time
                }
                Want::Send(frame) | Want::SendSecret(frame) => {
                    self.bus.frame(self.now, frame);
                    if let Some(tape) = &self.tape {
                        tape.put(self.now, true, frame);
                    }
                    Event::Sent
                }
                Want::Silence(until) if until <= self.now && self.bus.first().is_none_or(|at| at > self.now) => {
                    // Before the next request changes what was read.
                    self.collect();
                    Event::Time
                }
                Want::Recv { earliest, until, .. } => {
                    self.sleep(until, earliest, end);
                    break;
                }
                Want::Silence(until) => {
                    self.sleep(until, until, end);
                    break;
                }
                Want::Idle(until) => {
                    self.sleep(until, self.now, end);
                    break;
                }
            };
            want = self.core.step(self.now, event);
        }
        self.collect();
    }

    /// Sleeps until bytes are there (but not before `earliest`), a scripted moment, or `until`. Threads wake a little late.
    fn sleep(&mut self, until: Boot, earliest: Boot, end: Boot) {
        let scripted = self.script.first().map_or(Boot(u64::MAX), |(at, _)| *at);
        let bytes = self.bus.first().unwrap_or(Boot(u64::MAX));
        let wake = bytes.max(earliest).min(until).min(scripted).min(end);
        self.now = self.now.max(wake) + self.bus.rng.micros(Duration::from_micros(300));
    }

    fn collect(&mut self) {
        for message in self.core.out.bulk.drain(..) {
            let Bulk::Reading(reading) = message else { panic!("a line gives readings only") };
            let unit = unit_of(&reading.device);
            if self.tape.is_some() {
                self.told.push((reading.device.clone(), reading.points.to_vec(), reading.values.clone()));
            }
            for (n, (point, got)) in reading.points.iter().zip(&reading.values).enumerate() {
                if *got == Value::Null {
                    self.nulls.push((point.clone(), reading.quality_of(n)));
                    continue;
                }
                let address: u16 = point.as_str()[1..].parse().expect("r<address>");
                let slave = &self.bus.slaves[&unit];
                let want = slave.registers.get(&address).copied().unwrap_or_else(|| value(unit, address));
                if *got != Value::Uint(want.into()) {
                    self.wrong.push(format!("{:?}: {}.{point} is {got:?}, not {want}", reading.at, reading.device));
                }
            }
            *self.readings.entry(reading.device).or_default() += 1;
        }
        for message in self.core.out.urgent.drain(..) {
            match message {
                Urgent::Poll { device, heard, at } => self.heard.push((at, device, heard)),
                Urgent::Line { state, reason, at, .. } => self.lines.push((at, state, reason)),
                Urgent::Done(done) => self.done.push(done),
                Urgent::Learned { fact, forget, .. } => self.facts.push((fact, forget)),
                other => panic!("a line does not say {other:?}"),
            }
        }
        let now = self.now;
        self.site.extend(self.core.out.site.drain(..).map(|told| (now, told.job.ask, told.report)));
        self.core.out.notes.clear();
        // Ten thousand silent polls need no history.
        if self.heard.len() > 1000 {
            self.heard.drain(..500);
        }
    }

    fn core_device(&self, unit: u8) -> DeviceId {
        DeviceId::parse(&format!("d{unit}")).expect("valid")
    }

    /// The figures of a device, by its place on the line.
    fn answers(&mut self, n: usize) -> super::figures::Answers {
        let mut all = Vec::new();
        super::event::Step::tell_devices(&mut self.core, &mut all);
        all[n].1
    }

    fn gap_of(&mut self, n: usize) -> Duration {
        self.answers(n).gap
    }

    fn total(&self) -> u64 {
        self.readings.values().sum()
    }

    /// Readings in the coming time.
    fn rate(&mut self, time: Duration) -> u64 {
        let before = self.total();
        self.run_for(time);
        self.total() - before
    }
}

/// Devices are named `d<unit>`.
fn unit_of(device: &DeviceId) -> u8 {
    device.as_str()[1..].parse().expect("d<unit>")
}

fn device(unit: u8, points: u16, poll: Duration) -> Device {
    Device { poll, ..testing::device(&format!("d{unit}"), unit, points) }
}
