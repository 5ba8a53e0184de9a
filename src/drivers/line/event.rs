//! The language between the core of a line and its owner.
//!
//! The owner calls `Core::step(now, event)`, does what the returned [`Want`] says, and reports what came of it by the
//! next event. Bytes may be reported at any time, also unasked. What the core has to tell others waits in [`Out`].
//! Any protocol that is driven like this is a [`Step`], and the same owners serve it.

use super::figures::{Answers, Counters, Usage};
pub use super::site::Told;
use crate::model::{Boot, Bulk, DeviceId, LineState, Order, Settings, SiteJob, Urgent};
use std::{collections::VecDeque, time::Duration};

#[derive(Debug)]
pub enum Event<'a> {
    /// The moment of the last want has come, or the owner looked up for another reason.
    Time,
    Bytes(&'a [u8]),
    /// The frame was handed to the port just now; the last bit leaves the wire later.
    Sent,
    Opened,
    /// It could not be opened, or not be set as was wanted, for this reason.
    Failed(&'a str),
    /// What is closed may be opened again now: its name has appeared.
    Appeared,
    /// It was open and is closed now, for this reason.
    Lost(&'a str),
    Order(Order),
    Site(SiteJob),
    /// The port is set as was wanted; what it had heard before is dropped.
    Tuned,
    /// The gateway stops: every order that waits is answered, nothing is begun any more.
    Stop,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// Close what is open, then open.
    Open,
    Send(&'a [u8]),
    /// The same, and what it carries is not for the eyes of those who look at frames.
    SendSecret(&'a [u8]),
    /// Close what is open; the time is the next event.
    Close,
    /// Set the open port so.
    Tune(Settings),
    /// Bytes: at least `need` more, which cannot all have come before `earliest`; give up at `until`.
    Recv {
        need: usize,
        earliest: Boot,
        until: Boot,
    },
    /// Nothing may be sent before this moment; read then what came meanwhile and report it, else the time.
    Silence(Boot),
    /// Nothing to do before this moment, except for orders and for bytes nobody asked for.
    Idle(Boot),
}

/// The core of a line, as its owner sees it.
pub trait Step: Send + 'static {
    /// What happened, and what is to be done now.
    fn step(&mut self, now: Boot, event: Event<'_>) -> Want<'_>;
    /// What waits to be handed over.
    fn out(&mut self) -> &mut Out;
    fn counters(&self) -> Counters;
    fn usage(&self) -> Usage;
    /// With the latest reason.
    fn line_state(&self) -> (LineState, &str);
    /// Whether what is heard now may repeat a secret.
    fn hears_secret(&self, _now: Boot) -> bool {
        false
    }
    /// Everything that was learned of the device is learned anew.
    fn forget(&mut self, _now: Boot, _device: &DeviceId) {}
    /// Brings the figures of devices up to date.
    fn tell_devices(&mut self, _figures: &mut Vec<(DeviceId, Answers)>) {}
    /// What was found to be spoken; empty where that is not found out.
    fn framing(&self) -> &'static str {
        ""
    }
}

/// A moment that never comes.
pub const NEVER: Boot = Boot(u64::MAX);

/// What the owner hands over to the engine. The owner empties it before it begins another request (a serial line lets a
/// few readings wait for company), so it stays about as short as what one step can say.
#[derive(Debug, Default)]
pub struct Out {
    pub urgent: VecDeque<Urgent>,
    pub bulk: VecDeque<Bulk>,
    pub notes: VecDeque<Note>,
    /// Reports to site tools; handing them over never waits.
    pub site: VecDeque<Told>,
}

/// For the log: changes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The unit answered later than its timeout, which is longer now.
    Slow {
        device: DeviceId,
        timeout: Duration,
    },
    /// Polls are replaced by probes.
    Dead {
        device: DeviceId,
    },
    Alive {
        device: DeviceId,
    },
    /// What a device says itself that it has (SunSpec).
    Chain {
        device: DeviceId,
        base: u16,
        models: usize,
        points: usize,
        /// Models without a definition here.
        unknown: Vec<u16>,
    },
    /// It does not say what it has.
    NoChain {
        device: DeviceId,
        why: &'static str,
    },
    /// The unit did not accept its setup; it is tried again.
    NotSetUp {
        device: DeviceId,
        reason: String,
    },
    /// It has accepted it now.
    SetUp {
        device: DeviceId,
    },
    /// The adapter hears itself.
    Echo,
    /// What is spoken on this connection was found out.
    Framing(&'static str),
    /// A gateway says that it has no path to the unit, or that it has one again.
    NoPath {
        device: DeviceId,
        is_gone: bool,
    },
    /// The silence after the unit's answers was lengthened.
    Gap {
        device: DeviceId,
        gap: Duration,
    },
    Up,
    Down {
        reason: String,
    },
}

impl Out {
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty() && self.notes.is_empty()
    }
}
