//! The cloud's books: what arrived, under which key, whether anything is missing or came twice.
//!
//! The key (gateway, epoch, stream, seq) makes a resend harmless: it is counted beside and otherwise ignored. A key
//! that comes with two contents, or a row that comes under two keys, is a fault of the gateway and is counted as `twice`.

use crate::{
    model::{Epoch, Value},
    uplink::dialect::read::{self, Body, Frame, Kind, Message},
};
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

#[derive(Default)]
pub struct Ledger {
    keys: BTreeMap<(Epoch, u64), u64>,
    rows: HashSet<(String, i64, u64)>,
    /// Samples under distinct keys.
    pub received: u64,
    /// Samples of rows that came under two keys, and of keys that came with two contents.
    pub twice: u64,
    /// Messages that came again under a known key with the same content.
    pub resends: u64,
    /// Messages that were no telemetry of the native dialect.
    pub unreadable: u64,
    /// The newest number of each device's points.
    pub latest: BTreeMap<(String, String), (i64, f64)>,
    /// Rows of each device.
    pub rows_of: BTreeMap<String, u64>,
    event_keys: BTreeSet<(Epoch, u64)>,
    /// Events in order of arrival, each once.
    pub events: Vec<Json>,
}

impl Ledger {
    /// Takes one message as it came from the broker.
    pub fn take(&mut self, topic: &str, body: &[u8]) {
        if !matches!(read::kind(topic), Some(Kind::Stream(_))) {
            return;
        }
        let Ok(message) = read::message(body) else {
            self.unreadable += 1;
            return;
        };
        match &message.body {
            Body::Events(_) if !self.event_keys.insert((message.epoch, message.seq)) => self.resends += 1,
            Body::Events(events) => self.events.extend(events.iter().map(|e| Json::Object(e.members.clone()))),
            Body::Telemetry(_) => self.telemetry(&message),
        }
    }

    fn telemetry(&mut self, message: &Message) {
        let (key, content) = ((message.epoch, message.seq), message.content());
        match self.keys.get(&key) {
            Some(known) if *known == content => return self.resends += 1,
            Some(_) => return self.twice += message.samples(),
            None => _ = self.keys.insert(key, content),
        }
        self.received += message.samples();
        let Body::Telemetry(devices) = &message.body else { return };
        for (device, frames) in devices {
            *self.rows_of.entry(device.as_str().to_owned()).or_default() += frames.iter().map(|f| f.dt.len() as u64).sum::<u64>();
            frames.iter().for_each(|f| self.frame(device.as_str(), f, message.clock.offset_ms));
        }
    }

    /// One small table. A row is known by its device, its boot time and what it says: on a machine that cannot keep up, a
    /// device that speaks by itself is heard twice in one millisecond.
    fn frame(&mut self, device: &str, frame: &Frame, offset: i64) {
        for (row, delta) in frame.dt.iter().enumerate() {
            let at = frame.at.saturating_sub(offset).saturating_add(*delta);
            let mut said = DefaultHasher::new();
            for (name, column) in &frame.v {
                (name.as_str(), format!("{:?}", column.get(row))).hash(&mut said);
            }
            if !self.rows.insert((device.to_owned(), at, said.finish())) {
                self.twice += frame.v.len() as u64;
            }
            for (name, column) in &frame.v {
                let Some(number) = column.get(row).filter(|v| !matches!(v, Value::Bool(_))).and_then(Value::as_f64) else { continue };
                let slot = self.latest.entry((device.to_owned(), name.as_str().to_owned())).or_insert((at, number));
                if at >= slot.0 {
                    *slot = (at, number);
                }
            }
        }
    }

    /// Sequence numbers that are lower than one that came, and did not come.
    pub fn holes(&self) -> u64 {
        let mut last: BTreeMap<&Epoch, (u64, u64)> = BTreeMap::new();
        for (epoch, seq) in self.keys.keys() {
            let (count, highest) = last.entry(epoch).or_default();
            *count += 1;
            *highest = (*highest).max(*seq);
        }
        last.values().map(|(count, highest)| highest - count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(seq: u64, offset: i64, at: i64, value: i64) -> Vec<u8> {
        json!({"v": 1, "gateway": "g", "epoch": "0000000000000001", "stream": "telemetry", "seq": seq,
               "clock": {"offset_ms": offset, "quality": "synchronised", "boot": 1},
               "devices": {"a": [{"at": at + offset, "dt": [0, 5], "v": {"p": [value, value + 1]}}]}})
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_resend_is_no_duplicate_even_after_the_clock_was_corrected() {
        let mut l = Ledger::default();
        l.take("x/telemetry", &message(1, 1000, 10, 7));
        l.take("x/telemetry", &message(1, 2000, 10, 7));
        assert_eq!((l.received, l.resends, l.twice, l.holes()), (2, 1, 0, 0));
    }

    #[test]
    fn two_contents_under_one_key_and_one_row_under_two_keys_are_seen() {
        let mut l = Ledger::default();
        l.take("x/telemetry", &message(1, 0, 10, 7));
        l.take("x/telemetry", &message(1, 0, 10, 8));
        assert_eq!(l.twice, 2);
        l.take("x/telemetry", &message(3, 0, 10, 7));
        assert_eq!((l.twice, l.holes()), (4, 1));
    }

    #[test]
    fn two_readings_in_one_millisecond_are_no_row_that_came_twice() {
        let mut l = Ledger::default();
        l.take("x/telemetry", &message(1, 0, 10, 7));
        l.take("x/telemetry", &message(2, 0, 10, 9));
        assert_eq!((l.received, l.twice), (4, 0));
    }
}
