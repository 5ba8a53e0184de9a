//! One order on its way through its steps, until it has ended.

use super::{
    Verdict,
    steps::{Check, Step, Write, index, writes},
    words::{exception, value},
};
use crate::{
    config::Device,
    drivers::{
        line::core::Factors,
        modbus::{Ask, Holes, Request, plan::plan_read},
    },
    model::{Action, Boot, Order, Outcome, Phase, PointId, Value},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Before a read without an answer, or a read-back that differed, is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// A write that a busy unit refused waits for [`PAUSE`] first, then twice as long each time, up to this.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Reads and read-backs without a valid reply are tried so often.
const READ_TRIES: u8 = 3;
/// A read-back may begin so long after the deadline of its write; then the outcome is unknown.
const READ_BACK_WITHIN: Duration = Duration::from_secs(10);
const BROADCAST: &str = "sent to all units at once, which do not answer";

#[derive(Debug)]
pub(super) struct Active {
    pub order: Order,
    pub device: usize,
    steps: VecDeque<Step>,
    /// A step was sent.
    pub begun: bool,
    pub not_before: Boot,
    tries: u8,
    /// Why nobody knows whether the last write was carried out.
    doubt: Option<String>,
    written: Vec<PointId>,
    /// Something went to all units, which cannot confirm it.
    unanswered: bool,
    values: BTreeMap<PointId, Value>,
    /// Scale factors that had to be read by themselves.
    factors: Factors,
}

impl Active {
    /// Everything that the order needs, or why it cannot be carried out. Nothing has been sent then.
    pub fn new(now: Boot, n: usize, device: &Device, holes: &Holes, order: Order) -> Result<Active, Box<(Order, String)>> {
        match steps(device, holes, &order) {
            Ok(steps) if steps.is_empty() => Err(Box::new((order, "there is nothing to do".into()))),
            Ok(steps) => Ok(Active {
                order,
                device: n,
                steps,
                begun: false,
                not_before: now,
                tries: 0,
                doubt: None,
                written: Vec::new(),
                unanswered: false,
                values: BTreeMap::new(),
                factors: Factors::default(),
            }),
            Err(reason) => Err(Box::new((order, reason))),
        }
    }

    /// The next request goes on the wire.
    pub fn begin(&mut self) -> Ask {
        self.begun = true;
        match self.steps.front() {
            Some(Step::Write(write)) => write.next(),
            Some(Step::Check(Check { request, .. }) | Step::Read { request }) => request.ask(),
            None => unreachable!("an order without steps has ended"),
        }
    }

    /// Whether it has changed something and is not done with it: nothing else may be written to the device meanwhile.
    pub fn is_amid(&self) -> bool {
        let before_first = matches!(self.steps.front(), Some(Step::Write(w)) if w.unlocked == 0) && self.written.is_empty();
        self.begun && !before_first && matches!(self.order.action, Action::Write(_))
    }

    pub fn is_secret(&self) -> bool {
        matches!(self.steps.front(), Some(Step::Write(write)) if write.is_secret())
    }

    pub fn is_read(&self) -> bool {
        matches!(self.order.action, Action::Read(_))
    }

    pub fn outdated(&self) -> Outcome {
        self.outcome(Phase::Failed, "what the device has was found to be something else meanwhile; ask again".into())
    }

    /// A new connection, or something else was written: what was seen of the device may be history.
    pub fn look_again(&mut self) {
        if let Some(Step::Write(write)) = self.steps.front_mut() {
            write.looked = false;
        }
    }

    /// Past this moment the next step is not begun.
    pub fn ends_at(&self) -> Boot {
        match self.steps.front() {
            Some(Step::Check(_)) => self.order.deadline + READ_BACK_WITHIN,
            _ => self.order.deadline,
        }
    }

    pub fn apply(&mut self, now: Boot, device: &Device, verdict: Verdict<'_>) -> Option<Outcome> {
        match self.steps.pop_front()? {
            Step::Write(write) if write.looked || write.look.is_none() => self.wrote(now, write, verdict),
            Step::Write(write) => self.looked(now, write, verdict),
            Step::Check(check) => self.checked(now, device, check, verdict),
            Step::Read { request } => self.have_read(now, device, request, verdict),
        }
    }

    /// What was there before the write.
    fn looked(&mut self, now: Boot, mut write: Write, verdict: Verdict<'_>) -> Option<Outcome> {
        let why = match verdict {
            Verdict::Data(data) => {
                self.tries = 0;
                if write.found(data) {
                    self.steps.push_front(Step::Write(write));
                    return None;
                }
                self.written.append(&mut write.points);
                return self.next();
            }
            Verdict::Exception(5 | 6 | 0x0a | 0x0b) | Verdict::NoReply(_) if self.tries + 1 < READ_TRIES => {
                self.tries += 1;
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Write(write));
                return None;
            }
            Verdict::Exception(code) => exception(code),
            Verdict::NoReply(why) => why,
            Verdict::Written | Verdict::Broadcast => "the reply was for another request",
        };
        Some(self.failed(&names(&write.points), &format!("not written: what is there could not be read: {why}")))
    }

    fn wrote(&mut self, now: Boot, mut write: Write, verdict: Verdict<'_>) -> Option<Outcome> {
        let is_last = write.is_last();
        let point = names(&write.points);
        let doubt = match verdict {
            Verdict::Written | Verdict::Data(_) | Verdict::Broadcast => {
                self.unanswered |= matches!(verdict, Verdict::Broadcast);
                self.tries = 0;
                if is_last {
                    self.written.append(&mut write.points);
                    return self.next();
                }
                write.unlocked += 1;
                self.steps.push_front(Step::Write(write));
                return None;
            }
            // Not executed, says the unit: the only write that may be sent again.
            Verdict::Exception(code @ (6 | 0x0a)) => {
                let pause = (PAUSE * 2u32.pow(self.tries.min(8).into())).min(PAUSE_MAX);
                if now + pause > self.order.deadline {
                    return Some(self.failed(&point, exception(code)));
                }
                self.tries = self.tries.saturating_add(1);
                self.not_before = now + pause;
                self.steps.push_front(Step::Write(write));
                return None;
            }
            Verdict::Exception(code @ (5 | 0x0b)) => exception(code).to_owned(),
            Verdict::Exception(code) if is_last => return Some(self.failed(&point, exception(code))),
            Verdict::Exception(code) => exception(code).to_owned(),
            Verdict::NoReply(why) => format!("sent, but {why}"),
        };
        if let (false, Some(pre)) = (is_last, write.pre.get(write.unlocked)) {
            return Some(self.failed(&point, &format!("not written: the write to {} before it: {doubt}", pre.register)));
        }
        self.tries = 0;
        let doubt = format!("{point}: {doubt}");
        if !matches!(self.steps.front(), Some(Step::Check(_))) {
            return Some(self.outcome(Phase::Unknown, doubt));
        }
        self.doubt = Some(doubt);
        None
    }

    fn checked(&mut self, now: Boot, device: &Device, check: Check, verdict: Verdict<'_>) -> Option<Outcome> {
        let point = check.request.points.first().cloned()?;
        let why = match verdict {
            Verdict::Data(data) => {
                self.keep_values(device, &check.request, data);
                if check.is_same(data) {
                    if self.doubt.is_some() {
                        self.written.push(point);
                    }
                    // A group is written by one request: only with its last point nothing is in doubt.
                    if !matches!(self.steps.front(), Some(Step::Check(_))) {
                        self.doubt = None;
                    }
                    return self.next();
                }
                if check.was_different {
                    let got = self.values.get(&point).map(value).unwrap_or_default();
                    return Some(self.failed(point.as_str(), &format!("it reads back as {got}")));
                }
                // Some units take a moment before they show what they accepted.
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Check(Check { was_different: true, ..check }));
                return None;
            }
            Verdict::Exception(5 | 6 | 0x0a | 0x0b) | Verdict::NoReply(_) if self.tries + 1 < READ_TRIES => {
                self.tries += 1;
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Check(check));
                return None;
            }
            Verdict::Exception(code) => exception(code),
            Verdict::NoReply(why) => why,
            Verdict::Written | Verdict::Broadcast => "the reply was for another request",
        };
        Some(self.not_read_back(&point, why))
    }

    fn not_read_back(&self, point: &PointId, why: &str) -> Outcome {
        let reason = match &self.doubt {
            Some(doubt) => format!("{doubt}; not read back either: {why}"),
            None => format!("{point}: accepted by the device, but not read back: {why}"),
        };
        self.outcome(Phase::Unknown, reason)
    }

    fn have_read(&mut self, now: Boot, device: &Device, request: Request, verdict: Verdict<'_>) -> Option<Outcome> {
        let why = match verdict {
            Verdict::Data(data) => {
                self.keep_values(device, &request, data);
                return self.next();
            }
            Verdict::Exception(5 | 6 | 0x0a | 0x0b) | Verdict::NoReply(_) if self.tries + 1 < READ_TRIES => {
                self.tries += 1;
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Read { request });
                return None;
            }
            Verdict::Exception(code) => exception(code),
            Verdict::NoReply(why) => why,
            Verdict::Written | Verdict::Broadcast => "the reply was for another request",
        };
        Some(self.outcome(Phase::Failed, why.into()))
    }

    fn keep_values(&mut self, device: &Device, request: &Request, data: &[u8]) {
        if request.points.is_empty() {
            return self.factors.keep(self.device, device, request, data);
        }
        let (values, _) = self.factors.decode((self.device, device), request, data);
        self.values.extend(request.points.iter().cloned().zip(values));
    }

    /// The step succeeded.
    fn next(&mut self) -> Option<Outcome> {
        self.tries = 0;
        let end = || {
            let (phase, reason) = if self.unanswered { (Phase::Unknown, BROADCAST) } else { (Phase::Confirmed, "") };
            Outcome::new(phase, reason).with(self.values.clone())
        };
        self.steps.is_empty().then(end)
    }

    fn failed(&self, point: &str, why: &str) -> Outcome {
        self.outcome(Phase::Failed, format!("{point}: {why}"))
    }

    pub fn expired(&self, why: &str) -> Outcome {
        match (self.steps.front(), &self.doubt) {
            (_, Some(doubt)) => self.outcome(Phase::Unknown, format!("{doubt}; not read back: {why}")),
            (Some(Step::Check(_)), None) => self.outcome(Phase::Unknown, format!("written, but not read back: {why}")),
            // Refused as busy until now, or between two points: what was sent is known, what was not is named.
            (Some(Step::Write(write)), None) if self.begun => {
                self.outcome(Phase::Failed, format!("{}: not written before the deadline", names(&write.points)))
            }
            _ => self.outcome(Phase::Expired, format!("the deadline passed before it was sent: {why}")),
        }
    }

    /// The gateway stops.
    pub fn stopped(&self, is_on_wire: bool) -> Outcome {
        match (&self.doubt, self.steps.front()) {
            (Some(doubt), _) => self.outcome(Phase::Unknown, doubt.clone()),
            (None, Some(Step::Write(write))) if is_on_wire && write.is_last() => {
                self.outcome(Phase::Unknown, "sent, but the gateway stops".into())
            }
            (None, Some(Step::Check(_))) => self.outcome(Phase::Unknown, "written, but not read back: the gateway stops".into()),
            _ if self.begun => self.outcome(Phase::Failed, "not completed: the gateway stops".into()),
            _ => self.outcome(Phase::Rejected, "not sent: the gateway stops".into()),
        }
    }

    fn outcome(&self, phase: Phase, reason: String) -> Outcome {
        let partly = phase != Phase::Confirmed && !self.written.is_empty() && matches!(self.order.action, Action::Write(_));
        let reason = if partly { format!("{reason} (written: {})", names(&self.written)) } else { reason };
        Outcome::new(phase, reason).with(self.values.clone())
    }
}

fn names(points: &[PointId]) -> String {
    points.iter().map(PointId::as_str).collect::<Vec<_>>().join(", ")
}

fn steps(device: &Device, holes: &Holes, order: &Order) -> Result<VecDeque<Step>, String> {
    match &order.action {
        Action::Run(_) | Action::Own(_) | Action::Cancel(_) | Action::Each(_) => Err("there is nothing to do".into()),
        Action::Read(_) if device.broadcast => Err(format!("{} is all units at once, which cannot be read", device.id)),
        Action::Read(points) => {
            let readable = |id: &PointId| match index(device, id)? {
                n if device.points[n].read => Ok(n),
                _ => Err(format!("{id} is written only and cannot be read")),
            };
            // What it refuses is asked only if it is named.
            let all = (0..device.points.len()).filter(|n| device.points[*n].read && holes.refuses_point(&device.points[*n]).is_none());
            let wanted: Vec<usize> =
                if points.is_empty() { all.collect() } else { points.iter().map(readable).collect::<Result<_, String>>()? };
            Ok(plan_read(device, holes, &wanted).into_iter().map(|request| Step::Read { request }).collect())
        }
        Action::Write(values) => {
            let verify: &[PointId] = if device.broadcast { &[] } else { &order.verify };
            writes(device, values, verify)
        }
        Action::Acknowledge(_) => Err("this is nothing that a device does".into()),
    }
}
