//! `[mqtt.route.*]`: which local topics are which devices, and what their payloads mean.

use super::{Desk, id, things, watching};
use crate::{
    config::{
        Route, RouteKind, Shape,
        keys::{Keys, Placed, Trail},
        mqtt::{Ping, Reply, Unknown},
        problem::Code,
        source::Place,
        table::Table,
        tree::Content,
    },
    model::{PUSHED, PointId, RouteId},
};
use std::{collections::BTreeMap, time::Duration};

const ALL: &[&str] = &[
    "topic", "kind", "unknown", "defaults", "ping", "time", "values", "at", "name", "only", "except", "switches", "words", "online",
    "offline", "payload", "reply", "qos",
];
const SHAPED: &[&str] = &["unknown", "defaults", "ping", "time", "values", "at", "name", "only", "except", "switches", "words"];
const COMMON: &[&str] = &["topic", "kind"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Telemetry,
    Relay,
    Status,
    Attributes,
    Command,
    Later,
}

pub fn check(mqtt: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<Route> {
    if !mqtt.has("route") {
        return Vec::new();
    }
    let section = mqtt.trail.then("route");
    things(mqtt, "route", desk)
        .into_iter()
        .filter_map(|(name, table, at)| {
            let trail = section.then(name);
            let keys = Keys::open(table, at, &trail, "a route", ALL, &mut desk.out);
            let route_id = id(name, at, trail, RouteId::parse, desk);
            taken(name, at, &trail.to_string(), desk);
            one(&keys, route_id, None, desk)
        })
        .collect()
}

/// Devices that report by HTTP are told apart by this word.
fn taken(name: &str, at: Place, key: &str, desk: &mut Desk<'_>) {
    if name == PUSHED {
        desk.out
            .error(Code::BadId, at, key, format!("a route cannot be called `{PUSHED}`"))
            .because("devices that report by HTTP are registered under that word")
            .want("[mqtt.route.telemetry]");
    }
}

/// A route that a preset brings.
pub fn brought(table: &Table, at: Place, name: &str, preset: &'static str, desk: &mut Desk<'_>) -> Option<Route> {
    let root = Trail::ROOT;
    let (mqtt, routes) = (root.then("mqtt"), "route");
    let routes = mqtt.then(routes);
    let trail = routes.then(name);
    let keys = Keys::open(table, at, &trail, "a route", ALL, &mut desk.out);
    let route_id = id(name, at, trail, RouteId::parse, desk);
    one(&keys, route_id, Some(preset), desk)
}

fn one(keys: &Keys<'_>, id: Option<RouteId>, preset: Option<&'static str>, desk: &mut Desk<'_>) -> Option<Route> {
    let choices = [
        ("telemetry", Kind::Telemetry),
        ("relay", Kind::Relay),
        ("status", Kind::Status),
        ("attributes", Kind::Attributes),
        ("command", Kind::Command),
        ("event", Kind::Later),
        ("reply", Kind::Later),
    ];
    keys.require("kind", "kind = \"telemetry\"", &mut desk.out);
    let kind = keys.word("kind", &choices, &mut desk.out);
    if kind == Some(Kind::Later) {
        let text = keys.text("kind", &mut desk.out).map_or("", |t| t.it);
        desk.out
            .error(Code::NotInVersion, keys.value_at("kind"), keys.key("kind"), format!("kind `{text}` is not in this version"))
            .because("telemetry, relay, status, attributes and command are; a command's answer is its `reply`")
            .want("kind = \"telemetry\"");
    }
    keys.require("topic", "topic = \"tele/{device}/SENSOR\"", &mut desk.out);
    let topic = keys.text("topic", &mut desk.out);
    // Only what we bring may be of one device, which then has the route's name.
    if let Some(topic) = topic.as_ref().filter(|t| preset.is_none() || t.it.contains("{device}")) {
        let of_a_device = kind == Some(Kind::Status) || (kind == Some(Kind::Attributes) && !keys.has("name"));
        check_topic(topic, &keys.key("topic"), "topic", kind == Some(Kind::Command), !of_a_device, desk);
    }
    let choices = [("register", Unknown::Register), ("quarantine", Unknown::Quarantine), ("refuse", Unknown::Refuse)];
    let unknown = keys.word("unknown", &choices, &mut desk.out).unwrap_or(Unknown::Register);
    let (offline_after, alarm_after) = defaults(keys, desk);
    let ping = ping(keys, offline_after, topic.as_ref().map(|t| t.it), desk);
    let places = topic.as_ref().map_or("", |t| t.it);
    let kind = match kind? {
        Kind::Telemetry => telemetry(keys, "telemetry", places, desk),
        Kind::Relay => relay(keys, places, desk),
        Kind::Status => status(keys, desk),
        Kind::Attributes => attributes(keys, places, desk),
        Kind::Command => command(keys, places, desk),
        Kind::Later => return None,
    };
    Some(Route { id: id?, topic: topic?.it.to_owned(), kind, unknown, offline_after, alarm_after, ping, preset })
}

/// Keys of another kind of route say nothing here.
fn only(keys: &Keys<'_>, kind: &str, own: &[&str], desk: &mut Desk<'_>) {
    for (key, entry) in keys.table.iter().filter(|(k, _)| ALL.contains(k) && !COMMON.contains(k) && !own.contains(k)) {
        desk.out
            .error(Code::MisplacedKey, entry.at, keys.key(key), format!("`{key}` says nothing on a {kind} route"))
            .because(format!("a {kind} route takes {}", own.join(", ")))
            .want("take it out, or put it on the route that it belongs to");
    }
}

fn defaults(keys: &Keys<'_>, desk: &mut Desk<'_>) -> (Option<Duration>, Option<Duration>) {
    let Some((table, at)) = keys.sub("defaults", "{ offline_after = \"15m\" }", &mut desk.out) else { return (None, None) };
    let trail = keys.trail.then("defaults");
    let inner = Keys::open(table, at, &trail, "`defaults`", &["offline_after", "alarm_after"], &mut desk.out);
    let offline_after = inner.duration("offline_after", Duration::from_secs(1)..=Duration::from_secs(365 * 86_400), &mut desk.out);
    (offline_after, watching::alarm_after(&inner, desk))
}

/// Devices that speak only when something happens, and that answer when they are asked.
fn ping(keys: &Keys<'_>, offline_after: Option<Duration>, heard_on: Option<&str>, desk: &mut Desk<'_>) -> Option<Ping> {
    let (table, at) = keys.sub("ping", "{ topic = \"zigbee2mqtt/{device}/get\", payload = \"\" }", &mut desk.out)?;
    let trail = keys.trail.then("ping");
    let inner = Keys::open(table, at, &trail, "`ping`", &["topic", "payload"], &mut desk.out);
    inner.require("topic", "topic = \"zigbee2mqtt/{device}/get\"", &mut desk.out);
    let topic = inner.text("topic", &mut desk.out)?;
    let payload = inner.text("payload", &mut desk.out).map_or_else(String::new, |t| t.it.to_owned());
    check_topic(&topic, &inner.key("topic"), "topic", true, false, desk);
    if offline_after.is_none() {
        desk.out
            .warning(Code::NoEffect, at, trail.to_string(), "nobody is pinged")
            .because("without `defaults.offline_after` no silence is too long")
            .want("defaults = { offline_after = \"15m\" }");
    }
    // Our own question would prove that the device lives.
    if heard_on == Some(topic.it) {
        desk.out
            .error(Code::BadTopic, topic.at, inner.key("topic"), "the ping would be heard as the device's own word")
            .because("it goes to the topic of the route")
            .want("a topic that only the device listens to");
    }
    Some(Ping { topic: topic.it.to_owned(), payload })
}

/// Every point of it is switched.
fn relay(keys: &Keys<'_>, places: &str, desk: &mut Desk<'_>) -> RouteKind {
    let mut kind = telemetry(keys, "relay", places, desk);
    if let RouteKind::Telemetry { shape, .. } = &mut kind
        && !keys.has("switches")
    {
        shape.switches = vec!["*".into()];
    }
    kind
}

fn attributes(keys: &Keys<'_>, places: &str, desk: &mut Desk<'_>) -> RouteKind {
    only(keys, "attributes", &["unknown", "defaults", "at", "name"], desk);
    RouteKind::Attributes { at: at(keys, desk), name: name(keys, places, desk) }
}

fn at(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<String> {
    keys.text("at", &mut desk.out).filter(|t| pointer(t, &keys.key("at"), desk)).map(|t| t.it.to_owned())
}

fn shape(keys: &Keys<'_>, places: &str, desk: &mut Desk<'_>) -> Shape {
    let mut list = |key: &str| -> Vec<String> {
        if !keys.has(key) {
            return Vec::new();
        }
        keys.texts(key, &mut desk.out).into_iter().map(|t| t.it.to_owned()).collect()
    };
    let (only, except, switches) = (list("only"), list("except"), list("switches"));
    let mut words = BTreeMap::new();
    if let Some((table, _)) = keys.sub("words", "{ overpower = false }", &mut desk.out) {
        let trail = keys.trail.then("words");
        let inner = Keys { table, at: keys.at, trail: &trail };
        words.extend(table.iter().filter_map(|(word, _)| Some((word.to_owned(), inner.flag(word, &mut desk.out)?))));
    }
    Shape { at: at(keys, desk), name: name(keys, places, desk), only, except, switches, words }
}

/// A pattern for names of points, with the places that the topic has.
fn name(keys: &Keys<'_>, places: &str, desk: &mut Desk<'_>) -> Option<String> {
    let text = keys.text("name", &mut desk.out)?;
    let mut bare = text.it.to_owned();
    for place in ["{point}", "{group}"] {
        if !text.it.contains(place) {
            continue;
        }
        bare = bare.replacen(place, "x", 1);
        if !places.contains(place) {
            desk.out
                .error(Code::BadValue, text.at, keys.key("name"), format!("the topic has no {place}"))
                .because("`name` is made of what stands in the topic")
                .want(format!("name = \"{}\"", text.it.replace(place, "value")));
            return None;
        }
    }
    if PointId::parse(&bare).is_err() {
        desk.out
            .error(Code::BadValue, text.at, keys.key("name"), format!("`{}` gives no names of points", text.it))
            .because("letters, digits, '-', '_', '.', and each of {point} and {group} once")
            .want("name = \"relay.{point}\"");
        return None;
    }
    Some(text.it.to_owned())
}

fn telemetry(keys: &Keys<'_>, kind: &str, places: &str, desk: &mut Desk<'_>) -> RouteKind {
    only(keys, kind, SHAPED, desk);
    let time = keys.text("time", &mut desk.out).filter(|t| pointer(t, &keys.key("time"), desk)).map(|t| t.it.to_owned());
    let mut values = BTreeMap::new();
    if let Some((table, _)) = keys.sub("values", "{ power = \"/ENERGY/Power\" }", &mut desk.out) {
        let trail = keys.trail.then("values");
        let inner = Keys { table, at: keys.at, trail: &trail };
        for (name, entry) in table.iter() {
            let point = id(name, entry.at, inner.key(name), PointId::parse, desk);
            let text = inner.text(name, &mut desk.out).filter(|t| pointer(t, &inner.key(name), desk));
            if let (Some(point), Some(text)) = (point, text) {
                values.insert(point, text.it.to_owned());
            }
        }
    }
    let shape = shape(keys, places, desk);
    if !values.is_empty() && (shape.at.is_some() || shape.name.is_some()) {
        let key = if shape.at.is_some() { "at" } else { "name" };
        desk.out
            .error(Code::MisplacedKey, keys.key_at(key), keys.key(key), format!("`{key}` says nothing beside `values`"))
            .because("`values` says where each point is and what it is called")
            .want("keep one of the two");
    }
    RouteKind::Telemetry { values, time, shape }
}

fn status(keys: &Keys<'_>, desk: &mut Desk<'_>) -> RouteKind {
    only(keys, "status", &["unknown", "defaults", "ping", "online", "offline"], desk);
    let (online, offline) = (texts(keys, "online", desk), texts(keys, "offline", desk));
    for (one, other) in [("online", "offline"), ("offline", "online")] {
        if keys.has(one) && !keys.has(other) {
            desk.out
                .error(Code::MissingKey, keys.key_at(one), keys.key(other), format!("`{one}` needs `{other}` beside it"))
                .because("two texts tell the two states apart")
                .want("online = \"Online\" and offline = \"Offline\"");
        }
    }
    if let Some(b) = offline.iter().find(|b| online.iter().any(|a| a.it == b.it)) {
        desk.out
            .error(Code::BadValue, b.at, keys.key("offline"), "`online` and `offline` are the same text")
            .want("online = \"Online\" and offline = \"Offline\"");
    }
    let owned = |texts: Vec<Placed<&str>>| texts.into_iter().map(|t| t.it.to_owned()).collect();
    RouteKind::Status { online: owned(online), offline: owned(offline) }
}

/// One text, or a list of them.
fn texts<'a>(keys: &Keys<'a>, key: &str, desk: &mut Desk<'_>) -> Vec<Placed<&'a str>> {
    match keys.entry(key).map(|e| &e.node.value) {
        None => Vec::new(),
        Some(Content::List(_)) => keys.texts(key, &mut desk.out),
        Some(_) => keys.text(key, &mut desk.out).into_iter().collect(),
    }
}

fn command(keys: &Keys<'_>, places: &str, desk: &mut Desk<'_>) -> RouteKind {
    only(keys, "command", &["unknown", "defaults", "name", "payload", "reply", "qos"], desk);
    let mut payload = BTreeMap::new();
    if let Some((table, _)) = keys.sub("payload", "{ true = \"ON\", false = \"OFF\" }", &mut desk.out) {
        let trail = keys.trail.then("payload");
        let inner = Keys { table, at: keys.at, trail: &trail };
        for (value, _) in table.iter() {
            if let Some(text) = inner.text(value, &mut desk.out) {
                payload.insert(value.to_owned(), text.it.to_owned());
            }
        }
    }
    let qos = keys.integer("qos", 0..=1, &mut desk.out).and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
    RouteKind::Command { payload, reply: reply(keys, desk), qos, name: name(keys, places, desk) }
}

fn reply(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Reply> {
    let (table, at) = keys.sub("reply", "{ topic = \"stat/{device}/RESULT\" }", &mut desk.out)?;
    let trail = keys.trail.then("reply");
    let inner = Keys::open(table, at, &trail, "`reply`", &["topic", "value", "within"], &mut desk.out);
    inner.require("topic", "topic = \"stat/{device}/RESULT\"", &mut desk.out);
    let value = inner.text("value", &mut desk.out).filter(|t| pointer(t, &inner.key("value"), desk)).map(|t| t.it.to_owned());
    let within =
        inner.duration("within", Duration::from_millis(100)..=Duration::from_secs(3600), &mut desk.out).unwrap_or(Duration::from_secs(5));
    let topic = inner.text("topic", &mut desk.out)?;
    check_topic(&topic, &inner.key("topic"), "topic", false, true, desk);
    Some(Reply { topic: topic.it.to_owned(), value, within })
}

/// RFC 6901: empty is the whole document, else it begins with a slash. `{point}` may stand for a name.
fn pointer(text: &Placed<&str>, key: &str, desk: &mut Desk<'_>) -> bool {
    let good = text.it.is_empty() || text.it.starts_with('/');
    if !good {
        let meant = format!("/{}", text.it.trim_start_matches("$.").replace('.', "/"));
        let name = key.rsplit('.').next().unwrap_or(key);
        desk.out
            .error(Code::BadPointer, text.at, key, format!("`{}` is no JSON pointer", text.it))
            .because("it begins with a slash, one for each level")
            .want(format!("{name} = \"{meant}\""));
    }
    good
}

/// Wildcards stand alone in their level, `#` in the last.
pub fn filter_fault(topic: &str) -> Result<(), &'static str> {
    if topic.is_empty() || topic.len() > 1024 || topic.contains('\0') {
        return Err("1 to 1,024 characters");
    }
    let levels: Vec<&str> = topic.split('/').collect();
    for (n, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || n + 1 != levels.len()) {
            return Err("# stands alone and in the last level");
        }
        if level.contains('+') && *level != "+" {
            return Err("+ stands alone in its level");
        }
    }
    Ok(())
}

/// A topic with places. `publish`: we publish to it, so wildcards are impossible. `point`: `{point}` may be in it.
fn check_topic(topic: &Placed<&str>, key: &str, name: &str, publish: bool, point: bool, desk: &mut Desk<'_>) {
    if let Err((why, want)) = topic_fault(topic.it, publish, point) {
        let p = desk.out.error(Code::BadTopic, topic.at, key, format!("`{}` cannot be a topic of this route", topic.it)).because(why);
        p.want(format!("{name} = \"{want}\""));
    }
}

fn topic_fault(topic: &str, publish: bool, point: bool) -> Result<(), (String, String)> {
    let example = if point { "tele/{device}/{point}" } else { "devices/status/{device}" };
    filter_fault(topic).map_err(|why| (why.to_owned(), example.to_owned()))?;
    let mut found = Vec::new();
    for level in topic.split('/') {
        match level {
            "{device}" | "{point}" | "{group}" => {
                if found.contains(&level) {
                    return Err((format!("{level} stands twice"), example.into()));
                }
                found.push(level);
            }
            "+" | "#" if publish => {
                return Err(("commands are published, so there are no wildcards".into(), topic.replace(['+', '#'], "{point}")));
            }
            _ if point && level.strip_suffix("{point}").is_some_and(|text| !text.contains(['{', '}'])) => {
                if found.contains(&"{point}") {
                    return Err(("{point} stands twice".into(), example.into()));
                }
                found.push("{point}");
            }
            _ if level.contains("{device}") || level.contains("{point}") => {
                let place = if level.contains("{device}") { "{device}" } else { "{point}" };
                return Err((format!("{place} is a whole level between slashes"), topic.replace(level, place)));
            }
            _ if level.contains('{') || level.contains('}') => {
                return Err((
                    format!("`{level}` is no place; there are {{device}}, {{point}} and {{group}}"),
                    topic.replace(level, "{device}"),
                ));
            }
            _ => {}
        }
    }
    if !found.contains(&"{device}") {
        let want = if let Some(n) = topic.find('+') {
            format!("{}{{device}}{}", &topic[..n], &topic[n + 1..])
        } else {
            format!("{}/{{device}}", topic.trim_end_matches('#').trim_end_matches('/'))
        };
        return Err(("{device} is missing: which level names the device?".into(), want));
    }
    if !point && found.len() > 1 {
        return Err(("this is said of a device, not of a point".into(), topic.replace("{point}", "+").replace("{group}", "+")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_with_places() {
        for (topic, publish, point, want) in [
            ("tele/{device}/SENSOR", false, true, None),
            ("{device}", false, true, None),
            ("a/{device}/{point}/#", false, true, None),
            ("+/{device}", false, false, None),
            ("cmnd/{device}/{point}", true, true, None),
            ("dev/+/telemetry", false, true, Some("dev/{device}/telemetry")),
            ("dev/x", false, true, Some("dev/x/{device}")),
            ("dev/#", false, true, Some("dev/{device}")),
            ("a-{device}/x", false, true, Some("{device}/x")),
            ("a/{dev}", false, true, Some("a/{device}")),
            ("{device}/{device}", false, true, Some("tele/{device}/{point}")),
            ("a/{device}/{point}", false, false, Some("a/{device}/+")),
            ("cmnd/{device}/+", true, true, Some("cmnd/{device}/{point}")),
            ("a#/{device}", false, true, Some("tele/{device}/{point}")),
            ("stat/{device}/POWER{point}", false, true, None),
            ("{device}/command/switch:{point}", true, true, None),
            ("stat/{device}/{point}POWER", false, true, Some("stat/{device}/{point}")),
            ("a/{point}/{device}/b{point}", false, true, Some("tele/{device}/{point}")),
            ("homie/{device}/{group}/{point}", false, true, None),
            ("a/{device}/{group}", false, false, Some("a/{device}/+")),
        ] {
            assert_eq!(topic_fault(topic, publish, point).err().map(|e| e.1), want.map(str::to_owned), "{topic}");
        }
    }
}
