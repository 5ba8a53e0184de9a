//! The cloud's books: what arrived, under which key, whether anything is missing or came twice.
//!
//! The key (gateway, epoch, stream, seq) makes a resend harmless: it is counted beside and otherwise ignored. A key
//! that comes with two contents, or a row that comes under two keys, is a fault of the gateway and is counted as `twice`.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

#[derive(Default)]
pub struct Ledger {
    keys: BTreeMap<(String, u64), u64>,
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
    event_keys: BTreeSet<(String, u64)>,
    /// Events in order of arrival, each once.
    pub events: Vec<Value>,
}

impl Ledger {
    /// Takes one message as it came from the broker.
    pub fn take(&mut self, topic: &str, body: &[u8]) {
        let stream = topic.rsplit('/').next().unwrap_or("");
        if !matches!(stream, "telemetry" | "event") {
            return;
        }
        let Ok(message) = serde_json::from_slice::<Value>(body) else {
            self.unreadable += 1;
            return;
        };
        let (Some(epoch), Some(seq)) = (message["epoch"].as_str(), message["seq"].as_u64()) else {
            self.unreadable += 1;
            return;
        };
        let key = (epoch.to_owned(), seq);
        if stream == "event" {
            if self.event_keys.insert(key) {
                self.events.extend(message["events"].as_array().into_iter().flatten().cloned());
            } else {
                self.resends += 1;
            }
            return;
        }
        self.telemetry(key, &message);
    }

    fn telemetry(&mut self, key: (String, u64), message: &Value) {
        let offset = message["clock"]["offset_ms"].as_i64().unwrap_or(0);
        let mut content = DefaultHasher::new();
        let mut samples = 0;
        let mut rows = Vec::new();
        for (device, frames) in message["devices"].as_object().into_iter().flatten() {
            for frame in frames.as_array().into_iter().flatten() {
                samples += take_frame(device, frame, offset, &mut content, &mut rows, &mut self.latest);
            }
        }
        let content = content.finish();
        match self.keys.get(&key) {
            Some(known) if *known == content => self.resends += 1,
            Some(_) => self.twice += samples,
            None => {
                self.keys.insert(key, content);
                self.received += samples;
                for (device, at, points, n) in rows {
                    *self.rows_of.entry(device.clone()).or_default() += 1;
                    if !self.rows.insert((device, at, points)) {
                        self.twice += n;
                    }
                }
            }
        }
    }

    /// Sequence numbers that are lower than one that came, and did not come.
    pub fn holes(&self) -> u64 {
        let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (epoch, seq) in self.keys.keys() {
            let (count, highest) = last.entry(epoch).or_default();
            *count += 1;
            *highest = (*highest).max(*seq);
        }
        last.values().map(|(count, highest)| highest - count).sum()
    }
}

/// One small table. Returns its samples; a row's identity is its device, its boot time and its set of points.
fn take_frame(
    device: &str,
    frame: &Value,
    offset: i64,
    content: &mut DefaultHasher,
    rows: &mut Vec<(String, i64, u64, u64)>,
    latest: &mut BTreeMap<(String, String), (i64, f64)>,
) -> u64 {
    let at = frame["at"].as_i64().unwrap_or(0) - offset;
    let mut points = DefaultHasher::new();
    let columns = frame["v"].as_object();
    (device, at, frame["dt"].to_string(), frame["v"].to_string(), frame["q"].to_string()).hash(content);
    for name in columns.into_iter().flat_map(|c| c.keys()) {
        name.hash(&mut points);
    }
    let (points, width) = (points.finish(), columns.map_or(0, |c| c.len() as u64));
    let deltas = frame["dt"].as_array().map_or(&[][..], Vec::as_slice);
    for (row, delta) in deltas.iter().enumerate() {
        let at = at + delta.as_i64().unwrap_or(0);
        rows.push((device.to_owned(), at, points, width));
        for (name, column) in columns.into_iter().flatten() {
            let Some(number) = column.get(row).and_then(Value::as_f64) else { continue };
            let slot = latest.entry((device.to_owned(), name.clone())).or_insert((at, number));
            if at >= slot.0 {
                *slot = (at, number);
            }
        }
    }
    width * deltas.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(seq: u64, offset: i64, at: i64, value: i64) -> Vec<u8> {
        json!({"epoch": "0000000000000001", "seq": seq, "clock": {"offset_ms": offset},
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
}
