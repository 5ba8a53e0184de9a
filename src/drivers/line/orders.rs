//! Orders on a line: a write goes on the wire once, is read back where asked, and ends in exactly one outcome.
//!
//! ```text
//! waiting --deadline--> Expired
//!    | its turn
//! write --repeated by the unit--> (next point | read back)      --exception 6, 0x0A--> again within the deadline
//!    |--exception 5, 0x0B, timeout, garbled, connection lost--> in doubt --verify--> read back, else Unknown
//!    `--any other exception--> Failed
//! read back --equal--> (next point | Confirmed)   --different, also the second time--> Failed   --no reply--> Unknown
//! ```
//!
//! Several points are written one after the other, each with its own read-back; the first that is not confirmed ends the
//! order. Orders of one device keep their order. Absent on purpose: min and max, rates and duplicates, which the engine
//! keeps; the wire.

use crate::{
    config::Device,
    drivers::modbus::{Ask, Request, decode, plan::plan_points, write_asks},
    limits,
    model::{Action, Boot, Order, Outcome, Phase, PointId, Value, WriteDone},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Before a write that a busy unit refused, or a read-back that differed, is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// Reads and read-backs without a valid reply are tried so often.
const READ_TRIES: u8 = 3;
/// A read-back may begin so long after the deadline of its write; then the outcome is unknown.
const READ_BACK_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Step {
    Write {
        point: PointId,
        ask: Ask,
    },
    /// Reads one written point back; `wanted` are the bytes that a read would bring.
    Check {
        request: Request,
        wanted: Vec<u8>,
        was_different: bool,
    },
    Read {
        request: Request,
    },
}

#[derive(Debug)]
struct Active {
    order: Order,
    device: usize,
    steps: VecDeque<Step>,
    /// A step was sent.
    begun: bool,
    not_before: Boot,
    tries: u8,
    /// Why nobody knows whether the last write was carried out.
    doubt: Option<String>,
    written: Vec<PointId>,
    values: BTreeMap<PointId, Value>,
}

/// How the request of an order ended.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    Data(&'a [u8]),
    Written,
    Exception(u8),
    /// No valid reply, in words.
    NoReply(&'a str),
}

#[derive(Debug, Default)]
pub struct Orders {
    queue: VecDeque<Active>,
    /// Index in `queue` of the order whose request is on the wire.
    on_wire: Option<usize>,
    done: VecDeque<WriteDone>,
}

impl Orders {
    pub fn accept(&mut self, now: Boot, devices: &[Device], order: Order) {
        if self.queue.len() >= limits::LINE_ORDERS {
            return self.refuse(now, order, "the line has too many commands waiting; try again later".into());
        }
        let Some(device) = devices.iter().position(|d| d.id == order.device) else {
            return self.refuse(now, order, "this device is not on this line".into());
        };
        match steps(&devices[device], &order) {
            Ok(steps) if steps.is_empty() => self.refuse(now, order, "there is nothing to do".into()),
            Ok(steps) => self.queue.push_back(Active {
                order,
                device,
                steps,
                begun: false,
                not_before: now,
                tries: 0,
                doubt: None,
                written: Vec::new(),
                values: BTreeMap::new(),
            }),
            Err(reason) => self.refuse(now, order, reason),
        }
    }

    fn refuse(&mut self, at: Boot, order: Order, reason: String) {
        let outcome = Outcome { phase: Phase::Rejected, reason, values: BTreeMap::new() };
        self.done.push_back(WriteDone { id: order.id, device: order.device, outcome, at });
    }

    /// Outcomes to hand over.
    pub fn take_done(&mut self) -> Option<WriteDone> {
        self.done.pop_front()
    }

    /// The device and request whose turn it is, if any.
    pub fn pick(&self, now: Boot, free_at: impl Fn(usize) -> Boot) -> Option<usize> {
        (0..self.queue.len()).find(|n| self.is_first_of_device(*n) && self.ready_at(*n, &free_at) <= now)
    }

    /// When to look again: a turn, or a deadline.
    pub fn wake(&self, free_at: impl Fn(usize) -> Boot) -> Boot {
        let moments = (0..self.queue.len()).flat_map(|n| {
            let turn = if self.is_first_of_device(n) { self.ready_at(n, &free_at) } else { Boot(u64::MAX) };
            [turn, self.queue[n].ends_at() + Duration::from_micros(1)]
        });
        moments.min().unwrap_or(Boot(u64::MAX))
    }

    fn is_first_of_device(&self, n: usize) -> bool {
        !self.queue.iter().take(n).any(|a| a.device == self.queue[n].device)
    }

    fn ready_at(&self, n: usize, free_at: impl Fn(usize) -> Boot) -> Boot {
        self.queue[n].not_before.max(free_at(self.queue[n].device))
    }

    pub fn device(&self, n: usize) -> usize {
        self.queue[n].device
    }

    /// Puts the next request of an order on the wire.
    pub fn begin(&mut self, n: usize) -> Ask {
        self.on_wire = Some(n);
        let active = &mut self.queue[n];
        active.begun = true;
        match active.steps.front() {
            Some(Step::Write { ask, .. }) => ask.clone(),
            Some(Step::Check { request, .. } | Step::Read { request }) => request.ask(),
            None => unreachable!("an order without steps has ended"),
        }
    }

    /// The request on the wire ended like this.
    pub fn verdict(&mut self, now: Boot, devices: &[Device], verdict: Verdict<'_>) {
        let Some(n) = self.on_wire.take() else { return };
        let Some(mut active) = self.queue.remove(n) else { return };
        match active.apply(now, &devices[active.device], verdict) {
            None => self.queue.insert(n, active),
            Some(outcome) => self.end(now, active, outcome),
        }
    }

    /// The connection went away before the reply; a read may be sent again.
    pub fn again(&mut self) {
        self.on_wire = None;
    }

    /// Ends what may not be begun any more. `why`: what kept it waiting.
    pub fn expire(&mut self, now: Boot, why: &str) {
        let mut n = 0;
        while n < self.queue.len() {
            if self.queue[n].ends_at() >= now || self.on_wire == Some(n) {
                n += 1;
                continue;
            }
            let Some(active) = self.queue.remove(n) else { return };
            self.on_wire = self.on_wire.map(|w| if w > n { w - 1 } else { w });
            let outcome = active.expired(why);
            self.end(now, active, outcome);
        }
    }

    /// The gateway stops.
    pub fn stop(&mut self, now: Boot) {
        let mut on_wire = self.on_wire.take();
        while let Some(active) = self.queue.pop_front() {
            let is_on_wire = on_wire == Some(0);
            on_wire = on_wire.and_then(|n| n.checked_sub(1));
            let outcome = match (&active.doubt, active.steps.front()) {
                (Some(doubt), _) => active.outcome(Phase::Unknown, doubt.clone()),
                (None, Some(Step::Write { .. })) if is_on_wire => active.outcome(Phase::Unknown, "sent, but the gateway stops".into()),
                (None, Some(Step::Check { .. })) => active.outcome(Phase::Unknown, "written, but not read back: the gateway stops".into()),
                _ if active.begun => active.outcome(Phase::Failed, "not completed: the gateway stops".into()),
                _ => active.outcome(Phase::Rejected, "not sent: the gateway stops".into()),
            };
            self.end(now, active, outcome);
        }
    }

    fn end(&mut self, at: Boot, active: Active, outcome: Outcome) {
        self.done.push_back(WriteDone { id: active.order.id, device: active.order.device, outcome, at });
    }
}

impl Active {
    /// Past this moment the next step is not begun.
    fn ends_at(&self) -> Boot {
        match self.steps.front() {
            Some(Step::Check { .. }) => self.order.deadline + READ_BACK_WITHIN,
            _ => self.order.deadline,
        }
    }

    fn apply(&mut self, now: Boot, device: &Device, verdict: Verdict<'_>) -> Option<Outcome> {
        match self.steps.pop_front()? {
            Step::Write { point, ask } => self.wrote(now, point, ask, verdict),
            Step::Check { request, wanted, was_different } => self.checked(now, device, request, wanted, was_different, verdict),
            Step::Read { request } => self.have_read(now, device, request, verdict),
        }
    }

    fn wrote(&mut self, now: Boot, point: PointId, ask: Ask, verdict: Verdict<'_>) -> Option<Outcome> {
        match verdict {
            Verdict::Written | Verdict::Data(_) => {
                self.written.push(point);
                self.next()
            }
            // Not executed, says the unit: the only write that may be sent again.
            Verdict::Exception(code @ (6 | 0x0a)) => {
                if now + PAUSE > self.order.deadline {
                    return Some(self.failed(&point, exception(code)));
                }
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Write { point, ask });
                None
            }
            Verdict::Exception(code @ (5 | 0x0b)) => self.in_doubt(format!("{point}: {}", exception(code))),
            Verdict::Exception(code) => Some(self.failed(&point, exception(code))),
            Verdict::NoReply(why) => self.in_doubt(format!("{point}: sent, but {why}")),
        }
    }

    fn in_doubt(&mut self, doubt: String) -> Option<Outcome> {
        if !matches!(self.steps.front(), Some(Step::Check { .. })) {
            return Some(self.outcome(Phase::Unknown, doubt));
        }
        self.doubt = Some(doubt);
        None
    }

    fn checked(
        &mut self,
        now: Boot,
        device: &Device,
        request: Request,
        wanted: Vec<u8>,
        was_different: bool,
        verdict: Verdict<'_>,
    ) -> Option<Outcome> {
        let point = request.points.first().cloned()?;
        match verdict {
            Verdict::Data(data) => {
                self.keep_values(device, &request, data);
                if is_same(&request, data, &wanted) {
                    if self.doubt.take().is_some() {
                        self.written.push(point);
                    }
                    return self.next();
                }
                if was_different {
                    let got = self.values.get(&point).map(words).unwrap_or_default();
                    return Some(self.failed(&point, &format!("it reads back as {got}")));
                }
                // Some units take a moment before they show what they accepted.
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Check { request, wanted, was_different: true });
                None
            }
            Verdict::Exception(5 | 6 | 0x0a | 0x0b) | Verdict::NoReply(_) | Verdict::Written if self.tries + 1 < READ_TRIES => {
                self.tries += 1;
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Check { request, wanted, was_different });
                None
            }
            Verdict::Exception(code) => Some(self.not_read_back(&point, exception(code))),
            Verdict::NoReply(why) => Some(self.not_read_back(&point, why)),
            Verdict::Written => Some(self.not_read_back(&point, "the reply was for another request")),
        }
    }

    fn not_read_back(&self, point: &PointId, why: &str) -> Outcome {
        let reason = match &self.doubt {
            Some(doubt) => format!("{doubt}; not read back either: {why}"),
            None => format!("{point}: accepted by the device, but not read back: {why}"),
        };
        self.outcome(Phase::Unknown, reason)
    }

    fn have_read(&mut self, now: Boot, device: &Device, request: Request, verdict: Verdict<'_>) -> Option<Outcome> {
        match verdict {
            Verdict::Data(data) => {
                self.keep_values(device, &request, data);
                self.next()
            }
            Verdict::Exception(5 | 6 | 0x0a | 0x0b) | Verdict::NoReply(_) if self.tries + 1 < READ_TRIES => {
                self.tries += 1;
                self.not_before = now + PAUSE;
                self.steps.push_front(Step::Read { request });
                None
            }
            Verdict::Exception(code) => Some(self.outcome(Phase::Failed, exception(code).into())),
            Verdict::NoReply(why) => Some(self.outcome(Phase::Failed, why.into())),
            Verdict::Written => Some(self.outcome(Phase::Failed, "the reply was for another request".into())),
        }
    }

    fn keep_values(&mut self, device: &Device, request: &Request, data: &[u8]) {
        let (values, _) = decode(device, request, data);
        self.values.extend(request.points.iter().cloned().zip(values));
    }

    /// The step succeeded.
    fn next(&mut self) -> Option<Outcome> {
        self.tries = 0;
        self.steps.is_empty().then(|| self.outcome(Phase::Confirmed, String::new()))
    }

    fn failed(&self, point: &PointId, why: &str) -> Outcome {
        self.outcome(Phase::Failed, format!("{point}: {why}"))
    }

    fn expired(&self, why: &str) -> Outcome {
        match (self.steps.front(), &self.doubt) {
            (_, Some(doubt)) => self.outcome(Phase::Unknown, format!("{doubt}; not read back: {why}")),
            (Some(Step::Check { .. }), None) => self.outcome(Phase::Unknown, format!("written, but not read back: {why}")),
            // Refused as busy until now, or between two points: what was sent is known, what was not is named.
            (Some(Step::Write { point, .. }), None) if self.begun => {
                self.outcome(Phase::Failed, format!("{point}: not written before the deadline"))
            }
            _ => self.outcome(Phase::Expired, format!("the deadline passed before it was sent: {why}")),
        }
    }

    fn outcome(&self, phase: Phase, reason: String) -> Outcome {
        let partly = phase != Phase::Confirmed && !self.written.is_empty() && matches!(self.order.action, Action::Write(_));
        let names: Vec<&str> = self.written.iter().map(PointId::as_str).collect();
        let reason = if partly { format!("{reason} (written: {})", names.join(", ")) } else { reason };
        Outcome { phase, reason, values: self.values.clone() }
    }
}

/// Everything that the order needs, or why it cannot be carried out. Nothing has been sent then.
fn steps(device: &Device, order: &Order) -> Result<VecDeque<Step>, String> {
    let index =
        |id: &PointId| device.points.iter().position(|p| p.id == *id).ok_or_else(|| format!("{}: there is no point {id}", device.id));
    match &order.action {
        Action::Read(points) => {
            let wanted: Vec<usize> =
                if points.is_empty() { (0..device.points.len()).collect() } else { points.iter().map(index).collect::<Result<_, _>>()? };
            Ok(plan_points(device, wanted).into_iter().map(|request| Step::Read { request }).collect())
        }
        Action::Write(values) => {
            let mut steps = VecDeque::new();
            for (id, value) in values {
                let n = index(id)?;
                let ask = write_asks(&device.points[n], value).map_err(|e| format!("{id}: {e}"))?;
                let wanted = as_read(&ask);
                steps.push_back(Step::Write { point: id.clone(), ask });
                if order.verify.contains(id)
                    && let Some(request) = plan_points(device, [n]).pop()
                {
                    steps.push_back(Step::Check { request, wanted, was_different: false });
                }
            }
            Ok(steps)
        }
    }
}

/// The bits behind the last coil of a byte mean nothing.
fn is_same(request: &Request, data: &[u8], wanted: &[u8]) -> bool {
    if request.table.is_bits() { data.first().map(|b| b & 1) == wanted.first().copied() } else { data == wanted }
}

/// The bytes that a read of what was written brings.
fn as_read(ask: &Ask) -> Vec<u8> {
    match ask {
        Ask::WriteCoil { on, .. } => vec![u8::from(*on)],
        Ask::WriteCoils { bits, .. } => vec![u8::from(bits.first() == Some(&true))],
        Ask::WriteRegister { value, .. } => value.to_be_bytes().to_vec(),
        Ask::WriteRegisters { words, .. } => words.iter().flat_map(|w| w.to_be_bytes()).collect(),
        Ask::Read { .. } => Vec::new(),
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "not available".into(),
        Value::Bool(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Text(v) => v.to_string(),
    }
}

/// Modbus Application Protocol 1.1b3, section 7.
pub fn exception(code: u8) -> &'static str {
    match code {
        1 => "illegal function (exception 1)",
        2 => "illegal data address (exception 2)",
        3 => "illegal data value (exception 3)",
        4 => "server device failure (exception 4)",
        5 => "acknowledged, still working (exception 5)",
        6 => "server device busy (exception 6)",
        8 => "memory parity error (exception 8)",
        0x0a => "gateway path unavailable (exception 10)",
        0x0b => "gateway target did not respond (exception 11)",
        _ => "refused with an unknown exception",
    }
}
