mod types;

use super::super::{
    encode::{Unwritable, write_asks},
    pdu::Ask,
    plan::plan,
    samples::{ORDERS, device, point},
};
use super::*;
use crate::config::device::{Bits, Table};
use proptest::prelude::*;

fn one(point: &Point, data: &[u8]) -> (Value, Quality) {
    let device = device(vec![point.clone()]);
    let (mut values, quality) = decode(&device, &plan(&device)[0], data);
    assert_eq!(values.len(), 1);
    (values.remove(0), quality.map_or(Quality::Good, |q| q[0]))
}

#[track_caller]
fn check(kind: DataType, order: WordOrder, data: &[u8], want: Value) {
    let point = Point { order, ..point(Table::Holding, 7, kind) };
    assert_eq!(one(&point, data), (want, Quality::Good), "{kind:?} {order:?} {data:02x?}");
}

#[test]
fn every_type_reads_the_standard_order() {
    use DataType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    use Value::{Float, Int, Uint};
    let abcd = WordOrder::Abcd;
    check(U8, abcd, &[0x12, 0xfe], Uint(254));
    check(I8, abcd, &[0x12, 0xfe], Int(-2));
    check(U16, abcd, &[0xff, 0xfe], Uint(65_534));
    check(I16, abcd, &[0xff, 0xfe], Int(-2));
    check(U32, abcd, &[0x12, 0x34, 0x56, 0x78], Uint(0x1234_5678));
    check(I32, abcd, &[0xff, 0xff, 0xff, 0xfe], Int(-2));
    check(U64, abcd, &[0xff; 8], Uint(u64::MAX));
    check(I64, abcd, &[0x80, 0, 0, 0, 0, 0, 0, 0], Int(i64::MIN));
    check(F16, abcd, &[0x3e, 0x00], Float(1.5));
    check(F32, abcd, &[0x43, 0x66, 0x33, 0x33], Float(230.2));
    check(F64, abcd, &[0xc0, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18], Float(-std::f64::consts::PI));
    check(Bool, abcd, &[1, 0], Value::Bool(true));
    check(Bool, abcd, &[0, 0], Value::Bool(false));
}

#[test]
fn every_order_spreads_the_same_value_differently() {
    let want = Value::Uint(0x0a0b_0c0d);
    check(DataType::U32, WordOrder::Abcd, &[0x0a, 0x0b, 0x0c, 0x0d], want.clone());
    check(DataType::U32, WordOrder::Cdab, &[0x0c, 0x0d, 0x0a, 0x0b], want.clone());
    check(DataType::U32, WordOrder::Badc, &[0x0b, 0x0a, 0x0d, 0x0c], want.clone());
    check(DataType::U32, WordOrder::Dcba, &[0x0d, 0x0c, 0x0b, 0x0a], want);
    let want = Value::Uint(0x0102_0304_0506_0708);
    check(DataType::U64, WordOrder::Cdab, &[7, 8, 5, 6, 3, 4, 1, 2], want.clone());
    check(DataType::U64, WordOrder::Badc, &[2, 1, 4, 3, 6, 5, 8, 7], want.clone());
    check(DataType::U64, WordOrder::Dcba, &[8, 7, 6, 5, 4, 3, 2, 1], want);
    check(DataType::U16, WordOrder::Cdab, &[1, 2], Value::Uint(0x0102));
    check(DataType::U16, WordOrder::Badc, &[1, 2], Value::Uint(0x0201));
    check(DataType::U16, WordOrder::Dcba, &[1, 2], Value::Uint(0x0201));
    check(DataType::U8, WordOrder::Dcba, &[1, 2], Value::Uint(1));
}

#[test]
fn bits_are_cut_out_of_a_register() {
    let bits = |first, count| DataType::Bits(Bits { first, count });
    check(bits(0, 1), WordOrder::Abcd, &[0, 1], Value::Bool(true));
    check(bits(15, 1), WordOrder::Abcd, &[0x80, 0], Value::Bool(true));
    check(bits(14, 1), WordOrder::Abcd, &[0x80, 0], Value::Bool(false));
    check(bits(4, 4), WordOrder::Abcd, &[0x12, 0x34], Value::Uint(3));
    check(bits(0, 16), WordOrder::Abcd, &[0x12, 0x34], Value::Uint(0x1234));
    check(bits(200, 200), WordOrder::Abcd, &[0x12, 0x34], Value::Uint(0));
}

#[track_caller]
fn check_scaled(raw: i16, scale: f64, offset: f64, want: f64) {
    let point = Point { scale, offset, ..point(Table::Input, 0, DataType::I16) };
    assert_eq!(one(&point, &raw.to_be_bytes()), (Value::Float(want), Quality::Good), "{raw} * {scale} + {offset}");
}

#[test]
fn scaled_values_are_the_numbers_people_expect() {
    check_scaled(642, 0.1, 0.0, 64.2);
    check_scaled(-642, 0.01, 0.0, -6.42);
    check_scaled(3, 0.001, 0.0, 0.003);
    check_scaled(642, 0.1, -40.0, 24.2);
    check_scaled(642, -0.1, 0.5, -63.7);
    check_scaled(7, 2.0, 0.0, 14.0);
    check_scaled(7, 0.25, 1.0, 2.75);
    check_scaled(7, 1.0, 0.5, 7.5);
    check_scaled(1, 0.1, 0.123, 0.223);
}

#[track_caller]
fn check_na(kind: DataType, na: u64, data: &[u8], want: Quality) {
    for scale in [1.0, 0.1] {
        let point = Point { na: vec![na, 0x1234], scale, ..point(Table::Input, 0, kind) };
        let (value, quality) = one(&point, data);
        assert_eq!(quality, want, "{kind:?} {data:02x?}");
        assert_eq!(value == Value::Null, want != Quality::Good);
    }
}

#[test]
fn sentinels_are_compared_with_the_raw_pattern_in_its_own_width() {
    use Quality::{Good, NotAvailable};
    check_na(DataType::I16, 0x8000, &[0x80, 0], NotAvailable);
    check_na(DataType::I16, 0x8000, &[0x80, 1], Good);
    check_na(DataType::U16, 0xffff, &[0xff, 0xff], NotAvailable);
    check_na(DataType::I32, 0x8000_0000, &[0x80, 0, 0, 0], NotAvailable);
    check_na(DataType::U32, 0xffff, &[0xff, 0xff, 0xff, 0xff], Good);
    check_na(DataType::I8, 0x80, &[0xff, 0x80], NotAvailable);
    check_na(DataType::F32, 0x7f7f_ffff, &[0x7f, 0x7f, 0xff, 0xff], NotAvailable);
    check_na(DataType::Bits(Bits { first: 4, count: 4 }), 0xf, &[0, 0xf3], NotAvailable);
    check_na(DataType::U64, u64::MAX, &[0xff; 8], NotAvailable);
}

#[test]
fn what_is_no_number_is_not_available() {
    let check = |kind, data: &[u8], scale| {
        let point = Point { scale, ..point(Table::Input, 0, kind) };
        assert_eq!(one(&point, data), (Value::Null, Quality::NotAvailable), "{kind:?} {data:02x?}");
    };
    check(DataType::F16, &[0x7e, 0], 1.0);
    check(DataType::F16, &[0xfc, 0], 1.0);
    check(DataType::F32, &[0x7f, 0xc0, 0, 0], 0.1);
    check(DataType::F32, &[0xff, 0x80, 0, 0], 1.0);
    check(DataType::F64, &[0x7f, 0xf0, 0, 0, 0, 0, 0, 0], 1.0);
    // A finite number that its scale makes infinite.
    check(DataType::F64, &[0x7f, 0xef, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 10.0);
}

#[test]
fn coils_are_counted_from_the_least_significant_bit() {
    let points = [19u16, 20, 27, 28, 37].map(|address| point(Table::Coil, address, DataType::Bool));
    let device = crate::config::Device { max_gap: 100, ..device(points.to_vec()) };
    let requests = plan(&device);
    assert_eq!((requests.len(), requests[0].start, requests[0].count), (1, 19, 19));
    let (values, quality) = decode(&device, &requests[0], &[0xcd, 0x6b, 0x05]);
    assert_eq!(values, [true, false, true, true, true].map(Value::Bool));
    assert_eq!(quality, None);
}

#[test]
fn one_missing_value_leaves_its_neighbours_good() {
    let points = [0, 2, 4].map(|address| point(Table::Input, address, DataType::F32));
    let device = device(points.to_vec());
    let data = [0x3f, 0x80, 0, 0, 0x7f, 0xc0, 0, 0, 0x40, 0, 0, 0];
    let (values, quality) = decode(&device, &plan(&device)[0], &data);
    assert_eq!(values, [Value::Float(1.0), Value::Null, Value::Float(2.0)]);
    assert_eq!(quality, Some(vec![Quality::Good, Quality::NotAvailable, Quality::Good]));
}

#[test]
fn bytes_that_are_not_there_are_bad_and_never_a_panic() {
    let device = device(vec![point(Table::Input, 0, DataType::U16), point(Table::Input, 1, DataType::U32)]);
    let (values, quality) = decode(&device, &plan(&device)[0], &[0, 5, 0, 0]);
    assert_eq!(values, [Value::Uint(5), Value::Null]);
    assert_eq!(quality, Some(vec![Quality::Good, Quality::Bad]));
}

fn any_kind() -> impl Strategy<Value = DataType> {
    use DataType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    prop::sample::select(vec![Bool, U8, I8, U16, I16, U32, I32, U64, I64, F16, F32, F64])
}

/// The registers of a write, as the unit would send them back.
fn written(ask: &Ask) -> Vec<u8> {
    match ask {
        Ask::WriteRegister { value, .. } => value.to_be_bytes().to_vec(),
        Ask::WriteRegisters { words, .. } => words.iter().flat_map(|w| w.to_be_bytes()).collect(),
        other => panic!("{other:?} writes no register"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// What was read can be written, and then reads as the same value.
    #[test]
    fn what_is_written_reads_back(
        kind in any_kind(), order in prop::sample::select(ORDERS.to_vec()), data: [u8; 8],
        scale in prop::sample::select(vec![1.0, 0.1, 0.01, 0.001, 0.5, 2.0, 10.0, -0.1]),
        offset in prop::sample::select(vec![0.0, -40.0, 273.15]),
    ) {
        // A double holds 53 bits: scaled 64-bit values are not exact, and are not asked to be.
        let wide = matches!(kind, DataType::U64 | DataType::I64);
        prop_assume!(!(wide && (scale != 1.0 || offset != 0.0)));
        let point = Point { order, scale, offset, ..point(Table::Holding, 9, kind) };
        let bytes = &data[..usize::from(kind.words()) * 2];
        let (value, quality) = one(&point, bytes);
        if quality == Quality::Good {
            let ask = write_asks(&point, &value).unwrap();
            let (again, _) = one(&point, &written(&ask));
            match (&value, &again) {
                // A scaled float may be off by its own rounding, once.
                (Value::Float(a), Value::Float(b)) if matches!(kind, DataType::F16 | DataType::F32 | DataType::F64) => {
                    let near = match kind { DataType::F16 => 2e-3, DataType::F32 => 2e-7, _ => 1e-14 };
                    prop_assert!((a - b).abs() <= near * (a.abs() + offset.abs()) + 1e-7, "{} read back as {}", a, b);
                }
                _ => prop_assert_eq!(&again, &value),
            }
        }
    }

    /// Unscaled integers come back bit by bit, in every order.
    #[test]
    fn unscaled_patterns_survive(order in prop::sample::select(ORDERS.to_vec()), data: [u8; 8]) {
        for (kind, width) in [(DataType::U16, 2), (DataType::I16, 2), (DataType::U32, 4), (DataType::I32, 4), (DataType::U64, 8), (DataType::I64, 8)] {
            let point = Point { order, ..point(Table::Holding, 9, kind) };
            let (value, _) = one(&point, &data[..width]);
            prop_assert_eq!(written(&write_asks(&point, &value).unwrap()), data[..width].to_vec());
        }
    }

    #[test]
    fn any_number_is_written_or_refused_without_a_panic(kind in any_kind(), value: f64, scale: f64, offset: f64, na: u64) {
        let point = Point { scale, offset, na: vec![na], ..point(Table::Holding, 9, kind) };
        match write_asks(&point, &Value::Float(value)) {
            Ok(ask) => { one(&point, &written(&ask)); }
            Err(refused) => {
                let closed = matches!(refused, Unwritable::NotAllowed { .. });
                prop_assert!(!closed);
            }
        }
    }
}

/// `cargo test --release decode_cost -- --ignored --nocapture` prints what one request of 100 registers costs.
#[test]
#[ignore = "a measurement"]
fn decode_cost() {
    for (kind, step, scale) in [(DataType::U16, 1, 1.0), (DataType::I16, 1, 0.1), (DataType::F32, 2, 1.0), (DataType::U32, 2, 0.01)] {
        let points = (0..100).step_by(step).map(|n| Point { scale, ..point(Table::Input, n, kind) }).collect();
        let device = device(points);
        let request = &plan(&device)[0];
        let singles = (0..50u16).flat_map(|n| (f32::from(n).mul_add(1.371, 213.77)).to_be_bytes()).collect::<Vec<_>>();
        let before = crate::system::clock::Clock::Real.now();
        for _ in 0..100_000 {
            std::hint::black_box(decode(&device, request, std::hint::black_box(&singles)));
        }
        let took = crate::system::clock::Clock::Real.now() - before;
        println!("{kind:?} scale {scale}: {} ns per 100 registers", took.as_nanos() / 100_000);
    }
}
