//! Status, replies and line changes: applied on arrival, ahead of telemetry.

use super::Engine;
use crate::{
    logic::registry::Saying,
    model::{EvidenceKind, Heard, Receipt, Said, Urgent},
    store::Change,
};

impl Engine {
    pub(super) async fn on_urgent(&mut self, message: Urgent) {
        match message {
            Urgent::Poll { device, heard, at } => {
                let kind = match heard {
                    Heard::Answered => Some(EvidenceKind::Poll),
                    Heard::Refused(_) => Some(EvidenceKind::Exception),
                    Heard::Garbled(_) | Heard::Silent { .. } => None,
                };
                match kind {
                    Some(kind) => {
                        if self.registry.heard(&device, kind, at, &mut self.moves) {
                            self.filter.forget(&device);
                        }
                    }
                    None => self.registry.missed(&device, at),
                }
                self.carry_moves(vec![], Receipt::none()).await;
            }
            Urgent::Line { line, state, reason, at } => {
                self.registry.line(&line, state, &reason, at, &mut self.moves);
                self.carry_moves(vec![], Receipt::none()).await;
            }
            Urgent::Said(said) => self.on_said(said).await,
            Urgent::Attributes { device, values, at, receipt } => self.on_attributes(device, values, at, receipt).await,
            Urgent::Discovered { device, points, .. } => {
                self.discovered.insert(device, points);
                self.cards_changed();
            }
            Urgent::Heartbeat(pushed) => self.on_pushed(pushed).await,
            Urgent::Acknowledged { done, receipt } => self.on_acknowledged(done, receipt).await,
            Urgent::Command { command, receipt } => self.on_command(command, receipt).await,
            Urgent::Done(done) => self.on_done(done).await,
            Urgent::Learned { fact, forget, at } => {
                let verb = if forget { "forgotten" } else { "learned" };
                tracing::info!(about = %fact.about, key = %fact.key, value = %fact.value, "{verb}");
                self.submit(vec![Change::Learned { fact, forget, at }], Receipt::none()).await;
            }
            Urgent::DeadLetter(letter) => self.on_dead_letter(letter, Receipt::none()).await,
            Urgent::DeadLetterHeld { letter, receipt } => self.on_dead_letter(letter, receipt).await,
        }
    }

    /// Applied at once; its receipt waits for the commit of what it changed.
    async fn on_said(&mut self, said: Said) {
        let Said { device, via, online, will, retained, session, at, offline_after, receipt } = said;
        let changes = match self.welcome(&device, &via, offline_after, at) {
            Ok(changes) => changes,
            Err(reason) => return self.refuse(&device, &via, reason, &[], at, receipt).await,
        };
        if self.registry.said(&device, Saying { online, will, retained, session, at }, &mut self.moves) {
            self.filter.forget(&device);
        }
        self.carry_moves(changes, receipt).await;
    }
}
