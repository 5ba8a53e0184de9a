//! Commands between their first commit and their end: limits, order per device, deadlines, one terminal phase.
//!
//! ```text
//!  admit ──► waiting (behind another of its device) ──► at the port ──► done
//!    │           │                                        │   └── no answer: unknown
//!    └ rejected  └ expired, rejected (at its turn)        └ port full: rejected
//! ```
//!
//! Parts of a command to several devices go the same way, each by itself; their whole ends with the last of them.
//!
//! Invariants: each admitted id ends in exactly one [`Effect::Done`] (a part: [`Effect::Part`]); a device has at most one order at its port, in the
//! order of admission; nothing is dispatched after its deadline; what may have been executed is never dispatched again.
//! Absent on purpose: storage and ids of the past (the store knows those: an id is admitted only if it is new), retries.

mod fan;
mod limit;
#[cfg(test)]
mod tests;

pub use fan::{together, used};
pub use limit::{Kind, PointRule, Takes, WriteRule};

use crate::{
    limits,
    model::{Action, Boot, ClockQuality, ClockReading, Command, CommandId, DeviceId, Order, Outcome, Phase, PointId},
};
use fan::Fans;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// A port ends every order by itself soon after the deadline; if it does not, it is gone, and the device must not wait
/// for ever.
const ANSWER_GRACE: Duration = Duration::from_secs(30);
/// The sender's clock may be ahead of ours by so much before its `issued_at` says nothing about a command's age.
const AHEAD_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Hand it to the device's port, now.
    Dispatch(Order),
    /// It has ended: store and tell.
    Done { id: CommandId, device: DeviceId, outcome: Outcome },
    /// A part of a command to several has ended: store; it is told with the whole.
    Part { id: CommandId, device: DeviceId, outcome: Outcome },
}

/// What a cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    /// Ended as rejected; nothing of them was sent.
    pub ended: usize,
    /// Parts that were sent already and end by themselves.
    pub sent: usize,
}

/// Why nothing was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCancelled {
    #[error("no command of this id is open: it has ended, or it never came")]
    NotOpen,
    #[error("it was sent already, and nothing takes it back")]
    Sent,
}

#[derive(Debug, Default)]
pub struct Commands {
    takes: BTreeMap<DeviceId, Takes>,
    /// For devices that are not in `takes`: those that messages registered.
    others: Takes,
    lanes: BTreeMap<DeviceId, Lane>,
    open: BTreeMap<CommandId, DeviceId>,
    fans: Fans,
    due: BTreeSet<(Boot, CommandId)>,
    written: BTreeMap<(DeviceId, PointId), Boot>,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Lane {
    at_port: Option<CommandId>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: CommandId,
    action: Action,
    deadline: Boot,
}

impl Commands {
    /// `takes`: what configured devices may be asked for; `others`: what registered ones may.
    pub fn new(takes: BTreeMap<DeviceId, Takes>, others: Takes) -> Commands {
        Commands { takes, others, ..Commands::default() }
    }

    /// Takes in a command whose id is new and committed. `known`: there is such a device.
    pub fn admit(&mut self, now: Boot, command: Command, known: bool, clock: ClockReading, out: &mut Vec<Effect>) {
        if self.open.contains_key(&command.id) {
            return;
        }
        let judged = self.judge(now, &command, known, clock);
        let Command { id, device, action, .. } = command;
        match judged {
            Err((phase, reason)) => self.fans.told(&id, &device, outcome(phase, reason), out),
            Ok(deadline) => {
                self.open.insert(id.clone(), device.clone());
                self.due.insert((deadline, id.clone()));
                self.lanes.entry(device.clone()).or_default().waiting.push_back(Waiting { id, action, deadline });
                self.advance(now, &device, out);
            }
        }
    }

    /// These are parts of one command, each with whether its id is new: admit those, and the whole ends with the last.
    pub fn gather(&mut self, whole: &CommandId, parts: &[(CommandId, DeviceId, bool)], out: &mut Vec<Effect>) {
        let over = self.fans.begin(whole, parts);
        out.extend(over.map(|outcome| Effect::Done { id: whole.clone(), device: DeviceId::gateway(), outcome }));
    }

    /// Ends what of this command was not sent. `recall` takes an order back that its device has not fetched.
    pub fn cancel(
        &mut self,
        now: Boot,
        id: &CommandId,
        by: &str,
        mut recall: impl FnMut(&DeviceId, &CommandId) -> bool,
        out: &mut Vec<Effect>,
    ) -> Result<Cancelled, NotCancelled> {
        let ids = match self.fans.open(id) {
            Some(parts) => parts,
            None if self.open.contains_key(id) => vec![id.clone()],
            None => return Err(NotCancelled::NotOpen),
        };
        let mut done = Cancelled { ended: 0, sent: 0 };
        for id in &ids {
            let Some(device) = self.open.get(id).cloned() else { continue };
            let at_port = self.lanes.get(&device).is_some_and(|l| l.at_port.as_ref() == Some(id));
            if at_port && !recall(&device, id) {
                done.sent += 1;
            } else {
                done.ended += 1;
                self.end(now, id, outcome(Phase::Rejected, format!("cancelled by {by}; nothing was sent")), out);
            }
        }
        if done.ended == 0 { Err(NotCancelled::Sent) } else { Ok(done) }
    }

    /// Whether it may still begin.
    pub fn in_time(&self, now: Boot, command: &Command, clock: ClockReading) -> Result<(), (Phase, String)> {
        if self.stopping {
            return Err((Phase::Rejected, STOPPING.into()));
        }
        match deadline(command, clock) {
            Err(why) => Err((Phase::Rejected, why)),
            Ok(deadline) if deadline <= now => Err((Phase::Expired, TOO_LATE.into())),
            Ok(_) => Ok(()),
        }
    }

    /// Says in a sentence why the device would refuse it.
    pub fn allows(&self, device: &DeviceId, action: &Action) -> Result<(), String> {
        self.takes.get(device).unwrap_or(&self.others).allows(action)
    }

    /// What the port says of an order. A phase that is not terminal changes nothing; neither does a second end.
    pub fn done(&mut self, now: Boot, id: &CommandId, outcome: Outcome, out: &mut Vec<Effect>) {
        if outcome.phase.is_terminal() {
            self.end(now, id, outcome, out);
        }
    }

    /// The port gave the order back: its queue is full, or nobody is there.
    pub fn bounced(&mut self, now: Boot, id: &CommandId, reason: &str, out: &mut Vec<Effect>) {
        self.end(now, id, outcome(Phase::Rejected, reason.to_owned()), out);
    }

    /// When [`Commands::expire`] must be called next.
    pub fn next_due(&self) -> Option<Boot> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Ends what waited past its deadline, and gives up on ports that never answered.
    pub fn expire(&mut self, now: Boot, out: &mut Vec<Effect>) {
        while self.due.first().is_some_and(|(at, _)| *at < now) {
            let Some((_, id)) = self.due.pop_first() else { return };
            let at_port = self.open.get(&id).and_then(|d| self.lanes.get(d)).is_some_and(|l| l.at_port.as_ref() == Some(&id));
            let ended = if at_port {
                outcome(Phase::Unknown, "it was handed to the line, which never said what came of it".into())
            } else {
                outcome(Phase::Expired, "its time was over before its turn came".into())
            };
            self.end(now, &id, ended, out);
        }
    }

    /// The gateway stops: what waits is rejected, what is at a port may still end by itself.
    pub fn stop(&mut self, now: Boot, out: &mut Vec<Effect>) {
        self.stopping = true;
        let waiting: Vec<CommandId> = self.lanes.values().flat_map(|l| l.waiting.iter().map(|w| w.id.clone())).collect();
        for id in waiting {
            self.end(now, &id, outcome(Phase::Rejected, STOPPING.into()), out);
        }
    }

    /// Accepted and not yet ended.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// At a port at this moment.
    pub fn at_ports(&self) -> usize {
        self.lanes.values().filter(|l| l.at_port.is_some()).count()
    }

    fn judge(&self, now: Boot, command: &Command, known: bool, clock: ClockReading) -> Result<Boot, (Phase, String)> {
        let reject = |reason: String| (Phase::Rejected, reason);
        if self.stopping {
            return Err(reject(STOPPING.into()));
        }
        if !known {
            return Err(reject(format!("there is no device {} here", command.device)));
        }
        let deadline = deadline(command, clock).map_err(reject)?;
        if deadline <= now {
            return Err((Phase::Expired, TOO_LATE.into()));
        }
        self.allows(&command.device, &command.action).map_err(reject)?;
        if self.open.len() >= limits::COMMANDS_OPEN {
            return Err(reject(format!("busy: {} commands are open; send it again under a new id", self.open.len())));
        }
        Ok(deadline)
    }

    fn end(&mut self, now: Boot, id: &CommandId, outcome: Outcome, out: &mut Vec<Effect>) {
        let Some(device) = self.open.remove(id) else { return };
        self.due.retain(|(_, other)| other != id);
        if let Some(lane) = self.lanes.get_mut(&device) {
            if lane.at_port.as_ref() == Some(id) {
                lane.at_port = None;
            }
            lane.waiting.retain(|w| w.id != *id);
        }
        self.fans.told(id, &device, outcome, out);
        self.advance(now, &device, out);
    }

    /// Sends the next command of the device on its way, if it is free.
    fn advance(&mut self, now: Boot, device: &DeviceId, out: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(device) else { return };
        while lane.at_port.is_none() {
            let Some(next) = lane.waiting.pop_front() else {
                self.lanes.remove(device);
                return;
            };
            let takes = self.takes.get(device).unwrap_or(&self.others);
            let barred = if next.deadline <= now {
                Some((Phase::Expired, "its time was over before its turn came".to_owned()))
            } else {
                too_soon(takes, device, &next.action, &self.written, now).map(|reason| (Phase::Rejected, reason))
            };
            self.due.remove(&(next.deadline, next.id.clone()));
            if let Some((phase, reason)) = barred {
                self.open.remove(&next.id);
                self.fans.told(&next.id, device, outcome(phase, reason), out);
                continue;
            }
            if let Action::Write(values) = &next.action {
                for point in values.keys().filter(|p| !takes.min_interval(p).is_zero()) {
                    self.written.insert((device.clone(), point.clone()), now);
                }
            }
            lane.at_port = Some(next.id.clone());
            self.due.insert((next.deadline + ANSWER_GRACE, next.id.clone()));
            let verify = takes.verify(&next.action);
            let order = Order { id: next.id, device: device.clone(), action: next.action, deadline: next.deadline, verify };
            out.push(Effect::Dispatch(order));
        }
    }
}

const TOO_LATE: &str = "its time was over when it arrived";
const STOPPING: &str = "the gateway is stopping; send it again under a new id";

/// The earlier of receipt and issue plus the time that it is good for.
fn deadline(command: &Command, clock: ClockReading) -> Result<Boot, String> {
    let by_receipt = command.received + command.expires_in;
    let issued = command.issued_at.map(|w| w.0.saturating_sub(clock.offset_ms));
    if command.from_stored_session {
        let Some(issued) = issued else {
            return Err("stale: it waited at the broker and carries no issued_at, so its age is unknown".into());
        };
        // On a clock that nobody has set, stored mail seems to come from the future: then its age is unknown, too.
        let ahead = issued.saturating_sub(ms(command.received));
        if ahead > i64::try_from(AHEAD_MAX.as_millis()).unwrap_or(i64::MAX) {
            return Err("stale: it waited at the broker, and by this gateway's clock it was issued in the future".into());
        }
    } else if clock.quality != ClockQuality::Synchronised {
        return Ok(by_receipt);
    }
    let Some(issued) = issued else { return Ok(by_receipt) };
    // Whatever was issued before this boot has a negative time on its clock.
    let good_for = i64::try_from(command.expires_in.as_millis()).unwrap_or(i64::MAX);
    let by_issue = Boot::from_ms(u64::try_from(issued.saturating_add(good_for)).unwrap_or(0));
    Ok(by_receipt.min(by_issue))
}

fn ms(at: Boot) -> i64 {
    i64::try_from(at.ms()).unwrap_or(i64::MAX)
}

fn too_soon(takes: &Takes, device: &DeviceId, action: &Action, written: &BTreeMap<(DeviceId, PointId), Boot>, now: Boot) -> Option<String> {
    let Action::Write(values) = action else { return None };
    values.keys().find_map(|point| {
        let every = takes.min_interval(point);
        if every.is_zero() {
            return None;
        }
        let last = written.get(&(device.clone(), point.clone()))?;
        let left = every.saturating_sub(now.since(*last));
        let (every, left) = (every.as_secs_f64(), left.as_secs_f64());
        (left > 0.0).then(|| format!("too soon: {point} may be written every {every} s, in {left:.1} s again"))
    })
}

fn outcome(phase: Phase, reason: String) -> Outcome {
    Outcome::new(phase, reason)
}

/// What becomes of a command that was open when the process ended. It is never executed again.
pub fn after_restart(now: Boot, same_boot: bool, command: &Command, phase: Phase) -> Outcome {
    if phase == Phase::Sent {
        return outcome(Phase::Unknown, "the gateway restarted between sending and the answer".into());
    }
    if same_boot && command.received + command.expires_in <= now {
        return outcome(Phase::Expired, "the gateway restarted, and its time was over".into());
    }
    outcome(Phase::Rejected, "the gateway restarted before it was sent; send it again under a new id".into())
}
