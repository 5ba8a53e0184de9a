//! `values = { 0 = "off" }` and `flags = { 3 = "fan" }`: words for what a device says in numbers.

use super::Desk;
use crate::config::{
    device::{Bits, DataType, Names},
    keys::Keys,
    problem::Code,
    tree::Content,
};
use std::{collections::BTreeMap, sync::Arc};

pub fn check(keys: &Keys<'_>, kind: DataType, scaled: bool, desk: &mut Desk<'_>) -> Names {
    let name = match (keys.has("values"), keys.has("flags")) {
        (false, false) => return Names::None,
        (true, true) => {
            desk.out
                .error(Code::NoEffect, keys.key_at("flags"), keys.key("flags"), "`values` and `flags` on one point")
                .because("a number is either one of a list or a set of bits")
                .want("keep one");
            return Names::None;
        }
        (true, false) => "values",
        (false, true) => "flags",
    };
    let example = "{ 0 = \"off\", 1 = \"on\" }";
    let Some((table, at)) = keys.sub(name, example, &mut desk.out) else { return Names::None };
    let bits = width(kind);
    let other = ["scale", "offset", "scale_register", "counter"].into_iter().find(|k| keys.has(k) && (scaled || *k != "scale"));
    if !kind.is_whole() || (name == "flags" && bits == 0) || other.is_some() {
        let because = match other {
            Some(key) => format!("with `{key}` it is a quantity and has no words"),
            None if name == "flags" => "only unsigned whole numbers and bits are sets of bits".into(),
            None => "only whole numbers stand for words".into(),
        };
        let found = format!("`{name}` on a {}", kind.word());
        desk.out.error(Code::TypeMismatch, at, keys.key(name), found).because(because).want(format!("take `{name}` out"));
        return Names::None;
    }
    let mut found: BTreeMap<i128, Arc<str>> = BTreeMap::new();
    for (key, entry) in table.iter() {
        let number = number(key).filter(|n| if name == "flags" { (0..i128::from(bits)).contains(n) } else { fits(kind, *n) });
        let word = match &entry.node.value {
            Content::Text(t) if is_word(t, name) => t,
            _ => {
                let found = format!("{name}.{key} must be a word in a string");
                let p = desk.out.error(Code::WrongType, entry.node.at, format!("{}.{key}", keys.key(name)), found);
                p.because("it is what is published for that number").want(format!("{key} = \"off\""));
                continue;
            }
        };
        let twice = number.is_some_and(|n| found.contains_key(&n)) || found.values().any(|w| **w == **word);
        if let Some(number) = number.filter(|_| !twice) {
            found.insert(number, word.as_str().into());
            continue;
        }
        let (code, text, because) = match (twice, name) {
            (true, _) => (Code::DuplicateKey, format!("{key} = \"{word}\" is there twice"), "one number, one word".into()),
            (_, "flags") => {
                (Code::OutOfRange, format!("there is no bit {key}"), format!("bits are numbered 0 to {}", bits.saturating_sub(1)))
            }
            _ => {
                (Code::OutOfRange, format!("{key} is no {}", kind.word()), "the raw number as it is read; a negative one in quotes".into())
            }
        };
        desk.out.error(code, entry.at, format!("{}.{key}", keys.key(name)), text).because(because).want(format!("{name} = {example}"));
    }
    if name == "values" {
        Names::Values(found.into_iter().collect())
    } else {
        Names::Flags(found.into_iter().filter_map(|(n, word)| Some((u8::try_from(n).ok()?, word))).collect())
    }
}

/// Words of flags are joined by a bar.
fn is_word(text: &str, list: &str) -> bool {
    let barred = list == "flags" && text.contains('|');
    !text.is_empty() && !barred && !text.chars().any(char::is_control)
}

/// Decimal or hexadecimal, as TOML writes keys: `0x1F` and `-1` without a point.
fn number(key: &str) -> Option<i128> {
    match key.strip_prefix("0x").or_else(|| key.strip_prefix("0X")) {
        Some(hex) => i128::from_str_radix(hex, 16).ok().filter(|n| *n >= 0),
        None => key.parse().ok(),
    }
}

/// Bits of the types that are sets of bits; 0: it is none.
const fn width(kind: DataType) -> u8 {
    match kind {
        DataType::Bits(Bits { count, .. }) => count,
        DataType::U8 => 8,
        DataType::U16 => 16,
        DataType::U32 => 32,
        DataType::U64 => 64,
        _ => 0,
    }
}

fn fits(kind: DataType, n: i128) -> bool {
    let signed = |bits: u32| -(1i128 << (bits - 1))..1i128 << (bits - 1);
    match kind {
        DataType::Bool => (0..=1).contains(&n),
        DataType::I8 => signed(8).contains(&n),
        DataType::I16 => signed(16).contains(&n),
        DataType::I32 => signed(32).contains(&n),
        DataType::I64 => signed(64).contains(&n),
        DataType::Bcd(digits) => (0..10i128.pow(digits.into())).contains(&n),
        DataType::M10k(words) => (0..10_000i128.pow(words.into())).contains(&n),
        _ => (0..1i128 << width(kind)).contains(&n),
    }
}
