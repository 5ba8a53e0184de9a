//! A schedule as JSON: what the cloud and a surface send, what is shown of it, and how it is kept. One form for all.
//!
//! ```json
//! {"cron":"0 22 * * *","zone":"Europe/Berlin","missed":"skip","write":{"device":"relays","point":"k1","value":false}}
//! ```
//! Read strictly, because it moves relays: an unknown key refuses it.

use super::{EVERY_MAX, EVERY_MIN, Missed, Schedule, ScheduleAsk, Target, Timing, When};
use crate::model::{Cron, DeviceId, PointId, ScheduleId, Value, Zone};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeSet, time::Duration};

const KEYS: [&str; 8] = ["cron", "at", "every_s", "anchor", "zone", "missed", "untrusted_clock", "write"];
const TARGET: &str = "write {\"device\":…,\"point\":…,\"value\":…}, or a list of them";

impl Schedule {
    /// The error says what to write instead. Whether devices, points and the zone are there, the engine knows.
    pub fn read(json: &Json) -> Result<Schedule, String> {
        let all = json.as_object().ok_or("a schedule is an object with cron, at or every_s, and write")?;
        if let Some(key) = all.keys().find(|k| !KEYS.contains(&k.as_str())) {
            return Err(format!("the key {key:?} is unknown; use {}", KEYS.join(", ")));
        }
        let text = |key: &str| match all.get(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("{key:?} is not valid: write it as a string")),
        };
        let zone = text("zone")?.unwrap_or(Zone::UTC);
        if !Zone::is_name(zone) {
            return Err("\"zone\" is not valid: write a name such as \"Europe/Berlin\"".into());
        }
        let missed = match text("missed")? {
            None => Missed::default(),
            Some(word) => {
                Missed::ALL.into_iter().find(|m| m.word() == word).ok_or("\"missed\" is not valid: use \"skip\", \"once\" or \"all\"")?
            }
        };
        let untrusted_clock = match all.get("untrusted_clock") {
            None => false,
            Some(flag) => flag.as_bool().ok_or("\"untrusted_clock\" is not valid: write true or false")?,
        };
        let every = all.get("every_s").map(every).transpose()?;
        let anchor = text("anchor")?.map(anchor).transpose()?;
        if anchor.is_some() && every.is_none() {
            return Err("\"anchor\" is for \"every_s\"".into());
        }
        let timing = match (text("cron")?, text("at")?, every) {
            (Some(cron), None, None) => Timing::Cron(Cron::parse(cron).map_err(|e| format!("\"cron\" is not valid: {e}"))?),
            (None, Some(at), None) => {
                Timing::At(When::parse(at).ok_or("\"at\" is not valid: write it as 2026-12-24T18:00:00, with a zone or without")?)
            }
            (None, None, Some(every)) => Timing::Every { every, anchor: anchor.unwrap_or(0) },
            _ => return Err("give one of \"cron\", \"at\" and \"every_s\"".into()),
        };
        Ok(Schedule { timing, zone: zone.to_owned(), missed, untrusted_clock, write: targets(all)? })
    }

    /// As it is read.
    pub fn shown(&self) -> Json {
        let mut all = Map::new();
        let mut put = |key: &str, value: Json| drop(all.insert(key.to_owned(), value));
        match &self.timing {
            Timing::Cron(cron) => put("cron", json!(cron.text())),
            Timing::At(when) => put("at", json!(when.text())),
            Timing::Every { every, anchor } => {
                put("every_s", json!(every.as_secs()));
                put("anchor", json!(When::Utc(*anchor).text()));
            }
        }
        put("zone", json!(self.zone));
        put("missed", json!(self.missed.word()));
        put("untrusted_clock", json!(self.untrusted_clock));
        put("write", self.write.iter().map(|t| json!({"device": t.device, "point": t.point, "value": t.value.plain()})).collect());
        Json::Object(all)
    }

    /// What decides when it runs: while that stays, so does what it has done.
    pub fn when(&self) -> String {
        let mut shown = self.shown();
        if let Some(all) = shown.as_object_mut() {
            all.retain(|key, _| !matches!(key.as_str(), "missed" | "untrusted_clock" | "write"));
        }
        shown.to_string()
    }
}

fn every(json: &Json) -> Result<Duration, String> {
    let every = json.as_u64().map(Duration::from_secs).filter(|d| (EVERY_MIN..=EVERY_MAX).contains(d));
    every.ok_or_else(|| format!("\"every_s\" is not valid: write whole seconds, 1 to {}", EVERY_MAX.as_secs()))
}

fn anchor(text: &str) -> Result<i64, String> {
    match When::parse(text) {
        Some(When::Utc(at)) => Ok(at),
        _ => Err("\"anchor\" is not valid: write it with its zone, as 2026-01-01T06:00:00Z".into()),
    }
}

fn targets(all: &Map<String, Json>) -> Result<Vec<Target>, String> {
    let listed = match all.get("write") {
        Some(Json::Array(list)) if !list.is_empty() => list.iter().map(target).collect::<Result<Vec<_>, _>>()?,
        Some(one @ Json::Object(_)) => vec![target(one)?],
        _ => return Err(format!("\"write\" is not valid: {TARGET}")),
    };
    let mut seen = BTreeSet::new();
    match listed.iter().find(|t| !seen.insert((&t.device, &t.point))) {
        Some(twice) => Err(format!("\"write\" is not valid: {}.{} stands in it twice", twice.device, twice.point)),
        None => Ok(listed),
    }
}

fn target(json: &Json) -> Result<Target, String> {
    let keys = json.as_object().filter(|o| o.len() == 3).ok_or_else(|| format!("\"write\" is not valid: {TARGET}"))?;
    let text = |key: &str| keys.get(key).and_then(Json::as_str).ok_or_else(|| format!("\"write\" is not valid: {TARGET}"));
    let device = DeviceId::parse(text("device")?).map_err(|e| format!("\"device\" is not valid: {e}"))?;
    let point = PointId::parse(text("point")?).map_err(|e| format!("\"point\" is not valid: {e}"))?;
    let value = keys
        .get("value")
        .and_then(Value::of_plain)
        .filter(|v| *v != Value::Null)
        .ok_or("\"value\" is not valid: give a number, true or false, or a string")?;
    Ok(Target { device, point, value })
}

impl ScheduleAsk {
    /// `{"schedule.set":{"id":"night",…}}`, `{"schedule.remove":"night"}`, `{"schedule.enable":"night"}`,
    /// `{"schedule.disable":"night"}`, or the word `"schedule.list"`.
    pub fn read(json: &Json) -> Result<ScheduleAsk, String> {
        const KNOWN: &str = "use schedule.list, schedule.set, schedule.remove, schedule.enable or schedule.disable";
        if json.as_str() == Some("schedule.list") {
            return Ok(ScheduleAsk::List);
        }
        let (what, of) = match json.as_object().filter(|o| o.len() == 1).and_then(|o| o.iter().next()) {
            Some((what, of)) => (what.as_str(), of),
            None => return Err(KNOWN.into()),
        };
        let id = |of: &Json| {
            let text = of.as_str().ok_or("the id of a schedule is a string")?;
            ScheduleId::parse(text).map_err(|e| format!("the id of a schedule is not valid: {e}"))
        };
        match what {
            "schedule.set" => {
                let mut rest = of.as_object().cloned().ok_or("schedule.set has an object with id and the schedule")?;
                let id = id(&rest.remove("id").unwrap_or_default())?;
                Ok(ScheduleAsk::Set(id, Schedule::read(&Json::Object(rest))?))
            }
            "schedule.remove" => Ok(ScheduleAsk::Remove(id(of)?)),
            "schedule.enable" => Ok(ScheduleAsk::Enable(id(of)?, true)),
            "schedule.disable" => Ok(ScheduleAsk::Enable(id(of)?, false)),
            "schedule.list" => Ok(ScheduleAsk::List),
            _ => Err(KNOWN.into()),
        }
    }

    /// As it is read.
    pub fn shown(&self) -> Json {
        match self {
            ScheduleAsk::List => json!("schedule.list"),
            ScheduleAsk::Remove(id) => json!({"schedule.remove": id}),
            ScheduleAsk::Enable(id, true) => json!({"schedule.enable": id}),
            ScheduleAsk::Enable(id, false) => json!({"schedule.disable": id}),
            ScheduleAsk::Set(id, schedule) => {
                let mut shown = schedule.shown();
                if let Some(all) = shown.as_object_mut() {
                    all.insert("id".into(), json!(id));
                }
                json!({"schedule.set": shown})
            }
        }
    }
}

impl serde::Serialize for ScheduleAsk {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for ScheduleAsk {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ScheduleAsk::read(&Json::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(text: &str) {
        let ask = ScheduleAsk::read(&serde_json::from_str(text).unwrap()).unwrap();
        let kept = serde_json::to_string(&ask).unwrap();
        assert_eq!(serde_json::from_str::<ScheduleAsk>(&kept).unwrap(), ask, "{text}");
    }

    #[test]
    fn what_is_asked_comes_back_as_it_was() {
        same(
            r#"{"schedule.set":{"id":"night","cron":"0 22 * * *","zone":"Europe/Berlin","write":{"device":"relays","point":"k1","value":false}}}"#,
        );
        same(
            r#"{"schedule.set":{"id":"a","at":"2026-12-24T18:00:00","missed":"once","write":[{"device":"d","point":"p","value":1.5},{"device":"d","point":"q","value":"auto"}]}}"#,
        );
        same(
            r#"{"schedule.set":{"id":"a","every_s":900,"anchor":"2026-01-01T00:05:00Z","missed":"all","untrusted_clock":true,"write":{"device":"d","point":"p","value":18446744073709551615}}}"#,
        );
        same(r#"{"schedule.remove":"night"}"#);
        same(r#"{"schedule.enable":"night"}"#);
        same(r#"{"schedule.disable":"night"}"#);
        same(r#""schedule.list""#);
    }

    #[track_caller]
    fn refuse(body: &str, want: &str) {
        let json = serde_json::from_str(&format!("{{\"schedule.set\":{{\"id\":\"n\",{body}}}}}")).unwrap();
        assert_eq!(ScheduleAsk::read(&json).unwrap_err(), want, "{body}");
    }

    #[test]
    fn refused_with_a_reason() {
        let write = r#""write":{"device":"d","point":"p","value":1}"#;
        refuse(write, "give one of \"cron\", \"at\" and \"every_s\"");
        refuse(&format!(r#""cron":"0 22 * * *","every_s":5,{write}"#), "give one of \"cron\", \"at\" and \"every_s\"");
        refuse(&format!(r#""cron":"0 25 * * *",{write}"#), "\"cron\" is not valid: `25` is no hour: 0 to 23 are possible");
        refuse(&format!(r#""every_s":0.5,{write}"#), "\"every_s\" is not valid: write whole seconds, 1 to 31622400");
        refuse(&format!(r#""at":"noon",{write}"#), "\"at\" is not valid: write it as 2026-12-24T18:00:00, with a zone or without");
        refuse(&format!(r#""cron":"@daily","anchor":"2026-01-01T00:00:00Z",{write}"#), "\"anchor\" is for \"every_s\"");
        refuse(&format!(r#""cron":"@daily","zone":"../x",{write}"#), "\"zone\" is not valid: write a name such as \"Europe/Berlin\"");
        refuse(&format!(r#""cron":"@daily","missed":"ignore",{write}"#), "\"missed\" is not valid: use \"skip\", \"once\" or \"all\"");
        refuse(r#""cron":"@daily""#, &format!("\"write\" is not valid: {TARGET}"));
        refuse(
            r#""cron":"@daily","write":{"device":"d","point":"p","value":null}"#,
            "\"value\" is not valid: give a number, true or false, or a string",
        );
        refuse(
            r#""cron":"@daily","write":[{"device":"d","point":"p","value":1},{"device":"d","point":"p","value":2}]"#,
            "\"write\" is not valid: d.p stands in it twice",
        );
        let unknown = format!("the key \"cronn\" is unknown; use {}", KEYS.join(", "));
        refuse(&format!(r#""cronn":"0 22 * * *",{write}"#), &unknown);
        assert!(ScheduleAsk::read(&json!({"reboot": 1})).unwrap_err().starts_with("use schedule.list"));
        assert!(ScheduleAsk::read(&json!({"schedule.remove": "a b"})).unwrap_err().contains("1 to 48 letters"));
    }
}
