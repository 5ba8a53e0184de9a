//! Counters of whole devices: marks what is suspect and adds the points of the increases. On the hot path, so devices
//! without counters pass untouched, and the longer list of points is made once for each request.

use super::{super::requests::Requests, Counter, Rule, Step};
use crate::model::{DeviceId, PointId, Quality, Reading, Value};
use std::{collections::BTreeMap, sync::Arc};

/// Requests of one device whose lists of points are remembered. More (a plan that changes for ever): they are made afresh.
const REQUESTS: usize = 4096;

#[derive(Debug, Default)]
pub struct Counters {
    devices: BTreeMap<DeviceId, Device>,
}

#[derive(Debug)]
struct Device {
    points: BTreeMap<PointId, Point>,
    requests: Requests<Request>,
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
            self.devices.insert(device.clone(), Device { points, requests: Requests::up_to(REQUESTS) });
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
        let Device { points, requests } = self;
        let (names, request) = requests.of(&reading.points, || Request::new(&reading.points, points));
        if request.counted.is_empty() {
            return reading;
        }
        let width = reading.values.len();
        let mut qualities: Vec<Quality> = (0..width).map(|n| reading.quality_of(n)).collect();
        for n in &request.counted {
            let (Some(value), Some(point)) = (reading.values.get(*n), points.get_mut(&names[*n])) else { continue };
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
}

impl Request {
    fn new(names: &[PointId], points: &BTreeMap<PointId, Point>) -> Request {
        let counted: Vec<usize> = (0..names.len()).filter(|n| points.contains_key(&names[*n])).collect();
        let deltas = counted.iter().filter_map(|n| points[&names[*n]].delta.clone());
        let longer = names.iter().cloned().chain(deltas).collect();
        Request { counted, longer }
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
