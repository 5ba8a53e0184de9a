//! Counters of whole devices: marks what is suspect and adds the points of the increases. On the hot path, so devices
//! without counters pass untouched, and the longer list of points is made once for each request.

use super::{Counter, Rule, Step};
use crate::model::{DeviceId, PointId, Quality, Reading, Value};
use std::{collections::BTreeMap, sync::Arc};

/// Requests of one device whose lists of points are remembered. More (a plan that changes for ever): they are made afresh.
const REQUESTS: usize = 4096;

#[derive(Debug, Default)]
pub struct Counters {
    devices: BTreeMap<DeviceId, Device>,
}

#[derive(Debug, Default)]
struct Device {
    points: BTreeMap<PointId, Point>,
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Point {
    rule: Rule,
    /// The point of its increase.
    delta: Option<PointId>,
    counter: Counter,
}

/// Points that are read together.
#[derive(Debug)]
struct Request {
    points: Arc<[PointId]>,
    counted: Vec<usize>,
    /// With the increases behind them.
    longer: Arc<[PointId]>,
}

impl Counters {
    /// The counters of a device, each with the point of its increase.
    pub fn set(&mut self, device: &DeviceId, rules: impl IntoIterator<Item = (PointId, Rule, Option<PointId>)>) {
        let points: BTreeMap<_, _> =
            rules.into_iter().map(|(id, rule, delta)| (id, Point { rule, delta, counter: Counter::default() })).collect();
        if points.is_empty() {
            self.devices.remove(device);
        } else {
            self.devices.insert(device.clone(), Device { points, requests: vec![] });
        }
    }

    /// The reading with what is known of its counters.
    pub fn pass(&mut self, reading: Reading) -> Reading {
        match self.devices.get_mut(&reading.device) {
            Some(device) => device.pass(reading),
            None => reading,
        }
    }
}

impl Device {
    fn pass(&mut self, mut reading: Reading) -> Reading {
        let at = self.request(&reading.points);
        let request = &self.requests[at];
        if request.counted.is_empty() {
            return reading;
        }
        let width = reading.values.len();
        let mut qualities: Vec<Quality> = (0..width).map(|n| reading.quality_of(n)).collect();
        for n in &request.counted {
            let (Some(value), Some(point)) = (reading.values.get(*n), self.points.get_mut(&request.points[*n])) else { continue };
            let (delta, quality) = match (qualities[*n], steps(value, point.rule.per_unit)) {
                (Quality::Good, Some(steps)) => match point.counter.step(&point.rule, reading.at, steps) {
                    Step::Increase(steps) => (increase(steps, point.rule.per_unit), Quality::Good),
                    Step::Base => (Value::Null, Quality::NotAvailable),
                    Step::Suspect => {
                        qualities[*n] = Quality::Suspect;
                        (Value::Null, Quality::Suspect)
                    }
                },
                (Quality::Good, None) => (Value::Null, Quality::Bad),
                (not_good, _) => (Value::Null, not_good),
            };
            if point.delta.is_some() {
                reading.values.push(delta);
                qualities.push(quality);
            }
        }
        reading.quality = qualities.iter().any(|q| *q != Quality::Good).then_some(qualities);
        reading.points = Arc::clone(&request.longer);
        reading
    }

    fn request(&mut self, points: &Arc<[PointId]>) -> usize {
        let same = self.requests.iter().position(|r| Arc::ptr_eq(&r.points, points));
        if let Some(at) = same.or_else(|| self.requests.iter().position(|r| r.points == *points)) {
            return at;
        }
        if self.requests.len() >= REQUESTS {
            self.requests.clear();
        }
        let counted: Vec<usize> = (0..points.len()).filter(|n| self.points.contains_key(&points[*n])).collect();
        let deltas = counted.iter().filter_map(|n| self.points[&points[*n]].delta.clone());
        let longer = points.iter().cloned().chain(deltas).collect();
        self.requests.push(Request { points: Arc::clone(points), counted, longer });
        self.requests.len() - 1
    }
}

/// The value in steps. Whole numbers stay exact beyond the 53 bits of a double.
#[allow(clippy::cast_possible_truncation)] // a float cast saturates, far above what counters reach
fn steps(value: &Value, per_unit: f64) -> Option<i128> {
    match value {
        Value::Int(v) => Some(i128::from(*v).saturating_mul(per_unit as i128)),
        Value::Uint(v) => Some(i128::from(*v).saturating_mul(per_unit as i128)),
        Value::Float(v) => Some((v * per_unit).round() as i128),
        Value::Null | Value::Bool(_) | Value::Text(_) => None,
    }
}

#[allow(clippy::cast_precision_loss)] // only where the value itself is a double
fn increase(steps: i128, per_unit: f64) -> Value {
    match u64::try_from(steps) {
        Ok(whole) if per_unit == 1.0 => Value::Uint(whole),
        _ => Value::Float(steps as f64 / per_unit),
    }
}
