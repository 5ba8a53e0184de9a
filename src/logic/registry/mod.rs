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
//! itself three quarters of the allowed silence. A device without an allowed silence is never judged by silence.
//!
//! Invariants: one effect per transition, never two equal ones in a row; nothing is called offline by silence unless
//! its observer could have seen it; a line that goes down is one announcement, whatever hangs on it. Its devices go to
//! `unknown` quietly, and one that comes back to what was announced last does so quietly too: the line's own event
//! speaks for it.
//! Absent on purpose: clocks, SQLite, MQTT, damping of flaps. The engine supplies times and carries the effects out.

mod entry;
#[cfg(test)]
mod tests;

use crate::model::{Boot, Cause, DeviceId, DeviceStatus, Evidence, EvidenceKind, LineId, LineState, State};
use entry::{Entry, Verdict};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The line id under which the local broker reports; its devices are those that messages registered.
pub const LOCAL_BROKER: &str = "mqtt";

/// How a device is watched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Watch {
    /// What it hangs on; when that is down nobody can see it.
    pub line: Option<LineId>,
    /// How often it is asked (zero: as fast as the line allows); `None`: it speaks by itself.
    pub poll: Option<Duration>,
    /// The silence it is allowed. `None`: never offline by silence.
    pub offline_after: Option<Duration>,
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
    Device { status: DeviceStatus, announce: bool },
    /// A line went up or down. Precedes the quiet moves of its devices.
    Line { line: LineId, state: LineState, reason: String, at: Boot },
}

#[derive(Debug, Default)]
pub struct Registry {
    devices: BTreeMap<DeviceId, Entry>,
    lines: BTreeMap<LineId, (LineState, String)>,
    /// At most one entry per device, never later than its real deadline: it is moved only when it fires, so that
    /// hearing a device costs no tree operation.
    due: BTreeSet<(Boot, DeviceId)>,
}

impl Registry {
    /// Adds a device that nobody has heard yet, or gives a known one another watch. `evidence` is what is remembered
    /// of it, on this boot's clock.
    pub fn watch(&mut self, now: Boot, id: &DeviceId, watch: Watch, evidence: Option<Evidence>) {
        let down = watch.line.as_ref().is_some_and(|l| self.is_down(l));
        match self.devices.get_mut(id) {
            Some(entry) => (entry.watch, entry.blind) = (watch, down),
            None => {
                self.devices.insert(id.clone(), Entry::new(now, watch, evidence, down));
            }
        }
        self.rearm(id, now);
    }

    pub fn contains(&self, id: &DeviceId) -> bool {
        self.devices.contains_key(id)
    }

    pub fn watch_of(&self, id: &DeviceId) -> Option<&Watch> {
        self.devices.get(id).map(|e| &e.watch)
    }

    pub fn status(&self, id: &DeviceId) -> Option<DeviceStatus> {
        self.devices.get(id).map(|e| e.status(id))
    }

    pub fn statuses(&self) -> impl Iterator<Item = DeviceStatus> + '_ {
        self.devices.iter().map(|(id, e)| e.status(id))
    }

    pub fn lines(&self) -> impl Iterator<Item = (&LineId, LineState, &str)> + '_ {
        self.lines.iter().map(|(id, (state, reason))| (id, *state, reason.as_str()))
    }

    /// A sign of life. Called for every reading: one look-up while the device is online. True if the device came back
    /// from where nothing was known of it.
    pub fn heard(&mut self, id: &DeviceId, kind: EvidenceKind, at: Boot, out: &mut Vec<Effect>) -> bool {
        let Some(entry) = self.devices.get_mut(id) else { return false };
        if !entry.hear(kind, at) {
            return false;
        }
        let back = entry.state != State::Suspect;
        out.push(entry.turn(id, State::Online, None, at));
        self.rearm(id, at);
        back
    }

    /// A poll or probe that got no valid answer. What follows from it is judged by [`Registry::expire`]: evidence from
    /// before the miss may still wait in a queue.
    pub fn missed(&mut self, id: &DeviceId, at: Boot) {
        let Some(entry) = self.devices.get_mut(id) else { return };
        if entry.miss(at) {
            self.rearm(id, at);
        }
    }

    /// A status message or a will. True if the device came back by it.
    pub fn said(&mut self, id: &DeviceId, saying: Saying, out: &mut Vec<Effect>) -> bool {
        let Some(entry) = self.devices.get_mut(id) else { return false };
        if !entry.believes(saying) {
            return false;
        }
        if saying.online {
            return self.heard(id, EvidenceKind::Status, saying.at, out);
        }
        if !saying.retained {
            let kind = if saying.will { EvidenceKind::Will } else { EvidenceKind::Status };
            entry.evidence = Some(Evidence { kind, at: saying.at });
            entry.not_before = Some(saying.at);
        }
        if entry.state != State::Offline {
            out.push(entry.turn(id, State::Offline, Some(Cause::Said), saying.at));
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
        let cause = if line.as_str() == LOCAL_BROKER { Cause::BrokerDown } else { Cause::LineDown };
        let mut again = vec![];
        for (id, entry) in self.devices.iter_mut().filter(|(_, e)| e.watch.line.as_ref() == Some(line)) {
            match state {
                LineState::Down => {
                    entry.blind = true;
                    entry.not_before = Some(at);
                    entry.missed = 0;
                    if (entry.state, entry.cause) != (State::Unknown, Some(cause)) {
                        out.push(entry.turn_quietly(id, State::Unknown, Some(cause), at));
                    }
                }
                LineState::Up | LineState::Unknown => {
                    entry.blind = false;
                    entry.grace(at);
                    again.push(id.clone());
                }
            }
        }
        again.iter().for_each(|id| self.rearm(id, at));
    }

    /// When [`Registry::expire`] must be called next. It may find nothing to do then.
    pub fn next_due(&self) -> Option<Boot> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Judges silence, but only as of `upto`: evidence that waits in a queue must not be overtaken by its own timer.
    pub fn expire(&mut self, upto: Boot, out: &mut Vec<Effect>) {
        while self.due.first().is_some_and(|(at, _)| *at <= upto) {
            let Some((_, id)) = self.due.pop_first() else { return };
            if let Some(entry) = self.devices.get_mut(&id) {
                entry.due = None;
            }
            self.judge(&id, upto, out);
        }
    }

    /// The observer did not look for so long (a suspended process, a throttled door): no silence counts for that time.
    pub fn blind(&mut self, gap: Duration, now: Boot) {
        for entry in self.devices.values_mut() {
            let later = (entry.anchor() + gap).min(now);
            entry.grace_from = entry.grace_from.max(later);
        }
    }

    fn judge(&mut self, id: &DeviceId, now: Boot, out: &mut Vec<Effect>) {
        let Some(entry) = self.devices.get_mut(id) else { return };
        if let Verdict::Turn(state) = entry.judge(now) {
            out.push(entry.turn(id, state, Some(Cause::Silent), now));
        }
        self.rearm(id, now);
    }

    /// Makes sure that the device is looked at when its time is over, and not only later.
    fn rearm(&mut self, id: &DeviceId, now: Boot) {
        let Some(entry) = self.devices.get_mut(id) else { return };
        let at = match entry.judge(now) {
            Verdict::Keep(Some(at)) => at,
            Verdict::Turn(_) => now,
            Verdict::Keep(None) => return,
        };
        if entry.due.is_some_and(|d| d <= at) {
            return;
        }
        if let Some(old) = entry.due.replace(at) {
            self.due.remove(&(old, id.clone()));
        }
        self.due.insert((at, id.clone()));
    }

    fn is_down(&self, line: &LineId) -> bool {
        self.lines.get(line).is_some_and(|(s, _)| *s == LineState::Down)
    }
}
