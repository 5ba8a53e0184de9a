//! What is more than a number: texts, decimal digits, times, words, three kinds of sentinels, scale registers. Each with the
//! device or the source that does it.

use super::*;
use crate::config::{Chars, Counter, Device, Encoding, Lane, Layout, Names, Register, Time, TimeForm, device::Table};

#[track_caller]
fn check_of(point: &Point, data: &[u8], want: Value, quality: Quality) {
    assert_eq!(one(point, data), (want, quality), "{point:?} {data:02x?}");
}

#[track_caller]
fn good(kind: DataType, order: WordOrder, data: &[u8], want: Value) {
    check_of(&Point { order, ..point(Table::Holding, 7, kind) }, data, want, Quality::Good);
}

#[track_caller]
fn none(kind: DataType, data: &[u8], quality: Quality) {
    check_of(&point(Table::Holding, 7, kind), data, Value::Null, quality);
}

fn chars(registers: u8, lane: Lane, encoding: Encoding) -> DataType {
    DataType::Text(Chars { registers, lane, encoding })
}

fn text(t: &str) -> Value {
    Value::Text(t.into())
}

const ABCD: WordOrder = WordOrder::Abcd;

/// FIELD_TRUTH row 4: Carlo Gavazzi EM24 and PZEM swap words, in doubles as well.
#[test]
fn swapped_words_of_64_bits() {
    // 230.25 is 406c c800 0000 0000.
    let want = Value::Float(230.25);
    good(DataType::F64, WordOrder::Abcd, &[0x40, 0x6c, 0xc8, 0, 0, 0, 0, 0], want.clone());
    good(DataType::F64, WordOrder::Cdab, &[0, 0, 0, 0, 0xc8, 0, 0x40, 0x6c], want.clone());
    good(DataType::F64, WordOrder::Badc, &[0x6c, 0x40, 0, 0xc8, 0, 0, 0, 0], want.clone());
    good(DataType::F64, WordOrder::Dcba, &[0, 0, 0, 0, 0, 0xc8, 0x6c, 0x40], want);
    good(DataType::I64, WordOrder::Cdab, &[0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Value::Int(-2));
    // carlogavazzi-em24: power, i32 CDAB, a tenth of a watt; here it feeds in.
    let power = Point { order: WordOrder::Cdab, scale: 0.1, ..point(Table::Input, 0x28, DataType::I32) };
    check_of(&power, &[0xfb, 0x2e, 0xff, 0xff], Value::Float(-123.4), Quality::Good);
}

/// pzem-004t-v3, `golden` in device_facts.json: one answer, six values, two of them with their words swapped.
#[test]
fn the_answer_of_a_pzem() {
    let input = |address, kind, order, scale| Point { order, scale, ..point(Table::Input, address, kind) };
    let (u16, u32, cdab) = (DataType::U16, DataType::U32, WordOrder::Cdab);
    let device = device(vec![
        input(0, u16, ABCD, 0.1),
        input(1, u32, cdab, 0.001),
        input(3, u32, cdab, 0.1),
        input(5, u32, cdab, 1.0),
        input(7, u16, ABCD, 0.1),
        input(8, u16, ABCD, 0.01),
        Point { names: words(&[(0, "ok"), (65535, "alarm")]), ..input(9, u16, ABCD, 1.0) },
    ]);
    let data = [0x08, 0xD1, 0x00, 0x6C, 0, 0, 0x00, 0xF4, 0, 0, 0x00, 0x26, 0, 0, 0x01, 0xF4, 0x00, 0x64, 0, 0];
    let (values, quality) = decode(&device, &plan(&device)[0], &data);
    use Value::{Float, Uint};
    assert_eq!(values, [Float(225.7), Float(0.108), Float(24.4), Uint(38), Float(50.0), Float(1.0), text("ok")]);
    assert_eq!(quality, None);
}

/// FIELD_TRUTH row 30: below zero an unsigned XY-MD02 would read 6551.1 °C.
#[test]
fn below_zero_is_below_zero() {
    check_of(&Point { scale: 0.1, ..point(Table::Input, 1, DataType::I16) }, &[0xff, 0xe7], Value::Float(-2.5), Quality::Good);
}

/// wb-mqtt-serial README: bcd8 to bcd32.
#[test]
fn binary_coded_decimals() {
    good(DataType::Bcd(2), ABCD, &[0xff, 0x42], Value::Uint(42));
    good(DataType::Bcd(4), ABCD, &[0x12, 0x34], Value::Uint(1234));
    good(DataType::Bcd(4), WordOrder::Badc, &[0x34, 0x12], Value::Uint(1234));
    good(DataType::Bcd(6), ABCD, &[0xff, 0x12, 0x34, 0x56], Value::Uint(123_456));
    good(DataType::Bcd(8), ABCD, &[0x12, 0x34, 0x56, 0x78], Value::Uint(12_345_678));
    good(DataType::Bcd(8), WordOrder::Cdab, &[0x56, 0x78, 0x12, 0x34], Value::Uint(12_345_678));
    good(DataType::Bcd(16), ABCD, &[0x99; 8], Value::Uint(9_999_999_999_999_999));
    check_of(&Point { scale: 0.01, ..point(Table::Input, 0, DataType::Bcd(8)) }, &[0, 1, 0x23, 0x45], Value::Float(123.45), Quality::Good);
    none(DataType::Bcd(4), &[0x12, 0x3A], Quality::Bad);
    none(DataType::Bcd(8), &[0xff; 4], Quality::Bad);
    let na = Point { na: vec![0xffff], ..point(Table::Input, 0, DataType::Bcd(4)) };
    check_of(&na, &[0xff, 0xff], Value::Null, Quality::NotAvailable);
}

/// OSIsoft forum 35633203: PM800 MOD10, four registers of 0 to 9999, least significant first.
#[test]
fn modulo_ten_thousand() {
    let one_two_three = [0, 1, 0, 2, 0, 3, 0, 4];
    good(DataType::M10k(4), ABCD, &one_two_three, Value::Uint(4_000_300_020_001));
    good(DataType::M10k(4), WordOrder::Cdab, &one_two_three, Value::Uint(1_000_200_030_004));
    good(DataType::M10k(3), ABCD, &[0x27, 0x0f, 0, 0, 0, 1], Value::Uint(100_009_999));
    good(DataType::M10k(1), ABCD, &[0x04, 0xd2], Value::Uint(1234));
    good(DataType::M10k(2), WordOrder::Badc, &[1, 0, 2, 0], Value::Uint(20_001));
    none(DataType::M10k(4), &[0x27, 0x10, 0, 0, 0, 0, 0, 0], Quality::Bad);
    none(DataType::M10k(2), &[0, 1, 0xff, 0xff], Quality::Bad);
}

/// telegraf#14748 and its TestWorkaroundsStringRegisterLocation; Carlo Gavazzi EM340 has its serial number in one byte of each
/// register.
#[test]
fn strings_lie_in_both_or_one_byte_of_a_register() {
    let (both, high, low) = (Lane::Both, Lane::High, Lane::Low);
    let utf8 = Encoding::Utf8;
    good(chars(3, both, utf8), ABCD, b"Modb\0\0", text("Modb"));
    good(chars(3, both, utf8), WordOrder::Badc, b"oMbd\0u", text("Modbu"));
    good(chars(4, low, utf8), ABCD, b"\0B\0X\x004\0\0", text("BX4"));
    good(chars(4, high, utf8), ABCD, b"B\0X\x004\0\0\0", text("BX4"));
    good(chars(4, high, utf8), WordOrder::Badc, b"\0B\0X\x004\0\0", text("BX4"));
    good(chars(4, both, utf8), ABCD, b"  SMA   ", text("SMA"));
    good(chars(4, both, utf8), ABCD, b"\0\0SMA\r\n\0", text("SMA"));
    // What a device left behind the end is not part of the text.
    good(chars(4, both, utf8), ABCD, b"AB\0xyzab", text("AB"));
    good(chars(2, both, utf8), ABCD, b"abcd", text("abcd"));
}

#[test]
fn strings_that_are_no_text_stay_harmless() {
    let of = |encoding| chars(3, Lane::Both, encoding);
    let (utf8, latin1, ascii) = (Encoding::Utf8, Encoding::Latin1, Encoding::Ascii);
    good(of(utf8), ABCD, "22°C".as_bytes().first_chunk::<5>().map(|b| [b[0], b[1], b[2], b[3], b[4], 0]).unwrap().as_slice(), text("22°C"));
    good(of(utf8), ABCD, b"K\xfchl\0\0", text("K\u{fffd}hl"));
    good(of(latin1), ABCD, b"K\xfchl\0\0", text("Kühl"));
    good(of(ascii), ABCD, b"K\xfchl\0\0", text("K\u{fffd}hl"));
    for encoding in [utf8, latin1, ascii] {
        good(of(encoding), ABCD, b"a\x1b[\x07\"\\", text("a\u{fffd}[\u{fffd}\"\\"));
    }
    good(of(latin1), ABCD, b"a\x9bb\0\0\0", text("a\u{fffd}b"));
    for nothing in [[0; 6], [0xff; 6], *b"      "] {
        none(of(utf8), &nothing, Quality::NotAvailable);
    }
}

#[test]
fn a_string_that_was_cut_off_is_bad_and_never_a_panic() {
    let device = device(vec![point(Table::Input, 0, chars(4, Lane::Both, Encoding::Utf8))]);
    assert_eq!(decode(&device, &plan(&device)[0], b"abc"), (vec![Value::Null], Some(vec![Quality::Bad])));
}

fn time(form: TimeForm) -> DataType {
    DataType::Time(Time { form, bcd: false, local: false })
}

fn bcd(form: TimeForm) -> DataType {
    DataType::Time(Time { form, bcd: true, local: true })
}

fn layout(registers: u8, at: [u8; 6], wide_year: bool) -> TimeForm {
    TimeForm::Bytes(Layout { registers, at, wide_year })
}

#[test]
fn packed_times_are_iso_8601() {
    // Komfovent C4 (FIELD_TRUTH row 6): 0x0805 is five past eight.
    good(time(TimeForm::HourMinute), ABCD, &[0x08, 0x05], text("08:05"));
    good(bcd(TimeForm::HourMinute), ABCD, &[0x23, 0x59], text("23:59"));
    none(time(TimeForm::HourMinute), &[24, 0], Quality::Bad);
    none(bcd(TimeForm::HourMinute), &[0x1a, 0], Quality::Bad);
    // Electrex X3M manual: seconds since 1970, universal time.
    good(time(TimeForm::Unix), ABCD, &[0, 0, 0, 0], text("1970-01-01T00:00:00Z"));
    good(time(TimeForm::Unix), ABCD, &0x386d_4380_u32.to_be_bytes(), text("2000-01-01T00:00:00Z"));
    good(time(TimeForm::Unix), ABCD, &1_709_251_199_u32.to_be_bytes(), text("2024-02-29T23:59:59Z"));
    good(time(TimeForm::Unix), ABCD, &[0xff; 4], text("2106-02-07T06:28:15Z"));
    good(time(TimeForm::Unix), WordOrder::Cdab, &[0x43, 0x80, 0x38, 0x6d], text("2000-01-01T00:00:00Z"));
    // Three registers as Socomec's DATETIME_3: day, month, year since 2000, hour, minute, second.
    let dmy = layout(3, [2, 1, 0, 3, 4, 5], false);
    good(time(dmy), ABCD, &[21, 11, 26, 14, 7, 9], text("2026-11-21T14:07:09Z"));
    good(bcd(dmy), ABCD, &[0x21, 0x11, 0x26, 0x14, 0x07, 0x09], text("2026-11-21T14:07:09"));
    // Schneider PM800 counts years from 1900.
    good(time(layout(3, [2, 0, 1, 3, 4, 5], false)), ABCD, &[11, 21, 126, 14, 7, 9], text("2026-11-21T14:07:09Z"));
    let wide = layout(4, [0, 2, 3, 4, 5, 6], true);
    good(time(wide), ABCD, &[0x07, 0xea, 11, 21, 14, 7, 9, 99], text("2026-11-21T14:07:09Z"));
    good(bcd(wide), ABCD, &[0x20, 0x26, 0x11, 0x21, 0x14, 0x07, 0x09, 0xff], text("2026-11-21T14:07:09"));
    for data in
        [[31, 11, 26, 14, 7, 9], [29, 2, 26, 0, 0, 0], [0, 11, 26, 0, 0, 0], [1, 13, 26, 0, 0, 0], [1, 1, 26, 24, 0, 0], [0; 6], [0xff; 6]]
    {
        none(time(dmy), &data, Quality::Bad);
    }
    good(time(dmy), ABCD, &[29, 2, 28, 0, 0, 0], text("2028-02-29T00:00:00Z"));
}

/// Schneider EM3000 user manual, unit table: DATETIME. The weekday and the summer-time bit may be set.
#[test]
fn schneiders_four_registers() {
    let of = time(TimeForm::Iec870);
    good(of, ABCD, &[0, 26, 11, 0xC0 | 21, 0x80 | 14, 7, 0x24, 0x54], text("2026-11-21T14:07:09Z"));
    none(of, &[0, 26, 11, 21, 14, 0x80 | 7, 0, 0], Quality::Bad);
    none(of, &[0, 26, 11, 21, 14, 7, 0xff, 0xff], Quality::Bad);
    none(of, &[0xff; 8], Quality::Bad);
}

fn words(list: &[(i128, &str)]) -> Names {
    Names::Values(list.iter().map(|(n, w)| (*n, (*w).into())).collect())
}

#[test]
fn words_and_flags() {
    // victron-gx, system_relay_0_state.
    let relay = Point { names: words(&[(0, "Open"), (1, "Closed")]), ..point(Table::Holding, 806, DataType::U16) };
    check_of(&relay, &[0, 1], text("Closed"), Quality::Good);
    // What the manual does not list stays the number.
    check_of(&relay, &[0, 7], Value::Uint(7), Quality::Good);
    let below = Point { names: words(&[(-1, "fault"), (0, "off")]), ..point(Table::Holding, 1, DataType::I16) };
    check_of(&below, &[0xff, 0xff], text("fault"), Quality::Good);
    let run = Point { names: words(&[(3, "on")]), ..point(Table::Holding, 1, DataType::Bits(Bits { first: 4, count: 4 })) };
    check_of(&run, &[0x12, 0x34], text("on"), Quality::Good);
    let digits = Point { names: words(&[(12, "noon")]), ..point(Table::Holding, 1, DataType::Bcd(2)) };
    check_of(&digits, &[0, 0x12], text("noon"), Quality::Good);
    let coil = Point { names: words(&[(1, "open")]), ..point(Table::Coil, 1, DataType::Bool) };
    check_of(&coil, &[1], text("open"), Quality::Good);
    check_of(&coil, &[0], Value::Bool(false), Quality::Good);
    let flags = Names::Flags(vec![(0, "alarm".into()), (3, "fan".into()), (15, "service".into())]);
    let state = Point { names: flags, na: vec![0xffff], ..point(Table::Holding, 1, DataType::U16) };
    check_of(&state, &[0, 9], text("alarm|fan"), Quality::Good);
    check_of(&state, &[0x80, 1], text("alarm|service"), Quality::Good);
    check_of(&state, &[0, 0b110], text(""), Quality::Good);
    check_of(&state, &[0xff, 0xff], Value::Null, Quality::NotAvailable);
}

/// FIELD_TRUTH row 8.
#[test]
fn sentinels_of_the_field() {
    // Daikin: 32765 pending, 32766 unavailable, 32767 unsupported.
    let daikin =
        Point { pending: vec![32765], na: vec![32766], unsupported: vec![32767], scale: 0.1, ..point(Table::Input, 0, DataType::I16) };
    check_of(&daikin, &[0x7f, 0xfc], Value::Float(3276.4), Quality::Good);
    check_of(&daikin, &[0x7f, 0xfd], Value::Null, Quality::Pending);
    check_of(&daikin, &[0x7f, 0xfe], Value::Null, Quality::NotAvailable);
    check_of(&daikin, &[0x7f, 0xff], Value::Null, Quality::Unsupported);
    // evcc util/modbus/register.go: int32nan is SMA's 0x80000000 and Huawei's and ABB's 0x7FFFFFFF.
    let i32 = Point { na: vec![0x8000_0000, 0x7fff_ffff], ..point(Table::Holding, 30775, DataType::I32) };
    check_of(&i32, &[0x80, 0, 0, 0], Value::Null, Quality::NotAvailable);
    check_of(&i32, &[0x7f, 0xff, 0xff, 0xff], Value::Null, Quality::NotAvailable);
    check_of(&i32, &[0x7f, 0xff, 0xff, 0xfe], Value::Int(2_147_483_646), Quality::Good);
    // Wiren Board's unsupported_value.
    let wb = Point { unsupported: vec![0xfffe], ..point(Table::Input, 0, DataType::U16) };
    check_of(&wb, &[0xff, 0xfe], Value::Null, Quality::Unsupported);
    // A coil can be none as well.
    let coil = Point { pending: vec![1], ..point(Table::Coil, 0, DataType::Bool) };
    check_of(&coil, &[1], Value::Null, Quality::Pending);
}

/// As the planner asks for a value with its power of ten four registers behind it.
#[track_caller]
fn scaled(point: &Point, data: &[u8], want: Value, quality: Quality) {
    let device = device(vec![point.clone()]);
    let mut request = plan(&device).remove(0);
    std::sync::Arc::make_mut(&mut request.fields)[0].scale_offset = Some(4);
    let (values, qualities) = decode(&device, &request, data);
    assert_eq!((values, qualities.map_or(Quality::Good, |q| q[0])), (vec![want], quality), "{data:02x?}");
}

/// SunSpec (FIELD_TRUTH row 10): sf is an i16 from -10 to 10, 0x8000 is not implemented.
#[test]
fn scale_registers_of_sunspec() {
    let register = Some(Register { table: Table::Holding, address: 40075 });
    let amps = Point { scale_register: register, na: vec![0xffff], ..point(Table::Holding, 40071, DataType::U16) };
    let data = |raw: u16, sf: i16| [raw.to_be_bytes(), [0; 2], [0; 2], [0; 2], sf.to_be_bytes()].concat();
    for (raw, sf, want) in [(642, -1, 64.2), (642, 0, 642.0), (642, -3, 0.642), (642, 2, 64_200.0), (1, -10, 1e-10), (3, 10, 3e10)] {
        scaled(&amps, &data(raw, sf), Value::Float(want), Quality::Good);
    }
    scaled(&amps, &data(642, i16::MIN), Value::Null, Quality::NotAvailable);
    scaled(&amps, &data(642, 11), Value::Null, Quality::Bad);
    scaled(&amps, &data(642, -11), Value::Null, Quality::Bad);
    scaled(&amps, &data(0xffff, 0), Value::Null, Quality::NotAvailable);
    scaled(&amps, &data(642, 0)[..8], Value::Null, Quality::Bad);
    let kilo = Point { scale: 0.001, ..amps.clone() };
    scaled(&kilo, &data(642, -1), Value::Float(0.0642), Quality::Good);
    scaled(&kilo, &data(642, 1), Value::Float(6.42), Quality::Good);
    let signed = Point { kind: DataType::I16, offset: 1.0, ..amps.clone() };
    scaled(&signed, &data(0xffff - 641, -1), Value::Float(-63.2), Quality::Good);
    let little = Point { order: WordOrder::Badc, ..amps.clone() };
    scaled(&little, &[0x82, 0x02, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Value::Float(64.2), Quality::Good);
    // Without its register the value may be wrong by any power of ten.
    let device = device(vec![amps]);
    let mut request = plan(&device).remove(0);
    std::sync::Arc::make_mut(&mut request.fields)[0].scale_offset = None;
    assert_eq!(decode(&device, &request, &data(642, -1)).1, Some(vec![Quality::Bad]));
}

/// A counter's rule is the engine's; its raw value is decoded as any other.
#[test]
fn a_counter_is_decoded_as_a_number() {
    let counter = Some(Counter { modulo: Some(9999.99), ..Counter::default() });
    check_of(&Point { counter, scale: 0.01, ..point(Table::Input, 0, DataType::U32) }, &[0, 0, 1, 0], Value::Float(2.56), Quality::Good);
}

fn any_time() -> impl Strategy<Value = DataType> {
    let form = prop_oneof![
        Just(TimeForm::HourMinute),
        Just(TimeForm::Iec870),
        Just(TimeForm::Unix),
        Just([0u8, 1, 2, 3, 4, 5]).prop_shuffle().prop_map(|at| layout(3, at, false)),
        Just([1u8, 2, 3, 4, 5, 7]).prop_shuffle().prop_map(|at| layout(4, at, false)),
        Just([3u8, 5, 6, 7, 0, 2]).prop_map(|at| layout(4, at, true)),
    ];
    (form, any::<bool>(), any::<bool>()).prop_map(|(form, bcd, local)| {
        let bcd = bcd && !matches!(form, TimeForm::Iec870 | TimeForm::Unix);
        DataType::Time(Time { form, bcd, local })
    })
}

fn any_chars() -> impl Strategy<Value = DataType> {
    let lane = prop::sample::select(vec![Lane::Both, Lane::High, Lane::Low]);
    let encoding = prop::sample::select(vec![Encoding::Utf8, Encoding::Latin1, Encoding::Ascii]);
    (1u8..=10, lane, encoding).prop_map(|(registers, lane, encoding)| chars(registers, lane, encoding))
}

fn any_new_kind() -> impl Strategy<Value = DataType> {
    prop_oneof![any_time(), any_chars(), (1u8..=16).prop_map(DataType::Bcd), (1u8..=4).prop_map(DataType::M10k)]
}

fn written_by(point: &Point, value: &Value) -> Result<Vec<u8>, Unwritable> {
    write_asks(point, value).map(|ask| written(&ask))
}

fn read_by(device: &Device, data: &[u8]) -> (Value, Quality) {
    let (mut values, quality) = decode(device, &plan(device)[0], data);
    (values.remove(0), quality.map_or(Quality::Good, |q| q[0]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever bytes come, there is a value or a quality; and what is a value can be written and reads back equal.
    #[test]
    fn what_new_types_read_they_write(
        kind in any_new_kind(), order in prop::sample::select(ORDERS.to_vec()),
        data in prop_oneof![prop::collection::vec(any::<u8>(), 20), prop::collection::vec(0u8..24, 20), prop::collection::vec(0x20u8..0x7f, 20)],
    ) {
        let order = if matches!(kind, DataType::Text(_)) && order == WordOrder::Cdab { ABCD } else { order };
        let point = Point { order, ..point(Table::Holding, 9, kind) };
        let device = device(vec![point.clone()]);
        let (value, quality) = read_by(&device, &data[..usize::from(kind.words()) * 2]);
        prop_assert_eq!(value == Value::Null, quality != Quality::Good);
        if value != Value::Null {
            match written_by(&point, &value) {
                Ok(again) => prop_assert_eq!(read_by(&device, &again), (value, Quality::Good)),
                // Replaced characters and years before 2000 cannot be put back.
                Err(Unwritable::Text { .. } | Unwritable::Time { .. }) => {
                    let Value::Text(shown) = &value else { panic!("{value:?} was refused") };
                    prop_assert!(shown.contains('\u{fffd}') || shown.starts_with("19") || shown.as_bytes()[0] > b'2' || shown.starts_with("21") || matches!(kind, DataType::Text(_)) || &shown[..4] > "2099", "{}", shown);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn any_text_is_written_exactly_or_refused(kind in any_new_kind(), wanted: String) {
        let point = point(Table::Holding, 9, kind);
        if let Ok(bytes) = written_by(&point, &Value::Text(wanted.as_str().into())) {
            prop_assert_eq!(read_by(&device(vec![point]), &bytes), (Value::Text(wanted.into()), Quality::Good));
        }
    }
}
