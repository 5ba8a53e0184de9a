//! A message's content as one number: what stays the same in every sending of a key.
//!
//! Each step maps different words to different states, so contents that differ in one word never collide; others do once
//! in 2^64. The numbers are stored by consumers: do not change how they come about.

use super::{Body, Frame, Message};
use crate::model::Value;
use serde_json::Value as Json;

pub fn hash(m: &Message) -> u64 {
    let mut to = State(0);
    to.word(u64::from(m.clock.boot));
    match &m.body {
        Body::Telemetry(devices) => {
            to.word(1);
            for (device, frames) in devices {
                to.text(device.as_str());
                frames.iter().for_each(|f| frame(&mut to, f, m.clock.offset_ms));
            }
        }
        Body::Events(events) => {
            to.word(2);
            for event in events {
                to.word(event.members.len() as u64);
                // In order of name: how an object is written says nothing.
                let mut members: Vec<_> = event.members.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                for (name, value) in members {
                    to.text(name);
                    match value.as_i64() {
                        Some(ms) if matches!(name.as_str(), "at" | "since" | "evidence_at") => {
                            to.signed(ms.wrapping_sub(m.clock.offset_ms))
                        }
                        _ => json(&mut to, value),
                    }
                }
            }
        }
    }
    to.end()
}

fn frame(to: &mut State, f: &Frame, offset_ms: i64) {
    to.signed(f.at.wrapping_sub(offset_ms));
    to.word(f.dt.len() as u64);
    f.dt.iter().for_each(|dt| to.signed(*dt));
    to.word(f.v.len() as u64);
    for (point, column) in &f.v {
        to.text(point.as_str());
        column.iter().for_each(|v| value(to, v));
    }
    // A column in which all is good says the same as none.
    for (point, words) in f.q.iter().filter(|(_, words)| words.iter().any(|w| &**w != "good")) {
        to.text(point.as_str());
        words.iter().for_each(|w| to.text(w));
    }
    if let Some(thin) = f.thin {
        to.word(thin.window_ms);
        to.word(thin.of);
    }
}

fn value(to: &mut State, v: &Value) {
    match v {
        Value::Null => to.word(3),
        Value::Bool(b) => to.pair(4, u64::from(*b)),
        Value::Int(i) => to.pair(5, i.cast_unsigned()),
        Value::Uint(u) => to.pair(6, *u),
        Value::Float(f) => to.pair(7, f.to_bits()),
        Value::Text(t) => to.text(t),
    }
}

fn json(to: &mut State, v: &Json) {
    match v {
        Json::Null => to.word(3),
        Json::Bool(b) => to.pair(4, u64::from(*b)),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => to.pair(5, i.cast_unsigned()),
            (None, Some(u)) => to.pair(6, u),
            (None, None) => to.pair(7, n.as_f64().unwrap_or_default().to_bits()),
        },
        Json::String(t) => to.text(t),
        Json::Array(items) => {
            to.pair(8, items.len() as u64);
            items.iter().for_each(|item| json(to, item));
        }
        Json::Object(members) => {
            to.pair(9, members.len() as u64);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (name, value) in members {
                to.text(name);
                json(to, value);
            }
        }
    }
}

struct State(u64);

impl State {
    fn word(&mut self, w: u64) {
        self.0 = (self.0.rotate_left(5) ^ w).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn signed(&mut self, v: i64) {
        self.word(v.cast_unsigned());
    }

    fn pair(&mut self, tag: u64, w: u64) {
        self.word(tag);
        self.word(w);
    }

    fn text(&mut self, t: &str) {
        self.pair(10, t.len() as u64);
        for part in t.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// Spreads what came last over all bits.
    fn end(self) -> u64 {
        let mut h = self.0;
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }
}
