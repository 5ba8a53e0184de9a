//! Moments as they are shown: `15:23:08.104Z` to a person, RFC 3339 in `--json`. In UTC, as the Z says: a reader's zone would
//! need a library that reads time zone files.

use crate::model::calendar;
use serde_json::{Value, json};

/// `2026-11-21T15:23:08.104Z`.
pub fn rfc3339(wall_ms: i64) -> String {
    let (days, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
    let (year, month, day) = calendar::date(days);
    format!("{year:04}-{month:02}-{day:02}T{}Z", of_day(ms))
}

/// `15:23:08.104Z`.
pub fn time(wall_ms: i64) -> String {
    of_day(wall_ms.rem_euclid(86_400_000)) + "Z"
}

fn of_day(ms: i64) -> String {
    let s = ms / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", s / 3600, s % 3600 / 60, s % 60, ms % 1000)
}

/// Every `…_ms` as RFC 3339 under the name without it.
pub fn with_times(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let one = |(key, v): (&String, &Value)| match (key.strip_suffix("_ms"), v.as_i64()) {
                (Some(name), Some(ms)) => (name.to_owned(), json!(rfc3339(ms))),
                (Some(name), None) => (name.to_owned(), Value::Null),
                _ => (key.clone(), with_times(v)),
            };
            Value::Object(fields.iter().map(one).collect())
        }
        Value::Array(all) => all.iter().map(with_times).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_standard_says() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_274_588_104, "2026-11-21T15:23:08.104Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), want);
        }
        assert_eq!(time(1_795_274_588_104), "15:23:08.104Z");
    }
}
