//! The native dialect, `docs/protocol.md`: what goes up, as JSON.
//!
//! Two sendings of a key are equal once their clock offset is taken off: samples, order and boot times are sealed, only
//! `backlog` and `clock` describe the sending. So `at` minus `clock.offset_ms` never changes.
//!
//! Absent on purpose: `async`, clocks, the store. What it needs to know comes in.

use super::{
    events,
    json::{Object, list, value},
};
use crate::{
    limits,
    model::{
        Boot, BootIndex, ClockReading, DeviceCard, DeviceId, Epoch, Event, Frame, GatewayId, Key, PointCard, Quality, Sealed, Thin, WallMs,
    },
};
use std::{cmp::Ordering, fmt::Write as _};

/// The version of the message shapes. A consumer that sees a higher one must not guess.
const V: u8 = 1;

pub struct Native {
    gateway: GatewayId,
    version: &'static str,
    prefix: String,
    /// Frames of the message being written, by device. Kept for its memory.
    order: Vec<usize>,
}

/// What the retained `state` topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence<'a> {
    pub online: bool,
    pub epoch: Epoch,
    /// Counts the connections of this epoch. A will belongs to the birth with the same epoch and session.
    pub session: u64,
    pub since: WallMs,
    /// Why it is offline, in words.
    pub reason: Option<&'a str>,
}

/// One retained message of the device list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub topic: String,
    pub body: Vec<u8>,
    /// Of the body without what differs from sending to sending.
    pub hash: u64,
}

impl Native {
    pub fn new(gateway: GatewayId, version: &'static str, topic_prefix: &str) -> Native {
        Native { gateway, version, prefix: topic_prefix.to_owned(), order: Vec::new() }
    }

    pub fn topic(&self, last: &str) -> String {
        format!("{}/{last}", self.prefix)
    }

    /// Appends the message to `out`.
    pub fn telemetry(&mut self, sealed: &Sealed, backlog: bool, clock: ClockReading, out: &mut Vec<u8>) {
        let mut message = self.envelope(sealed.key, out);
        message.flag("backlog", backlog);
        clock_object(message.key("clock"), sealed.boot, clock);
        let mut devices = Object::begin(message.key("devices"));
        self.order.clear();
        self.order.extend(0..sealed.frames.len());
        // Stable: the frames of one device keep their order. Batches are sorted already, which costs one pass.
        self.order.sort_by(|a, b| by_device(&sealed.frames[*a].device, &sealed.frames[*b].device));
        for group in self.order.chunk_by(|a, b| sealed.frames[*a].device == sealed.frames[*b].device) {
            list(devices.key(sealed.frames[group[0]].device.as_str()), group.iter(), |out, n| frame(out, &sealed.frames[*n], clock));
        }
        devices.end();
        message.end();
    }

    /// Appends the message to `out`. All events of one transaction share a message and a number.
    pub fn events(&self, key: Key, happened: &[Event], boot: BootIndex, clock: ClockReading, out: &mut Vec<u8>) {
        let mut message = self.envelope(key, out);
        clock_object(message.key("clock"), boot, clock);
        list(message.key("events"), happened.iter(), |out, event| events::event(out, event, clock));
        message.end();
    }

    /// Birth and will.
    pub fn state(&self, presence: Presence<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut message = Object::begin(&mut out);
        message.number("v", V).word("gateway", self.gateway.as_str());
        message.word("state", if presence.online { "online" } else { "offline" });
        if let Some(reason) = presence.reason {
            message.text("reason", reason);
        }
        message.word("epoch", &presence.epoch.to_string()).number("session", presence.session);
        message.text("version", self.version).number("since", presence.since.0);
        message.end();
        out
    }

    /// The device list, in as many parts as brokers take: `devices`, `devices/2`, … A part has whole devices.
    pub fn devices(&self, cards: &[DeviceCard], clock: ClockReading) -> Vec<Part> {
        let mut bodies: Vec<Vec<u8>> = vec![Vec::new()];
        let mut one = Vec::new();
        for card in cards {
            one.clear();
            device(&mut one, card, clock);
            let mut last = bodies.last_mut().expect("there is always one part");
            if !last.is_empty() && last.len() + one.len() + 512 > limits::MESSAGE_BYTES {
                bodies.push(Vec::new());
                last = bodies.last_mut().expect("just pushed");
            }
            if !last.is_empty() {
                last.push(b',');
            }
            last.extend_from_slice(&one);
        }
        let parts = bodies.len();
        bodies.iter().enumerate().map(|(n, body)| self.part(n + 1, parts, body)).collect()
    }

    fn part(&self, n: usize, parts: usize, devices: &[u8]) -> Part {
        let hash = fnv1a(devices) ^ parts as u64;
        let mut body = Vec::with_capacity(devices.len() + 256);
        let mut message = Object::begin(&mut body);
        message.number("v", V).word("gateway", self.gateway.as_str()).number("part", n).number("parts", parts);
        message.word("hash", &format!("{hash:016x}"));
        let out = message.key("devices");
        out.push(b'{');
        out.extend_from_slice(devices);
        out.push(b'}');
        message.end();
        let mut topic = self.topic("devices");
        if n > 1 {
            write!(topic, "/{n}").expect("writing to a String cannot fail");
        }
        Part { topic, body, hash }
    }

    fn envelope<'a>(&self, key: Key, out: &'a mut Vec<u8>) -> Object<'a> {
        let mut message = Object::begin(out);
        message.number("v", V).word("gateway", self.gateway.as_str()).word("epoch", &key.epoch.to_string());
        message.word("stream", key.stream.word()).number("seq", key.seq);
        message
    }
}

fn clock_object(out: &mut Vec<u8>, boot: BootIndex, clock: ClockReading) {
    let mut object = Object::begin(out);
    object.number("offset_ms", clock.offset_ms).word("quality", clock.quality.word());
    if let Some(error_ms) = clock.error_ms {
        object.number("error_ms", error_ms);
    }
    object.number("boot", boot.0);
    object.end();
}

/// Equal ids are mostly the same allocation, which is quicker to see than to compare.
fn by_device(a: &DeviceId, b: &DeviceId) -> Ordering {
    if std::ptr::eq(a.as_str(), b.as_str()) { Ordering::Equal } else { a.cmp(b) }
}

/// `{"at":…,"dt":[…],"v":{point:[…]},"q":{point:[…]},"thin":{…}}`, one item per row; `q` only where something is not
/// good, `thin` only where rows were left out.
fn frame(out: &mut Vec<u8>, frame: &Frame, clock: ClockReading) {
    let Some(first) = frame.rows.first() else {
        // A frame is never empty; if one were, it must still be JSON.
        out.extend_from_slice(b"{}");
        return;
    };
    let mut object = Object::begin(out);
    object.number("at", clock.wall(first.at).0);
    list(object.key("dt"), frame.rows.iter(), |out, row| super::json::number(out, after(first.at, row.at)));
    let mut points = Object::begin(object.key("v"));
    for (n, point) in frame.points.iter().enumerate() {
        list(points.key(point.as_str()), frame.rows.iter(), |out, row| match row.values.get(n) {
            Some(v) => value(out, v),
            None => out.extend_from_slice(b"null"),
        });
    }
    points.end();
    if frame.rows.iter().any(|row| row.quality.is_some()) {
        qualities(&mut object, frame);
    }
    if let Some(Thin { window_ms, of }) = frame.thin {
        let mut thin = Object::begin(object.key("thin"));
        thin.number("window_ms", window_ms).number("of", of);
        thin.end();
    }
    object.end();
}

fn qualities(object: &mut Object<'_>, frame: &Frame) {
    let of = |row: &crate::model::Row, n: usize| row.quality.as_ref().and_then(|q| q.get(n).copied()).unwrap_or(Quality::Good);
    let bad: Vec<usize> = (0..frame.points.len()).filter(|n| frame.rows.iter().any(|row| of(row, *n) != Quality::Good)).collect();
    if bad.is_empty() {
        return;
    }
    let mut points = Object::begin(object.key("q"));
    for n in bad {
        list(points.key(frame.points[n].as_str()), frame.rows.iter(), |out, row| super::json::clean(out, of(row, n).word()));
    }
    points.end();
}

/// Whole milliseconds on the boot clock. Negative only if rows came out of order.
fn after(first: Boot, at: Boot) -> i64 {
    let ms = |b: Boot| i64::try_from(b.ms()).unwrap_or(i64::MAX);
    ms(at).saturating_sub(ms(first))
}

fn device(out: &mut Vec<u8>, card: &DeviceCard, clock: ClockReading) {
    super::json::clean(out, card.status.device.as_str());
    out.push(b':');
    let status = &card.status;
    let mut object = Object::begin(out);
    object.word("state", status.state.word()).maybe_word("cause", status.cause.map(|c| c.word()));
    object.number("since", clock.wall(status.since).0);
    object.maybe_word("line", status.line.as_ref().map(|l| l.as_str()));
    match &card.profile {
        Some(profile) => object.text("profile", profile),
        None => object.null("profile"),
    };
    let mut points = Object::begin(object.key("points"));
    for PointCard { id, unit, kind, writable } in card.points.iter() {
        let mut point = Object::begin(points.key(id.as_str()));
        point.text("unit", unit).text("type", kind).flag("writable", *writable);
        point.end();
    }
    points.end();
    object.end();
}

/// FNV-1a, 64 bits: the same on every build, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
