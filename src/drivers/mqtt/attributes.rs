//! What a status payload says besides online and offline: address, firmware, anything in words. Pure.
//!
//! Numbers are left out: they are readings, which come by a telemetry route, and change with every message.

use crate::{drivers::leaves, limits, model::PointId};
use serde_json::Value;
use std::collections::BTreeMap;

/// Empty for a payload that is no object. `null`: not said any more.
pub fn attributes(payload: &[u8]) -> BTreeMap<PointId, Option<String>> {
    let Ok(Value::Object(fields)) = leaves::value(payload) else { return BTreeMap::new() };
    let one = |(name, value): (&String, &Value)| {
        let text = match value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_attributes_and_numbers_are_not() {
        let said = br#"{"status":"online","ip":"10.0.0.7","fw":"1.2","mains":true,"rssi":-60,"gone":null,"a b":"x","deep":{"x":"y"}}"#;
        let got: Vec<String> = attributes(said).iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-"))).collect();
        assert_eq!(got, ["fw=1.2", "gone=-", "ip=10.0.0.7", "mains=true"]);
        for plain in [&b"online"[..], b"1", b"\"offline\"", b"[1]", b"{", b""] {
            assert!(attributes(plain).is_empty());
        }
    }
}
