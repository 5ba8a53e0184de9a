//! A batch in two: by frames, then by rows, then by points, down to single samples.
//!
//! Pure. The parts together are the batch: the same samples in the same order, each once.

use crate::model::{Frame, Row};

/// Two parts of about the same number of samples. `None`: there is one sample, or none.
pub fn halves(frames: &[Frame]) -> Option<[Vec<Frame>; 2]> {
    if let [frame] = frames {
        return halves_of(frame).map(|parts| parts.map(|frame| vec![frame]));
    }
    let samples = |f: &Frame| f.points.len() * f.rows.len();
    let all: usize = frames.iter().map(samples).sum();
    let mut before = 0;
    // At least one frame on each side.
    let at = frames.iter().take(frames.len().checked_sub(1)?).position(|frame| {
        before += samples(frame);
        2 * before >= all
    });
    let (first, second) = frames.split_at(at.map_or(frames.len() - 1, |at| at + 1));
    Some([first.to_vec(), second.to_vec()])
}

fn halves_of(frame: &Frame) -> Option<[Frame; 2]> {
    if frame.rows.len() > 1 {
        let (first, second) = frame.rows.split_at(frame.rows.len().div_ceil(2));
        return Some([first, second].map(|rows| Frame { rows: rows.to_vec(), ..frame.clone() }));
    }
    let points = frame.points.len();
    if points < 2 {
        return None;
    }
    let half = points.div_ceil(2);
    Some([0..half, half..points].map(|range| {
        let row = |row: &Row| Row {
            at: row.at,
            values: row.values[range.clone()].to_vec(),
            quality: row.quality.as_ref().map(|q| q[range.clone()].to_vec()),
        };
        let rows = frame.rows.iter().map(row).collect();
        Frame { points: frame.points[range.clone()].iter().cloned().collect(), rows, ..frame.clone() }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Boot, DeviceId, PointId, Value};
    use proptest::prelude::*;

    fn frame(device: usize, points: usize, rows: usize) -> Frame {
        let rows = (0..rows).map(|r| Row {
            at: Boot::from_ms(r as u64),
            values: (0..points).map(|p| Value::Int((device * 10_000 + r * 100 + p) as i64)).collect(),
            quality: None,
        });
        Frame {
            device: DeviceId::parse(&format!("d{device}")).unwrap(),
            points: (0..points).map(|p| PointId::parse(&format!("p{p}")).unwrap()).collect(),
            rows: rows.collect(),
        }
    }

    fn samples(frames: &[Frame]) -> Vec<(String, String, Boot, Value)> {
        let mut all = Vec::new();
        for f in frames {
            for row in &f.rows {
                let points = f.points.iter().zip(&row.values);
                all.extend(points.map(|(p, v)| (f.device.to_string(), p.to_string(), row.at, v.clone())));
            }
        }
        all
    }

    proptest! {
        #[test]
        fn parts_are_the_whole_and_end_at_one_sample(sizes in proptest::collection::vec((1usize..6, 1usize..6), 1..8)) {
            let whole: Vec<Frame> = sizes.iter().enumerate().map(|(n, (points, rows))| frame(n, *points, *rows)).collect();
            let all = samples(&whole).len();
            let (mut open, mut ends) = (vec![(whole.clone(), 0u32)], Vec::new());
            while let Some((frames, depth)) = open.pop() {
                // Twice half, rounded up, of frames, rows and points.
                prop_assert!(depth <= 3 + 3 + 3, "{depth} deep");
                match halves(&frames) {
                    Some([first, second]) => {
                        prop_assert!(!first.is_empty() && !second.is_empty());
                        let mut both = samples(&first);
                        both.extend(samples(&second));
                        let (mut want, mut got) = (samples(&frames), both);
                        want.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
                        got.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
                        prop_assert_eq!(want, got);
                        open.push((first, depth + 1));
                        open.push((second, depth + 1));
                    }
                    None => {
                        prop_assert_eq!(samples(&frames).len(), 1);
                        ends.extend(samples(&frames));
                    }
                }
            }
            prop_assert_eq!(ends.len(), all);
        }
    }

    #[test]
    fn nothing_has_no_halves() {
        assert!(halves(&[]).is_none());
        assert!(halves(&[frame(1, 1, 1)]).is_none());
    }
}
