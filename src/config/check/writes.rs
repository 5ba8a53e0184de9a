//! What the writes of one device must be together: groups of points, and units that nobody can hear.

use super::Desk;
use crate::config::{
    Device, Point, WriteRule,
    device::{DataType, Table},
    keys::Keys,
    problem::Code,
    source::Place,
};
use std::{collections::BTreeMap, sync::Arc};

/// Registers that one request of function 16 writes.
const WORDS_MAX: u32 = 123;

pub fn check(keys: &Keys<'_>, device: &mut Device, desk: &mut Desk<'_>) {
    if device.broadcast {
        broadcast(keys, device, desk);
    }
    let mut groups: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    for point in device.points.iter() {
        if let Some(name) = point.write.as_ref().and_then(|w| w.group.as_deref()) {
            groups.entry(name).or_default().push(point);
        }
    }
    for (name, points) in groups {
        group(keys, name, &points, device.max_words, desk);
    }
}

fn place(keys: &Keys<'_>, point: &Point) -> (Place, String) {
    let trail = keys.trail.then("point");
    let at = keys.entry("point").and_then(|e| e.node.table()).and_then(|t| t.get(point.id.as_str())).map_or(keys.at, |e| e.at);
    (at, trail.then(point.id.as_str()).to_string())
}

/// `points` by address. Nothing between the first and the last may be free: the request would overwrite it.
fn group(keys: &Keys<'_>, name: &str, points: &[&Point], max_words: u16, desk: &mut Desk<'_>) {
    let first = u32::from(points[0].register.address);
    let mut end = first;
    for point in points {
        let (at, key) = place(keys, point);
        let rule = point.write.clone().unwrap_or_default();
        if point.register.table != Table::Holding || rule.register.is_some() || !point.read {
            desk.out
                .error(Code::BadWriteGroup, at, key, format!("{} cannot be in group `{name}`", point.id))
                .because("a group is holding registers that are read and written at the same place")
                .want("write = { … } without `group`");
            return;
        }
        let start = u32::from(point.register.address);
        let overlaps = start < end && !(matches!(point.kind, DataType::Bits(_)) && start + 1 == end);
        if start > end || overlaps {
            let what = if overlaps { "overlaps the one before it" } else { "does not follow the one before it" };
            desk.out
                .error(Code::BadWriteGroup, at, key, format!("{} at {} {what} in group `{name}`", point.id, point.register))
                .because("the registers of a group go out in one request, without gaps")
                .want_when(format!("a point for holding:{end}"), "if that register may be read and written too")
                .want_when("another group", "if they are not written together");
            return;
        }
        end = start + u32::from(point.kind.words());
    }
    let (words, most) = (end - first, WORDS_MAX.min(max_words.into()));
    if words > most {
        let (at, key) = place(keys, points[0]);
        desk.out
            .error(Code::BadWriteGroup, at, key, format!("group `{name}` has {words} registers"))
            .because(format!("one request writes {WORDS_MAX}, and this device lets {max_words} be read before"))
            .want("two groups");
    }
}

/// Nothing answers: nothing can be read, kept or confirmed.
fn broadcast(keys: &Keys<'_>, device: &mut Device, desk: &mut Desk<'_>) {
    for point in Arc::make_mut(&mut device.points) {
        let (at, key) = place(keys, point);
        let Some(rule) = &mut point.write else {
            desk.out
                .error(Code::BadWrite, at, key, format!("{} cannot be read from all units at once", point.id))
                .because("unit 0 is a broadcast on this line: all units carry it out and none answers")
                .want_when("write = true", "if it is written")
                .want_when("unit = 1", "if it is one unit");
            continue;
        };
        let asks_for = needs_an_answer(rule, point.kind);
        (point.read, rule.verify) = (false, false);
        if let Some(what) = asks_for {
            desk.out
                .error(Code::BadWrite, at, key, format!("{what} needs an answer, and unit 0 has none"))
                .because("unit 0 is a broadcast on this line: all units carry it out and none answers")
                .want_when("functions 5, 6, 15 and 16 of whole registers", "to all units")
                .want_when("unit = 1", "for one unit");
        }
    }
}

fn needs_an_answer(rule: &WriteRule, kind: DataType) -> Option<&'static str> {
    match () {
        () if rule.raw.is_some() => Some("`raw`"),
        () if rule.function == Some(22) => Some("function 22"),
        () if matches!(kind, DataType::Bits(_)) => Some("keeping the other bits of a register"),
        () if rule.if_changed => Some("`if_changed`"),
        () if rule.verify_register.is_some() => Some("`verify_register`"),
        () if rule.group.is_some() => Some("`group`"),
        () => None,
    }
}
