//! Which message it is that the broker does not take, and what is done about it.
//!
//! ```text
//! refused (MQTT 5) ──────────────► suspect ──refused again, others were taken──► in parts, or condemned
//! closes: what was open at two ──► suspects, sent one at a time ──closed on it alone──► the same
//! never acknowledged, later ones were ──► the same
//! accepted ──► no suspect; and a witness that the broker takes such messages at all
//! ```
//! Parting loses nothing, so one message is parted without a witness, to find something that is taken; putting aside is
//! for a single sample, and only when the broker took another message of the same stream in between. So a broker that
//! refuses everything gets nothing put aside: it is not the data's fault.
//!
//! Effort: each parting halves what is suspected, and a part is sent at most three times. Without any witness at most
//! [`UNPROVEN`] parts are made, and what waits is tried again every minute.
//!
//! Absent on purpose: the messages. The pump holds them and says what became of each.

use crate::{
    limits,
    model::{Boot, Key, Stream},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Parts made of one message while nothing of its stream is taken: enough to get from the largest to a single sample.
const UNPROVEN: u8 = 18;
/// Strikes in a row after which nothing of the stream seems to be taken.
const STUCK: u32 = 3;
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The broker says that it is the content, or nothing more.
    Content,
    /// The broker says that it is the topic or a right: as likely its own rules.
    Rules,
    /// It never acknowledged this one, and did later ones.
    Silence,
    /// It closed the connection when this was all that was open.
    Closes,
    /// It said before how much it takes.
    TooLarge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To be sent again, when [`Suspects::next`] says so.
    Wait,
    /// To be replaced by parts.
    Part,
    /// To be put aside.
    Condemn,
}

#[derive(Debug)]
struct Suspect {
    blame: Blame,
    strikes: u8,
    /// Strikes after which another message of the stream was taken.
    witnessed: u8,
    unwitnessed: bool,
    /// It came from one that was parted.
    part: bool,
    retry: Boot,
    wait: Duration,
}

/// One stream's standing with the broker.
#[derive(Debug, Default)]
struct Standing {
    /// Parts made since anything was taken.
    unproven: u8,
    /// Strikes since then.
    strikes: u32,
    /// When nothing is taken, so long between two tries, whichever message it is.
    wait: Duration,
    not_before: Boot,
}

#[derive(Debug, Default)]
pub struct Suspects {
    all: BTreeMap<Key, Suspect>,
    streams: BTreeMap<Stream, Standing>,
    /// Open at each of the last closes.
    common: BTreeSet<Key>,
    /// The last close came before birth was acknowledged, with messages open: it says nothing about them.
    hasty: bool,
    /// Since the quota was used up nothing was taken: the next wait, and until when.
    quota: Option<(Duration, Boot)>,
}

impl Suspects {
    pub fn contains(&self, key: Key) -> bool {
        self.all.contains_key(&key)
    }

    /// A part of a message that was not taken for that reason.
    pub fn part_of(&mut self, key: Key, blame: Blame, now: Boot) {
        self.all.entry(key).or_insert(Suspect { part: true, ..Suspect::new(blame, now) });
    }

    /// It was not taken. `samples`: that it can be parted into.
    pub fn strike(&mut self, key: Key, blame: Blame, samples: u64, now: Boot) -> Verdict {
        let standing = self.streams.entry(key.stream).or_default();
        standing.strikes += 1;
        if standing.strikes >= STUCK && blame != Blame::Closes {
            standing.wait = (standing.wait * 2).clamp(RETRY_MIN, RETRY_MAX);
            standing.not_before = now + standing.wait;
        }
        let s = self.all.entry(key).or_insert_with(|| Suspect::new(blame, now));
        s.blame = blame;
        s.strikes = s.strikes.saturating_add(1);
        // That later ones were taken is how silence is noticed.
        s.witnessed = s.witnessed.saturating_add(u8::from(blame == Blame::Silence));
        s.unwitnessed = true;
        // The connection's backoff paces what closes.
        s.retry = if blame == Blame::Closes { now } else { now + s.wait };
        s.wait = (s.wait * 2).min(RETRY_MAX);
        let (strikes, witnessed) = (s.strikes, s.witnessed > 0);
        // One message and what came of it may be parted to look for something that is taken.
        let looking = if s.part { standing.unproven < UNPROVEN } else { standing.unproven == 0 };
        let verdict = match (samples > 1, blame) {
            (true, Blame::TooLarge) => Verdict::Part,
            (true, Blame::Content) if witnessed || looking => Verdict::Part,
            (true, Blame::Rules | Blame::Silence) if witnessed => Verdict::Part,
            (true, Blame::Closes) if (strikes >= 2 || s.part) && (witnessed || looking) => Verdict::Part,
            (false, Blame::TooLarge) => Verdict::Condemn,
            (false, Blame::Content | Blame::Rules | Blame::Silence) if strikes >= 2 && witnessed => Verdict::Condemn,
            (false, Blame::Closes) if strikes >= 3 && s.witnessed >= 2 => Verdict::Condemn,
            _ => Verdict::Wait,
        };
        match verdict {
            Verdict::Part => {
                standing.unproven = standing.unproven.saturating_add(u8::from(blame != Blame::TooLarge));
                self.all.remove(&key);
            }
            Verdict::Condemn => {
                self.all.remove(&key);
            }
            Verdict::Wait => self.keep_bounded(),
        }
        verdict
    }

    /// Old ones of which nothing was heard, given up at a limit of the spool for one.
    fn keep_bounded(&mut self) {
        while self.all.len() > 8 * limits::SUSPECTS {
            self.all.pop_first();
        }
    }

    /// It was taken.
    pub fn accepted(&mut self, key: Key, now: Boot) {
        self.quota = None;
        self.hasty = false;
        self.common.remove(&key);
        if let Some(standing) = self.streams.get_mut(&key.stream) {
            *standing = Standing::default();
        }
        if self.all.is_empty() {
            return;
        }
        self.all.remove(&key);
        for s in self.all.iter_mut().filter(|(k, s)| k.stream == key.stream && s.unwitnessed).map(|(_, s)| s) {
            s.unwitnessed = false;
            s.witnessed = s.witnessed.saturating_add(1);
            s.retry = s.retry.min(now);
        }
    }

    /// The connection was closed with these open. With an exam it was the only one: what becomes of it.
    pub fn closed(&mut self, open: &[Key], exam: Option<(Key, u64)>, now: Boot) -> Option<(Key, Verdict)> {
        if let Some((key, samples)) = exam.filter(|(key, _)| open == [*key]) {
            return Some((key, self.strike(key, Blame::Closes, samples, now)));
        }
        // Whatever they were suspected of, from now on each is tried alone.
        for key in open {
            if let Some(s) = self.all.get_mut(key) {
                s.blame = Blame::Closes;
            }
        }
        let open: BTreeSet<Key> = open.iter().copied().filter(|key| !self.contains(*key)).collect();
        let both: BTreeSet<Key> = self.common.intersection(&open).copied().collect();
        for key in both.iter().take(limits::SUSPECTS) {
            self.all.insert(*key, Suspect::new(Blame::Closes, now));
        }
        self.common = if both.is_empty() { open } else { BTreeSet::new() };
        None
    }

    /// The connection was closed with these open beside birth: next time birth goes alone.
    pub fn closed_early(&mut self, open: &[Key]) {
        self.hasty |= !open.is_empty();
    }

    /// Something may close connections: birth is to be acknowledged before anything else is sent.
    pub fn is_wary(&self) -> bool {
        self.hasty || !self.common.is_empty() || self.all.values().any(|s| s.blame == Blame::Closes)
    }

    /// The suspect to be tried now, of those that the pump holds: the newest part of those tried least.
    pub fn next(&self, now: Boot, held: impl Fn(&Key) -> bool) -> Option<Key> {
        let ready = self.all.iter().filter(|(key, s)| self.retry(key, s) <= now && held(key));
        ready.min_by_key(|(key, s)| (s.strikes, !s.part, std::cmp::Reverse(**key))).map(|(key, _)| *key)
    }

    /// When the next of them is to be tried.
    pub fn due(&self, held: impl Fn(&Key) -> bool) -> Option<Boot> {
        let retries = self.all.iter().filter(|(key, _)| held(key)).map(|(key, s)| self.retry(key, s));
        retries.chain(self.quota.map(|(_, until)| until)).min()
    }

    /// Whether it must be sent with nothing else open, and how often it was.
    pub fn alone(&self, key: Key) -> Option<u8> {
        self.all.get(&key).filter(|s| s.blame == Blame::Closes).map(|s| s.strikes)
    }

    /// A quota is used up: nothing is sent for a while, then one message at a time until one is taken.
    pub fn quota(&mut self, now: Boot) -> Duration {
        let wait = match self.quota {
            Some((wait, until)) if now < until => return wait,
            Some((wait, _)) => (wait * 2).min(RETRY_MAX),
            None => RETRY_MIN,
        };
        self.quota = Some((wait, now + wait));
        wait
    }

    /// How many may be open for the sake of a quota.
    pub fn quota_room(&self, now: Boot) -> usize {
        match self.quota {
            None => usize::MAX,
            Some((_, until)) => usize::from(now >= until),
        }
    }

    /// Nothing of this stream was taken for so many tries that it is said.
    pub fn is_stuck(&self, stream: Stream) -> bool {
        self.streams.get(&stream).is_some_and(|s| s.strikes >= STUCK)
    }

    fn retry(&self, key: &Key, s: &Suspect) -> Boot {
        self.streams.get(&key.stream).map_or(s.retry, |stream| stream.not_before.max(s.retry))
    }
}

impl Suspect {
    fn new(blame: Blame, now: Boot) -> Suspect {
        Suspect { blame, strikes: 0, witnessed: 0, unwitnessed: false, part: false, retry: now, wait: RETRY_MIN }
    }
}

#[cfg(test)]
mod tests;
