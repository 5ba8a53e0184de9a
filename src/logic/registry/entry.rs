//! One device: what was heard of it last, and the rules that turn silence into a state and its changes into alarms.

use super::{Effect, Rules, Saying, Watch};
use crate::model::{Boot, Cause, DeviceId, DeviceStatus, Evidence, EvidenceKind, State};
use std::{num::NonZeroU64, sync::Arc, time::Duration};

/// Polls that must be missed, besides the time, before a device is suspected or called offline: one lost frame is noise.
const MISSED_ENOUGH: u32 = 2;
/// Silence counts from the moment after the limit: heard exactly at the limit is heard in time.
pub(super) const TICK: Duration = Duration::from_micros(1);

#[derive(Debug)]
pub(super) struct Entry {
    pub watch: Arc<Watch>,
    pub state: State,
    pub cause: Option<Cause>,
    since: Boot,
    pub evidence: Option<Evidence>,
    pub missed: u32,
    /// The last two misses, latest first: evidence that was overtaken on its way by a miss does not undo that miss.
    misses: [Boot; 2],
    /// Silence counts from here at the earliest: the start, the line's return, the end of a blind time or of maintenance.
    pub grace_from: Boot,
    /// Signs of life up to here do not bring it back: it said goodbye, or its line went down, after them.
    pub not_before: Boot,
    /// Its line is down.
    pub blind: bool,
    session: Option<u64>,
    /// What the last event said of it.
    announced: Option<(State, Option<Cause>)>,
    /// A leaky bucket of its changes: each moves this moment on by `flap_window / flaps`, and time catches up with it.
    heat: Boot,
    pub flapping: bool,
    /// The alarm for being offline too long is raised.
    pub alarmed: bool,
    /// How often it was pinged in this silence.
    pings: u8,
    /// In maintenance until then; `NEVER`: until somebody ends it.
    maintained: Option<NonZeroU64>,
    /// Where it stands in the registry's deadlines; `NEVER`: nowhere.
    pub due: Boot,
}

/// The end of a maintenance that has none.
pub(super) const NEVER: Boot = Boot(u64::MAX);

/// What is to be done with a device now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Nothing; look again then (`None`: something else must happen first).
    Wait(Option<Boot>),
    Turn(State),
    Ping,
    /// It has flapped, and stood still for long enough.
    Calm,
    /// It is offline for too long.
    Raise,
    /// And is back for long enough.
    Clear,
    /// Its maintenance is over.
    Resume,
}

impl Entry {
    pub fn new(now: Boot, watch: Arc<Watch>, evidence: Option<Evidence>, blind: bool) -> Entry {
        Entry {
            watch,
            state: State::Unknown,
            cause: Some(Cause::Restored),
            since: now,
            evidence: evidence.filter(|e| e.at <= now),
            missed: 0,
            misses: [Boot(0); 2],
            grace_from: now,
            not_before: Boot(0),
            blind,
            session: None,
            announced: None,
            heat: Boot(0),
            flapping: false,
            alarmed: false,
            pings: 0,
            maintained: None,
            due: NEVER,
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

    pub fn is_maintained(&self) -> bool {
        self.maintained.is_some()
    }

    /// Takes a sign of life in. True if it brings the device online.
    pub fn hear(&mut self, kind: EvidenceKind, at: Boot) -> bool {
        if self.evidence.is_some_and(|e| at < e.at) {
            return false;
        }
        if self.state != State::Online && at <= self.not_before {
            return false;
        }
        self.evidence = Some(Evidence { kind, at });
        self.pings = 0;
        if self.missed > 0 {
            self.missed = if at >= self.misses[0] {
                0
            } else if at >= self.misses[1] {
                1
            } else {
                self.missed
            };
        }
        self.state != State::Online && !self.is_maintained()
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
        let older = self.evidence.is_some_and(|e| saying.at < e.at) || saying.at < self.not_before;
        let foreign = saying.will && matches!((saying.session, self.session), (Some(said), Some(known)) if said < known);
        if older || foreign {
            return false;
        }
        self.session = self.session.max(saying.session);
        true
    }

    /// The line is back, or it is watched again: silence counts from now, under a grace.
    pub fn grace(&mut self, at: Boot) {
        self.grace_from = self.grace_from.max(at);
        self.missed = 0;
        self.pings = 0;
    }

    /// Since when it has been silent while somebody could have heard it.
    pub fn anchor(&self) -> Boot {
        self.evidence.map_or(self.grace_from, |e| e.at.max(self.grace_from))
    }

    /// What is to be done at `now`, one thing at a time.
    pub fn step(&self, now: Boot, rules: &Rules) -> Step {
        if let Some(until) = self.maintained.map(|until| Boot(until.get())) {
            return if now >= until { Step::Resume } else { Step::Wait(Some(until).filter(|at| *at != NEVER)) };
        }
        let silence = match self.judge(now) {
            Step::Wait(at) => at,
            step => return step,
        };
        let mut next = silence;
        for (at, step) in [(self.calm_at(rules), Step::Calm), (self.raise_at(), Step::Raise), (self.clear_at(rules), Step::Clear)] {
            match at {
                Some(at) if at <= now => return step,
                Some(at) => next = Some(next.map_or(at, |n| n.min(at))),
                None => {}
            }
        }
        Step::Wait(next)
    }

    /// What silence means at `now`.
    fn judge(&self, now: Boot) -> Step {
        let (Some(allowed), false) = (self.watch.offline_after, self.blind) else { return Step::Wait(None) };
        let (anchor, poll) = (self.anchor(), self.watch.poll);
        let silent = now.since(anchor);
        let enough = poll.is_none() || self.missed >= MISSED_ENOUGH;
        let grace = allowed.max(poll.unwrap_or_default() * 2);
        let overdue = match poll {
            Some(poll) => (allowed / 2).max(poll * 3 / 2).min(allowed),
            None => allowed * 3 / 4,
        };
        // Half-way, and once more when it is overdue: one ping that is lost makes nobody suspect.
        let ping = if self.pings == 0 { allowed / 2 } else { overdue };
        let asks = self.watch.pinged && self.pings < 2 && self.state != State::Offline;
        if asks && silent > ping {
            return Step::Ping;
        }
        let later = |limit: Duration| Step::Wait(Some(anchor + if asks { limit.min(ping) } else { limit } + TICK));
        match self.state {
            State::Offline => Step::Wait(None),
            State::Unknown if silent <= grace => later(grace),
            State::Unknown if enough => Step::Turn(State::Offline),
            State::Unknown => Step::Wait(None),
            _ if silent > allowed && enough => Step::Turn(State::Offline),
            State::Online if silent > allowed || (silent > overdue && enough) => Step::Turn(State::Suspect),
            State::Online if silent <= overdue => later(overdue),
            _ if silent <= allowed => later(allowed),
            _ => Step::Wait(None),
        }
    }

    /// Nobody can see whether it still flaps while its line is down.
    fn calm_at(&self, rules: &Rules) -> Option<Boot> {
        match rules.each() {
            _ if !self.flapping || self.blind => None,
            Some(_) => Some(self.since.max(self.grace_from) + rules.stable_for),
            None => Some(self.since),
        }
    }

    fn raise_at(&self) -> Option<Boot> {
        let quiet = self.alarmed || self.flapping || self.state != State::Offline;
        self.watch.alarm_after.filter(|_| !quiet).map(|after| self.since + after)
    }

    fn clear_at(&self, rules: &Rules) -> Option<Boot> {
        match self.watch.alarm_after {
            _ if !self.alarmed => None,
            None => Some(self.since),
            Some(_) => (self.state == State::Online).then(|| self.since + rules.stable_for),
        }
    }

    /// A move that is told, unless it was told last, or the device flaps. True: with this one it begins to.
    pub fn turn(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot, rules: &Rules) -> (Effect, bool) {
        let news = self.announced != Some((state, cause));
        let begins = news && !self.flapping && self.is_hot(at, rules);
        self.flapping |= begins;
        let announce = news && !self.flapping;
        if announce {
            self.announced = Some((state, cause));
        }
        (self.go(id, state, cause, at, announce), begins)
    }

    fn is_hot(&mut self, at: Boot, rules: &Rules) -> bool {
        let Some(each) = rules.each() else { return false };
        self.heat = self.heat.max(at) + each;
        self.heat.since(at) > rules.flap_window
    }

    /// For a move that something else announces.
    pub fn turn_quietly(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot) -> Effect {
        self.go(id, state, cause, at, false)
    }

    /// It stands still again. True: what it is now was not told.
    pub fn calm(&mut self, at: Boot) -> bool {
        self.flapping = false;
        self.heat = at;
        self.announced.replace((self.state, self.cause)) != Some((self.state, self.cause))
    }

    pub fn ping(&mut self) {
        self.pings = self.pings.saturating_add(1);
    }

    /// A person knows better. `None`: it was in maintenance already, and only the end is another.
    pub fn maintain(&mut self, id: &DeviceId, until: Boot, at: Boot) -> Option<Effect> {
        let again = self.maintained.replace(NonZeroU64::new(until.0).unwrap_or(NonZeroU64::MIN)).is_some();
        (self.flapping, self.alarmed) = (false, false);
        (!again).then(|| self.tell(id, State::Unknown, Some(Cause::Maintenance), at))
    }

    /// Judged again: by what was heard meanwhile, else after a grace.
    pub fn resume(&mut self, id: &DeviceId, at: Boot) -> Option<Effect> {
        self.maintained.take()?;
        self.heat = at;
        let cause = self.watch.line.as_ref().map_or(Cause::LineDown, super::down_cause);
        if self.blind {
            return Some(self.tell(id, State::Unknown, Some(cause), at));
        }
        let heard = self.evidence;
        let goodbye = heard.is_some_and(|e| self.not_before == e.at && matches!(e.kind, EvidenceKind::Status | EvidenceKind::Will));
        let (silent, allowed) = (at.since(self.anchor()), self.watch.offline_after);
        let alive = heard.is_some_and(|e| e.at >= self.grace_from && e.at > self.not_before);
        self.grace(at);
        let (state, cause) = match () {
            () if goodbye => (State::Offline, Some(Cause::Said)),
            () if alive && allowed.is_none_or(|allowed| silent <= allowed) => (State::Online, None),
            () => (State::Unknown, Some(Cause::Restored)),
        };
        Some(self.tell(id, state, cause, at))
    }

    fn tell(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot) -> Effect {
        self.announced = Some((state, cause));
        self.go(id, state, cause, at, true)
    }

    fn go(&mut self, id: &DeviceId, state: State, cause: Option<Cause>, at: Boot, announce: bool) -> Effect {
        self.state = state;
        self.cause = cause;
        // A state does not begin before the one that it follows, even if the evidence for it was under way meanwhile.
        self.since = self.since.max(at);
        Effect::Device { status: self.status(id), announce }
    }
}
