//! `[device.*.point.*]`: one value of a device.

use super::{Desk, id, na, register, write};
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

const KEYS: &[&str] = &["register", "type", "order", "scale", "offset", "unit", "na", "report", "write", "read_alone"];
const ORDERS: &[(&str, WordOrder)] =
    &[("ABCD", WordOrder::Abcd), ("CDAB", WordOrder::Cdab), ("BADC", WordOrder::Badc), ("DCBA", WordOrder::Dcba)];

pub fn check(name: &str, table: &Table, at: Place, up: &Trail<'_>, poll: Duration, desk: &mut Desk<'_>) -> Option<Point> {
    let trail = up.then(name);
    let keys = Keys::open(table, at, &trail, "a point", KEYS, &mut desk.out);
    let point_id = id(name, at, trail, PointId::parse, desk);
    let register = register(&keys, desk);
    let kind = kind(&keys, register, desk);
    let order = keys.word("order", ORDERS, &mut desk.out).unwrap_or_default();
    let scale = scale(&keys, desk);
    let offset = keys.number("offset", &mut desk.out).unwrap_or(0.0);
    let unit = keys.text("unit", &mut desk.out).map(|t| t.it.to_owned()).unwrap_or_default();
    let report = report(&keys, poll, desk);
    let read_alone = keys.flag("read_alone", &mut desk.out).unwrap_or(false);
    let (register, kind) = (register?, kind?);
    let na = na::check(&keys, kind, desk);
    let write = write::check(&keys, register, kind, desk);
    Some(Point { id: point_id?, register, kind, order, scale, offset, unit, na, report, write, read_alone, scale_register: None })
}

fn register(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Register> {
    if !keys.require("register", "register = \"holding:100\"", &mut desk.out) {
        return None;
    }
    let entry = keys.entry("register")?;
    let at = entry.node.at;
    let text = match &entry.node.value {
        Content::Text(t) => std::borrow::Cow::Borrowed(t.as_str()),
        Content::Int(n) => std::borrow::Cow::Owned(n.to_string()),
        _ => {
            keys.wrong("register", &entry.node, "a table and an address in a string", "\"holding:100\"", &mut desk.out);
            return None;
        }
    };
    match register::parse(&text) {
        Ok((register, modicon)) => {
            if modicon {
                desk.out.note(Code::ModiconRegister, at, keys.key("register"), format!("{text} is {register} on the wire"));
            }
            Some(register)
        }
        Err(fault) => {
            let (code, found) = if fault.ambiguous {
                (Code::AmbiguousRegister, format!("{text} can be meant in two ways"))
            } else {
                (Code::BadRegister, format!("`{text}` is no register"))
            };
            let p = desk.out.error(code, at, keys.key("register"), found).because(fault.because);
            p.want = fault.want;
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
            let code = if fault == register::TypeFault::Later { Code::NotInVersion } else { Code::BadValue };
            let found = if code == Code::NotInVersion {
                format!("type `{}` is not in this version", text.it)
            } else {
                format!("`{}` is no type", text.it)
            };
            let p = desk.out.error(code, text.at, keys.key("type"), found);
            match fault {
                register::TypeFault::Later => p.because("numbers, bool and bits are").want("type = \"u16\""),
                register::TypeFault::Near(Some(near)) => p.because(format!("did you mean `{near}`?")).want(format!("type = \"{near}\"")),
                register::TypeFault::Near(None) => {
                    p.because("bool, bit:N, bits:N-M, u8 to u64, i8 to i64, f16, f32, f64").want("type = \"u16\"")
                }
                register::TypeFault::Bits(why) => p.because(why).want("type = \"bits:4-7\""),
            };
            return None;
        }
    };
    let Some(register) = register else { return Some(kind) };
    if on_bits && kind != DataType::Bool {
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

fn scale(keys: &Keys<'_>, desk: &mut Desk<'_>) -> f64 {
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

fn report(keys: &Keys<'_>, poll: Duration, desk: &mut Desk<'_>) -> Report {
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
