//! `{"frames":{"line":"meters","after":0}}`: what the line sent and heard last, from a number on.

use crate::{
    api::{control::refuse, status::Sources},
    limits,
};
use serde_json::{Value, json};
use std::fmt::Write;

pub fn answer(asked: &Value, sources: &Sources) -> Value {
    let line = asked["line"].as_str().unwrap_or_default();
    let after = asked["after"].as_u64().unwrap_or(0);
    let Some(door) = sources.doors.iter().find(|d| d.line.id.as_str() == line) else {
        return refuse("unknown-line", &format!("no line {line} runs here"));
    };
    let frames = (door.frames)(after, limits::FRAMES_PER_ANSWER);
    let next = frames.last().map_or(after, |f| f.n + 1);
    let rows: Vec<Value> = frames
        .iter()
        .map(|f| json!({"n": f.n, "at_us": f.at.0, "sent": f.sent, "bytes": hex(&f.bytes), "secret": f.bytes.is_empty()}))
        .collect();
    json!({"frames": rows, "next": next, "now_us": sources.clock.now().0})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
