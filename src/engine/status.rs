//! Carries changes of online state to the store, the log, local subscribers and the device list.

use super::{Engine, late::parting, unstored::worth_keeping};
use crate::{
    limits,
    logic::registry::Effect,
    model::{Cause, DeviceId, DeviceStatus, Event, EventKind, LineState, LocalMessage, Receipt, State},
    store::{Change, StoreError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// Moves of one moment that are logged one by one. More: one line for those that went the same way.
const LOGGED: usize = 10;

impl Engine {
    /// Stores the moves that the registry just made, after `before`, each with its event in one transaction. The receipt
    /// is kept when that is committed, or at once if there is nothing to store.
    pub(super) async fn carry_moves(&mut self, before: Vec<Change>, receipt: Receipt) {
        let mut changes = before;
        let moves = std::mem::take(&mut self.moves);
        let is_storm = moves.iter().filter(|m| matches!(m, Effect::Device { .. })).count() > LOGGED;
        let mut storm = Storm::new();
        for effect in moves {
            match effect {
                Effect::Line { line, state, reason, at } => {
                    if state == LineState::Down {
                        tracing::warn!(%line, %reason, "line down; its devices are unknown until it is back");
                    } else {
                        tracing::info!(%line, state = state.word(), %reason, "line changed");
                    }
                    changes.push(Change::Event(Event { at, kind: EventKind::Line { line, state, reason } }));
                }
                Effect::Device { status, announce } => {
                    self.rules.state(&status.device, status.state, status.since, &mut self.fired);
                    if is_storm {
                        let way = (announce, status.state, status.cause.map_or("", Cause::word));
                        storm.entry(way).or_insert_with(|| (status.device.clone(), 0)).1 += 1;
                    } else {
                        log(&status, announce);
                    }
                    self.tell_local(&status);
                    // What is in quarantine is shown here and is nothing to the cloud.
                    if announce && !self.guests.is_quarantined(&status.device) {
                        changes.push(Change::Event(event(&status)));
                    }
                    changes.push(Change::Status(status));
                    self.cards_changed();
                }
                Effect::Announce(status) => {
                    log(&status, true);
                    if !self.guests.is_quarantined(&status.device) {
                        changes.push(Change::Event(event(&status)));
                    }
                }
                Effect::Alarm(alarm) => changes.extend(self.alarm(alarm)),
                Effect::Maintained { device, at } => changes.extend(self.maintenance_over(&device, at)),
                Effect::Ping { device } => self.ping(&device),
            }
        }
        log_storm(storm);
        // Those that change together are one transaction. A line with thousands of devices goes in several: the line's own
        // event is in the first.
        while changes.len() > limits::MOVES_GROUP {
            let rest = changes.split_off(parting(&changes, limits::MOVES_GROUP));
            self.hand_in(std::mem::replace(&mut changes, rest), Receipt::none()).await;
        }
        self.hand_in(changes, receipt).await;
    }

    /// Hands the changes to the writer; the receipt is kept when they are durable, or at once if there are none.
    pub(super) async fn submit(&self, changes: Vec<Change>, receipt: Receipt) {
        if changes.is_empty() {
            return receipt.keep();
        }
        let failing = Arc::clone(&self.store_failing);
        let unstored = self.unstored.clone();
        let kept = worth_keeping(&changes, receipt.is_awaited());
        let done = move |result: Result<(), Arc<StoreError>>| match result {
            Ok(()) => {
                receipt.keep();
                if failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("changes are stored again");
                }
            }
            Err(error) => {
                if !matches!(*error, StoreError::Closed) {
                    unstored.put(kept);
                }
                if !failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "changes cannot be stored; they are kept in RAM, and the write is tried again");
                }
            }
        };
        self.store.submit(changes, done).await;
    }

    /// Whoever follows the states, and `devices/status/{id}`, retained: 1 while it is online, else 0.
    pub(super) fn tell_local(&self, status: &DeviceStatus) {
        if self.live.receiver_count() > 0 {
            let _ = self.live.send(status.clone());
        }
        let Some(tell) = &self.tell_mqtt else { return };
        let body = if status.state == State::Online { b"1".to_vec() } else { b"0".to_vec() };
        // Nobody there, or too slow: the next change comes anyway, and the door counts what it drops.
        let _told = tell(LocalMessage { topic: format!("devices/status/{}", status.device), body, retain: true });
    }
}

/// Which way devices went together, which was the first, and how many did.
type Storm = BTreeMap<(bool, State, &'static str), (DeviceId, usize)>;

fn log_storm(storm: Storm) {
    for ((announce, state, cause), (first, devices)) in storm {
        let word = state.word();
        match state {
            _ if !announce => tracing::debug!(devices, %first, state = word, cause, "devices follow their line"),
            State::Offline => tracing::warn!(devices, %first, state = word, cause, "many devices offline; fieldgate devices shows them"),
            _ => tracing::info!(devices, %first, state = word, cause, "many devices {word}"),
        }
    }
}

fn event(status: &DeviceStatus) -> Event {
    let DeviceStatus { device, line, state, cause, since, evidence, missed } = status.clone();
    Event { at: since, kind: EventKind::Status { device, line, state, cause, since, evidence, missed } }
}

fn log(status: &DeviceStatus, announce: bool) {
    let (device, state, cause) = (&status.device, status.state.word(), status.cause.map_or("", Cause::word));
    let evidence = status.evidence.map_or("none", |e| e.kind.word());
    let age = status.evidence.map_or(0.0, |e| status.since.since(e.at).as_secs_f64());
    match status.state {
        _ if !announce => tracing::debug!(%device, state, cause, "device follows its line"),
        State::Offline => tracing::warn!(%device, state, cause, evidence, evidence_age_s = age, missed = status.missed, "device offline"),
        State::Suspect => tracing::info!(%device, state, cause, evidence, evidence_age_s = age, missed = status.missed, "device overdue"),
        _ => tracing::info!(%device, state, cause, evidence, "device {state}"),
    }
}
