//! `[schedule.*]`: when, by whose clock, and what is written.

use super::{Desk, id, things};
use crate::{
    config::{
        Device, Framed, LocalMqtt, RouteKind, Schedule,
        keys::{Keys, Placed},
        nearest::nearest,
        problem::Code,
        tree::{Content, Node},
        zone::{self, ZoneError},
    },
    limits,
    model::{
        self, Cron, DeviceId, Missed, PointId, ScheduleId, Target, Timing, Value, When, Zone,
        schedule::{EVERY_MAX, EVERY_MIN},
    },
};
use std::collections::BTreeSet;

const KEYS: &[&str] = &["cron", "at", "every", "anchor", "zone", "missed", "untrusted_clock", "enabled", "write"];
const TARGET: &[&str] = &["device", "point", "value"];
const EXAMPLE: &str = "{ device = \"relays\", point = \"k1\", value = false }";
const MISSED: [(&str, Missed); 3] = [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All)];

/// What can be written to.
pub struct Known<'a> {
    pub devices: &'a [Device],
    pub framed: &'a [Framed],
    pub mqtt: Option<&'a LocalMqtt>,
    /// Devices may report by HTTP, and are told what to do there.
    pub pushed: bool,
}

pub fn check(root: &Keys<'_>, known: &Known<'_>, desk: &mut Desk<'_>) -> Vec<Schedule> {
    let section = root.trail.then("schedule");
    let mut all = Vec::new();
    for (n, (name, table, at)) in things(root, "schedule", desk).into_iter().enumerate() {
        let trail = section.then(name);
        if n == limits::SCHEDULES {
            desk.out
                .error(Code::TooMany, at, trail, format!("schedule {name} is one too many"))
                .because(format!("there are at most {}", limits::SCHEDULES))
                .want("one schedule with a list of writes for what happens at the same time");
        }
        let keys = Keys::open(table, at, &trail, "a schedule", KEYS, &mut desk.out);
        let id = id(name, at, trail, ScheduleId::parse, desk);
        let (is, enabled) = (one(&keys, known, desk), keys.flag("enabled", &mut desk.out).unwrap_or(true));
        all.extend(id.zip(is).map(|(id, is)| Schedule { id, is, enabled }));
    }
    all
}

fn one(keys: &Keys<'_>, known: &Known<'_>, desk: &mut Desk<'_>) -> Option<model::Schedule> {
    let timing = timing(keys, desk);
    let zone = zone(keys, desk);
    let missed = keys.word("missed", &MISSED, &mut desk.out).unwrap_or_default();
    let untrusted_clock = keys.flag("untrusted_clock", &mut desk.out).unwrap_or(false);
    let write = writes(keys, known, desk);
    Some(model::Schedule { timing: timing?, zone: zone?, missed, untrusted_clock, write: write? })
}

fn timing(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Timing> {
    let given: Vec<&str> = ["cron", "at", "every"].into_iter().filter(|k| keys.has(k)).collect();
    if keys.has("anchor") && !keys.has("every") {
        desk.out
            .error(Code::NoEffect, keys.key_at("anchor"), keys.key("anchor"), "`anchor` is for `every`")
            .because("it says when one of the runs of an interval is")
            .want("take it out");
    }
    match given.as_slice() {
        ["cron"] => {
            let text = keys.text("cron", &mut desk.out)?;
            match Cron::parse(text.it) {
                Ok(cron) => Some(Timing::Cron(cron)),
                Err(why) => {
                    desk.out
                        .error(Code::BadSchedule, text.at, keys.key("cron"), format!("`{}` is no cron schedule", text.it))
                        .because(why.0)
                        .want("cron = \"0 22 * * *\"");
                    None
                }
            }
        }
        ["at"] => moment(keys, "at", desk).map(|text| Timing::At(text.it)),
        ["every"] => {
            let every = keys.duration("every", EVERY_MIN..=EVERY_MAX, &mut desk.out);
            let anchor = if keys.has("anchor") { anchor(keys, desk) } else { Some(0) };
            let every = every.filter(|d| {
                let whole = d.subsec_nanos() == 0;
                if !whole {
                    desk.out
                        .error(Code::OutOfRange, keys.value_at("every"), keys.key("every"), "an interval is whole seconds")
                        .because("a run has a name, and the name is its second")
                        .want(format!("every = \"{}s\"", d.as_secs() + 1));
                }
                whole
            });
            Some(Timing::Every { every: every?, anchor: anchor? })
        }
        [] => {
            desk.out
                .error(Code::MissingKey, keys.at, keys.trail, format!("{} does not say when", keys.trail))
                .because("it has none of `cron`, `at` and `every`")
                .want_when("cron = \"0 22 * * *\"", "again and again, by the clock")
                .want_when("every = \"15m\"", "in an interval")
                .want_when("at = \"2026-12-24T18:00:00\"", "once");
            None
        }
        [.., second] => {
            desk.out
                .error(Code::TwoPlaces, keys.key_at(second), keys.key(second), format!("{} says twice when", keys.trail))
                .because("a schedule has one of `cron`, `at` and `every`")
                .want("two schedules");
            None
        }
    }
}

/// In quotes or bare, as TOML has it.
fn moment<'a>(keys: &Keys<'a>, key: &str, desk: &mut Desk<'_>) -> Option<Placed<When>> {
    let node = &keys.entry(key)?.node;
    let text = match &node.value {
        Content::Time => desk.out.sources.slice(node.at).to_owned(),
        _ => keys.text(key, &mut desk.out)?.it.to_owned(),
    };
    let when = When::parse(&text);
    if when.is_none() {
        desk.out
            .error(Code::BadSchedule, node.at, keys.key(key), format!("`{text}` is no moment"))
            .because("a date and a time in whole seconds, with a zone or without")
            .want(format!("{key} = \"2026-12-24T18:00:00\""));
    }
    when.map(|it| Placed { it, at: node.at })
}

fn anchor(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<i64> {
    let text = moment(keys, "anchor", desk)?;
    let When::Utc(at) = text.it else {
        desk.out
            .error(Code::BadSchedule, text.at, keys.key("anchor"), "`anchor` needs its zone")
            .because("an interval knows no summer time")
            .want("anchor = \"2026-01-01T06:00:00Z\"");
        return None;
    };
    Some(at)
}

fn zone(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<String> {
    let Some(text) = keys.text("zone", &mut desk.out) else { return (!keys.has("zone")).then(|| Zone::UTC.to_owned()) };
    let Err(why) = zone::load(text.it) else { return Some(text.it.to_owned()) };
    let remedy = match why {
        ZoneError::Name(_) | ZoneError::Unknown(_) => "zone = \"Europe/Berlin\"",
        ZoneError::NoZones | ZoneError::Unreadable(_) => "zone = \"UTC\", or install tzdata",
    };
    desk.out
        .error(Code::UnknownZone, text.at, keys.key("zone"), format!("there is no time zone `{}` here", text.it))
        .because(why.to_string())
        .want(remedy);
    None
}

fn writes(keys: &Keys<'_>, known: &Known<'_>, desk: &mut Desk<'_>) -> Option<Vec<Target>> {
    if !keys.require("write", &format!("write = {EXAMPLE}"), &mut desk.out) {
        return None;
    }
    let entry = keys.entry("write")?;
    let nodes: &[Node] = match &entry.node.value {
        Content::List(list) => list,
        _ => std::slice::from_ref(&entry.node),
    };
    if nodes.is_empty() || nodes.len() > limits::SCHEDULE_WRITES {
        desk.out
            .error(Code::OutOfRange, entry.at, keys.key("write"), format!("it writes {} points", nodes.len()))
            .because(format!("1 to {} are possible", limits::SCHEDULE_WRITES))
            .want(format!("write = [{EXAMPLE}]"));
        return None;
    }
    let trail = keys.trail.then("write");
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for node in nodes {
        let Content::Table(table) = &node.value else {
            keys.wrong("write", node, "a table or a list of tables", EXAMPLE, &mut desk.out);
            continue;
        };
        let inner = Keys::open(table, node.at, &trail, "a write of a schedule", TARGET, &mut desk.out);
        let Some(target) = target(&inner, known, desk) else { continue };
        if !seen.insert((target.device.clone(), target.point.clone())) {
            desk.out
                .error(Code::DuplicateKey, node.at, trail, format!("{}.{} is written twice at once", target.device, target.point))
                .because("which of the two values is meant?")
                .want("keep one, or make a second schedule");
        }
        all.push(target);
    }
    (all.len() == nodes.len()).then_some(all)
}

fn target(keys: &Keys<'_>, known: &Known<'_>, desk: &mut Desk<'_>) -> Option<Target> {
    let mut there = true;
    for (key, example) in [("device", "device = \"relays\""), ("point", "point = \"k1\""), ("value", "value = false")] {
        there &= keys.require(key, example, &mut desk.out);
    }
    if !there {
        return None;
    }
    let (device, point) = (keys.text("device", &mut desk.out), keys.text("point", &mut desk.out));
    let value = value(keys, desk);
    let (device, point) = (device?, point?);
    let place = |text: Placed<&str>, key: &str| (text.it.to_owned(), text.at, keys.key(key));
    let (name, at, key) = place(device, "device");
    let device_id = id(&name, at, key, DeviceId::parse, desk)?;
    let (name, at, key) = place(point, "point");
    let point_id = id(&name, at, key, PointId::parse, desk)?;
    let target = Target { device: device_id, point: point_id, value: value? };
    is_there(keys, (device, point), &target, known, desk);
    Some(target)
}

fn value(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Value> {
    let node = &keys.entry("value")?.node;
    match &node.value {
        Content::Flag(on) => Some(Value::Bool(*on)),
        Content::Int(n) => Some(Value::Int(*n)),
        Content::Float(n) if n.is_finite() => Some(Value::Float(*n)),
        Content::Text(text) => Some(Value::Text(text.as_str().into())),
        _ => {
            keys.wrong("value", node, "a number, true or false, or a string", "false", &mut desk.out);
            None
        }
    }
}

/// Which points of a configured device may be written, with their limits.
type Writable<'a> = Vec<(&'a PointId, Option<(Option<f64>, Option<f64>)>)>;

impl Known<'_> {
    fn points(&self, device: &DeviceId) -> Option<Writable<'_>> {
        if let Some(d) = self.devices.iter().find(|d| d.id == *device) {
            return Some(d.points.iter().map(|p| (&p.id, p.write.as_ref().map(|w| (w.min, w.max)))).collect());
        }
        let d = self.framed.iter().find(|d| d.id == *device)?;
        Some(d.points.iter().map(|p| (&p.id, p.write.as_ref().map(|w| (w.min, w.max)))).collect())
    }

    /// Devices that messages register are known when they speak, and decide themselves what they take.
    fn may_register(&self) -> bool {
        self.pushed || self.mqtt.is_some_and(|m| m.routes.iter().any(|r| matches!(r.kind, RouteKind::Command { .. })))
    }
}

fn is_there(keys: &Keys<'_>, (device, point): (Placed<&str>, Placed<&str>), target: &Target, known: &Known<'_>, desk: &mut Desk<'_>) {
    let out = &mut desk.out;
    let Some(points) = known.points(&target.device) else {
        if !known.may_register() {
            let names = known.devices.iter().map(|d| d.id.as_str()).chain(known.framed.iter().map(|d| d.id.as_str()));
            let near = nearest(device.it, names);
            out.error(Code::UnknownTarget, device.at, keys.key("device"), format!("there is no device {}", device.it))
                .because(near.map_or_else(|| "no [device.…] or group makes it".to_owned(), |n| format!("did you mean `{n}`?")))
                .want(format!("device = \"{}\"", near.unwrap_or("relays")));
        }
        return;
    };
    let Some((_, rule)) = points.iter().find(|(id, _)| **id == target.point) else {
        let writable = points.iter().filter(|(_, rule)| rule.is_some()).map(|(id, _)| id.as_str());
        let near = nearest(point.it, writable.clone()).or_else(|| writable.clone().next());
        out.error(Code::UnknownTarget, point.at, keys.key("point"), format!("{} has no point {}", target.device, point.it))
            .because(near.map_or_else(|| "none of its points may be written".to_owned(), |n| format!("did you mean `{n}`?")))
            .want(format!("point = \"{}\"", near.unwrap_or("k1")));
        return;
    };
    let Some((min, max)) = rule else {
        out.error(Code::UnknownTarget, point.at, keys.key("point"), format!("{}.{} may not be written", target.device, target.point))
            .because("a point that may be written says so")
            .want(format!("write = true in [device.{}.point.{}]", target.device, target.point));
        return;
    };
    if let Some(number) = target.value.as_f64()
        && (min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max))
    {
        let shown = |limit: &Option<f64>, open: &str| limit.map_or(open.to_owned(), |n| n.to_string());
        // Not `clamp`, which panics where the limits are the wrong way round: that is a problem of its own, told with the point.
        let near = number.max(min.unwrap_or(f64::MIN)).min(max.unwrap_or(f64::MAX));
        out.error(
            Code::OutOfRange,
            keys.value_at("value"),
            keys.key("value"),
            format!("{number} is outside the limits of {}", target.point),
        )
        .because(format!("{} to {} may be written", shown(min, "anything"), shown(max, "anything")))
        .want(format!("value = {near}"));
    }
}
