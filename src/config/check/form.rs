//! `bytes`, `encoding`, `layout`, `bcd`, `zone`: how texts and times lie in their registers.

use super::{Desk, register};
use crate::config::{
    WordOrder,
    device::{Chars, DataType, Encoding, Lane, Names, Time, TimeForm},
    keys::Keys,
    problem::Code,
};

const LANES: &[(&str, Lane)] = &[("both", Lane::Both), ("high", Lane::High), ("low", Lane::Low)];
const ENCODINGS: &[(&str, Encoding)] = &[("utf8", Encoding::Utf8), ("latin1", Encoding::Latin1), ("ascii", Encoding::Ascii)];
const ZONES: &[(&str, bool)] = &[("utc", false), ("local", true)];

/// The type with what the keys beside it say.
pub fn check(keys: &Keys<'_>, kind: DataType, desk: &mut Desk<'_>) -> DataType {
    match kind {
        DataType::Text(chars) => {
            foreign(keys, &["layout", "bcd", "zone"], "a time", desk);
            let lane = keys.word("bytes", LANES, &mut desk.out).unwrap_or_default();
            let encoding = keys.word("encoding", ENCODINGS, &mut desk.out).unwrap_or_default();
            DataType::Text(Chars { lane, encoding, ..chars })
        }
        DataType::Time(time) => {
            foreign(keys, &["bytes", "encoding"], "a string", desk);
            DataType::Time(packed(keys, time, desk))
        }
        _ => {
            foreign(keys, &["layout", "bcd", "zone"], "a time", desk);
            foreign(keys, &["bytes", "encoding"], "a string", desk);
            kind
        }
    }
}

/// Keys that mean nothing beside this type.
fn foreign(keys: &Keys<'_>, names: &[&str], of: &str, desk: &mut Desk<'_>) {
    for name in names.iter().filter(|n| keys.has(n)) {
        desk.out
            .error(Code::MisplacedKey, keys.key_at(name), keys.key(name), format!("`{name}` belongs to {of}"))
            .because("this point has another type")
            .want(format!("take `{name}` out"));
    }
}

fn packed(keys: &Keys<'_>, time: Time, desk: &mut Desk<'_>) -> Time {
    let out = &mut desk.out;
    let local = keys.word("zone", ZONES, out).unwrap_or(false);
    let bcd = keys.flag("bcd", out).unwrap_or(false);
    let registers = DataType::Time(time).words();
    let text = keys.text("layout", out);
    let laid = text.and_then(|t| register::layout(t.it, u8::try_from(registers).unwrap_or(0)));
    let (form, dated) = match time.form {
        TimeForm::Bytes(_) | TimeForm::Iec870 => match (laid, time.form) {
            (Some(layout), _) => (TimeForm::Bytes(layout), true),
            (None, form) => (form, true),
        },
        other => (other, false),
    };
    let example = if registers == 4 { "YYMDhms-" } else { "DMYhms" };
    if let Some(text) = text.filter(|_| !dated || laid.is_none()) {
        let p = out.error(Code::BadValue, text.at, keys.key("layout"), format!("`{}` is no layout of {registers} registers", text.it));
        if dated {
            p.because("one letter per byte: Y or YY, M, D, h, m, s, and - for a byte without meaning")
                .want(format!("layout = \"{example}\""));
        } else {
            p.because("only datetime has one").want("take `layout` out");
        }
    } else if matches!(time.form, TimeForm::Bytes(_)) && !keys.has("layout") {
        out.error(Code::MissingKey, keys.value_at("type"), keys.key("layout"), "datetime:3 needs `layout`")
            .because("manufacturers put year, month and day in different orders, and a wrong guess is a wrong date")
            .want_when("layout = \"DMYhms\"", "day and month, year and hour, minute and second")
            .want_when("layout = \"YMDhms\"", "year first, since 2000");
    }
    if bcd && matches!(form, TimeForm::Iec870 | TimeForm::Unix) {
        out.error(Code::MisplacedKey, keys.key_at("bcd"), keys.key("bcd"), "this time has no decimal digits")
            .because("hhmm and datetime with a `layout` can be BCD")
            .want("take `bcd` out");
    }
    Time { form, bcd, local }
}

/// Characters stand in order of the registers.
pub fn order(keys: &Keys<'_>, kind: DataType, order: WordOrder, desk: &mut Desk<'_>) {
    if matches!(kind, DataType::Text(_)) && matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
        desk.out
            .error(Code::BadValue, keys.value_at("order"), keys.key("order"), "a string cannot have its words swapped")
            .because("the first register holds its first characters; only the two bytes of a register can be swapped")
            .want_when("order = \"BADC\"", "if the letters come in swapped pairs")
            .want_when("order = \"ABCD\"", "the default");
    }
}

/// What cannot be written back although its register could be.
pub fn writable(keys: &Keys<'_>, names: &Names, desk: &mut Desk<'_>) {
    let out = &mut desk.out;
    if matches!(names, Names::Flags(_)) {
        out.error(Code::BadWrite, keys.key_at("write"), keys.key("write"), "flags cannot be written")
            .because("bits without a word would be cleared")
            .want_when("take `write` out", "if it is only read")
            .want_when("values = { … }", "if the whole number is meant");
    }
    if keys.has("scale_register") {
        out.error(Code::BadWrite, keys.key_at("write"), keys.key("write"), "a value with a `scale_register` cannot be written")
            .because("the device may change the power of ten between reading it and writing the value")
            .want_when("scale = 0.1", "instead of `scale_register`, if the manual says that it never changes");
    }
}
