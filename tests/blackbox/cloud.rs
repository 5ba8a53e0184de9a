//! The consumer in the cloud: applies the idempotency key as any consumer should, and judges what it was sent.
//!
//! Everything under `fieldgate/{gateway}/#` is read through a persistent session, so that a broker that is killed loses
//! nothing of it. Raw deliveries are counted beside; what counts is what is left after the key.

use crate::{
    mqtt::{Client, Login, Packet},
    wait::{now, secs, until},
};
use fieldgate::model::Boot;
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub epoch: String,
    pub stream: String,
    pub seq: u64,
}

/// One row of a frame: what was read together.
#[derive(Debug, Clone)]
pub struct Row {
    pub device: String,
    pub at_ms: i64,
    pub values: BTreeMap<String, Json>,
    pub backlog: bool,
    pub arrived: Boot,
}

#[derive(Default)]
pub struct Seen {
    /// Deliveries, and how many of them were of a key that was known.
    pub deliveries: u64,
    pub resends: u64,
    /// What is under each key, without what describes one sending.
    contents: BTreeMap<Key, Json>,
    pub rows: Vec<Row>,
    pub events: Vec<(Key, Json)>,
    /// The last message of `state` and `devices`.
    pub retained: BTreeMap<String, Json>,
    /// Broken rules: one key with two contents, a message that is not as documented.
    pub faults: Vec<String>,
}

pub struct Cloud {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cloud {
    pub fn watch(port: u16, gateway: &str) -> Cloud {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let subscribed = Arc::new(AtomicBool::new(false));
        let (into, until_stop, tell, gateway) = (seen.clone(), stop.clone(), subscribed.clone(), gateway.to_owned());
        let thread = std::thread::spawn(move || {
            while !until_stop.load(Ordering::Relaxed) {
                // Any error is the broker's death, which tests cause on purpose: connect again.
                let _ = read(port, &gateway, &into, &until_stop, &tell);
                crate::wait::pause(Duration::from_millis(20));
            }
        });
        until("the collector is subscribed", secs(10), || subscribed.load(Ordering::Relaxed).then_some(()));
        Cloud { seen, stop, thread: Some(thread) }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("the collector does not panic")
    }

    /// The first `Some` of `look`, as messages come in.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, within: Duration, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        until(what, within, || look(&self.seen()))
    }

    #[track_caller]
    pub fn wait_online(&self) {
        self.wait("the gateway's birth", secs(20), |s| s.is_online().then_some(()));
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if std::thread::panicking()
            && let Ok(s) = self.seen.lock()
        {
            let last: Vec<_> = s.events.iter().rev().take(8).map(|(k, e)| format!("{} {e}", k.seq)).collect();
            eprintln!("cloud: {} deliveries, {} resends, {} rows; last events: {last:#?}", s.deliveries, s.resends, s.rows.len());
        }
    }
}

fn read(port: u16, gateway: &str, into: &Mutex<Seen>, stop: &AtomicBool, subscribed: &AtomicBool) -> std::io::Result<()> {
    let mut client = Client::connect(port, &Login { id: "collector", persistent: true, ..Login::default() })?;
    client.subscribe(&format!("fieldgate/{gateway}/#"))?;
    while !stop.load(Ordering::Relaxed) {
        match client.next(Duration::from_millis(100))? {
            Some(Packet::Publish { topic, body, .. }) => into.lock().expect("no holder panics").take(&topic, &body),
            Some(Packet::SubAck(_)) => subscribed.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
    Ok(())
}

impl Seen {
    fn take(&mut self, topic: &str, body: &[u8]) {
        let kind = topic.splitn(3, '/').nth(2).unwrap_or_default();
        if kind == "command" {
            return; // our own
        }
        let message: Json = match serde_json::from_slice(body) {
            Ok(message) => message,
            Err(e) => return self.faults.push(format!("{topic}: no JSON: {e}")),
        };
        match kind {
            "telemetry" | "event" => self.message(topic, kind, message),
            _ => _ = self.retained.insert(kind.to_owned(), message),
        }
    }

    fn message(&mut self, topic: &str, kind: &str, mut message: Json) {
        let key = match (message["epoch"].as_str(), message["stream"].as_str(), message["seq"].as_u64()) {
            (Some(epoch), Some(stream), Some(seq)) if stream == kind && seq > 0 && message["v"] == 1 => {
                Key { epoch: epoch.to_owned(), stream: stream.to_owned(), seq }
            }
            _ => return self.faults.push(format!("{topic}: no key: {message}")),
        };
        self.deliveries += 1;
        let backlog = message["backlog"] == true;
        let content = without_sending(&mut message);
        match self.contents.get(&key) {
            Some(known) if *known == content => return self.resends += 1,
            Some(known) => {
                self.resends += 1;
                return self.faults.push(format!("two contents under {key:?}:\n{known}\n{content}"));
            }
            None => _ = self.contents.insert(key.clone(), content),
        }
        if kind == "event" {
            let events = message["events"].as_array().cloned().unwrap_or_default();
            self.events.extend(events.into_iter().map(|e| (key.clone(), e)));
        } else {
            self.telemetry(&message, backlog);
        }
    }

    fn telemetry(&mut self, message: &Json, backlog: bool) {
        let Some(devices) = message["devices"].as_object() else {
            return self.faults.push(format!("telemetry without devices: {message}"));
        };
        for (device, frames) in devices {
            for frame in frames.as_array().into_iter().flatten() {
                match rows(frame) {
                    Some(rows) => self.rows.extend(rows.into_iter().map(|(at_ms, values)| Row {
                        device: device.clone(),
                        at_ms,
                        values,
                        backlog,
                        arrived: now(),
                    })),
                    None => self.faults.push(format!("{device}: no frame: {frame}")),
                }
            }
        }
    }

    pub fn is_online(&self) -> bool {
        self.retained.get("state").is_some_and(|s| s["state"] == "online")
    }

    /// Events of one type, oldest first.
    pub fn events_of(&self, kind: &str) -> Vec<&Json> {
        self.events.iter().map(|(_, e)| e).filter(|e| e["type"] == kind).collect()
    }

    /// Values of the point `c` of a device, in order of arrival.
    pub fn counters(&self, device: &str) -> Vec<u64> {
        self.rows.iter().filter(|r| r.device == device).filter_map(|r| r.values.get("c")?.as_u64()).collect()
    }

    pub fn epochs(&self) -> BTreeSet<&str> {
        self.contents.keys().map(|k| k.epoch.as_str()).collect()
    }

    /// Numbers below the highest of each epoch and stream that did not arrive and that no gap event names.
    pub fn missing(&self) -> Vec<Key> {
        let mut highest = BTreeMap::new();
        for key in self.contents.keys() {
            let top = highest.entry((key.epoch.clone(), key.stream.clone())).or_insert(0);
            *top = key.seq.max(*top);
        }
        let gaps = self.events_of("gap");
        let announced = |key: &Key| {
            gaps.iter().any(|g| {
                g["epoch"] == key.epoch.as_str()
                    && g["stream"] == key.stream.as_str()
                    && g["from"].as_u64().is_some_and(|from| from <= key.seq)
                    && g["to"].as_u64().is_some_and(|to| key.seq <= to)
            })
        };
        let all = highest
            .into_iter()
            .flat_map(|((epoch, stream), top)| (1..=top).map(move |seq| Key { epoch: epoch.clone(), stream: stream.clone(), seq }));
        all.filter(|key| !self.contents.contains_key(key) && !announced(key)).collect()
    }

    /// Samples that thinned frames stand for and do not hold, apart from messages that a gap event names.
    pub fn left_out(&self) -> u64 {
        let telemetry = self.contents.iter().filter(|(key, _)| key.stream == "telemetry" && !self.is_named(key));
        let frames = telemetry.flat_map(|(_, c)| c["devices"].as_object().into_iter().flat_map(|d| d.values()));
        let left_out = |frame: &Json| {
            let held = frame["dt"].as_array()?.len() * frame["v"].as_object()?.len();
            frame["thin"]["of"].as_u64()?.checked_sub(held as u64)
        };
        frames.flat_map(|f| f.as_array().into_iter().flatten()).filter_map(left_out).sum()
    }

    /// Samples that gap events give up for good.
    pub fn given_up(&self) -> u64 {
        self.events_of("gap").iter().filter(|g| g["replaced_by"].is_null()).filter_map(|g| g["samples"].as_u64()).sum()
    }

    fn is_named(&self, key: &Key) -> bool {
        self.events_of("gap").iter().any(|g| {
            let of = |name: &str| g[name].as_u64().unwrap_or(0);
            g["epoch"] == key.epoch.as_str() && g["stream"] == key.stream.as_str() && (of("from")..=of("to")).contains(&key.seq)
        })
    }

    /// No rule broken so far.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "{} faults, the first: {}", self.faults.len(), self.faults[0]);
    }
}

/// The rows of one frame: `{"at", "dt", "v", "q"}`. `None` when it is not well formed, or a null has no quality.
fn rows(frame: &Json) -> Option<Vec<(i64, BTreeMap<String, Json>)>> {
    let at = frame["at"].as_i64()?;
    let dt = frame["dt"].as_array()?;
    let columns = frame["v"].as_object()?;
    let (rows, mut out) = (dt.len(), Vec::new());
    for (n, dt) in dt.iter().enumerate() {
        let mut values = BTreeMap::new();
        for (point, column) in columns {
            let value = column.as_array().filter(|c| c.len() == rows)?[n].clone();
            if value.is_null() && !frame["q"][point][n].is_string() {
                return None;
            }
            values.insert(point.clone(), value);
        }
        out.push((at + dt.as_i64()?, values));
    }
    Some(out)
}

/// Takes off what describes one sending and not the data: whether it is backlog, and the clock with its offset.
fn without_sending(message: &mut Json) -> Json {
    let offset = message["clock"]["offset_ms"].as_i64().unwrap_or(0);
    let mut content = message.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("backlog");
        fields.remove("clock");
    }
    take_off(&mut content, offset);
    content
}

fn take_off(json: &mut Json, offset: i64) {
    match json {
        Json::Object(fields) => {
            for (name, value) in fields {
                match value.as_i64() {
                    Some(ms) if matches!(name.as_str(), "at" | "since" | "evidence_at") => *value = (ms - offset).into(),
                    _ => take_off(value, offset),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| take_off(item, offset)),
        _ => {}
    }
}
