//! `[device.*]` on a line with `protocol = "ascii"`: what is asked, where a frame ends, what it says.

mod frame;
mod point;
mod template;
#[cfg(test)]
mod tests;

use super::{
    Desk,
    line::{self, Lines},
    watching,
};
use crate::{
    config::{
        framed::{End, Frame, Framed, Pattern, Piece},
        keys::{Keys, Trail},
        problem::Code,
        source::Place,
        table::Table,
        tree::Content,
        words,
    },
    limits,
    model::DeviceId,
};
use std::time::Duration;

const KEYS: &[&str] = &[
    "line",
    "unit",
    "poll",
    "listen",
    "request",
    "request_hex",
    "end",
    "checksum",
    "pattern",
    "offline_after",
    "alarm_after",
    "timeout",
    "retries",
    "min_gap",
    "point",
];
/// Texts with `{unit}`, `{value}` and braces of expressions in them: a group leaves them as they are.
pub const TEXTS: &[&str] = &["pattern", "request", "send", "expect", "refuse"];
const DAY: Duration = Duration::from_secs(86_400);
/// What a device that speaks by itself is allowed to be silent.
const TALKER_SILENCE: Duration = Duration::from_secs(30);

/// One device; what could be made of it is put on the desk. `points` counts those of all devices.
pub fn check(
    id: Option<DeviceId>,
    at: Place,
    table: &Table,
    trail: &Trail<'_>,
    lines: &mut Lines,
    points: &mut usize,
    desk: &mut Desk<'_>,
) {
    let keys = Keys::open(table, at, trail, "a device on an ascii line", KEYS, &mut desk.out);
    let line = keys.text("line", &mut desk.out).and_then(|name| lines.named(&name, &keys.key("line"), desk).map(|l| l.id.clone()));
    let unit = unit(&keys, desk);
    let frame = frame::check(&keys, desk);
    let has_checksum = frame.as_ref().is_none_or(|f| f.checksum.is_some());
    let asked = asked(&keys, unit.as_deref(), has_checksum, desk);
    let (poll, offline_after) = times(&keys, asked == Some(None), desk);
    let alarm_after = watching::alarm_after(&keys, desk);
    let (patterns, is_addressed) = patterns(&keys, unit.as_deref(), desk);
    let out = &mut desk.out;
    let timeout = keys.duration("timeout", line::TIMEOUT, out);
    let retries = keys.integer("retries", line::RETRIES, out).and_then(|n| u8::try_from(n).ok());
    let min_gap = keys.duration("min_gap", line::GAP, out);
    let context = point::Context { patterns: patterns.as_deref(), unit: unit.as_deref(), has_checksum, poll };
    let found = point::all(&keys, &context, points, desk);
    let (Some(id), Some(line), Some(frame), Some(request), Some(patterns)) = (id, line, frame, asked, patterns) else { return };
    endless(&keys, &request, &frame, desk);
    let device = Framed {
        request,
        poll,
        offline_after,
        alarm_after,
        timeout,
        retries,
        min_gap,
        patterns,
        is_addressed,
        points: found,
        ..Framed::new(id, line, frame.end.clone())
    };
    desk.framed.push((Framed { frame, ..device }, at));
}

/// What makes an address: a number, or a text such as "01".
fn unit(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<String> {
    let entry = keys.entry("unit")?;
    match &entry.node.value {
        Content::Int(n) if *n >= 0 => Some(n.to_string()),
        Content::Text(t) if !t.is_empty() => Some(t.clone()),
        _ => {
            keys.wrong("unit", &entry.node, "an address", "\"01\"", &mut desk.out);
            None
        }
    }
}

/// The request; `Some(None)`: it speaks by itself.
fn asked(keys: &Keys<'_>, unit: Option<&str>, has_checksum: bool, desk: &mut Desk<'_>) -> Option<Option<Vec<Piece>>> {
    let listens = keys.flag("listen", &mut desk.out) == Some(true);
    let given: Vec<&str> = ["request", "request_hex"].into_iter().filter(|k| keys.has(k)).collect();
    match (listens, &given[..]) {
        (true, []) => {
            for key in ["poll", "timeout", "retries"].into_iter().filter(|k| keys.has(k)) {
                desk.out
                    .error(Code::MisplacedKey, keys.key_at(key), keys.key(key), format!("`{key}` is for devices that are asked"))
                    .because("this one speaks by itself")
                    .want("take it out");
            }
            Some(None)
        }
        (false, ["request"]) => {
            let text = keys.text("request", &mut desk.out)?;
            template::check(&text, "request", keys, unit, has_checksum, false, desk).map(Some)
        }
        (false, ["request_hex"]) => {
            let text = keys.text("request_hex", &mut desk.out)?;
            let bytes = template::hex(text.it);
            if bytes.is_none() {
                desk.out
                    .error(Code::BadValue, text.at, keys.key("request_hex"), format!("`{}` is no row of bytes", text.it))
                    .because("two hexadecimal digits for each byte")
                    .want("request_hex = \"01 30 0D\"");
            }
            bytes.map(|b| Some(vec![Piece::Bytes(b)]))
        }
        (false, []) => {
            desk.out
                .error(Code::MissingKey, keys.at, keys.trail, format!("{} is never asked", keys.trail))
                .because("`request` or `listen` is missing")
                .want_when("request = \"SI\\r\\n\"", "what is sent for each poll")
                .want_when("listen = true", "if it speaks by itself");
            None
        }
        (_, [.., second]) => {
            desk.out
                .error(Code::TwoPlaces, keys.key_at(second), keys.key(second), format!("{} is asked in two ways", keys.trail))
                .because("one of `request`, `request_hex` and `listen = true`")
                .want("keep one");
            None
        }
    }
}

/// Poll period and the silence that makes a device offline.
fn times(keys: &Keys<'_>, talks: bool, desk: &mut Desk<'_>) -> (Duration, Duration) {
    let out = &mut desk.out;
    let after = keys.duration("offline_after", Duration::from_millis(100)..=365 * DAY, out);
    if talks {
        return (Duration::ZERO, after.unwrap_or(TALKER_SILENCE));
    }
    let poll = keys.duration("poll", Duration::ZERO..=30 * DAY, out).unwrap_or(Duration::from_secs(5));
    let default = (poll * 3).max(Duration::from_secs(2));
    if let Some(after) = after.filter(|after| *after < poll * 2) {
        let (after, poll) = (words::duration_text(after), words::duration_text(poll));
        let found = format!("{after} with poll = \"{poll}\" would flap");
        out.error(Code::Flaps, keys.value_at("offline_after"), keys.key("offline_after"), found)
            .because("one missed poll would make it offline; use at least twice the poll")
            .want_when(format!("offline_after = \"{}\"", words::duration_text(default)), "three polls, the default");
    }
    (poll, after.unwrap_or(default))
}

/// One expression or several; and whether each of them holds the address. `None`: reported.
fn patterns(keys: &Keys<'_>, unit: Option<&str>, desk: &mut Desk<'_>) -> (Option<Vec<Pattern>>, bool) {
    let Some(entry) = keys.entry("pattern") else { return (Some(Vec::new()), false) };
    let texts: Vec<(&str, Place)> = match &entry.node.value {
        Content::Text(t) => vec![(t, entry.node.at)],
        Content::List(_) => keys.texts("pattern", &mut desk.out).into_iter().map(|t| (t.it, t.at)).collect(),
        _ => {
            keys.wrong(
                "pattern",
                &entry.node,
                "an expression in a string, or a list of them",
                "'S S +(?<weight>-?[0-9.]+) g'",
                &mut desk.out,
            );
            return (None, false);
        }
    };
    let addressed = !texts.is_empty() && texts.iter().all(|(t, _)| t.contains("{unit}"));
    let wanted = texts.len();
    let compiled: Vec<Pattern> = texts.into_iter().filter_map(|(text, at)| pattern(text, at, keys.key("pattern"), unit, desk)).collect();
    ((compiled.len() == wanted && wanted > 0).then_some(compiled), addressed)
}

/// Compiles one expression, the address in its place.
fn pattern(text: &str, at: Place, key: String, unit: Option<&str>, desk: &mut Desk<'_>) -> Option<Pattern> {
    if text.contains("{unit}") && unit.is_none() {
        desk.out.error(Code::UnknownPlaceholder, at, key, "nothing fills {unit}").because("the device has no `unit`").want("unit = \"01\"");
        return None;
    }
    let filled = text.replace("{unit}", &regex_lite::escape(unit.unwrap_or_default()));
    match Pattern::new(&filled) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            desk.out.error(Code::BadPattern, at, key, "this is no regular expression").because(why).want_when(
                "pattern = 'S S +(?<weight>-?[0-9.]+) g'",
                "single quotes keep each backslash; a literal `(`, `[` or `+` needs one",
            );
            None
        }
    }
}

/// A talker's frame of a fixed length begins nowhere.
fn endless(keys: &Keys<'_>, request: &Option<Vec<Piece>>, frame: &Frame, desk: &mut Desk<'_>) {
    if request.is_none() && matches!(frame.end, End::Length(_)) && frame.start.is_empty() && frame.checksum.is_none() {
        desk.out
            .error(Code::BadFrame, keys.key_at("end"), keys.key("end"), "nobody knows where these frames begin")
            .because("it speaks by itself, and a length alone counts from anywhere")
            .want_when("end = { start = '\\x02', length = 18 }", "if each frame begins with something")
            .want_when("end = { silence = \"50ms\" }", "if there is a pause between frames");
    }
}

/// After all devices: on a line with a device that speaks by itself every frame must be known by one rule.
pub fn finish(desk: &mut Desk<'_>) -> Vec<Framed> {
    let mut all = std::mem::take(&mut desk.framed);
    all.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    for (device, at) in &all {
        let talker = all.iter().find(|(d, _)| d.line == device.line && d.request.is_none());
        if let Some((talker, _)) = talker.filter(|(t, _)| t.frame != device.frame) {
            let (id, line) = (&device.id, &device.line);
            desk.out
                .error(
                    Code::BadFrame,
                    *at,
                    format!("device.{id}.end"),
                    format!("{id} and {} have different frames on line {line}", talker.id),
                )
                .because(format!("{} speaks by itself: what comes must be known by one rule", talker.id))
                .want("the same `end` and `checksum` on both, or a line for each");
        }
    }
    all.into_iter().map(|(device, _)| device).collect()
}

fn too_many(at: Place, trail: &Trail<'_>, desk: &mut Desk<'_>) {
    desk.out
        .error(Code::TooMany, at, trail, format!("more than {} points", limits::CONFIG_POINTS))
        .because("one gateway takes so many")
        .want("spread them over several gateways");
}
