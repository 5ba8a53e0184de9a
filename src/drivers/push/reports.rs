//! What a device wrote in a request: its heartbeat, its telemetry, or what came of an order. Pure.

use crate::{
    drivers::leaves::{self, Leaves, Shapes},
    limits,
    model::{Boot, ClockReading, Outcome, Phase, PointId, Value},
};
use serde_json::{Map, Value as Json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Names that say something about the message and are no value of the device.
const ABOUT: &[&str] = &["seq", "time", "timestamp"];
/// A device's clock may be ahead of ours by so much; more, and its time is not believed.
const AHEAD: Duration = Duration::from_secs(5);

/// The fields of a heartbeat, without those about the message itself. An empty body is a heartbeat without fields.
pub fn heartbeat(body: &[u8], shapes: &mut Shapes) -> Result<Option<Leaves>, String> {
    match body.trim_ascii().first() {
        None => Ok(None),
        Some(b'{') => {
            let leaves = shapes.all(body, "value").map_err(|e| e.to_string())?;
            Ok(Some(leaves).filter(|l| !l.points.is_empty()))
        }
        Some(_) => Err("a heartbeat is a JSON object, or nothing".into()),
    }
}

/// What of a heartbeat goes upstream.
pub fn fields(leaves: &Leaves) -> Leaves {
    let of_device = |(point, _): &(&PointId, &Value)| !ABOUT.contains(&point.as_str());
    let kept = || leaves.points.iter().zip(&leaves.values).filter(of_device);
    Leaves { points: kept().map(|(point, _)| point.clone()).collect(), values: kept().map(|(_, value)| value.clone()).collect() }
}

/// Whether two heartbeats differ in what is told at once: texts, switches, and which fields there are. Numbers come and go.
pub fn differ(before: &Leaves, now: &Leaves) -> bool {
    if !Arc::ptr_eq(&before.points, &now.points) && before.points != now.points {
        return true;
    }
    let number = |value: &Value| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_));
    let mut pairs = now.points.iter().zip(before.values.iter().zip(&now.values));
    pairs.any(|(point, (was, is))| was != is && !(number(was) && number(is)) && !ABOUT.contains(&point.as_str()))
}

/// Telemetry of one request, in the order of its moments.
#[derive(Debug)]
pub struct Telemetry {
    pub seq: Option<u64>,
    pub samples: Vec<Sample>,
    /// Samples that carry the time of arrival, although they came with one of their own.
    pub stamped: usize,
}

#[derive(Debug)]
pub struct Sample {
    pub at: Boot,
    pub leaves: Leaves,
}

/// `{"seq":…,"values":{…}}` with `time` or `age_ms`, or `{"seq":…,"samples":[{"values":{…},…},…]}`.
pub fn telemetry(body: &[u8], shapes: &mut Shapes, now: Boot, clock: ClockReading) -> Result<Telemetry, String> {
    let whole = object(body)?;
    let seq = whole.get("seq").map(|seq| seq.as_u64().ok_or("`seq` is a whole number from 0")).transpose()?;
    let (mut samples, mut stamped) = (Vec::new(), 0);
    let mut one = |object: &Map<String, Json>, place: &str, known: &[&str]| -> Result<(), String> {
        if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("{place}`{key}` is no key here; there are {}", known.join(", ")));
        }
        let values = object.get("values").filter(|v| v.is_object()).ok_or_else(|| format!("{place}`values` is an object of points"))?;
        let leaves = shapes.of(values).map_err(|e| format!("{place}{e}"))?;
        let (at, believed) = moment(object, now, clock).map_err(|e| format!("{place}{e}"))?;
        stamped += usize::from(!believed);
        samples.push(Sample { at, leaves });
        Ok(())
    };
    match whole.get("samples") {
        None => one(&whole, "", &["seq", "time", "timestamp", "age_ms", "values"])?,
        Some(Json::Array(list)) if list.len() > limits::API_SAMPLES => {
            return Err(format!("{} samples; at most {} in one request", list.len(), limits::API_SAMPLES));
        }
        Some(Json::Array(list)) => {
            if let Some(key) = whole.keys().find(|key| !["seq", "samples"].contains(&key.as_str())) {
                return Err(format!("`{key}` is no key beside `samples`"));
            }
            for (n, item) in list.iter().enumerate() {
                let object = item.as_object().ok_or_else(|| format!("sample {n} is no object"))?;
                one(object, &format!("sample {n}: "), &["time", "timestamp", "age_ms", "values"])?;
            }
        }
        Some(_) => return Err("`samples` is a list".into()),
    }
    samples.sort_by_key(|s| s.at);
    Ok(Telemetry { seq, samples, stamped })
}

/// When it was measured, and whether that is what the device said. Its clock is believed when ours is right, and within this
/// boot.
fn moment(object: &Map<String, Json>, now: Boot, clock: ClockReading) -> Result<(Boot, bool), String> {
    if let Some(age) = object.get("age_ms") {
        let age = age.as_u64().ok_or("`age_ms` is a whole number of milliseconds")?;
        return Ok(now.ms().checked_sub(age).map_or((now, false), |ms| (Boot::from_ms(ms), true)));
    }
    let Some(time) = object.get("time").or(object.get("timestamp")) else { return Ok((now, true)) };
    // Other forms than milliseconds since 1970 are a hint for people, and the time of arrival counts.
    let boot = time.as_i64().filter(|_| clock.is_synchronised()).map(|wall| wall.saturating_sub(clock.offset_ms));
    let boot = boot.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms <= (now + AHEAD).ms());
    Ok(boot.map_or((now, false), |ms| (Boot::from_ms(ms).min(now), true)))
}

/// `{"result":"done"|"failed"|"rejected","reason":…,"values":{…}}`; an empty body is `done`.
pub fn outcome(body: &[u8]) -> Result<Outcome, String> {
    if body.trim_ascii().is_empty() {
        return Ok(Outcome::new(Phase::Confirmed, ""));
    }
    let whole = object(body)?;
    let phase = match whole.get("result").map(|r| r.as_str().unwrap_or_default()) {
        None | Some("done") => Phase::Confirmed,
        Some("failed") => Phase::Failed,
        Some("rejected") => Phase::Rejected,
        Some(other) => return Err(format!("`{other}` is no result; there are done, failed and rejected")),
    };
    let reason = whole.get("reason").map_or(Some(""), Json::as_str).ok_or("`reason` is a text")?;
    let said = if reason.is_empty() && phase != Phase::Confirmed { "the device gave no reason" } else { reason };
    let mut values = BTreeMap::new();
    if let Some(given) = whole.get("values") {
        for (name, value) in given.as_object().ok_or("`values` is an object of points")? {
            let point = PointId::parse(name).map_err(|e| format!("`{name}` is no point: {e}"))?;
            values.insert(point, leaves::scalar(value).ok_or_else(|| format!("`{name}` has no plain value"))?);
        }
    }
    Ok(Outcome::new(phase, said.chars().take(500).collect::<String>()).with(values))
}

fn object(body: &[u8]) -> Result<Map<String, Json>, String> {
    if leaves::depth(body) > limits::JSON_DEPTH {
        return Err(leaves::Unreadable::Deep.to_string());
    }
    serde_json::from_slice(body).map_err(|e| format!("no JSON object: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClockQuality;
    use proptest::prelude::*;

    const NOW: Boot = Boot::from_ms(100_000);

    fn clock(quality: ClockQuality) -> ClockReading {
        ClockReading { quality, ..ClockReading::synchronised(1_000_000) }
    }

    fn show(leaves: &Leaves) -> String {
        leaves.points.iter().zip(&leaves.values).map(|(p, v)| format!("{p}={v:?}")).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(body: &str, want: &str) {
        let got = telemetry(body.as_bytes(), &mut Shapes::default(), NOW, clock(ClockQuality::Synchronised));
        let got = match got {
            Err(why) => format!("! {why}"),
            Ok(t) => {
                let samples: Vec<String> = t.samples.iter().map(|s| format!("{} {}", s.at.ms(), show(&s.leaves))).collect();
                format!("{}{}{}", t.seq.map_or(String::new(), |s| format!("#{s} ")), samples.join(", "), "*".repeat(t.stamped))
            }
        };
        assert_eq!(got, want, "{body}");
    }

    #[test]
    fn telemetry_is_one_sample_or_a_batch() {
        check(r#"{"values":{"temp":21.5}}"#, "100000 temp=Float(21.5)");
        check(r#"{"seq":7,"age_ms":1500,"values":{"a":{"b":1},"on":true}}"#, "#7 98500 a.b=Int(1) on=Bool(true)");
        check(r#"{"time":1090000,"values":{"a":1}}"#, "90000 a=Int(1)");
        check(r#"{"samples":[{"age_ms":10,"values":{"a":2}},{"age_ms":20,"values":{"a":1}}]}"#, "99980 a=Int(1), 99990 a=Int(2)");
        check(r#"{"seq":1,"samples":[]}"#, "#1 ");
    }

    #[test]
    fn a_time_that_cannot_be_believed_becomes_the_time_of_arrival() {
        check(r#"{"time":1,"values":{"a":1}}"#, "100000 a=Int(1)*");
        check(r#"{"time":1110000,"values":{"a":1}}"#, "100000 a=Int(1)*");
        check(r#"{"time":1103000,"values":{"a":1}}"#, "100000 a=Int(1)");
        check(r#"{"time":"2026-01-01T00:00:00Z","values":{"a":1}}"#, "100000 a=Int(1)*");
        check(r#"{"age_ms":200000,"values":{"a":1}}"#, "100000 a=Int(1)*");
        let unset =
            telemetry(br#"{"time":1090000,"values":{"a":1}}"#, &mut Shapes::default(), NOW, clock(ClockQuality::Estimated)).unwrap();
        assert_eq!((unset.samples[0].at, unset.stamped), (NOW, 1));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let none = telemetry(b"[1]", &mut Shapes::default(), NOW, clock(ClockQuality::Synchronised));
        assert!(none.is_err_and(|why| why.starts_with("no JSON object: ")));
        check(r#"{"temp":1}"#, "! `temp` is no key here; there are seq, time, timestamp, age_ms, values");
        check(r#"{"seq":-1,"values":{}}"#, "! `seq` is a whole number from 0");
        check(r#"{"values":3}"#, "! `values` is an object of points");
        check(
            r#"{"samples":[{"values":{"a":1}},{"value":1}]}"#,
            "! sample 1: `value` is no key here; there are time, timestamp, age_ms, values",
        );
        check(r#"{"samples":{},"seq":1}"#, "! `samples` is a list");
        check(r#"{"age_ms":"1","values":{"a":1}}"#, "! `age_ms` is a whole number of milliseconds");
    }

    #[test]
    fn a_heartbeat_is_told_when_a_text_or_a_switch_in_it_changed() {
        let mut shapes = Shapes::default();
        let mut beat = |text: &str| heartbeat(text.as_bytes(), &mut shapes).unwrap().unwrap();
        let first = beat(r#"{"seq":1,"time":"a","versions":{"fw":"1.2"},"storage":{"free":10},"door":false}"#);
        for (text, want) in [
            (r#"{"seq":2,"time":"b","versions":{"fw":"1.2"},"storage":{"free":9.5},"door":false}"#, false),
            (r#"{"seq":2,"time":"b","versions":{"fw":"1.3"},"storage":{"free":10},"door":false}"#, true),
            (r#"{"seq":2,"time":"b","versions":{"fw":"1.2"},"storage":{"free":10},"door":true}"#, true),
            (r#"{"seq":2,"time":"b","versions":{"fw":"1.2"},"storage":{"free":null},"door":false}"#, true),
            (r#"{"seq":2,"time":"b","versions":{"fw":"1.2"},"storage":{"free":10}}"#, true),
        ] {
            assert_eq!(differ(&first, &beat(text)), want, "{text}");
        }
        assert_eq!(show(&fields(&first)), r#"versions.fw=Text("1.2") storage.free=Int(10) door=Bool(false)"#);
        assert_eq!(heartbeat(b" ", &mut Shapes::default()).unwrap(), None);
        assert_eq!(heartbeat(b"{}", &mut Shapes::default()).unwrap(), None);
        assert!(heartbeat(b"[1]", &mut Shapes::default()).is_err() && heartbeat(b"{", &mut Shapes::default()).is_err());
    }

    #[test]
    fn what_came_of_an_order() {
        let of = |body: &str| outcome(body.as_bytes()).map(|o| (o.phase, o.reason, o.values.len()));
        assert_eq!(of(""), Ok((Phase::Confirmed, String::new(), 0)));
        assert_eq!(of(r#"{"result":"done","values":{"k1":true}}"#), Ok((Phase::Confirmed, String::new(), 1)));
        assert_eq!(of(r#"{"result":"failed","reason":"jammed"}"#), Ok((Phase::Failed, "jammed".into(), 0)));
        assert_eq!(of(r#"{"result":"rejected"}"#), Ok((Phase::Rejected, "the device gave no reason".into(), 0)));
        for bad in ["{", "[]", r#"{"result":"ok"}"#, r#"{"reason":1}"#, r#"{"values":{"a":[1]}}"#, r#"{"values":{"a b":1}}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>, text in r#"\{("(seq|time|age_ms|values|samples)":(\{|\[|1|"a"|,|\}|\])*){0,6}"#) {
            for body in [&body[..], text.as_bytes()] {
                let _ = heartbeat(body, &mut Shapes::default());
                let _ = telemetry(body, &mut Shapes::default(), NOW, clock(ClockQuality::Synchronised));
                let _ = outcome(body);
            }
        }
    }
}
