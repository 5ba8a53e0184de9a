//! What of what was read goes upstream: report-on-change with a deadband, and at least every so often.
//!
//! A point is reported when it is new here, when its quality changed, when it changed to or from null, when it differs
//! from the last reported value by more than the deadband, or when that value is older than `at_least_every`. After a
//! device came back ([`Filter::forget`]) everything counts as new. Readings with nothing to report vanish; full ones
//! pass untouched and keep the shared list of points, so that the hot path copies nothing.
//! Absent on purpose: averaging and thinning.

use super::requests::Requests;
use crate::model::{Boot, DeviceId, PointId, Quality, Reading, Value};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Requests of one device whose last reports are remembered. More (a plan that changes for ever): the memory starts afresh.
const REQUESTS: usize = 4096;

/// How one point is reported. The default: every time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rule {
    pub on_change: bool,
    pub deadband: f64,
    pub at_least_every: Option<Duration>,
    /// What is computed of it is reported instead.
    pub never: bool,
}

impl Rule {
    const fn is_everything(&self) -> bool {
        !self.on_change && self.deadband <= 0.0 && self.at_least_every.is_none() && !self.never
    }
}

#[derive(Debug, Default)]
pub struct Filter {
    /// Only devices with at least one point that is not reported every time.
    devices: BTreeMap<DeviceId, Device>,
}

#[derive(Debug)]
struct Device {
    rules: BTreeMap<PointId, Rule>,
    requests: Requests<Request>,
}

/// The points that are read together, and what was last reported of each.
#[derive(Debug)]
struct Request {
    /// No point of it has a rule.
    everything: bool,
    slots: Vec<Slot>,
    /// The last part that was reported, so that the same part again shares its list of points.
    part: Option<(Vec<usize>, Arc<[PointId]>)>,
}

#[derive(Debug, Default)]
struct Slot {
    rule: Rule,
    last: Option<(Boot, Value, Quality)>,
}

impl Filter {
    /// Sets the rules of a device's points; those without one are reported every time.
    pub fn set(&mut self, device: &DeviceId, rules: impl IntoIterator<Item = (PointId, Rule)>) {
        let rules: BTreeMap<_, _> = rules.into_iter().filter(|(_, r)| !r.is_everything()).collect();
        if rules.is_empty() {
            self.devices.remove(device);
        } else {
            self.devices.insert(device.clone(), Device { rules, requests: Requests::up_to(REQUESTS) });
        }
    }

    /// The device came back: all of its values are news.
    pub fn forget(&mut self, device: &DeviceId) {
        if let Some(device) = self.devices.get_mut(device) {
            device.requests.clear();
        }
    }

    /// What of the reading is to be reported.
    pub fn pass(&mut self, reading: Reading) -> Option<Reading> {
        match self.devices.get_mut(&reading.device) {
            None => Some(reading),
            Some(Device { rules, requests }) => {
                let (_, request) = requests.of(&reading.points, || Request::new(&reading.points, rules));
                request.pass(reading)
            }
        }
    }
}

impl Request {
    fn new(points: &[PointId], rules: &BTreeMap<PointId, Rule>) -> Request {
        let slots: Vec<Slot> = points.iter().map(|p| Slot { rule: rules.get(p).copied().unwrap_or_default(), last: None }).collect();
        Request { everything: slots.iter().all(|s| s.rule.is_everything()), slots, part: None }
    }

    fn pass(&mut self, reading: Reading) -> Option<Reading> {
        if self.everything {
            return Some(reading);
        }
        let mut picked = vec![];
        for (n, (slot, value)) in self.slots.iter_mut().zip(&reading.values).enumerate() {
            if slot.take(reading.at, value, reading.quality_of(n)) {
                picked.push(n);
            }
        }
        if picked.len() == reading.values.len() {
            return Some(reading);
        }
        (!picked.is_empty()).then(|| self.pick(reading, picked))
    }

    fn pick(&mut self, reading: Reading, picked: Vec<usize>) -> Reading {
        let values = picked.iter().map(|n| reading.values[*n].clone()).collect();
        let quality: Vec<Quality> = picked.iter().map(|n| reading.quality_of(*n)).collect();
        let quality = quality.iter().any(|q| *q != Quality::Good).then_some(quality);
        let points = match &self.part {
            Some((same, points)) if *same == picked => Arc::clone(points),
            _ => {
                let points: Arc<[PointId]> = picked.iter().map(|n| reading.points[*n].clone()).collect();
                self.part = Some((picked, Arc::clone(&points)));
                points
            }
        };
        Reading { device: reading.device, at: reading.at, points, values, quality }
    }
}

impl Slot {
    /// Whether the value is to be reported; if so it is remembered as such.
    fn take(&mut self, at: Boot, value: &Value, quality: Quality) -> bool {
        if self.rule.is_everything() || self.rule.never {
            return !self.rule.never;
        }
        let report = match &self.last {
            None => true,
            Some((_, _, before)) if *before != quality => true,
            Some((_, before, _)) if self.differs(before, value) => true,
            Some((since, ..)) => self.rule.at_least_every.is_some_and(|every| at.since(*since) >= every),
        };
        if report {
            self.last = Some((at, value.clone(), quality));
        }
        report
    }

    fn differs(&self, before: &Value, value: &Value) -> bool {
        if before == value {
            return false;
        }
        match (before, value) {
            (Value::Bool(_), Value::Bool(_)) => true,
            _ => match (before.as_f64(), value.as_f64()) {
                (Some(a), Some(b)) if self.rule.deadband > 0.0 => (a - b).abs() > self.rule.deadband,
                _ => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str) -> PointId {
        PointId::parse(name).unwrap()
    }

    fn device() -> DeviceId {
        DeviceId::parse("d").unwrap()
    }

    const CHANGE: Rule = Rule { on_change: true, deadband: 0.0, at_least_every: None, never: false };
    const BAND: Rule = Rule { on_change: true, deadband: 0.5, at_least_every: None, never: false };
    const OFTEN: Rule = Rule { on_change: true, deadband: 0.5, at_least_every: Some(Duration::from_secs(60)), never: false };

    /// One point with a rule, values (second, value, quality) that come in: the seconds that are reported.
    #[track_caller]
    fn check(rule: Rule, values: &[(u64, Value, Quality)], want: &[u64]) {
        let mut filter = Filter::default();
        filter.set(&device(), [(point("p"), rule)]);
        let points: Arc<[PointId]> = [point("p")].into();
        let got: Vec<u64> = values
            .iter()
            .filter_map(|(s, value, quality)| {
                let quality = (*quality != Quality::Good).then(|| vec![*quality]);
                let points = Arc::clone(&points);
                filter.pass(Reading { device: device(), at: Boot::from_ms(s * 1000), points, values: vec![value.clone()], quality })
            })
            .map(|r| r.at.ms() / 1000)
            .collect();
        assert_eq!(got, want, "{rule:?} {values:?}");
    }

    fn floats(values: &[(u64, f64)]) -> Vec<(u64, Value, Quality)> {
        values.iter().map(|(s, v)| (*s, Value::Float(*v), Quality::Good)).collect()
    }

    #[test]
    fn a_value_is_reported_when_it_left_the_band_around_the_last_reported_one() {
        check(Rule::default(), &floats(&[(1, 1.0), (2, 1.0)]), &[1, 2]);
        check(CHANGE, &floats(&[(1, 1.0), (2, 1.0), (3, 1.1), (4, 1.1)]), &[1, 3]);
        check(BAND, &floats(&[(1, 1.0), (2, 1.4), (3, 1.5), (4, 1.6), (5, 1.2)]), &[1, 4]);
        check(Rule { on_change: false, ..BAND }, &floats(&[(1, 1.0), (2, 1.4)]), &[1]);
        // A slow drift is not lost: the band is around the last reported value.
        check(BAND, &floats(&[(1, 0.0), (2, 0.3), (3, 0.6), (4, 0.9), (5, 1.2)]), &[1, 3, 5]);
        check(OFTEN, &floats(&[(1, 1.0), (60, 1.0), (61, 1.0), (62, 1.0), (121, 1.0)]), &[1, 61, 121]);
    }

    #[test]
    fn a_change_of_kind_or_quality_is_always_reported() {
        use Quality::{Good, NotAvailable, Pending};
        let null = || Value::Null;
        check(
            BAND,
            &[(1, Value::Float(1.0), Good), (2, null(), NotAvailable), (3, null(), NotAvailable), (4, null(), Pending)],
            &[1, 2, 4],
        );
        check(BAND, &[(1, null(), NotAvailable), (2, Value::Float(0.0), Good)], &[1, 2]);
        check(BAND, &[(1, Value::Bool(false), Good), (2, Value::Bool(true), Good), (3, Value::Bool(true), Good)], &[1, 2]);
        check(BAND, &[(1, Value::Text("a".into()), Good), (2, Value::Text("b".into()), Good)], &[1, 2]);
        check(BAND, &[(1, Value::Uint(7), Good), (2, Value::Int(7), Good)], &[1]);
        check(Rule { deadband: 2.0, ..BAND }, &[(1, Value::Uint(7), Good), (2, Value::Uint(9), Good), (3, Value::Uint(10), Good)], &[1, 3]);
    }

    fn reading(points: &Arc<[PointId]>, s: u64, values: &[f64]) -> Reading {
        let values = values.iter().map(|v| Value::Float(*v)).collect();
        Reading { device: device(), at: Boot::from_ms(s * 1000), points: Arc::clone(points), values, quality: None }
    }

    #[test]
    fn a_part_keeps_values_with_their_points_and_shares_its_list() {
        let mut filter = Filter::default();
        filter.set(&device(), [(point("a"), CHANGE), (point("b"), CHANGE)]);
        let points: Arc<[PointId]> = [point("a"), point("b"), point("c")].into();
        let first = filter.pass(reading(&points, 1, &[1.0, 2.0, 3.0])).unwrap();
        assert!(Arc::ptr_eq(&first.points, &points), "a full reading is not copied");
        let second = filter.pass(reading(&points, 2, &[1.0, 5.0, 3.0])).unwrap();
        assert_eq!(*second.points, [point("b"), point("c")]);
        assert_eq!(second.values, [Value::Float(5.0), Value::Float(3.0)]);
        let third = filter.pass(reading(&points, 3, &[1.0, 6.0, 3.0])).unwrap();
        assert!(Arc::ptr_eq(&second.points, &third.points), "the same part shares its list");
        filter.forget(&device());
        assert_eq!(filter.pass(reading(&points, 4, &[1.0, 6.0, 3.0])).unwrap().values.len(), 3, "after a return all is news");
    }

    #[test]
    fn a_reading_with_nothing_to_report_vanishes() {
        let mut filter = Filter::default();
        filter.set(&device(), [(point("a"), CHANGE)]);
        let points: Arc<[PointId]> = [point("a")].into();
        assert!(filter.pass(reading(&points, 1, &[1.0])).is_some());
        assert!(filter.pass(reading(&points, 2, &[1.0])).is_none());
        // The same points under another list are the same request.
        let again: Arc<[PointId]> = [point("a")].into();
        assert!(filter.pass(reading(&again, 3, &[1.0])).is_none());
    }
}
