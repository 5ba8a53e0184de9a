use super::{decode::Contents, *};
use crate::model::{Boot, BootIndex, Epoch, Frame, Key, Quality, Row, Sealed, Stream, Value};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

const EPOCH: Epoch = Epoch(7);

/// A dictionary that is full after some series, so that names are written too.
#[derive(Default)]
struct Dictionary {
    ids: RefCell<BTreeMap<(DeviceId, PointId), u32>>,
    room: usize,
}

impl Dictionary {
    fn shape(&self, frame: &Frame) -> Shape {
        let mut ids = self.ids.borrow_mut();
        let mut of_shape = vec![];
        for point in frame.points.iter() {
            let next = u32::try_from(ids.len()).unwrap();
            if ids.len() >= self.room && !ids.contains_key(&(frame.device.clone(), point.clone())) {
                return Shape::Names;
            }
            of_shape.push(*ids.entry((frame.device.clone(), point.clone())).or_insert(next));
        }
        Shape::Ids(of_shape.into())
    }
}

impl Names for Dictionary {
    fn series(&self, id: u32) -> Option<(DeviceId, PointId)> {
        self.ids.borrow().iter().find(|(_, n)| **n == id).map(|(k, _)| k.clone())
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-50i64..50).prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        any::<f64>().prop_map(Value::float),
        any::<f32>().prop_map(|v| Value::float(f64::from(v))),
        (-9999i32..9999, 0i32..4).prop_map(|(k, e)| Value::float(f64::from(k) / 10f64.powi(e))),
        "[a-zé]{0,5}".prop_map(|t| Value::Text(t.as_str().into())),
    ]
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![4 => Just(Quality::Good), 1 => Just(Quality::Stale), 1 => Just(Quality::NotAvailable), 1 => Just(Quality::Bad), 1 => Just(Quality::Pending), 1 => Just(Quality::Unsupported), 1 => Just(Quality::Suspect)]
}

fn row(points: usize, at: u64) -> impl Strategy<Value = Row> {
    // Often one kind in a column, as in life; the mixed case by the other arm.
    let values = prop_oneof![proptest::collection::vec(value(), points), value().prop_map(move |v| vec![v; points])];
    (values, proptest::option::weighted(0.2, proptest::collection::vec(quality(), points)), 0..2_000u64)
        .prop_map(move |(values, quality, later)| Row { at: Boot::from_ms(at + later), values, quality })
}

fn frame() -> impl Strategy<Value = Frame> {
    (0..3u8, 0..5usize, 1..6usize, 0..100_000_000u64).prop_flat_map(|(device, points, rows, at)| {
        let ids: Arc<[PointId]> = (0..points).map(|n| PointId::parse(&format!("p{n}")).unwrap()).collect();
        proptest::collection::vec(row(points, at), rows).prop_map(move |rows| Frame {
            device: DeviceId::parse(&format!("d{device}")).unwrap(),
            points: Arc::clone(&ids),
            rows,
            thin: None,
        })
    })
}

fn batches() -> impl Strategy<Value = Vec<Arc<Sealed>>> {
    proptest::collection::vec((1..4u64, proptest::collection::vec(frame(), 0..5)), 0..6).prop_map(|all| {
        let mut seq = 0;
        let seal = |(step, frames): (u64, Vec<Frame>)| {
            seq += step;
            // Frames of one planned request share their list of points.
            let mut shared: BTreeMap<usize, Arc<[PointId]>> = BTreeMap::new();
            let frames = frames.into_iter().map(|mut f| {
                f.points = Arc::clone(shared.entry(f.points.len()).or_insert(f.points));
                f
            });
            let key = Key { epoch: EPOCH, stream: Stream::Telemetry, seq };
            Arc::new(Sealed { key, boot: BootIndex(3), frames: frames.collect() })
        };
        all.into_iter().map(seal).collect()
    })
}

/// As the dialect would print it: -0.0 is not 0.0.
fn print(batches: &[Sealed]) -> String {
    format!("{batches:?}")
}

proptest! {
    #[test]
    fn what_is_decoded_equals_what_was_sealed(batches in batches(), room in 0..12usize) {
        let dictionary = Dictionary { room, ..Dictionary::default() };
        let body = encode(&batches, |f| dictionary.shape(f));
        let back = decode(&body, EPOCH, &dictionary).unwrap();
        let sealed: Vec<Sealed> = batches.iter().map(|b| Sealed::clone(b)).collect();
        prop_assert_eq!(print(&back), print(&sealed));
        let contents: Contents = batches.iter().map(|b| (b.key.seq, b.samples())).collect();
        prop_assert_eq!(directory(&body).unwrap(), contents);
    }

    #[test]
    fn a_damaged_body_is_never_data(batches in batches(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let dictionary = Dictionary { room: 100, ..Dictionary::default() };
        let mut body = encode(&batches, |f| dictionary.shape(f));
        let at = at.index(body.len());
        body[at] ^= flip;
        prop_assert!(decode(&body, EPOCH, &dictionary).is_err());
        prop_assert!(directory(&body).is_err());
    }

    /// The checksum may be right and the content still not ours.
    #[test]
    fn rubbish_with_a_right_checksum_does_not_panic(mut body in proptest::collection::vec(any::<u8>(), 0..200)) {
        body.insert(0, VERSION);
        let crc = crc::crc32(&body);
        body.extend_from_slice(&crc.to_le_bytes());
        let dictionary = Dictionary { room: 100, ..Dictionary::default() };
        let _ = decode(&body, EPOCH, &dictionary);
        let _ = directory(&body);
    }

    #[test]
    fn changed_content_with_a_right_checksum_does_not_panic(batches in batches(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let dictionary = Dictionary { room: 100, ..Dictionary::default() };
        let mut body = encode(&batches, |f| dictionary.shape(f));
        body.truncate(body.len() - 4);
        let at = at.index(body.len());
        body[at] ^= flip;
        let crc = crc::crc32(&body);
        body.extend_from_slice(&crc.to_le_bytes());
        let _ = decode(&body, EPOCH, &dictionary);
    }
}

#[test]
fn what_a_thinned_frame_stands_for_comes_back_and_others_are_written_as_before() {
    let points: Arc<[PointId]> = vec![PointId::parse("p0").unwrap()].into();
    let row = |ms| Row { at: Boot::from_ms(ms), values: vec![Value::Int(1)], quality: None };
    let frame = |thin| Frame { device: DeviceId::parse("d0").unwrap(), points: Arc::clone(&points), rows: vec![row(5), row(9)], thin };
    let thin = |of| Some(crate::model::Thin { window_ms: 60_000, of });
    let batch = |seq, frames| Arc::new(Sealed { key: Key { epoch: EPOCH, stream: Stream::Telemetry, seq }, boot: BootIndex(3), frames });
    let plain = vec![batch(1, vec![frame(None)])];
    let thinned = vec![batch(1, vec![frame(thin(60)), frame(None)]), batch(4, vec![frame(thin(u32::MAX))])];
    for (batches, version, contents) in [(plain, VERSION, vec![(1, 2)]), (thinned, VERSION_THIN, vec![(1, 62), (4, u64::from(u32::MAX))])] {
        let dictionary = Dictionary { room: 100, ..Dictionary::default() };
        let body = encode(&batches, |f| dictionary.shape(f));
        assert_eq!(body[0], version);
        let back = decode(&body, EPOCH, &dictionary).unwrap();
        assert_eq!(print(&back), print(&batches.iter().map(|b| Sealed::clone(b)).collect::<Vec<_>>()));
        assert_eq!(directory(&body).unwrap(), contents);
    }
}

#[track_caller]
fn column(values: &[Value], bytes_max: usize) {
    let mut out = vec![];
    let tag = column::write(values.iter(), &mut out);
    let mut back = vec![];
    column::read(tag, values.len(), &mut bytes::Bytes(&out), |v| back.push(v)).unwrap();
    assert_eq!(format!("{back:?}"), format!("{values:?}"));
    assert!(out.len() <= bytes_max, "{values:?}: {} bytes with tag {tag:#x}", out.len());
}

#[test]
fn columns_are_small() {
    let floats = |of: &[f64]| of.iter().map(|v| Value::Float(*v)).collect::<Vec<_>>();
    column(&floats(&[21.5, 21.6, 21.6, 21.4]), 5);
    column(&floats(&[230.1f32 as f64, 0.1f32 as f64]), 8);
    column(&floats(&[std::f64::consts::PI, 1e300]), 16);
    column(&floats(&[-0.0, 0.0]), 8);
    column(&floats(&[5.0; 100]), 1);
    column(&vec![Value::Uint(u64::MAX); 2], 1);
    column(&[Value::Int(i64::MIN), Value::Int(i64::MAX)], 20);
    column(&vec![Value::Bool(true); 16], 1);
    column(&[Value::Bool(true), Value::Null, Value::Bool(false)], 2);
    column(&[Value::Null, Value::Null], 0);
    column(&[Value::Null, Value::Int(5), Value::Int(5)], 2);
    column(&[Value::Text("on".into()), Value::Int(5)], 6);
}
