//! Register notation and types: pure parsing of `holding:100`, `bits:4-7` and their kin.
//!
//! The wire address is the truth. Six-digit Modicon numbers are unambiguous and accepted; five-digit ones are not,
//! because vendors disagree whether 40001 is an address or the first holding register.

use crate::config::{
    device::{Bits, DataType, Register, Table},
    problem::Want,
};

/// Why a text is no register, and what may have been meant.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub ambiguous: bool,
    pub because: String,
    pub want: Vec<Want>,
}

fn want(write: String, when: &str) -> Want {
    Want { write, when: when.into() }
}

fn fault(because: impl Into<String>, wants: Vec<Want>) -> Fault {
    Fault { ambiguous: false, because: because.into(), want: wants }
}

const WORDS: [(&str, Table); 4] =
    [("coil", Table::Coil), ("discrete", Table::Discrete), ("input", Table::Input), ("holding", Table::Holding)];
/// What other programs call them.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("hr", "holding"),
    ("4x", "holding"),
    ("holding_register", "holding"),
    ("holding-register", "holding"),
    ("ir", "input"),
    ("3x", "input"),
    ("input_register", "input"),
    ("input-register", "input"),
    ("di", "discrete"),
    ("discrete_input", "discrete"),
    ("co", "coil"),
    ("coils", "coil"),
];

/// The register, and whether it was written in Modicon notation.
pub fn parse(text: &str) -> Result<(Register, bool), Fault> {
    let Some((word, address)) = text.split_once(':') else { return bare(text) };
    let (word, address) = (word.trim(), address.trim());
    let Some((_, table)) = WORDS.iter().find(|(w, _)| *w == word) else {
        let lower = word.to_ascii_lowercase();
        let other = OTHER_WORDS.iter().find(|(w, _)| *w == lower).map(|(_, w)| *w);
        let near = other.or_else(|| super::super::nearest::nearest(&lower, WORDS.iter().map(|(w, _)| *w)));
        return Err(match near {
            Some(near) => fault(format!("did you mean `{near}`?"), vec![want(format!("register = \"{near}:{address}\""), "")]),
            None => fault("a table is coil, discrete, input or holding", vec![want(format!("register = \"holding:{address}\""), "")]),
        });
    };
    match number(address) {
        Some(n) if u16::try_from(n).is_ok() => Ok((Register { table: *table, address: u16::try_from(n).unwrap_or(0) }, false)),
        Some(n) => match modicon(n) {
            Some(r) => Err(fault("wire addresses end at 65535", vec![want(format!("register = \"{r}\""), "if the manual counts from 1")])),
            None => Err(fault("wire addresses end at 65535", vec![want(format!("register = \"{word}:0\""), "")])),
        },
        None => Err(fault("behind the colon stands a wire address, as 100 or 0x64", vec![want(format!("register = \"{word}:100\""), "")])),
    }
}

/// A number alone, in quotes or without.
fn bare(text: &str) -> Result<(Register, bool), Fault> {
    let text = text.trim();
    let tables = |n: u64| -> Vec<Want> {
        vec![
            want(format!("register = \"holding:{n}\""), "function 3, the most common"),
            want(format!("register = \"input:{n}\""), "function 4"),
            want(format!("register = \"coil:{n}\""), "function 1; discrete:… is function 2"),
        ]
    };
    let Some(n) = number(text) else {
        return Err(fault("a register is a table and a wire address", tables(100)));
    };
    if text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit()) {
        return modicon(n)
            .map(|r| (r, true))
            .ok_or_else(|| fault("six digits begin with 0, 1, 3 or 4 and count from 1 to 65536", tables(0)));
    }
    let five = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let old = if five { old_modicon(n) } else { None };
    match old {
        Some((register, name)) => Err(Fault {
            ambiguous: true,
            because: match register.address {
                0 => format!("address {n} on the wire, or the first {name}?"),
                nth => format!("address {n} on the wire, or {name} number {}?", u32::from(nth) + 1),
            },
            want: vec![
                want(format!("register = \"{register}\""), &format!("if the manual counts from {}", n - u64::from(register.address))),
                want(format!("register = \"{}:{n}\"", register.table.word()), "if the manual says that is the address"),
            ],
        }),
        None if n <= 65535 => {
            Err(Fault { ambiguous: true, because: "in which table: coil, discrete, input or holding?".into(), want: tables(n) })
        }
        None => Err(fault("wire addresses end at 65535", tables(0))),
    }
}

/// 400001 is the first holding register, wire address 0.
fn modicon(n: u64) -> Option<Register> {
    let table = match n / 100_000 {
        0 => Table::Coil,
        1 => Table::Discrete,
        3 => Table::Input,
        4 => Table::Holding,
        _ => return None,
    };
    let address = u16::try_from((n % 100_000).checked_sub(1)?).ok()?;
    Some(Register { table, address })
}

/// 40001 to 49999 and kin: what the number would mean in the five-digit notation.
fn old_modicon(n: u64) -> Option<(Register, &'static str)> {
    let (table, name) = match n / 10_000 {
        1 => (Table::Discrete, "discrete input"),
        3 => (Table::Input, "input register"),
        4 => (Table::Holding, "holding register"),
        _ => return None,
    };
    let address = u16::try_from((n % 10_000).checked_sub(1)?).ok()?;
    Some((Register { table, address }, name))
}

fn number(text: &str) -> Option<u64> {
    if text.len() > 12 {
        return None;
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

const PLAIN: [(&str, DataType); 12] = [
    ("bool", DataType::Bool),
    ("u8", DataType::U8),
    ("i8", DataType::I8),
    ("u16", DataType::U16),
    ("i16", DataType::I16),
    ("u32", DataType::U32),
    ("i32", DataType::I32),
    ("u64", DataType::U64),
    ("i64", DataType::I64),
    ("f16", DataType::F16),
    ("f32", DataType::F32),
    ("f64", DataType::F64),
];
const OTHER_TYPES: [(&str, &str); 24] = [
    ("boolean", "bool"),
    ("bit", "bool"),
    ("byte", "u8"),
    ("uint8", "u8"),
    ("int8", "i8"),
    ("uint", "u16"),
    ("uint16", "u16"),
    ("word", "u16"),
    ("int", "i16"),
    ("int16", "i16"),
    ("short", "i16"),
    ("uint32", "u32"),
    ("dword", "u32"),
    ("int32", "i32"),
    ("long", "i32"),
    ("uint64", "u64"),
    ("int64", "i64"),
    ("half", "f16"),
    ("float16", "f16"),
    ("float", "f32"),
    ("float32", "f32"),
    ("real", "f32"),
    ("double", "f64"),
    ("float64", "f64"),
];
/// In the format, not in this version.
const LATER_TYPES: [&str; 9] = ["string", "bcd", "bcd8", "bcd16", "bcd32", "m10k", "mod10", "datetime", "time"];

#[derive(Debug, PartialEq)]
pub enum TypeFault {
    Later,
    /// `None`: no idea what was meant.
    Near(Option<&'static str>),
    Bits(&'static str),
}

pub fn parse_type(text: &str) -> Result<DataType, TypeFault> {
    if let Some((_, kind)) = PLAIN.iter().find(|(w, _)| *w == text) {
        return Ok(*kind);
    }
    if let Some((word, range)) = text.split_once(':').filter(|(w, _)| matches!(*w, "bit" | "bits")) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bit = |t: &str| t.trim().parse::<u8>().ok().filter(|b| *b < 16);
        return match (bit(first), bit(last)) {
            (Some(a), Some(b)) if a <= b && (word == "bits" || a == b) => Ok(DataType::Bits(Bits { first: a, count: b - a + 1 })),
            (Some(_), Some(_)) if word == "bit" => Err(TypeFault::Bits("one bit is bit:3, several are bits:4-7")),
            (Some(_), Some(_)) => Err(TypeFault::Bits("the lower bit stands first: bits:4-7")),
            _ => Err(TypeFault::Bits("bits are numbered 0 to 15, 0 being the least significant")),
        };
    }
    let lower = text.to_ascii_lowercase();
    if LATER_TYPES.contains(&lower.split([':', '(', '[']).next().unwrap_or("")) {
        return Err(TypeFault::Later);
    }
    let other = OTHER_TYPES.iter().find(|(w, _)| *w == lower).map(|(_, w)| *w);
    let near = |words: &[&'static str]| super::super::nearest::nearest(&lower, words.iter().copied());
    let plain: Vec<&str> = PLAIN.iter().map(|(w, _)| *w).collect();
    let others: Vec<&str> = OTHER_TYPES.iter().map(|(w, _)| *w).collect();
    let named = |word: &str| OTHER_TYPES.iter().find(|(w, _)| *w == word).map(|(_, w)| *w);
    Err(TypeFault::Near(other.or_else(|| near(&plain)).or_else(|| near(&others).and_then(named))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers() {
        use Table::{Coil, Discrete, Holding, Input};
        for (text, table, address, modicon) in [
            ("holding:100", Holding, 100, false),
            ("input:0x10", Input, 16, false),
            ("coil:5", Coil, 5, false),
            ("discrete:3", Discrete, 3, false),
            ("holding:65535", Holding, 65535, false),
            ("400101", Holding, 100, true),
            ("300001", Input, 0, true),
            ("100001", Discrete, 0, true),
            ("000001", Coil, 0, true),
            ("465536", Holding, 65535, true),
        ] {
            assert_eq!(parse(text), Ok((Register { table, address }, modicon)), "{text}");
        }
    }

    #[test]
    fn what_is_no_register_comes_with_remedies() {
        for (text, ambiguous, first) in [
            ("40001", true, "register = \"holding:0\""),
            ("30013", true, "register = \"input:12\""),
            ("100", true, "register = \"holding:100\""),
            ("0x64", true, "register = \"holding:100\""),
            ("hr:7", false, "register = \"holding:7\""),
            ("Holding:7", false, "register = \"holding:7\""),
            ("holdin:7", false, "register = \"holding:7\""),
            ("holding:70000", false, "register = \"holding:0\""),
            ("holding:400101", false, "register = \"holding:100\""),
            ("holding:x", false, "register = \"holding:100\""),
            ("500000", false, "register = \"holding:0\""),
            ("400000", false, "register = \"holding:0\""),
            ("", false, "register = \"holding:100\""),
            ("holding", false, "register = \"holding:100\""),
        ] {
            let fault = parse(text).expect_err(text);
            assert_eq!((fault.ambiguous, fault.want[0].write.as_str()), (ambiguous, first), "{text}");
        }
    }

    #[test]
    fn types() {
        for (text, want) in [
            ("u16", Ok(DataType::U16)),
            ("f64", Ok(DataType::F64)),
            ("bit:3", Ok(DataType::Bits(Bits { first: 3, count: 1 }))),
            ("bits:4-7", Ok(DataType::Bits(Bits { first: 4, count: 4 }))),
            ("bits:0-15", Ok(DataType::Bits(Bits { first: 0, count: 16 }))),
            ("float32", Err(TypeFault::Near(Some("f32")))),
            ("U16", Err(TypeFault::Near(Some("u16")))),
            ("string", Err(TypeFault::Later)),
            ("bcd16", Err(TypeFault::Later)),
            ("floot", Err(TypeFault::Near(Some("f32")))),
            ("complex", Err(TypeFault::Near(None))),
        ] {
            assert_eq!(parse_type(text), want, "{text}");
        }
        for text in ["bit:16", "bits:7-4", "bit:1-2", "bits:", "bits:a-b"] {
            assert!(matches!(parse_type(text), Err(TypeFault::Bits(_))), "{text}");
        }
    }
}
