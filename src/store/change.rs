//! What is handed to the store, and what it hands back at the start.

use crate::{
    config,
    model::{
        Alarm, AlarmName, Boot, BootIndex, Command, CommandId, DeadLetter, DeviceId, DeviceStatus, Epoch, Event, Learned, Maintenance,
        Outcome, Phase, PointId, Relay, RuleId, RuleMemory, Schedule, ScheduleId, UplinkId,
    },
    system::clock::Clock,
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Who runs the transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// A thread of its own: the daemon.
    Thread,
    /// The caller, synchronously; commits that fall due are run by [`super::Store::poll`]. For virtual time, which
    /// breaks on a foreign thread.
    Inline,
}

/// An uplink, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub id: UplinkId,
    /// What it has not acknowledged is not forgotten.
    pub required: bool,
    /// A webhook: it reads the event stream and nothing else.
    pub events_only: bool,
}

impl Holder {
    /// Of a configuration; where there is none, somebody who is still to come.
    pub fn all(uplinks: &[config::Uplink]) -> Vec<Holder> {
        uplinks.iter().map(|u| Holder { id: u.id.clone(), required: u.required, events_only: false }).collect()
    }

    /// With the webhooks behind the uplinks.
    pub fn with_hooks(uplinks: &[config::Uplink], hooks: &[config::Webhook]) -> Vec<Holder> {
        let hooks = hooks.iter().map(|h| Holder { id: h.id.clone(), required: false, events_only: true });
        Holder::all(uplinks).into_iter().chain(hooks).collect()
    }

    /// Those of the spool. The webhooks have the places behind them in the event stream.
    pub(super) fn or_nobody(holders: &[Holder]) -> Vec<Holder> {
        let holders: Vec<Holder> = holders.iter().filter(|h| !h.events_only).cloned().collect();
        if holders.is_empty() {
            vec![Holder { id: UplinkId::parse("-").expect("a constant that fits"), required: true, events_only: false }]
        } else {
            holders
        }
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    pub data_dir: PathBuf,
    pub buffer: config::Buffer,
    pub clock: Clock,
    pub backing: Backing,
    /// Longest time that a reading waits in memory before it is sealed; the spool's window begins after it.
    pub linger: Duration,
    /// Who gets what is kept, in the order of their indices. None: it is kept for whoever comes.
    pub uplinks: Vec<Holder>,
    /// Tests: draws the epochs from this seed. `None`: from the kernel.
    pub epoch_seed: Option<u64>,
}

/// One thing to be written to state.db.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The device's row; also a row of history if state or cause differ from what is stored.
    Status(DeviceStatus),
    /// A device that is in no configuration file.
    Registered {
        device: DeviceId,
        via: String,
        offline_after: Option<Duration>,
        quarantined: bool,
        at: Boot,
    },
    /// Raised or cleared.
    Alarm(Alarm),
    /// Somebody has seen it.
    AlarmSeen {
        alarm: AlarmName,
        by: String,
        at: Boot,
    },
    /// What a rule must remember, and under which condition.
    Rule {
        id: RuleId,
        condition: String,
        memory: RuleMemory,
    },
    /// It is not configured any more.
    RuleGone(RuleId),
    /// `None`: it is judged again.
    Maintenance {
        device: DeviceId,
        is: Option<Maintenance>,
    },
    /// What a device says of itself now; `None`: not any more.
    Attributes {
        device: DeviceId,
        values: BTreeMap<PointId, Option<String>>,
        at: Boot,
    },
    /// A switched point changed.
    Relay(Relay),
    CommandPhase {
        id: CommandId,
        phase: Phase,
        at: Boot,
    },
    /// Terminal. A command that ended before keeps its first outcome.
    CommandDone {
        id: CommandId,
        device: DeviceId,
        outcome: Outcome,
        at: Boot,
    },
    Schedule(ScheduleChange),
    DeadLetter(DeadLetter),
    /// Dead letters that were replayed or purged.
    ForgetLetters(Vec<i64>),
    /// Replaces what was known under its key, or with `forget` takes it away.
    Learned {
        fact: Learned,
        forget: bool,
        at: Boot,
    },
    /// Gets the next event number. All events of one transaction share one message.
    Event(Event),
}

/// Of one schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleChange {
    /// New, changed, enabled or disabled. How far it has come stays while its timing does.
    Put {
        id: ScheduleId,
        /// `None`: the configuration has it.
        body: Option<Box<Schedule>>,
        timing: String,
        enabled: bool,
        by: String,
        at: Boot,
    },
    /// Everything up to this second of UTC has been dealt with.
    Mark {
        id: ScheduleId,
        mark: i64,
    },
    /// It runs, by these commands.
    Ran {
        id: ScheduleId,
        /// Its moment, in seconds since 1970 of UTC.
        second: i64,
        /// `false`: it runs by the boot clock, and the moment is an estimate.
        is_wall: bool,
        commands: Vec<(CommandId, DeviceId)>,
        at: Boot,
    },
    Gone(ScheduleId),
}

/// The answer to a command that was handed in.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// Never seen, and now committed as about to be sent: after a restart it counts as maybe executed.
    New,
    /// The id is known: its outcome if it has ended.
    Again(Option<Outcome>),
}

/// What was found at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    pub epoch: Epoch,
    pub boot: BootIndex,
    /// `None` on a new data directory.
    pub before: Option<Before>,
    pub devices: Vec<RestoredDevice>,
    /// Those that are raised.
    pub alarms: Vec<RestoredAlarm>,
    pub rules: Vec<RestoredRule>,
    pub maintenance: Vec<RestoredMaintenance>,
    pub attributes: Vec<RestoredAttribute>,
    /// How far they have come; those of the configuration without their content.
    pub schedules: Vec<RestoredSchedule>,
    /// Switched points as they stood.
    pub relays: Vec<(DeviceId, PointId, bool)>,
    /// Not ended when the process did. `Phase::Sent`: maybe executed, its outcome is unknown.
    pub open_commands: Vec<(Command, Phase)>,
    /// Of those to several devices, the parts that have ended.
    pub ended_parts: BTreeMap<CommandId, Outcome>,
    /// What was found out about devices and lines.
    pub learned: Vec<Learned>,
    /// Files that could not be read and were moved aside.
    pub quarantined: Vec<PathBuf>,
}

/// The epoch before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    pub epoch: Epoch,
    /// The last telemetry and event numbers known to be durable or acknowledged.
    pub telemetry: u64,
    pub event: u64,
    /// At most so much polled data before the end was in RAM only. 0 after a clean stop.
    pub may_have_lost_ms: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RestoredDevice {
    pub status: DeviceStatus,
    /// The boot whose clock `status` was stamped with.
    pub boot: BootIndex,
    /// `None`: it was configured, not registered.
    pub via: Option<String>,
    pub offline_after: Option<Duration>,
    pub quarantined: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RestoredAlarm {
    pub is: Alarm,
    /// Who has seen it.
    pub by: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RestoredRule {
    pub id: RuleId,
    /// The memory belongs to this condition.
    pub condition: String,
    pub memory: RuleMemory,
    /// The boot whose clock its moment is on.
    pub boot: BootIndex,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RestoredMaintenance {
    pub is: Maintenance,
    /// The boot whose clock it was stamped with.
    pub boot: BootIndex,
}

/// What a device said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredAttribute {
    pub device: DeviceId,
    pub name: PointId,
    pub value: String,
    pub boot: BootIndex,
    pub at: Boot,
}

/// A schedule as it was left.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredSchedule {
    pub id: ScheduleId,
    /// `None`: the configuration has it.
    pub body: Option<Schedule>,
    pub timing: String,
    pub enabled: bool,
    pub by: String,
    pub mark: Option<i64>,
    pub ran: Option<i64>,
}
