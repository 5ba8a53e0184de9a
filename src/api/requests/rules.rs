//! `{"rules":{}}`: every rule with its condition, what follows from it, and how it was last judged.
//! `{"rule":{"id":"frost","on":false,"by":"anna"}}`: switched off, or on again.

use crate::{
    api::{control::refuse, json::plain, status::Sources},
    engine::{RuleError, Switch},
    model::{Boot, RuleAction, RuleId, RuleView},
};
use serde_json::{Value, json};

pub async fn answer(sources: &Sources) -> Value {
    let Some(views) = sources.engine.rules().await else { return refuse("stopping", "the daemon is stopping") };
    let (reading, _) = sources.store.clock();
    let wall = |at: Boot| reading.wall(at).0;
    let rules: Vec<Value> = sources.rules.iter().zip(&views).map(|(asked, view)| rule(asked, view, &wall)).collect();
    json!({"v": 1, "now_ms": wall(sources.clock.now()), "rules": rules})
}

fn rule(asked: &crate::config::Rule, view: &RuleView, wall: &impl Fn(Boot) -> i64) -> Value {
    let tests = view.tests.iter().map(|t| {
        let values = t.values.iter().map(|(text, at)| json!({"text": text, "at_ms": at.map(wall)}));
        json!({"text": t.test.to_string(), "truth": t.truth, "values": values.collect::<Vec<_>>()})
    });
    let memory = &view.memory;
    json!({
        "id": view.id, "when": asked.when.text, "unless": asked.unless.as_ref().map(|u| &u.text),
        "for_s": asked.pace.hold.as_secs_f64(), "hysteresis": asked.pace.hysteresis, "cooldown_s": asked.pace.cooldown.as_secs_f64(),
        "then": asked.actions.iter().map(action).collect::<Vec<_>>(),
        "truth": view.truth, "fired": memory.fired, "off": memory.off, "count": memory.count, "waits": view.waits,
        "fired_ms": memory.fired_at.map(wall), "looked_ms": view.looked.map(wall), "tests": tests.collect::<Vec<_>>(),
    })
}

fn action(action: &RuleAction) -> Value {
    match action {
        RuleAction::Write { device, point, value } => json!({"write": {"device": device, "point": point, "value": plain(value)}}),
        RuleAction::Alarm { severity, text } => json!({"alarm": {"severity": severity, "text": text}}),
        RuleAction::Publish { topic, payload, retain } => json!({"publish": {"topic": topic, "payload": payload, "retain": retain}}),
        RuleAction::Webhook(name) => json!({"webhook": name}),
    }
}

#[derive(serde::Deserialize)]
struct Wanted {
    id: RuleId,
    on: bool,
    by: String,
}

pub async fn switch(asked: &Value, sources: &Sources) -> Value {
    let Wanted { id, on, by } = match serde_json::from_value(asked.clone()) {
        Ok(wanted) => wanted,
        Err(e) => return refuse("unreadable", &format!("a switch names id, on and by: {e}")),
    };
    match sources.engine.switch_rule(Switch { rule: id.clone(), on, by }).await {
        Ok(()) => json!({"v": 1, "id": id, "on": on}),
        Err(error) => {
            let code = match error {
                RuleError::Unknown(_) => "unknown-rule",
                RuleError::NotStored => "not-stored",
                RuleError::Stopping => "stopping",
            };
            refuse(code, &error.to_string())
        }
    }
}
