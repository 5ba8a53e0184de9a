//! `{"learned":{}}`: what was found out about devices and lines and is remembered.

use crate::api::{control::refuse, status::Sources};
use serde_json::{Value, json};

pub async fn answer(sources: &Sources) -> Value {
    let store = sources.store.clone();
    // Reads from the disk.
    match tokio::task::spawn_blocking(move || store.learned()).await {
        Ok(Ok(facts)) => json!({"v": 1, "learned": facts}),
        Ok(Err(error)) => refuse("unreadable", &error.to_string()),
        Err(_) => refuse("stopping", "the daemon is stopping"),
    }
}
