//! Devices that report by HTTP: what they send becomes evidence, readings and the ends of orders; what waits for them is
//! handed out with each answer.
//!
//! ```text
//!  HTTP surface ─ PushPort ─► reports (what it means) ─► repeats ─► doors: urgent heartbeats, bulk telemetry
//!       ▲                                                              │
//!       └──── answer with orders ◄── mailbox ◄── OrderPort ── engine ◄─┘ receipts
//! ```
//! Invariants: telemetry, a changed field, a changed state and the end of an order are durable before they are answered; a
//! heartbeat that changes nothing is answered without a commit; every order ends in exactly one `Done`.
//! Absent on purpose: HTTP, tokens, JSON of the answers (`api`).

mod mailbox;
mod repeats;
mod reports;
#[cfg(test)]
mod tests;

use super::{
    Doors,
    leaves::{Leaves, Shapes},
};
use crate::{
    limits,
    model::{
        Boot, Bulk, ClockReading, DeadLetter, DeviceId, EvidenceKind, OrderPort, PushAnswer, PushAsk, PushPort, PushRefusal, PushWhat,
        Pushed, Reading, RecallPort, Receipt, Settled, Urgent, Value, WaitingOrder, WriteDone,
    },
    system::{clock::Clock, receipt::awaited},
};
use mailbox::Mailbox;
use repeats::{Came, Mark, Repeats};
use reports::{Sample, Telemetry};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// The fields of a heartbeat go upstream when a text or a switch among them changed, and otherwise so often.
const FIELDS_EVERY: Duration = Duration::from_secs(300);
/// Values and texts of one part of a request, so that a part is one message that brokers take.
const PART_VALUES: usize = limits::MQTT_LEAVES;
const PART_TEXT: usize = limits::MQTT_TEXT_BYTES;

/// How this boot's clock maps to wall time, for the times that devices say.
pub type Offsets = Arc<dyn Fn() -> ClockReading + Send + Sync>;

pub struct PushHandle {
    pub orders: OrderPort,
    pub recall: RecallPort,
    pub port: PushPort,
}

struct Push {
    doors: Mutex<Option<Doors>>,
    clock: Clock,
    offsets: Offsets,
    shapes: Mutex<Shapes>,
    mailbox: Mutex<Mailbox>,
    /// An order came in, so the next one to expire may be another.
    put: Notify,
    repeats: Mutex<Repeats>,
    /// The last heartbeat of each device, and when its fields went upstream.
    beats: Mutex<BTreeMap<DeviceId, (Leaves, Boot)>>,
}

/// Takes reports until `stop`.
pub fn start(doors: Doors, clock: Clock, offsets: Offsets, stop: CancellationToken) -> PushHandle {
    let push = Arc::new(Push {
        doors: Mutex::new(Some(doors)),
        clock,
        offsets,
        shapes: Mutex::default(),
        mailbox: Mutex::default(),
        put: Notify::new(),
        repeats: Mutex::default(),
        beats: Mutex::default(),
    });
    let (for_orders, for_recall, for_asks) = (push.clone(), push.clone(), push.clone());
    tokio::spawn(push.end_orders(stop));
    PushHandle {
        orders: Arc::new(move |order| {
            lock(&for_orders.mailbox).put(order)?;
            for_orders.put.notify_one();
            Ok(())
        }),
        recall: Arc::new(move |device, id| lock(&for_recall.mailbox).recall(device, id)),
        port: Arc::new(move |ask| {
            let push = for_asks.clone();
            Box::pin(async move { push.take(ask).await.unwrap_or_else(PushAnswer::Refused) })
        }),
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Push {
    /// Ends orders by time, and all of them at the stop.
    async fn end_orders(self: Arc<Push>, stop: CancellationToken) {
        loop {
            let due = lock(&self.mailbox).next_due().unwrap_or(self.clock.now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.put.notified() => {}
                () = self.clock.sleep_until(due) => {}
            }
            let over = lock(&self.mailbox).expire(self.clock.now());
            self.tell(over).await;
        }
        let left = lock(&self.mailbox).stop(self.clock.now());
        self.tell(left).await;
        // Nothing new comes in, and the engine sees that this door is closed.
        lock(&self.doors).take();
    }

    async fn tell(&self, ends: Vec<WriteDone>) {
        let Ok(doors) = self.doors() else { return };
        for done in ends {
            let _ = doors.urgent.send(Urgent::Done(done)).await; // closed: the engine is gone and restores it as unknown
        }
    }

    fn doors(&self) -> Result<Doors, PushRefusal> {
        lock(&self.doors).clone().ok_or(PushRefusal::Stopping)
    }

    async fn take(&self, ask: PushAsk) -> Result<PushAnswer, PushRefusal> {
        let taken = match &ask.what {
            PushWhat::Heartbeat => self.heartbeat(&ask).await,
            PushWhat::Telemetry => self.telemetry(&ask).await,
            PushWhat::Acknowledge(_) => self.acknowledge(&ask).await,
        };
        if let Err(PushRefusal::Unreadable(reason)) = &taken {
            self.put_aside(&ask, reason).await;
        }
        taken
    }

    async fn heartbeat(&self, ask: &PushAsk) -> Result<PushAnswer, PushRefusal> {
        let leaves = reports::heartbeat(&ask.body, &mut lock(&self.shapes)).map_err(PushRefusal::Unreadable)?;
        let (doors, at) = (self.doors()?, self.clock.now());
        let told = leaves.as_ref().and_then(|now| self.news(&ask.device, now, at));
        let fields = leaves.as_ref().filter(|_| told.is_some()).map(reports::fields).filter(|f| !f.points.is_empty());
        let readings: Vec<Reading> = fields.map(|fields| reading(&ask.device, at, fields)).into_iter().collect();
        let durable = told == Some(true) && !readings.is_empty();
        let sent = !readings.is_empty();
        let (values, values_told) = if durable { awaited() } else { (Receipt::none(), kept()) };
        let (pushed, state_told, refusal) = self.pushed(ask, at, EvidenceKind::Heartbeat, readings, values);
        doors.urgent.send(Urgent::Heartbeat(pushed)).await.map_err(|_| PushRefusal::Stopping)?;
        self.settled([state_told, values_told], &refusal).await?;
        if let Some(leaves) = leaves {
            self.remember(&ask.device, leaves, sent.then_some(at));
        }
        Ok(PushAnswer::Alive { orders: self.orders_of(&ask.device) })
    }

    /// Whether the fields go upstream, and if so, whether they must be durable before the answer.
    fn news(&self, device: &DeviceId, now: &Leaves, at: Boot) -> Option<bool> {
        let beats = lock(&self.beats);
        match beats.get(device) {
            None => Some(true),
            Some((before, _)) if reports::differ(before, now) => Some(true),
            Some((_, told)) if at.since(*told) >= FIELDS_EVERY => Some(false),
            Some(_) => None,
        }
    }

    fn remember(&self, device: &DeviceId, leaves: Leaves, told: Option<Boot>) {
        let mut beats = lock(&self.beats);
        if let Some(known) = beats.get_mut(device) {
            known.0 = leaves;
            known.1 = told.unwrap_or(known.1);
            return;
        }
        if beats.len() >= limits::API_DEVICES {
            beats.clear();
        }
        beats.insert(device.clone(), (leaves, told.unwrap_or_default()));
    }

    async fn telemetry(&self, ask: &PushAsk) -> Result<PushAnswer, PushRefusal> {
        let at = self.clock.now();
        let report = reports::telemetry(&ask.body, &mut lock(&self.shapes), at, (self.offsets)());
        let Telemetry { seq, samples, stamped } = report.map_err(PushRefusal::Unreadable)?;
        let (count, values) = (samples.len(), samples.iter().map(|s| s.leaves.values.len()).sum());
        let mark = seq.map(|seq| Mark::of(seq, &ask.body));
        match mark.map_or(Came::New, |mark| lock(&self.repeats).begin(&ask.device, mark)) {
            Came::Kept => return Ok(PushAnswer::Kept { samples: count, values, stamped, again: true }),
            Came::Underway => return Err(PushRefusal::Underway),
            Came::New => {}
        }
        let underway = mark.map(|mark| Underway { push: self, device: &ask.device, mark, kept: false });
        let doors = self.doors()?;
        let mut waits = Vec::new();
        for part in parts(&ask.device, samples) {
            let (values, told) = awaited();
            let (pushed, state, refusal) = self.pushed(ask, at, EvidenceKind::Message, part, values);
            doors.bulk.send(Bulk::Pushed(pushed)).await.map_err(|_| PushRefusal::Stopping)?;
            waits.push(([state, told], refusal));
        }
        for (told, refusal) in waits {
            self.settled(told, &refusal).await?;
        }
        if let Some(mut underway) = underway {
            underway.kept = true;
        }
        Ok(PushAnswer::Kept { samples: count, values, stamped, again: false })
    }

    async fn acknowledge(&self, ask: &PushAsk) -> Result<PushAnswer, PushRefusal> {
        let PushWhat::Acknowledge(id) = &ask.what else { return Err(PushRefusal::NoOrder) };
        let outcome = reports::outcome(&ask.body).map_err(PushRefusal::Unreadable)?;
        if !lock(&self.mailbox).has(&ask.device, id) {
            return Err(PushRefusal::NoOrder);
        }
        let (receipt, told) = awaited();
        let done = WriteDone { id: id.clone(), device: ask.device.clone(), outcome, at: self.clock.now() };
        self.doors()?.urgent.send(Urgent::Acknowledged { done, receipt }).await.map_err(|_| PushRefusal::Stopping)?;
        self.settled([told, kept()], &OnceLock::new()).await?;
        lock(&self.mailbox).remove(&ask.device, id);
        Ok(PushAnswer::Ended { orders: self.orders_of(&ask.device) })
    }

    fn orders_of(&self, device: &DeviceId) -> Vec<WaitingOrder> {
        lock(&self.mailbox).fetch(device, self.clock.now())
    }

    fn pushed(
        &self,
        ask: &PushAsk,
        at: Boot,
        evidence: EvidenceKind,
        readings: Vec<Reading>,
        values: Receipt,
    ) -> (Pushed, oneshot::Receiver<Settled>, Arc<OnceLock<String>>) {
        let ((state, told), refusal) = (awaited(), Arc::default());
        (Pushed { device: ask.device.clone(), at, evidence, readings, state, values, refusal: Arc::clone(&refusal) }, told, refusal)
    }

    /// Waits until all of it is kept.
    async fn settled(&self, told: [oneshot::Receiver<Settled>; 2], refusal: &OnceLock<String>) -> Result<(), PushRefusal> {
        let until = self.clock.now() + limits::API_KEPT_WITHIN;
        for told in told {
            let how = tokio::select! {
                biased;
                how = told => how,
                () = self.clock.sleep_until(until) => return Err(PushRefusal::NotKept),
            };
            if how != Ok(Settled::Kept) {
                return Err(refusal.get().map_or(PushRefusal::NotKept, |why| PushRefusal::Unwelcome(why.clone())));
            }
        }
        Ok(())
    }

    async fn put_aside(&self, ask: &PushAsk, reason: &str) {
        let Ok(doors) = self.doors() else { return };
        let what = match &ask.what {
            PushWhat::Heartbeat => "heartbeat".to_owned(),
            PushWhat::Telemetry => "telemetry".to_owned(),
            PushWhat::Acknowledge(id) => format!("commands/{id}/ack"),
        };
        let body = ask.body[..ask.body.len().min(limits::DEAD_LETTER_BYTES)].to_vec();
        let topic = format!("devices/{}/{what}", ask.device);
        let letter = DeadLetter { source: format!("http {}", ask.from), topic, reason: reason.to_owned(), body, at: self.clock.now() };
        let _ = doors.urgent.send(Urgent::DeadLetter(letter)).await; // closed: the gateway stops, and its sender is told anyway
    }
}

/// A message that is being stored. Dropped on whatever path, its number is free again unless it was kept.
struct Underway<'p> {
    push: &'p Push,
    device: &'p DeviceId,
    mark: Mark,
    kept: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        lock(&self.push.repeats).end(self.device, self.mark, self.kept);
    }
}

fn kept() -> oneshot::Receiver<Settled> {
    let (receipt, told) = awaited();
    receipt.keep();
    told
}

fn reading(device: &DeviceId, at: Boot, leaves: Leaves) -> Reading {
    let quality = leaves.quality();
    Reading { device: device.clone(), at, points: leaves.points, values: leaves.values, quality }
}

/// Readings in parts that each become at most one message. At least one: a request without values is a sign of life.
fn parts(device: &DeviceId, samples: Vec<Sample>) -> Vec<Vec<Reading>> {
    let mut out = vec![Vec::new()];
    let (mut values, mut text) = (0, 0);
    for Sample { at, leaves } in samples.into_iter().filter(|s| !s.leaves.values.is_empty()) {
        let its_text: usize = leaves.values.iter().map(|v| if let Value::Text(t) = v { Value::escaped_len(t) } else { 0 }).sum();
        if values + leaves.values.len() > PART_VALUES || text + its_text > PART_TEXT {
            out.push(Vec::new());
            (values, text) = (0, 0);
        }
        (values, text) = (values + leaves.values.len(), text + its_text);
        if let Some(part) = out.last_mut() {
            part.push(reading(device, at, leaves));
        }
    }
    out
}
