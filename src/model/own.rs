//! What the gateway does itself when a command asks for it: `run` of a command that names no device.
//!
//! ```json
//! "ping"
//! {"maintenance.on":{"device":"pump","for_s":7200,"reason":"new bearing"}}
//! ```
//! Read strictly: an unknown word or key refuses it. What is done with schedules is in [`super::schedule`].

use super::{DeviceId, PointId};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeMap, time::Duration};

/// The longest time in maintenance that can be asked for.
const MAINTENANCE_MAX: Duration = Duration::from_secs(366 * 86_400);
const WORDS: [(&str, Own); 7] = [
    ("ping", Own::Ping),
    ("status", Own::Status),
    ("devices", Own::Devices),
    ("diagnostics", Own::Diagnostics),
    ("rebirth", Own::Rebirth),
    ("reload", Own::Reload),
    ("restart", Own::Restart),
];
const KNOWN: &str = "use ping, status, devices, diagnostics, rebirth, reload, restart, maintenance.on, maintenance.off, \
     attributes.get, attributes.set, schedule.list, schedule.set, schedule.remove, schedule.enable or schedule.disable";

#[derive(Debug, Clone, PartialEq)]
pub enum Own {
    /// It is there, and this is its clock.
    Ping,
    /// Is all well, in figures.
    Status,
    /// Each device in a word or two.
    Devices,
    /// What whoever looks for a fault wants to know.
    Diagnostics,
    /// Birth and device list are sent again on every uplink.
    Rebirth,
    /// The configuration is read again.
    Reload,
    /// The process ends in order, and is started again by who started it.
    Restart,
    /// `lasts: None`: until somebody ends it.
    MaintenanceOn {
        device: DeviceId,
        lasts: Option<Duration>,
        reason: String,
    },
    MaintenanceOff {
        device: DeviceId,
        reason: String,
    },
    /// What a device said of itself and what others said of it. Empty: all.
    AttributesGet {
        device: DeviceId,
        names: Vec<PointId>,
    },
    /// `None`: it is taken away.
    AttributesSet {
        device: DeviceId,
        values: BTreeMap<PointId, Option<String>>,
    },
}

impl Own {
    /// Whether `json` is one of those words at all; else it is about schedules or nothing.
    pub fn is_meant(json: &Json) -> bool {
        let is_schedule = |word: &str| word.starts_with("schedule.");
        match json {
            Json::String(word) => !is_schedule(word),
            Json::Object(one) => !one.keys().any(|k| is_schedule(k)),
            _ => true,
        }
    }

    /// The error says what to write instead. Whether the device is there, the engine knows.
    pub fn read(json: &Json) -> Result<Own, String> {
        if let Some(word) = json.as_str() {
            return WORDS.into_iter().find(|(w, _)| *w == word).map(|(_, own)| own).ok_or_else(|| KNOWN.to_owned());
        }
        let (what, of) = json.as_object().filter(|o| o.len() == 1).and_then(|o| o.iter().next()).ok_or(KNOWN)?;
        let keys: &[&str] = match what.as_str() {
            "maintenance.on" => &["device", "for_s", "reason"],
            "maintenance.off" => &["device", "reason"],
            "attributes.get" => &["device", "names"],
            "attributes.set" => &["device", "values"],
            _ => return Err(KNOWN.into()),
        };
        let of = of.as_object().ok_or_else(|| format!("{what} has an object with {}", keys.join(", ")))?;
        if let Some(key) = of.keys().find(|k| !keys.contains(&k.as_str())) {
            return Err(format!("{what} has no {key:?}; use {}", keys.join(", ")));
        }
        let device = of.get("device").and_then(Json::as_str).ok_or_else(|| format!("{what} names a \"device\""))?;
        let device = DeviceId::parse(device).map_err(|e| format!("\"device\" is not valid: {e}"))?;
        match what.as_str() {
            "maintenance.on" => {
                let lasts = of.get("for_s").filter(|v| !v.is_null()).map(lasts).transpose()?;
                Ok(Own::MaintenanceOn { device, lasts, reason: reason(of)? })
            }
            "maintenance.off" => Ok(Own::MaintenanceOff { device, reason: reason(of)? }),
            "attributes.get" => Ok(Own::AttributesGet { device, names: names(of.get("names"))? }),
            _ => Ok(Own::AttributesSet { device, values: values(of.get("values"))? }),
        }
    }

    /// As it is read.
    pub fn shown(&self) -> Json {
        match self {
            Own::MaintenanceOn { device, lasts, reason } => {
                json!({"maintenance.on": {"device": device, "for_s": lasts.map(|d| d.as_secs()), "reason": reason}})
            }
            Own::MaintenanceOff { device, reason } => json!({"maintenance.off": {"device": device, "reason": reason}}),
            Own::AttributesGet { device, names } => json!({"attributes.get": {"device": device, "names": names}}),
            Own::AttributesSet { device, values } => json!({"attributes.set": {"device": device, "values": values}}),
            word => WORDS.iter().find(|(_, own)| own == word).map_or(Json::Null, |(text, _)| json!(text)),
        }
    }
}

fn lasts(json: &Json) -> Result<Duration, String> {
    let lasts = json.as_u64().map(Duration::from_secs).filter(|d| !d.is_zero() && *d <= MAINTENANCE_MAX);
    lasts.ok_or_else(|| format!("\"for_s\" is not valid: write whole seconds, 1 to {}", MAINTENANCE_MAX.as_secs()))
}

fn reason(of: &Map<String, Json>) -> Result<String, String> {
    match of.get("reason") {
        None => Ok(String::new()),
        Some(Json::String(text)) => Ok(text.clone()),
        Some(_) => Err("\"reason\" is not valid: write it as a string".into()),
    }
}

fn name(text: &str) -> Result<PointId, String> {
    PointId::parse(text).map_err(|e| format!("{text:?} is no name of an attribute: {e}"))
}

fn names(json: Option<&Json>) -> Result<Vec<PointId>, String> {
    const WANT: &str = "\"names\" is not valid: write a list of strings; without it all are told";
    match json {
        None => Ok(Vec::new()),
        Some(Json::Array(all)) => all.iter().map(|one| name(one.as_str().ok_or(WANT)?)).collect(),
        Some(_) => Err(WANT.into()),
    }
}

fn values(json: Option<&Json>) -> Result<BTreeMap<PointId, Option<String>>, String> {
    const WANT: &str = "\"values\" is not valid: write an object of names and texts, or null to take one away";
    let all = json.and_then(Json::as_object).filter(|o| !o.is_empty()).ok_or(WANT)?;
    let one = |(key, value): (&String, &Json)| match value {
        Json::Null => Ok((name(key)?, None)),
        Json::String(text) => Ok((name(key)?, Some(text.clone()))),
        Json::Number(_) | Json::Bool(_) => Ok((name(key)?, Some(value.to_string()))),
        Json::Array(_) | Json::Object(_) => Err(WANT.to_owned()),
    };
    all.iter().map(one).collect()
}

impl serde::Serialize for Own {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Own {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Own::read(&Json::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(text: &str) {
        let json: Json = serde_json::from_str(text).unwrap();
        let own = Own::read(&json).unwrap();
        assert!(Own::is_meant(&json));
        assert_eq!(serde_json::from_str::<Own>(&serde_json::to_string(&own).unwrap()).unwrap(), own, "{text}");
    }

    #[test]
    fn what_is_asked_comes_back_as_it_was() {
        for (word, _) in WORDS {
            same(&format!("{word:?}"));
        }
        same(r#"{"maintenance.on":{"device":"pump","for_s":7200,"reason":"new bearing"}}"#);
        same(r#"{"maintenance.on":{"device":"pump"}}"#);
        same(r#"{"maintenance.off":{"device":"pump","reason":"done"}}"#);
        same(r#"{"attributes.get":{"device":"pump"}}"#);
        same(r#"{"attributes.get":{"device":"pump","names":["room"]}}"#);
        same(r#"{"attributes.set":{"device":"pump","values":{"room":"B12","floor":null}}}"#);
    }

    #[track_caller]
    fn refuse(text: &str, want: &str) {
        let why = Own::read(&serde_json::from_str(text).unwrap()).unwrap_err();
        assert!(why.starts_with(want), "{text}: {why}");
    }

    #[test]
    fn refused_with_a_reason() {
        refuse(r#""reboot""#, "use ping, status, devices");
        refuse("7", "use ping");
        refuse(r#"{"ping":{},"status":{}}"#, "use ping");
        refuse(r#"{"maintenance.on":"pump"}"#, "maintenance.on has an object with device, for_s, reason");
        refuse(r#"{"maintenance.on":{"for_s":5}}"#, "maintenance.on names a \"device\"");
        refuse(r#"{"maintenance.on":{"device":"pump","for":5}}"#, "maintenance.on has no \"for\"; use device, for_s, reason");
        refuse(r#"{"maintenance.on":{"device":"pump","for_s":0}}"#, "\"for_s\" is not valid: write whole seconds, 1 to 31622400");
        refuse(r#"{"maintenance.off":{"device":"a/b"}}"#, "\"device\" is not valid: use 1 to 64 letters");
        refuse(r#"{"attributes.set":{"device":"pump","values":{}}}"#, "\"values\" is not valid");
        refuse(r#"{"attributes.set":{"device":"pump","values":{"room":[1]}}}"#, "\"values\" is not valid");
        refuse(r#"{"attributes.set":{"device":"pump","values":{"the room":"x"}}}"#, "\"the room\" is no name of an attribute");
        refuse(r#"{"attributes.get":{"device":"pump","names":"room"}}"#, "\"names\" is not valid");
    }
}
