//! What others hold of the engine: a question that it answers between two messages, and the count of its turns.

use super::{
    Engine, Figures,
    alarms::{AlarmError, Seen},
    rules::{RuleError, Switch, Switched},
    schedules::{Changed, ScheduleError, ScheduleView},
    upkeep::{Maintain, MaintainError, Maintained},
};
use crate::model::{
    AlarmKind, AlarmName, Boot, CommandId, DeviceCard, DeviceId, DeviceStatus, LineId, LineState, Maintenance, Outcome, Phase, PointId,
    RuleView, ScheduleAsk, Value,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Questions that wait. Full: the next one waits to be asked.
pub(super) const ASKS: usize = 8;

/// A question, with where its answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Snapshot(oneshot::Sender<Snapshot>),
    Figures(oneshot::Sender<Figures>),
    Values(DeviceId, oneshot::Sender<Option<Values>>),
    Device(DeviceId, oneshot::Sender<Option<Shown>>),
    Maintain(Maintain, Maintained),
    Schedules(oneshot::Sender<Vec<ScheduleView>>),
    /// With who asks.
    Schedule(ScheduleAsk, String, Changed),
    Rules(oneshot::Sender<Vec<RuleView>>),
    Switch(Switch, Switched),
    /// With who has seen it.
    Acknowledge(AlarmName, String, Seen),
    /// What came of a command that only the whole program can carry out.
    Ended(CommandId, Box<Outcome>, oneshot::Sender<bool>),
}

/// The last value of each point that has one, in the order of its card.
pub type Values = Vec<(PointId, Value)>;

#[derive(Debug, Clone)]
pub struct Handle {
    ask: mpsc::Sender<Ask>,
    turns: Arc<AtomicU64>,
    phases: broadcast::Sender<PhaseNote>,
    live: broadcast::Sender<DeviceStatus>,
}

/// One device with all that is known of it now.
#[derive(Debug, Clone)]
pub struct Shown {
    pub card: DeviceCard,
    pub quarantined: bool,
    /// The last value of each point that has one, and when it was read.
    pub values: Vec<(PointId, Boot, Value)>,
}

/// A command has come to this phase.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseNote {
    pub id: CommandId,
    pub phase: Phase,
    pub at: Boot,
    /// Of a terminal phase.
    pub outcome: Option<Outcome>,
}

/// How everything stands at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub devices: Vec<DeviceStatus>,
    /// The same devices with profile and points.
    pub cards: Vec<DeviceCard>,
    /// Those that are not judged.
    pub maintenance: Vec<Maintenance>,
    /// Those that are raised, with the devices.
    pub alarms: Vec<(DeviceId, AlarmKind)>,
    /// Known, but nothing of them goes upstream.
    pub quarantined: Vec<DeviceId>,
    /// Lines that have reported, with the reason for their state; the local broker as `mqtt`.
    pub lines: Vec<(LineId, LineState, String)>,
    pub readings_in: u64,
    pub samples_in: u64,
    pub commands_open: usize,
    /// Raised alarms of rules that nobody has acknowledged. Those of devices show in their states.
    pub alarms_unseen: usize,
}

impl Handle {
    pub(super) fn new(
        ask: mpsc::Sender<Ask>,
        turns: Arc<AtomicU64>,
        phases: broadcast::Sender<PhaseNote>,
        live: broadcast::Sender<DeviceStatus>,
    ) -> Handle {
        Handle { ask, turns, phases, live }
    }

    /// The phases of all commands from now on.
    pub fn phases(&self) -> broadcast::Receiver<PhaseNote> {
        self.phases.subscribe()
    }

    /// The moves of all devices from now on. Who is too slow is told that it missed some.
    pub fn live(&self) -> broadcast::Receiver<DeviceStatus> {
        self.live.subscribe()
    }

    /// `None`: there is no such device, or the engine has stopped.
    pub async fn device(&self, device: &DeviceId) -> Option<Shown> {
        let (answer, shown) = oneshot::channel();
        self.ask.send(Ask::Device(device.clone(), answer)).await.ok()?;
        shown.await.ok()?
    }

    /// `None`: the engine has stopped.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (answer, snapshot) = oneshot::channel();
        self.ask.send(Ask::Snapshot(answer)).await.ok()?;
        snapshot.await.ok()
    }

    /// Without any list of devices. `None`: the engine has stopped.
    pub async fn figures(&self) -> Option<Figures> {
        let (answer, figures) = oneshot::channel();
        self.ask.send(Ask::Figures(answer)).await.ok()?;
        figures.await.ok()
    }

    /// `None`: there is no such device, or the engine has stopped.
    pub async fn values(&self, device: &DeviceId) -> Option<Values> {
        let (answer, values) = oneshot::channel();
        self.ask.send(Ask::Values(device.clone(), answer)).await.ok()?;
        values.await.ok()?
    }

    /// Has a device not judged, or judged again; answered when it is durable. The answer is how it is now.
    pub async fn maintain(&self, asked: Maintain) -> Result<Option<Maintenance>, MaintainError> {
        let (answer, done) = oneshot::channel();
        self.ask.send(Ask::Maintain(asked, answer)).await.map_err(|_| MaintainError::Stopping)?;
        done.await.unwrap_or(Err(MaintainError::Stopping))
    }

    /// All schedules, in order of their ids. `None`: the engine has stopped.
    pub async fn schedules(&self) -> Option<Vec<ScheduleView>> {
        let (answer, all) = oneshot::channel();
        self.ask.send(Ask::Schedules(answer)).await.ok()?;
        all.await.ok()
    }

    /// Adds, changes, enables, disables or removes a schedule; answered when it is durable.
    pub async fn schedule(&self, ask: ScheduleAsk, by: String) -> Result<(), ScheduleError> {
        let (answer, done) = oneshot::channel();
        self.ask.send(Ask::Schedule(ask, by, answer)).await.map_err(|_| ScheduleError::Stopping)?;
        done.await.unwrap_or(Err(ScheduleError::Stopping))
    }

    /// How every rule stands, in the order of the configuration. `None`: the engine has stopped.
    pub async fn rules(&self) -> Option<Vec<RuleView>> {
        let (answer, rules) = oneshot::channel();
        self.ask.send(Ask::Rules(answer)).await.ok()?;
        rules.await.ok()
    }

    /// Switches a rule on or off; answered when it is durable.
    pub async fn switch_rule(&self, wish: Switch) -> Result<(), RuleError> {
        let (answer, done) = oneshot::channel();
        self.ask.send(Ask::Switch(wish, answer)).await.map_err(|_| RuleError::Stopping)?;
        done.await.unwrap_or(Err(RuleError::Stopping))
    }

    /// Somebody has seen an alarm; answered when it is durable. Those that are raised and past are in [`Store::alarms`].
    ///
    /// [`Store::alarms`]: crate::store::Store::alarms
    pub async fn acknowledge(&self, alarm: AlarmName, by: String) -> Result<(), AlarmError> {
        let (answer, done) = oneshot::channel();
        self.ask.send(Ask::Acknowledge(alarm, by, answer)).await.map_err(|_| AlarmError::Stopping)?;
        done.await.unwrap_or(Err(AlarmError::Stopping))
    }

    /// What came of a command that the engine gave to the program as a wish; answered when it is durable (`false`: it is not).
    pub async fn ended(&self, id: CommandId, outcome: Outcome) -> bool {
        let (answer, done) = oneshot::channel();
        self.ask.send(Ask::Ended(id, Box::new(outcome), answer)).await.is_ok() && done.await.unwrap_or(false)
    }

    /// Grows while the engine is alive, at least once a second: what the watchdog looks at.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl Engine {
    pub(super) async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Snapshot(answer) => drop(answer.send(self.snapshot())),
            Ask::Figures(answer) => drop(answer.send(self.figures())),
            Ask::Values(device, answer) => drop(answer.send(self.values(&device))),
            Ask::Device(device, answer) => drop(answer.send(self.shown(&device))),
            Ask::Maintain(asked, answer) => self.maintain(asked, answer).await,
            Ask::Schedules(answer) => drop(answer.send(self.schedules(self.clock.now()))),
            Ask::Schedule(ask, by, answer) => self.schedule_asked(ask, &by, answer).await,
            Ask::Rules(answer) => drop(answer.send(self.rules.views(self.clock.now()))),
            Ask::Switch(wish, answer) => self.switch_rule(wish, answer).await,
            Ask::Acknowledge(alarm, by, answer) => self.acknowledge(&alarm, &by, answer).await,
            Ask::Ended(id, outcome, answer) => self.ended_elsewhere(&id, *outcome, answer).await,
        }
    }

    fn shown(&self, device: &DeviceId) -> Option<Shown> {
        let card = self.card(self.registry.status(device)?);
        let latest = self.latest.of(self.registry.seat(device)?);
        let values = card.points.iter().filter_map(|p| latest.get(&p.id).map(|(at, value)| (p.id.clone(), *at, (*value).clone())));
        Some(Shown { values: values.collect(), quarantined: self.guests.is_quarantined(device), card })
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            devices: self.registry.statuses().collect(),
            cards: self.device_cards(),
            maintenance: self.upkeep.maintenance().cloned().collect(),
            alarms: self.registry.alarms().map(|(device, kind)| (device.clone(), kind)).collect(),
            quarantined: self.guests.quarantined().cloned().collect(),
            lines: self.registry.lines().map(|(line, state, reason)| (line.clone(), state, reason.to_owned())).collect(),
            readings_in: self.readings_in,
            samples_in: self.samples_in,
            commands_open: self.commands.open(),
            alarms_unseen: self.alarms.unseen(),
        }
    }
}
