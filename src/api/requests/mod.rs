//! What can be asked on the control socket: one file per request, chosen by the object's first known key.

mod lines;
mod site;
mod status;

use super::{control::refuse, status::Sources};
use serde_json::Value;

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    if let Some(asked) = asked.get("site") {
        return site::answer(asked, sources).await;
    }
    match asked.get("get").and_then(Value::as_str) {
        Some("status") => status::answer(asked, sources).await,
        Some("lines") => lines::answer(sources),
        _ => refuse("unknown-request", "known requests: {\"get\":\"status\"}, {\"get\":\"lines\"}, {\"site\":{…}}"),
    }
}
