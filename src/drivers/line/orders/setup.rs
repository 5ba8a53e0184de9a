//! Setup writes: what a device needs to hear after each connect and whenever it came back, before its polls.
//!
//! ```text
//! Idle --connected, came back--> Due --all accepted--> Idle
//!                                 `--one is not--> Failing, all again after 1 s .. 60 s     (any) --silent for good--> Asleep
//! ```
//!
//! While `Due`, the device's polls and orders wait. While `Failing` they go on, unless the setup is required. Unlike a
//! command's write these are sent again: the operator lists only what may be.

use super::{
    Verdict,
    words::{exception, fixed},
};
use crate::{
    config::{Device, FixedWrite},
    drivers::modbus::Ask,
    limits,
    model::Boot,
};
use std::time::Duration;

/// So many connections in a row may be new right after a setup was begun.
const HURRIED: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Due,
    Failing,
    /// The device is probed: its first sign of life makes the setup due.
    Asleep,
}

#[derive(Debug)]
struct Setup {
    writes: Vec<FixedWrite>,
    required: bool,
    state: State,
    /// Which of the writes is next.
    at: usize,
    not_before: Boot,
    pause: Duration,
    /// When it was begun last, and how many connections in a row were new so soon after that.
    begun: Option<Boot>,
    hurried: u8,
    /// Its failure was said since the last success.
    said: bool,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Nothing,
    /// It works again after a failure that was said.
    Works,
    Fails(String),
}

#[derive(Debug, Default)]
pub struct Setups {
    /// By device.
    all: Vec<Setup>,
    is_empty: bool,
}

impl Setups {
    pub fn new(devices: &[Device]) -> Setups {
        let setup = |d: &Device| Setup {
            writes: d.setup.clone(),
            required: d.setup_required,
            state: State::Idle,
            at: 0,
            not_before: Boot(0),
            pause: limits::SETUP_RETRY_MIN,
            begun: None,
            hurried: 0,
            said: false,
        };
        Setups { all: devices.iter().map(setup).collect(), is_empty: devices.iter().all(|d| d.setup.is_empty()) }
    }

    /// No device has a setup.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The line was opened. Where each connection ends soon after its setup, setups alone would fill them all: polls go on
    /// then, and the setup is tried now and then.
    pub fn connected(&mut self, now: Boot) {
        for n in 0..self.all.len() {
            self.due(now, n);
            let setup = &mut self.all[n];
            let is_soon = setup.begun.is_some_and(|begun| now - begun < limits::SETUP_RETRY_MIN);
            setup.hurried = if is_soon { setup.hurried.saturating_add(1) } else { 0 };
            if setup.hurried > HURRIED && !setup.writes.is_empty() {
                (setup.state, setup.not_before) = (State::Failing, now + limits::SETUP_RETRY_MIN);
            }
        }
    }

    /// The next write of the device goes out.
    pub fn begin(&mut self, now: Boot, device: usize) -> Ask {
        self.all[device].begun = Some(now);
        self.ask(device)
    }

    /// The device came back. If its setup is what it answered, that goes on.
    pub fn came_back(&mut self, now: Boot, device: usize) {
        if self.all[device].state == State::Asleep {
            self.due(now, device);
        }
    }

    fn due(&mut self, now: Boot, device: usize) {
        let setup = &mut self.all[device];
        if !setup.writes.is_empty() {
            (setup.state, setup.at, setup.not_before) = (State::Due, 0, now);
            setup.pause = limits::SETUP_RETRY_MIN;
        }
    }

    /// The device is silent for good.
    pub fn asleep(&mut self, device: usize) {
        if !self.all[device].writes.is_empty() {
            self.all[device].state = State::Asleep;
        }
    }

    pub fn holds_polls(&self, device: usize) -> bool {
        let setup = &self.all[device];
        setup.state == State::Due || setup.state == State::Failing && setup.required
    }

    pub fn holds_orders(&self, device: usize) -> bool {
        self.holds_polls(device) || self.all[device].state == State::Asleep && self.all[device].required
    }

    pub fn is_required(&self, device: usize) -> bool {
        self.all[device].required
    }

    /// The device whose turn it is. `free_at`: when it may be written to.
    pub fn pick(&self, now: Boot, free_at: impl Fn(usize) -> Boot) -> Option<usize> {
        (0..self.all.len()).find(|n| self.ready_at(*n, &free_at).is_some_and(|at| at <= now))
    }

    /// When to look again.
    pub fn wake(&self, free_at: impl Fn(usize) -> Boot) -> Boot {
        let moments = (0..self.all.len()).filter_map(|n| self.ready_at(n, &free_at));
        moments.min().unwrap_or(Boot(u64::MAX))
    }

    fn ready_at(&self, n: usize, free_at: impl Fn(usize) -> Boot) -> Option<Boot> {
        let setup = &self.all[n];
        matches!(setup.state, State::Due | State::Failing).then(|| setup.not_before.max(free_at(n)))
    }

    /// The next write of the device.
    fn ask(&self, device: usize) -> Ask {
        let setup = &self.all[device];
        fixed(&setup.writes[setup.at.min(setup.writes.len() - 1)])
    }

    /// Whether that carries a secret.
    pub fn is_secret(&self, device: usize) -> bool {
        let setup = &self.all[device];
        setup.writes.get(setup.at).is_some_and(|w| w.secret)
    }

    pub fn verdict(&mut self, now: Boot, device: usize, verdict: Verdict<'_>) -> Told {
        let setup = &mut self.all[device];
        // Another connection or a silent device overtook it.
        if !matches!(setup.state, State::Due | State::Failing) {
            return Told::Nothing;
        }
        let why = match verdict {
            Verdict::Written | Verdict::Broadcast | Verdict::Data(_) => {
                setup.at += 1;
                if setup.at < setup.writes.len() {
                    return Told::Nothing;
                }
                (setup.state, setup.at, setup.pause) = (State::Idle, 0, limits::SETUP_RETRY_MIN);
                return if std::mem::take(&mut setup.said) { Told::Works } else { Told::Nothing };
            }
            Verdict::Exception(code) => exception(code),
            Verdict::NoReply(why) => why,
        };
        let place = setup.writes.get(setup.at).map(|w| w.register.to_string()).unwrap_or_default();
        (setup.state, setup.at, setup.not_before) = (State::Failing, 0, now + setup.pause);
        setup.pause = (setup.pause * 2).min(limits::SETUP_RETRY_MAX);
        if std::mem::replace(&mut setup.said, true) { Told::Nothing } else { Told::Fails(format!("{place}: {why}")) }
    }
}
