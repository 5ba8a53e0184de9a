//! Writes with a fixed content: `setup = [ … ]` of a device, `pre = [ … ]` of a write rule.

use super::{Desk, point, secret};
use crate::config::{
    FixedWrite,
    device::Table,
    keys::{Keys, Trail},
    problem::Code,
    tree::{Content, Node},
};

const KEYS: &[&str] = &["register", "value", "words", "function"];
/// Registers that one request writes.
const WORDS_MAX: usize = 123;
const EXAMPLE: &str = "[{ register = \"holding:0\", value = 2014 }]";

/// The writes of the list under `key`. What is wrong is reported and left out.
pub fn check(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Vec<FixedWrite> {
    if !keys.has(key) {
        return Vec::new();
    }
    let Some(list) = keys.list(key, EXAMPLE, &mut desk.out) else { return Vec::new() };
    let trail = keys.trail.then(key);
    let mut out = Vec::with_capacity(list.len());
    for node in list {
        match &node.value {
            Content::Table(table) => {
                let inner = Keys::open(table, node.at, &trail, "a fixed write", KEYS, &mut desk.out);
                out.extend(one(&inner, &trail, desk));
            }
            _ => keys.wrong(key, node, "a list of tables", EXAMPLE, &mut desk.out),
        }
    }
    out
}

fn one(keys: &Keys<'_>, trail: &Trail<'_>, desk: &mut Desk<'_>) -> Option<FixedWrite> {
    let register = point::place(keys, "register", desk);
    let content = content(keys, desk);
    let (register, (words, secret)) = (register?, content?);
    let on_coils = register.table == Table::Coil;
    if !on_coils && register.table != Table::Holding {
        desk.out
            .error(Code::BadWrite, keys.value_at("register"), keys.key("register"), format!("{register} cannot be written"))
            .because("input registers and discrete inputs are read-only in Modbus")
            .want(format!("register = \"holding:{}\"", register.address));
        return None;
    }
    if u32::from(register.address) + u32::try_from(words.len()).unwrap_or(u32::MAX) > 65536 || words.len() > WORDS_MAX {
        desk.out
            .error(Code::OutOfRange, keys.at, trail, format!("{} words at {register} are too many", words.len()))
            .because(format!("one request writes up to {WORDS_MAX}, and addresses end at 65535"))
            .want("two writes");
        return None;
    }
    if on_coils && words.iter().any(|w| *w > 1) && !secret {
        desk.out
            .error(Code::OutOfRange, keys.at, trail, format!("a coil at {register} is on or off"))
            .because("0 and 1, or false and true, are possible")
            .want("value = true");
        return None;
    }
    let possible: &[u8] = match (on_coils, words.len()) {
        (true, 1) => &[5, 15],
        (true, _) => &[15],
        (false, 1) => &[6, 16],
        (false, _) => &[16],
    };
    let function = keys.integer("function", 1..=127, &mut desk.out).and_then(|f| u8::try_from(f).ok()).unwrap_or(possible[0]);
    if !possible.contains(&function) {
        let list: Vec<String> = possible.iter().map(u8::to_string).collect();
        desk.out
            .error(
                Code::BadWrite,
                keys.value_at("function"),
                keys.key("function"),
                format!("function {function} cannot write {} word(s) at {register}", words.len()),
            )
            .because("5 and 15 write coils, 6 one register, 16 several")
            .want(format!("function = {}", list.join(" or ")));
        return None;
    }
    Some(FixedWrite { register, words, function, secret })
}

/// The words, and whether they are secret.
fn content(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<(Vec<u16>, bool)> {
    match (keys.entry("value"), keys.entry("words")) {
        (Some(value), None) => match &value.node.value {
            Content::Table(_) => from_secret(keys, desk).map(|word| (vec![word], true)),
            _ => word(keys, "value", &value.node, desk).map(|word| (vec![word], false)),
        },
        (None, Some(_)) => {
            let list = keys.list("words", "[1, 2]", &mut desk.out)?;
            if list.is_empty() {
                desk.out.error(Code::NoEffect, keys.value_at("words"), keys.key("words"), "nothing to write").want("words = [1, 2]");
                return None;
            }
            let words: Option<Vec<u16>> = list.iter().map(|node| word(keys, "words", node, desk)).collect();
            Some((words?, false))
        }
        (value, _) => {
            let found = if value.is_some() { "`value` and `words` are given" } else { "it says nothing to write" };
            desk.out
                .error(Code::MissingKey, keys.at, keys.trail, found)
                .because("a fixed write has one of `value` and `words`")
                .want_when("value = 2014", "one register or coil")
                .want_when("words = [1, 2]", "several, in one request");
            None
        }
    }
}

/// A register as it is on the wire; negative numbers in two's complement.
fn word(keys: &Keys<'_>, key: &str, node: &Node, desk: &mut Desk<'_>) -> Option<u16> {
    let fits = match &node.value {
        Content::Flag(on) => Some(u16::from(*on)),
        Content::Int(n) => u16::try_from(*n).ok().or_else(|| i16::try_from(*n).ok().map(i16::cast_unsigned)),
        _ => None,
    };
    if fits.is_none() {
        let text = desk.out.sources.slice(node.at).to_owned();
        desk.out
            .error(Code::OutOfRange, node.at, keys.key(key), format!("{text} is no register's content"))
            .because("a whole number from -32768 to 65535, or true or false")
            .want(format!("{key} = 2014"));
    }
    fits
}

/// A number in a file, a variable or a credential: an installer's password.
fn from_secret(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<u16> {
    let secret = secret::check(keys, "value", desk)?;
    if secret.0.is_empty() {
        // Not readable here, which was said where it matters.
        return Some(0);
    }
    let word = secret.0.trim().parse::<u16>().ok();
    if word.is_none() {
        desk.out
            .error(Code::BadSecret, keys.value_at("value"), keys.key("value"), "the secret is no register's content")
            .because("a whole number from 0 to 65535 is expected")
            .want("one line with the number");
    }
    word
}
