//! Telemetry: evidence, what of it is news, and into the batch. The hot path: once per reading.

use super::Engine;
use crate::{
    logic::registry::Seat,
    model::{Boot, Bulk, DeviceId, EvidenceKind, Reading, Receipt},
    system::tap::TAP,
};
use std::sync::Arc;

/// A publication and what is known of it.
struct Message {
    device: DeviceId,
    via: Arc<str>,
    readings: Vec<Reading>,
    at: Boot,
    retained: bool,
    receipt: Receipt,
}

impl Engine {
    pub(super) async fn on_bulk(&mut self, message: Bulk) {
        match message {
            Bulk::Reading(reading) => self.on_reading(reading).await,
            Bulk::Pushed(pushed) => self.on_pushed(pushed).await,
            Bulk::Message { device, via, readings, at, retained, receipt } => {
                self.on_message(Message { device, via, readings, at, retained, receipt }).await;
            }
        }
        // What a rule does about it waits for nothing else.
        self.carry_rules().await;
    }

    async fn on_reading(&mut self, reading: Reading) {
        if self.registry.heard(&reading.device, EvidenceKind::Poll, reading.at, &mut self.moves) {
            self.filter.forget(&reading.device);
        }
        if !self.moves.is_empty() {
            self.carry_moves(vec![], Receipt::none()).await;
        }
        if !self.switches.is_empty() {
            self.see_switches(&reading, None).await;
        }
        let seat = self.registry.seat(&reading.device);
        if let Some(reading) = self.sift(seat, reading) {
            self.batch.push(self.last_turn, reading, &mut self.full);
            self.append_full();
        }
    }

    async fn on_message(&mut self, m: Message) {
        let allowed = self.allowed_by(&m.via);
        // A retained message is data, but it may be as old as the device: no proof of life.
        let proves = !m.retained;
        let known = proves.then(|| self.registry.heard_of_known(&m.device, allowed, m.at, &mut self.moves)).flatten();
        let (changes, seat, is_back) = match known {
            Some((seat, is_back)) => (vec![], Some(seat), is_back),
            None => match self.welcome(&m.device, &m.via, allowed, m.at) {
                Ok(changes) => {
                    let is_back = proves && self.registry.heard(&m.device, EvidenceKind::Message, m.at, &mut self.moves);
                    (changes, self.registry.seat(&m.device), is_back)
                }
                Err(reason) => return self.refuse(&m.device, &m.via, reason, &m.readings, m.at, m.receipt).await,
            },
        };
        if is_back {
            self.filter.forget(&m.device);
        }
        if !changes.is_empty() || !self.moves.is_empty() {
            self.carry_moves(changes, Receipt::none()).await;
        }
        if self.guests.is_quarantined(&m.device) {
            if let Some(seat) = seat {
                m.readings.iter().for_each(|reading| _ = self.latest.put(seat, reading));
            }
            return m.receipt.keep();
        }
        for reading in &m.readings {
            self.see_switches(reading, Some(&m.via)).await;
        }
        let news: Vec<Reading> = m.readings.into_iter().filter_map(|r| self.sift(seat, r)).collect();
        if news.is_empty() {
            return m.receipt.keep();
        }
        self.batch.push_all(self.last_turn, news, m.receipt, &mut self.full);
        self.append_full();
    }

    /// Counts and remembers the reading with the increase of its counters, and gives what of it goes upstream. Every device that
    /// speaks has a seat.
    pub(super) fn sift(&mut self, seat: Option<Seat>, reading: Reading) -> Option<Reading> {
        let reading = self.counters.pass(reading);
        self.readings_in += 1;
        self.heard = self.heard.max(Some(reading.at));
        self.samples_in += reading.values.len() as u64;
        if let Some(samples) = &self.samples {
            samples.put(&reading);
        }
        if let Some(seat) = seat
            && self.latest.put(seat, &reading)
        {
            if self.guests.contains(&reading.device) {
                self.latest.show(seat);
            }
            self.cards_changed();
        }
        self.follow(&reading);
        if TAP.is_open() { self.sift_watched(reading) } else { self.filter.pass(reading) }
    }

    pub(super) fn append_full(&mut self) {
        for full in self.full.drain(..) {
            let watched = TAP.is_open().then(|| full.frames.clone());
            let seq = self.store.spool().append(full.frames, full.receipts, self.last_turn);
            if let Some(frames) = watched {
                TAP.sealed(&frames, seq, self.clock.now());
            }
        }
    }

    pub(super) fn seal_if_due(&mut self, now: Boot) {
        if self.batch.due().is_some_and(|at| at <= now) {
            self.seal();
        }
    }

    /// Seals what has come together.
    pub(super) fn seal(&mut self) {
        self.full.extend(self.batch.take());
        self.append_full();
    }
}
