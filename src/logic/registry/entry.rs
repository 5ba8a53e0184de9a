//! One device: what was heard of it last, and the rules that turn silence into a state.

use super::{Effect, Saying, Watch};
use crate::model::{Boot, Cause, DeviceId, DeviceStatus, Evidence, EvidenceKind, State};
use std::time::Duration;

/// Polls that must be missed, besides the time, before a device is suspected or called offline: one lost frame is noise.
const MISSED_ENOUGH: u32 = 2;
/// Silence counts from the moment after the limit: heard exactly at the limit is heard in time.
const TICK: Duration = Duration::from_micros(1);

#[derive(Debug)]
pub(super) struct Entry {
    pub watch: Watch,
    pub state: State,
    pub cause: Option<Cause>,
    since: Boot,
    pub evidence: Option<Evidence>,
    pub missed: u32,
    /// The last two misses, latest first: evidence that was overtaken on its way by a miss does not undo that miss.
    misses: [Boot; 2],
    /// Silence counts from here at the earliest: the start, the line's return, the end of a blind time.
    pub grace_from: Boot,
    /// Signs of life up to here do not bring it back: it said goodbye, or its line went down, after them.
    pub not_before: Option<Boot>,
    /// Its line is down.
    pub blind: bool,
    session: Option<u64>,
    /// What the last event said of it.
    announced: Option<(State, Option<Cause>)>,
    /// Where it stands in the registry's deadlines.
    pub due: Option<Boot>,
}

pub(super) enum Verdict {
    /// Nothing changes; look again then (`None`: something else must happen first).
    Keep(Option<Boot>),
    Turn(State),
}

impl Entry {
    pub fn new(now: Boot, watch: Watch, evidence: Option<Evidence>, blind: bool) -> Entry {
        Entry {
            watch,
            state: State::Unknown,
            cause: Some(Cause::Restored),
            since: now,
            evidence: evidence.filter(|e| e.at <= now),
            missed: 0,
            misses: [Boot(0); 2],
            grace_from: now,
            not_before: None,
            blind,
            session: None,
            announced: None,
            due: None,
        }
    }

    pub fn status(&self, id: &DeviceId) -> DeviceStatus {
        DeviceStatus {
            device: id.clone(),
            line: self.watch.line.clone(),
            state: self.state,
            cause: self.cause,
            since: self.since,
            evidence: self.evidence,
            missed: self.missed,
        }
    }

    /// Takes a sign of life in. True if it brings the device online.
    pub fn hear(&mut self, kind: EvidenceKind, at: Boot) -> bool {
        if self.evidence.is_some_and(|e| at < e.at) {
            return false;
        }
        if self.state != State::Online && self.not_before.is_some_and(|t| at <= t) {
            return false;
        }
        self.evidence = Some(Evidence { kind, at });
        if self.missed > 0 {
            self.missed = if at >= self.misses[0] {
                0
            } else if at >= self.misses[1] {
                1
            } else {
                self.missed
            };
        }
        self.state != State::Online
    }

    /// Takes a missed poll in. False if it says nothing: the line was down, or the device was heard since.
    pub fn miss(&mut self, at: Boot) -> bool {
        if self.blind || at < self.grace_from || self.evidence.is_some_and(|e| at <= e.at) {
            return false;
        }
        self.missed = self.missed.saturating_add(1);
        self.misses = [at, self.misses[0]];
        true
    }

    /// Whether a saying is news: not older than what was heard, not by an older session, not a stale retained one.
    pub fn believes(&mut self, saying: Saying) -> bool {
        if saying.retained && (saying.online || matches!(self.state, State::Online | State::Suspect)) {
            return false;
        }
        let older = self.evidence.is_some_and(|e| saying.at < e.at) || self.not_before.is_some_and(|t| saying.at < t);
        let foreign = saying.will && matches!((saying.session, self.session), (Some(said), Some(known)) if said < known);
        if older || foreign {
            return false;
        }
        self.session = self.session.max(saying.session);
        true
    }

    /// The line is back: silence counts from now, under a grace.
    pub fn grace(&mut self, at: Boot) {
        self.grace_from = self.grace_from.max(at);
        self.missed = 0;
    }

    /// Since when it has been silent while somebody could have heard it.
    pub fn anchor(&self) -> Boot {
        self.evidence.map_or(self.grace_from, |e| e.at.max(self.grace_from))
    }

    /// What silence means at `now`.
    pub fn judge(&self, now: Boot) -> Verdict {
        let (Some(allowed), false) = (self.watch.offline_after, self.blind) else { return Verdict::Keep(None) };
        let (anchor, poll) = (self.anchor(), self.watch.poll);
        let silent = now.since(anchor);
        let enough = poll.is_none() || self.missed >= MISSED_ENOUGH;
        let grace = allowed.max(poll.unwrap_or_default() * 2);
        let overdue = match poll {
            Some(poll) => (allowed / 2).max(poll * 3 / 2).min(allowed),
            None => allowed * 3 / 4,
        };
        let later = |limit: Duration| Verdict::Keep(Some(anchor + limit + TICK));
        match self.state {
            State::Offline => Verdict::Keep(None),
            State::Unknown if silent <= grace => later(grace),
            State::Unknown if enough => Verdict::Turn(State::Offline),
            State::Unknown => Verdict::Keep(None),
            _ if silent > allowed && enough => Verdict::Turn(State::Offline),
            State::Online if silent > allowed || (silent > overdue && enough) => Verdict::Turn(State::Suspect),
            State::Online if silent <= overdue => later(overdue),
            _ if silent <= allowed => later(allowed),
            _ => Verdict::Keep(None),
        }
    }

    pub fn turn(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot) -> Effect {
        let announce = self.announced != Some((state, cause));
        self.announced = Some((state, cause));
        self.go(id, state, cause, at, announce)
    }

    /// For a move that something else announces.
    pub fn turn_quietly(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot) -> Effect {
        self.go(id, state, cause, at, false)
    }

    fn go(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot, announce: bool) -> Effect {
        self.state = state;
        self.cause = cause;
        // A state does not begin before the one that it follows, even if the evidence for it was under way meanwhile.
        self.since = self.since.max(at);
        Effect::Device { status: self.status(id), announce }
    }
}
