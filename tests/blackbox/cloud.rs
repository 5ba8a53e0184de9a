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
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
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
    pub thinned: bool,
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
    /// For hours of load: of each row only the counter `c` is kept, once every value was found to be what [`held`] says;
    /// of each content only a hash.
    slim: bool,
    /// By telemetry message: samples that it stands for, and those of them that it left out.
    stands: BTreeMap<Key, (u64, u64)>,
}

/// Samples by what became of them.
#[derive(Debug, Default, Clone, Copy)]
pub struct Account {
    /// That messages stand for, and those of them that thinning left out.
    pub arrived: u64,
    pub left_out: u64,
    pub given_up: u64,
}

pub struct Cloud {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cloud {
    pub fn watch(port: u16, gateway: &str) -> Cloud {
        Cloud::keep(port, gateway, Seen::default())
    }

    /// Keeps little of much: see [`Seen::slim`]. Every device is one of tests/field/pymodbus_devices.py, named `d` and its number.
    pub fn watch_slim(port: u16, gateway: &str) -> Cloud {
        Cloud::keep(port, gateway, Seen { slim: true, ..Seen::default() })
    }

    fn keep(port: u16, gateway: &str, seen: Seen) -> Cloud {
        let seen = Arc::new(Mutex::new(seen));
        let stop = Arc::new(AtomicBool::new(false));
        let subscribed = Arc::new(AtomicBool::new(false));
        let (into, until_stop, tell, gateway) = (seen.clone(), stop.clone(), subscribed.clone(), gateway.to_owned());
        // Reading the socket never waits for reading the JSON, or the ages of rows would be the judge's own.
        let (give, messages) = std::sync::mpsc::channel::<Message>();
        let parser = std::thread::spawn(move || {
            for (topic, body, arrived) in messages {
                into.lock().expect("no holder panics").take(&topic, &body, arrived);
            }
        });
        let thread = std::thread::spawn(move || {
            while !until_stop.load(Ordering::Relaxed) {
                // Any error is the broker's death, which tests cause on purpose: connect again.
                let _ = read(port, &gateway, &give, &until_stop, &tell);
                crate::wait::pause(Duration::from_millis(20));
            }
            drop(give);
            let _ = parser.join();
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

type Message = (String, Vec<u8>, Boot);

fn read(port: u16, gateway: &str, into: &Sender<Message>, stop: &AtomicBool, subscribed: &AtomicBool) -> std::io::Result<()> {
    let mut client = Client::connect(port, &Login { id: "collector", persistent: true, ..Login::default() })?;
    client.subscribe(&format!("fieldgate/{gateway}/#"))?;
    while !stop.load(Ordering::Relaxed) {
        match client.next(Duration::from_millis(100))? {
            Some(Packet::Publish { topic, body, .. }) => into.send((topic, body, now())).map_err(std::io::Error::other)?,
            Some(Packet::SubAck(_)) => subscribed.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
    Ok(())
}

impl Seen {
    /// One message that was delivered.
    pub fn take(&mut self, topic: &str, body: &[u8], arrived: Boot) {
        let kind = topic.splitn(3, '/').nth(2).unwrap_or_default();
        if kind == "command" {
            return; // our own
        }
        let message: Json = match serde_json::from_slice(body) {
            Ok(message) => message,
            Err(e) => return self.faults.push(format!("{topic}: no JSON: {e}")),
        };
        match kind {
            "telemetry" | "event" => self.message(topic, kind, message, arrived),
            _ => _ = self.retained.insert(kind.to_owned(), message),
        }
    }

    fn message(&mut self, topic: &str, kind: &str, mut message: Json, arrived: Boot) {
        let key = match (message["epoch"].as_str(), message["stream"].as_str(), message["seq"].as_u64()) {
            (Some(epoch), Some(stream), Some(seq)) if stream == kind && seq > 0 && message["v"] == 1 => {
                Key { epoch: epoch.to_owned(), stream: stream.to_owned(), seq }
            }
            _ => return self.faults.push(format!("{topic}: no key: {message}")),
        };
        self.deliveries += 1;
        let backlog = message["backlog"] == true;
        let mut content = without_sending(&mut message);
        if self.slim {
            let mut hasher = DefaultHasher::new();
            content.to_string().hash(&mut hasher);
            content = hasher.finish().into();
        }
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
            let stands = self.telemetry(&message, backlog, arrived);
            self.stands.insert(key, stands);
        }
    }

    fn telemetry(&mut self, message: &Json, backlog: bool, arrived: Boot) -> (u64, u64) {
        let (mut all, mut left_out) = (0, 0);
        let Some(devices) = message["devices"].as_object() else {
            self.faults.push(format!("telemetry without devices: {message}"));
            return (0, 0);
        };
        for (device, frames) in devices {
            for frame in frames.as_array().into_iter().flatten() {
                let thinned = frame["thin"]["of"].as_u64();
                let held = frame["dt"].as_array().map_or(0, Vec::len) * frame["v"].as_object().map_or(0, serde_json::Map::len);
                all += thinned.unwrap_or(held as u64);
                left_out += thinned.map_or(0, |of| of.saturating_sub(held as u64));
                let mut read = rows(frame);
                for (_, values) in read.iter_mut().flatten().filter(|_| self.slim) {
                    if let Some(wrong) = slimmed(device, values) {
                        self.faults.push(wrong);
                    }
                }
                match read {
                    Some(rows) => self.rows.extend(rows.into_iter().map(|(at_ms, values)| Row {
                        device: device.clone(),
                        at_ms,
                        values,
                        backlog,
                        thinned: thinned.is_some(),
                        arrived,
                    })),
                    None => self.faults.push(format!("{device}: no frame: {frame}")),
                }
            }
        }
        (all, left_out)
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

    /// Samples as the protocol says that they are to be counted: by messages that no gap names, those of them that thinning
    /// left out, and those that gaps give up. What an event message says that a gap names is said again.
    pub fn account(&self) -> Account {
        let mut ranges: BTreeMap<(&str, &str), Vec<(u64, u64)>> = BTreeMap::new();
        for gap in self.events_of("gap") {
            let of = |name: &str| gap[name].as_str().unwrap_or_default();
            let number = |name: &str| gap[name].as_u64().unwrap_or(0);
            ranges.entry((of("epoch"), of("stream"))).or_default().push((number("from"), number("to")));
        }
        let is_named = |key: &Key| {
            let of = ranges.get(&(key.epoch.as_str(), key.stream.as_str()));
            of.is_some_and(|of| of.iter().any(|(from, to)| (*from..=*to).contains(&key.seq)))
        };
        let mut out = Account::default();
        for (all, left_out) in self.stands.iter().filter(|(key, _)| !is_named(key)).map(|(_, stands)| *stands) {
            out.arrived += all;
            out.left_out += left_out;
        }
        let gaps = self.events.iter().filter(|(key, e)| e["type"] == "gap" && e["stream"] == "telemetry" && !is_named(key));
        out.given_up = gaps.filter(|(_, g)| g["replaced_by"].is_null()).filter_map(|(_, g)| g["samples"].as_u64()).sum();
        out
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

/// What register `r` of device number `device` holds at read number `counter`.
fn held(device: u64, r: u64, counter: u64) -> u64 {
    (device * 7919 + r * 31 + counter * 17) & 0xffff
}

/// Leaves the counter alone of a row whose values are right, and says what is wrong with another one. Rows without a
/// counter are not of such a device.
fn slimmed(device: &str, values: &mut BTreeMap<String, Json>) -> Option<String> {
    let number: u64 = device.strip_prefix('d')?.parse().ok()?;
    let counter = values.get("c")?.as_u64()?;
    let is_right = |(point, value): (&String, &Json)| {
        let register = point.strip_prefix('r').and_then(|r| r.parse().ok());
        register.is_none_or(|r| value.as_u64() == Some(held(number, r, counter)))
    };
    if !values.iter().all(is_right) {
        return Some(format!("{device} never held this: {values:?}"));
    }
    values.retain(|point, _| point == "c");
    None
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
                    Some(ms) if matches!(name.as_str(), "at" | "since" | "evidence_at" | "until") => *value = (ms - offset).into(),
                    _ => take_off(value, offset),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| take_off(item, offset)),
        _ => {}
    }
}
