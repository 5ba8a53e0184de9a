//! Register notation and types: pure parsing of `holding:100`, `bits:4-7` and their kin.
//!
//! The wire address is the truth. Six-digit Modicon numbers are unambiguous and accepted; five-digit ones are not,
//! because vendors disagree whether 40001 is an address or the first holding register.

use crate::config::{
    device::{Bits, Chars, DataType, Encoding, Lane, Layout, Register, Table, Time, TimeForm},
    problem::Want,
};

/// What a five-digit number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notation {
    /// It may be a wire address or a Modicon number, so it is refused.
    #[default]
    Wire,
    /// `notation = "modicon"`: 40001 is the first holding register.
    Modicon,
}

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
/// Short forms that are taken as they stand: behind them, too, stands the wire address.
const SHORT_WORDS: [(&str, Table); 4] = [("co", Table::Coil), ("di", Table::Discrete), ("ir", Table::Input), ("hr", Table::Holding)];
/// What other programs call them. Behind 4x: stands a wire address in some and a register number in others.
const OTHER_WORDS: [(&str, &str); 11] = [
    ("coil_register", "coil"),
    ("4x", "holding"),
    ("holding_register", "holding"),
    ("holding-register", "holding"),
    ("3x", "input"),
    ("input_register", "input"),
    ("input-register", "input"),
    ("discrete_input", "discrete"),
    ("discrete-input", "discrete"),
    ("coils", "coil"),
    ("do", "coil"),
];

/// The register, and whether it was written in another notation than ours, so that the wire address is worth a note.
pub fn parse(text: &str, notation: Notation) -> Result<(Register, bool), Fault> {
    let Some((word, address)) = text.split_once(':') else { return bare(text, notation) };
    let (word, address) = (word.trim(), address.trim());
    let short = SHORT_WORDS.iter().find(|(w, _)| *w == word);
    let Some((_, table)) = WORDS.iter().find(|(w, _)| *w == word).or(short) else {
        let lower = word.to_ascii_lowercase();
        let other = OTHER_WORDS.iter().find(|(w, _)| *w == lower).map(|(_, w)| *w);
        let near = other.or_else(|| super::super::nearest::nearest(&lower, WORDS.iter().map(|(w, _)| *w)));
        return Err(match near {
            Some(near) => fault(format!("did you mean `{near}`?"), vec![want(format!("register = \"{near}:{address}\""), "")]),
            None => fault("a table is coil, discrete, input or holding", vec![want(format!("register = \"holding:{address}\""), "")]),
        });
    };
    match number(address) {
        Some(n) if u16::try_from(n).is_ok() => Ok((Register { table: *table, address: u16::try_from(n).unwrap_or(0) }, short.is_some())),
        Some(n) => match modicon(n) {
            Some(r) => Err(fault("wire addresses end at 65535", vec![want(format!("register = \"{r}\""), "if the manual counts from 1")])),
            None => Err(fault("wire addresses end at 65535", vec![want(format!("register = \"{word}:0\""), "")])),
        },
        None => Err(fault("behind the colon stands a wire address, as 100 or 0x64", vec![want(format!("register = \"{word}:100\""), "")])),
    }
}

/// A number alone, in quotes or without.
fn bare(text: &str, notation: Notation) -> Result<(Register, bool), Fault> {
    let text = text.trim();
    if let Some(found) = digit_x(text) {
        return found.map(|r| (r, true));
    }
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
    if notation == Notation::Modicon && five {
        return old
            .map(|(register, _)| (register, true))
            .ok_or_else(|| fault("five digits begin with 0, 1, 3 or 4 and count from 1 to 9999", tables(0)));
    }
    // 00017 may as well be a wire address with zeros in front.
    let old = old.filter(|(register, _)| register.table != Table::Coil);
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

/// `4x00001`: a table's digit, an x and a number that counts from 1. Manuals write the coils as 0x00001, which is a
/// hexadecimal number everywhere else, so that stays one. `None`: no such text.
fn digit_x(text: &str) -> Option<Result<Register, Fault>> {
    let (digit, number) = text.split_once(['x', 'X'])?;
    let table = match digit {
        "1" => Table::Discrete,
        "3" => Table::Input,
        "4" => Table::Holding,
        _ => return None,
    };
    let address = number.parse::<u32>().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()));
    let address = address.and_then(|n| n.checked_sub(1)).and_then(|n| u16::try_from(n).ok());
    Some(address.map(|address| Register { table, address }).ok_or_else(|| {
        fault(
            format!("behind {digit}x stands a number from 1 to 65536"),
            vec![want(format!("register = \"{}:0\"", table.word()), "for the first one")],
        )
    }))
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
        0 => (Table::Coil, "coil"),
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
#[derive(Debug, PartialEq)]
pub enum TypeFault {
    /// `None`: no idea what was meant.
    Near(Option<&'static str>),
    Bits(&'static str),
    /// The type is there, what stands behind its colon is not. Why, and what to write.
    Size(&'static str, &'static str),
}

/// What the type says by itself; `form` lays the keys beside it over that.
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
    if let Some(found) = sized(text) {
        return found;
    }
    let lower = text.to_ascii_lowercase();
    let other = OTHER_TYPES.iter().find(|(w, _)| *w == lower).map(|(_, w)| *w);
    let near = |words: &[&'static str]| super::super::nearest::nearest(&lower, words.iter().copied());
    let plain: Vec<&str> = PLAIN.iter().map(|(w, _)| *w).collect();
    let others: Vec<&str> = OTHER_TYPES.iter().map(|(w, _)| *w).collect();
    let named = |word: &str| OTHER_TYPES.iter().find(|(w, _)| *w == word).map(|(_, w)| *w);
    Err(TypeFault::Near(other.or_else(|| near(&plain)).or_else(|| near(&others).and_then(named))))
}

/// Types that say how wide they are. `None`: none of them.
fn sized(text: &str) -> Option<Result<DataType, TypeFault>> {
    let (word, size) = text.split_once(':').map_or((text, None), |(w, s)| (w, Some(s.trim())));
    let within = |range: std::ops::RangeInclusive<u8>| size.and_then(|s| s.parse::<u8>().ok()).filter(|n| range.contains(n));
    let time = |form| DataType::Time(Time { form, bcd: false, local: false });
    Some(match word {
        "bcd8" if size.is_none() => Ok(DataType::Bcd(2)),
        "bcd16" if size.is_none() => Ok(DataType::Bcd(4)),
        "bcd24" if size.is_none() => Ok(DataType::Bcd(6)),
        "bcd32" if size.is_none() => Ok(DataType::Bcd(8)),
        "bcd64" if size.is_none() => Ok(DataType::Bcd(16)),
        "bcd" => within(1..=16).map(DataType::Bcd).ok_or(TypeFault::Size("1 to 16 decimal digits, four to a register", "bcd:8")),
        "m10k" => within(1..=4).map(DataType::M10k).ok_or(TypeFault::Size("1 to 4 registers of 0 to 9999 each", "m10k:4")),
        "string" => within(1..=125)
            .map(|registers| DataType::Text(Chars { registers, lane: Lane::Both, encoding: Encoding::Utf8 }))
            .ok_or(TypeFault::Size("its length in registers, 1 to 125", "string:16")),
        "hhmm" if size.is_none() => Ok(time(TimeForm::HourMinute)),
        "unix32" if size.is_none() => Ok(time(TimeForm::Unix)),
        "datetime" => match within(3..=4) {
            Some(4) => Ok(time(TimeForm::Iec870)),
            Some(registers) => Ok(time(TimeForm::Bytes(Layout { registers, at: UNSAID, wide_year: false }))),
            None => Err(TypeFault::Size("3 or 4 registers", "datetime:3")),
        },
        _ => return None,
    })
}

/// No layout yet: all in one place, which no layout can say.
pub const UNSAID: [u8; 6] = [0; 6];

/// `DMYhms`: what each byte holds, in order of the registers. Year, month, day, hour, minute, second; `-` is a byte that
/// is not looked at, `YY` a year of two bytes.
pub fn layout(text: &str, registers: u8) -> Option<Layout> {
    let bytes = text.as_bytes();
    if bytes.len() != usize::from(registers) * 2 || !bytes.iter().all(|b| b"YMDhms-".contains(b)) {
        return None;
    }
    let wide_year = text.contains("YY");
    let mut at = UNSAID;
    for (n, letter) in b"YMDhms".iter().enumerate() {
        let count = bytes.iter().filter(|b| *b == letter).count();
        if count != 1 + usize::from(wide_year && *letter == b'Y') {
            return None;
        }
        at[n] = u8::try_from(bytes.iter().position(|b| b == letter)?).ok()?;
    }
    Some(Layout { registers, at, wide_year })
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
            // FIELD_TRUTH row 5: explicit notations.
            ("hr:0", Holding, 0, true),
            ("ir:0x0BD3", Input, 0x0BD3, true),
            ("co:5", Coil, 5, true),
            ("di:5", Discrete, 5, true),
            ("holding:0x0BD3", Holding, 3027, false),
            ("4x00001", Holding, 0, true),
            ("3x00012", Input, 11, true),
            ("1X10001", Discrete, 10000, true),
            ("4x65536", Holding, 65535, true),
        ] {
            assert_eq!(parse(text, Notation::Wire), Ok((Register { table, address }, modicon)), "{text}");
        }
    }

    #[test]
    fn what_is_no_register_comes_with_remedies() {
        for (text, ambiguous, first) in [
            ("40001", true, "register = \"holding:0\""),
            ("30013", true, "register = \"input:12\""),
            ("100", true, "register = \"holding:100\""),
            ("0x64", true, "register = \"holding:100\""),
            ("4x:7", false, "register = \"holding:7\""),
            ("4x00000", false, "register = \"holding:0\""),
            ("4x65537", false, "register = \"holding:0\""),
            ("4xFF", false, "register = \"holding:0\""),
            ("00017", true, "register = \"holding:17\""),
            ("0x0BD3", true, "register = \"holding:3027\""),
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
            let fault = parse(text, Notation::Wire).expect_err(text);
            assert_eq!((fault.ambiguous, fault.want[0].write.as_str()), (ambiguous, first), "{text}");
        }
    }

    /// carlogavazzi-em24: its manual's 300012 is wire 0x000B, in five digits 30012.
    #[test]
    fn five_digits_are_modicon_numbers_where_the_file_says_so() {
        use Table::{Coil, Discrete, Holding, Input};
        let check = |text: &str, want: Option<(Table, u16)>| {
            let got = parse(text, Notation::Modicon).ok().map(|(r, said)| (said, r.table, r.address));
            assert_eq!(got, want.map(|(t, a)| (true, t, a)), "{text}");
        };
        check("40001", Some((Holding, 0)));
        check("30012", Some((Input, 11)));
        check("10001", Some((Discrete, 0)));
        check("00017", Some((Coil, 16)));
        check("49999", Some((Holding, 9998)));
        check("400001", Some((Holding, 0)));
        check("40000", None);
        check("20001", None);
        check("17", None);
        assert_eq!(parse("holding:40151", Notation::Modicon), Ok((Register { table: Holding, address: 40151 }, false)));
    }

    #[test]
    fn layouts_name_each_byte_once() {
        let got = |text, registers| layout(text, registers).map(|l| (l.at, l.wide_year));
        assert_eq!(got("DMYhms", 3), Some(([2, 1, 0, 3, 4, 5], false)));
        assert_eq!(got("YYMDhms-", 4), Some(([0, 2, 3, 4, 5, 6], true)));
        for (text, registers) in [("DMYhm", 3), ("DMYhmx", 3), ("DMYhmm", 3), ("YMYDhms-", 4), ("YYYMDhms", 4), ("DMYhms", 4), ("ä", 1)] {
            assert_eq!(got(text, registers), None, "{text}");
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
            ("bcd8", Ok(DataType::Bcd(2))),
            ("bcd24", Ok(DataType::Bcd(6))),
            ("bcd:5", Ok(DataType::Bcd(5))),
            ("m10k:4", Ok(DataType::M10k(4))),
            ("string:7", Ok(DataType::Text(Chars { registers: 7, lane: Lane::Both, encoding: Encoding::Utf8 }))),
            ("hhmm", Ok(DataType::Time(Time { form: TimeForm::HourMinute, bcd: false, local: false }))),
            ("unix32", Ok(DataType::Time(Time { form: TimeForm::Unix, bcd: false, local: false }))),
            ("datetime:4", Ok(DataType::Time(Time { form: TimeForm::Iec870, bcd: false, local: false }))),
            ("strinng", Err(TypeFault::Near(None))),
            ("floot", Err(TypeFault::Near(Some("f32")))),
            ("complex", Err(TypeFault::Near(None))),
        ] {
            assert_eq!(parse_type(text), want, "{text}");
        }
        for text in ["bit:16", "bits:7-4", "bit:1-2", "bits:", "bits:a-b"] {
            assert!(matches!(parse_type(text), Err(TypeFault::Bits(_))), "{text}");
        }
        for text in ["string", "string:0", "string:126", "bcd:17", "bcd", "m10k:5", "m10k", "datetime:5", "datetime"] {
            assert!(matches!(parse_type(text), Err(TypeFault::Size(..))), "{text}");
        }
    }
}
