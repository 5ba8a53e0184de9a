//! What happened, in the words that the cloud, the log and the pages share.
//!
//! An event is stored in the transaction that makes the change it reports, and sent only after that commit. Times are
//! boot times: the dialect turns them into wall time at sending, so an event before clock synchronisation is corrected.

use super::{
    AlarmKind, Boot, BootIndex, Cause, ClockChange, ClockReading, CommandId, DeviceId, Epoch, Evidence, LineId, LineState, Missed, Outcome,
    Phase, PointId, RuleId, ScheduleId, ScheduleNews, State, StoreState, Stream, UplinkId, Urgency, Value, WallMs,
};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    pub at: Boot,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The numbers of one stream and epoch that are still to come or were just sent: "late" can be told from "lost".
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Alive {
    pub epoch: Epoch,
    pub stream: Stream,
    /// Everything below was acknowledged or announced by a gap.
    pub lowest: u64,
    /// The highest number given so far.
    pub highest: u64,
}

/// The numbers `from..=to` that stand for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replaced {
    pub epoch: Epoch,
    pub from: u64,
    pub to: u64,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    Status {
        device: DeviceId,
        line: Option<LineId>,
        state: State,
        cause: Option<Cause>,
        since: Boot,
        evidence: Option<Evidence>,
        missed: u32,
    },
    /// One event for a line or the local broker, never one per device on it.
    Line {
        line: LineId,
        state: LineState,
        reason: String,
    },
    Registered {
        device: DeviceId,
        via: String,
    },
    /// What a device said of itself that is not as it was: its address, its firmware, anything else. `None`: not said any
    /// more.
    Changed {
        device: DeviceId,
        attributes: BTreeMap<PointId, Option<String>>,
    },
    Alarm {
        device: DeviceId,
        alarm: AlarmKind,
        /// `false`: it is over.
        raised: bool,
        reason: String,
        /// Events of an older version have none of these; `None`: as its kind says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        severity: Option<Urgency>,
        /// Of an alarm that a rule raised, or that is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<RuleId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<PointId>,
        /// Somebody has seen it: it is raised still, and this is who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Somebody took a device out of judgement, or its time there is over.
    Maintenance {
        device: DeviceId,
        on: bool,
        until: Option<Boot>,
        by: String,
        reason: String,
    },
    Command {
        id: CommandId,
        device: DeviceId,
        phase: Phase,
        reason: String,
        values: BTreeMap<PointId, Value>,
        /// Of a command to several devices.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        results: BTreeMap<DeviceId, Outcome>,
    },
    /// A schedule was added, changed or taken away, or runs of it were missed. What it runs are commands.
    Schedule {
        schedule: ScheduleId,
        news: ScheduleNews,
        /// Who did it; empty: the gateway itself.
        by: String,
        /// Runs that were missed: how many, from the first to the last, and for how many the policy runs it now.
        missed: u64,
        first: Option<WallMs>,
        last: Option<WallMs>,
        policy: Option<Missed>,
        ran: u64,
    },
    /// The connection to a cloud went or came. While it flaps one event stands for several changes.
    Uplink {
        uplink: UplinkId,
        /// `up` or `down`.
        state: LineState,
        /// Why it is down; empty when it is up.
        reason: String,
        /// With `up`: how long it was down since the last `up` that was told.
        down_for_ms: Option<u64>,
        changes: u32,
    },
    /// A rule fired and has this webhook told.
    Rule {
        rule: RuleId,
        webhook: String,
        /// The comparisons that made it fire.
        reason: String,
    },
    /// A watchdog's value is not written again any more.
    RefreshStopped {
        device: DeviceId,
        point: PointId,
        reason: String,
    },
    /// Numbers that will never come: `from..=to` of a stream.
    Gap {
        epoch: Epoch,
        stream: Stream,
        from: u64,
        to: u64,
        /// That they held.
        samples: u64,
        reason: String,
        /// Only the consumer behind this uplink does not get them. `None`: nobody does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uplink: Option<UplinkId>,
        /// What is left of them comes under these numbers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced_by: Option<Replaced>,
    },
    /// The first event of an epoch: which one came before, how far it got, what may be missing behind that.
    Epoch {
        epoch: Epoch,
        before: Option<Epoch>,
        /// Last durable or acknowledged numbers of the epoch before.
        telemetry: u64,
        event: u64,
        /// At most so many milliseconds of polled values before the end were in RAM only. 0 after a clean stop.
        may_have_lost_ms: u64,
    },
    Progress {
        alive: Vec<Alive>,
    },
    /// Something unreadable was put aside.
    DeadLetter {
        source: String,
        reason: String,
        count: u64,
    },
    /// A boot clock's offset to wall time became known or changed.
    Clock {
        /// Of this boot. Events of an older version say nothing: of the one in which it happened.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<BootIndex>,
        offset_ms: i64,
        before_ms: Option<i64>,
        synchronised: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reading: Option<ClockReading>,
    },
    /// A database cannot be written, is written again, or was damaged and begun anew.
    Store {
        file: String,
        state: StoreState,
        detail: String,
    },
}

impl EventKind {
    pub fn clock(change: &ClockChange) -> EventKind {
        let ClockChange { boot, before, after } = *change;
        EventKind::Clock {
            boot: Some(boot),
            offset_ms: after.offset_ms,
            before_ms: before.map(|b| b.offset_ms),
            synchronised: after.is_synchronised(),
            reading: Some(after),
        }
    }
}
