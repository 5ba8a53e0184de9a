//! Thinning: of many rows those few stay that still tell what a point did.
//!
//! Per device, list of points and window the rows stay that hold the least, the greatest or the last value of a point,
//! and those where a quality changes: where trouble begins, and where it ends. They stay as they were read: nothing is averaged or made up. Each
//! row that stays knows how many samples it stands for, itself and those that were left out before it, so that any cut
//! into messages counts exactly.
//!
//! Windows are multiples of their length on the boot clock, so thinning in parts and thinning the whole agree on the
//! least, the greatest and the last. Pure: no clock, no SQL, no numbers.

use crate::{
    limits,
    model::{DeviceId, Frame, PointId, Quality, Row, Sealed, Thin, Value},
};
use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

#[derive(Debug)]
struct Kept {
    row: Row,
    /// Samples that it stands for.
    of: u64,
}

type Shape = (DeviceId, Arc<[PointId]>);

#[derive(Debug)]
pub struct Thinner {
    window_ms: u32,
    shapes: BTreeMap<Shape, Vec<Kept>>,
    seen: u64,
    kept: u64,
    of: u64,
}

impl Thinner {
    pub fn new(window_ms: u32) -> Thinner {
        Thinner { window_ms: window_ms.max(1), shapes: BTreeMap::new(), seen: 0, kept: 0, of: 0 }
    }

    /// Adds the rows; what was thinned before stands for more than its rows.
    pub fn add(&mut self, sealed: Sealed) {
        for frame in sealed.frames {
            let of = frame.samples();
            let points = frame.points.len() as u64;
            let rows = frame.rows.len() as u64;
            self.of += of;
            self.seen += points * rows;
            self.kept += points * rows;
            let mut more = of.saturating_sub(points * rows);
            let kept = self.shapes.entry((frame.device, frame.points)).or_default();
            // The last row of a thinned frame stands for what nobody can tell apart any more.
            for (n, row) in (1u64..).zip(frame.rows) {
                kept.push(Kept { row, of: points + if n == rows { std::mem::take(&mut more) } else { 0 } });
            }
        }
    }

    /// Leaves out what need not stay.
    pub fn thin(&mut self) {
        let mut kept = 0;
        for ((_, points), rows) in &mut self.shapes {
            rows.sort_by_key(|k| k.row.at);
            let mut stay = Vec::with_capacity(rows.len());
            let mut before = None;
            for window in rows.chunk_by(|a, b| a.row.at.ms() / u64::from(self.window_ms) == b.row.at.ms() / u64::from(self.window_ms)) {
                choose(window, points.len(), before, &mut stay);
                before = window.last().map(|k| &k.row);
            }
            let mut stay = stay.into_iter();
            let mut owed = 0;
            rows.retain_mut(|k| {
                k.of += std::mem::take(&mut owed);
                let stays = stay.next().unwrap_or(true);
                if !stays {
                    owed = k.of;
                }
                stays
            });
            kept += (rows.len() * points.len()) as u64;
        }
        self.kept = kept;
    }

    pub fn widen(&mut self, window_ms: u32) {
        self.window_ms = window_ms.max(1);
        self.thin();
    }

    /// Samples that were there.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Samples that are still there.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Samples that they stand for.
    pub fn of(&self) -> u64 {
        self.of
    }

    /// As the frames of messages, none larger than what brokers take.
    pub fn messages(self) -> Vec<Vec<Frame>> {
        let mut out: Vec<Vec<Frame>> = Vec::new();
        let mut room = Room::default();
        for ((device, points), rows) in self.shapes {
            let names = device.as_str().len() + 128 + points.iter().map(|p| p.as_str().len() + 8).sum::<usize>();
            let mut frame: Option<Frame> = None;
            for Kept { row, of } in rows {
                let (samples, bytes) = (points.len(), row_bytes(&row));
                if out.is_empty() || !room.takes(samples, bytes + if frame.is_none() { names } else { 0 }) {
                    if let Some(frames) = out.last_mut() {
                        frames.extend(frame.take());
                    }
                    out.push(Vec::new());
                    room = Room::default();
                }
                room.samples += samples;
                room.bytes += bytes + if frame.is_none() { names } else { 0 };
                let frame = frame.get_or_insert_with(|| Frame {
                    device: device.clone(),
                    points: Arc::clone(&points),
                    rows: Vec::new(),
                    thin: Some(Thin { window_ms: self.window_ms, of: 0 }),
                });
                frame.rows.push(row);
                if let Some(thin) = &mut frame.thin {
                    thin.of = thin.of.saturating_add(u32::try_from(of).unwrap_or(u32::MAX));
                }
            }
            if let Some(frames) = out.last_mut() {
                frames.extend(frame);
            }
        }
        out
    }
}

/// What the message being filled has.
#[derive(Default)]
struct Room {
    samples: usize,
    bytes: usize,
}

impl Room {
    fn takes(&self, samples: usize, bytes: usize) -> bool {
        self.samples == 0 || (self.samples + samples <= limits::BATCH_SAMPLES && self.bytes + bytes <= limits::MESSAGE_BYTES)
    }
}

fn row_bytes(row: &Row) -> usize {
    let qualities = row.quality.as_ref().map_or(0, |q| q.iter().filter(|q| **q != Quality::Good).count() * 16);
    row.values.iter().map(Value::json_len).sum::<usize>() + qualities + 12
}

/// Says for each row of a window whether it stays. `before`: the row before them.
fn choose(rows: &[Kept], points: usize, before: Option<&Row>, out: &mut Vec<bool>) {
    let first = out.len();
    out.resize(first + rows.len(), false);
    let stay = &mut out[first..];
    if let Some(last) = stay.last_mut() {
        *last = true;
    }
    let mut before = before;
    let quality = |row: &Row, point: usize| row.quality.as_ref().and_then(|q| q.get(point).copied()).unwrap_or(Quality::Good);
    for (n, k) in rows.iter().enumerate() {
        // Each change stays, so what is thinned again finds the same changes.
        if k.row.quality.is_some() || before.is_some_and(|row| row.quality.is_some()) {
            stay[n] |= (0..points).any(|p| quality(&k.row, p) != before.map_or(Quality::Good, |row| quality(row, p)));
        }
        before = Some(&k.row);
    }
    for point in 0..points {
        let value = |n: usize| rows[n].row.values.get(point).filter(|v| **v != Value::Null);
        if let Some(last) = (0..rows.len()).rev().find(|n| value(*n).is_some()) {
            stay[last] = true;
        }
        for wanted in [Ordering::Less, Ordering::Greater] {
            let mut best: Option<usize> = None;
            for n in (0..rows.len()).filter(|n| value(*n).is_some_and(|v| v.as_f64().is_some())) {
                let order = best.map_or(Some(wanted), |b| Some(compare(value(n)?, value(b)?)));
                // Of equals the one that stays anyway, else the latest: what never changes costs no row.
                let is_better = order == Some(wanted) || (order == Some(Ordering::Equal) && !best.is_some_and(|b| stay[b]));
                if is_better {
                    best = Some(n);
                }
            }
            if let Some(best) = best {
                let equal = |n: &usize| {
                    value(*n).zip(value(best)).is_some_and(|(a, b)| b.as_f64().is_some() && a.as_f64().is_some() && compare(a, b).is_eq())
                };
                if !(0..rows.len()).filter(|n| stay[*n]).any(|n| equal(&n)) {
                    stay[best] = true;
                }
            }
        }
    }
}

/// Integers exactly, others as numbers. NaN does not exist.
fn compare(a: &Value, b: &Value) -> Ordering {
    let integer = |v: &Value| match v {
        Value::Int(v) => Some(i128::from(*v)),
        Value::Uint(v) => Some(i128::from(*v)),
        _ => None,
    };
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Boot, BootIndex, Epoch, Key, Stream};
    use proptest::prelude::*;

    type Read = (u64, Vec<Value>, Option<Vec<Quality>>);

    fn frame(device: u8, rows: &[Read]) -> Frame {
        let points = rows.first().map_or(0, |r| r.1.len());
        Frame {
            device: DeviceId::parse(&format!("d{device}")).unwrap(),
            points: (0..points).map(|n| PointId::parse(&format!("p{n}")).unwrap()).collect(),
            rows: rows.iter().map(|(ms, v, q)| Row { at: Boot::from_ms(*ms), values: v.clone(), quality: q.clone() }).collect(),
            thin: None,
        }
    }

    fn sealed(frames: Vec<Frame>) -> Sealed {
        Sealed { key: Key { epoch: Epoch(1), stream: Stream::Telemetry, seq: 1 }, boot: BootIndex(1), frames }
    }

    fn thinned(frames: Vec<Frame>, window_ms: u32) -> Thinner {
        let mut thinner = Thinner::new(window_ms);
        thinner.add(sealed(frames));
        thinner.thin();
        thinner
    }

    #[track_caller]
    fn check(rows: &[(u64, i64)], window_ms: u32, want: &[(u64, i64)], of: &[u64]) {
        let rows: Vec<_> = rows.iter().map(|(ms, v)| (*ms, vec![Value::Int(*v)], None)).collect();
        let thinner = thinned(vec![frame(0, &rows)], window_ms);
        let got: Vec<_> = thinner.shapes.values().flatten().map(|k| (k.row.at.ms(), k.row.values[0].clone())).collect();
        assert_eq!(got, want.iter().map(|(ms, v)| (*ms, Value::Int(*v))).collect::<Vec<_>>());
        assert_eq!(thinner.shapes.values().flatten().map(|k| k.of).collect::<Vec<_>>(), of);
    }

    #[test]
    fn least_greatest_and_last_stay() {
        check(&[(0, 5), (1, 9), (2, 1), (3, 4), (4, 5)], 100, &[(1, 9), (2, 1), (4, 5)], &[2, 1, 2]);
        check(&[(0, 5), (1, 5), (2, 5)], 100, &[(2, 5)], &[3]);
        check(&[(98, 1), (99, 2), (100, 3), (101, 4)], 100, &[(98, 1), (99, 2), (100, 3), (101, 4)], &[1, 1, 1, 1]);
        check(&[(0, 1), (1, 2), (2, 3), (3, 4)], 100, &[(0, 1), (3, 4)], &[1, 3]);
        check(
            &[(0, i64::MAX - 1), (1, i64::MAX), (2, i64::MAX - 2), (3, i64::MAX - 1)],
            100,
            &[(1, i64::MAX), (2, i64::MAX - 2), (3, i64::MAX - 1)],
            &[2, 1, 1],
        );
        check(&[], 100, &[], &[]);
    }

    #[test]
    fn each_change_of_quality_stays() {
        let row = |ms, v: i64, q: Quality| {
            (ms, vec![if q == Quality::Good { Value::Int(v) } else { Value::Null }], (q != Quality::Good).then(|| vec![q]))
        };
        let rows = [
            row(0, 5, Quality::Good),
            row(1, 0, Quality::NotAvailable),
            row(2, 0, Quality::NotAvailable),
            row(3, 0, Quality::Bad),
            row(4, 5, Quality::Good),
        ];
        let thinner = thinned(vec![frame(0, &rows)], 100);
        let got: Vec<u64> = thinner.shapes.values().flatten().map(|k| k.row.at.ms()).collect();
        assert_eq!(got, [1, 3, 4]);
        // The end of trouble stays too: else the second trouble, thinned again, would seem to be part of the first.
        let rows = [
            row(0, 5, Quality::Good),
            row(1, 0, Quality::Bad),
            row(2, 5, Quality::Good),
            row(3, 5, Quality::Good),
            row(4, 0, Quality::Bad),
            row(5, 5, Quality::Good),
            row(6, 5, Quality::Good),
        ];
        let mut thinner = thinned(vec![frame(0, &rows)], 100);
        for _ in 0..2 {
            let got: Vec<u64> = thinner.shapes.values().flatten().map(|k| k.row.at.ms()).collect();
            assert_eq!(got, [1, 2, 4, 5, 6]);
            thinner.thin();
        }
    }

    fn rows() -> impl Strategy<Value = Vec<Read>> {
        let value = prop_oneof![
            4 => (-20..20i64).prop_map(Value::Int),
            1 => (-20..20i32).prop_map(|v| Value::float(f64::from(v) / 4.0)),
            1 => any::<bool>().prop_map(Value::Bool),
            1 => Just(Value::Null),
            1 => "[a-c]".prop_map(|t| Value::Text(t.as_str().into())),
        ];
        let quality = prop_oneof![3 => Just(Quality::Good), 1 => Just(Quality::Stale), 1 => Just(Quality::Bad)];
        let row = (0..400u64, prop::collection::vec(value, 2), prop::option::weighted(0.2, prop::collection::vec(quality, 2)));
        prop::collection::vec(row, 0..40).prop_map(|mut rows| {
            rows.sort_by_key(|r| r.0);
            rows
        })
    }

    type Extremes = BTreeMap<(DeviceId, u64, usize), (String, String, String)>;

    /// Per device, window and point: least, greatest and last value. Booleans and numbers of one column compare.
    fn extremes<'a>(frames: impl Iterator<Item = &'a Frame>, window_ms: u64) -> Extremes {
        let mut all: BTreeMap<(DeviceId, u64, usize), Vec<(Boot, Value)>> = BTreeMap::new();
        for f in frames {
            for row in &f.rows {
                for (p, v) in row.values.iter().enumerate().filter(|(_, v)| **v != Value::Null) {
                    all.entry((f.device.clone(), row.at.ms() / window_ms, p)).or_default().push((row.at, v.clone()));
                }
            }
        }
        all.into_iter()
            .map(|(k, mut rows)| {
                rows.sort_by_key(|r| r.0);
                let number = |v: &Value| v.as_f64();
                let numbers: Vec<f64> = rows.iter().filter_map(|r| number(&r.1)).collect();
                let of = |f: fn(f64, f64) -> f64| format!("{:?}", numbers.iter().copied().reduce(f));
                (k, (of(f64::min), of(f64::max), format!("{:?}", rows.last().map(|r| &r.1))))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_stays_tells_the_same_extremes_and_counts_exactly(a in rows(), b in rows(), window in 1..200u32, wider in 1..4u32) {
            let frames = vec![frame(0, &a), frame(1, &b)];
            let frames: Vec<Frame> = frames.into_iter().filter(|f| !f.rows.is_empty()).collect();
            let all: u64 = frames.iter().map(Frame::samples).sum();
            let mut thinner = thinned(frames.clone(), window);
            let once = thinner.kept();
            thinner.thin();
            prop_assert_eq!(thinner.kept(), once, "thinning twice is thinning once");
            let parts = thinner.messages();
            let back: Vec<Frame> = parts.into_iter().flatten().collect();
            prop_assert_eq!(extremes(back.iter(), window.into()), extremes(frames.iter(), window.into()));
            prop_assert_eq!(back.iter().map(Frame::samples).sum::<u64>(), all);
            for f in &back {
                let of = frames.iter().find(|o| o.device == f.device).unwrap();
                prop_assert!(f.rows.iter().all(|r| of.rows.contains(r)), "only rows that were read");
                prop_assert!(f.samples() >= (f.rows.len() * f.points.len()) as u64);
            }
            // Again with a wider window, from what is left.
            let again = thinned(back, window * wider);
            prop_assert_eq!(again.of(), all);
            let again: Vec<Frame> = again.messages().into_iter().flatten().collect();
            let wide = u64::from(window * wider);
            prop_assert_eq!(extremes(again.iter(), wide), extremes(frames.iter(), wide));
        }
    }

    #[test]
    fn messages_are_no_larger_than_brokers_take() {
        let rows: Vec<_> = (0..4000u64).map(|n| (n * 1000, vec![Value::Int(n.cast_signed()); 5], None)).collect();
        let thinner = thinned(vec![frame(0, &rows), frame(1, &rows)], 1);
        assert_eq!((thinner.kept(), thinner.of()), (40_000, 40_000));
        let messages = thinner.messages();
        assert!(messages.len() >= 8, "{}", messages.len());
        for frames in &messages {
            let samples: usize = frames.iter().map(|f| f.points.len() * f.rows.len()).sum();
            assert!(samples > 0 && samples <= limits::BATCH_SAMPLES, "{samples}");
        }
        assert_eq!(messages.iter().flatten().map(Frame::samples).sum::<u64>(), 40_000);
    }
}
