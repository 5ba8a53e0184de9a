//! Orders on a line of framed devices: what is sent to write goes on the wire once, and each order ends in one outcome.
//!
//! ```text
//! waiting --deadline--> Expired
//!    | its turn
//! sent --expected answer--> (next point | Confirmed)   --refused--> Failed
//!    |--no answer is to be expected, or none came, or another--> Unknown
//! ```
//!
//! Absent on purpose: min and max and rates, which the engine keeps; the wire.

use super::check;
use crate::{
    config::{
        Framed,
        framed::{FramedPoint, FramedWrite},
    },
    limits,
    model::{Action, Boot, Order, Outcome, Phase, PointId, Value, WriteDone},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Reads without a valid reply are tried so often.
const READ_TRIES: u8 = 3;

#[derive(Debug)]
enum Step {
    Write { point: usize, frame: Vec<u8> },
    Read { wanted: Vec<PointId> },
}

#[derive(Debug)]
struct Active {
    order: Order,
    device: usize,
    steps: VecDeque<Step>,
    /// A step was sent.
    begun: bool,
    tries: u8,
    /// Sent without an answer to be expected.
    doubt: Option<String>,
    written: Vec<PointId>,
    values: BTreeMap<PointId, Value>,
}

/// What became of the request on the wire.
pub enum Verdict<'a> {
    /// The answer that says that it was done.
    Done,
    /// The answer that says that it was not.
    Refused(&'a str),
    /// What was read.
    Read(&'a [PointId], &'a [Value]),
    /// No answer is to be expected.
    Unanswered,
    NoReply(&'a str),
}

#[derive(Debug, Default)]
pub struct Orders {
    queue: VecDeque<Active>,
    on_wire: Option<usize>,
    done: VecDeque<WriteDone>,
}

impl Orders {
    pub fn accept(&mut self, now: Boot, devices: &[Framed], order: Order) {
        if self.queue.len() >= limits::LINE_ORDERS {
            return self.refuse(now, order, "the line has too many commands waiting; try again later".into());
        }
        let Some(device) = devices.iter().position(|d| d.id == order.device) else {
            return self.refuse(now, order, "this device is not on this line".into());
        };
        match steps(&devices[device], &order) {
            Ok(steps) => {
                let (written, values) = (Vec::new(), BTreeMap::new());
                self.queue.push_back(Active { order, device, steps, begun: false, tries: 0, doubt: None, written, values });
            }
            Err(reason) => self.refuse(now, order, reason),
        }
    }

    fn refuse(&mut self, at: Boot, order: Order, reason: String) {
        let outcome = Outcome::new(Phase::Rejected, reason);
        self.done.push_back(WriteDone { id: order.id, device: order.device, outcome, at });
    }

    pub fn take_done(&mut self) -> Option<WriteDone> {
        self.done.pop_front()
    }

    /// The order whose turn it is: those of one device keep their order.
    pub fn pick(&self, now: Boot, free_at: impl Fn(usize) -> Boot) -> Option<usize> {
        (0..self.queue.len()).find(|n| self.is_first_of_device(*n) && free_at(self.queue[*n].device) <= now)
    }

    /// When to look again: a turn, or a deadline.
    pub fn wake(&self, free_at: impl Fn(usize) -> Boot) -> Boot {
        let moments = (0..self.queue.len()).flat_map(|n| {
            let active = &self.queue[n];
            let turn = if self.is_first_of_device(n) { free_at(active.device) } else { Boot(u64::MAX) };
            [turn, active.order.deadline + Duration::from_micros(1)]
        });
        moments.min().unwrap_or(Boot(u64::MAX))
    }

    fn is_first_of_device(&self, n: usize) -> bool {
        !self.queue.iter().take(n).any(|a| a.device == self.queue[n].device)
    }

    pub fn device(&self, n: usize) -> usize {
        self.queue[n].device
    }

    /// Puts the next step of an order on the wire: what is sent.
    pub fn begin(&mut self, n: usize, requests: &[Vec<u8>]) -> Vec<u8> {
        self.on_wire = Some(n);
        let active = &mut self.queue[n];
        active.begun = true;
        match active.steps.front() {
            Some(Step::Write { frame, .. }) => frame.clone(),
            Some(Step::Read { .. }) | None => requests[active.device].clone(),
        }
    }

    /// What is awaited on the wire: the rule of a write; `None`: a reading.
    pub fn rule<'a>(&self, devices: &'a [Framed]) -> Option<&'a FramedWrite> {
        let active = self.queue.get(self.on_wire?)?;
        match active.steps.front()? {
            Step::Write { point, .. } => devices[active.device].points[*point].write.as_ref(),
            Step::Read { .. } => None,
        }
    }

    /// The request on the wire ended like this.
    pub fn verdict(&mut self, now: Boot, devices: &[Framed], verdict: Verdict<'_>) {
        let Some(n) = self.on_wire.take() else { return };
        let Some(mut active) = self.queue.remove(n) else { return };
        match active.apply(&devices[active.device], verdict) {
            None => self.queue.insert(n, active),
            Some(outcome) => self.end(now, active, outcome),
        }
    }

    /// The connection went away before the reply. Only a read may be sent again.
    pub fn lost(&mut self, now: Boot, devices: &[Framed], again: bool) {
        let is_read = self.on_wire.is_some() && self.rule(devices).is_none();
        if again && is_read {
            self.on_wire = None;
        } else {
            self.verdict(now, devices, Verdict::NoReply("the connection was lost before the reply"));
        }
    }

    /// Ends what may not be begun any more. `why`: what kept it waiting.
    pub fn expire(&mut self, now: Boot, why: &str) {
        let mut n = 0;
        while n < self.queue.len() {
            if self.queue[n].order.deadline >= now || self.on_wire == Some(n) {
                n += 1;
                continue;
            }
            let Some(active) = self.queue.remove(n) else { return };
            self.on_wire = self.on_wire.map(|w| if w > n { w - 1 } else { w });
            let outcome = if active.begun {
                active.ended_early("not completed before the deadline")
            } else {
                active.outcome(Phase::Expired, format!("the deadline passed before it was sent: {why}"))
            };
            self.end(now, active, outcome);
        }
    }

    /// The gateway stops.
    pub fn stop(&mut self, now: Boot, devices: &[Framed]) {
        if self.on_wire.is_some() {
            self.verdict(now, devices, Verdict::NoReply("the gateway stops"));
        }
        while let Some(active) = self.queue.pop_front() {
            let outcome = match active.begun {
                true => active.ended_early("not completed: the gateway stops"),
                false => active.outcome(Phase::Rejected, "not sent: the gateway stops".into()),
            };
            self.end(now, active, outcome);
        }
    }

    fn end(&mut self, at: Boot, active: Active, outcome: Outcome) {
        self.done.push_back(WriteDone { id: active.order.id, device: active.order.device, outcome, at });
    }
}

impl Active {
    fn apply(&mut self, device: &Framed, verdict: Verdict<'_>) -> Option<Outcome> {
        match self.steps.pop_front()? {
            Step::Write { point, .. } => self.wrote(&device.points[point].id, verdict),
            Step::Read { wanted } => self.have_read(wanted, verdict),
        }
    }

    fn wrote(&mut self, point: &PointId, verdict: Verdict<'_>) -> Option<Outcome> {
        match verdict {
            Verdict::Done | Verdict::Read(..) => self.written.push(point.clone()),
            Verdict::Unanswered => {
                self.doubt.get_or_insert(format!("{point}: sent; the device does not answer to it"));
            }
            Verdict::Refused(said) => return Some(self.outcome(Phase::Failed, format!("{point}: it answered `{said}`"))),
            Verdict::NoReply(why) => return Some(self.outcome(Phase::Unknown, format!("{point}: sent, but {why}"))),
        }
        self.next()
    }

    fn have_read(&mut self, wanted: Vec<PointId>, verdict: Verdict<'_>) -> Option<Outcome> {
        match verdict {
            Verdict::Read(points, values) => {
                let is_wanted = |id: &PointId| wanted.is_empty() || wanted.contains(id);
                self.values.extend(points.iter().cloned().zip(values.iter().cloned()).filter(|(id, _)| is_wanted(id)));
                self.next()
            }
            Verdict::NoReply(why) => {
                self.tries += 1;
                if self.tries >= READ_TRIES {
                    return Some(self.outcome(Phase::Failed, why.into()));
                }
                self.steps.push_front(Step::Read { wanted });
                None
            }
            Verdict::Done | Verdict::Refused(_) | Verdict::Unanswered => {
                Some(self.outcome(Phase::Failed, "the reply was for another request".into()))
            }
        }
    }

    fn next(&mut self) -> Option<Outcome> {
        self.tries = 0;
        self.steps.is_empty().then(|| match &self.doubt {
            Some(doubt) => self.outcome(Phase::Unknown, doubt.clone()),
            None => self.outcome(Phase::Confirmed, String::new()),
        })
    }

    /// Between two points: what was sent is known, the rest was not sent.
    fn ended_early(&self, why: &str) -> Outcome {
        match &self.doubt {
            Some(doubt) => self.outcome(Phase::Unknown, format!("{doubt}; {why}")),
            None => self.outcome(Phase::Failed, why.into()),
        }
    }

    fn outcome(&self, phase: Phase, reason: String) -> Outcome {
        let partly = phase != Phase::Confirmed && !self.written.is_empty();
        let names: Vec<&str> = self.written.iter().map(PointId::as_str).collect();
        let reason = if partly { format!("{reason} (written: {})", names.join(", ")) } else { reason };
        Outcome::new(phase, reason).with(self.values.clone())
    }
}

/// Everything that the order needs, or why it cannot be carried out. Nothing has been sent then.
fn steps(device: &Framed, order: &Order) -> Result<VecDeque<Step>, String> {
    match &order.action {
        Action::Read(_) if device.request.is_none() => Err("it speaks by itself and cannot be asked".into()),
        Action::Read(points) => {
            if let Some(unknown) = points.iter().find(|id| !device.points.iter().any(|p| p.id == **id)) {
                return Err(format!("{}: there is no point {unknown}", device.id));
            }
            Ok([Step::Read { wanted: points.clone() }].into())
        }
        Action::Run(_) | Action::Own(_) | Action::Cancel(_) | Action::Each(_) => Err("there is nothing to do".into()),
        Action::Write(values) if values.is_empty() => Err("there is nothing to do".into()),
        Action::Write(values) => values.iter().map(|(id, value)| step(device, id, value)).collect(),
        Action::Acknowledge(_) => Err("this is nothing that a device does".into()),
    }
}

fn step(device: &Framed, id: &PointId, value: &Value) -> Result<Step, String> {
    let found = device.points.iter().position(|p| p.id == *id);
    let n = found.ok_or_else(|| format!("{}: there is no point {id}", device.id))?;
    let point = &device.points[n];
    let write = point.write.as_ref().ok_or_else(|| format!("{id}: it cannot be written"))?;
    let number = raw(point, write, value).map_err(|why| format!("{id}: {why}"))?;
    Ok(Step::Write { point: n, frame: check::fill(&device.frame, &write.send, number) })
}

/// The number as the device takes it. Without a place for it only `true` means something.
fn raw(point: &FramedPoint, write: &FramedWrite, value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|n| n.is_finite()).ok_or("it takes a number")?;
    if !write.takes_number() {
        return if number == 1.0 { Ok(1.0) } else { Err("only true can be written: it is a command without a value".into()) };
    }
    let raw = (number - point.offset) / point.scale;
    // 64.2 / 0.1 is not 642: what the scale left behind the twelfth digit is noise.
    let rounded = (raw * 1e9).round() / 1e9;
    Ok(if rounded.is_finite() { rounded } else { raw })
}
