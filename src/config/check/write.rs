//! `write = …`: what may be written to a point, how and where. Without it nothing may.

use super::{Desk, fixed, point};
use crate::config::{
    Refresh, WriteRule,
    device::{DataType, Register, Table},
    keys::Keys,
    problem::Code,
    source::Place,
    tree::Content,
    words,
};
use std::time::Duration;

const KEYS: &[&str] = &[
    "min",
    "max",
    "verify",
    "min_interval",
    "function",
    "register",
    "verify_register",
    "group",
    "if_changed",
    "pre",
    "refresh",
    "refresh_for",
    "refresh_stop",
];
const DAY: Duration = Duration::from_secs(86_400);
/// A watchdog's value is written for so long without a new command.
const REFRESH_FOR: Duration = Duration::from_secs(300);

/// The point whose rule is read.
#[derive(Clone, Copy)]
struct Of {
    register: Register,
    kind: DataType,
    /// It is polled.
    read: bool,
}

pub fn check(keys: &Keys<'_>, register: Register, kind: DataType, read: bool, desk: &mut Desk<'_>) -> Option<WriteRule> {
    let of = Of { register, kind, read };
    let is_coil_word = register.table.is_bits() && kind != DataType::Bool;
    if (!read || is_coil_word) && !keys.has("write") {
        keys.require("write", "write = true", &mut desk.out);
    }
    let entry = keys.entry("write")?;
    if is_coil_word && read {
        desk.out
            .error(
                Code::BadWrite,
                keys.key_at("type"),
                keys.key("type"),
                format!("{register} can be written as a word, but not read as one"),
            )
            .because("a coil reads as on or off")
            .want_when("read = false", "a command of a relay board, such as toggle or flash")
            .want_when("type = \"bool\"", "a relay that is switched on and off");
    }
    let rule = match &entry.node.value {
        Content::Flag(false) => return None,
        Content::Flag(true) => WriteRule { verify: can_verify(of, &WriteRule::default()), ..WriteRule::default() },
        Content::Table(table) => {
            let trail = keys.trail.then("write");
            let inner = Keys::open(table, entry.at, &trail, "a write rule", KEYS, &mut desk.out);
            rule(&inner, of, desk)
        }
        _ => {
            keys.wrong("write", &entry.node, "true or a table", "{ min = 0, max = 100 }", &mut desk.out);
            return None;
        }
    };
    let target = rule.register.unwrap_or(register);
    if matches!(target.table, Table::Input | Table::Discrete) {
        let (name, instead) =
            if target.table == Table::Input { ("input registers", Table::Holding) } else { ("discrete inputs", Table::Coil) };
        desk.out
            .error(Code::BadWrite, entry.at, keys.key("write"), format!("{target} cannot be written"))
            .because(format!("{name} are read-only in Modbus"))
            .want_when(format!("register = \"{}:{}\"", instead.word(), target.address), "if the manual lists it there too")
            .want_when(
                format!("write = {{ register = \"{}:{}\" }}", instead.word(), target.address),
                "if it is read here and written there",
            )
            .want_when("take `write` out", "if it is only read");
        return None;
    }
    unread_bits(keys, entry.at, of, &rule, desk);
    Some(rule)
}

/// The other bits of a register can be kept only if it can be read, or by function 22.
fn unread_bits(keys: &Keys<'_>, at: Place, of: Of, rule: &WriteRule, desk: &mut Desk<'_>) {
    if matches!(of.kind, DataType::Bits(_)) && !of.read && rule.function != Some(22) {
        desk.out
            .error(Code::BadWrite, at, keys.key("write"), format!("the other bits of {} would be lost", of.register))
            .because("they are read just before the write, and read = false forbids that")
            .want_when("write = { function = 22 }", "if the device has it")
            .want_when("type = \"u16\"", "to write the whole register");
    }
}

/// Where the point shows what it holds, if it shows it at all.
fn shown_at(of: Of, rule: &WriteRule) -> Option<Register> {
    rule.verify_register.or(of.read.then_some(of.register))
}

fn can_verify(of: Of, rule: &WriteRule) -> bool {
    let target = rule.register.unwrap_or(of.register);
    shown_at(of, rule).is_some_and(|shown| shown.table.is_bits() == target.table.is_bits())
}

fn rule(keys: &Keys<'_>, of: Of, desk: &mut Desk<'_>) -> WriteRule {
    let mut rule = WriteRule::default();
    limits(keys, &mut rule, desk);
    rule.register = if keys.has("register") { point::place(keys, "register", desk) } else { None };
    rule.verify_register = if keys.has("verify_register") { point::place(keys, "verify_register", desk) } else { None };
    rule.group = keys.text("group", &mut desk.out).map(|t| t.it.to_owned());
    rule.pre = fixed::check(keys, "pre", desk);
    verify(keys, of, &mut rule, desk);
    function(keys, of, &mut rule, desk);
    rule.refresh = refresh(keys, rule.if_changed, desk);
    rule
}

fn limits(keys: &Keys<'_>, rule: &mut WriteRule, desk: &mut Desk<'_>) {
    let out = &mut desk.out;
    (rule.min, rule.max) = (keys.number("min", out), keys.number("max", out));
    if let (Some(lo), Some(hi)) = (rule.min, rule.max)
        && lo > hi
    {
        out.error(Code::MinAboveMax, keys.value_at("min"), keys.key("min"), format!("`min` {lo} is above `max` {hi}"))
            .because("no value fits between them")
            .want(format!("min = {hi}, max = {lo}"));
    }
    rule.min_interval = keys.duration("min_interval", Duration::ZERO..=DAY, out).unwrap_or_default();
}

fn verify(keys: &Keys<'_>, of: Of, rule: &mut WriteRule, desk: &mut Desk<'_>) {
    let possible = can_verify(of, rule);
    let said = keys.flag("verify", &mut desk.out);
    rule.verify = said.unwrap_or(possible);
    rule.if_changed = keys.flag("if_changed", &mut desk.out).unwrap_or(false);
    let is_known = !(of.register.table.is_bits() && of.kind != DataType::Bool);
    for (key, wanted) in [("verify", said == Some(true)), ("if_changed", rule.if_changed)] {
        if wanted && !(possible && is_known) {
            desk.out
                .error(Code::BadWrite, keys.value_at(key), keys.key(key), format!("`{key}` needs to read what was written"))
                .because("nothing here shows it in the form in which it is written")
                .want_when("verify_register = \"holding:100\"", "if it can be read elsewhere")
                .want_when(format!("{key} = false"), "if it cannot be read");
        }
    }
    if rule.verify_register.is_some() && !possible {
        desk.out
            .error(
                Code::TypeMismatch,
                keys.value_at("verify_register"),
                keys.key("verify_register"),
                "it is read in another form than written",
            )
            .because("coils and discrete inputs are bits, the others are registers")
            .want("verify_register = a register of the same kind");
    }
}

fn function(keys: &Keys<'_>, of: Of, rule: &mut WriteRule, desk: &mut Desk<'_>) {
    rule.function = keys.integer("function", 1..=127, &mut desk.out).and_then(|f| u8::try_from(f).ok());
    let target = rule.register.unwrap_or(of.register);
    let possible: &[u8] = match (target.table.is_bits(), of.kind.words()) {
        (true, _) if of.kind != DataType::Bool => &[5],
        (true, _) => &[5, 15],
        (false, 1) if rule.group.is_some() => &[16],
        (false, 1) => &[6, 16, 22],
        (false, _) => &[16],
    };
    if let Some(f) = rule.function.filter(|f| !possible.contains(f)) {
        let list: Vec<String> = possible.iter().map(u8::to_string).collect();
        desk.out
            .error(
                Code::BadWrite,
                keys.value_at("function"),
                keys.key("function"),
                format!("function {f} cannot write {} at {target}", of.kind.word()),
            )
            .because("5 and 15 write coils, 6 one register, 16 several or a group, 22 some bits of one")
            .want(format!("function = {}", list.join(" or ")));
    }
    if target.table.is_bits() && !matches!(of.kind, DataType::Bool | DataType::U16) {
        desk.out
            .error(Code::TypeMismatch, keys.value_at("register"), keys.key("register"), format!("{target} cannot take {}", of.kind.word()))
            .because("coils are single bits")
            .want("register = \"holding:100\"");
    }
}

fn refresh(keys: &Keys<'_>, if_changed: bool, desk: &mut Desk<'_>) -> Option<Refresh> {
    let out = &mut desk.out;
    let every = keys.duration("refresh", Duration::from_millis(500)..=DAY, out);
    let lasts = keys.duration("refresh_for", Duration::from_secs(1)..=7 * DAY, out);
    let stop = keys.duration("refresh_stop", Duration::ZERO..=7 * DAY, out);
    if !keys.has("refresh") {
        for key in ["refresh_for", "refresh_stop"].into_iter().filter(|k| keys.has(k)) {
            out.error(Code::NoEffect, keys.key_at(key), keys.key(key), format!("`{key}` needs `refresh`"))
                .because("without it a value is written once")
                .want("refresh = \"10s\"");
        }
        return None;
    }
    let every = every?;
    let lasts = lasts.unwrap_or(REFRESH_FOR.max(every * 2));
    if lasts < every {
        out.error(Code::NoEffect, keys.value_at("refresh_for"), keys.key("refresh_for"), "it ends before the first refresh")
            .because("it counts from the command")
            .want(format!("refresh_for = \"{}\"", words::duration_text(every * 2)));
    }
    if if_changed {
        out.error(Code::NoEffect, keys.value_at("if_changed"), keys.key("if_changed"), "a watchdog must be written though nothing changes")
            .because("`if_changed` would leave every refresh out")
            .want("if_changed = false");
    }
    Some(Refresh { every, lasts, stop: stop.unwrap_or(lasts) })
}
