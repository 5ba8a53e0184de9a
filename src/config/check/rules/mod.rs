//! `[rule.*]`: the condition, its pace, and what follows; and what rules do to each other.

mod actions;
pub mod places;

use super::{Desk, analytics, id, things};
use crate::{
    config::{
        Config, Rule,
        condition::{self, Fault},
        keys::{Keys, Placed},
        problem::Code,
        source::Place,
    },
    limits,
    model::{Analysis, Condition, Pace, RuleAction, RuleId},
};
use std::time::Duration;

const KEYS: &[&str] = &["when", "unless", "for", "hysteresis", "cooldown", "write", "alarm", "publish", "webhook", "then"];
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Rules and what is computed for them, once it is known which devices there are.
pub fn check(root: &Keys<'_>, config: &mut Config, desk: &mut Desk<'_>) {
    let analyses = analytics::check(root, config, desk);
    let mut rules: Vec<(Rule, Place)> = Vec::new();
    let section = root.trail.then("rule");
    for (name, table, at) in things(root, "rule", desk) {
        if rules.len() >= limits::RULES {
            desk.out
                .error(Code::TooMany, at, format!("rule.{name}"), format!("more than {} rules", limits::RULES))
                .because("one gateway takes so many")
                .want("join rules that do the same with `or`");
            break;
        }
        let trail = section.then(name);
        let id = id(name, at, trail, RuleId::parse, desk);
        let keys = Keys::open(table, at, &trail, "a rule", KEYS, &mut desk.out);
        let rule = one(&keys, id, config, &analyses, desk);
        rules.extend(rule.map(|rule| (rule, at)));
    }
    circles(&rules, desk);
    config.rules = rules.into_iter().map(|(rule, _)| rule).collect();
    config.analytics = analyses;
}

fn one(keys: &Keys<'_>, id: Option<RuleId>, config: &Config, analyses: &[Analysis], desk: &mut Desk<'_>) -> Option<Rule> {
    keys.require("when", "when = \"boiler.flow_temp < 5\"", &mut desk.out);
    let when = condition(keys, "when", config, analyses, desk);
    let unless = condition(keys, "unless", config, analyses, desk);
    let out = &mut desk.out;
    let hold = keys.duration("for", Duration::ZERO..=WEEK, out).unwrap_or_default();
    let cooldown = keys.duration("cooldown", Duration::ZERO..=WEEK, out).unwrap_or_default();
    let hysteresis = not_negative(keys, "hysteresis", desk).unwrap_or(0.0);
    let pace = Pace { hold, hysteresis, cooldown };
    if let Some(when) = when.as_ref().filter(|_| hysteresis > 0.0) {
        let is_order = |t: &crate::model::Test| {
            use crate::model::Test::{Points, State, Value};
            match t {
                Value(_, how, _) | Points(_, how, _) => how.is_order(),
                State(..) => false,
            }
        };
        if !when.tests.iter().chain(unless.iter().flat_map(|u| &u.tests)).any(is_order) {
            desk.out
                .warning(Code::NoEffect, keys.key_at("hysteresis"), keys.key("hysteresis"), "nothing here comes back by degrees")
                .because("it widens <, <=, > and >=")
                .want("take it out");
        }
    }
    let actions = actions::check(keys, config, desk);
    let rule = Rule { id: id?, when: when?, unless, pace, actions };
    itself(keys, &rule, desk);
    Some(rule)
}

pub fn not_negative(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<f64> {
    let n = keys.number(key, &mut desk.out)?;
    if n < 0.0 {
        desk.out
            .error(Code::OutOfRange, keys.value_at(key), keys.key(key), format!("`{key}` is {n}, below 0"))
            .because("it is a distance")
            .want(format!("{key} = {}", -n));
        return None;
    }
    Some(n)
}

fn condition(keys: &Keys<'_>, key: &str, config: &Config, analyses: &[Analysis], desk: &mut Desk<'_>) -> Option<Condition> {
    let text = keys.text(key, &mut desk.out)?;
    match condition::parse(text.it) {
        Ok(condition) => {
            places::check(&condition, &text, &keys.key(key), config, analyses, desk);
            Some(condition)
        }
        Err(fault) => {
            let at = inside(&text, &fault, desk);
            let Fault { at: column, message, want, .. } = fault;
            desk.out
                .error(Code::BadCondition, at, keys.key(key), format!("`{key}` is no condition: {message}"))
                .because(format!("at column {} of the text", column + 1))
                .want(want);
            None
        }
    }
}

/// The characters of the text that are meant, where it stands in the file as it is.
fn inside(text: &Placed<&str>, fault: &Fault, desk: &Desk<'_>) -> Place {
    let written = desk.out.sources.slice(text.at);
    let plain = written.len() == text.it.len() + 2 && written.get(1..written.len() - 1) == Some(text.it);
    let byte = |chars: usize| text.it.char_indices().nth(chars).map_or(text.it.len(), |(at, _)| at);
    let at = |byte: usize| text.at.start + 1 + u32::try_from(byte).unwrap_or(0);
    if !plain {
        return text.at;
    }
    let (start, end) = (at(byte(fault.at)), at(byte(fault.at + fault.length)));
    Place { start: start.min(text.at.end - 1), end: end.max(start + 1).min(text.at.end), ..text.at }
}

fn writes(rule: &Rule) -> impl Iterator<Item = (&crate::model::DeviceId, &crate::model::PointId)> {
    rule.actions.iter().filter_map(|a| match a {
        RuleAction::Write { device, point, .. } => Some((device, point)),
        RuleAction::Alarm { .. } | RuleAction::Publish { .. } | RuleAction::Webhook(_) => None,
    })
}

/// A rule that changes what it watches would see its own doing.
fn itself(keys: &Keys<'_>, rule: &Rule, desk: &mut Desk<'_>) {
    for (device, point) in writes(rule) {
        if rule.points().any(|p| p.device == *device && p.point == *point) {
            desk.out
                .error(
                    Code::RuleLoop,
                    keys.key_at("when"),
                    keys.key("when"),
                    format!("rule {} writes {device}.{point}, which it watches", rule.id),
                )
                .because("its own write would be its next cause")
                .want("leave that point out of `when` and `unless`: a rule fires once for one cause anyway");
        }
    }
}

/// Rules that feed each other in a circle may be meant so; at run time they are stopped when they do not come to rest.
fn circles(rules: &[(Rule, Place)], desk: &mut Desk<'_>) {
    let feeds = |a: &Rule, b: &Rule| writes(a).any(|(d, p)| b.points().any(|r| r.device == *d && r.point == *p));
    let next: Vec<Vec<usize>> = rules.iter().map(|(a, _)| (0..rules.len()).filter(|n| feeds(a, &rules[*n].0)).collect()).collect();
    for (first, (rule, at)) in rules.iter().enumerate() {
        // All that it reaches through others; itself alone is an error of its own.
        let mut reached: Vec<bool> = vec![false; rules.len()];
        let mut open: Vec<usize> = next[first].iter().copied().filter(|n| *n != first).collect();
        while let Some(n) = open.pop() {
            if !std::mem::replace(&mut reached[n], true) {
                open.extend(next[n].iter().copied().filter(|m| *m != n));
            }
        }
        if reached[first] && reached.iter().position(|r| *r) == Some(first) {
            let others: Vec<&str> = (0..rules.len()).filter(|n| *n != first && reached[*n]).map(|n| rules[n].0.id.as_str()).collect();
            desk.out
                .warning(
                    Code::RuleLoop,
                    *at,
                    format!("rule.{}", rule.id),
                    format!("rule {} watches what it changes through {}", rule.id, others.join(", ")),
                )
                .because(format!("more than {} firings a minute pause a rule, with an alarm", limits::RULE_FIRINGS))
                .want("a `cooldown`, or a condition that the others' writes do not change");
        }
    }
}
