//! What a device says of itself: address, firmware, anything in words. Pure.
//!
//! Of an object, numbers are left out: they are readings, which come by a telemetry route, and change with every message. So does
//! the moment at which a device says it. A plain payload that has a name is one such word as it stands: version 1.10 is not 1.1.

use crate::{drivers::leaves, limits, model::PointId};
use serde_json::Value;
use std::collections::BTreeMap;

/// `name` is what a plain payload is called, and stands before the names in an object. Empty for a list, a plain payload without a
/// name, and one that has nothing where the pointer leads. `null`: not said any more.
pub fn attributes(payload: &[u8], at: Option<&str>, name: Option<&str>) -> BTreeMap<PointId, Option<String>> {
    let Ok(root) = leaves::value(payload) else { return BTreeMap::new() };
    let at = at.unwrap_or_default();
    let fields = match root.pointer(at) {
        Some(Value::Object(fields)) => fields,
        Some(Value::Array(_)) | None => return BTreeMap::new(),
        Some(plain) => {
            let all = at.is_empty().then_some(payload);
            return name.and_then(|name| Some((PointId::parse(name).ok()?, word(plain, all)))).into_iter().collect();
        }
    };
    let called = |field: &str| match name {
        Some(name) => PointId::parse(&format!("{name}.{field}")),
        None => PointId::parse(field),
    };
    let one = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) if is_moment(text) => return None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(is) => Some(is.to_string()),
            Value::Null => None,
            Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((called(name).ok()?, text))
    };
    let says_state = |name: &str| matches!(name, "status" | "state");
    fields.iter().filter(|(name, _)| !says_state(name)).filter_map(one).take(limits::ATTRIBUTES).collect()
}

/// What is no text stands as it was written, if it is all of the payload.
fn word(plain: &Value, all: Option<&[u8]>) -> Option<String> {
    match plain {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(all.map_or_else(|| other.to_string(), |all| String::from_utf8_lossy(all.trim_ascii()).into_owned())),
    }
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
        let got: Vec<String> = attributes(said.as_bytes(), None, None).keys().map(ToString::to_string).collect();
        assert_eq!(got, ["built", "fw"]);
    }

    #[test]
    fn words_are_attributes_and_numbers_are_not() {
        let said = br#"{"status":"online","ip":"10.0.0.7","fw":"1.2","mains":true,"rssi":-60,"gone":null,"a b":"x","deep":{"x":"y"}}"#;
        let got: Vec<String> =
            attributes(said, None, None).iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-"))).collect();
        assert_eq!(got, ["fw=1.2", "gone=-", "ip=10.0.0.7", "mains=true"]);
        let deep: Vec<String> = attributes(said, Some("/deep"), None).keys().map(ToString::to_string).collect();
        assert_eq!(deep, ["x"]);
        assert!(attributes(said, Some("/nowhere"), None).is_empty());
        let plain = |payload: &[u8]| {
            attributes(payload, None, Some("fw.version")).into_iter().next().map(|(name, value)| (name.to_string(), value))
        };
        let word = |text: &str| Some(("fw.version".to_owned(), Some(text.to_owned())));
        assert_eq!(plain(b" 1.10 "), word("1.10"), "no number");
        assert_eq!(plain(b"\"1.10-rc\""), word("1.10-rc"));
        assert_eq!(plain(b"192.168.1.7"), word("192.168.1.7"));
        assert_eq!(plain(b"true"), word("true"));
        assert_eq!(plain(b"null"), Some(("fw.version".to_owned(), None)));
        assert_eq!((plain(b"[1]"), plain(b"")), (None, None));
        let pointed = attributes(br#"{"v":2}"#, Some("/v"), Some("fw"));
        assert_eq!(pointed.into_values().collect::<Vec<_>>(), [Some("2".to_owned())]);
        assert_eq!(attributes(b"x", None, Some("no name")), BTreeMap::new());
        let under: Vec<String> = attributes(said, None, Some("info")).keys().map(ToString::to_string).collect();
        assert_eq!(under, ["info.fw", "info.gone", "info.ip", "info.mains"]);
        for plain in [&b"online"[..], b"1", b"\"offline\"", b"[1]", b"{", b""] {
            assert!(attributes(plain, None, None).is_empty());
        }
    }
}
