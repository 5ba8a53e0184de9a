//! `{"samples":{"device":ID,"points":[…],"since_ms":3600000,"slots":240}}`: the past of values, as far as it is kept here.

use crate::api::{
    control::refuse,
    samples::{Asked, document},
    status::Sources,
};
use serde_json::Value;

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Some(samples) = sources.samples.clone() else {
        return refuse("no-history", "the configuration has no [history]");
    };
    let now = sources.store.clock().0.wall(sources.clock.now());
    let asked = match Asked::read(asked, now) {
        Ok(asked) => asked,
        Err(why) => return refuse("unreadable", &why),
    };
    match tokio::task::spawn_blocking(move || document(&asked, &samples)).await {
        Ok(Ok(document)) => document,
        Ok(Err(error)) => refuse("failed", &error.to_string()),
        Err(_) => refuse("stopping", "the daemon is stopping"),
    }
}
