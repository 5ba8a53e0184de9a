//! What the gateway itself is asked for: to show itself, to begin anew, to leave a device alone, to cancel. Each such command
//! ends with what it changed in one transaction.
//!
//! What only the whole program can do (restart, reload, rebirth) is handed to `app` as a [`Wish`]. A restart is wished for when
//! the end of its command is durable, so that it is asked for once.

use super::{Engine, Maintain, upkeep::cut};
use crate::{
    limits,
    logic::commands::NotCancelled,
    model::{
        Boot, Command, CommandId, DeviceId, DeviceStatus, LineState, Outcome, Own, Phase, PointId, Receipt, Settled, State, StoreState,
        UplinkState, Value,
    },
    store::Change,
    system::memory,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// End in order and begin anew.
    Restart,
    /// Look at the configuration again, and say by [`Handle::ended`](super::Handle::ended) what came of it.
    Reload { id: CommandId },
    /// Birth and device list again.
    Rebirth,
}

const BUSY: &str = "busy: the gateway is at it already; send it again under a new id";

impl Engine {
    pub(super) async fn run_own_word(&mut self, command: Command, own: Own) {
        let now = self.clock.now();
        if let Err((phase, reason)) = self.commands.in_time(now, &command, self.store.clock().0) {
            return self.own_ended(&command.id, Outcome::new(phase, reason), vec![], Receipt::none()).await;
        }
        tracing::info!(id = %command.id, from = %command.from, what = %own.shown(), "the gateway is asked");
        let id = command.id;
        let confirmed = || Outcome::new(Phase::Confirmed, "");
        let rejected = |reason: String| Outcome::new(Phase::Rejected, reason);
        let (outcome, changes) = match own {
            Own::Ping => (confirmed().with(self.pinged(now)), vec![]),
            Own::Status => (confirmed().with(bounded(self.status_values(now))), vec![]),
            Own::Devices => (confirmed().with(bounded(self.device_values())), vec![]),
            Own::Diagnostics => (confirmed().with(bounded(self.diagnostics(now))), vec![]),
            Own::Rebirth => match self.wishes.try_send(Wish::Rebirth) {
                Ok(()) => (confirmed(), vec![]),
                Err(_) => (rejected(BUSY.into()), vec![]),
            },
            Own::Restart => return self.restart(id).await,
            // Its end comes from who reads the file.
            Own::Reload => match self.wishes.try_send(Wish::Reload { id: id.clone() }) {
                Ok(()) => return self.note_phase(&id, Phase::Sent, None),
                Err(_) => (rejected(BUSY.into()), vec![]),
            },
            Own::MaintenanceOn { device, lasts, reason } => {
                match self.maintain_now(Maintain { device, on: true, lasts, by: command.from, reason }) {
                    Ok((changes, _)) => (confirmed(), changes),
                    Err(error) => (rejected(error.to_string()), vec![]),
                }
            }
            Own::MaintenanceOff { device, reason } => {
                match self.maintain_now(Maintain { device, on: false, lasts: None, by: command.from, reason }) {
                    Ok((changes, _)) => (confirmed(), changes),
                    Err(error) => (rejected(error.to_string()), vec![]),
                }
            }
            Own::AttributesGet { device, names } => match self.attributes_of(&device, &names) {
                Ok(values) => (confirmed().with(bounded(values)), vec![]),
                Err(reason) => (rejected(reason), vec![]),
            },
            Own::AttributesSet { device, values } => match self.set_attributes(&device, values, now) {
                Ok(changes) => (confirmed(), changes),
                Err(reason) => (rejected(reason), vec![]),
            },
        };
        self.own_ended(&id, outcome, changes, Receipt::none()).await;
    }

    /// What of a command was not sent ends, and the cancel after it.
    pub(super) async fn cancel(&mut self, command: Command, of: &CommandId) {
        let now = self.clock.now();
        if let Err((phase, reason)) = self.commands.in_time(now, &command, self.store.clock().0) {
            return self.own_ended(&command.id, Outcome::new(phase, reason), vec![], Receipt::none()).await;
        }
        let recall = self.recall.clone();
        let take_back = |device: &DeviceId, id: &CommandId| recall.as_ref().is_some_and(|recall| recall(device, id));
        let mut out = vec![];
        let done = self.commands.cancel(now, of, &command.from, take_back, &mut out);
        self.carry_orders(out).await;
        let outcome = match done {
            Ok(done) => {
                let count = |name: &str, n: usize| Some((PointId::parse(name).ok()?, Value::Uint(n as u64)));
                let values = [count("cancelled", done.ended), count("sent", done.sent)];
                Outcome::new(Phase::Confirmed, "").with(values.into_iter().flatten().collect())
            }
            Err(error @ (NotCancelled::NotOpen | NotCancelled::Sent)) => Outcome::new(Phase::Rejected, error.to_string()),
        };
        self.own_ended(&command.id, outcome, vec![], Receipt::none()).await;
    }

    /// Confirmed first, and only then done: whoever asks again afterwards is told that it was.
    async fn restart(&mut self, id: CommandId) {
        let wishes = self.wishes.clone();
        let tell = move |_, how| {
            if how == Settled::Kept {
                // Full: somebody else has asked for one.
                let _ = wishes.try_send(Wish::Restart);
            } else {
                tracing::error!("the disk does not take that a restart was asked for, so there is none: it would be asked for again");
            }
        };
        let outcome = Outcome::new(Phase::Confirmed, "");
        self.own_ended(&id, outcome, vec![], Receipt::new(0, Arc::new(tell))).await;
    }

    /// The end of a command to the gateway itself, in the transaction of what it changed.
    pub(super) async fn own_ended(&mut self, id: &CommandId, outcome: Outcome, mut changes: Vec<Change>, receipt: Receipt) {
        tracing::info!(%id, phase = outcome.phase.word(), reason = %outcome.reason, "command ended");
        self.note_phase(id, outcome.phase, Some(&outcome));
        changes.extend(self.end_told(id.clone(), DeviceId::gateway(), outcome));
        self.carry_moves(changes, receipt).await;
    }

    /// Of somebody who did what only the whole program can do; answered when it is durable.
    pub(super) async fn ended_elsewhere(&mut self, id: &CommandId, outcome: Outcome, answer: oneshot::Sender<bool>) {
        let answer = std::sync::Mutex::new(Some(answer));
        let tell = move |_, how| {
            let answer = answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(answer) = answer {
                // Who asked may have gone.
                let _ = answer.send(how == Settled::Kept);
            }
        };
        self.own_ended(id, outcome, vec![], Receipt::new(0, Arc::new(tell))).await;
    }

    fn pinged(&self, now: Boot) -> BTreeMap<PointId, Value> {
        let (clock, _) = self.store.clock();
        let mut said = Said::default();
        said.text("gateway", self.config.gateway.id.as_str());
        said.text("version", env!("CARGO_PKG_VERSION"));
        said.put("time_ms", Value::Int(clock.wall(now).0));
        said.text("clock", clock.quality.word());
        said.count("running_s", now.since(self.began).as_secs());
        said.0
    }

    fn status_values(&self, now: Boot) -> BTreeMap<PointId, Value> {
        let mut said = Said(self.pinged(now));
        let statuses: Vec<DeviceStatus> = self.registry.statuses().collect();
        said.count("devices.all", statuses.len() as u64);
        for state in [State::Online, State::Suspect, State::Offline, State::Unknown] {
            let n = statuses.iter().filter(|s| s.state == state).count();
            said.count(&format!("devices.{}", state.word()), n as u64);
        }
        let down = self.registry.lines().filter(|(_, state, _)| *state == LineState::Down).count();
        said.count("lines.down", down as u64);
        let down = self.uplinks.iter().filter(|(_, f)| f.borrow().state == UplinkState::Down).count();
        said.count("uplinks.down", down as u64);
        let spool = self.store.spool().figures(now);
        said.count("spool.waiting", spool.waiting_samples);
        said.count("spool.dropped", spool.dropped_samples);
        let ill = self.store.health().into_iter().filter(|file| file.state != StoreState::Ok).count();
        said.count("store.ill", ill as u64);
        said.count("commands.open", self.commands.open() as u64);
        said.count("alarms.unseen", self.alarms.unseen() as u64);
        said.0
    }

    fn device_values(&self) -> BTreeMap<PointId, Value> {
        let mut said = Said::default();
        for DeviceStatus { device, state, cause, .. } in self.registry.statuses().filter(|s| !self.guests.is_quarantined(&s.device)) {
            let cause = cause.map_or(String::new(), |cause| format!(", {}", cause.word()));
            said.text(device.as_str(), &format!("{}{cause}", state.word()));
        }
        said.0
    }

    fn diagnostics(&self, now: Boot) -> BTreeMap<PointId, Value> {
        let mut said = Said(self.status_values(now));
        said.text("epoch", &self.epoch.to_string());
        let (clock, _) = self.store.clock();
        said.text("clock.source", clock.source.word());
        clock.error_ms.into_iter().for_each(|ms| said.count("clock.error_ms", ms));
        memory::resident_bytes().into_iter().for_each(|bytes| said.count("memory.bytes", bytes));
        said.count("engine.readings", self.readings_in);
        said.count("engine.samples", self.samples_in);
        said.count("store.writer_age_ms", u64::try_from(self.store.writer_age().as_millis()).unwrap_or(u64::MAX));
        for file in self.store.health() {
            said.text(&format!("store.{}", file.file), &words(file.state.word(), &file.detail));
        }
        let spool = self.store.spool().figures(now);
        said.count("spool.sealed", spool.sealed_samples);
        said.count("spool.acknowledged", spool.acknowledged_samples);
        said.count("spool.thinned", spool.thinned_samples);
        said.count("spool.oldest_age_s", spool.oldest_age_ms.unwrap_or(0) / 1000);
        said.count("spool.disk_bytes", spool.disk_bytes);
        self.store.wear().bytes_per_day().into_iter().for_each(|bytes| said.count("wear.bytes_per_day", bytes));
        for (uplink, figures) in &self.uplinks {
            let f = figures.borrow();
            let name = format!("uplink.{uplink}");
            said.text(&name, &words(f.state.word(), &f.reason));
            said.count(&format!("{name}.connects"), f.connects);
            said.count(&format!("{name}.acknowledged"), f.messages_acknowledged);
        }
        for (line, state, reason) in self.registry.lines() {
            said.text(&format!("line.{}", line.as_str().replace(':', "_")), &words(state.word(), reason));
        }
        said.0
    }
}

/// An answer being put together. A name that is no point is left out.
#[derive(Default)]
struct Said(BTreeMap<PointId, Value>);

impl Said {
    fn put(&mut self, name: &str, value: Value) {
        if let Ok(name) = PointId::parse(name) {
            self.0.insert(name, value);
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.put(name, Value::Text(cut(text.to_owned(), limits::ATTRIBUTE_BYTES).into()));
    }

    fn count(&mut self, name: &str, n: u64) {
        self.put(name, Value::Uint(n));
    }
}

fn words(state: &str, reason: &str) -> String {
    if reason.is_empty() { state.to_owned() } else { format!("{state}: {reason}") }
}

/// As much as an event may hold, and how many are left out.
fn bounded(mut values: BTreeMap<PointId, Value>) -> BTreeMap<PointId, Value> {
    let over = values.len().saturating_sub(limits::ANSWER_VALUES);
    if let Some(first) = values.keys().nth(limits::ANSWER_VALUES).cloned() {
        values.split_off(&first);
        let mut said = Said(values);
        // No device has a dot in its name.
        said.count("devices.left_out", over as u64);
        return said.0;
    }
    values
}
