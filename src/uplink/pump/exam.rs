//! What the broker does not take: held here, tried again, parted, put aside. `logic::suspects` judges; this carries out.
//!
//! A suspect stays in flight for the store while it is held, so nobody else is offered it; when the link goes it returns
//! with everything else. One that may close the connection is sent when nothing else is open, after the link has shown
//! that it works.

use super::{
    session::{End, Session},
    window::Sent,
};
use crate::{
    limits,
    logic::{
        parting,
        suspects::{Blame, Verdict},
    },
    model::{Boot, DeadLetter, Event, EventKind, Key, Sealed, Stream},
    store::{Change, OutgoingEvents},
    uplink::broker::{Broker, Lost, PUBLISH_EXTRA, Refusal},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A link that took nothing yet gets so long before a suspect is tried on it…
const WARM: Duration = Duration::from_secs(2);
/// …and one that did this, times one to three, so that a broker that closes after a count or a time is told apart.
const WARM_STEP: Duration = Duration::from_millis(150);
/// Times that an event message closes the connection on its own before later ones are sent in its place.
const OVERTAKEN: u8 = 2;

#[derive(Debug, Clone)]
pub enum Held {
    Batch(Arc<Sealed>),
    Events(OutgoingEvents),
}

impl Held {
    /// That it can be parted into. What thinning left out is in none of them.
    fn samples(&self) -> u64 {
        match self {
            Held::Batch(sealed) => parting::samples(&sealed.frames) as u64,
            // A message of events has one number, so it goes or stays as a whole.
            Held::Events(_) => 1,
        }
    }
}

/// Of one link.
#[derive(Debug, Default)]
pub struct Exam {
    held: BTreeMap<Key, Held>,
    /// The suspect that is open now.
    trying: Option<Key>,
    /// When the newest message was sent that was taken, by stream: to tell silence about one from silence.
    taken: BTreeMap<Stream, Boot>,
    /// Bytes of a packet, as the broker says.
    max_packet: Option<usize>,
}

impl Exam {
    pub fn new(max_packet: Option<u32>) -> Exam {
        Exam { max_packet: max_packet.and_then(|max| usize::try_from(max).ok()), ..Exam::default() }
    }

    fn is_full(&self, stream: Stream) -> bool {
        self.held.keys().filter(|key| key.stream == stream).count() >= limits::SUSPECTS
    }

    pub fn taken(&mut self, stream: Stream, sent: Boot) {
        let newest = self.taken.entry(stream).or_default();
        *newest = sent.max(*newest);
    }
}

impl<B: Broker> Session<'_, B> {
    /// Tries a suspect if it is time. `true`: nothing else may be sent now.
    pub fn examine(&mut self, now: Boot) -> bool {
        if self.pump.suspects.is_wary() && self.window.has_greeting() {
            return true;
        }
        while !self.exam.is_full(Stream::Telemetry)
            && let Some(part) = self.pump.store.spool().next_part(self.pump.index)
        {
            let key = part.sealed.key;
            self.pump.suspects.part_of(key, self.pump.blame, now);
            self.exam.held.insert(key, Held::Batch(part.sealed));
        }
        if let Some(key) = self.exam.trying {
            return self.pump.suspects.alone(key).is_some();
        }
        let held = &self.exam.held;
        let Some(key) = self.pump.suspects.next(now, |key| held.contains_key(key)) else { return false };
        if let Some(strikes) = self.pump.suspects.alone(key) {
            if now < self.warm(strikes) {
                return false;
            }
            if !self.window.is_empty() {
                return true;
            }
        } else if self.window.room() == 0 {
            return false;
        }
        let held = self.exam.held.get(&key).cloned();
        if let Some(held) = held
            && self.send_held(key, &held, now)
        {
            self.exam.trying = Some(key);
        }
        self.pump.suspects.alone(key).is_some()
    }

    /// From when on a suspect that may close the link is tried on it.
    fn warm(&self, strikes: u8) -> Boot {
        let soon = self.began + WARM_STEP * (1 + u32::from(strikes) % 3);
        if self.exam.taken.is_empty() { self.began + WARM } else { soon }
    }

    /// When a suspect is to be tried; the loop wakes for it.
    pub fn exam_due(&self, now: Boot) -> Option<Boot> {
        if self.exam.trying.is_some() {
            return None;
        }
        let held = &self.exam.held;
        let due = self.pump.suspects.due(|key| held.contains_key(key))?;
        if due > now {
            return Some(due);
        }
        // It is time, but the link is not warm yet, or the window not empty, which an acknowledgement tells.
        let key = self.pump.suspects.next(now, |key| held.contains_key(key))?;
        self.pump.suspects.alone(key).map(|strikes| self.warm(strikes)).filter(|at| *at > now)
    }

    fn send_held(&mut self, key: Key, held: &Held, now: Boot) -> bool {
        let mut body = std::mem::take(&mut self.body);
        self.write(held, &mut body);
        let topic = self.topic(key.stream).to_owned();
        let fits = self.fits(&topic, &body);
        if fits {
            self.put(&topic, &body, false, Sent::of(key));
        }
        self.body = body;
        if !fits {
            self.not_taken(key, Refusal::TooLarge, now);
        }
        fits
    }

    fn write(&mut self, held: &Held, body: &mut Vec<u8>) {
        body.clear();
        let store = &self.pump.store;
        match held {
            Held::Batch(sealed) => self.pump.native.telemetry(sealed, true, store.clock_of(sealed.boot), body),
            Held::Events(out) => self.pump.native.events(out.key, &out.events, out.boot, store.clock_of(out.boot), body),
        }
    }

    pub fn fits(&self, topic: &str, body: &[u8]) -> bool {
        self.exam.max_packet.is_none_or(|max| topic.len() + body.len() + PUBLISH_EXTRA <= max)
    }

    /// What was just taken from the store is a suspect: it is held for its turn.
    pub fn is_held(&mut self, key: Key) -> bool {
        self.pump.suspects.contains(key) && self.hold(key)
    }

    pub fn hold(&mut self, key: Key) -> bool {
        let found = match key.stream {
            Stream::Telemetry => self.pump.store.spool().in_flight(self.pump.index, key).map(Held::Batch),
            Stream::Event => self.pump.store.events().in_flight(self.pump.index, key).map(Held::Events),
        };
        let Some(found) = found else { return false };
        self.exam.held.insert(key, found);
        true
    }

    /// Whether more of this stream may be taken from the store: with too many suspects it waits for their end.
    pub fn takes_more(&self, stream: Stream) -> bool {
        // Events come in order, unless one closed the connection on its own again and again.
        let is_awaited =
            |key: &Key| key.stream == Stream::Event && self.pump.suspects.alone(*key).is_some_and(|strikes| strikes < OVERTAKEN);
        !self.exam.is_full(stream) && (stream != Stream::Event || !self.exam.held.keys().any(is_awaited))
    }

    pub fn was_taken(&mut self, key: Key, sent: Boot, now: Boot) {
        self.exam.held.remove(&key);
        self.exam.trying = self.exam.trying.filter(|trying| *trying != key);
        self.exam.taken(key.stream, sent);
        self.pump.suspects.accepted(key, now);
        if self.pump.board.has_remark() && !self.pump.suspects.is_stuck(key.stream) {
            self.pump.board.remark(String::new());
        }
    }

    /// PUBACK with a reason (MQTT 5).
    pub fn refused(&mut self, id: u16, why: Refusal, now: Boot) {
        let Some((what, _)) = self.window.acknowledged(id, now) else { return };
        let (Sent::Telemetry(key) | Sent::Events(key)) = what else {
            return self
                .pump
                .board
                .remark(format!("the broker refuses our {}: {why}", if what == Sent::State { "state" } else { "device list" }));
        };
        if why == Refusal::Quota {
            self.exam.held.remove(&key);
            self.exam.trying = self.exam.trying.filter(|trying| *trying != key);
            match key.stream {
                Stream::Telemetry => self.pump.store.spool().put_back(self.pump.index, key),
                Stream::Event => self.pump.store.events().put_back(self.pump.index, key),
            }
            let wait = self.pump.suspects.quota(now);
            return self.pump.board.remark(format!("the broker takes nothing now: {why}; tried again in {} s", wait.as_secs()));
        }
        if self.hold(key) {
            self.not_taken(key, why, now);
        }
    }

    /// A held message was not taken, and this becomes of it.
    pub fn not_taken(&mut self, key: Key, why: Refusal, now: Boot) {
        self.exam.trying = self.exam.trying.filter(|trying| *trying != key);
        let Some(held) = self.exam.held.get(&key).cloned() else { return };
        let blame = blame(why);
        let verdict = self.pump.suspects.strike(key, blame, held.samples(), now);
        self.carry_out(key, &held, why, verdict, now);
    }

    fn carry_out(&mut self, key: Key, held: &Held, why: Refusal, verdict: Verdict, now: Boot) {
        self.pump.blame = blame(why);
        let uplink = self.pump.config.id.clone();
        match (verdict, held) {
            (Verdict::Part, Held::Batch(sealed)) => {
                let Some(parts) = parting::halves(&sealed.frames) else { return };
                tracing::info!(%uplink, seq = key.seq, samples = sealed.samples(), why = %why, "not taken by the broker; sent again in two parts");
                let reason = format!("uplink {uplink} does not take it: {why}; sent again in parts");
                self.exam.held.remove(&key);
                self.pump.store.spool().replace(self.pump.index, key, parts.to_vec(), 0, reason, now);
            }
            (Verdict::Condemn, _) => {
                self.exam.held.remove(&key);
                self.put_aside(key, held, why, now);
            }
            (Verdict::Wait | Verdict::Part, _) => {}
        }
        if self.pump.suspects.is_stuck(key.stream) {
            let what = self.topic(key.stream);
            let text = format!("the broker takes nothing on {what}: {why}; everything is kept here and tried again");
            self.pump.board.remark(text);
        }
    }

    /// The letter and its event are committed first, then the number goes.
    fn put_aside(&mut self, key: Key, held: &Held, why: Refusal, now: Boot) {
        let mut body = Vec::new();
        self.write(held, &mut body);
        let uplink = &self.pump.config.id;
        let (source, reason) = (format!("uplink {uplink}"), format!("the broker does not take it: {why}"));
        tracing::warn!(%uplink, seq = key.seq, reason, "put aside as a dead letter");
        let letter = DeadLetter { source: source.clone(), topic: self.topic(key.stream).to_owned(), reason: reason.clone(), body, at: now };
        let event = |kind| Change::Event(Event { at: now, kind });
        let mut changes = vec![Change::DeadLetter(letter), event(EventKind::DeadLetter { source, reason: reason.clone(), count: 1 })];
        if let Held::Events(out) = held {
            // Gaps of gaps would go on for ever with a broker that takes none.
            if out.events.iter().any(|e| !matches!(e.kind, EventKind::Gap { .. })) {
                let Key { epoch, stream, seq } = key;
                let (samples, reason) = (out.events.len() as u64, format!("put aside as a dead letter: {why}"));
                // To the others it comes.
                let uplink = (self.pump.store.spool().uplinks() > 1).then(|| uplink.clone());
                changes.push(event(EventKind::Gap { epoch, stream, from: seq, to: seq, samples, reason, uplink, replaced_by: None }));
            }
        }
        let (store, of) = (self.pump.store.clone(), self.pump.index);
        // One that thinning left stands for others, which go with it.
        let lost = if let Held::Batch(sealed) = held { sealed.samples() } else { 1 };
        // Not awaited: the pump must not wait for the disk. At most as many as there are suspects.
        tokio::spawn(async move {
            let after = store.clone();
            let done = move |result: Result<(), _>| {
                let kept = result.is_ok();
                match key.stream {
                    Stream::Telemetry if kept => {
                        _ = after.spool().replace(of, key, Vec::new(), lost, "put aside as a dead letter".into(), now)
                    }
                    Stream::Telemetry => after.spool().put_back(of, key),
                    Stream::Event if kept => after.events().acknowledged(of, key),
                    Stream::Event => after.events().put_back(of, key),
                }
            };
            store.submit(changes, done).await;
        });
    }

    /// The link is over: whose fault may it be?
    pub fn ended(&mut self, end: &End, now: Boot) {
        let End::Lost(lost) = end else { return };
        match lost {
            Lost::Closed | Lost::Io(_) | Lost::Rejected(_) => self.closed(now),
            Lost::Unacknowledged(_) => self.unanswered(now),
            Lost::Silent(_) | Lost::Garbled(_) | Lost::Told(_) => {}
        }
    }

    fn closed(&mut self, now: Boot) {
        let open: Vec<Key> = self.window.in_order().into_iter().map(|(key, _)| key).collect();
        // What is not ours to blame was open as well.
        if self.window.has_greeting() {
            return self.pump.suspects.closed_early(&open);
        }
        let exam = self.exam.trying.and_then(|key| Some((key, self.exam.held.get(&key)?.samples())));
        if let Some((key, verdict)) = self.pump.suspects.closed(&open, exam, now)
            && let Some(held) = self.exam.held.get(&key).cloned()
        {
            self.carry_out(key, &held, Refusal::Closes, verdict, now);
        }
    }

    /// Those of which nothing was heard although later ones of their stream were taken.
    fn unanswered(&mut self, now: Boot) {
        let patience = self.pump.config.keep_alive;
        for (key, sent) in self.window.in_order() {
            let later = self.exam.taken.get(&key.stream).is_some_and(|taken| *taken > sent);
            if later && now - sent >= patience && self.hold(key) {
                self.not_taken(key, Refusal::NeverAcknowledges, now);
            }
        }
    }
}

const fn blame(why: Refusal) -> Blame {
    match why {
        Refusal::Unspecified | Refusal::Implementation | Refusal::Payload | Refusal::Quota => Blame::Content,
        Refusal::NotAuthorised | Refusal::Topic => Blame::Rules,
        Refusal::TooLarge => Blame::TooLarge,
        Refusal::Closes => Blame::Closes,
        Refusal::NeverAcknowledges => Blame::Silence,
    }
}

#[cfg(test)]
mod tests;
