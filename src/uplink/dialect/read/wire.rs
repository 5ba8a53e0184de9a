//! The shapes on the wire, and from them the typed message.

use super::{Body, Event, Frame, Known, Message, Refused, Sent, Thin, V};
use crate::model::{ClockQuality, DeviceId, Epoch, GatewayId, PointId, Stream, Value};
use serde::{
    Deserialize,
    de::{self, Deserializer, MapAccess, Visitor},
};
use serde_json::{Map, Value as Json};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Numbers of messages fit every database's integers.
const SEQ_MAX: u64 = i64::MAX as u64;

#[derive(Deserialize)]
pub struct Envelope {
    v: u64,
    gateway: GatewayId,
    epoch: Epoch,
    stream: Stream,
    seq: u64,
    #[serde(default)]
    backlog: bool,
    clock: ClockOnWire,
    devices: Option<Once<DeviceId, Vec<FrameOnWire>>>,
    events: Option<Vec<Map<String, Json>>>,
}

#[derive(Deserialize)]
struct ClockOnWire {
    offset_ms: i64,
    quality: ClockQuality,
    /// Gateways before the first release had none.
    #[serde(default)]
    boot: u32,
}

#[derive(Deserialize)]
struct FrameOnWire {
    at: i64,
    dt: Vec<i64>,
    v: Once<PointId, Vec<Scalar>>,
    #[serde(default)]
    q: Once<PointId, Vec<Box<str>>>,
    #[serde(default)]
    thin: Option<Thin>,
}

impl TryFrom<Envelope> for Message {
    type Error = Refused;

    fn try_from(e: Envelope) -> Result<Message, Refused> {
        if e.v != V {
            return Err(Refused(format!("version {}, and only {V} is known here", e.v)));
        }
        if e.seq == 0 || e.seq > SEQ_MAX {
            return Err(Refused(format!("{} is no sequence number", e.seq)));
        }
        let body = match (e.stream, e.devices, e.events) {
            (Stream::Telemetry, Some(devices), _) => {
                let frames = |frames: Vec<FrameOnWire>| frames.into_iter().map(frame).collect::<Result<Vec<_>, _>>();
                let devices = devices.0.into_iter().map(|(id, f)| Ok((id, frames(f)?)));
                Body::Telemetry(devices.collect::<Result<_, Refused>>()?)
            }
            (Stream::Event, _, Some(events)) => Body::Events(events.into_iter().map(event).collect::<Result<_, _>>()?),
            (Stream::Telemetry, None, _) => return Err(Refused("telemetry without devices".into())),
            (Stream::Event, _, None) => return Err(Refused("no list of events".into())),
        };
        let clock = Sent { offset_ms: e.clock.offset_ms, quality: e.clock.quality, boot: e.clock.boot };
        Ok(Message { gateway: e.gateway, epoch: e.epoch, stream: e.stream, seq: e.seq, backlog: e.backlog, clock, body })
    }
}

fn frame(f: FrameOnWire) -> Result<Frame, Refused> {
    let rows = f.dt.len();
    if f.dt.iter().any(|dt| f.at.checked_add(*dt).is_none()) {
        return Err(Refused("a time that no clock shows".into()));
    }
    for (point, words) in &f.q.0 {
        if words.len() != rows {
            return Err(Refused(format!("{point} has {} qualities for {rows} rows", words.len())));
        }
        if !f.v.0.contains_key(point) {
            return Err(Refused(format!("{point} has qualities and no values")));
        }
    }
    let mut v = BTreeMap::new();
    for (point, column) in f.v.0 {
        if column.len() != rows {
            return Err(Refused(format!("{point} has {} values for {rows} rows", column.len())));
        }
        let words = f.q.0.get(&point);
        let unexplained = |n: usize| words.is_none_or(|w| &*w[n] == "good");
        if (0..rows).any(|n| matches!(column[n].0, Value::Null) && unexplained(n)) {
            return Err(Refused(format!("{point} is null without a quality")));
        }
        v.insert(point, column.into_iter().map(|s| s.0).collect());
    }
    Ok(Frame { at: f.at, dt: f.dt, v, q: f.q.0, thin: f.thin })
}

fn event(members: Map<String, Json>) -> Result<Event, Refused> {
    let word = members.get("type").and_then(Json::as_str).ok_or_else(|| Refused("an event without a type".into()))?.to_owned();
    let at = members.get("at").and_then(Json::as_i64).ok_or_else(|| Refused(format!("a {word} event without a time")))?;
    let known = match word.as_str() {
        "gap" => Known::Gap(typed(&word, &members)?),
        "epoch" => Known::Epoch(typed(&word, &members)?),
        "progress" => Known::Progress(typed::<Progress>(&word, &members)?.alive),
        "clock" => {
            let Clock { boot, offset_ms, synchronised } = typed(&word, &members)?;
            Known::Clock { boot, offset_ms, synchronised }
        }
        _ => Known::Other,
    };
    let numbers = match &known {
        Known::Gap(g) if g.from == 0 || g.from > g.to => return Err(Refused(format!("a gap from {} to {}", g.from, g.to))),
        Known::Gap(g) => g.to.max(g.replaced_by.map_or(0, |r| r.to)).max(g.samples),
        Known::Epoch(e) => e.telemetry.max(e.event).max(e.may_have_lost_ms),
        Known::Progress(alive) => alive.iter().map(|a| a.lowest.max(a.highest)).max().unwrap_or(0),
        Known::Clock { .. } | Known::Other => 0,
    };
    if numbers > SEQ_MAX {
        return Err(Refused(format!("{numbers} in a {word} event is no number of a message")));
    }
    Ok(Event { at, word, known, members })
}

#[derive(Deserialize)]
struct Progress {
    alive: Vec<super::Alive>,
}

#[derive(Deserialize)]
struct Clock {
    boot: Option<u32>,
    offset_ms: i64,
    synchronised: bool,
}

fn typed<T: de::DeserializeOwned>(word: &str, members: &Map<String, Json>) -> Result<T, Refused> {
    T::deserialize(members).map_err(|e| Refused(format!("a {word} event: {e}")))
}

/// An object in which no key comes twice: with two of them nobody knows which is meant.
struct Once<K, T>(BTreeMap<K, T>);

impl<K, T> Default for Once<K, T> {
    fn default() -> Self {
        Once(BTreeMap::new())
    }
}

impl<'de, K: Deserialize<'de> + Ord + fmt::Display, T: Deserialize<'de>> Deserialize<'de> for Once<K, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys<K, T>(PhantomData<(K, T)>);
        impl<'de, K: Deserialize<'de> + Ord + fmt::Display, T: Deserialize<'de>> Visitor<'de> for Keys<K, T> {
            type Value = Once<K, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once<K, T>, A::Error> {
                let mut out = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<K, T>()? {
                    match out.entry(key) {
                        std::collections::btree_map::Entry::Vacant(free) => _ = free.insert(value),
                        std::collections::btree_map::Entry::Occupied(taken) => {
                            return Err(de::Error::custom(format_args!("{} comes twice in one object", taken.key())));
                        }
                    }
                }
                Ok(Once(out))
            }
        }
        from.deserialize_map(Keys(PhantomData))
    }
}

/// One value of a point.
struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true, false or null")
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(Value::Null))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Scalar, E> {
                Ok(Scalar(Value::Bool(v)))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
                Ok(Scalar(Value::Int(v)))
            }
            /// serde_json gives every integer that is not negative this way; one that fits is the same number signed.
            fn visit_u64<E>(self, v: u64) -> Result<Scalar, E> {
                Ok(Scalar(i64::try_from(v).map_or(Value::Uint(v), Value::Int)))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Scalar, E> {
                Ok(Scalar(Value::Float(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Scalar, E> {
                Ok(Scalar(Value::Text(v.into())))
            }
        }
        from.deserialize_any(Any)
    }
}
