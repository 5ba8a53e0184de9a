//! What can be asked on the control socket: one file per request, chosen by the object's first known key.

pub(super) mod alarms;
pub(super) mod command;
pub(super) mod commands;
pub(super) mod devices;
pub(super) mod events;
mod forget;
mod frames;
mod learned;
mod letters;
mod lines;
pub(super) mod rules;
pub(super) mod samples;
pub(super) mod schedules;
mod site;
mod status;
mod trace;

use super::{control::refuse, status::Sources};
use serde_json::Value;

const KNOWN: &str = "known requests: {\"get\":\"status\"}, {\"get\":\"lines\"}, {\"learned\":{}}, {\"forget\":{\"device\":ID}}, {\"site\":{…}}, \
     {\"frames\":{\"line\":ID}}, {\"command\":{…}}, {\"commands\":{…}}, {\"trace\":{…}}, {\"dead_letters\":{…}}, {\"devices\":{…}}, {\"maintain\":{…}}, \
     {\"schedules\":{…}}, {\"schedule\":{…}}, {\"rules\":{}}, {\"rule\":{…}}, {\"alarms\":{}}, {\"acknowledge\":{…}}, \
     {\"samples\":{…}}, {\"events\":{}}";

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    if let Some(asked) = asked.get("site") {
        return site::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("command") {
        return command::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("commands") {
        return commands::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("trace") {
        return trace::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("frames") {
        return frames::answer(asked, sources);
    }
    if let Some(asked) = asked.get("devices") {
        return devices::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("maintain") {
        return devices::maintain(asked, sources).await;
    }
    if let Some(asked) = asked.get("schedules") {
        return schedules::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("schedule") {
        return schedules::change(asked, sources).await;
    }
    if asked.get("rules").is_some() {
        return rules::answer(sources).await;
    }
    if let Some(asked) = asked.get("rule") {
        return rules::switch(asked, sources).await;
    }
    if let Some(asked) = asked.get("alarms") {
        return alarms::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("acknowledge") {
        return alarms::acknowledge(asked, sources).await;
    }
    if let Some(asked) = asked.get("samples") {
        return samples::answer(asked, sources).await;
    }
    if let Some(asked) = asked.get("events") {
        return events::answer(asked, sources).await;
    }
    if asked.get("dead_letters").is_some() {
        return letters::answer(asked, sources).await;
    }
    match asked.get("get").and_then(Value::as_str) {
        Some("status") => status::answer(asked, sources).await,
        Some("lines") => lines::answer(sources),
        None if asked.get("learned").is_some() => learned::answer(sources).await,
        None if asked.get("forget").is_some() => forget::answer(asked, sources).await,
        _ => refuse("unknown-request", KNOWN),
    }
}
