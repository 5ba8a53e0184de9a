//! `[analytics.*]`: what is computed of one point, and the points that it makes.

use super::{Desk, id, rules, things};
use crate::{
    config::{Config, check::rules::places, condition, keys::Keys, problem::Code, words},
    limits,
    model::{Analysis, DeviceId, Figure, PointId, PointRef},
};
use std::{collections::BTreeSet, time::Duration};

const KEYS: &[&str] =
    &["point", "window", "figures", "replace", "moving_mean", "rate", "z_score", "stuck_after", "above", "below", "hysteresis"];
/// Of these at least one.
const WANTED: &[&str] = &["window", "moving_mean", "rate", "z_score", "stuck_after", "above", "below"];
const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

pub fn check(root: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Vec<Analysis> {
    let mut all: Vec<Analysis> = Vec::new();
    let mut made: BTreeSet<(DeviceId, PointId)> = BTreeSet::new();
    let section = root.trail.then("analytics");
    for (name, table, at) in things(root, "analytics", desk) {
        if all.len() >= limits::ANALYTICS {
            desk.out
                .error(Code::TooMany, at, format!("analytics.{name}"), format!("more than {} analytics", limits::ANALYTICS))
                .because("each keeps its windows in memory")
                .want("take some out");
            break;
        }
        let trail = section.then(name);
        id(name, at, trail, crate::model::RuleId::parse, desk);
        let keys = Keys::open(table, at, &trail, "analytics", KEYS, &mut desk.out);
        let Some(one) = one(&keys, name, config, desk) else { continue };
        fresh(&keys, &one, config, &mut made, desk);
        all.push(one);
    }
    all
}

fn one(keys: &Keys<'_>, name: &str, config: &Config, desk: &mut Desk<'_>) -> Option<Analysis> {
    let of = point(keys, config, desk);
    if !WANTED.iter().any(|k| keys.has(k)) {
        desk.out
            .error(Code::MissingKey, keys.at, keys.trail, format!("{} computes nothing", keys.trail))
            .because(format!("one of {} is missing", WANTED.join(", ")))
            .want("window = \"5m\"");
    }
    let out = &mut desk.out;
    let window = keys.duration("window", SECOND..=24 * 3600 * SECOND, out);
    let mut span = |key: &str| keys.duration(key, SECOND..=WEEK, out);
    let (moving_mean, rate, z_score) = (span("moving_mean"), span("rate"), span("z_score"));
    let stuck_after = span("stuck_after");
    let (above, below) = (keys.number("above", out), keys.number("below", out));
    let replace = keys.flag("replace", out).unwrap_or(false);
    let figures = figures(keys, desk);
    for key in ["replace", "figures"].into_iter().filter(|k| keys.has(k) && !keys.has("window")) {
        desk.out
            .error(Code::NoEffect, keys.key_at(key), keys.key(key), format!("`{key}` needs `window`"))
            .because("it is about what a window says")
            .want("window = \"5m\"");
    }
    if keys.has("hysteresis") && above.is_none() && below.is_none() {
        desk.out
            .error(Code::NoEffect, keys.key_at("hysteresis"), keys.key("hysteresis"), "`hysteresis` needs `above` or `below`")
            .because("it says how far a value must come back")
            .want("above = 80");
    }
    if let (Some(above), Some(below)) = (above, below)
        && below > above
    {
        desk.out
            .error(Code::MinAboveMax, keys.value_at("below"), keys.key("below"), format!("`below` {below} is higher than `above` {above}"))
            .because("a value between them would be both")
            .want(format!("above = {below}, below = {above}"));
    }
    let hysteresis = rules::not_negative(keys, "hysteresis", desk).unwrap_or(0.0);
    Some(Analysis {
        id: name.to_owned(),
        of: of?,
        window,
        figures,
        replace: replace && window.is_some(),
        moving_mean,
        rate,
        z_score,
        stuck_after,
        above,
        below,
        hysteresis,
    })
}

fn point(keys: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Option<PointRef> {
    keys.require("point", "point = \"boiler.flow_temp\"", &mut desk.out);
    let text = keys.text("point", &mut desk.out)?;
    let Some(of) = condition::reference(text.it) else {
        desk.out
            .error(Code::BadId, text.at, keys.key("point"), format!("`{}` is no point of a device", text.it))
            .because("device.point")
            .want("point = \"boiler.flow_temp\"");
        return None;
    };
    // What is computed is not computed again.
    places::point(config, &[], &of, text.at, &keys.key("point"), desk).then_some(of)
}

fn figures(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<Figure> {
    if !keys.has("figures") {
        return Figure::ALL.into();
    }
    let mut found: Vec<Figure> = Vec::new();
    for text in keys.texts("figures", &mut desk.out) {
        match Figure::ALL.into_iter().find(|f| f.word() == text.it) {
            Some(figure) => found.push(figure),
            None => {
                let all = Figure::ALL.map(Figure::word);
                desk.out
                    .error(Code::BadValue, text.at, keys.key("figures"), format!("a window has no `{}`", text.it))
                    .because(format!("possible here: {}", all.join(", ")))
                    .want("figures = [\"mean\", \"max\"]");
            }
        }
    }
    if found.is_empty() && keys.list("figures", "[\"mean\"]", &mut desk.out).is_some_and(<[_]>::is_empty) {
        desk.out
            .error(Code::BadValue, keys.value_at("figures"), keys.key("figures"), "`figures` is empty")
            .because("a window would say nothing")
            .want("figures = [\"mean\", \"max\"]");
    }
    // In one order, each once: they are read together.
    found.sort_unstable();
    found.dedup();
    found
}

/// The names of what is made are points of the device like others.
fn fresh(keys: &Keys<'_>, one: &Analysis, config: &Config, made: &mut BTreeSet<(DeviceId, PointId)>, desk: &mut Desk<'_>) {
    let names: Vec<&str> = one.names().collect();
    let points: Vec<PointId> = one.made().collect();
    if points.len() < names.len() {
        desk.out
            .error(Code::BadId, keys.value_at("point"), keys.key("point"), format!("the name of {} is too long", one.of))
            .because("with `.moving_mean` behind it, a point has 64 characters at most")
            .want("give the point a shorter name");
    }
    let read = places::points(config, &one.of.device).unwrap_or_default();
    for point in points {
        let is_new = made.insert((one.of.device.clone(), point.clone()));
        if !is_new || read.contains(&point) {
            let because = if is_new { "the device has a point of this name" } else { "two analytics make the same point" };
            desk.out
                .error(Code::DuplicateId, keys.at, keys.trail, format!("{}.{point} is there already", one.of.device))
                .because(because)
                .want("one [analytics.…] for each point");
        }
    }
    if let Some(window) = one.window.filter(|w| one.replace && *w > Duration::from_secs(3600)) {
        desk.out
            .warning(Code::NoEffect, keys.key_at("replace"), keys.key("replace"), "a power cut loses up to a whole window")
            .because(format!("with `replace` the samples of {} are only in memory until it ends", words::duration_text(window)))
            .want("window = \"15m\"");
    }
}
