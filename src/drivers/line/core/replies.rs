//! What came back: replies, refusals, garbled bytes, silence and late replies, each to whom it concerns.

use super::{Core, Job, Kind, RECONNECT_MIN, State, finding};
use crate::{
    drivers::{
        line::{
            event::Note,
            exchange::{Framing, Judged},
            orders::Verdict,
            schedule::Failed,
            site::Phase,
        },
        modbus::{
            Answer, Garbled,
            exception::{NO_PATH, NO_TARGET},
            pdu,
        },
    },
    model::{Boot, Heard, Urgent},
};
use std::ops::Range;

/// Consecutive timeouts without any reply on a TCP connection after which it is replaced: its peer may be gone.
const SILENT_CONNECTION: u32 = 2;

impl Core {
    pub(super) fn on_bytes(&mut self, now: Boot, bytes: &[u8]) {
        self.last_activity = now;
        self.exchange.receive(now, bytes);
        match self.state {
            State::Waiting => self.judge(now),
            State::Site(Phase::Wait) => self.site_heard(now, bytes),
            // Between the want and the sending: what comes is no reply to a frame that is not out yet.
            _ => self.look_at_strays(now),
        }
    }

    fn judge(&mut self, now: Boot) {
        loop {
            match self.exchange.judge() {
                Judged::Wait => break,
                Judged::Reply(pdu) => return self.reply(now, pdu),
                Judged::Garbled(why) => return self.garbled(now, why, false),
                Judged::Foreign { end, why } => {
                    if !self.recognise_late(now) {
                        self.counters.foreign += 1;
                        self.exchange.mark_strange(why);
                        self.exchange.skip(end);
                    }
                }
            }
        }
        // The deadline may have passed while the owner slept until the bytes could be here.
        if now >= self.exchange.until() && !self.exchange.stretch(now) {
            self.time_out(now);
        }
    }

    /// Bytes that nobody asked for now.
    fn look_at_strays(&mut self, now: Boot) {
        loop {
            if self.recognise_late(now) {
                continue;
            }
            match self.exchange.judge_stray() {
                Judged::Wait => return,
                Judged::Foreign { end, .. } => {
                    self.counters.foreign += 1;
                    self.exchange.skip(end);
                }
                Judged::Reply(_) | Judged::Garbled(_) if self.wire.framing == Framing::Mbap => return self.lost_its_place(now),
                Judged::Reply(_) | Judged::Garbled(_) => return self.exchange.forget(),
            }
        }
    }

    /// The stream is out of step, and only a new connection helps. One that never gave a reply leads to something else
    /// than Modbus: without a pause its greeting would have it replaced as fast as it connects.
    fn lost_its_place(&mut self, now: Boot) {
        self.exchange.forget();
        if self.served {
            self.replace();
        } else if !matches!(self.state, State::Closed { .. } | State::Lapsed) {
            self.close(now, "what answers there speaks no Modbus TCP; is this the port?");
        }
    }

    /// Takes a late reply off the front of what was received.
    pub(super) fn recognise_late(&mut self, now: Boot) -> bool {
        let Some(late) = self.guard.late(now, self.exchange.rx()) else { return false };
        self.exchange.skip(late.end);
        self.counters.late += 1;
        self.served = true;
        let devices: Vec<usize> = self.guard.devices_of(late.unit).collect();
        for device in devices {
            self.revive(now, device);
            let a = self.tally(device);
            a.late += 1;
            a.worst_late = a.worst_late.max(late.lateness);
            a.timeout_wanted = a.timeout_wanted.max(Some(late.wanted));
            let device = self.devices[device].id.clone();
            if let Some(timeout) = late.raised {
                self.out.notes.push_back(Note::Slow { device: device.clone(), timeout });
            }
            self.out.urgent.push_back(Urgent::Poll { device, heard: Heard::Answered, at: now });
        }
        true
    }

    pub(super) fn revive(&mut self, now: Boot, device: usize) {
        if self.schedule.alive(now, device) {
            self.factors.lose_all(device);
            self.setups.came_back(now, device);
            self.out.notes.push_back(Note::Alive { device: self.devices[device].id.clone() });
            self.look_again(device);
        }
    }

    /// A reply that passed every check.
    fn reply(&mut self, now: Boot, pdu: Range<usize>) {
        let Some(job) = self.job.take() else { return };
        let device = job.device;
        let trailer = if self.wire.framing == Framing::Rtu { 2 } else { 0 };
        let end = pdu.end + trailer;
        let after = self.exchange.answer_time(now);
        self.ended(now, device);
        self.held(now);
        self.settle_framing(now);
        self.reopened = false;
        self.served = true;
        self.silent = 0;
        self.backoff = RECONNECT_MIN;
        if self.exchange.echoes() == Some(true) && !self.echo_noted {
            self.echo_noted = true;
            self.out.notes.push_back(Note::Echo);
        }
        let said = pdu::check(self.exchange.ask(), &self.exchange.rx()[pdu]);
        if !matches!(said, Ok(Answer::Exception(NO_PATH | NO_TARGET))) {
            self.guard.good(device);
        }
        match said {
            Ok(Answer::Exception(code)) => self.refused(now, job, device, code),
            Ok(Answer::Data(data)) => {
                self.counters.answers += 1;
                let a = &mut self.answers[device];
                a.answers += 1;
                a.answered(after);
                self.trace(now, job, None);
                match job.kind {
                    Kind::Order | Kind::Setup => self.orders.verdict(now, &self.devices, Verdict::Data(data)),
                    Kind::Look => {}
                    Kind::Poll => {
                        let request = self.schedule.current(device);
                        finding::answered(&mut self.finders[device], request, Ok(data));
                        self.factors.emit(&mut self.out, now, (device, &self.devices[device]), request, data);
                    }
                    Kind::Probe => {
                        let request = self.schedule.probe(device);
                        self.factors.emit(&mut self.out, now, (device, &self.devices[device]), request, data);
                    }
                }
                self.alive_by_reply(now, job, device, None);
            }
            Ok(Answer::Written) => {
                self.counters.answers += 1;
                self.answers[device].answers += 1;
                self.written(now, job, Verdict::Written);
                self.alive_by_reply(now, job, device, None);
            }
            Err(why) => {
                // The framing has checked the same PDU; kept as a refusal to trust, not as a panic.
                self.job = Some(job);
                return self.garbled(now, why, false);
            }
        }
        self.exchange.done(end);
    }

    /// `refused`: by this exception.
    fn alive_by_reply(&mut self, now: Boot, job: Job, device: usize, refused: Option<u8>) {
        self.set_path(device, false);
        if job.kind == Kind::Poll {
            self.polled(now, device, refused);
        }
        self.revive(now, device);
    }

    fn refused(&mut self, now: Boot, job: Job, device: usize, code: u8) {
        // A gateway speaks here, not the unit: nothing is known of the unit but that it did not answer. The connection is good.
        if matches!(code, NO_PATH | NO_TARGET) {
            self.counters.silent += 1;
            self.answers[device].silent += 1;
            self.set_path(device, code == NO_PATH);
            // The unit behind the gateway missed it, as it would on a line of our own. Without a path it was never asked.
            if code == NO_TARGET {
                self.missed(device);
            }
            match job.kind {
                Kind::Order | Kind::Setup | Kind::Look => self.written(now, job, Verdict::Exception(code)),
                Kind::Poll | Kind::Probe => {
                    let after = now - self.exchange.begun();
                    self.failed(now, job, device, Heard::Silent { after });
                }
            }
            return;
        }
        self.counters.refused += 1;
        self.answers[device].refused += 1;
        self.trace(now, job, Some(&Heard::Refused(code)));
        match job.kind {
            Kind::Order => self.written(now, job, Verdict::Exception(code)),
            // It speaks, and an exception is no echo: that is all that was asked.
            Kind::Look => {}
            Kind::Setup => {
                self.written(now, job, Verdict::Exception(code));
                let device = self.devices[device].id.clone();
                self.out.urgent.push_back(Urgent::Poll { device, heard: Heard::Refused(code), at: now });
            }
            Kind::Poll | Kind::Probe => {
                if job.kind == Kind::Poll {
                    finding::answered(&mut self.finders[device], self.schedule.current(device), Err(code));
                }
                let device = self.devices[device].id.clone();
                self.out.urgent.push_back(Urgent::Poll { device, heard: Heard::Refused(code), at: now });
            }
        }
        self.alive_by_reply(now, job, device, Some(code));
    }

    pub(super) fn time_out(&mut self, now: Boot) {
        match self.exchange.leftover() {
            Some(why) => self.garbled(now, why, true),
            None => self.unanswered(now),
        }
    }

    /// Something came that is no reply. `pending`: the reply may still come.
    fn garbled(&mut self, now: Boot, why: Garbled, pending: bool) {
        let Some(job) = self.job.take() else { return };
        let device = job.device;
        self.ended(now, device);
        if self.wire.framing == Framing::Rtu {
            self.held(now);
        }
        self.counters.garbled += 1;
        self.answers[device].garbled += 1;
        self.keep_secret(now);
        self.missed(device);
        self.guard.bar(now, device, self.exchange.tid(), self.exchange.ask(), pending);
        match job.kind {
            Kind::Order | Kind::Setup | Kind::Look => {
                self.owes_poll = true;
                // What is wrong with the reply may quote what was written.
                let words = if self.secret { "the reply was garbled".to_owned() } else { format!("the reply was garbled: {why}") };
                self.written(now, job, Verdict::NoReply(&words));
                let why = if self.secret { String::new() } else { why.to_string() };
                self.setup_failed(now, job, Heard::Garbled(why));
            }
            Kind::Poll | Kind::Probe => self.failed(now, job, device, Heard::Garbled(why.to_string())),
        }
        match self.wire.framing {
            Framing::Mbap => self.replace(),
            // Nothing readable so far, where it is not sure what is spoken: the other framing is tried.
            Framing::Rtu if self.auto.is_some() && !self.served => self.replace(),
            Framing::Rtu => self.exchange.forget(),
        }
    }

    fn missed(&mut self, device: usize) {
        if let Some(gap) = self.guard.missed(device) {
            self.out.notes.push_back(Note::Gap { device: self.devices[device].id.clone(), gap });
        }
    }

    fn set_path(&mut self, device: usize, no_path: bool) {
        if self.answers[device].no_path != no_path {
            self.answers[device].no_path = no_path;
            self.out.notes.push_back(Note::NoPath { device: self.devices[device].id.clone(), is_gone: !no_path });
        }
    }

    /// The deadline passed without a byte of this unit.
    fn unanswered(&mut self, now: Boot) {
        let Some(job) = self.job.take() else { return };
        let device = job.device;
        let after = self.exchange.until() - self.exchange.begun();
        self.ended(now, device);
        self.held(now);
        self.counters.silent += 1;
        self.answers[device].silent += 1;
        self.keep_secret(now);
        self.missed(device);
        self.silent += 1;
        self.guard.bar(now, device, self.exchange.tid(), self.exchange.ask(), true);
        match job.kind {
            Kind::Order | Kind::Setup | Kind::Look => {
                self.owes_poll = true;
                let why = format!("no reply within {} ms", after.as_millis());
                self.written(now, job, Verdict::NoReply(&why));
                self.setup_failed(now, job, Heard::Silent { after });
            }
            Kind::Poll | Kind::Probe => self.failed(now, job, device, Heard::Silent { after }),
        }
        if self.wire.is_tcp && self.silent >= SILENT_CONNECTION {
            self.replace();
        }
    }

    /// While a required setup fails there is no poll that would tell.
    fn setup_failed(&mut self, now: Boot, job: Job, heard: Heard) {
        if matches!(job.kind, Kind::Setup | Kind::Look) && self.setups.is_required(job.device) {
            let device = self.devices[job.device].id.clone();
            self.out.urgent.push_back(Urgent::Poll { device, heard, at: now });
        }
    }

    /// A poll's or probe's request got no valid reply.
    fn failed(&mut self, now: Boot, job: Job, device: usize, heard: Heard) {
        self.trace(now, job, Some(&heard));
        let silent = matches!(heard, Heard::Silent { .. });
        if job.kind == Kind::Poll {
            self.factors.lose(device, self.schedule.current(device));
        }
        let ended = match job.kind {
            Kind::Probe if silent => {
                self.schedule.probe_failed(now, device);
                true
            }
            Kind::Probe => {
                self.revive(now, device);
                true
            }
            Kind::Poll | Kind::Order | Kind::Setup | Kind::Look => match self.schedule.failed(now, device, silent) {
                Failed::Retry => false,
                Failed::PollEnded => true,
                Failed::Died => {
                    self.setups.asleep(device);
                    self.out.notes.push_back(Note::Dead { device: self.devices[device].id.clone() });
                    true
                }
            },
        };
        if ended {
            self.poll_ended(now, device);
            let device = self.devices[device].id.clone();
            self.out.urgent.push_back(Urgent::Poll { device, heard, at: now });
        }
    }

    /// The wire is free again.
    fn ended(&mut self, now: Boot, device: usize) {
        let (begun, end) = (self.exchange.begun(), now + self.wire.silence);
        self.usage.add(begun, end);
        self.tally(device).used(end - begun);
        self.state = State::Ready;
    }
}
