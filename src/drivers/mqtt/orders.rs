//! Commands for MQTT devices: publishes them to their route's topic and finds out what came of them.
//!
//! ```text
//! order ─► published ─► nobody listens ─► the next route, at last failed
//!              │ └────► not delivered by its deadline ─► taken back: expired
//!              └─► sent ─► its reply says the same ─► confirmed; another value ─► failed; nothing ─► unknown
//!                    └───► no reply configured: acknowledged at QoS 1 ─► confirmed; else unknown
//! ```
//! Invariant: every order ends in exactly one `Done`. Nothing is sent after its deadline, and nothing twice by us.

use super::{
    families::Families,
    fate::{Fate, Fated},
    replies::{Answer, Awaited, Replies, Wait},
    topics::{Places, Template, places_of},
};
use crate::{
    config::{
        Route, RouteKind,
        mqtt::{Reply, payload_key},
    },
    limits,
    model::{Action, Boot, DeviceId, Order, Outcome, Phase, PointId, Urgent, Value, WriteDone},
    system::clock::Clock,
};
use std::{
    collections::BTreeMap,
    future::Future,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A subscriber that was sent a command acknowledges it within this time.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Publishes so that the message's way can be followed: topic, body, QoS, not after. `None`: no room.
pub type Deliver = Box<dyn Fn(String, Vec<u8>, u8, Boot) -> Option<Arc<Fate>>>;

pub struct Orders {
    pub routes: Vec<Commands>,
    pub deliver: Deliver,
    pub replies: Arc<Replies>,
    pub families: Arc<Families>,
    pub urgent: mpsc::Sender<Urgent>,
    pub clock: Clock,
}

/// A command route.
pub struct Commands {
    topic: Template,
    payload: BTreeMap<String, String>,
    reply: Option<Reply>,
    qos: u8,
    /// How its points are called.
    name: Option<String>,
    preset: Option<&'static str>,
}

pub fn commands(routes: &[Route]) -> Vec<Commands> {
    let command = |route: &Route| match &route.kind {
        RouteKind::Command { payload, reply, qos, name } => Some(Commands {
            topic: Template::parse(&route.topic),
            payload: payload.clone(),
            reply: reply.clone(),
            qos: (*qos).min(1),
            name: name.clone(),
            preset: route.preset,
        }),
        RouteKind::Telemetry { .. } | RouteKind::Status { .. } | RouteKind::Attributes { .. } => None,
    };
    routes.iter().filter_map(command).collect()
}

/// One publication of an order, ready to go.
#[derive(Debug, PartialEq)]
struct Piece {
    topic: String,
    body: String,
    /// The points that it writes, each with the text that stands for its value.
    points: Vec<(PointId, Value, String)>,
}

/// What came of one point.
struct End {
    phase: Phase,
    reason: String,
    value: Option<(PointId, Value)>,
}

impl Orders {
    /// Until `stop`. An order that is under way then ends as unknown, one that is not begun as failed.
    pub async fn run(self, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) {
        let (me, mut under_way) = (Rc::new(self), JoinSet::new());
        loop {
            let room = under_way.len() < limits::COMMANDS_OPEN;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = under_way.join_next() => {}
                order = orders.recv(), if room => match order {
                    Some(order) => { under_way.spawn_local(me.clone().carry_out(order, stop.clone())); }
                    None => break,
                },
            }
        }
        orders.close();
        while let Some(order) = orders.recv().await {
            me.done(&order, Outcome::new(Phase::Failed, "the gateway stops")).await;
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn carry_out(self: Rc<Self>, order: Order, stop: CancellationToken) {
        let outcome = tokio::select! {
            biased;
            outcome = self.outcome(&order) => outcome,
            () = stop.cancelled() => Outcome::new(Phase::Unknown, "the gateway stopped before the device answered"),
        };
        self.done(&order, outcome).await;
    }

    async fn done(&self, order: &Order, outcome: Outcome) {
        let done = WriteDone { id: order.id.clone(), device: order.device.clone(), outcome, at: self.clock.now() };
        let _ = self.urgent.send(Urgent::Done(done)).await; // closed: the engine is gone and restores the command as unknown
    }

    async fn outcome(&self, order: &Order) -> Outcome {
        let Action::Write(values) = &order.action else {
            return ended(Phase::Rejected, "a device on local MQTT cannot be read: it speaks by itself");
        };
        if self.clock.now() > order.deadline {
            return ended(Phase::Expired, "its deadline passed before it could be sent");
        }
        let mut nobody = ended(Phase::Failed, format!("no command route leads to {}", order.device));
        for route in self.routes.iter().filter(|route| self.families.may_take(&order.device, route.preset)) {
            let Some(pieces) = route.pieces(&order.device, values) else { continue };
            match self.try_route(route, pieces, order).await {
                Ok(outcome) => return outcome,
                Err(topic) => nobody = ended(Phase::Failed, format!("nobody listens on {topic}")),
            }
        }
        nobody
    }

    /// `Err`: nobody listens there, so nothing was sent and another route may lead to the device.
    async fn try_route(&self, route: &Commands, pieces: Vec<Piece>, order: &Order) -> Result<Outcome, String> {
        let mut sent = Vec::new();
        for piece in pieces {
            // Tail of the same turn: a reply cannot come between publishing and waiting for it.
            let fate = (self.deliver)(piece.topic.clone(), piece.body.clone().into_bytes(), route.qos, order.deadline);
            let waits = fate.as_ref().map(|fate| route.waits(&self.replies, &order.device, &piece, fate)).unwrap_or_default();
            sent.push((piece, fate, waits));
        }
        let (mut ends, mut unheard) = (Vec::new(), None);
        for (piece, fate, waits) in sent {
            let Some(fate) = fate else {
                ends.push(End { phase: Phase::Failed, reason: "too many local messages are waiting".into(), value: None });
                continue;
            };
            match self.delivered(&fate, order.deadline).await {
                Ok(()) => ends.extend(self.answered(route, &piece, &fate, waits).await),
                Err(None) => unheard = Some(piece.topic),
                Err(Some((phase, reason))) => ends.push(End { phase, reason, value: None }),
            }
        }
        match (unheard, ends.is_empty()) {
            (Some(topic), true) => Err(topic),
            (Some(topic), false) => {
                ends.push(End { phase: Phase::Failed, reason: format!("nobody listens on {topic}"), value: None });
                Ok(together(ends))
            }
            (None, _) => Ok(together(ends)),
        }
    }

    /// Waits until it went out. `Err(None)`: nobody listens.
    async fn delivered(&self, fate: &Fate, deadline: Boot) -> Result<(), Option<(Phase, String)>> {
        let fated = match before(fate.later(Fated::Waiting), self.clock.sleep_until(deadline)).await {
            Some(fated) => fated,
            None if fate.cancel() => Fated::Cancelled,
            None => fate.now(),
        };
        match fated {
            Fated::Nobody => Err(None),
            Fated::Waiting | Fated::Cancelled => {
                Err(Some((Phase::Expired, "the device took no message before its deadline; nothing was sent".into())))
            }
            Fated::Unsent => Err(Some((Phase::Failed, "the device left before it was sent".into()))),
            Fated::Written | Fated::Acknowledged | Fated::Unanswered => Ok(()),
        }
    }

    async fn answered(&self, route: &Commands, piece: &Piece, fate: &Fate, waits: Vec<(PointId, Value, Wait)>) -> Vec<End> {
        let Some(reply) = &route.reply else { return vec![acknowledged(fate, route.qos, &piece.topic).await] };
        let until = self.clock.now() + reply.within;
        let mut ends = Vec::new();
        for (point, written, wait) in waits {
            let confirmed = before(wait.awaited.confirmed(), self.clock.sleep_until(until)).await;
            let answer = if confirmed.is_some() { Some(Answer::Same) } else { wait.awaited.answer() };
            ends.push(match answer {
                Some(Answer::Same) => End { phase: Phase::Confirmed, reason: String::new(), value: Some((point, written)) },
                Some(Answer::Other(value)) => {
                    let reason = format!("{point} was answered as {}", payload_key(&value));
                    End { phase: Phase::Failed, reason, value: Some((point, value)) }
                }
                None => {
                    let reason = format!("no reply on {} within {} ms", wait.awaited.filter, reply.within.as_millis());
                    End { phase: Phase::Unknown, reason, value: None }
                }
            });
        }
        ends
    }
}

async fn acknowledged(fate: &Fate, qos: u8, topic: &str) -> End {
    let fated = if qos == 0 { None } else { tokio::time::timeout(ACKNOWLEDGED, fate.later(Fated::Written)).await.ok() };
    let unknown = |reason: String| End { phase: Phase::Unknown, reason, value: None };
    match fated {
        Some(Fated::Acknowledged) => End { phase: Phase::Confirmed, reason: String::new(), value: None },
        None if qos == 0 => unknown(format!("sent to {topic} at QoS 0, which nobody acknowledges; give the route a 'reply'")),
        None => unknown(format!("sent to {topic}, not acknowledged within {} s", ACKNOWLEDGED.as_secs())),
        Some(_) => unknown(format!("sent to {topic}, but nobody who subscribed at QoS 1 acknowledged it; give the route a 'reply'")),
    }
}

/// `None`: the second came first.
async fn before<T>(what: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    tokio::select! {
        biased;
        result = what => Some(result),
        () = end => None,
    }
}

fn ended(phase: Phase, reason: impl Into<String>) -> Outcome {
    Outcome::new(phase, reason)
}

/// The least certain part decides.
fn together(ends: Vec<End>) -> Outcome {
    let rank = |phase: Phase| match phase {
        Phase::Unknown => 3,
        Phase::Failed => 2,
        Phase::Expired => 1,
        _ => 0,
    };
    let phase = ends.iter().map(|end| end.phase).max_by_key(|phase| rank(*phase)).unwrap_or(Phase::Confirmed);
    let mut reasons: Vec<&str> = ends.iter().map(|end| end.reason.as_str()).filter(|reason| !reason.is_empty()).collect();
    reasons.dedup();
    let reason = reasons.join("; ");
    Outcome::new(phase, reason).with(ends.into_iter().filter_map(|end| end.value).collect())
}

impl Commands {
    /// One publication per point where the topic names the point, else one JSON object for all. `None`: the topic cannot
    /// be filled in.
    fn pieces(&self, device: &DeviceId, values: &BTreeMap<PointId, Value>) -> Option<Vec<Piece>> {
        let text = |value: &Value| self.payload.get(&payload_key(value)).cloned().unwrap_or_else(|| payload_key(value));
        let point = |(point, value): (&PointId, &Value)| (point.clone(), value.clone(), text(value));
        if self.topic.has_point() {
            let piece = |entry: (&PointId, &Value)| {
                let topic = self.topic.fill(self.places(device, entry.0)?)?;
                let points = vec![point(entry)];
                Some(Piece { topic, body: points[0].2.clone(), points })
            };
            return values.iter().map(piece).collect();
        }
        let topic = self.topic.fill(Places { device: Some(device.as_str()), ..Places::default() })?;
        let member = |(point, value): (&PointId, &Value)| {
            let mapped = self.payload.get(&payload_key(value)).map(|text| serde_json::Value::String(text.clone()));
            (point.to_string(), mapped.unwrap_or_else(|| json(value)))
        };
        let body = serde_json::Value::Object(values.iter().map(member).collect()).to_string();
        Some(vec![Piece { topic, body, points: values.iter().map(point).collect() }])
    }

    /// What stands for this point in topics. `None`: the route has no such points.
    fn places<'a>(&self, device: &'a DeviceId, point: &'a PointId) -> Option<Places<'a>> {
        let places = match &self.name {
            Some(pattern) => places_of(pattern, point.as_str())?,
            None => Places { point: Some(point.as_str()), ..Places::default() },
        };
        // A level with nothing in it would be another topic.
        let whole = [places.point, places.group].into_iter().flatten().all(|text| !text.is_empty());
        whole.then_some(Places { device: Some(device.as_str()), ..places })
    }

    fn waits(&self, replies: &Arc<Replies>, device: &DeviceId, piece: &Piece, fate: &Arc<Fate>) -> Vec<(PointId, Value, Wait)> {
        let Some(reply) = &self.reply else { return Vec::new() };
        let template = Template::parse(&reply.topic);
        let wait = |(point, written, sent): &(PointId, Value, String)| {
            let places = self.places(device, point).unwrap_or_default();
            let wait = replies.wait(Awaited {
                filter: template.filter_for(places),
                pointer: reply.value.as_ref().map(|value| value.replace("{point}", places.point.unwrap_or_default())),
                written: written.clone(),
                sent: sent.clone(),
                fate: fate.clone(),
                heard: Mutex::default(),
                changed: Notify::new(),
            });
            (point.clone(), written.clone(), wait)
        };
        piece.points.iter().map(wait).collect()
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(v) => (*v).into(),
        Value::Int(v) => (*v).into(),
        Value::Uint(v) => (*v).into(),
        Value::Float(v) => (*v).into(),
        Value::Text(v) => (**v).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(topic: &str, payload: &[(&str, &str)]) -> Commands {
        let payload = payload.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        Commands { topic: Template::parse(topic), payload, reply: None, qos: 1, name: None, preset: None }
    }

    #[track_caller]
    fn check(route: &Commands, values: &[(&str, Value)], want: &[(&str, &str)]) {
        let device = DeviceId::parse("plug-1").unwrap();
        let values = values.iter().map(|(point, value)| (PointId::parse(point).unwrap(), value.clone())).collect();
        let pieces = route.pieces(&device, &values).unwrap_or_default();
        let got: Vec<(&str, &str)> = pieces.iter().map(|piece| (piece.topic.as_str(), piece.body.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn a_command_becomes_what_the_device_understands() {
        let on_off = [("true", "ON"), ("false", "OFF")];
        let tasmota = route("cmnd/{device}/{point}", &on_off);
        check(&tasmota, &[("POWER", Value::Bool(true))], &[("cmnd/plug-1/POWER", "ON")]);
        let two = [("Dimmer", Value::Uint(40)), ("POWER", Value::Bool(false))];
        check(&tasmota, &two, &[("cmnd/plug-1/Dimmer", "40"), ("cmnd/plug-1/POWER", "OFF")]);
        check(&tasmota, &[("Color", Value::Text("FF0000".into()))], &[("cmnd/plug-1/Color", "FF0000")]);

        let zigbee = route("zigbee2mqtt/{device}/set", &on_off);
        let two = [("brightness", Value::Int(128)), ("state", Value::Bool(true))];
        check(&zigbee, &two, &[("zigbee2mqtt/plug-1/set", r#"{"brightness":128,"state":"ON"}"#)]);
        let plain = route("set/{device}", &[]);
        check(&plain, &[("t", Value::Float(21.5)), ("x", Value::Text("eco".into()))], &[("set/plug-1", r#"{"t":21.5,"x":"eco"}"#)]);
        check(&route("set/{device}/+", &[]), &[("t", Value::Int(1))], &[]);

        let named = |topic: &str, name: &str| Commands { name: Some(name.to_owned()), ..route(topic, &[("true", "on")]) };
        let shelly = named("shellies/{device}/relay/{point}/command", "relay.{point}");
        check(&shelly, &[("relay.0", Value::Bool(true))], &[("shellies/plug-1/relay/0/command", "on")]);
        check(&shelly, &[("relay.", Value::Bool(true))], &[]);
        check(&shelly, &[("POWER", Value::Bool(true))], &[]);
        let newer = named("{device}/command/switch:{point}", "switch_{point}.output");
        check(&newer, &[("switch_2.output", Value::Bool(true))], &[("plug-1/command/switch:2", "on")]);
        let homie = named("homie/{device}/{group}/{point}/set", "{group}.{point}");
        check(&homie, &[("lamp.power", Value::Bool(true))], &[("homie/plug-1/lamp/power/set", "on")]);
    }

    #[test]
    fn the_least_certain_part_decides() {
        let end = |phase, reason: &str| End { phase, reason: reason.into(), value: None };
        let all = together(vec![end(Phase::Confirmed, ""), end(Phase::Unknown, "no reply"), end(Phase::Failed, "other")]);
        assert_eq!((all.phase, all.reason.as_str()), (Phase::Unknown, "no reply; other"));
        assert_eq!(together(vec![end(Phase::Confirmed, ""), end(Phase::Confirmed, "")]).phase, Phase::Confirmed);
        assert_eq!(together(vec![end(Phase::Confirmed, ""), end(Phase::Expired, "late")]).phase, Phase::Expired);
    }
}
