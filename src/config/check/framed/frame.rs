//! `end = {…}` and `checksum = {…}`: what a frame is.

use super::{Desk, template};
use crate::{
    config::{
        framed::{Checksum, End, Frame, Over, Sum},
        keys::Keys,
        problem::Code,
    },
    limits,
};
use std::time::Duration;

const END: &[&str] = &["start", "terminator", "length", "silence", "max_bytes"];
const CHECKSUM: &[&str] = &["kind", "over", "as", "place", "mark", "order"];
const SUMS: &[(&str, Option<Sum>)] = &[
    ("none", None),
    ("sum8", Some(Sum::Sum8)),
    ("xor8", Some(Sum::Xor8)),
    ("lrc", Some(Sum::Lrc)),
    ("crc16-modbus", Some(Sum::Crc16Modbus)),
    ("crc16-ccitt", Some(Sum::Crc16Ccitt)),
    ("crc16-xmodem", Some(Sum::Crc16Xmodem)),
];
const SILENCE: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(5);
/// Without a word of the operator.
const MAX_BYTES: usize = 256;

pub fn check(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Frame> {
    let frame = end(keys, desk);
    let checksum = checksum(keys, frame.as_ref(), desk);
    Some(Frame { checksum: checksum?, ..frame? })
}

fn end(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Frame> {
    if !keys.require("end", "end = { terminator = \"\\r\\n\" }", &mut desk.out) {
        return None;
    }
    let (table, at) = keys.sub("end", "{ terminator = \"\\r\\n\" }", &mut desk.out)?;
    let trail = keys.trail.then("end");
    let inner = Keys::open(table, at, &trail, "`end`", END, &mut desk.out);
    let given: Vec<&str> = ["terminator", "length", "silence"].into_iter().filter(|k| inner.has(k)).collect();
    let most = i64::try_from(limits::FRAME_BYTES).unwrap_or(i64::MAX);
    let count = |key: &str, desk: &mut Desk<'_>| inner.integer(key, 1..=most, &mut desk.out).and_then(|n| usize::try_from(n).ok());
    let end = match given[..] {
        ["terminator"] => End::Terminator(text(&inner, "terminator", desk)?),
        ["length"] => End::Length(count("length", desk)?),
        ["silence"] => End::Silence(inner.duration("silence", SILENCE, &mut desk.out)?),
        [] => {
            desk.out
                .error(Code::BadFrame, at, keys.key("end"), "this frame ends nowhere")
                .because("`terminator`, `length` or `silence` is missing")
                .want_when("end = { terminator = \"\\r\\n\" }", "lines of text")
                .want_when("end = { start = '\\x02', terminator = '\\x03' }", "between STX and ETX")
                .want_when("end = { length = 18 }", "always as long")
                .want_when("end = { silence = \"50ms\" }", "nothing else marks it");
            return None;
        }
        [.., second] => {
            desk.out
                .error(Code::BadFrame, inner.key_at(second), inner.key(second), format!("two ends: {}", given.join(" and ")))
                .because("a frame ends by one of them")
                .want("keep one");
            return None;
        }
    };
    let start = if inner.has("start") { text(&inner, "start", desk)? } else { Vec::new() };
    let max_bytes = count("max_bytes", desk);
    if let (End::Length(length), Some(max)) = (&end, max_bytes)
        && max < *length
    {
        desk.out
            .error(Code::BadFrame, inner.value_at("max_bytes"), inner.key("max_bytes"), format!("{max} is below the length {length}"))
            .because("no frame would fit")
            .want("take `max_bytes` out");
        return None;
    }
    let default = if let End::Length(length) = &end { *length } else { MAX_BYTES };
    Some(Frame { start, end, max_bytes: max_bytes.unwrap_or(default), checksum: None })
}

fn text(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<Vec<u8>> {
    let text = keys.text(key, &mut desk.out)?;
    match template::bytes(text.it) {
        Ok(bytes) => Some(bytes),
        Err(why) => {
            desk.out
                .error(Code::BadValue, text.at, keys.key(key), format!("`{}` is no text of bytes", text.it.escape_default()))
                .because(why)
                .want_when(format!("{key} = '\\x03'"), "text with \\r, \\n, \\t, \\xNN");
            None
        }
    }
}

/// `Some(None)`: no checksum. `None`: reported.
#[allow(clippy::option_option)] // said above
fn checksum(keys: &Keys<'_>, frame: Option<&Frame>, desk: &mut Desk<'_>) -> Option<Option<Checksum>> {
    if !keys.has("checksum") {
        return Some(None);
    }
    let (table, at) = keys.sub("checksum", "{ kind = \"xor8\", as = \"hex\" }", &mut desk.out)?;
    let trail = keys.trail.then("checksum");
    let inner = Keys::open(table, at, &trail, "a checksum", CHECKSUM, &mut desk.out);
    if !inner.require("kind", "kind = \"xor8\"", &mut desk.out) {
        return None;
    }
    let Some(kind) = inner.word("kind", SUMS, &mut desk.out)? else { return Some(None) };
    let over = [("frame", Over::Frame), ("body", Over::Body), ("data", Over::Data)];
    let over = word(&inner, "over", &over, Over::Body, desk);
    // A byte and two digits look alike to nobody but a program: this is never guessed.
    if !inner.require("as", "as = \"hex\"", &mut desk.out) {
        return None;
    }
    let hex = inner.word("as", &[("hex", true), ("bytes", false)], &mut desk.out)?;
    let after = word(&inner, "place", &[("before", false), ("after", true)], false, desk)?;
    let is_modbus = kind == Sum::Crc16Modbus && !hex;
    let little = word(&inner, "order", &[("low-first", true), ("high-first", false)], is_modbus, desk)?;
    let mark = if inner.has("mark") { text(&inner, "mark", desk)? } else { Vec::new() };
    if after && frame.is_some_and(|f| !matches!(f.end, End::Terminator(_))) {
        desk.out
            .error(
                Code::BadFrame,
                inner.value_at("place"),
                inner.key("place"),
                "there is no terminator that the checksum could stand behind",
            )
            .because("the frame ends by its length or by silence")
            .want_when("place = \"before\"", "the last bytes of the frame");
        return None;
    }
    if after && !mark.is_empty() {
        desk.out
            .error(Code::BadFrame, inner.key_at("mark"), inner.key("mark"), "behind the terminator nothing marks the checksum")
            .because("the terminator itself does")
            .want("take `mark` out");
        return None;
    }
    Some(Some(Checksum { kind, over: over?, hex, after, mark, little }))
}

/// One of a few words, or the default. `None`: reported.
fn word<T: Copy>(keys: &Keys<'_>, key: &str, choices: &[(&str, T)], default: T, desk: &mut Desk<'_>) -> Option<T> {
    if keys.has(key) { keys.word(key, choices, &mut desk.out) } else { Some(default) }
}
