//! What a status payload says besides online and offline: address, firmware, anything in words. Pure.
//!
//! Numbers are left out: they are readings, which come by a telemetry route, and change with every message. So does the moment
//! at which a device says it.

use crate::{drivers::leaves, limits, model::PointId};
use serde_json::Value;
use std::collections::BTreeMap;

/// Empty for a payload that is no object, or has none where the pointer leads. `null`: not said any more.
pub fn attributes(payload: &[u8], at: Option<&str>) -> BTreeMap<PointId, Option<String>> {
    let Ok(root) = leaves::value(payload) else { return BTreeMap::new() };
    let Some(Value::Object(fields)) = root.pointer(at.unwrap_or_default()) else { return BTreeMap::new() };
    let one = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) if is_moment(text) => return None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(is) => Some(is.to_string()),
            Value::Null => None,
            Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((PointId::parse(name).ok()?, text))
    };
    let says_state = |name: &str| matches!(name, "status" | "state");
    fields.iter().filter(|(name, _)| !says_state(name)).filter_map(one).take(limits::ATTRIBUTES).collect()
}

/// A date with a time behind it (ISO 8601), whatever follows.
fn is_moment(text: &str) -> bool {
    let shape = b"0000-00-00T00:00";
    let fits = |(is, like): (u8, &u8)| match like {
        b'0' => is.is_ascii_digit(),
        b'T' => matches!(is, b'T' | b't' | b' '),
        mark => is == *mark,
    };
    text.len() >= shape.len() && text.bytes().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_message_is_no_change_of_its_device() {
        let said = r#"{"timestamp":"2025-08-11T17:30:00","at":"2025-01-28 10:30:00.5+01:00","built":"2025-08-11","fw":"2025-08-11T17h30"}"#;
        let got: Vec<String> = attributes(said.as_bytes(), None).keys().map(ToString::to_string).collect();
        assert_eq!(got, ["built", "fw"]);
    }

    #[test]
    fn words_are_attributes_and_numbers_are_not() {
        let said = br#"{"status":"online","ip":"10.0.0.7","fw":"1.2","mains":true,"rssi":-60,"gone":null,"a b":"x","deep":{"x":"y"}}"#;
        let got: Vec<String> =
            attributes(said, None).iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-"))).collect();
        assert_eq!(got, ["fw=1.2", "gone=-", "ip=10.0.0.7", "mains=true"]);
        let deep: Vec<String> = attributes(said, Some("/deep")).keys().map(ToString::to_string).collect();
        assert_eq!(deep, ["x"]);
        assert!(attributes(said, Some("/nowhere")).is_empty());
        for plain in [&b"online"[..], b"1", b"\"offline\"", b"[1]", b"{", b""] {
            assert!(attributes(plain, None).is_empty());
        }
    }
}
