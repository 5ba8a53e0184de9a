//! `counter = { … }`: what is known of a value that only counts up.

use super::Desk;
use crate::config::{
    Point, Problems,
    device::{Counter, DataType},
    keys::{Keys, Trail},
    problem::Code,
    table::Table,
    tree::Content,
};

const KEYS: &[&str] = &["modulo", "width", "reset", "delta", "confirm", "max_per_s"];

pub fn check(keys: &Keys<'_>, kind: DataType, scale: f64, desk: &mut Desk<'_>) -> Option<Counter> {
    let entry = keys.entry("counter")?;
    let counter = match &entry.node.value {
        Content::Flag(false) => return None,
        Content::Flag(true) => Counter::default(),
        Content::Table(table) => {
            let trail = keys.trail.then("counter");
            table_of(&Keys::open(table, entry.at, &trail, "a counter", KEYS, &mut desk.out), scale, desk)
        }
        _ => {
            keys.wrong("counter", &entry.node, "true or a table", "{ width = 32, delta = true }", &mut desk.out);
            return None;
        }
    };
    if !kind.is_number() {
        desk.out
            .error(Code::TypeMismatch, entry.at, keys.key("counter"), format!("a {} cannot count", kind.word()))
            .because("a counter is a number that grows")
            .want("take `counter` out");
        return None;
    }
    Some(counter)
}

fn table_of(keys: &Keys<'_>, scale: f64, desk: &mut Desk<'_>) -> Counter {
    let out = &mut desk.out;
    let default = Counter::default();
    let positive = |key: &str, out: &mut Problems| {
        let n = keys.number(key, out)?;
        if n > 0.0 {
            return Some(n);
        }
        out.error(Code::OutOfRange, keys.value_at(key), keys.key(key), format!("`{key}` is {n}"))
            .because("it is above 0, in the value's unit")
            .want(format!("{key} = 100000"));
        None
    };
    let modulo = positive("modulo", out);
    let max_per_s = positive("max_per_s", out);
    let width = keys.integer("width", 8..=64, out);
    if keys.has("modulo") && keys.has("width") {
        out.error(Code::NoEffect, keys.key_at("width"), keys.key("width"), "`modulo` and `width` on one counter")
            .because("both say where it rolls over")
            .want("keep one");
    }
    let by_width = width.and_then(|w| i32::try_from(w).ok()).map(|w| 2f64.powi(w) * scale.abs());
    let daily = keys.word("reset", &[("never", false), ("daily", true)], out).unwrap_or(default.daily);
    let delta = keys.flag("delta", out).unwrap_or(default.delta);
    let confirm = keys.integer("confirm", 2..=100, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(default.confirm);
    Counter { modulo: modulo.or(by_width), daily, delta, confirm, max_per_s }
}

/// The points that counters add must not be there already.
pub fn deltas(trail: &Trail<'_>, table: &Table, points: &[Point], desk: &mut Desk<'_>) {
    for point in points.iter().filter(|p| p.counter.is_some_and(|c| c.delta)) {
        let at = table.get(point.id.as_str()).map(|e| e.at);
        let Some(at) = at else { continue };
        match point.delta_id() {
            Some(id) if !table.contains_key(id.as_str()) => {}
            Some(id) => {
                desk.out
                    .error(Code::DuplicateId, at, trail.then(point.id.as_str()), format!("`{id}` is there twice"))
                    .because(format!("`counter.delta` of {} makes a point of that name", point.id))
                    .want_when("another name for that point", "or counter = { delta = false }");
            }
            None => {
                desk.out
                    .error(Code::BadId, at, trail.then(point.id.as_str()), format!("`{}_delta` is too long for an id", point.id))
                    .because("`counter.delta` makes a point of that name, and ids end at 64 characters")
                    .want("a shorter name for this point");
            }
        }
    }
}
