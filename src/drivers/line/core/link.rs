//! The port or connection as it comes and goes, and what becomes of a request that was on its way.

use super::{Core, Kind, State};
use crate::{
    drivers::line::{event::Note, orders::Verdict},
    model::{Boot, LineState, Urgent},
};
use std::time::Duration;

/// A serial port is tried again this often.
const REOPEN_SERIAL: Duration = Duration::from_secs(1);
/// A TCP connection backs off to this.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that the peer closes sooner than this, and without a reply, was not closed for being idle.
const SHORT: Duration = Duration::from_secs(1);

impl Core {
    /// Nothing stale survives on a new connection.
    pub(super) fn replace(&mut self) {
        if self.wire.is_tcp && !matches!(self.state, State::Closed { .. } | State::Lapsed) {
            self.doubt_framing();
            self.state = State::Opening;
        }
    }

    pub(super) fn on_opened(&mut self, now: Boot) {
        self.exchange.reset();
        self.setups.connected(now);
        self.orders.look_again(|_| true);
        self.site.tuned = None;
        self.asked = false;
        self.silent = 0;
        (self.opened, self.served) = (now, false);
        self.state = State::Ready;
        self.last_activity = now;
        self.gap = self.connect_delay.max(self.line_gap);
        if self.line_state != LineState::Up {
            self.schedule.start(now + self.connect_delay);
            self.learners.iter_mut().for_each(|l| l.start(now));
            (0..self.devices.len()).for_each(|n| self.look_again(n));
            (0..self.devices.len()).for_each(|n| self.factors.lose_all(n));
            // A peer that accepts and closes again and again would be a pair of events each time.
            if !self.is_back_in_question() {
                self.announce(now, LineState::Up, "");
            }
        }
        // The bar keeps a late reply from another request. To the same one it is the reply.
        self.resend.take_if(|device| self.setups.holds_polls(*device));
        if self.resend.is_some() {
            self.state = State::Draining { since: self.quiet_at().max(now) };
        }
    }

    /// A connection that was lost is back only when something came over it, or it held while nothing did.
    fn is_back_in_question(&self) -> bool {
        self.wire.is_tcp && self.line_state == LineState::Down
    }

    pub(super) fn held(&mut self, now: Boot) {
        if self.is_back_in_question() {
            self.announce(now, LineState::Up, "");
        }
    }

    /// No need to wait for the next try.
    pub(super) fn on_appeared(&mut self, now: Boot) {
        if let State::Closed { again } = &mut self.state {
            *again = now.min(*again);
        }
    }

    pub(super) fn on_lost(&mut self, now: Boot, reason: &str) {
        let may_reopen = self.wire.is_tcp && !self.reopened;
        let was_idle = self.wire.is_tcp && (self.served || now - self.opened >= SHORT);
        match self.state {
            State::Closed { .. } | State::Lapsed => {}
            State::Ready | State::Draining { .. } if was_idle => self.state = State::Lapsed,
            State::Ready | State::Draining { .. } if may_reopen => {
                self.reopened = true;
                self.state = State::Lapsed;
            }
            State::Ready | State::Draining { .. } | State::Opening => self.close(now, reason),
            State::Site(_) => {
                if self.site_lost(now, may_reopen) {
                    self.doubt_framing();
                    self.reopened = true;
                    self.state = State::Opening;
                } else {
                    self.close(now, reason);
                }
            }
            State::Sending | State::Waiting => {
                self.abort(now, may_reopen);
                if may_reopen {
                    self.doubt_framing();
                    self.reopened = true;
                    self.state = State::Opening;
                } else {
                    self.close(now, reason);
                }
            }
        }
    }

    /// The request on the wire is lost with its connection. A read is sent again if `again`; a write never is.
    fn abort(&mut self, now: Boot, again: bool) {
        let Some(job) = self.job.take() else { return };
        self.keep_secret(now);
        if self.state == State::Waiting {
            self.usage.add(self.exchange.begun(), now);
            self.tally(job.device);
            // A serial server may pass the reply on over the next connection, and RTU has no number that tells it apart.
            if !self.wire.is_numbered() && !self.is_broadcast(job.device) {
                self.guard.bar(now, job.device, 0, self.exchange.ask(), true);
            }
        }
        match job.kind {
            Kind::Order if again && !self.exchange.ask().is_write() => self.orders.again(),
            Kind::Order => self.orders.verdict(now, &self.devices, Verdict::NoReply("the connection was lost before the reply")),
            // The new connection makes the setup due anyway.
            Kind::Setup | Kind::Look => {}
            Kind::Poll if again => self.resend = Some(job.device),
            Kind::Probe if again => {}
            Kind::Poll => {
                self.schedule.abandon(now, job.device);
                self.poll_ended(now, job.device);
            }
            Kind::Probe => self.schedule.probe_failed(now, job.device),
        }
    }

    pub(super) fn close(&mut self, now: Boot, reason: &str) {
        let wait = if self.wire.is_tcp { self.backoff } else { REOPEN_SERIAL };
        self.backoff = (self.backoff * 2).min(RECONNECT_MAX);
        self.doubt_framing();
        self.resend = None;
        self.state = State::Closed { again: now + wait };
        self.announce(now, LineState::Down, reason);
    }

    /// One event per change of state; the latest reason is kept for whoever asks.
    fn announce(&mut self, now: Boot, state: LineState, reason: &str) {
        if self.reason != reason {
            reason.clone_into(&mut self.reason);
        }
        if self.line_state == state {
            return;
        }
        self.line_state = state;
        self.out.notes.push_back(if state == LineState::Up { Note::Up } else { Note::Down { reason: reason.into() } });
        self.out.urgent.push_back(Urgent::Line { line: self.id.clone(), state, reason: reason.into(), at: now });
    }
}
