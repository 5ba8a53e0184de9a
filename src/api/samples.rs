//! Questions to the local history and their answers: the same on the control socket, over HTTP and with the daemon stopped.

use super::json::plain;
use crate::{
    limits,
    model::{DeviceId, PointId, Quality, Value, WallMs},
    store::{
        StoreError,
        samples::{Past, Rows, Samples, Slots, Summary},
    },
};
use serde_json::{Value as Json, json};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
/// Without `slots`: as many as a chart is wide on a phone.
const SLOTS: u32 = 240;

#[derive(serde::Deserialize)]
struct Said {
    device: DeviceId,
    #[serde(default)]
    points: Vec<PointId>,
    from: Option<i64>,
    to: Option<i64>,
    /// Instead of `from`.
    since_ms: Option<i64>,
    slots: Option<u32>,
    #[serde(default)]
    form: Form,
}

#[derive(serde::Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Slots,
    Samples,
}

/// What is asked for.
pub struct Asked {
    device: DeviceId,
    points: Vec<PointId>,
    past: Past,
    form: Form,
}

impl Asked {
    /// `{"device":ID,"points":[…],"from":…,"to":…,"slots":240,"form":"slots"|"samples"}`: moments in milliseconds since 1970. The
    /// error says what is wrong.
    pub fn read(said: &Json, now: WallMs) -> Result<Asked, String> {
        let Said { device, points, from, to, since_ms, slots, form } =
            serde_json::from_value(said.clone()).map_err(|e| format!("a question to the past cannot be read: {e}"))?;
        let to = to.unwrap_or(now.0.saturating_add(1));
        let from = from.unwrap_or(to.saturating_sub(since_ms.unwrap_or(HOUR_MS)).max(0));
        let length = to.checked_sub(from).filter(|length| *length > 0 && from >= 0);
        let length = length.ok_or("`from` is before `to`, both in milliseconds since 1970")?;
        let slots = slots.unwrap_or(SLOTS);
        if !(1..=limits::SAMPLES_SLOTS).contains(&slots) {
            return Err(format!("`slots` is a whole number from 1 to {}", limits::SAMPLES_SLOTS));
        }
        let step = Duration::from_millis(length.unsigned_abs().div_ceil(u64::from(slots)));
        Ok(Asked { device, points, past: Past { from: WallMs(from), to: WallMs(to), step }, form })
    }
}

/// Reads from the disk: for a thread that may wait.
pub fn document(asked: &Asked, samples: &Samples) -> Result<Json, StoreError> {
    let Asked { device, points, past, form } = asked;
    let mut document = match form {
        Form::Slots => slots_of(&samples.slots(device, points, *past)?, past.step),
        Form::Samples => rows_of(samples.rows(device, points, *past)?),
    };
    document["v"] = json!(1);
    document["device"] = json!(device);
    document["from"] = json!(past.from.0);
    document["to"] = json!(past.to.0);
    Ok(document)
}

fn slots_of(slots: &Slots, step: Duration) -> Json {
    let slot = |(at, s): &(WallMs, Summary)| json!([at.0, s.least, s.mean, s.greatest, s.count]);
    let points = slots.iter().map(|(point, slots)| (point.as_str().to_owned(), slots.iter().map(slot).collect::<Json>()));
    json!({"step_ms": step.as_millis(), "columns": ["at", "min", "mean", "max", "count"], "points": Json::Object(points.collect())})
}

fn rows_of(rows: Rows) -> Json {
    let row = |(at, value, quality): (WallMs, Value, Quality)| match quality {
        Quality::Good => json!([at.0, plain(&value)]),
        other => json!([at.0, plain(&value), other.word()]),
    };
    let points = rows.points.into_iter().map(|(point, all)| (point.as_str().to_owned(), all.into_iter().map(row).collect::<Json>()));
    json!({"columns": ["at", "value", "quality"], "points": Json::Object(points.collect()), "next": rows.next.map(|at| at.0)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_a_range_and_a_bound() {
        let now = WallMs(10 * HOUR_MS);
        let read = |mut said: Json| {
            said["device"] = json!("boiler");
            Asked::read(&said, now)
        };
        let range = |said| read(said).map(|a| (a.past.from.0, a.past.to.0, a.past.step.as_millis(), a.form)).ok();
        assert_eq!(range(json!({})), Some((9 * HOUR_MS + 1, 10 * HOUR_MS + 1, 15_000, Form::Slots)));
        assert_eq!(range(json!({"since_ms": 60_000, "slots": 2})), Some((10 * HOUR_MS - 59_999, 10 * HOUR_MS + 1, 30_000, Form::Slots)));
        assert_eq!(range(json!({"since_ms": i64::MAX})).map(|r| r.0), Some(0), "all that there is");
        assert_eq!(range(json!({"from": 0, "to": 1000, "slots": 3, "form": "samples"})), Some((0, 1000, 334, Form::Samples)));
        for bad in [
            json!({"from": 5, "to": 5}),
            json!({"from": 6, "to": 5}),
            json!({"to": "x"}),
            json!({"slots": 0}),
            json!({"slots": 2001}),
            json!({"form": "all"}),
            json!({"from": -1, "to": 5}),
            json!({"points": ["a b"]}),
            json!({"since_ms": -5}),
        ] {
            assert_eq!(range(bad.clone()), None, "{bad}");
        }
        assert_eq!(read(json!({"points": ["a", "b"]})).map(|a| a.points.len()).ok(), Some(2));
        assert!(Asked::read(&json!({"device": "a b"}), now).is_err());
    }
}
