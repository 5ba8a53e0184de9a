//! What devices report by HTTP: heartbeats with the urgent messages, telemetry with the bulk, orders that they fetched.

use super::{Engine, duties::SEEN_EVERY};
use crate::{
    limits,
    model::{Boot, PUSHED, Pushed, Reading, Receipt, WriteDone},
    store::Change,
};

impl Engine {
    /// A heartbeat that changes nothing costs no commit: its receipts are kept at once.
    pub(super) async fn on_pushed(&mut self, pushed: Pushed) {
        let Pushed { device, at, evidence, readings, state, values, refusal } = pushed;
        let allowed = self.allowed_by(PUSHED);
        let changes = match self.welcome(&device, PUSHED, allowed, at) {
            Ok(changes) => changes,
            Err(reason) => {
                // Its sender is told and keeps it, so it is no dead letter. The receipts fall behind the reason.
                let _ = refusal.set(reason);
                return;
            }
        };
        if self.registry.heard(&device, evidence, at, &mut self.moves) {
            self.filter.forget(&device);
        }
        self.carry_moves(changes, state).await;
        if self.guests.is_quarantined(&device) {
            if let Some(seat) = self.registry.seat(&device) {
                readings.iter().for_each(|reading| _ = self.latest.put(seat, reading));
            }
            return values.keep();
        }
        let seat = self.registry.seat(&device);
        let news: Vec<Reading> = readings.into_iter().filter_map(|r| self.sift(seat, r)).collect();
        if news.is_empty() {
            return values.keep();
        }
        self.batch.push_all(self.last_turn, news, values, &mut self.full);
        self.append_full();
    }

    /// The end of an order, from a device that waits until it is durable.
    pub(super) async fn on_acknowledged(&mut self, done: WriteDone, receipt: Receipt) {
        let mut out = vec![];
        self.commands.done(self.clock.now(), &done.id, done.outcome, &mut out);
        self.carry_orders_for(out, receipt).await;
    }

    /// Heartbeats are not written one by one; when a device was heard last is written now and then, for the next start.
    pub(super) async fn store_last_seen(&mut self, now: Boot) {
        let since = now.saturating_sub(SEEN_EVERY);
        let heard = |at: Option<Boot>| at.is_some_and(|at| at >= since);
        let guests = self.registry.statuses().filter(|s| self.guests.is_pushed(&s.device) && heard(s.evidence.map(|e| e.at)));
        let rows: Vec<Change> = guests.map(Change::Status).collect();
        for group in rows.chunks(limits::STORE_GROUP) {
            self.submit(group.to_vec(), Receipt::none()).await;
        }
    }
}
