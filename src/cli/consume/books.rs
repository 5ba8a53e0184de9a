//! What came of each gateway, epoch and stream, what was announced instead, and what is missing. Pure: messages in,
//! figures out; where the messages are kept is another's concern.
//!
//! A number of a stream is answered when it came or a gap event names it. Of the others, those below `lowest` of the
//! gateway's progress were acknowledged by the broker and are lost behind it; the rest is late.

use super::numbers::Numbers;
use crate::{
    model::{Epoch, Stream},
    uplink::dialect::read::{Alive, Began, Event, Gap, Known},
};
use std::collections::BTreeMap;

/// Reasons of gaps that are told apart; more of them in one stream are summed up as this.
const OTHER: &str = "other reasons";
const REASONS: usize = 32;

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Books {
    pub gateways: BTreeMap<String, Gateway>,
    /// What was put aside: no message of this dialect.
    pub rejected: u64,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Gateway {
    pub runs: BTreeMap<Epoch, Run>,
    pub progress: Option<Progress>,
    /// Counts the epochs in order of their first message here.
    seen: u64,
}

/// The newest that the gateway said about what is still alive.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The event message that said it.
    pub epoch: Epoch,
    pub seq: u64,
    pub alive: Vec<Alive>,
}

/// One epoch of a gateway.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Run {
    pub order: u64,
    /// This consumer came to it in the middle: what is below the first that came was sent before.
    pub joined: bool,
    pub began: Option<Began>,
    /// The epoch after it said how far it got.
    pub ended: Option<Began>,
    pub telemetry: Sequence,
    pub event: Sequence,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Sequence {
    pub received: Numbers,
    pub messages: u64,
    pub samples: u64,
    /// Deliveries of a key that was known, with the same content.
    pub resent: u64,
    /// The same with another content.
    pub conflicting: u64,
    pub answered: Numbers,
    pub reasons: BTreeMap<String, Reason>,
}

/// What gap events said, by their reason.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reason {
    pub numbers: u64,
    /// That the numbers held.
    pub samples: u64,
    /// Numbers under which something of it comes.
    pub replaced_by: u64,
}

impl Books {
    /// The run of a message that came, which begins with its first message.
    pub fn run(&mut self, gateway: &str, epoch: Epoch, late: bool) -> &mut Run {
        let is_new = !self.gateways.contains_key(gateway);
        let gateway = if is_new { self.gateways.entry(gateway.to_owned()).or_default() } else { self.known(gateway) };
        let seen = &mut gateway.seen;
        gateway.runs.entry(epoch).and_modify(|run| run.place(seen, is_new, late)).or_insert_with(|| {
            let mut run = Run::default();
            run.place(seen, is_new, late);
            run
        })
    }

    fn known(&mut self, gateway: &str) -> &mut Gateway {
        self.gateways.get_mut(gateway).expect("it was looked up")
    }

    /// What an event says about numbers. `epoch` and `seq` are those of the message that brought it.
    pub fn event(&mut self, gateway: &str, epoch: Epoch, seq: u64, event: &Event) {
        let gateway = self.gateways.entry(gateway.to_owned()).or_default();
        match &event.known {
            Known::Gap(gap) => gateway.gap(gap),
            Known::Epoch(began) => gateway.began(*began),
            Known::Progress(alive) => gateway.progress(Progress { epoch, seq, alive: alive.clone() }),
            Known::Clock { .. } | Known::Other => {}
        }
    }

    pub fn runs(&self) -> impl Iterator<Item = (&str, Epoch, &Run)> {
        self.gateways.iter().flat_map(|(id, g)| {
            let mut runs: Vec<_> = g.runs.iter().collect();
            runs.sort_by_key(|(epoch, run)| (run.order, **epoch));
            runs.into_iter().map(move |(epoch, run)| (id.as_str(), *epoch, run))
        })
    }

    /// Ranges that are held: the memory that they cost.
    pub fn pieces(&self) -> usize {
        let of = |s: &Sequence| s.received.pieces() + s.answered.pieces();
        self.gateways.values().flat_map(|g| g.runs.values()).map(|r| of(&r.telemetry) + of(&r.event)).sum()
    }
}

impl Gateway {
    fn gap(&mut self, gap: &Gap) {
        let sequence = self.runs.entry(gap.epoch).or_default().sequence_mut(gap.stream);
        sequence.answered.insert_range(gap.from, gap.to);
        let full = sequence.reasons.len() >= REASONS && !sequence.reasons.contains_key(&gap.reason);
        let reason = sequence.reasons.entry(if full { OTHER.to_owned() } else { gap.reason.clone() }).or_default();
        reason.numbers = reason.numbers.saturating_add(gap.to - gap.from + 1);
        reason.samples = reason.samples.saturating_add(gap.samples);
        reason.replaced_by += gap.replaced_by.map_or(0, |r| r.to.saturating_sub(r.from) + 1);
    }

    fn began(&mut self, began: Began) {
        let run = self.runs.entry(began.epoch).or_default();
        run.began = Some(began);
        run.joined = false;
        if let Some(before) = began.before.filter(|before| *before != began.epoch) {
            self.runs.entry(before).or_default().ended = Some(began);
        }
    }

    /// With several consumers an older one may come after a newer one.
    fn progress(&mut self, said: Progress) {
        let is_older = self.progress.as_ref().is_some_and(|p| p.epoch == said.epoch && p.seq > said.seq);
        if !is_older {
            self.progress = Some(said);
        }
    }

    /// The lowest number that the gateway still holds. `None`: nobody knows.
    fn lowest(&self, epoch: Epoch, run: &Run, stream: Stream) -> Option<u64> {
        let said = self.progress.as_ref()?;
        if let Some(alive) = said.alive.iter().find(|a| a.epoch == epoch && a.stream == stream) {
            return Some(alive.lowest);
        }
        // An epoch that it does not name any more has nothing waiting. One that began after it was said is no such epoch.
        let by = self.runs.get(&said.epoch)?;
        let is_over = epoch != said.epoch
            && (run.ended.is_some_and(|next| next.epoch == said.epoch) || run.joined || (run.order > 0 && run.order < by.order));
        is_over.then_some(u64::MAX)
    }
}

impl Run {
    /// At its first message. A gateway that was known before and begins anew sends the event that says so first; only what
    /// is late may be of an epoch before this consumer's time.
    fn place(&mut self, seen: &mut u64, is_new: bool, late: bool) {
        if self.order == 0 {
            *seen += 1;
            self.order = *seen;
            self.joined = (is_new || late) && self.began.is_none();
        }
    }

    pub fn sequence(&self, stream: Stream) -> &Sequence {
        match stream {
            Stream::Telemetry => &self.telemetry,
            Stream::Event => &self.event,
        }
    }

    pub fn sequence_mut(&mut self, stream: Stream) -> &mut Sequence {
        match stream {
            Stream::Telemetry => &mut self.telemetry,
            Stream::Event => &mut self.event,
        }
    }
}

/// What is missing of one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The broker acknowledged them.
    pub lost: Numbers,
    /// They may still come.
    pub late: Numbers,
    /// Sent before this consumer began.
    pub before: u64,
}

impl Books {
    pub fn missing(&self, gateway: &str, epoch: Epoch, stream: Stream) -> Missing {
        let Some(gateway) = self.gateways.get(gateway) else { return Missing::default() };
        let Some(run) = gateway.runs.get(&epoch) else { return Missing::default() };
        let sequence = run.sequence(stream);
        let alive = gateway.progress.iter().flat_map(|p| &p.alive).find(|a| a.epoch == epoch && a.stream == stream);
        let heard = [sequence.received.last(), sequence.answered.last(), alive.map(|a| a.highest)].into_iter().flatten().max().unwrap_or(0);
        // What was above that when the run ended never comes, unless it came already.
        let top = run.ended.map_or(heard, |next| if stream == Stream::Telemetry { next.telemetry } else { next.event });
        let open = sequence.received.holes(1, top).without(&sequence.answered);
        let (before, open) = match sequence.received.first() {
            Some(first) if run.joined => open.split(first),
            None if run.joined || run.order == 0 => (open, Numbers::default()),
            _ => (Numbers::default(), open),
        };
        let (lost, late) = match gateway.lowest(epoch, run, stream) {
            Some(lowest) => open.split(lowest),
            None => (Numbers::default(), open),
        };
        Missing { lost, late, before: before.count() }
    }
}

#[cfg(test)]
mod tests;
