//! What the surfaces show of an uplink, and the few log lines about it: changes, not activity.

use crate::model::{Boot, UplinkFigures, UplinkId, UplinkState};
use std::sync::Arc;
use tokio::sync::watch;

pub struct Board {
    id: UplinkId,
    figures: UplinkFigures,
    shown: watch::Sender<UplinkFigures>,
    dirty: bool,
}

impl Board {
    pub fn new(id: UplinkId, shown: watch::Sender<UplinkFigures>, now: Boot) -> Board {
        let figures = UplinkFigures { since: now, ..UplinkFigures::default() };
        Board { id, figures, shown, dirty: true }
    }

    pub fn up(&mut self, now: Boot) {
        let was = (self.figures.state == UplinkState::Down).then(|| (now - self.figures.since).as_secs());
        self.figures.connects += 1;
        tracing::info!(uplink = %self.id, connects = self.figures.connects, down_for_s = was, "uplink up");
        self.turn(UplinkState::Up, String::new(), now);
    }

    /// Not reachable, or lost. A reason that stays the same is not said again.
    pub fn down(&mut self, reason: String, now: Boot) {
        if self.figures.state != UplinkState::Down || self.figures.reason != reason {
            tracing::warn!(uplink = %self.id, reason, "uplink down; everything is kept here and polling goes on");
        }
        self.figures.answer_ms = None;
        self.figures.in_flight = 0;
        self.turn(UplinkState::Down, reason, now);
    }

    /// In order, on request: nothing to warn of.
    pub fn stopped(&mut self, now: Boot) {
        tracing::info!(uplink = %self.id, sent = self.figures.messages_sent, acknowledged = self.figures.messages_acknowledged, "uplink stopped");
        self.turn(UplinkState::Down, "stopped".into(), now);
    }

    pub fn backlog(&mut self, waiting: bool, now: Boot) {
        match (self.figures.state, waiting) {
            (UplinkState::Up, true) => self.turn(UplinkState::CatchingUp, self.figures.reason.clone(), now),
            (UplinkState::CatchingUp, false) => self.turn(UplinkState::Up, self.figures.reason.clone(), now),
            _ => {}
        }
    }

    /// What is wrong although the link is up; empty: nothing any more.
    pub fn remark(&mut self, text: String) {
        if self.figures.reason != text {
            if !text.is_empty() {
                tracing::warn!(uplink = %self.id, text, "uplink up, but");
            }
            self.figures.reason = text;
            self.dirty = true;
        }
    }

    pub fn has_remark(&self) -> bool {
        !self.figures.reason.is_empty()
    }

    pub fn broker(&mut self, name: Arc<str>) {
        self.dirty |= self.figures.broker != name;
        self.figures.broker = name;
    }

    pub fn flight(&mut self, open: usize, window: usize) {
        self.dirty |= (self.figures.in_flight, self.figures.window) != (open, window);
        (self.figures.in_flight, self.figures.window) = (open, window);
    }

    pub fn sent(&mut self, bytes: usize) {
        self.figures.messages_sent += 1;
        self.figures.bytes_sent += bytes as u64;
        self.dirty = true;
    }

    pub fn acknowledged(&mut self, after: std::time::Duration, now: Boot) {
        self.figures.messages_acknowledged += 1;
        self.figures.acknowledged = Some(now);
        self.figures.answer_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self.dirty = true;
    }

    /// Hands what changed to whoever looks; once a turn, not once a message.
    pub fn show(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.shown.send_replace(self.figures.clone());
        }
    }

    /// `since` is when it came up or went down: catching up is a way of being up.
    fn turn(&mut self, state: UplinkState, reason: String, now: Boot) {
        let is_up = |s| matches!(s, UplinkState::Up | UplinkState::CatchingUp);
        let before = self.figures.state;
        if before != state && !(is_up(before) && is_up(state)) {
            self.figures.since = now;
        }
        self.figures.state = state;
        self.figures.reason = reason;
        self.dirty = true;
    }
}
