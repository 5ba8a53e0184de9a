//! `raw = "42"`: a point that sends listed bytes instead of a write. Nothing else lets a command choose its bytes.

use super::{Desk, fixed};
use crate::config::{
    Point, RawPdu, WriteRule,
    device::{DataType, Register, Table},
    keys::Keys,
    problem::Code,
};
use crate::model::PointId;
use std::time::Duration;

/// Bytes of a PDU.
const PDU_MAX: usize = 253;
/// A request that the protocol knows has a key of its own, which judges its reply better.
const HAVE_KEYS: &[(u8, &str)] = &[
    (1, "a point with register = \"coil:…\""),
    (2, "a point with register = \"discrete:…\""),
    (3, "a point with register = \"holding:…\""),
    (4, "a point with register = \"input:…\""),
    (5, "write = { function = 5 }"),
    (6, "write = { function = 6 }"),
    (15, "write = { function = 15 }"),
    (16, "write = { function = 16 }"),
    (22, "write = { function = 22 }"),
];
const RULE: &[&str] = &["min_interval", "pre"];

/// The point that the keys describe. They hold `raw`.
pub fn check(keys: &Keys<'_>, id: PointId, desk: &mut Desk<'_>) -> Option<Point> {
    for key in ["register", "type", "order", "scale", "offset", "na", "report", "read_alone", "read"].into_iter().filter(|k| keys.has(k)) {
        desk.out
            .error(Code::NoEffect, keys.key_at(key), keys.key(key), format!("`{key}` means nothing beside `raw`"))
            .because("the point sends the listed bytes when true is written, and is never read")
            .want_when(format!("take `{key}` out"), "if it is a request of its own")
            .want_when("take `raw` out", "if it is a register");
    }
    let request = request(keys, desk);
    let reply = reply(keys, request.as_deref(), desk);
    let mut rule = WriteRule { verify: false, ..WriteRule::default() };
    if let Some((table, at)) = keys.sub("write", "{ min_interval = \"1m\" }", &mut desk.out) {
        let trail = keys.trail.then("write");
        let inner = Keys::open(table, at, &trail, "a write rule of `raw`", RULE, &mut desk.out);
        rule.min_interval = inner.duration("min_interval", Duration::ZERO..=Duration::from_secs(86_400), &mut desk.out).unwrap_or_default();
        rule.pre = fixed::check(&inner, "pre", desk);
    }
    rule.raw = Some(RawPdu { request: request?, reply: reply? });
    let nowhere = Register { table: Table::Holding, address: 0 };
    Some(Point { write: Some(Box::new(rule)), read: false, ..Point::new(id, nowhere, DataType::Bool) })
}

fn request(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Vec<u8>> {
    let text = keys.text("raw", &mut desk.out)?;
    let bytes: Option<Vec<u8>> = pattern(text.it).and_then(|bytes| bytes.into_iter().collect());
    let Some(bytes) = bytes.filter(|b| (1..=PDU_MAX).contains(&b.len())) else {
        desk.out
            .error(Code::BadValue, text.at, keys.key("raw"), format!("`{}` is no request", text.it))
            .because("the function code and what follows it in hex, without unit and checksum")
            .want("raw = \"42\"");
        return None;
    };
    let function = bytes[0];
    if let Some((_, instead)) = HAVE_KEYS.iter().find(|(f, _)| *f == function) {
        desk.out
            .error(Code::BadWrite, text.at, keys.key("raw"), format!("function {function} is not for `raw`"))
            .because("its replies are judged by what it reads or writes")
            .want(*instead);
        return None;
    }
    if function == 0 || function > 127 {
        desk.out
            .error(Code::BadWrite, text.at, keys.key("raw"), format!("{function} is no function code"))
            .because("1 to 127 are; the upper half means that a unit refused")
            .want("raw = \"42\"");
        return None;
    }
    Some(bytes)
}

/// Without the key the reply repeats the request.
fn reply(keys: &Keys<'_>, request: Option<&[u8]>, desk: &mut Desk<'_>) -> Option<Vec<Option<u8>>> {
    if !keys.has("raw_reply") {
        return request.map(|bytes| bytes.iter().copied().map(Some).collect());
    }
    let text = keys.text("raw_reply", &mut desk.out)?;
    let bytes = pattern(text.it).filter(|b| (1..=PDU_MAX).contains(&b.len()));
    let function = request.and_then(|r| r.first().copied());
    if let Some(bytes) = &bytes
        && (function.is_none() || bytes[0] == function)
    {
        return Some(bytes.clone());
    }
    let code = function.unwrap_or(0x42);
    desk.out
        .error(Code::BadValue, text.at, keys.key("raw_reply"), format!("`{}` is no reply to `raw`", text.it))
        .because("the whole reply in hex, function code first; `..` is any byte")
        .want(format!("raw_reply = \"{code:02x} ..\""));
    None
}

/// Bytes in hex, with or without blanks between them; `..` is any byte.
fn pattern(text: &str) -> Option<Vec<Option<u8>>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| match pair {
        b".." => Some(None),
        _ if !pair.iter().all(u8::is_ascii_hexdigit) => None,
        _ => u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok().map(Some),
    };
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hex_and_two_dots_are_any() {
        for (text, want) in [
            ("42", Some(vec![Some(0x42)])),
            ("41 0A..ff", Some(vec![Some(0x41), Some(0x0a), None, Some(0xff)])),
            ("", Some(vec![])),
            ("4", None),
            ("4g", None),
            ("+4", None),
            (".4", None),
        ] {
            assert_eq!(pattern(text), want, "{text}");
        }
    }
}
