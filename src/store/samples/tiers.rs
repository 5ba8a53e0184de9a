//! What many samples were together: least, greatest, mean and how many. Pure.
//!
//! Slots begin at whole multiples of their width on the boot's clock. Parts of a slot that were written by two commits are
//! merged when they are read. Texts have no summary; a switch counts as 0 and 1, so its mean is the share of time it was on,
//! as far as it was read evenly.

use crate::model::{Boot, Frame, Row, Value};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub least: f64,
    pub greatest: f64,
    pub mean: f64,
    pub count: u64,
}

impl Summary {
    pub fn of(value: &Value) -> Option<Summary> {
        let v = number(value)?;
        Some(Summary { least: v, greatest: v, mean: v, count: 1 })
    }

    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
    pub fn merge(&mut self, other: Summary) {
        let count = self.count + other.count;
        self.mean += (other.mean - self.mean) * (other.count as f64 / count as f64);
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        self.count = count;
    }
}

#[allow(clippy::cast_precision_loss)] // a summary is no counter reading
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(on) => Some(f64::from(u8::from(*on))),
        Value::Int(v) => Some(*v as f64),
        Value::Uint(v) => Some(*v as f64),
        Value::Float(v) => Some(*v),
        Value::Null | Value::Text(_) => None,
    }
}

/// Adds to what is at `key` there.
pub fn add<K: Ord>(to: &mut BTreeMap<K, Summary>, key: K, more: Summary) {
    to.entry(key).and_modify(|s| s.merge(more)).or_insert(more);
}

/// The frame in slots: least, mean, greatest and count, each as a frame of the same points. `None`: it holds no numbers.
pub fn summarised(frame: &Frame, width_ms: u64) -> Option<[Frame; 4]> {
    let mut slots: BTreeMap<(u64, usize), Summary> = BTreeMap::new();
    for row in &frame.rows {
        let slot = row.at.ms() / width_ms * width_ms;
        for (n, value) in row.values.iter().enumerate() {
            if let Some(one) = Summary::of(value) {
                add(&mut slots, (slot, n), one);
            }
        }
    }
    let mut rows: [BTreeMap<u64, Row>; 4] = Default::default();
    for ((slot, n), s) in &slots {
        // Four bytes are enough for a mean.
        #[allow(clippy::cast_possible_truncation)]
        let mean = f64::from(s.mean as f32);
        for (rows, value) in
            rows.iter_mut().zip([Value::float(s.least), Value::float(mean), Value::float(s.greatest), Value::Uint(s.count)])
        {
            let empty = || Row { at: Boot::from_ms(*slot), values: vec![Value::Null; frame.points.len()], quality: None };
            rows.entry(*slot).or_insert_with(empty).values[*n] = value;
        }
    }
    let part = |rows: BTreeMap<u64, Row>| Frame { rows: rows.into_values().collect(), thin: None, ..shell(frame) };
    (!slots.is_empty()).then(|| rows.map(part))
}

fn shell(frame: &Frame) -> Frame {
    Frame { device: frame.device.clone(), points: frame.points.clone(), rows: Vec::new(), thin: None }
}

/// The other way round: each slot of each point. What is not of this form is left out.
pub fn summaries(frames: &[Frame]) -> impl Iterator<Item = (Boot, usize, Summary)> + '_ {
    let whole = |four: &&[Frame]| four.len() == 4 && four.iter().all(|f| f.rows.len() == four[0].rows.len());
    frames.chunks(4).filter(whole).flat_map(|four| {
        four[0].rows.iter().enumerate().flat_map(move |(n, row)| {
            (0..row.values.len()).filter_map(move |point| {
                let value = |part: usize| four[part].rows[n].values.get(point).and_then(number);
                let count = match four[3].rows[n].values.get(point) {
                    Some(Value::Uint(count)) => *count,
                    Some(Value::Int(count)) => u64::try_from(*count).ok()?,
                    _ => return None,
                };
                Some((row.at, point, Summary { least: value(0)?, mean: value(1)?, greatest: value(2)?, count }))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, PointId};
    use proptest::prelude::*;

    fn frame(rows: &[(u64, Vec<Value>)]) -> Frame {
        let points = (0..rows[0].1.len()).map(|n| PointId::parse(&format!("p{n}")).unwrap()).collect();
        let rows = rows.iter().map(|(ms, values)| Row { at: Boot::from_ms(*ms), values: values.clone(), quality: None });
        Frame { device: DeviceId::parse("d").unwrap(), points, rows: rows.collect(), thin: None }
    }

    #[test]
    fn a_slot_holds_what_was_in_it_and_texts_are_left_out() {
        let text = Value::Text("on".into());
        let rows = [
            (59_999, vec![Value::Int(4), text.clone(), Value::Bool(true)]),
            (60_000, vec![Value::Float(1.5), text.clone(), Value::Bool(false)]),
            (119_000, vec![Value::Float(2.5), text.clone(), Value::Bool(true)]),
            (119_500, vec![Value::Null, text, Value::Null]),
        ];
        let four = summarised(&frame(&rows), 60_000).unwrap();
        let all: Vec<_> = summaries(&four).map(|(at, n, s)| (at.ms(), n, s.least, s.mean, s.greatest, s.count)).collect();
        let expected = [(0, 0, 4.0, 4.0, 4.0, 1), (0, 2, 1.0, 1.0, 1.0, 1), (60_000, 0, 1.5, 2.0, 2.5, 2), (60_000, 2, 0.0, 0.5, 1.0, 2)];
        assert_eq!(all, expected);
        assert_eq!(summarised(&frame(&[(1, vec![Value::Text("x".into())])]), 60_000), None);
    }

    proptest! {
        #[test]
        fn slots_do_not_depend_on_how_rows_came_together(
            values in proptest::collection::vec((0..600u64, -1000..1000i64), 1..60),
            cut in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<_> = values.iter().map(|(s, v)| (s * 1000, vec![Value::Int(*v)])).collect();
            let sum = |parts: &[&[(u64, Vec<Value>)]]| {
                let mut out = BTreeMap::new();
                for part in parts.iter().filter(|p| !p.is_empty()) {
                    for (at, n, s) in summaries(&summarised(&frame(part), 60_000).unwrap()) {
                        add(&mut out, (at, n), s);
                    }
                }
                out
            };
            let (left, right) = rows.split_at(cut.index(rows.len()));
            let (whole, parts) = (sum(&[&rows]), sum(&[left, right]));
            prop_assert_eq!(whole.keys().collect::<Vec<_>>(), parts.keys().collect::<Vec<_>>());
            for (a, b) in whole.values().zip(parts.values()) {
                prop_assert_eq!((a.least, a.greatest, a.count), (b.least, b.greatest, b.count));
                prop_assert!((a.mean - b.mean).abs() < 0.01, "{} {}", a.mean, b.mean);
            }
            let total: u64 = whole.values().map(|s| s.count).sum();
            prop_assert_eq!(total, values.len() as u64);
        }
    }
}
