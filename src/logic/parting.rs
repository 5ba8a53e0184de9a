//! A batch in two: by frames, then by rows, then by points, down to single samples.
//!
//! Pure. The parts together are the batch: the same samples in the same order, each once. Parts of a thinned frame share
//! what it stands for, and each stands at least for what is in it.

use crate::model::{Frame, Row, Thin};

/// Samples that are in them, whatever they stand for: into so many parts they can be taken apart.
pub fn samples(frames: &[Frame]) -> usize {
    frames.iter().map(in_frame).sum()
}

fn in_frame(frame: &Frame) -> usize {
    frame.points.len() * frame.rows.len()
}

/// Two parts of about the same number of samples. `None`: there is one sample, or none.
pub fn halves(frames: &[Frame]) -> Option<[Vec<Frame>; 2]> {
    if let [frame] = frames {
        return halves_of(frame).map(|parts| parts.map(|frame| vec![frame]));
    }
    let all = samples(frames);
    let mut before = 0;
    // At least one frame on each side.
    let at = frames.iter().take(frames.len().checked_sub(1)?).position(|frame| {
        before += in_frame(frame);
        2 * before >= all
    });
    let (first, second) = frames.split_at(at.map_or(frames.len() - 1, |at| at + 1));
    Some([first.to_vec(), second.to_vec()])
}

fn halves_of(frame: &Frame) -> Option<[Frame; 2]> {
    let mut halves = halves_by_content(frame)?;
    if let Some(Thin { window_ms, of }) = frame.thin {
        let narrow = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
        let (all, first) = (in_frame(frame).max(1), in_frame(&halves[0]));
        let left_out = usize::try_from(of).unwrap_or(usize::MAX).saturating_sub(all);
        let of_first = narrow(first + left_out / all * first + left_out % all * first / all).min(of);
        for (half, of) in halves.iter_mut().zip([of_first, of - of_first]) {
            half.thin = Some(Thin { window_ms, of });
        }
    }
    Some(halves)
}

fn halves_by_content(frame: &Frame) -> Option<[Frame; 2]> {
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
            thin: None,
        }
    }

    fn contents(frames: &[Frame]) -> Vec<(String, String, Boot, Value)> {
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
            let all = contents(&whole).len();
            let (mut open, mut ends) = (vec![(whole.clone(), 0u32)], Vec::new());
            while let Some((frames, depth)) = open.pop() {
                // Half of the rows, then of the points, rounded up. Of frames of very unequal size one at a time may come off.
                prop_assert!(depth as usize <= sizes.len() - 1 + 3 + 3, "{depth} deep");
                match halves(&frames) {
                    Some([first, second]) => {
                        prop_assert!(!first.is_empty() && !second.is_empty());
                        let mut both = contents(&first);
                        both.extend(contents(&second));
                        let (mut want, mut got) = (contents(&frames), both);
                        want.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
                        got.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
                        prop_assert_eq!(want, got);
                        open.push((first, depth + 1));
                        open.push((second, depth + 1));
                    }
                    None => {
                        prop_assert_eq!(contents(&frames).len(), 1);
                        ends.extend(contents(&frames));
                    }
                }
            }
            prop_assert_eq!(ends.len(), all);
        }
    }

    #[test]
    fn parts_of_a_thinned_frame_stand_for_what_it_stood_for() {
        let thin = |of| Some(Thin { window_ms: 60_000, of });
        for of in [12, 13, 60, 61, u32::MAX] {
            let mut open = vec![Frame { thin: thin(of), ..frame(1, 3, 4) }];
            let mut ends = Vec::new();
            while let Some(one) = open.pop() {
                assert!(one.samples() >= in_frame(&one) as u64, "{one:?}");
                match halves(std::slice::from_ref(&one)) {
                    Some(halves) => open.extend(halves.into_iter().flatten()),
                    None => ends.push(one),
                }
            }
            assert_eq!((ends.len(), ends.iter().map(Frame::samples).sum::<u64>()), (12, u64::from(of)));
        }
    }

    #[test]
    fn a_sample_that_stands_for_many_has_no_halves() {
        let one = Frame { thin: Some(Thin { window_ms: 60_000, of: 60 }), ..frame(1, 1, 1) };
        assert_eq!((samples(std::slice::from_ref(&one)), one.samples()), (1, 60));
        assert!(halves(&[one]).is_none());
    }

    #[test]
    fn nothing_has_no_halves() {
        assert!(halves(&[]).is_none());
        assert!(halves(&[frame(1, 1, 1)]).is_none());
    }
}
