//! What a status payload says: online, offline, or nothing that we understand. Pure.

use crate::drivers::leaves;
use serde_json::Value;

/// The route's own texts come first, then the words that devices commonly use.
pub fn said(payload: &[u8], online: Option<&str>, offline: Option<&str>) -> Option<bool> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    if online.is_some_and(|own| own == text) {
        return Some(true);
    }
    if offline.is_some_and(|own| own == text) {
        return Some(false);
    }
    if let Some(known) = word(text) {
        return Some(known);
    }
    if !text.starts_with(['{', '"']) {
        return None;
    }
    match leaves::value(payload).ok()? {
        Value::Object(fields) => ["status", "state"].iter().find_map(|key| fields.get(*key)).and_then(|field| one(field, online, offline)),
        json => one(&json, online, offline),
    }
}

fn one(json: &Value, online: Option<&str>, offline: Option<&str>) -> Option<bool> {
    match json {
        Value::Bool(on) => Some(*on),
        Value::Number(n) if n.as_u64() == Some(1) => Some(true),
        Value::Number(n) if n.as_u64() == Some(0) => Some(false),
        Value::String(text) if online == Some(text) => Some(true),
        Value::String(text) if offline == Some(text) => Some(false),
        Value::String(text) => word(text.trim()),
        _ => None,
    }
}

fn word(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["1", "online", "true"]) {
        Some(true)
    } else if is(&["0", "offline", "false"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_devices_use() {
        let yes = ["1", " 1\n", "online", "Online", "ONLINE", "true", r#"{"status":"online"}"#, r#"{"state":"online"}"#, r#"{"status":1}"#];
        let no = ["0", "offline", "Offline", "false", r#""offline""#, r#"{"status":"Offline","x":1}"#, r#"{"state":false}"#];
        let neither = ["", "2", "on", "onlin", "{", r#"{"status":2}"#, r#"{"x":"online"}"#, "[1]", "null"];
        yes.iter().for_each(|p| assert_eq!(said(p.as_bytes(), None, None), Some(true), "{p}"));
        no.iter().for_each(|p| assert_eq!(said(p.as_bytes(), None, None), Some(false), "{p}"));
        neither.iter().for_each(|p| assert_eq!(said(p.as_bytes(), None, None), None, "{p}"));
        assert_eq!(said(&[0xff, 0x31], None, None), None);
    }

    #[test]
    fn the_texts_of_the_route_come_first() {
        let own = |payload: &str| said(payload.as_bytes(), Some("alive"), Some("1"));
        assert_eq!(own("alive"), Some(true));
        assert_eq!(own("1"), Some(false));
        assert_eq!(own(r#"{"status":"alive"}"#), Some(true));
        assert_eq!(own("online"), Some(true));
        assert_eq!(own("dead"), None);
    }
}
