//! The routes: what a message on a local topic means for which device.
//!
//! Pure: topic and payload in, [`Meaning`]s out. Every route that matches has its say, in order of id, so that one topic
//! can carry status and telemetry. A message that no route asks for is none of ours. One that a route asks for, but that
//! cannot be used, is unreadable and says why; it is never dropped silently.
//!
//! What a firmware's preset makes of real payloads is tested by the transcripts of tests/data/presets.
//!
//! Absent on purpose: clocks, receipts, doors, commands (`orders`).

use super::{
    attributes::attributes,
    families::Families,
    said::said,
    topics::{Places, Template, name_of},
};
use crate::{
    config::{Route, RouteKind},
    drivers::leaves::{Leaves, Shapes},
    model::{DeviceId, PointId},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
    vec::Drain,
};

#[derive(Debug, PartialEq)]
pub enum Meaning {
    Telemetry {
        device: DeviceId,
        via: Arc<str>,
        leaves: Leaves,
    },
    Status {
        device: DeviceId,
        via: Arc<str>,
        online: bool,
        offline_after: Option<Duration>,
    },
    /// What the same message says of the device besides.
    Attributes {
        device: DeviceId,
        values: BTreeMap<PointId, Option<String>>,
    },
    Unreadable {
        via: Arc<str>,
        reason: String,
    },
}

#[derive(Debug)]
pub struct Routes {
    listed: Vec<Listed>,
    replies: Vec<Template>,
    families: Arc<Families>,
    /// Empty, for its memory.
    found: Vec<Meaning>,
}

#[derive(Debug)]
struct Listed {
    id: Arc<str>,
    topic: Template,
    kind: Kind,
    offline_after: Option<Duration>,
    preset: Option<&'static str>,
}

#[derive(Debug)]
enum Kind {
    Telemetry { values: Vec<(PointId, String)>, name: Option<String>, shapes: Box<Shapes> },
    Status { online: Vec<String>, offline: Vec<String> },
    Attributes { at: Option<String>, name: Option<String> },
}

impl Routes {
    pub fn new(config: &[Route]) -> Routes {
        let (mut listed, mut replies) = (Vec::new(), Vec::new());
        for route in config {
            let kind = match &route.kind {
                RouteKind::Telemetry { values, shape, .. } => {
                    let values = values.iter().map(|(point, pointer)| (point.clone(), pointer.clone())).collect();
                    Kind::Telemetry { values, name: shape.name.clone(), shapes: Box::new(Shapes::with(shape)) }
                }
                RouteKind::Attributes { at, name } => Kind::Attributes { at: at.clone(), name: name.clone() },
                RouteKind::Status { online, offline } => Kind::Status { online: online.clone(), offline: offline.clone() },
                RouteKind::Command { reply, .. } => {
                    replies.extend(reply.iter().map(|reply| Template::parse(&reply.topic)));
                    continue;
                }
            };
            let topic = Template::parse(&route.topic);
            listed.push(Listed { id: route.id.as_str().into(), topic, kind, offline_after: route.offline_after, preset: route.preset });
        }
        Routes { listed, replies, families: Arc::default(), found: Vec::new() }
    }

    /// Tells by which preset each device was heard.
    pub fn telling(self, families: &Arc<Families>) -> Routes {
        Routes { families: Arc::clone(families), ..self }
    }

    /// What to subscribe to at an external broker: all that maps, and the replies to commands. What it remembers comes in this
    /// order: a device first says that it is there, and at last what it is.
    pub fn filters(&self) -> Vec<String> {
        let turn = |route: &Listed| match route.kind {
            Kind::Status { .. } => 0,
            Kind::Telemetry { .. } => 1,
            Kind::Attributes { .. } => 2,
        };
        let mut all: Vec<(u8, String)> = self.listed.iter().map(|route| (turn(route), route.topic.filter())).collect();
        all.extend(self.replies.iter().map(|reply| (1, reply.filter())));
        all.sort();
        let mut seen = BTreeSet::new();
        all.retain(|(_, filter)| seen.insert(filter.clone()));
        all.into_iter().map(|(_, filter)| filter).collect()
    }

    /// What a message means. Empty: none of ours, or nothing at all (an empty payload only clears a retained message).
    pub fn meanings(&mut self, topic: &str, payload: &[u8]) -> Drain<'_, Meaning> {
        let found = &mut self.found;
        found.clear();
        let asked = self.listed.iter_mut().filter(|_| !payload.is_empty());
        for route in asked {
            if let Some(places) = route.topic.places(topic) {
                let meaning = route.meaning(places, payload);
                if let Ok(Meaning::Telemetry { device, .. } | Meaning::Status { device, .. }) = &meaning {
                    self.families.heard(device, route.preset);
                }
                let meaning = meaning.unwrap_or_else(|reason| Meaning::Unreadable { via: route.id.clone(), reason });
                let besides = match &meaning {
                    Meaning::Status { device, .. } => {
                        Some((device.clone(), attributes(payload, None, None))).filter(|(_, values)| !values.is_empty())
                    }
                    _ => None,
                };
                found.push(meaning);
                found.extend(besides.map(|(device, values)| Meaning::Attributes { device, values }));
            }
        }
        found.drain(..)
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
            Kind::Telemetry { values, name, shapes } => {
                let leaves = match name {
                    _ if !values.is_empty() => shapes.chosen(payload, values.iter().map(|(point, pointer)| (point, pointer.as_str()))),
                    Some(pattern) => {
                        let name = name_of(pattern, places);
                        shapes.under(payload, &name, &name)
                    }
                    None => shapes.all(payload, places.point.unwrap_or("value")),
                };
                leaves.map(|leaves| Meaning::Telemetry { device, via, leaves }).map_err(|e| e.to_string())
            }
            Kind::Attributes { at, name } => {
                let name = name.as_ref().map(|pattern| name_of(pattern, places));
                let values = attributes(payload, at.as_deref(), name.as_deref());
                if values.is_empty() {
                    Err("there are no words in it that a device says of itself".into())
                } else {
                    Ok(Meaning::Attributes { device, values })
                }
            }
            Kind::Status { online, offline } => match said(payload, online, offline) {
                Some(online) => Ok(Meaning::Status { device, via, online, offline_after: self.offline_after }),
                None => Err("says neither online nor offline; set the route's 'online' and 'offline' to its texts".into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::mqtt::{Reply, Unknown},
        model::{RouteId, Value},
    };
    use proptest::prelude::*;

    fn route(id: &str, topic: &str, kind: RouteKind) -> Route {
        let offline_after = Some(Duration::from_secs(900));
        let unknown = Unknown::Register;
        Route {
            id: RouteId::parse(id).unwrap(),
            topic: topic.into(),
            kind,
            unknown,
            offline_after,
            alarm_after: None,
            ping: None,
            preset: None,
        }
    }

    fn telemetry(values: &[(&str, &str)]) -> RouteKind {
        let values = values.iter().map(|(point, pointer)| (PointId::parse(point).unwrap(), (*pointer).to_owned())).collect();
        RouteKind::Telemetry { values, time: None, shape: Default::default() }
    }

    fn status(online: Option<&str>, offline: Option<&str>) -> RouteKind {
        RouteKind::Status {
            online: online.into_iter().map(str::to_owned).collect(),
            offline: offline.into_iter().map(str::to_owned).collect(),
        }
    }

    /// The routes of a house with devices of several makes.
    fn house() -> Routes {
        let within = Duration::from_secs(5);
        let reply = Some(Reply { topic: "stat/{device}/RESULT".into(), value: Some("/{point}".into()), within });
        Routes::new(&[
            route("plain", "plain/{device}/{point}", telemetry(&[])),
            route("shelly", "shellies/{device}/relay/0/{point}", telemetry(&[])),
            route("shelly-online", "shellies/{device}/online", status(None, None)),
            route("tasmota", "tele/{device}/SENSOR", telemetry(&[("power", "/ENERGY/Power"), ("total", "/ENERGY/Total")])),
            route("tasmota-lwt", "tele/{device}/LWT", status(Some("Online"), Some("Offline"))),
            route("tasmota-switch", "cmnd/{device}/{point}", RouteKind::Command { payload: Default::default(), reply, qos: 1, name: None }),
            route("weather", "weather", telemetry(&[])),
            route("zigbee", "zigbee2mqtt/{device}", telemetry(&[])),
            route("zigbee-online", "zigbee2mqtt/{device}/availability", status(None, None)),
            route("about", "about/{device}/info", RouteKind::Attributes { at: None, name: None }),
            route("about-one", "about/{device}/$info/{point}", RouteKind::Attributes { at: None, name: Some("info.{point}".into()) }),
            route("both-a", "both/{device}", status(None, None)),
            route("both-b", "both/{device}", telemetry(&[("temp", "/temp")])),
        ])
    }

    pub(super) fn show(meaning: &Meaning) -> String {
        let text = |value: &Value| match value {
            Value::Text(text) => format!("{text:?}"),
            other => crate::config::mqtt::payload_key(other),
        };
        match meaning {
            Meaning::Telemetry { device, via, leaves } => {
                let values = leaves.points.iter().zip(&leaves.values).map(|(point, value)| format!(" {point}={}", text(value)));
                format!("{via} {device}:{}", values.collect::<String>())
            }
            Meaning::Status { device, via, online, .. } => format!("{via} {device} {}", if *online { "online" } else { "offline" }),
            Meaning::Attributes { device, values } => {
                let values = values.iter().map(|(name, value)| format!(" {name}={value:?}"));
                format!("{device} is{}", values.collect::<String>())
            }
            Meaning::Unreadable { via, reason } => format!("{via} ! {reason}"),
        }
    }

    #[track_caller]
    fn check(topic: &str, payload: &str, want: &[&str]) {
        let got: Vec<String> = house().meanings(topic, payload.as_bytes()).map(|meaning| show(&meaning)).collect();
        assert_eq!(got, want, "{topic} {payload}");
    }

    #[test]
    fn tasmota() {
        let sensor = r#"{"Time":"2026-03-01T12:00:00","ENERGY":{"TotalStartTime":"2025-01-01T00:00:00","Total":12.345,"Yesterday":0.512,"Today":0.101,"Period":1,"Power":42,"ApparentPower":51,"ReactivePower":29,"Factor":0.82,"Voltage":231,"Current":0.221}}"#;
        check("tele/plug-1/SENSOR", sensor, &["tasmota plug-1: power=42 total=12.345"]);
        check("tele/plug-1/LWT", "Online", &["tasmota-lwt plug-1 online"]);
        check("tele/plug-1/LWT", "Offline", &["tasmota-lwt plug-1 offline"]);
        check("tele/plug-1/STATE", r#"{"POWER":"ON"}"#, &[]);
        check("tele/plug-1/SENSOR", r#"{"Time":"2026-03-01T12:00:00"}"#, &["tasmota ! none of the route's 'values' is in it"]);
        check("stat/plug-1/RESULT", r#"{"POWER":"ON"}"#, &[]);
    }

    #[test]
    fn zigbee2mqtt() {
        let payload = r#"{"battery":97,"contact":false,"linkquality":118,"voltage":3025,"update":{"state":"idle","installed_version":16777241,"latest_version":null}}"#;
        let want = r#"zigbee door-1: battery=97 contact=false linkquality=118 voltage=3025 update.state="idle" update.installed_version=16777241 update.latest_version=null"#;
        check("zigbee2mqtt/door-1", payload, &[want]);
        check("zigbee2mqtt/door-1/availability", r#"{"state":"online"}"#, &["zigbee-online door-1 online"]);
        check("zigbee2mqtt/door-1/availability", "offline", &["zigbee-online door-1 offline"]);
        check("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#, &[]);
        check("zigbee2mqtt/0x00158d0001a2b3c4", r#"{"temperature":21.37}"#, &["zigbee 0x00158d0001a2b3c4: temperature=21.37"]);
        let why = r#"zigbee ! "living room" in the topic is no device id: use 1 to 64 letters, digits, '-' or '_' (it becomes an MQTT topic level)"#;
        check("zigbee2mqtt/living room", r#"{"temperature":21}"#, &[why]);
    }

    #[test]
    fn shelly_and_plain_values() {
        check("shellies/shellyplug-s-4022D8/relay/0/power", "17.35", &["shelly shellyplug-s-4022D8: power=17.35"]);
        check("shellies/shellyplug-s-4022D8/relay/0/energy", "198", &["shelly shellyplug-s-4022D8: energy=198"]);
        check("shellies/shellyplug-s-4022D8/online", "false", &["shelly-online shellyplug-s-4022D8 offline"]);
        check("plain/tank/level", " 1.5 ", &["plain tank: level=1.5"]);
        check("plain/tank/valve", "OPEN", &[r#"plain tank: valve="OPEN""#]);
        check("plain/tank/all", r#"{"a":[1,2]}"#, &["plain tank: a.0=1 a.1=2"]);
        check("weather", "21", &["weather weather: value=21"]);
    }

    #[test]
    fn a_topic_may_mean_two_things_and_an_empty_payload_means_nothing() {
        check("both/x", r#"{"status":"online","temp":3}"#, &["both-a x online", "both-b x: temp=3"]);
        let neither = "both-a ! says neither online nor offline; set the route's 'online' and 'offline' to its texts";
        check("both/x", r#"{"temp":3}"#, &[neither, "both-b x: temp=3"]);
        check("tele/plug-1/LWT", "", &[]);
        check("unknown/topic", "1", &[]);
    }

    #[test]
    fn a_device_says_what_it_is_in_an_object_or_word_by_word() {
        check("about/plug/info", r#"{"fw":"1.10","rssi":-60}"#, &[r#"plug is fw=Some("1.10")"#]);
        check("about/plug/info", "1.10", &["about ! there are no words in it that a device says of itself"]);
        check("about/plug/$info/fw", "1.10", &[r#"plug is info.fw=Some("1.10")"#]);
        check("about/plug/$info/fw", "null", &["plug is info.fw=None"]);
    }

    #[test]
    fn filters_are_what_maps_and_what_replies() {
        let all = house().filters();
        assert_eq!(all.last().map(String::as_str), Some("about/+/info"), "a device is known before it is described");
        assert!(all[0].starts_with("both/") && all[1].starts_with("shellies/"), "states come first");
        assert!(all.contains(&"tele/+/SENSOR".into()) && all.contains(&"stat/+/RESULT".into()) && !all.contains(&"cmnd/+/+".into()));
        assert_eq!(all.iter().filter(|filter| *filter == "both/+").count(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(topic in "(tele|zigbee2mqtt|plain|both|\\PC{0,4})(/\\PC{0,8}){0,3}", payload: Vec<u8>) {
            let _ = house().meanings(&topic, &payload);
        }
    }
}
