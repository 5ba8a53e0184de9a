//! A write with the daemon stopped: the same limits, the same line owner, in this process and for this order alone.

use super::{End, is_device_of};
use crate::{
    cli::site::Trouble,
    config::{Config, Device},
    drivers::{Doors, line},
    engine, limits,
    logic::commands::Effect,
    model::{Action, Command, CommandId, Order, Outcome, Phase, PointId, Urgent, Value},
    system::clock::Clock,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

/// A read of what is there, before the question is asked.
const LOOK: Duration = Duration::from_secs(2);

/// Unique enough among those of this gateway: process and moment.
pub fn id() -> String {
    format!("local-{:x}-{:x}", std::process::id(), Clock::Real.reading().wall(Clock::Real.now()).0)
}

/// The order that the engine would send, or why it would not.
fn order(config: &Config, device: &Device, action: Action, expires: Duration) -> Result<Order, String> {
    let now = Clock::Real.now();
    let id = CommandId::parse(&id()).map_err(|e| e.to_string())?;
    let command = Command {
        id,
        device: device.id.clone(),
        action,
        from: "local".into(),
        received: now,
        issued_at: None,
        expires_in: expires,
        from_stored_session: false,
    };
    let mut out = Vec::new();
    engine::command_rules(config).admit(now, command, is_device_of(config, device), Clock::Real.reading(), &mut out);
    match out.pop() {
        Some(Effect::Dispatch(order)) => Ok(order),
        Some(Effect::Done { outcome, .. } | Effect::Part { outcome, .. }) => Err(outcome.reason),
        None => Err("it was not accepted".into()),
    }
}

/// Whether the limits of the configuration allow it.
pub fn allowed(config: &Config, device: &Device, values: &BTreeMap<PointId, Value>) -> Result<(), String> {
    order(config, device, Action::Write(values.clone()), Duration::from_secs(1)).map(drop)
}

/// What is there now, as far as it can be read in a moment.
pub fn before(config: &Config, device: &Device, values: &BTreeMap<PointId, Value>, patience: Duration) -> BTreeMap<PointId, Value> {
    let points = values.keys().filter(|id| device.points.iter().any(|p| p.id == **id && p.read)).cloned().collect();
    let Ok(order) = order(config, device, Action::Read(points), LOOK) else { return BTreeMap::new() };
    carry_out(config, device, order, LOOK.min(patience)).map(|(o, _)| o.values).unwrap_or_default()
}

pub fn write(config: &Config, device: &Device, values: &BTreeMap<PointId, Value>, expires: Duration) -> Result<End, Trouble> {
    let rejected = |why: String| Trouble::new("rejected", crate::cli::EXIT_REFUSED, why, "");
    let order = order(config, device, Action::Write(values.clone()), expires).map_err(rejected)?;
    let id = order.id.to_string();
    let wall = || Clock::Real.reading().wall(Clock::Real.now()).0;
    let accepted = wall();
    let (outcome, sent) = carry_out(config, device, order, expires + limits::COMMAND_GRACE).ok_or_else(|| {
        Trouble::new("unknown", super::EXIT_UNKNOWN, "the line did not say what came of it", "read the point before you send it again")
    })?;
    let read_back = outcome.values.iter().map(|(p, v)| (p.to_string(), super::plain(v))).collect();
    let phases = vec![(Phase::Accepted, accepted), (Phase::Sent, sent), (outcome.phase, wall())];
    Ok(End { id, phase: Some(outcome.phase), reason: outcome.reason, read_back, phases })
}

/// On a line of this process. The second: when it was handed to the line.
fn carry_out(config: &Config, device: &Device, order: Order, within: Duration) -> Option<(Outcome, i64)> {
    let line = config.lines.iter().find(|l| l.id == device.line)?.clone();
    // Only the order is of interest here.
    let device = Device { poll: Duration::from_secs(3600), ..device.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let ended = runtime.block_on(async {
        let ((urgent, mut urgent_rx), (bulk, mut bulk_rx)) = (mpsc::channel(64), mpsc::channel(64));
        let stop = CancellationToken::new();
        let doors = Doors::new(urgent, bulk);
        let handle = line::start(&line, vec![device], &mut line::Known::default(), doors, Clock::Real, stop.clone());
        let sent = Clock::Real.reading().wall(Clock::Real.now()).0;
        let id = order.id.clone();
        let given = (handle.orders)(order).is_ok();
        let wait = async {
            loop {
                tokio::select! {
                    biased;
                    Some(message) = urgent_rx.recv() => {
                        if let Urgent::Done(done) = message && done.id == id && done.outcome.phase.is_terminal() {
                            return Some((done.outcome, sent));
                        }
                    }
                    Some(_) = bulk_rx.recv() => {}
                    else => return None,
                }
            }
        };
        let outcome = if given { timeout(within, wait).await.ok().flatten() } else { None };
        stop.cancel();
        // The port is closed before anybody else opens it.
        let _ = timeout(Duration::from_secs(1), handle.ended()).await;
        outcome
    });
    runtime.shutdown_background();
    ended
}
