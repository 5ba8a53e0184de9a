//! What `fieldgate trace` sees in the engine: the value, and whether it goes upstream. Only while somebody looks.

use super::Engine;
use crate::{
    model::{PointId, Reading, Value},
    system::tap::TAP,
};

impl Engine {
    #[cold]
    pub(super) fn sift_watched(&mut self, reading: Reading) -> Option<Reading> {
        let whole = reading.clone();
        let passed = self.filter.pass(reading);
        TAP.reading(&whole, self.clock.now(), |point, n| {
            let goes = passed.as_ref().is_some_and(|r| r.points.contains(point));
            (self.decoded(&whole, point, n), self.decided(&whole, point, goes))
        });
        passed
    }

    /// `f32 = 1284.2 W, good`
    fn decoded(&self, reading: &Reading, point: &PointId, n: usize) -> String {
        let value = match reading.values.get(n) {
            None | Some(Value::Null) => "no value".to_owned(),
            Some(Value::Bool(on)) => on.to_string(),
            Some(Value::Int(v)) => v.to_string(),
            Some(Value::Uint(v)) => v.to_string(),
            Some(Value::Float(v)) => v.to_string(),
            Some(Value::Text(text)) => format!("{text:?}"),
        };
        let quality = reading.quality_of(n).word();
        match self.point(reading, point) {
            Some(p) if p.unit.is_empty() => format!("{} as {} = {value}, {quality}", p.register, p.kind.word()),
            Some(p) => format!("{} as {} = {value} {}, {quality}", p.register, p.kind.word(), p.unit),
            None => format!("{value}, {quality}"),
        }
    }

    fn decided(&self, reading: &Reading, point: &PointId, goes: bool) -> Result<String, String> {
        let rule = self.point(reading, point).map(|p| p.report).unwrap_or_default();
        let filtered = rule.on_change || rule.deadband > 0.0 || rule.at_least_every.is_some();
        let replaced = |a: &crate::model::Analysis| a.replace && a.of.device == reading.device && a.of.point == *point;
        if self.config.analytics.iter().any(replaced) {
            return Err("its windows are sent instead of its samples".into());
        }
        match (goes, filtered, rule.deadband > 0.0) {
            (true, false, _) => Ok("every value of this point is sent".into()),
            (true, true, _) => Ok("it differs enough from the last one sent, or that one is old enough".into()),
            (false, _, true) => Err(format!("it changed by no more than its deadband {}; the next one is looked at", rule.deadband)),
            (false, _, false) => Err("it did not change; the next one is looked at".into()),
        }
    }

    fn point(&self, reading: &Reading, point: &PointId) -> Option<&crate::config::Point> {
        let n = self.config.devices.binary_search_by(|d| d.id.cmp(&reading.device)).ok()?;
        self.config.devices[n].points.iter().find(|p| p.id == *point)
    }
}
