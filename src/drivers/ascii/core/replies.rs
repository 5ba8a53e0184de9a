//! What came: answers, refusals, garbled bytes, silence, late answers, and what devices say by themselves.

use super::{Core, Job, Kind, RECONNECT_MIN, State};
use crate::{
    config::framed::End,
    drivers::{
        ascii::{
            Garbled,
            fields::{Said, text, told},
            frame::{Found, find},
            orders::Verdict,
            schedule::Failed,
        },
        line::event::Note,
    },
    model::{Boot, Bulk, Heard, Reading, Urgent},
};
use std::ops::Range;

/// A frame that was awaited, as far as it is understood.
enum Accepted {
    Said(Said),
    Done,
    Refused(String),
}

impl Core {
    pub(super) fn on_bytes(&mut self, now: Boot, bytes: &[u8]) {
        self.last_activity = now;
        let pause = now - self.exchange.last_byte;
        if self.state != State::Waiting && pause > self.wire.patience {
            // What waited longer than that for its end belongs to no frame, and after a pause one begins.
            if !self.exchange.rx.is_empty() {
                self.counters.garbled += 1;
                self.exchange.rx.clear();
            }
            self.in_step = true;
        }
        let room = self.rx_max.saturating_sub(self.exchange.rx.len()).min(bytes.len());
        self.exchange.rx.extend_from_slice(&bytes[..room]);
        self.exchange.last_byte = now;
        match self.state {
            State::Waiting => self.judge(now),
            _ => self.look_at_strays(now),
        }
    }

    /// Nothing came for as long as ends a frame of this device.
    fn is_quiet(&self, now: Boot, device: usize) -> bool {
        matches!(self.devices[device].frame.end, End::Silence(s) if now >= self.exchange.last_byte + s)
    }

    fn skip(&mut self, end: usize) {
        let end = end.min(self.exchange.rx.len());
        self.exchange.rx.drain(..end);
    }

    /// Judges what has come while a reply is awaited.
    pub(super) fn judge(&mut self, now: Boot) {
        while let Some(job) = self.job {
            if self.skip_echo(job) {
                break;
            }
            let quiet = self.is_quiet(now, job.device);
            match find(&self.devices[job.device].frame, &self.exchange.rx, quiet) {
                Found::More(need) => {
                    self.exchange.need = need;
                    break;
                }
                Found::Garbled { end, why } => {
                    self.skip(end);
                    if self.exchange.rx.is_empty() {
                        return self.garbled(now, why, false);
                    }
                    // The answer may follow.
                    self.exchange.strange = Some(why);
                }
                Found::Frame { body, end } if body.is_empty() => self.skip(end),
                Found::Frame { body, end } => match self.accept(job, &body) {
                    Ok(accepted) => return self.reply(now, job, accepted, end),
                    Err(why) => {
                        if !self.is_known_stranger(now, body) {
                            self.exchange.strange = Some(why);
                        }
                        self.skip(end);
                    }
                },
            }
        }
        if self.job.is_some() && now >= self.exchange.until && !self.stretch(now) {
            self.time_out(now);
        }
    }

    /// Takes our own request off the front. True: what is there may still become it.
    fn skip_echo(&mut self, job: Job) -> bool {
        let x = &self.exchange;
        if x.echo_seen || self.echoes == Some(false) || x.rx.is_empty() {
            return false;
        }
        if !x.rx.starts_with(&x.tx) {
            return x.rx.len() < x.tx.len() && x.tx.starts_with(&x.rx);
        }
        // A device may answer with the very words it was sent; as long as no echo was seen, that is an answer.
        if self.echoes.is_none() && self.accepts_request(job) {
            return false;
        }
        let end = x.tx.len();
        self.skip(end);
        self.exchange.echo_seen = true;
        self.echoes = Some(true);
        if !self.echo_noted {
            self.echo_noted = true;
            self.out.notes.push_back(Note::Echo);
        }
        false
    }

    fn accepts_request(&self, job: Job) -> bool {
        match find(&self.devices[job.device].frame, &self.exchange.tx, true) {
            Found::Frame { body, .. } => self.accept_bytes(job, &self.exchange.tx[body]).is_ok(),
            _ => false,
        }
    }

    fn accept(&self, job: Job, body: &Range<usize>) -> Result<Accepted, Garbled> {
        self.accept_bytes(job, &self.exchange.rx[body.clone()])
    }

    fn accept_bytes(&self, job: Job, body: &[u8]) -> Result<Accepted, Garbled> {
        let rule = if job.kind == Kind::Order { self.orders.rule(&self.devices) } else { None };
        let Some(rule) = rule else { return self.parsers[job.device].read(body).map(Accepted::Said) };
        let said = text(body);
        if rule.expect.as_ref().is_some_and(|p| p.regex().is_match(&said)) {
            return Ok(Accepted::Done);
        }
        if rule.refuse.as_ref().is_some_and(|p| p.regex().is_match(&said)) {
            return Ok(Accepted::Refused(told(&said)));
        }
        Err(Garbled::NoPattern(told(&said)))
    }

    /// An answer that passed every check.
    fn reply(&mut self, now: Boot, job: Job, accepted: Accepted, end: usize) {
        self.job = None;
        let device = job.device;
        self.ended(now);
        (self.reopened, self.served, self.backoff) = (false, true, RECONNECT_MIN);
        if !self.exchange.echo_seen && self.echoes.is_none() {
            self.echoes = Some(false);
        }
        match accepted {
            Accepted::Said(said) => {
                self.counters.answers += 1;
                self.expected[device] = end;
                match job.kind {
                    Kind::Order => self.orders.verdict(now, &self.devices, Verdict::Read(&said.points, &said.values)),
                    Kind::Poll | Kind::Probe => self.emit(now, device, said),
                }
            }
            Accepted::Done => {
                self.counters.answers += 1;
                self.orders.verdict(now, &self.devices, Verdict::Done);
            }
            Accepted::Refused(said) => {
                self.counters.refused += 1;
                self.orders.verdict(now, &self.devices, Verdict::Refused(&said));
            }
        }
        if job.kind == Kind::Poll {
            self.schedule.answered(now, device);
        }
        self.revive(now, device);
        self.skip(end);
        self.look_at_strays(now);
    }

    fn emit(&mut self, at: Boot, device: usize, said: Said) {
        let id = self.devices[device].id.clone();
        if said.points.is_empty() {
            self.out.urgent.push_back(Urgent::Poll { device: id, heard: Heard::Answered, at });
            return;
        }
        let Said { points, values, quality } = said;
        self.out.bulk.push_back(Bulk::Reading(Reading { device: id, at, points, values, quality }));
    }

    fn revive(&mut self, now: Boot, device: usize) {
        if self.schedule.alive(now, device) {
            self.out.notes.push_back(Note::Alive { device: self.devices[device].id.clone() });
        }
    }

    /// Bytes that nobody asked for now.
    pub(super) fn look_at_strays(&mut self, now: Boot) {
        let listened = self.listened();
        while !self.exchange.rx.is_empty() {
            let quiet = self.is_quiet(now, listened);
            let rule = &self.devices[listened].frame;
            // Without a start and a checksum nothing tells the second half of a frame from a whole one.
            let tells = !rule.start.is_empty() || rule.checksum.is_some();
            match find(rule, &self.exchange.rx, quiet) {
                Found::More(_) => return,
                Found::Garbled { end, .. } => {
                    self.counters.garbled += 1;
                    self.skip(end);
                }
                Found::Frame { body, end } => {
                    if !body.is_empty() && (self.in_step || tells) {
                        self.is_known_stranger(now, body);
                    }
                    self.skip(end);
                }
            }
            self.in_step = true;
        }
    }

    /// Gives a whole frame that is no answer to whom it concerns. False: it is foreign, and counted so.
    fn is_known_stranger(&mut self, now: Boot, body: Range<usize>) -> bool {
        let reads = |core: &Core, n: usize| core.parsers[n].read(&core.exchange.rx[body.clone()]).ok();
        let talker = self.talkers.iter().find_map(|n| Some((*n, reads(self, *n)?)));
        if let Some((device, said)) = talker {
            self.counters.answers += 1;
            (self.served, self.backoff) = (true, RECONNECT_MIN);
            self.emit(now, device, said);
            return true;
        }
        let late = self.guard.pending(now).find(|n| reads(self, *n).is_some());
        let Some(device) = late else {
            self.counters.foreign += 1;
            return false;
        };
        self.counters.late += 1;
        let raised = self.guard.late(now, device);
        self.revive(now, device);
        let id = self.devices[device].id.clone();
        if let Some(timeout) = raised {
            self.out.notes.push_back(Note::Slow { device: id.clone(), timeout });
        }
        self.out.urgent.push_back(Urgent::Poll { device: id, heard: Heard::Answered, at: now });
        true
    }

    /// The deadline has come. A reply that is on its way may end; returns whether to go on waiting.
    fn stretch(&mut self, now: Boot) -> bool {
        let x = &mut self.exchange;
        if x.rx.is_empty() {
            return false;
        }
        let until = (x.last_byte + self.wire.time(x.need) + self.wire.patience).min(x.stretch_to);
        x.until = x.until.max(until);
        now < x.until
    }

    fn time_out(&mut self, now: Boot) {
        let bytes = self.exchange.rx.len();
        match self.exchange.strange.take() {
            Some(why) => self.garbled(now, why, true),
            None if bytes > 0 => self.garbled(now, Garbled::Cut { bytes }, true),
            None => self.unanswered(now),
        }
    }

    /// Something came that is no answer. `pending`: the answer may still come.
    fn garbled(&mut self, now: Boot, why: Garbled, pending: bool) {
        let Some(job) = self.job.take() else { return };
        self.ended(now);
        self.counters.garbled += 1;
        self.guard.bar(now, job.device, pending);
        self.exchange.rx.clear();
        match job.kind {
            Kind::Order => {
                let why = format!("the answer was garbled: {why}");
                self.orders.verdict(now, &self.devices, Verdict::NoReply(&why));
            }
            Kind::Poll | Kind::Probe => self.failed(now, job, Heard::Garbled(why.to_string())),
        }
    }

    /// The deadline passed without a byte.
    fn unanswered(&mut self, now: Boot) {
        let Some(job) = self.job.take() else { return };
        let after = self.exchange.until - self.exchange.begun;
        self.ended(now);
        self.counters.silent += 1;
        self.guard.bar(now, job.device, true);
        match job.kind {
            Kind::Order => {
                let why = format!("no answer within {} ms", after.as_millis());
                self.orders.verdict(now, &self.devices, Verdict::NoReply(&why));
            }
            Kind::Poll | Kind::Probe => self.failed(now, job, Heard::Silent { after }),
        }
    }

    /// A write whose device does not answer.
    pub(super) fn unanswered_by_intent(&mut self, now: Boot) {
        self.job = None;
        self.ended(self.last_activity);
        self.orders.verdict(now, &self.devices, Verdict::Unanswered);
    }

    /// A poll's or probe's request got no valid reply.
    fn failed(&mut self, now: Boot, job: Job, heard: Heard) {
        let silent = matches!(heard, Heard::Silent { .. });
        let device = job.device;
        let ended = match job.kind {
            Kind::Probe if silent => {
                self.schedule.probe_failed(now, device);
                true
            }
            Kind::Probe => {
                self.revive(now, device);
                true
            }
            Kind::Poll | Kind::Order => match self.schedule.failed(now, device, silent) {
                Failed::Retry => false,
                Failed::PollEnded => true,
                Failed::Died => {
                    self.out.notes.push_back(Note::Dead { device: self.devices[device].id.clone() });
                    true
                }
            },
        };
        if ended {
            let device = self.devices[device].id.clone();
            self.out.urgent.push_back(Urgent::Poll { device, heard, at: now });
        }
    }

    /// The wire is free again.
    fn ended(&mut self, now: Boot) {
        self.usage.add(self.exchange.begun, now + self.wire.time(2));
        self.state = State::Ready;
    }
}
