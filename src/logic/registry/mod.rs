//! Decides which devices are online.
//!
//! Two monitors side by side: silence (a device's own time AND, for what is polled, two missed polls), and what the
//! device or its will says (at once). The later one wins.
//!
//! ```text
//!              evidence                 overdue                 both limits past
//!  unknown ───────────────► online ◄──────────────► suspect ───────────────────► offline (silent)
//!    ▲  │                     ▲   evidence                                          │
//!    │  └── grace over, ──────┼───────────────────────────────────────────────► ────┤
//!    │      both limits past  └────────────────── evidence ─────────────────────────┘
//!    └── the line is down (from any state), or the gateway started     says offline: offline (said), from any state
//! ```
//!
//! *Overdue* is half of the allowed silence and at least one and a half polls, with two polls missed; for what speaks by
//! itself three quarters of the allowed silence. A device without an allowed silence is never judged by silence. What
//! answers when it is asked is pinged half-way and once more when it is overdue.
//!
//! ```text
//!            more changes than `flaps`                 no change for `stable_for`
//!  told one  ────────────────────────► flapping: kept, ──────────────────────────► what it is then, if that is news
//!  by one      alarm raised            not told           alarm cleared
//!
//!  offline for `alarm_after`: alarm raised ──── online for `stable_for` ────► alarm cleared
//!
//!  any state ── a person ──► unknown (maintenance) ── its end, or a person ──► online (heard meanwhile), offline (said),
//!               both alarms cleared, nothing judged                            unknown (line_down), else unknown (restored)
//! ```
//!
//! Invariants: one effect per transition, never two equal ones in a row; nothing is called offline by silence unless
//! its observer could have seen it; a line that goes down is one announcement, whatever hangs on it. Its devices go to
//! `unknown` quietly, and one that comes back to what was announced last does so quietly too: the line's own event
//! speaks for it. An alarm is raised once and cleared once.
//! Absent on purpose: clocks, SQLite, MQTT. The engine supplies times and carries the effects out.

mod devices;
mod entry;
#[cfg(test)]
mod tests;

use crate::model::{Alarm, AlarmKind, Boot, Cause, DeviceId, DeviceStatus, Evidence, EvidenceKind, LineId, LineState, State};
use devices::Devices;
pub use devices::Seat;
use entry::{Entry, NEVER, Step};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// The line id under which the local broker reports; its devices are those that messages registered.
pub const LOCAL_BROKER: &str = "mqtt";

/// How a device is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Watch {
    /// What it hangs on; when that is down nobody can see it.
    pub line: Option<LineId>,
    /// How often it is asked (zero: as fast as the line allows); `None`: it speaks by itself.
    pub poll: Option<Duration>,
    /// The silence it is allowed. `None`: never offline by silence.
    pub offline_after: Option<Duration>,
    /// Offline for so long, it is an alarm. `None`: never.
    pub alarm_after: Option<Duration>,
    /// It answers when it is asked: a mains device that speaks only when something happens.
    pub pinged: bool,
}

impl Watch {
    /// Whether it allows less silence.
    pub fn is_shorter_than(&self, allowed: Option<Duration>) -> bool {
        allowed.is_some_and(|allowed| self.offline_after.is_none_or(|now| now < allowed))
    }
}

/// What holds for all devices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// More changes than these within the window, and a device flaps. 0: it is never said to.
    pub flaps: u32,
    pub flap_window: Duration,
    /// Without a change for so long, it does not flap any more; online for so long, it is not offline any more.
    pub stable_for: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { flaps: 10, flap_window: Duration::from_secs(600), stable_for: Duration::from_secs(300) }
    }
}

impl Rules {
    /// What one change adds.
    fn each(&self) -> Option<Duration> {
        self.flap_window.checked_div(self.flaps)
    }
}

/// What a device or its will said about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saying {
    pub online: bool,
    pub will: bool,
    pub retained: bool,
    pub session: Option<u64>,
    pub at: Boot,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A device moved. With `announce` it gets an event of its own; without, the row is kept and nobody is told.
    Device {
        status: DeviceStatus,
        announce: bool,
    },
    /// It did not move, but what it is was not told while it flapped.
    Announce(DeviceStatus),
    /// A line went up or down. Precedes the quiet moves of its devices.
    Line {
        line: LineId,
        state: LineState,
        reason: String,
        at: Boot,
    },
    Alarm(Alarm),
    /// Its time was over, and what follows from that comes next.
    Maintained {
        device: DeviceId,
        at: Boot,
    },
    /// It is to be asked whether it is there.
    Ping {
        device: DeviceId,
    },
}

#[derive(Debug, Default)]
pub struct Registry {
    rules: Rules,
    devices: Devices,
    /// Many devices are watched alike.
    watches: BTreeSet<Arc<Watch>>,
    lines: BTreeMap<LineId, (LineState, String)>,
    /// At most one entry per device, never later than its real deadline: it is moved only when it fires, so that
    /// hearing a device costs no tree operation.
    due: BTreeSet<(Boot, Seat)>,
}

/// Why a device on this line is unknown while the line is down.
fn down_cause(line: &LineId) -> Cause {
    if line.as_str() == LOCAL_BROKER { Cause::BrokerDown } else { Cause::LineDown }
}

impl Registry {
    pub fn new(rules: Rules) -> Registry {
        Registry { rules, ..Registry::default() }
    }

    /// Adds a device that nobody has heard yet, or gives a known one another watch. `evidence` is what is remembered
    /// of it, on this boot's clock.
    pub fn watch(&mut self, now: Boot, id: &DeviceId, watch: Watch, evidence: Option<Evidence>) {
        let down = watch.line.as_ref().is_some_and(|l| self.is_down(l));
        let watch = self.shared(watch);
        let seat = match self.devices.get_mut(id) {
            Some((seat, entry)) => {
                (entry.watch, entry.blind) = (watch, down);
                seat
            }
            None => self.devices.insert(id.clone(), Entry::new(now, watch, evidence, down)),
        };
        self.rearm(seat, now);
    }

    fn shared(&mut self, watch: Watch) -> Arc<Watch> {
        if let Some(known) = self.watches.get(&watch) {
            return Arc::clone(known);
        }
        let watch = Arc::new(watch);
        self.watches.insert(Arc::clone(&watch));
        watch
    }

    /// An alarm that was raised before the restart and is not over.
    pub fn remember(&mut self, id: &DeviceId, alarm: AlarmKind, now: Boot) {
        let Some((seat, entry)) = self.devices.get_mut(id) else { return };
        match alarm {
            AlarmKind::Flapping => entry.flapping = true,
            AlarmKind::Offline => entry.alarmed = true,
            AlarmKind::Rule | AlarmKind::Paused => {}
        }
        self.rearm(seat, now);
    }

    /// Not judged until then, or until [`Registry::resume`]. False: there is no such device.
    pub fn maintain(&mut self, id: &DeviceId, until: Option<Boot>, at: Boot, out: &mut Vec<Effect>) -> bool {
        let Some((seat, entry)) = self.devices.get_mut(id) else { return false };
        for (kind, raised) in [(AlarmKind::Flapping, entry.flapping), (AlarmKind::Offline, entry.alarmed)] {
            out.extend(raised.then(|| alarm(id, kind, false, at, "in maintenance".into())));
        }
        out.extend(entry.maintain(id, until.unwrap_or(NEVER), at));
        self.rearm(seat, at);
        true
    }

    /// Judged again. False: it was.
    pub fn resume(&mut self, id: &DeviceId, at: Boot, out: &mut Vec<Effect>) -> bool {
        let Some((seat, entry)) = self.devices.get_mut(id) else { return false };
        let Some(effect) = entry.resume(id, at) else { return false };
        out.push(effect);
        self.rearm(seat, at);
        true
    }

    pub fn count(&self) -> usize {
        self.devices.len()
    }

    pub fn contains(&self, id: &DeviceId) -> bool {
        self.devices.get(id).is_some()
    }

    /// `None`: there is no such device.
    pub fn seat(&self, id: &DeviceId) -> Option<Seat> {
        self.devices.seat(id)
    }

    pub fn watch_of(&self, id: &DeviceId) -> Option<&Watch> {
        self.devices.get(id).map(|e| &*e.watch)
    }

    pub fn status(&self, id: &DeviceId) -> Option<DeviceStatus> {
        self.devices.get(id).map(|e| e.status(id))
    }

    pub fn statuses(&self) -> impl Iterator<Item = DeviceStatus> + '_ {
        self.statuses_after(None)
    }

    /// Those behind this one, in order of id.
    pub fn statuses_after(&self, last: Option<&DeviceId>) -> impl Iterator<Item = DeviceStatus> + '_ {
        self.devices.after(last).map(|(id, e)| e.status(id))
    }

    /// Devices with alarms that are raised.
    pub fn alarms(&self) -> impl Iterator<Item = (&DeviceId, AlarmKind)> + '_ {
        self.devices.after(None).flat_map(|(id, e)| {
            let both = [(e.flapping, AlarmKind::Flapping), (e.alarmed, AlarmKind::Offline)];
            both.into_iter().filter(|(raised, _)| *raised).map(move |(_, kind)| (id, kind))
        })
    }

    pub fn lines(&self) -> impl Iterator<Item = (&LineId, LineState, &str)> + '_ {
        self.lines.iter().map(|(id, (state, reason))| (id, *state, reason.as_str()))
    }

    /// A sign of life. Called for every reading: one look-up while the device is online. True if the device came back
    /// from where nothing was known of it.
    pub fn heard(&mut self, id: &DeviceId, kind: EvidenceKind, at: Boot, out: &mut Vec<Effect>) -> bool {
        let Some((seat, entry)) = self.devices.get_mut(id) else { return false };
        entry.hear(kind, at) && self.come_back(seat, at, out)
    }

    /// The same for a message of a device that `allowed` so much silence, and where it sits, in one look-up. `None`, and nothing is
    /// done: it is not there, or is allowed less by now.
    pub fn heard_of_known(&mut self, id: &DeviceId, allowed: Option<Duration>, at: Boot, out: &mut Vec<Effect>) -> Option<(Seat, bool)> {
        let (seat, entry) = self.devices.get_mut(id)?;
        if entry.watch.is_shorter_than(allowed) {
            return None;
        }
        Some((seat, entry.hear(EvidenceKind::Message, at) && self.come_back(seat, at, out)))
    }

    /// One that was heard is online. True if nothing was known of it before.
    fn come_back(&mut self, seat: Seat, at: Boot, out: &mut Vec<Effect>) -> bool {
        let back = self.devices.at(seat).1.state != State::Suspect;
        self.turn(seat, State::Online, None, at, out);
        self.rearm(seat, at);
        back
    }

    /// A poll or probe that got no valid answer. What follows from it is judged by [`Registry::expire`]: evidence from
    /// before the miss may still wait in a queue.
    pub fn missed(&mut self, id: &DeviceId, at: Boot) {
        let Some((seat, entry)) = self.devices.get_mut(id) else { return };
        if entry.miss(at) {
            self.rearm(seat, at);
        }
    }

    /// A status message or a will. True if the device came back by it.
    pub fn said(&mut self, id: &DeviceId, saying: Saying, out: &mut Vec<Effect>) -> bool {
        let Some((seat, entry)) = self.devices.get_mut(id) else { return false };
        if !entry.believes(saying) {
            return false;
        }
        if saying.online {
            return entry.hear(EvidenceKind::Status, saying.at) && self.come_back(seat, saying.at, out);
        }
        if !saying.retained {
            let kind = if saying.will { EvidenceKind::Will } else { EvidenceKind::Status };
            entry.evidence = Some(Evidence { kind, at: saying.at });
            entry.not_before = saying.at;
        }
        if entry.state != State::Offline && !entry.is_maintained() {
            self.turn(seat, State::Offline, Some(Cause::Said), saying.at, out);
            self.rearm(seat, saying.at);
        }
        false
    }

    /// A line, or the local broker, went up or down.
    pub fn line(&mut self, line: &LineId, state: LineState, reason: &str, at: Boot, out: &mut Vec<Effect>) {
        let before = self.lines.insert(line.clone(), (state, reason.to_owned())).map(|(s, _)| s);
        if before == Some(state) || (before.is_none() && state == LineState::Unknown) {
            return;
        }
        out.push(Effect::Line { line: line.clone(), state, reason: reason.to_owned(), at });
        let cause = down_cause(line);
        let mut again = vec![];
        self.devices.each(|seat, id, entry| {
            if entry.watch.line.as_ref() != Some(line) {
                return;
            }
            match state {
                LineState::Down => {
                    entry.blind = true;
                    entry.not_before = at;
                    entry.missed = 0;
                    if !entry.is_maintained() && (entry.state, entry.cause) != (State::Unknown, Some(cause)) {
                        out.push(entry.turn_quietly(id, State::Unknown, Some(cause), at));
                    }
                }
                LineState::Up | LineState::Unknown => {
                    entry.blind = false;
                    entry.grace(at);
                    again.push(seat);
                }
            }
        });
        again.into_iter().for_each(|seat| self.rearm(seat, at));
    }

    /// When [`Registry::expire`] must be called next. It may find nothing to do then.
    pub fn next_due(&self) -> Option<Boot> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Judges silence, but only as of `upto`: evidence that waits in a queue must not be overtaken by its own timer.
    /// At most so many devices: the others are due, and come with the next call.
    pub fn expire(&mut self, upto: Boot, most: usize, out: &mut Vec<Effect>) {
        for _ in 0..most {
            if self.due.first().is_none_or(|(at, _)| *at > upto) {
                return;
            }
            let Some((_, seat)) = self.due.pop_first() else { return };
            self.devices.at(seat).1.due = NEVER;
            self.look(seat, upto, out);
        }
    }

    /// The observer did not look for so long (a suspended process, a throttled door): no silence counts for that time.
    pub fn blind(&mut self, gap: Duration, now: Boot) {
        self.devices.each(|_, _, entry| {
            let later = (entry.anchor() + gap).min(now);
            entry.grace_from = entry.grace_from.max(later);
        });
    }

    /// Does what is to be done now.
    fn look(&mut self, seat: Seat, now: Boot, out: &mut Vec<Effect>) {
        loop {
            let (id, entry) = self.devices.at(seat);
            match entry.step(now, &self.rules) {
                Step::Wait(_) => break,
                Step::Turn(state) => self.turn(seat, state, Some(Cause::Silent), now, out),
                Step::Ping => {
                    entry.ping();
                    out.push(Effect::Ping { device: id.clone() });
                }
                Step::Calm => {
                    let news = entry.calm(now);
                    let told = news.then(|| Effect::Announce(entry.status(id)));
                    out.push(alarm(id, AlarmKind::Flapping, false, now, format!("it is {} and stays so", entry.state.word())));
                    out.extend(told);
                }
                Step::Raise => {
                    entry.alarmed = true;
                    let since = now.since(entry.status(id).since).as_secs();
                    out.push(alarm(id, AlarmKind::Offline, true, now, format!("offline for {since} s")));
                }
                Step::Clear => {
                    entry.alarmed = false;
                    out.push(alarm(id, AlarmKind::Offline, false, now, format!("it is {} and stays so", entry.state.word())));
                }
                Step::Resume => {
                    out.push(Effect::Maintained { device: id.clone(), at: now });
                    out.extend(entry.resume(id, now));
                }
            }
        }
        self.rearm(seat, now);
    }

    fn turn(&mut self, seat: Seat, state: State, cause: Option<Cause>, at: Boot, out: &mut Vec<Effect>) {
        let (id, entry) = self.devices.at(seat);
        let (effect, begins) = entry.turn(id, state, cause, at, &self.rules);
        out.push(effect);
        if begins {
            let (flaps, window) = (self.rules.flaps, self.rules.flap_window.as_secs());
            out.push(alarm(id, AlarmKind::Flapping, true, at, format!("more than {flaps} changes in {window} s")));
        }
    }

    /// Makes sure that the device is looked at when its time is over, and not only later.
    fn rearm(&mut self, seat: Seat, now: Boot) {
        let (_, entry) = self.devices.at(seat);
        let at = match entry.step(now, &self.rules) {
            Step::Wait(Some(at)) => at,
            Step::Wait(None) => return,
            _ => now,
        };
        if entry.due <= at {
            return;
        }
        let old = std::mem::replace(&mut entry.due, at);
        if old != NEVER {
            self.due.remove(&(old, seat));
        }
        self.due.insert((at, seat));
    }

    fn is_down(&self, line: &LineId) -> bool {
        self.lines.get(line).is_some_and(|(s, _)| *s == LineState::Down)
    }
}

fn alarm(device: &DeviceId, kind: AlarmKind, raised: bool, at: Boot, reason: String) -> Effect {
    Effect::Alarm(Alarm::of_device(device.clone(), kind, raised, at, reason))
}
