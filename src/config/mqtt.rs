//! `[mqtt]`: local publishers, on our own endpoint or through a broker that is already there, and the routes that
//! turn their topics into devices and points.

use super::uplink::Secret;
use crate::model::{RouteId, Value};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

#[derive(Debug, Clone, PartialEq)]
pub struct LocalMqtt {
    pub mode: Mode,
    /// In order of id.
    pub routes: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// We are the endpoint. Without users only on loopback, or with `insecure = true`.
    Listen { at: SocketAddr, users: Vec<User> },
    /// An external broker; we subscribe with manual acknowledgement and a persistent session.
    Broker { host: String, port: u16, tls: bool, username: Option<String>, password: Option<Secret>, client_id: String },
}

#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub name: String,
    pub password: Secret,
    /// Topic filters that the user may publish to; it may subscribe to these, to `cmnd/#`-like command topics of the
    /// routes and to `devices/status/#`. Empty: everything.
    pub topics: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub id: RouteId,
    /// With `{device}` and `{point}` as whole levels; `+` and `#` elsewhere as in MQTT filters.
    pub topic: String,
    pub kind: RouteKind,
    pub unknown: Unknown,
    /// Silence that its devices are allowed; `None`: never offline by silence.
    pub offline_after: Option<Duration>,
    /// Offline for so long, they are an alarm. `None`: as `[watch]` says.
    pub alarm_after: Option<Duration>,
    /// They are asked before their silence is over, and answer.
    pub ping: Option<Ping>,
}

/// What a mains device that is silent is asked by, as `{device}` in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    pub topic: String,
    pub payload: String,
}

/// What to do with a device that nobody has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Register,
    /// Known and shown, but nothing of it goes upstream until it is accepted.
    Quarantine,
    /// Dead letter.
    Refuse,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RouteKind {
    Telemetry {
        /// Point to JSON pointer. Empty: every leaf becomes a point, its path joined by dots; a plain (non-object)
        /// payload becomes the `{point}` of the topic, else `value`.
        values: BTreeMap<crate::model::PointId, String>,
        /// JSON pointer to the time of measurement. Accepted as a hint only in this version: recorded time is arrival.
        time: Option<String>,
    },
    /// `1`/`0`, `online`/`offline`, `true`/`false`, `{"status": …}`, or the two texts given.
    Status { online: Option<String>, offline: Option<String> },
    /// Topic to publish a command for `{device}` and `{point}` to.
    Command {
        /// Payload per value written (`"true"`, `"false"`, `"21"`); others are written as JSON.
        payload: BTreeMap<String, String>,
        /// Where the device answers; without it a publication that was accepted counts as `confirmed` only at QoS 1.
        reply: Option<Reply>,
        qos: u8,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub topic: String,
    /// JSON pointer, in which `{point}` stands for the point's name; `None`: the whole payload.
    pub value: Option<String>,
    pub within: Duration,
}

/// The texts of a payload map, for both directions.
pub fn payload_key(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Text(t) => t.to_string(),
    }
}
