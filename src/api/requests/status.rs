//! `{"get":"status"}`, with `"all":true` for every device.

use crate::api::{control::refuse, status::Sources};
use serde_json::Value;

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let all = asked.get("all").and_then(Value::as_bool).unwrap_or(false);
    match sources.document(all).await {
        Some(document) => document,
        None => refuse("stopping", "the daemon is stopping"),
    }
}
