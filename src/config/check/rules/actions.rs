//! What a rule does: `write`, `alarm`, `publish` and `webhook` beside `when`, or in `then`, one table or a list of them.

use super::{Desk, places};
use crate::{
    config::{
        Config,
        check::{id, route},
        keys::{Keys, Placed},
        nearest,
        problem::Code,
        tree::{Content, Node},
    },
    limits,
    model::{DeviceId, PointId, RuleAction, Urgency, Value},
};

const KINDS: &[&str] = &["write", "alarm", "publish", "webhook"];
const EXAMPLE: &str = "[{ write = { device = \"relays\", point = \"k1\", value = true } }]";
const WRITE: &str = "{ device = \"relays\", point = \"k1\", value = true }";
const ALARM: &str = "{ severity = \"critical\", text = \"flow too cold\" }";
const PUBLISH: &str = "{ topic = \"site/frost\", payload = \"1\" }";

pub fn check(keys: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Vec<RuleAction> {
    let errors = desk.out.errors();
    let mut actions = of(keys, config, desk);
    if let Some(entry) = keys.entry("then") {
        let trail = keys.trail.then("then");
        let list = match &entry.node.value {
            Content::Table(_) => std::slice::from_ref(&entry.node),
            _ => keys.list("then", EXAMPLE, &mut desk.out).unwrap_or_default(),
        };
        for node in list {
            let Some(table) = node.table() else {
                keys.wrong("then", node, "a table or a list of tables", EXAMPLE, &mut desk.out);
                continue;
            };
            let at = if list.len() == 1 { entry.at } else { node.at };
            let inner = Keys::open(table, at, &trail, "`then`", KINDS, &mut desk.out);
            let made = of(&inner, config, desk);
            if table.is_empty() {
                nothing(&inner, desk);
            }
            actions.extend(made);
        }
    }
    if actions.is_empty() && errors == desk.out.errors() {
        nothing(keys, desk);
    }
    let alarms = actions.iter().filter(|a| matches!(a, RuleAction::Alarm { .. })).count();
    if alarms > 1 {
        desk.out
            .error(Code::DuplicateKey, keys.at, keys.trail, format!("{alarms} alarms in one rule"))
            .because("a rule has one alarm, which is raised and cleared with it")
            .want("two rules with the same `when`");
    }
    if actions.len() > limits::RULE_ACTIONS {
        desk.out
            .error(Code::TooMany, keys.at, keys.trail, format!("{} actions in one rule", actions.len()))
            .because(format!("at most {}", limits::RULE_ACTIONS))
            .want("two rules with the same `when`");
    }
    actions
}

fn nothing(keys: &Keys<'_>, desk: &mut Desk<'_>) {
    desk.out
        .error(Code::MissingKey, keys.at, keys.trail, format!("{} does nothing", keys.trail))
        .because("`write`, `alarm`, `publish` or `webhook` is missing")
        .want(format!("write = {WRITE}"))
        .want(format!("alarm = {ALARM}"));
}

/// In the order write, alarm, publish, webhook.
fn of(keys: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Vec<RuleAction> {
    [write(keys, config, desk), alarm(keys, desk), publish(keys, config, desk), webhook(keys, config, desk)].into_iter().flatten().collect()
}

fn write(keys: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Option<RuleAction> {
    let (table, at) = keys.sub("write", WRITE, &mut desk.out)?;
    let trail = keys.trail.then("write");
    let inner = Keys::open(table, at, &trail, "`write` of a rule", &["device", "point", "value"], &mut desk.out);
    inner.require("device", "device = \"relays\"", &mut desk.out);
    inner.require("point", "point = \"k1\"", &mut desk.out);
    inner.require("value", "value = true", &mut desk.out);
    let device = inner.text("device", &mut desk.out).and_then(|t| id(t.it, t.at, inner.key("device"), DeviceId::parse, desk));
    let point = inner.text("point", &mut desk.out);
    let value = inner.entry("value").and_then(|e| value(&inner, &e.node, desk));
    let (device, point, value) = (device?, point?, value?);
    let target = id(point.it, point.at, inner.key("point"), PointId::parse, desk)?;
    if places::device(config, &device, inner.value_at("device"), &inner.key("device"), desk) {
        writable(&inner, config, &device, &target, &point, desk);
    }
    Some(RuleAction::Write { device, point: target, value })
}

/// A configured device says which of its points may be written.
fn writable(keys: &Keys<'_>, config: &Config, device: &DeviceId, point: &PointId, written: &Placed<&str>, desk: &mut Desk<'_>) {
    let all: Vec<(&PointId, bool)> = if let Ok(n) = config.devices.binary_search_by(|d| d.id.cmp(device)) {
        let device = &config.devices[n];
        if device.sunspec.is_some() && device.points.is_empty() {
            return;
        }
        device.points.iter().map(|p| (&p.id, p.write.is_some())).collect()
    } else if let Ok(n) = config.framed.binary_search_by(|d| d.id.cmp(device)) {
        config.framed[n].points.iter().map(|p| (&p.id, p.write.is_some())).collect()
    } else {
        return;
    };
    match all.iter().find(|(id, _)| *id == point) {
        Some((_, true)) => {}
        Some((_, false)) => {
            desk.out
                .error(Code::BadWrite, written.at, keys.key("point"), format!("{device}.{point} may not be written"))
                .because("the point has no `write`")
                .want(format!("[device.{device}.point.{point}] write = true"));
        }
        None => {
            let near = nearest(point.as_str(), all.iter().filter(|(_, w)| *w).map(|(id, _)| id.as_str()));
            let because = near.map_or_else(|| format!("{device} has no such point"), |n| format!("did you mean `{n}`?"));
            let p = desk.out.error(Code::UnknownPoint, written.at, keys.key("point"), format!("there is no point `{device}.{point}`"));
            p.because(because).want(format!("point = \"{}\"", near.unwrap_or("k1")));
        }
    }
}

fn value(keys: &Keys<'_>, node: &Node, desk: &mut Desk<'_>) -> Option<Value> {
    match &node.value {
        Content::Flag(on) => Some(Value::Bool(*on)),
        Content::Int(n) => Some(Value::Int(*n)),
        Content::Float(v) if v.is_finite() => Some(Value::Float(*v)),
        Content::Text(text) => Some(Value::Text(text.as_str().into())),
        _ => {
            keys.wrong("value", node, "a number, true, false or a text", "true", &mut desk.out);
            None
        }
    }
}

fn alarm(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<RuleAction> {
    let (table, at) = keys.sub("alarm", ALARM, &mut desk.out)?;
    let trail = keys.trail.then("alarm");
    let inner = Keys::open(table, at, &trail, "`alarm` of a rule", &["severity", "text"], &mut desk.out);
    inner.require("text", "text = \"flow too cold\"", &mut desk.out);
    let words = Urgency::ALL.map(|u| (u.word(), u));
    let severity = inner.word("severity", &words, &mut desk.out).unwrap_or(Urgency::Warning);
    Some(RuleAction::Alarm { severity, text: short(&inner, "text", desk)? })
}

fn publish(keys: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Option<RuleAction> {
    let (table, at) = keys.sub("publish", PUBLISH, &mut desk.out)?;
    let trail = keys.trail.then("publish");
    let inner = Keys::open(table, at, &trail, "`publish` of a rule", &["topic", "payload", "retain"], &mut desk.out);
    inner.require("topic", "topic = \"site/frost\"", &mut desk.out);
    let topic = inner.text("topic", &mut desk.out);
    let payload = if inner.has("payload") { short(&inner, "payload", desk) } else { Some(String::new()) };
    let retain = inner.flag("retain", &mut desk.out).unwrap_or(false);
    if config.mqtt.is_none() {
        desk.out
            .error(Code::NoEffect, at, keys.key("publish"), "there is no local broker to publish to")
            .because("[mqtt] is missing")
            .want("[mqtt]\nlisten = \"127.0.0.1:1883\"");
    }
    let topic = topic?;
    let wild = topic.it.contains(['+', '#']);
    if wild || route::filter_fault(topic.it).is_err() {
        desk.out
            .error(Code::BadTopic, topic.at, inner.key("topic"), format!("`{}` is no topic", topic.it))
            .because("a message goes to one topic: no + and #, 1 to 1,024 characters")
            .want("topic = \"site/frost\"");
        return None;
    }
    Some(RuleAction::Publish { topic: topic.it.to_owned(), payload: payload?, retain })
}

/// One of those that there are.
fn webhook(keys: &Keys<'_>, config: &Config, desk: &mut Desk<'_>) -> Option<RuleAction> {
    let name = keys.text("webhook", &mut desk.out)?;
    if config.webhooks.iter().any(|w| w.name == name.it) {
        return Some(RuleAction::Webhook(name.it.to_owned()));
    }
    let near = nearest(name.it, config.webhooks.iter().map(|w| w.name.as_str()));
    let because = near.map_or_else(|| format!("[webhook.{}] is missing", name.it), |n| format!("did you mean `{n}`?"));
    desk.out
        .error(Code::UnknownTarget, name.at, keys.key("webhook"), format!("there is no webhook `{}`", name.it))
        .because(because)
        .want(near.map_or_else(|| format!("[webhook.{}]\nurl = \"https://…\"", name.it), |n| format!("webhook = \"{n}\"")));
    None
}

fn short(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<String> {
    let text = keys.text(key, &mut desk.out)?;
    if text.it.len() > limits::RULE_TEXT {
        desk.out
            .error(Code::TooMany, text.at, keys.key(key), format!("`{key}` has {} bytes", text.it.len()))
            .because(format!("at most {}", limits::RULE_TEXT))
            .want(format!("{key} = \"…\""));
        return None;
    }
    Some(text.it.to_owned())
}
