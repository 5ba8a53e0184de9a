//! What things are: ids, values, readings, states, events, commands, and the messages that doors hand to the engine.
//!
//! Absent on purpose: IO, clocks, wire formats, `async`. This room names no other.

pub mod analysis;
pub mod batch;
pub mod calendar;
pub mod command;
pub mod cron;
pub mod event;
pub mod health;
pub mod ids;
pub mod learned;
pub mod message;
pub mod own;
pub mod push;
pub mod relay;
pub mod rule;
pub mod schedule;
pub mod shared;
pub mod site;
pub mod state;
pub mod status;
pub mod time;
pub mod value;
pub mod zone;

pub use analysis::{Analysis, Figure};
pub use batch::{Epoch, Frame, Key, Row, Sealed, Stream, Thin};
pub use command::{Action, Command, CommandId, Each, Outcome, Phase};
pub use cron::Cron;
pub use event::{Event, EventKind, Replaced};
pub use health::{Latency, StoreHealth, StoreState, Wear};
pub use ids::{BadId, DeviceId, GatewayId, LineId, PointId, RouteId, RuleId, ScheduleId, UplinkId, UplinkIndex};
pub use learned::Learned;
pub use message::{
    Bulk, DeadLetter, Heard, LocalMessage, LocalPort, Order, OrderPort, RecallPort, Receipt, Said, Settled, Urgent, WriteDone, letter_kind,
};
pub use own::Own;
pub use push::{PUSHED, PushAnswer, PushAsk, PushPort, PushRefusal, PushWhat, Pushed, WaitingOrder};
pub use relay::{By as RelayBy, Relay};
pub use rule::{AlarmName, Compare, Condition, Expr, Pace, PointRef, RuleAction, RuleMemory, RuleView, Test, TestView, Urgency};
pub use schedule::{Missed, Schedule, ScheduleAsk, ScheduleNews, Target, Timing, When};
pub use shared::Shared;
pub use site::{FramePort, Parity, Settings, SiteAsk, SiteJob, SiteOutcome, SitePort, SiteReport, WireFrame};
pub use state::{Alarm, AlarmKind, Cause, DeviceStatus, Evidence, EvidenceKind, LineState, Maintenance, State, by_word};
pub use status::{DeviceCard, DeviceFigures, LineFigures, PointCard, SpoolFigures, UplinkFigures, UplinkSpool, UplinkState};
pub use time::{Boot, BootIndex, ClockChange, ClockQuality, ClockReading, ClockSource, WallMs};
pub use value::{Quality, Reading, Value};
pub use zone::Zone;
