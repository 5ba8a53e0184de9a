//! `write = …`: what may be written to a point. Without it nothing may.

use super::Desk;
use crate::config::{
    WriteRule,
    device::{DataType, Register, Table},
    keys::Keys,
    problem::Code,
    tree::Content,
};
use std::time::Duration;

const KEYS: &[&str] = &["min", "max", "verify", "min_interval", "function"];

pub fn check(keys: &Keys<'_>, register: Register, kind: DataType, desk: &mut Desk<'_>) -> Option<WriteRule> {
    let entry = keys.entry("write")?;
    let open = WriteRule::default();
    let rule = match &entry.node.value {
        Content::Flag(false) => return None,
        Content::Flag(true) => open,
        Content::Table(table) => {
            let trail = keys.trail.then("write");
            let inner = Keys::open(table, entry.at, &trail, "a write rule", KEYS, &mut desk.out);
            rule(&inner, register, kind, desk)
        }
        _ => {
            keys.wrong("write", &entry.node, "true or a table", "{ min = 0, max = 100 }", &mut desk.out);
            return None;
        }
    };
    if matches!(register.table, Table::Input | Table::Discrete) {
        let (name, instead) =
            if register.table == Table::Input { ("input registers", Table::Holding) } else { ("discrete inputs", Table::Coil) };
        desk.out
            .error(Code::BadWrite, entry.at, keys.key("write"), format!("{register} cannot be written"))
            .because(format!("{name} are read-only in Modbus"))
            .want_when(format!("register = \"{}:{}\"", instead.word(), register.address), "if the manual lists it there too")
            .want_when("take `write` out", "if it is only read");
        return None;
    }
    if matches!(kind, DataType::Bits(_)) {
        desk.out
            .error(Code::NotInVersion, entry.at, keys.key("write"), "single bits of a register cannot be written in this version")
            .because("a write would set the other bits too")
            .want_when("type = \"u16\"", "to write the whole register");
        return None;
    }
    Some(rule)
}

fn rule(keys: &Keys<'_>, register: Register, kind: DataType, desk: &mut Desk<'_>) -> WriteRule {
    let out = &mut desk.out;
    let (min, max) = (keys.number("min", out), keys.number("max", out));
    if let (Some(lo), Some(hi)) = (min, max)
        && lo > hi
    {
        out.error(Code::MinAboveMax, keys.value_at("min"), keys.key("min"), format!("`min` {lo} is above `max` {hi}"))
            .because("no value fits between them")
            .want(format!("min = {hi}, max = {lo}"));
    }
    let verify = keys.flag("verify", out).unwrap_or(true);
    let min_interval = keys.duration("min_interval", Duration::ZERO..=Duration::from_secs(86_400), out).unwrap_or_default();
    let function = keys.integer("function", 1..=127, out).and_then(|f| u8::try_from(f).ok());
    let possible: &[u8] = match (register.table.is_bits(), kind.words()) {
        (true, _) => &[5, 15],
        (false, 1) => &[6, 16],
        (false, _) => &[16],
    };
    if let Some(f) = function.filter(|f| !possible.contains(f)) {
        let list: Vec<String> = possible.iter().map(u8::to_string).collect();
        out.error(
            Code::BadWrite,
            keys.value_at("function"),
            keys.key("function"),
            format!("function {f} cannot write {} at {register}", kind.word()),
        )
        .because("5 and 15 write coils, 6 one register, 16 several")
        .want(format!("function = {}", list.join(" or ")));
    }
    WriteRule { min, max, verify, min_interval, function, ..WriteRule::default() }
}
