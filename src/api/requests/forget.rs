//! `{"forget":{"device":ID}}`: the line learns anew what the device refuses.

use crate::{
    api::{control::refuse, status::Sources},
    model::DeviceId,
};
use serde_json::{Value, json};

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let device = asked["forget"].get("device").and_then(Value::as_str).and_then(|id| DeviceId::parse(id).ok());
    let Some((device, port)) = device.and_then(|id| sources.forget.get(&id).map(|port| (id, port))) else {
        return refuse("unknown-device", "no line polls a device of that id");
    };
    if port(device) { json!({"v": 1, "forgotten": true}) } else { refuse("busy", "its line has too much waiting; try again") }
}
