//! Commands: remembered by id before anything else, then through their lane to a port, and their end told.

use super::{Engine, PhaseNote};
use crate::{
    limits,
    logic::{commands::Effect, schedule::Occurrence},
    model::{
        Action, Command, CommandId, DeviceId, Event, EventKind, Order, OrderPort, Outcome, Own, Phase, Receipt, ScheduleAsk, ScheduleId,
        WriteDone,
    },
    store::{Accepted, Change, StoreError},
};
use std::sync::Arc;

/// A command that the store has remembered, or could not.
pub(super) struct Landed {
    pub command: Command,
    pub answer: Result<Accepted, Arc<StoreError>>,
    /// The run of a schedule that it is part of.
    pub of: Option<(ScheduleId, Occurrence)>,
    /// Of a command to several devices: what each is to do, and whether its id is new.
    pub parts: Vec<(Command, bool)>,
}

impl Engine {
    pub(super) async fn on_command(&mut self, command: Command, receipt: Receipt) {
        // The store's thread must never wait for us while we wait for it: what may land at once has its place.
        while self.in_store >= limits::STORE_CHANGES {
            let Some(landed) = self.landed.recv().await else { return };
            self.on_landed(landed).await;
        }
        self.in_store += 1;
        let land = self.land.clone();
        let (kept, parts) = (command.clone(), command.parts());
        let landed = move |answer: Result<Accepted, Arc<StoreError>>, parts| {
            if answer.is_ok() {
                receipt.keep();
            }
            if land.try_send(Landed { command, answer, of: None, parts }).is_err() {
                tracing::debug!("a command landed after the engine had stopped");
            }
        };
        if parts.is_empty() {
            return self.store.accept(kept, move |answer| landed(answer, vec![])).await;
        }
        // The whole and its parts are remembered in one transaction: none without the others.
        let all = [kept].into_iter().chain(parts.clone()).collect();
        let done = move |answers: Result<Vec<Result<Accepted, Arc<StoreError>>>, Arc<StoreError>>| match answers.map(Vec::into_iter) {
            Err(error) => landed(Err(error), vec![]),
            Ok(mut answers) => match answers.next() {
                Some(whole) => {
                    let news = answers.map(|part| matches!(part, Ok(Accepted::New)));
                    landed(whole, parts.into_iter().zip(news).collect());
                }
                None => tracing::error!("the store gave no answer to a command"),
            },
        };
        self.store.accept_all(vec![], all, done).await;
    }

    pub(super) async fn on_landed(&mut self, landed: Landed) {
        self.in_store = self.in_store.saturating_sub(1);
        let Landed { command, answer, of, parts } = landed;
        if let Some(run) = &of {
            self.run_landed(run, answer.is_ok());
        }
        match answer {
            Ok(Accepted::New) => match &command.action {
                Action::Acknowledge(_) => self.on_seen(command).await,
                Action::Run(ask) => {
                    let ask = ScheduleAsk::clone(ask);
                    self.run_own(command, ask).await;
                }
                Action::Own(own) => {
                    let own = Own::clone(own);
                    self.run_own_word(command, own).await;
                }
                Action::Cancel(id) => {
                    let id = id.clone();
                    self.cancel(command, &id).await;
                }
                Action::Each(_) => self.fan_out(&command.id, parts).await,
                Action::Write(_) | Action::Read(_) => {
                    let mut out = vec![];
                    self.take_in(command, &mut out);
                    self.carry_orders(out).await;
                }
            },
            // A moment that came twice, by whatever clock: it has run, and its end was told.
            Ok(Accepted::Again(_)) if of.is_some() => tracing::debug!(id = %command.id, "a run of a schedule was there before"),
            Ok(Accepted::Again(Some(outcome))) => {
                self.note_phase(&command.id, outcome.phase, Some(&outcome));
                let event = self.end_event(command.id, command.device, outcome);
                self.submit(vec![event], Receipt::none()).await;
            }
            // It is still open: whoever asked again hears its end.
            Ok(Accepted::Again(None)) => {}
            Err(error) => tracing::error!(id = %command.id, %error, "a command could not be remembered and was not executed"),
        }
    }

    /// A command to one device whose id is new and committed.
    fn take_in(&mut self, command: Command, out: &mut Vec<Effect>) {
        let known =
            (self.registry.contains(&command.device) || self.is_broadcast(&command.device)) && !self.guests.is_quarantined(&command.device);
        tracing::info!(id = %command.id, device = %command.device, from = %command.from, "command accepted");
        self.refreshes.admitted(&command.id, &command.device, &command.action, &command.from);
        self.note_switching(&command);
        self.note_phase(&command.id, Phase::Accepted, None);
        self.commands.admit(self.clock.now(), command, known, self.store.clock().0, out);
    }

    /// The same for each device of a command to several.
    async fn fan_out(&mut self, whole: &CommandId, parts: Vec<(Command, bool)>) {
        self.note_phase(whole, Phase::Accepted, None);
        let named: Vec<_> = parts.iter().map(|(part, is_new)| (part.id.clone(), part.device.clone(), *is_new)).collect();
        let mut out = vec![];
        self.commands.gather(whole, &named, &mut out);
        for (part, _) in parts.into_iter().filter(|(_, is_new)| *is_new) {
            self.take_in(part, &mut out);
        }
        self.carry_orders(out).await;
    }

    /// An alarm that somebody has seen: the gateway's own business, done at once.
    async fn on_seen(&mut self, command: Command) {
        let Command { id, device, action: Action::Acknowledge(alarm), from, .. } = command else { return };
        let (outcome, mut changes) = match self.see_alarm(&alarm, &from) {
            Ok(changes) => (Outcome::new(Phase::Confirmed, ""), changes),
            Err(error) => (Outcome::new(Phase::Rejected, error.to_string()), Vec::new()),
        };
        self.note_phase(&id, outcome.phase, Some(&outcome));
        changes.extend(self.end_told(id, device, outcome));
        self.submit(changes, Receipt::none()).await;
    }

    pub(super) async fn on_done(&mut self, done: WriteDone) {
        if self.refreshed(&done) {
            return;
        }
        let mut out = vec![];
        self.commands.done(self.clock.now(), &done.id, done.outcome, &mut out);
        self.carry_orders(out).await;
    }

    /// Dispatches and stores until nothing follows any more: a port that gives an order back ends it, which lets the
    /// next one of that device go.
    pub(super) async fn carry_orders(&mut self, effects: Vec<Effect>) {
        self.carry_orders_for(effects, Receipt::none()).await;
    }

    /// The receipt is kept when their ends are durable, or at once if nothing ended.
    pub(super) async fn carry_orders_for(&mut self, effects: Vec<Effect>, receipt: Receipt) {
        self.orders.extend(effects);
        let mut changes = vec![];
        while let Some(effect) = self.orders.pop_front() {
            match effect {
                Effect::Dispatch(order) => self.dispatch(order),
                Effect::Part { id, device, outcome } => self.order_ended(id, device, outcome, false, &mut changes),
                Effect::Done { id, device, outcome } => self.order_ended(id, device, outcome, true, &mut changes),
            }
        }
        self.submit(changes, receipt).await;
    }

    /// `tell`: it is no part of another command, which tells it.
    fn order_ended(&mut self, id: CommandId, device: DeviceId, outcome: Outcome, tell: bool, changes: &mut Vec<Change>) {
        tracing::info!(%id, %device, phase = outcome.phase.word(), reason = %outcome.reason, "command ended");
        self.note_phase(&id, outcome.phase, Some(&outcome));
        let at = self.clock.now();
        let stopped = self.refreshes.ended(at, &id, outcome.phase);
        changes.extend(stopped.into_iter().map(|s| self.refresh_stopped(s)));
        changes.extend(self.switched_by(&id, &outcome, at));
        changes.push(Change::CommandDone { id: id.clone(), device: device.clone(), outcome: outcome.clone(), at });
        if tell {
            changes.push(self.end_event(id, device, outcome));
        }
    }

    fn dispatch(&mut self, order: Order) {
        let id = order.id.clone();
        self.refreshes.dispatched(&id);
        let reason = match self.port_of(&order.device) {
            None => "its line is not running",
            Some(port) => match port(order) {
                Ok(()) => return self.note_phase(&id, Phase::Sent, None),
                Err(_) => "busy: too many orders wait for this line; send it again under a new id",
            },
        };
        let mut out = vec![];
        self.commands.bounced(self.clock.now(), &id, reason, &mut out);
        self.orders.extend(out);
    }

    /// For whoever waits on the control socket; mostly nobody.
    pub(super) fn note_phase(&self, id: &CommandId, phase: Phase, outcome: Option<&Outcome>) {
        if self.phases.receiver_count() > 0 {
            let _ = self.phases.send(PhaseNote { id: id.clone(), phase, at: self.clock.now(), outcome: outcome.cloned() });
        }
    }

    /// All units of a line at once: it has no state that the registry could know.
    pub(super) fn is_broadcast(&self, device: &DeviceId) -> bool {
        let at = self.config.devices.binary_search_by(|d| d.id.cmp(device));
        at.is_ok_and(|n| self.config.devices[n].broadcast)
    }

    pub(super) fn port_of(&self, device: &DeviceId) -> Option<OrderPort> {
        match self.config.line_of(device) {
            Some(line) => self.ports.get(line).cloned(),
            None if self.guests.is_pushed(device) => self.order_push.clone(),
            None => self.order_mqtt.clone(),
        }
    }

    /// The row of an end and the event that tells it.
    pub(super) fn end_told(&self, id: CommandId, device: DeviceId, outcome: Outcome) -> [Change; 2] {
        let at = self.clock.now();
        [Change::CommandDone { id: id.clone(), device: device.clone(), outcome: outcome.clone(), at }, self.end_event(id, device, outcome)]
    }

    pub(super) fn end_event(&self, id: CommandId, device: DeviceId, outcome: Outcome) -> Change {
        let Outcome { phase, reason, values, results } = outcome;
        Change::Event(Event { at: self.clock.now(), kind: EventKind::Command { id, device, phase, reason, values, results } })
    }
}
