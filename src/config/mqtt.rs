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
    /// The preset that brought it; `None`: the operator wrote it.
    pub preset: Option<&'static str>,
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
        shape: Shape,
    },
    /// `1`/`0`, `online`/`offline`, `true`/`false`, `{"status": …}`, or the texts given.
    Status { online: Vec<String>, offline: Vec<String> },
    /// What a device says of itself in words: its address, its firmware.
    Attributes {
        /// JSON pointer to the object that holds them.
        at: Option<String>,
        /// What a plain payload is called, and what stands before the names in an object; with the places of the topic.
        name: Option<String>,
    },
    /// Topic to publish a command for `{device}` and `{point}` to.
    Command {
        /// Payload per value written (`"true"`, `"false"`, `"21"`); others are written as JSON.
        payload: BTreeMap<String, String>,
        /// Where the device answers; without it a publication that was accepted counts as `confirmed` only at QoS 1.
        reply: Option<Reply>,
        qos: u8,
        /// Which points it takes, and which part of their name `{point}` and `{group}` of the topic stand for. `None`: all,
        /// and the whole name.
        name: Option<String>,
    },
}

/// How the leaves of a payload become points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// JSON pointer to where an object's leaves begin. A plain payload has only itself.
    pub at: Option<String>,
    /// What a plain payload is called, and what stands before the leaves of an object; with the places of the topic.
    pub name: Option<String>,
    /// Names of points, `*` for any text: others are left out. Empty: none is.
    pub only: Vec<String>,
    pub except: Vec<String>,
    /// Points that are switched: their words become true and false, and their changes are kept.
    pub switches: Vec<String>,
    /// What a switch may say besides on, off, true, false, 1 and 0.
    pub words: BTreeMap<String, bool>,
}

impl Shape {
    /// Whether a point is taken at all.
    pub fn takes(&self, point: &str) -> bool {
        (self.only.is_empty() || any(&self.only, point)) && !any(&self.except, point)
    }

    pub fn switches(&self, point: &str) -> bool {
        any(&self.switches, point)
    }

    /// Whether every leaf is a point under its own name.
    pub fn is_plain(&self) -> bool {
        *self == Shape::default()
    }
}

fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| is_like(pattern, name))
}

/// `*` stands for any text, also none.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    while let Some((middle, more)) = rest.split_once('*') {
        let Some(at) = name.find(middle) else { return false };
        (name, rest) = (&name[at + middle.len()..], more);
    }
    name.ends_with(rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        let yes =
            [("*", "x"), ("*", ""), ("POWER*", "POWER"), ("POWER*", "POWER12"), ("*.id", "switch_0.id"), ("a", "a"), ("a*b*c", "aXbYbc")];
        let no =
            [("POWER*", "xPOWER"), ("*.id", "id"), ("*.id", "switch_0.idx"), ("a", "ab"), ("", "a"), ("a*b*c", "acb"), ("ab*ba", "aba")];
        yes.iter().for_each(|(pattern, name)| assert!(is_like(pattern, name), "{pattern} {name}"));
        no.iter().for_each(|(pattern, name)| assert!(!is_like(pattern, name), "{pattern} {name}"));
    }

    #[test]
    fn what_is_left_out_is_left_out_even_if_it_is_named() {
        let list = |of: &[&str]| of.iter().map(|t| (*t).to_owned()).collect();
        let shape = Shape { only: list(&["a.*"]), except: list(&["*.id"]), ..Shape::default() };
        assert!(shape.takes("a.x") && !shape.takes("b.x") && !shape.takes("a.id"));
        assert!(Shape::default().takes("anything") && !Shape::default().switches("anything"));
    }
}
