//! What a profile says about itself: names, sources, how the device leaves the factory, and the probes that recognise it.

use super::super::{Desk, point};
use crate::{
    config::{
        keys::{Keys, Trail},
        problem::Code,
        profile::{About, Expect, PROBES_MAX, Probe, Verified},
        source::Place,
        table::Table,
        tree::Content,
    },
    model::{Parity, Settings},
};
use std::time::Duration;

/// Beside the keys of a point.
const EXPECT: &[&str] = &["equals", "begins", "min", "max"];
const PARITIES: &[(&str, Parity)] = &[("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];

/// What is not said is as in `base`: the profile of a variant.
pub fn about(keys: &Keys<'_>, base: &About, desk: &mut Desk<'_>) -> About {
    let word =
        |key: &str, base: &str, desk: &mut Desk<'_>| keys.text(key, &mut desk.out).map_or_else(|| base.to_owned(), |t| t.it.to_owned());
    let vendor = word("vendor", &base.vendor, desk);
    let model = word("model", &base.model, desk);
    let title = word("title", &format!("{vendor} {model}"), desk).trim().to_owned();
    let source = texts(keys, "source", &base.source, desk);
    let notes = texts(keys, "notes", &base.notes, desk);
    let verified = keys.word("verified", &[("none", Verified::None), ("hardware", Verified::Hardware)], &mut desk.out);
    let (serial, serial_unit) = serial(keys, desk);
    let (port, net_unit) = net(keys, desk);
    About {
        title,
        vendor,
        model,
        source,
        notes,
        verified: verified.unwrap_or(base.verified),
        serial: serial.or(base.serial),
        port: port.or(base.port),
        unit: serial_unit.or(net_unit).or(base.unit),
    }
}

/// One string or a list of them.
fn texts(keys: &Keys<'_>, key: &str, base: &[String], desk: &mut Desk<'_>) -> Vec<String> {
    match keys.entry(key).map(|e| &e.node.value) {
        None => base.to_vec(),
        Some(Content::Text(text)) => vec![text.clone()],
        Some(_) => keys.texts(key, &mut desk.out).into_iter().map(|t| t.it.to_owned()).collect(),
    }
}

fn serial(keys: &Keys<'_>, desk: &mut Desk<'_>) -> (Option<Settings>, Option<u8>) {
    let Some((table, at)) = keys.sub("serial", "{ baud = 9600, parity = \"none\", unit = 1 }", &mut desk.out) else { return (None, None) };
    let trail = keys.trail.then("serial");
    let out = &mut desk.out;
    let inner = Keys::open(table, at, &trail, "a serial setting", &["baud", "parity", "bits", "stop", "unit"], out);
    let baud = inner.integer("baud", 300..=4_000_000, out).and_then(|n| u32::try_from(n).ok());
    let parity = inner.word("parity", PARITIES, out);
    let mut small = |key: &str, range, default| inner.integer(key, range, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(default);
    let (bits, stop, unit) = (small("bits", 7..=8, 8), small("stop", 1..=2, 1), small("unit", 0..=255, 0));
    let settings = baud.map(|baud| Settings { baud, parity: parity.unwrap_or(Parity::Even), bits, stop });
    (settings, inner.has("unit").then_some(unit))
}

fn net(keys: &Keys<'_>, desk: &mut Desk<'_>) -> (Option<u16>, Option<u8>) {
    let Some((table, at)) = keys.sub("net", "{ port = 502, unit = 1 }", &mut desk.out) else { return (None, None) };
    let trail = keys.trail.then("net");
    let out = &mut desk.out;
    let inner = Keys::open(table, at, &trail, "a network place", &["port", "unit"], out);
    let port = inner.integer("port", 1..=65_535, out).and_then(|n| u16::try_from(n).ok());
    let unit = inner.integer("unit", 0..=255, out).and_then(|n| u8::try_from(n).ok());
    (port, unit)
}

/// `[[probe]]`: a point with what its value must be.
pub fn probes(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<Probe> {
    if !keys.has("probe") {
        return Vec::new();
    }
    let Some(list) = keys.list("probe", "[{ register = \"input:11\", type = \"u16\", equals = 71 }]", &mut desk.out) else {
        return Vec::new();
    };
    if let Some(node) = list.get(PROBES_MAX) {
        desk.out
            .error(Code::TooMany, node.at, keys.key("probe"), format!("more than {PROBES_MAX} probes"))
            .because("every unit that a scan finds is asked for them")
            .want("keep those that no other device would answer alike");
    }
    let trail = keys.trail.then("probe");
    let mut out = Vec::new();
    for (n, node) in list.iter().enumerate().take(PROBES_MAX) {
        match &node.value {
            Content::Table(table) => out.extend(probe(n, table, node.at, &trail, desk)),
            _ => keys.wrong("probe", node, "a table", "[[probe]]", &mut desk.out),
        }
    }
    out
}

fn probe(n: usize, table: &Table, at: Place, trail: &Trail<'_>, desk: &mut Desk<'_>) -> Option<Probe> {
    let name = format!("probe-{}", n + 1);
    let own = Keys { table, at, trail };
    let expect = expect(&own, desk);
    let mut rest = table.clone();
    rest.retain(|key| !EXPECT.contains(&key));
    let point = point::check(&name, &rest, at, trail, Duration::ZERO, desk)?;
    Some(Probe { point, expect: expect? })
}

fn expect(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Expect> {
    let out = &mut desk.out;
    let (equals, begins) = (keys.number("equals", out), keys.text("begins", out));
    let (min, max) = (keys.number("min", out), keys.number("max", out));
    match (equals, begins, min, max) {
        (Some(value), None, None, None) => Some(Expect::Equals(value)),
        (None, Some(text), None, None) => Some(Expect::Begins(text.it.to_owned())),
        (None, None, Some(min), Some(max)) if min <= max => Some(Expect::Between { min, max }),
        (None, None, Some(min), Some(max)) => {
            out.error(Code::MinAboveMax, keys.value_at("min"), keys.key("min"), format!("`min` {min} is above `max` {max}"))
                .because("no value fits between them")
                .want(format!("min = {max}, max = {min}"));
            None
        }
        _ => {
            // A value of the wrong kind was reported already; this says what a probe needs.
            out.error(Code::MissingKey, keys.at, keys.trail, "a probe says what its value must be")
                .because("one of `equals`, `begins`, or `min` with `max`")
                .want_when("equals = 71", "an identification code")
                .want_when("min = 180, max = 270", "a mains voltage");
            None
        }
    }
}
