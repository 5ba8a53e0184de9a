//! The routes: what a message on a local topic means for which device.
//!
//! Pure: topic and payload in, [`Meaning`]s out. Every route that matches has its say, in order of id, so that one topic
//! can carry status and telemetry. A message that no route asks for is none of ours. One that a route asks for, but that
//! cannot be used, is unreadable and says why; it is never dropped silently.
//!
//! Absent on purpose: clocks, receipts, doors, commands (`orders`).

use super::{
    leaves::{Leaves, Shapes},
    said::said,
    topics::{Places, Template},
};
use crate::{
    config::{Route, RouteKind},
    model::{DeviceId, PointId},
};
use std::time::Duration;

#[derive(Debug, PartialEq)]
pub enum Meaning {
    Telemetry { device: DeviceId, via: String, leaves: Leaves },
    Status { device: DeviceId, via: String, online: bool, offline_after: Option<Duration> },
    Unreadable { via: String, reason: String },
}

#[derive(Debug)]
pub struct Routes {
    listed: Vec<Listed>,
    replies: Vec<Template>,
}

#[derive(Debug)]
struct Listed {
    id: String,
    topic: Template,
    kind: Kind,
    offline_after: Option<Duration>,
}

#[derive(Debug)]
enum Kind {
    Telemetry { values: Vec<(PointId, String)>, shapes: Shapes },
    Status { online: Option<String>, offline: Option<String> },
}

impl Routes {
    pub fn new(config: &[Route]) -> Routes {
        let (mut listed, mut replies) = (Vec::new(), Vec::new());
        for route in config {
            let kind = match &route.kind {
                RouteKind::Telemetry { values, .. } => {
                    let values = values.iter().map(|(point, pointer)| (point.clone(), pointer.clone())).collect();
                    Kind::Telemetry { values, shapes: Shapes::default() }
                }
                RouteKind::Status { online, offline } => Kind::Status { online: online.clone(), offline: offline.clone() },
                RouteKind::Command { reply, .. } => {
                    replies.extend(reply.iter().map(|reply| Template::parse(&reply.topic)));
                    continue;
                }
            };
            let topic = Template::parse(&route.topic);
            listed.push(Listed { id: route.id.to_string(), topic, kind, offline_after: route.offline_after });
        }
        Routes { listed, replies }
    }

    /// What to subscribe to at an external broker: all that maps, and the replies to commands.
    pub fn filters(&self) -> Vec<String> {
        let mut all: Vec<String> = self.listed.iter().map(|route| route.topic.filter()).collect();
        all.extend(self.replies.iter().map(Template::filter));
        all.sort();
        all.dedup();
        all
    }

    /// What a message means. Empty: none of ours, or nothing at all (an empty payload only clears a retained message).
    pub fn meanings(&mut self, topic: &str, payload: &[u8]) -> Vec<Meaning> {
        if payload.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for route in &mut self.listed {
            if let Some(places) = route.topic.places(topic) {
                let meaning = route.meaning(places, payload);
                found.push(meaning.unwrap_or_else(|reason| Meaning::Unreadable { via: route.id.clone(), reason }));
            }
        }
        found
    }

    /// Whether any route asks for a topic.
    pub fn asked_for(&self, topic: &str) -> bool {
        self.listed.iter().any(|route| route.topic.places(topic).is_some())
    }
}

impl Listed {
    fn meaning(&mut self, places: Places<'_>, payload: &[u8]) -> Result<Meaning, String> {
        // A topic without {device} is one device: that of the route's name.
        let name = places.device.unwrap_or(&self.id);
        let device = DeviceId::parse(name).map_err(|e| format!("{name:?} in the topic is no device id: {e}"))?;
        let via = self.id.clone();
        match &mut self.kind {
            Kind::Telemetry { values, shapes } => {
                let leaves = if values.is_empty() {
                    shapes.all(payload, places.point.unwrap_or("value"))
                } else {
                    shapes.chosen(payload, values.iter().map(|(point, pointer)| (point, pointer.as_str())))
                };
                leaves.map(|leaves| Meaning::Telemetry { device, via, leaves }).map_err(|e| e.to_string())
            }
            Kind::Status { online, offline } => match said(payload, online.as_deref(), offline.as_deref()) {
                Some(online) => Ok(Meaning::Status { device, via, online, offline_after: self.offline_after }),
                None => Err("says neither online nor offline; set the route's 'online' and 'offline' to its texts".into()),
            },
        }
    }
}
