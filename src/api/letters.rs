//! Dead letters as a document, and which of them are meant: the same with the daemon and without.

use crate::{
    model::WallMs,
    store::{DeadLetterRow, LetterFilter},
};
use serde_json::{Value, json};

/// Letters in one answer; more are asked for with another filter.
const MOST: u32 = 1000;

/// Which ones a request means, and how many at most.
pub fn filter(asked: &Value, now: WallMs) -> Option<(LetterFilter, u32)> {
    let number = |key: &str| match &asked[key] {
        Value::Null => Some(None),
        value => value.as_i64().map(Some),
    };
    let ids = match &asked["ids"] {
        Value::Null => Vec::new(),
        ids => ids.as_array().filter(|ids| ids.len() <= MOST as usize)?.iter().map(Value::as_i64).collect::<Option<_>>()?,
    };
    let source = match &asked["source"] {
        Value::Null => None,
        source => Some(source.as_str()?.to_owned()),
    };
    let before = number("older_ms")?.map(|older| WallMs(now.0.saturating_sub(older)));
    let limit = number("limit")?.map_or(MOST, |limit| u32::try_from(limit).unwrap_or(0).min(MOST));
    Some((LetterFilter { ids, source, before }, limit))
}

pub fn document(found: &[DeadLetterRow]) -> Value {
    let letters: Vec<Value> = found
        .iter()
        .map(|l| {
            json!({
                "id": l.id, "at_ms": l.wall.0, "source": l.source, "topic": l.topic, "reason": l.reason,
                "bytes": l.body.len(), "body": String::from_utf8_lossy(&l.body),
            })
        })
        .collect();
    json!({"v": 1, "letters": letters})
}
