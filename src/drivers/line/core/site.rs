//! Turns of site tools: other settings, silence, the request, its reply.
//!
//! ```text
//! Draining --its turn--> [Tune --Tuned--> Settle] --quiet--> Send --Sent--> Wait --reply, deadline--> [Tune back] --> Ready
//! ```
//!
//! A unit that did not answer is barred afterwards, whether a device is configured for it or not.

use super::{Core, DRAIN_MAX, NEVER, RECONNECT_MIN, State};
use crate::{
    drivers::{
        line::{
            event::Want,
            exchange::Wire,
            site::{Current, Phase},
        },
        modbus::{Scan, raw},
    },
    model::{Boot, Heard, LineState, SiteJob, SiteOutcome, Urgent},
};

impl Core {
    pub(super) fn accept_site(&mut self, now: Boot, job: SiteJob) {
        self.site.accept(job, &self.wire);
        self.expire_site(now);
    }

    pub(super) fn expire_site(&mut self, now: Boot) {
        if self.site.is_empty() {
            return;
        }
        let is_closed = self.line_state == LineState::Down && matches!(self.state, State::Closed { .. });
        let down = is_closed.then_some(self.reason.as_str());
        self.site.expire(now, down);
    }

    /// Whether a site tool has the next turn, or when to look again.
    pub(super) fn site_turn(&self, now: Boot, idle: bool) -> Result<(), Boot> {
        match self.site.ready_at(idle, |unit, is_read| self.barred(unit, is_read)) {
            at if at <= now => Ok(()),
            at => Err(at.min(self.site.wake())),
        }
    }

    /// When a site tool may ask the unit. What it writes waits for the end of an order that is amid its steps there.
    fn barred(&self, unit: u8, is_read: bool) -> Boot {
        if !is_read && self.orders.is_amid(|n| self.is_written_by(n, unit)) {
            return NEVER;
        }
        self.guard.devices_of(unit).map(|device| self.guard.barred_until(device)).max().unwrap_or(Boot(0))
    }

    /// Whether a request to the unit may change what the device shows.
    fn is_written_by(&self, device: usize, unit: u8) -> bool {
        self.devices[device].unit == unit || self.devices[device].broadcast || unit == 0
    }

    /// How the line is set at this moment.
    fn site_wire(&self) -> Wire {
        self.site.tuned.map_or(self.wire, |(_, wire)| wire)
    }

    pub(super) fn begin_site(&mut self, now: Boot) {
        let mut site = std::mem::take(&mut self.site);
        let begun = site.begin(now, |unit, is_read| self.barred(unit, is_read));
        let written = begun.filter(|c| !raw::is_read(&c.job.ask.pdu)).map(|c| c.job.ask.unit);
        self.site = site;
        if let Some(unit) = written {
            let devices = &self.devices;
            self.orders.look_again(|n| devices[n].unit == unit || devices[n].broadcast || unit == 0);
        }
        let Some(current) = &self.site.current else {
            self.state = State::Ready;
            return;
        };
        let settings = current.job.ask.settings.filter(|s| Some(*s) != self.wire.settings);
        let is_set = self.wire.is_tcp || self.site.tuned.map(|(s, _)| s) == settings;
        if is_set { self.send_site(now) } else { self.state = State::Site(Phase::Tune) }
    }

    fn send_site(&mut self, now: Boot) {
        let Some(Current { job, .. }) = &self.site.current else { return };
        self.exchange.begin_raw(now, job.ask.unit, &job.ask.pdu);
        let device = self.guard.devices_of(job.ask.unit).next();
        self.gap = device.and_then(|n| self.devices[n].min_gap).unwrap_or(self.line_gap);
        self.asked = true;
        self.state = State::Site(Phase::Send);
    }

    pub(super) fn want_site(&self, phase: Phase) -> Want<'_> {
        let Some(current) = &self.site.current else {
            // Back to the line's own settings.
            return self.wire.settings.map_or(Want::Idle(Boot(0)), Want::Tune);
        };
        match phase {
            Phase::Tune => current.job.ask.settings.or(self.wire.settings).map_or(Want::Idle(Boot(0)), Want::Tune),
            Phase::Settle => Want::Silence(self.site_quiet_at()),
            Phase::Send => Want::Send(self.exchange.frame()),
            Phase::Wait => {
                let (need, earliest, until) = current.wanted(&self.site_wire());
                Want::Recv { need, earliest, until }
            }
        }
    }

    pub(super) fn on_tuned(&mut self, now: Boot) {
        self.exchange.forget();
        self.last_activity = now;
        match &self.site.current {
            Some(current) => {
                let wanted = current.job.ask.settings.filter(|s| Some(*s) != self.wire.settings);
                self.site.tuned = wanted.map(|settings| (settings, Wire::set_to(&settings)));
                self.state = State::Site(Phase::Settle);
            }
            None => {
                self.site.tuned = None;
                self.state = State::Ready;
            }
        }
    }

    /// The port refuses the settings; back to the line's own, which opening it anew brings.
    pub(super) fn cannot_tune(&mut self, now: Boot, reason: &str) {
        if self.site.current.is_some() {
            self.site.finish(now, SiteOutcome::NotSent(reason.into()));
            self.state = State::Site(Phase::Tune);
        } else {
            self.close(now, reason);
        }
    }

    pub(super) fn site_sent(&mut self, now: Boot) {
        let wire = self.site_wire();
        let Some(current) = &mut self.site.current else { return };
        let device = self.guard.devices_of(current.job.ask.unit).next();
        let timeout = current.job.ask.timeout.unwrap_or_else(|| device.map_or(self.timeout, |n| self.guard.timeout(n)));
        current.sent(now, self.exchange.frame(), self.exchange.tid(), &wire, timeout);
        self.state = State::Site(Phase::Wait);
    }

    /// The moment of the last want has come.
    pub(super) fn site_time(&mut self, now: Boot, phase: Phase) {
        let Some(current) = &self.site.current else { return };
        match phase {
            Phase::Settle if self.site_quiet_at() <= now || now - current.begun > DRAIN_MAX => self.send_site(now),
            Phase::Wait => self.judge_site(now),
            _ => {}
        }
    }

    fn site_quiet_at(&self) -> Boot {
        self.last_activity + self.site_wire().silence.max(self.gap)
    }

    pub(super) fn site_heard(&mut self, now: Boot, bytes: &[u8]) {
        if let Some(current) = &mut self.site.current {
            current.heard(now, bytes);
        }
        self.judge_site(now);
    }

    /// After bytes, and when a moment has come.
    pub(super) fn judge_site(&mut self, now: Boot) {
        let (wire, echoes) = (self.site_wire(), self.exchange.echoes());
        loop {
            let Some(current) = &mut self.site.current else { return };
            match current.judge(now, self.exchange.rx(), &wire, echoes) {
                Scan::More { .. } => break,
                Scan::Reply { .. } if current.is_in_doubt(self.exchange.rx(), echoes) => break,
                Scan::Reply { pdu, end } => {
                    let start = pdu.start;
                    let said = match raw::check(&current.job.ask.pdu, &self.exchange.rx()[pdu]) {
                        Ok(raw::Said::Answer(reply)) => SiteOutcome::Answer(reply.to_vec()),
                        Ok(raw::Said::Exception(code)) => SiteOutcome::Exception(code),
                        Err(why) => SiteOutcome::Garbled(why.to_string()),
                    };
                    self.exchange.learn_echo(start, end);
                    self.exchange.done(end);
                    return self.end_site(now, said);
                }
                Scan::Foreign { end, why } => {
                    if !self.recognise_late(now) {
                        if let Some(current) = &mut self.site.current {
                            current.mark_strange(why);
                        }
                        self.counters.foreign += 1;
                        self.exchange.skip(end);
                    }
                }
                Scan::Garbled(why) => return self.end_site(now, SiteOutcome::Garbled(why.to_string())),
            }
        }
        let Some(current) = &mut self.site.current else { return };
        if now >= current.until && !current.stretch(now, &wire) {
            let verdict = current.leftover(self.exchange.rx(), echoes);
            self.end_site(now, verdict);
        }
    }

    fn end_site(&mut self, now: Boot, outcome: SiteOutcome) {
        let Some(current) = &self.site.current else { return };
        let (unit, begun) = (current.job.ask.unit, current.begun);
        let is_ours = self.site.tuned.is_none();
        self.usage.add(begun, now + self.site_wire().silence);
        match &outcome {
            SiteOutcome::Answer(_) | SiteOutcome::Exception(_) if is_ours => self.alive_by_site(now, unit, &outcome),
            SiteOutcome::Silent | SiteOutcome::Garbled(_) => {
                self.owes_poll = true;
                let device = self.guard.devices_of(unit).next();
                match device {
                    Some(device) => self.guard.bar(now, device, 0, self.exchange.ask(), false),
                    None if self.wire.is_numbered() => {}
                    None => self.site.bar(now, unit),
                }
            }
            _ => {}
        }
        let was_garbled = matches!(outcome, SiteOutcome::Garbled(_));
        // Nothing readable came over this connection: where it is not sure what is spoken, the next one tries the other framing.
        let is_doubtful = self.auto.is_some() && !self.served && matches!(outcome, SiteOutcome::Garbled(_) | SiteOutcome::Silent);
        self.site.finish(now, outcome);
        self.exchange.retire();
        self.last_activity = self.last_activity.max(begun);
        // Other settings are kept on a line that nobody else uses: the next request mostly wants them again.
        let stays = self.site.tuned.is_none() || self.devices.is_empty();
        self.state = if stays { State::Ready } else { State::Site(Phase::Tune) };
        if was_garbled && self.wire.is_numbered() || is_doubtful {
            self.replace();
        }
    }

    fn alive_by_site(&mut self, now: Boot, unit: u8, outcome: &SiteOutcome) {
        self.held(now);
        self.settle_framing(now);
        self.served = true;
        self.silent = 0;
        (self.reopened, self.backoff) = (false, RECONNECT_MIN);
        // A gateway speaks with 10 and 11, not the unit.
        if matches!(outcome, SiteOutcome::Exception(0x0a | 0x0b)) {
            return;
        }
        let devices: Vec<usize> = self.guard.devices_of(unit).collect();
        for n in devices {
            self.revive(now, n);
            let device = self.devices[n].id.clone();
            self.out.urgent.push_back(Urgent::Poll { device, heard: Heard::Answered, at: now });
        }
    }

    /// The port or connection went away under the current request. Whether it waits to be sent again.
    pub(super) fn site_lost(&mut self, now: Boot, may_reopen: bool) -> bool {
        if let Some(unit) = self.site.current.as_ref().map(|c| c.job.ask.unit).filter(|_| !self.wire.is_numbered()) {
            let device = self.guard.devices_of(unit).next();
            match device {
                Some(device) => self.guard.bar(now, device, 0, self.exchange.ask(), false),
                None => self.site.bar(now, unit),
            }
        }
        self.site.lost(now, may_reopen)
    }
}
