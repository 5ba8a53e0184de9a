//! `[device.*.point.*]`: one value of a device.

use super::{Desk, counter, form, id, na, names, raw, register, register::Notation, write};
use crate::{
    config::{
        Point, Report, WordOrder,
        device::{DataType, Register},
        keys::{Keys, Trail},
        problem::Code,
        source::Place,
        table::Table,
        tree::Content,
        words,
    },
    model::PointId,
};
use std::time::Duration;

const KEYS: &[&str] = &[
    "register",
    "type",
    "order",
    "bytes",
    "encoding",
    "layout",
    "bcd",
    "zone",
    "scale",
    "scale_register",
    "offset",
    "unit",
    "na",
    "pending",
    "unsupported",
    "values",
    "flags",
    "counter",
    "report",
    "write",
    "read_alone",
    "read",
    "raw",
    "raw_reply",
];
const ORDERS: &[(&str, WordOrder)] =
    &[("ABCD", WordOrder::Abcd), ("CDAB", WordOrder::Cdab), ("BADC", WordOrder::Badc), ("DCBA", WordOrder::Dcba)];

/// What a point takes over from its device.
#[derive(Debug, Clone, Copy)]
pub struct Of {
    pub poll: Duration,
    pub notation: Notation,
}

impl From<Duration> for Of {
    fn from(poll: Duration) -> Of {
        Of { poll, notation: Notation::Wire }
    }
}

pub fn check(name: &str, table: &Table, at: Place, up: &Trail<'_>, of: impl Into<Of>, desk: &mut Desk<'_>) -> Option<Point> {
    let of = of.into();
    let trail = up.then(name);
    let keys = Keys::open(table, at, &trail, "a point", KEYS, &mut desk.out);
    let point_id = id(name, at, trail, PointId::parse, desk);
    if keys.has("raw") {
        return raw::check(&keys, point_id?, desk);
    }
    if keys.has("raw_reply") {
        keys.require("raw", "raw = \"42\"", &mut desk.out);
    }
    let register = register(&keys, "register", of.notation, desk);
    let kind = kind(&keys, register, desk).map(|kind| form::check(&keys, kind, desk));
    let order = keys.word("order", ORDERS, &mut desk.out).unwrap_or_default();
    let scale = scale(&keys, desk);
    let offset = keys.number("offset", &mut desk.out).unwrap_or(0.0);
    let unit = keys.text("unit", &mut desk.out).map(|t| t.it.to_owned()).unwrap_or_default();
    let report = report(&keys, of.poll, desk);
    let read_alone = keys.flag("read_alone", &mut desk.out).unwrap_or(false);
    let (register, kind) = (register?, kind?);
    form::order(&keys, kind, order, desk);
    let [na, pending, unsupported] = ["na", "pending", "unsupported"].map(|name| na::check(&keys, name, kind, desk));
    let names = names::check(&keys, kind, scale != 1.0 || offset != 0.0, desk);
    let scale_register = scale_register(&keys, register, kind, of.notation, desk);
    let read = keys.flag("read", &mut desk.out).unwrap_or(true);
    let write = write::check(&keys, register, kind, read, desk).map(Box::new);
    if write.is_some() {
        form::writable(&keys, &names, desk);
    }
    let (id, counter) = (point_id?, counter::check(&keys, kind, scale, desk));
    Some(Point {
        order,
        scale,
        offset,
        unit,
        na,
        pending,
        unsupported,
        names,
        scale_register,
        counter,
        report,
        write,
        read_alone,
        read,
        ..Point::new(id, register, kind)
    })
}

/// The register under `key`, which must be there. Only what a point is read from follows the device's notation.
pub(super) fn place(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<Register> {
    keys.require(key, &format!("{key} = \"holding:100\""), &mut desk.out).then(|| register(keys, key, Notation::Wire, desk)).flatten()
}

/// The register under `key`.
fn register(keys: &Keys<'_>, key: &str, notation: Notation, desk: &mut Desk<'_>) -> Option<Register> {
    if key == "register" && !keys.require("register", "register = \"holding:100\"", &mut desk.out) {
        return None;
    }
    let entry = keys.entry(key)?;
    let at = entry.node.at;
    let text = match &entry.node.value {
        Content::Text(t) => std::borrow::Cow::Borrowed(t.as_str()),
        Content::Int(n) => std::borrow::Cow::Owned(n.to_string()),
        _ => {
            keys.wrong(key, &entry.node, "a table and an address in a string", "\"holding:100\"", &mut desk.out);
            return None;
        }
    };
    match register::parse(&text, notation) {
        Ok((register, modicon)) => {
            if modicon {
                desk.out.note(Code::ModiconRegister, at, keys.key(key), format!("{text} is {register} on the wire"));
            }
            Some(register)
        }
        Err(fault) => {
            let (code, found) = if fault.ambiguous {
                (Code::AmbiguousRegister, format!("{text} can be meant in two ways"))
            } else {
                (Code::BadRegister, format!("`{text}` is no register"))
            };
            let p = desk.out.error(code, at, keys.key(key), found).because(fault.because);
            p.want = fault.want;
            // The remedies are written for the key that most registers stand under.
            p.want.iter_mut().for_each(|w| w.write = w.write.replacen("register =", &format!("{key} ="), 1));
            None
        }
    }
}

/// On coils and discrete inputs everything is a bool; a register needs its type said, since a wrong guess is a wrong value.
fn kind(keys: &Keys<'_>, register: Option<Register>, desk: &mut Desk<'_>) -> Option<DataType> {
    let on_bits = register.is_some_and(|r| r.table.is_bits());
    if !keys.has("type") {
        if on_bits {
            return Some(DataType::Bool);
        }
        keys.require("type", "type = \"u16\"", &mut desk.out);
        return None;
    }
    let text = keys.text("type", &mut desk.out)?;
    let kind = match register::parse_type(text.it) {
        Ok(kind) => kind,
        Err(fault) => {
            let p = desk.out.error(Code::BadValue, text.at, keys.key("type"), format!("`{}` is no type", text.it));
            match fault {
                register::TypeFault::Near(Some(near)) => p.because(format!("did you mean `{near}`?")).want(format!("type = \"{near}\"")),
                register::TypeFault::Near(None) => p
                    .because(
                        "bool, bit:N, bits:N-M, u8 to u64, i8 to i64, f16, f32, f64, bcd:N, m10k:N, string:N, hhmm, datetime:N, unix32",
                    )
                    .want("type = \"u16\""),
                register::TypeFault::Bits(why) => p.because(why).want("type = \"bits:4-7\""),
                register::TypeFault::Size(why, example) => p.because(why).want(format!("type = \"{example}\"")),
            };
            return None;
        }
    };
    let Some(register) = register else { return Some(kind) };
    // Relay boards take whole words for a coil: such a point is written only, which `write` sees to.
    let is_coil_word = kind == DataType::U16 && register.table == crate::config::device::Table::Coil && keys.has("write");
    if on_bits && kind != DataType::Bool && !is_coil_word {
        desk.out
            .error(Code::TypeMismatch, text.at, keys.key("type"), format!("{register} cannot hold {}", kind.word()))
            .because("coils and discrete inputs are single bits")
            .want_when("type = \"bool\"", "or leave it out")
            .want_when(format!("register = \"holding:{}\"", register.address), "if it is a register");
        return None;
    }
    if !on_bits && u32::from(register.address) + u32::from(kind.words()) > 65536 {
        desk.out
            .error(
                Code::OutOfRange,
                keys.value_at("register"),
                keys.key("register"),
                format!("{} at {register} reaches beyond 65535", kind.word()),
            )
            .because(format!("it takes {} registers", kind.words()))
            .want(format!("register = \"{}:{}\"", register.table.word(), 65536 - u32::from(kind.words())));
        return None;
    }
    Some(kind)
}

/// The register with the power of ten, in the table of the value, so that one request reads both.
fn scale_register(keys: &Keys<'_>, of: Register, kind: DataType, notation: Notation, desk: &mut Desk<'_>) -> Option<Register> {
    let found = register(keys, "scale_register", notation, desk)?;
    let (at, key) = (keys.value_at("scale_register"), keys.key("scale_register"));
    if found.table != of.table || of.table.is_bits() {
        desk.out
            .error(Code::TypeMismatch, at, key, format!("{found} cannot scale {of}"))
            .because("the value and its power of ten are read together, from one table of registers")
            .want(format!("scale_register = \"{}:{}\"", of.table.word(), found.address));
        return None;
    }
    let own = u32::from(of.address)..u32::from(of.address) + u32::from(kind.words());
    if !kind.is_number() || own.contains(&u32::from(found.address)) {
        desk.out
            .error(Code::TypeMismatch, at, key, format!("{found} cannot scale a {} at {of}", kind.word()))
            .because(if kind.is_number() { "that is the value itself" } else { "only numbers have a scale" })
            .want("take `scale_register` out");
        return None;
    }
    Some(found)
}

pub(super) fn scale(keys: &Keys<'_>, desk: &mut Desk<'_>) -> f64 {
    let scale = keys.number("scale", &mut desk.out).unwrap_or(1.0);
    if scale == 0.0 {
        desk.out
            .error(Code::OutOfRange, keys.value_at("scale"), keys.key("scale"), "a scale of 0 makes every value 0")
            .because("value = raw * scale + offset")
            .want("scale = 1");
        return 1.0;
    }
    scale
}

pub(super) fn report(keys: &Keys<'_>, poll: Duration, desk: &mut Desk<'_>) -> Report {
    let Some((table, at)) = keys.sub("report", "{ deadband = 0.2, at_least_every = \"60s\" }", &mut desk.out) else {
        return Report::default();
    };
    let trail = keys.trail.then("report");
    let inner = Keys::open(table, at, &trail, "`report`", &["deadband", "at_least_every", "on_change"], &mut desk.out);
    let out = &mut desk.out;
    let deadband = inner.number("deadband", out).unwrap_or(0.0);
    if deadband < 0.0 {
        out.error(Code::OutOfRange, inner.value_at("deadband"), inner.key("deadband"), format!("a deadband of {deadband} is below 0"))
            .because("it is a distance from the last reported value")
            .want(format!("deadband = {}", -deadband));
    }
    let every = inner.duration("at_least_every", Duration::from_millis(100)..=Duration::from_secs(7 * 86_400), out);
    if let Some(every) = every.filter(|e| *e < poll) {
        out.warning(Code::NoEffect, inner.value_at("at_least_every"), inner.key("at_least_every"), "more often than it is polled")
            .because(format!("the poll is every {}, so nothing is held back", words::duration_text(poll)))
            .want(format!("at_least_every = \"{}\"", words::duration_text((poll * 10).max(every))));
    }
    // Both only make sense for values that are held back while they stay the same.
    let implied = deadband > 0.0 || every.is_some();
    let on_change = inner.flag("on_change", out);
    if on_change == Some(false) && implied {
        out.error(
            Code::NoEffect,
            inner.value_at("on_change"),
            inner.key("on_change"),
            "everything is reported, so nothing can be held back",
        )
        .because("`deadband` and `at_least_every` need on_change")
        .want_when("on_change = true", "or leave it out")
        .want_when("report = {}", "to report everything");
    }
    Report { on_change: on_change.unwrap_or(implied), deadband: deadband.max(0.0), at_least_every: every }
}
