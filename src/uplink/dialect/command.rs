//! What comes down: one command, read strictly.
//!
//! ```json
//! {"id":"7f9c","device":"boiler","write":{"setpoint":60},"issued_at":"2026-11-21T10:00:00Z","expires_in_s":30}
//! {"id":"7f9e","run":{"schedule.disable":"night"}}
//! {"id":"7f9f","devices":["boiler","pump"],"write":{"setpoint":60}}
//! {"id":"7fa0","cancel":"7f9c"}
//! ```
//! Strict because it moves relays: a key that is unknown, comes twice or has the wrong type refuses the whole command,
//! with a reason that names it. A refused one becomes a dead letter; its reason carries the id where that can be read.
//!
//! Absent on purpose: whether the device exists, whether the point may be written, whether it is too old. The engine
//! judges that and answers with a result event.

use super::shape;
use crate::{
    limits,
    model::{Action, AlarmName, CommandId, DeviceId, Each, Own, PointId, ScheduleAsk, Value, WallMs, calendar},
};
use serde_json::{Map, Value as Json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long a command is good for when it does not say.
pub const EXPIRES_DEFAULT: Duration = Duration::from_secs(60);

/// A command as it was written, without what only the gateway knows (who brought it, when).
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub id: CommandId,
    pub device: DeviceId,
    pub action: Action,
    pub issued_at: Option<WallMs>,
    pub expires_in: Duration,
}

/// Why it is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", .id.as_ref().map(|id| format!("command {:?}: ", id.as_str())).unwrap_or_default())]
pub struct Unreadable {
    /// Where it could be read in spite of the rest.
    pub id: Option<CommandId>,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0} bytes are too many; a command has at most {max}", max = limits::PAYLOAD_BYTES)]
    TooLong(usize),
    #[error("not JSON that can mean only one thing: {0}")]
    NotJson(String),
    #[error("not a JSON object; write {{\"id\":…,\"device\":…,\"write\":{{…}}}}")]
    NotAnObject,
    #[error("{key:?} is missing")]
    Missing { key: &'static str },
    #[error("{key:?} is not valid: {want}")]
    Invalid { key: &'static str, want: String },
    #[error("the key {0:?} is unknown; use id, device or devices, write, read, acknowledge, run or cancel, issued_at, expires_in_s")]
    UnknownKey(String),
    #[error("it has \"device\" and \"devices\"; give one of them")]
    TwoTargets,
    #[error("it has two of \"write\", \"read\" and \"acknowledge\"; send two commands")]
    TwoActions,
    #[error("{0:?} is for the gateway itself; leave out device, devices, write, read, acknowledge, run and cancel beside it")]
    OfTheGateway(&'static str),
    #[error("with \"devices\" the id has at most {max} bytes", max = limits::FAN_ID)]
    LongId,
    #[error("it asks for nothing; give \"write\", \"read\" or \"acknowledge\"")]
    NoAction,
    #[error("cannot write point {point:?}: {want}")]
    BadValue { point: String, want: &'static str },
}

/// Reads one command. Nothing in it can panic or grow beyond the limits.
pub fn parse(body: &[u8]) -> Result<Asked, Unreadable> {
    let members = members(body).map_err(|fault| Unreadable { id: None, fault })?;
    let id = id(&members).map_err(|fault| Unreadable { id: None, fault })?;
    match rest(&members, id.clone()) {
        Ok(asked) => Ok(asked),
        Err(fault) => Err(Unreadable { id: Some(id), fault }),
    }
}

fn members(body: &[u8]) -> Result<Map<String, Json>, Fault> {
    if body.len() > limits::PAYLOAD_BYTES {
        return Err(Fault::TooLong(body.len()));
    }
    let not_json = |e: serde_json::Error| Fault::NotJson(e.to_string());
    shape::check(body).map_err(not_json)?;
    match serde_json::from_slice(body).map_err(not_json)? {
        Json::Object(members) => Ok(members),
        _ => Err(Fault::NotAnObject),
    }
}

fn id(members: &Map<String, Json>) -> Result<CommandId, Fault> {
    let text = members.get("id").ok_or(Fault::Missing { key: "id" })?;
    let text = text.as_str().ok_or_else(|| invalid("id", "write it as a string, best a UUID"))?;
    CommandId::parse(text).map_err(|e| invalid("id", e.0))
}

fn rest(members: &Map<String, Json>, id: CommandId) -> Result<Asked, Fault> {
    for key in members.keys() {
        match key.as_str() {
            "id" | "device" | "devices" | "write" | "read" | "acknowledge" | "run" | "cancel" | "issued_at" | "expires_in_s" => {}
            _ => return Err(Fault::UnknownKey(key.chars().take(64).collect())),
        }
    }
    // Whoever names no device may say so.
    let named = members.get("device").filter(|device| !device.is_null());
    let (device, action) = match (members.get("run"), members.get("cancel"), members.get("devices")) {
        (Some(run), ..) => (DeviceId::gateway(), of_gateway(members, "run", || own(run))?),
        (_, Some(id), _) => (DeviceId::gateway(), of_gateway(members, "cancel", || cancel(id))?),
        (.., Some(_)) if named.is_some() => return Err(Fault::TwoTargets),
        (.., Some(_)) if id.as_str().len() > limits::FAN_ID => return Err(Fault::LongId),
        (.., Some(_)) if members.contains_key("acknowledge") => return Err(invalid("devices", "name one device to acknowledge its alarm")),
        (.., Some(list)) => {
            let each = Each { devices: devices(list)?, action: action(members.get("write"), members.get("read"))? };
            (DeviceId::gateway(), Action::Each(Box::new(each)))
        }
        (None, None, None) => {
            let device = named.ok_or(Fault::Missing { key: "device" })?;
            let device = device.as_str().ok_or_else(|| invalid("device", "write it as a string"))?;
            let device = DeviceId::parse(device).map_err(|e| invalid("device", e.0))?;
            let action = match members.get("acknowledge") {
                Some(alarm) if !members.contains_key("write") && !members.contains_key("read") => acknowledge(&device, alarm)?,
                Some(_) => return Err(Fault::TwoActions),
                None => action(members.get("write"), members.get("read"))?,
            };
            (device, action)
        }
    };
    Ok(Asked {
        id,
        device,
        action,
        issued_at: members.get("issued_at").map(issued_at).transpose()?,
        expires_in: members.get("expires_in_s").map_or(Ok(EXPIRES_DEFAULT), expires_in)?,
    })
}

/// Somebody has seen an alarm of the device.
fn acknowledge(device: &DeviceId, alarm: &Json) -> Result<Action, Fault> {
    let name = alarm.as_str().and_then(|text| AlarmName::parse(device, text));
    let want = "write the alarm as \"offline\", \"flapping\" or \"rule:ID\"";
    Ok(Action::Acknowledge(Box::new(name.ok_or_else(|| invalid("acknowledge", want))?)))
}

/// What the gateway itself does. `what` stands alone.
fn of_gateway(members: &Map<String, Json>, what: &'static str, read: impl FnOnce() -> Result<Action, Fault>) -> Result<Action, Fault> {
    let beside = |(key, value): (&String, &Json)| match key.as_str() {
        "device" => !value.is_null(),
        "devices" | "write" | "read" | "acknowledge" | "run" | "cancel" => key != what,
        _ => false,
    };
    if members.iter().any(beside) { Err(Fault::OfTheGateway(what)) } else { read() }
}

fn own(run: &Json) -> Result<Action, Fault> {
    let read = if Own::is_meant(run) {
        Own::read(run).map(|own| Action::Own(Box::new(own)))
    } else {
        ScheduleAsk::read(run).map(|ask| Action::Run(Box::new(ask)))
    };
    read.map_err(|want| invalid("run", want))
}

fn cancel(id: &Json) -> Result<Action, Fault> {
    let text = id.as_str().ok_or_else(|| invalid("cancel", "write the id of the command as a string"))?;
    CommandId::parse(text).map(Action::Cancel).map_err(|e| invalid("cancel", e.0))
}

fn devices(list: &Json) -> Result<Vec<DeviceId>, Fault> {
    let want = || invalid("devices", format!("write a list of 1 to {} devices, each once", limits::FAN_OUT));
    let list = list.as_array().filter(|l| (1..=limits::FAN_OUT).contains(&l.len())).ok_or_else(want)?;
    let one = |device: &Json| DeviceId::parse(device.as_str().ok_or_else(want)?).map_err(|e| invalid("devices", e.0));
    let devices = list.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let distinct: BTreeSet<&DeviceId> = devices.iter().collect();
    if distinct.len() == devices.len() { Ok(devices) } else { Err(want()) }
}

fn action(write: Option<&Json>, read: Option<&Json>) -> Result<Action, Fault> {
    match (write, read) {
        (Some(_), Some(_)) => Err(Fault::TwoActions),
        (None, None) => Err(Fault::NoAction),
        (Some(Json::Object(points)), None) if points.is_empty() => Err(Fault::NoAction),
        (Some(Json::Object(points)), None) if points.len() <= limits::MQTT_LEAVES => writes(points).map(Action::Write),
        (Some(_), None) => Err(invalid("write", "write an object of points and values, at most 1,000")),
        (None, Some(Json::Array(points))) if points.len() <= limits::MQTT_LEAVES => reads(points).map(Action::Read),
        (None, Some(_)) => Err(invalid("read", "write a list of points, at most 1,000; an empty list reads all")),
    }
}

fn writes(points: &Map<String, Json>) -> Result<BTreeMap<PointId, Value>, Fault> {
    points.iter().map(|(point, v)| Ok((PointId::parse(point).map_err(|e| invalid("write", e.0))?, written(point, v)?))).collect()
}

fn written(point: &str, v: &Json) -> Result<Value, Fault> {
    let bad = |want| Fault::BadValue { point: point.to_owned(), want };
    match v {
        Json::Bool(b) => Ok(Value::Bool(*b)),
        Json::String(text) => Ok(Value::Text(text.as_str().into())),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(i), _, _) => Ok(Value::Int(i)),
            (_, Some(u), _) => Ok(Value::Uint(u)),
            (_, _, Some(f)) if f.is_finite() => Ok(Value::Float(f)),
            _ => Err(bad("the number is out of range")),
        },
        Json::Null => Err(bad("null is no value")),
        Json::Array(_) | Json::Object(_) => Err(bad("give one number, true or false, or a string")),
    }
}

fn reads(points: &[Json]) -> Result<Vec<PointId>, Fault> {
    let one = |point: &Json| {
        let text = point.as_str().ok_or_else(|| invalid("read", "write each point as a string"))?;
        PointId::parse(text).map_err(|e| invalid("read", e.0))
    };
    points.iter().map(one).collect()
}

/// 2000-01-01 and 2200-01-01: whoever sends seconds instead of milliseconds lands in January 1970.
const SANE_MS: std::ops::Range<i64> = 946_684_800_000..7_258_118_400_000;

fn issued_at(v: &Json) -> Result<WallMs, Fault> {
    let wall = match v {
        Json::String(text) => calendar::parse_rfc3339(text),
        _ => v.as_i64().map(WallMs),
    };
    wall.filter(|w| SANE_MS.contains(&w.0))
        .ok_or_else(|| invalid("issued_at", "write RFC 3339 with a zone (2026-11-21T10:00:00Z) or milliseconds since 1970"))
}

fn expires_in(v: &Json) -> Result<Duration, Fault> {
    let most = limits::COMMANDS_KEPT_FOR;
    v.as_f64()
        .filter(|s| *s > 0.0)
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .filter(|d| !d.is_zero() && *d <= most)
        .ok_or_else(|| invalid("expires_in_s", "write seconds, more than 0 and at most 30 days"))
}

fn invalid(key: &'static str, want: impl Into<String>) -> Fault {
    Fault::Invalid { key, want: want.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted() {
        let point = |p: &str| PointId::parse(p).unwrap();
        let writes = |pairs: &[(&str, Value)]| Action::Write(pairs.iter().map(|(p, v)| (point(p), v.clone())).collect());
        accept(r#"{"id":"1","device":"boiler","write":{"setpoint":60}}"#, writes(&[("setpoint", Value::Int(60))]), None, 60.0);
        accept(
            r#"{"id":"1","device":"boiler","write":{"a":true,"b.c":1.5,"d":-3,"e":18446744073709551615,"f":"auto"},"expires_in_s":0.5}"#,
            writes(&[
                ("a", Value::Bool(true)),
                ("b.c", Value::Float(1.5)),
                ("d", Value::Int(-3)),
                ("e", Value::Uint(u64::MAX)),
                ("f", Value::Text("auto".into())),
            ]),
            None,
            0.5,
        );
        accept(
            r#"{"id":"1","device":"boiler","read":["flow_temp"],"issued_at":"2026-11-21T10:00:00Z","expires_in_s":30}"#,
            Action::Read(vec![point("flow_temp")]),
            Some(1_795_255_200_000),
            30.0,
        );
        accept(r#"{"id":"1","device":"boiler","read":[],"issued_at":1795255200250}"#, Action::Read(vec![]), Some(1_795_255_200_250), 60.0);
    }

    #[track_caller]
    fn accept(body: &str, action: Action, issued_at: Option<i64>, expires_in_s: f64) {
        let want = Asked {
            id: CommandId::parse("1").unwrap(),
            device: DeviceId::parse("boiler").unwrap(),
            action,
            issued_at: issued_at.map(WallMs),
            expires_in: Duration::from_secs_f64(expires_in_s),
        };
        assert_eq!(parse(body.as_bytes()), Ok(want), "{body}");
    }

    #[test]
    fn what_the_gateway_itself_runs_names_no_device() {
        let asked = parse(br#"{"id":"1","run":{"schedule.disable":"night"},"issued_at":1795255200250}"#).unwrap();
        let night = crate::model::ScheduleId::parse("night").unwrap();
        assert_eq!((asked.device, asked.action), (DeviceId::gateway(), Action::Run(Box::new(ScheduleAsk::Enable(night, false)))));
    }

    #[test]
    fn several_devices_are_one_command() {
        let asked = parse(br#"{"id":"1","device":null,"devices":["pump","boiler"],"write":{"k":true}}"#).unwrap();
        let Action::Each(each) = &asked.action else { panic!("{asked:?}") };
        assert!(asked.device.is_gateway());
        assert_eq!(each.devices, ["pump", "boiler"].map(|d| DeviceId::parse(d).unwrap()));
        assert_eq!(each.action, Action::Write([(PointId::parse("k").unwrap(), Value::Bool(true))].into()));
        let want = r#"command "7": "devices" is not valid: write a list of 1 to 100 devices, each once"#;
        refuse(r#"{"id":"7","devices":[],"write":{"k":1}}"#, want);
        refuse(r#"{"id":"7","devices":"*","write":{"k":1}}"#, want);
        refuse(r#"{"id":"7","devices":["d","d"],"write":{"k":1}}"#, want);
        let many: Vec<String> = (0..=limits::FAN_OUT).map(|n| format!("\"d{n}\"")).collect();
        refuse(&format!(r#"{{"id":"7","devices":[{}],"write":{{"k":1}}}}"#, many.join(",")), want);
        refuse(
            r#"{"id":"7","device":"d","devices":["e"],"write":{"k":1}}"#,
            r#"command "7": it has "device" and "devices"; give one of them"#,
        );
        refuse(
            r#"{"id":"7","devices":["e"],"acknowledge":"offline"}"#,
            r#"command "7": "devices" is not valid: name one device to acknowledge its alarm"#,
        );
        let id = "x".repeat(limits::FAN_ID + 1);
        refuse(
            &format!(r#"{{"id":"{id}","devices":["e"],"read":[]}}"#),
            &format!(r#"command "{id}": with "devices" the id has at most 63 bytes"#),
        );
    }

    #[test]
    fn a_cancel_and_what_the_gateway_does_name_no_device() {
        let action = |body: &str| parse(body.as_bytes()).map(|asked| (asked.device.is_gateway(), asked.action)).unwrap();
        assert_eq!(action(r#"{"id":"1","cancel":"7f9c"}"#), (true, Action::Cancel(CommandId::parse("7f9c").unwrap())));
        assert_eq!(action(r#"{"id":"1","device":null,"run":"ping"}"#), (true, Action::Own(Box::new(Own::Ping))));
        assert_eq!(action(r#"{"id":"1","run":"restart"}"#), (true, Action::Own(Box::new(Own::Restart))));
    }

    #[test]
    fn refused_with_a_reason() {
        refuse("", "not JSON that can mean only one thing: EOF while parsing a value at line 1 column 0");
        refuse("on", "not JSON that can mean only one thing: expected value at line 1 column 1");
        refuse("[1]", r#"not a JSON object; write {"id":…,"device":…,"write":{…}}"#);
        refuse(r#"{"device":"d","write":{"k":1}}"#, r#""id" is missing"#);
        refuse(r#"{"id":7,"device":"d","write":{"k":1}}"#, r#""id" is not valid: write it as a string, best a UUID"#);
        refuse(r#"{"id":"7","write":{"k":1}}"#, r#"command "7": "device" is missing"#);
        refuse(
            r#"{"id":"7","device":"a/b","write":{"k":1}}"#,
            r#"command "7": "device" is not valid: use 1 to 64 letters, digits, '-' or '_' (it becomes an MQTT topic level)"#,
        );
        refuse(r#"{"id":"7","device":"d"}"#, r#"command "7": it asks for nothing; give "write", "read" or "acknowledge""#);
        refuse(r#"{"id":"7","device":"d","write":{}}"#, r#"command "7": it asks for nothing; give "write", "read" or "acknowledge""#);
        refuse(
            r#"{"id":"7","device":"d","write":{"k":1},"read":[]}"#,
            r#"command "7": it has two of "write", "read" and "acknowledge"; send two commands"#,
        );
        refuse(
            r#"{"id":"7","device":"d","write":[1]}"#,
            r#"command "7": "write" is not valid: write an object of points and values, at most 1,000"#,
        );
        refuse(r#"{"id":"7","device":"d","write":{"k":null}}"#, r#"command "7": cannot write point "k": null is no value"#);
        refuse(
            r#"{"id":"7","device":"d","write":{"k":[1]}}"#,
            r#"command "7": cannot write point "k": give one number, true or false, or a string"#,
        );
        const ALONE: &str = "is for the gateway itself; leave out device, devices, write, read, acknowledge, run and cancel beside it";
        refuse(r#"{"id":"7","device":"d","run":"schedule.list"}"#, &format!(r#"command "7": "run" {ALONE}"#));
        refuse(r#"{"id":"7","cancel":"6","read":[]}"#, &format!(r#"command "7": "cancel" {ALONE}"#));
        refuse(r#"{"id":"7","cancel":6}"#, r#"command "7": "cancel" is not valid: write the id of the command as a string"#);
        let got = parse(br#"{"id":"7","run":"reboot"}"#).unwrap_err().to_string();
        assert!(got.starts_with(r#"command "7": "run" is not valid: use ping, status, devices"#), "{got}");
        refuse(
            r#"{"id":"7","run":{"schedule.set":{"id":"night","cron":"0 25 * * *","write":{"device":"d","point":"p","value":1}}}}"#,
            r#"command "7": "run" is not valid: "cron" is not valid: `25` is no hour: 0 to 23 are possible"#,
        );
        refuse(
            r#"{"id":"7","device":"d","write":{"k":1},"dry_run":true}"#,
            r#"command "7": the key "dry_run" is unknown; use id, device or devices, write, read, acknowledge, run or cancel, issued_at, expires_in_s"#,
        );
        refuse(
            r#"{"id":"7","device":"d","write":{"k":1},"issued_at":1795255200}"#,
            r#"command "7": "issued_at" is not valid: write RFC 3339 with a zone (2026-11-21T10:00:00Z) or milliseconds since 1970"#,
        );
        for expires in ["0", "-1", "1e300", "\"60\"", "null"] {
            refuse(
                &format!(r#"{{"id":"7","device":"d","write":{{"k":1}},"expires_in_s":{expires}}}"#),
                r#"command "7": "expires_in_s" is not valid: write seconds, more than 0 and at most 30 days"#,
            );
        }
        refuse(
            r#"{"id":"7","device":"d","write":{"k":1,"k":0}}"#,
            "not JSON that can mean only one thing: the key \"k\" comes twice at line 1 column 41",
        );
        refuse(&"x".repeat(limits::PAYLOAD_BYTES + 1), "262145 bytes are too many; a command has at most 262144");
    }

    #[track_caller]
    fn refuse(body: &str, want: &str) {
        let got = parse(body.as_bytes()).expect_err(body).to_string();
        assert_eq!(got, want, "{body:.80}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn nothing_json_like_panics(body in "[\\[\\]{}\":,0-9a-z\\\\ .eE+-]{0,120}") {
            let _ = parse(body.as_bytes());
        }
    }
}
