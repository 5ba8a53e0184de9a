//! What a device may be asked for: which points can be written, with what, how often.

use crate::model::{Action, PointId, Value};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What a device takes.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Takes {
    /// No commands at all.
    #[default]
    Nothing,
    /// Any point and value: the device itself decides.
    Anything,
    /// These points and no others.
    Points(Arc<BTreeMap<PointId, PointRule>>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct PointRule {
    /// `None`: read only.
    pub write: Option<Box<WriteRule>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WriteRule {
    pub kind: Kind,
    /// In the point's own unit, the operator's limits and the type's range together.
    pub min: f64,
    pub max: f64,
    pub verify: bool,
    pub min_interval: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// true and false, also as 1 and 0.
    Switch,
    Number,
    /// One of these words, or a number as it is.
    Words(Vec<Arc<str>>),
    /// Any text; whether it fits, its encoder knows.
    Text,
}

impl Takes {
    /// Says in a sentence why the action is refused.
    pub fn allows(&self, action: &Action) -> Result<(), String> {
        match (self, action) {
            (_, Action::Write(values)) if values.is_empty() => Err("it names no point to write".into()),
            (_, Action::Run(_) | Action::Own(_) | Action::Cancel(_) | Action::Each(_)) => {
                Err("a device runs nothing of the gateway".into())
            }
            (_, Action::Acknowledge(_)) => Err("an alarm is acknowledged by the gateway, not by a device".into()),
            (Takes::Nothing, _) => Err("this device takes no commands".into()),
            (Takes::Anything, _) => Ok(()),
            (Takes::Points(points), Action::Write(values)) => values.iter().try_for_each(|(p, v)| writes(points, p, v)),
            (Takes::Points(points), Action::Read(wanted)) => match wanted.iter().find(|p| !points.contains_key(p)) {
                Some(point) => Err(format!("there is no point {point}")),
                None => Ok(()),
            },
        }
    }

    pub(super) fn min_interval(&self, point: &PointId) -> Duration {
        self.rule(point).map_or(Duration::ZERO, |w| w.min_interval)
    }

    /// The points to read back after the write.
    pub(super) fn verify(&self, action: &Action) -> Vec<PointId> {
        let Action::Write(values) = action else { return vec![] };
        values.keys().filter(|p| self.rule(p).is_some_and(|w| w.verify)).cloned().collect()
    }

    fn rule(&self, point: &PointId) -> Option<&WriteRule> {
        let Takes::Points(points) = self else { return None };
        points.get(point)?.write.as_deref()
    }
}

fn writes(points: &BTreeMap<PointId, PointRule>, point: &PointId, value: &Value) -> Result<(), String> {
    let Some(rule) = points.get(point) else { return Err(format!("there is no point {point}")) };
    let Some(rule) = &rule.write else { return Err(format!("{point} may not be written; its configuration has no `write`")) };
    let number = match (&rule.kind, value) {
        (Kind::Text, Value::Text(_)) => return Ok(()),
        (Kind::Words(words), Value::Text(word)) if words.contains(word) => return Ok(()),
        (Kind::Words(_), Value::Int(_) | Value::Uint(_) | Value::Bool(_)) => value.as_f64(),
        (Kind::Switch, Value::Bool(_)) | (Kind::Number, Value::Int(_) | Value::Uint(_) | Value::Float(_)) => value.as_f64(),
        (Kind::Switch, Value::Int(0 | 1) | Value::Uint(0 | 1)) => value.as_f64(),
        _ => None,
    };
    let Some(number) = number else {
        return Err(match &rule.kind {
            Kind::Switch => format!("{point} takes true or false"),
            Kind::Number => format!("{point} takes a number"),
            Kind::Text => format!("{point} takes a text"),
            Kind::Words(words) => format!("{point} takes {}", words.join(", ")),
        });
    };
    if number < rule.min {
        return Err(format!("{number} is below the least for {point}, {}", rule.min));
    }
    if number > rule.max {
        return Err(format!("{number} is above the most for {point}, {}", rule.max));
    }
    Ok(())
}
