use super::super::samples::point;
use super::*;
use crate::config::device::{Bits, DataType, WordOrder, WriteRule};

fn with_function(point: Point, function: u8) -> Point {
    let rule = WriteRule { function: Some(function), ..*point.write.clone().unwrap() };
    Point { write: Some(Box::new(rule)), ..point }
}

fn holding(kind: DataType) -> Point {
    point(Table::Holding, 101, kind)
}

#[track_caller]
fn check(point: &Point, value: Value, want: Ask) {
    assert_eq!(write_asks(point, &value), Ok(want), "{value:?}");
}

#[track_caller]
fn check_refused(point: &Point, value: Value, want: &str) {
    let refused = write_asks(point, &value).expect_err("this must be refused").to_string();
    assert_eq!(refused, want);
}

#[test]
fn the_function_follows_table_and_width_unless_the_rule_names_one() {
    let coil = point(Table::Coil, 3, DataType::Bool);
    check(&coil, Value::Bool(true), Ask::WriteCoil { address: 3, on: true });
    check(&coil, Value::Uint(0), Ask::WriteCoil { address: 3, on: false });
    check(&with_function(coil.clone(), 15), Value::Bool(true), Ask::WriteCoils { start: 3, bits: vec![true] });
    let word = holding(DataType::U16);
    check(&word, Value::Uint(67), Ask::WriteRegister { address: 101, value: 67 });
    check(&with_function(word.clone(), 16), Value::Uint(67), Ask::WriteRegisters { start: 101, words: vec![67] });
    check(&holding(DataType::U32), Value::Uint(0x1_0002), Ask::WriteRegisters { start: 101, words: vec![1, 2] });
    check_refused(&with_function(coil, 6), Value::Bool(true), "function 6 cannot write 1 register(s) of table coil; use 5 or 15");
    check_refused(&with_function(word, 5), Value::Uint(1), "function 5 cannot write 1 register(s) of table holding; use 6, 16 or 22");
    let wide = with_function(holding(DataType::F32), 6);
    check_refused(&wide, Value::Float(1.0), "function 6 cannot write 2 register(s) of table holding; use 16");
}

#[test]
fn values_are_unscaled_and_ordered() {
    let tenths = Point { scale: 0.1, offset: -40.0, ..holding(DataType::I16) };
    check(&tenths, Value::Float(24.2), Ask::WriteRegister { address: 101, value: 642 });
    check(&tenths, Value::Int(-41), Ask::WriteRegister { address: 101, value: 0xfff6 });
    let swapped = Point { order: WordOrder::Cdab, ..holding(DataType::F32) };
    check(&swapped, Value::Float(230.2), Ask::WriteRegisters { start: 101, words: vec![0x3333, 0x4366] });
    let little = Point { order: WordOrder::Dcba, ..holding(DataType::U32) };
    check(&little, Value::Uint(0x0a0b_0c0d), Ask::WriteRegisters { start: 101, words: vec![0x0d0c, 0x0b0a] });
    check(&holding(DataType::I8), Value::Int(-2), Ask::WriteRegister { address: 101, value: 0xfe });
    check(&holding(DataType::Bool), Value::Bool(true), Ask::WriteRegister { address: 101, value: 1 });
    check(&holding(DataType::U64), Value::Uint(u64::MAX), Ask::WriteRegisters { start: 101, words: vec![0xffff; 4] });
    check(&holding(DataType::I64), Value::Int(i64::MIN), Ask::WriteRegisters { start: 101, words: vec![0x8000, 0, 0, 0] });
}

#[test]
fn what_would_read_back_differently_is_refused() {
    let tenths = Point { scale: 0.1, ..holding(DataType::U16) };
    check_refused(&tenths, Value::Float(21.54), "21.54 is between two steps of 0.1; use 21.5");
    check_refused(&tenths, Value::Float(-0.1), "-0.1 does not fit a u16 (raw value -1)");
    check_refused(&tenths, Value::Float(6553.6), "6553.6 does not fit a u16 (raw value 65536)");
    check_refused(&holding(DataType::U16), Value::Float(0.5), "0.5 is between two steps of 1; use 1");
    check_refused(&holding(DataType::I8), Value::Int(128), "128 does not fit a i8 (raw value 128)");
    check_refused(&holding(DataType::F16), Value::Float(1e6), "1000000 does not fit a f16 (raw value 1000000)");
    check_refused(&holding(DataType::Bool), Value::Uint(2), "2 does not fit a bool (raw value 2)");
    let sentinel = Point { na: vec![0xffff], ..holding(DataType::U16) };
    check_refused(&sentinel, Value::Uint(0xffff), "65535 would be written as the pattern that means \"not available\"");
}

#[test]
fn what_is_no_number_or_not_writable_is_refused() {
    let word = holding(DataType::U16);
    check_refused(&word, Value::Null, "Null is not a number or true/false");
    check_refused(&word, Value::Text("on".into()), "Text(\"on\") is not a number or true/false");
    check_refused(&word, Value::Float(f64::NAN), "Float(NaN) is not a number or true/false");
    check_refused(&point(Table::Input, 1, DataType::U16), Value::Uint(1), "input registers cannot be written");
    let closed = Point { write: None, ..word };
    check_refused(&closed, Value::Uint(1), "holding-101-u16 may not be written; give it write = { … } if it should");
}

#[test]
fn texts_times_and_words_are_written() {
    use crate::config::{Chars, Encoding, Lane, Names, Time, TimeForm};
    let of = |registers, lane, encoding| holding(DataType::Text(Chars { registers, lane, encoding }));
    let wrote = |words: &[u16]| Ask::WriteRegisters { start: 101, words: words.to_vec() };
    let name = of(3, Lane::Both, Encoding::Utf8);
    check(&name, Value::Text("abc".into()), wrote(&[0x6162, 0x6300, 0]));
    check(&Point { order: WordOrder::Badc, ..name.clone() }, Value::Text("abc".into()), wrote(&[0x6261, 0x0063, 0]));
    check(&of(3, Lane::Low, Encoding::Latin1), Value::Text("aü".into()), wrote(&[0x61, 0xfc, 0]));
    check(&of(3, Lane::High, Encoding::Ascii), Value::Text("ab".into()), wrote(&[0x6100, 0x6200, 0]));
    check_refused(&name, Value::Text("Kühlung".into()), "\"Kühlung\" cannot be written: it takes 8 bytes, there is room for 6");
    let lacks = "\"ü\" cannot be written: it has characters that the device's encoding lacks";
    check_refused(&of(3, Lane::Both, Encoding::Ascii), Value::Text("ü".into()), lacks);
    check_refused(&name, Value::Text("a\n".into()), "\"a\n\" cannot be written: it has control characters");
    check_refused(&name, Value::Text(" a".into()), "\" a\" cannot be written: it would read back as \"a\"");
    check_refused(&name, Value::Text("".into()), "\"\" cannot be written: it would read back as not available");
    check_refused(&name, Value::Int(5), "Int(5) is not a text");
    let clock = holding(DataType::Time(Time { form: TimeForm::HourMinute, bcd: false, local: true }));
    check(&clock, Value::Text("08:05".into()), Ask::WriteRegister { address: 101, value: 0x0805 });
    check_refused(&clock, Value::Text("8:05".into()), "\"8:05\" is no time that the device can hold; write it as 08:05");
    let date = holding(DataType::Time(Time { form: TimeForm::Unix, bcd: false, local: false }));
    check(&date, Value::Text("2000-01-01T00:00:00Z".into()), wrote(&[0x386d, 0x4380]));
    let says = "\"2000-01-01T00:00:00\" is no time that the device can hold; write it as 2026-11-21T14:07:00Z";
    check_refused(&date, Value::Text("2000-01-01T00:00:00".into()), says);
    check(&holding(DataType::Bcd(8)), Value::Uint(12_345_678), wrote(&[0x1234, 0x5678]));
    check_refused(&holding(DataType::Bcd(4)), Value::Uint(10_000), "10000 does not fit a bcd (raw value 10000)");
    check(&holding(DataType::M10k(3)), Value::Uint(100_029_999), wrote(&[9999, 2, 1]));
    check(&Point { order: WordOrder::Cdab, ..holding(DataType::M10k(3)) }, Value::Uint(100_029_999), wrote(&[1, 2, 9999]));
    let names = Names::Values(vec![(-1, "auto".into()), (1, "heating".into())]);
    let mode = Point { names, ..holding(DataType::I16) };
    check(&mode, Value::Text("auto".into()), Ask::WriteRegister { address: 101, value: 0xffff });
    check(&mode, Value::Int(7), Ask::WriteRegister { address: 101, value: 7 });
    check_refused(&mode, Value::Text("cooling".into()), "cooling is none of its words; use auto, heating");
    let valve = Point { names: Names::Values(vec![(0, "shut".into()), (1, "open".into())]), ..point(Table::Coil, 3, DataType::Bool) };
    check(&valve, Value::Text("open".into()), Ask::WriteCoil { address: 3, on: true });
    let flags = Point { names: Names::Flags(vec![(0, "fan".into())]), ..holding(DataType::U16) };
    check_refused(&flags, Value::Text("fan".into()), "a set of flags cannot be written");
    let scaled = Point { scale_register: Some(crate::config::Register { table: Table::Holding, address: 1 }), ..holding(DataType::U16) };
    check_refused(
        &scaled,
        Value::Int(1),
        "a value with a scale register cannot be written: the device may change its power of ten meanwhile",
    );
    let pending = Point { pending: vec![0x7ffd], ..holding(DataType::I16) };
    check_refused(&pending, Value::Int(0x7ffd), "32765 would be written as the pattern that means \"not available\"");
}

#[test]
fn bits_are_written_at_their_place_with_or_without_a_mask() {
    let bits = |first, count| holding(DataType::Bits(Bits { first, count }));
    check(&bits(4, 3), Value::Uint(5), Ask::WriteRegister { address: 101, value: 0x50 });
    check(&with_function(bits(4, 3), 22), Value::Uint(5), Ask::MaskWrite { address: 101, and: 0xff8f, or: 0x50 });
    check(&with_function(bits(15, 1), 22), Value::Bool(true), Ask::MaskWrite { address: 101, and: 0x7fff, or: 0x8000 });
    check(&with_function(holding(DataType::U16), 22), Value::Uint(7), Ask::MaskWrite { address: 101, and: 0, or: 7 });
    let swapped = Point { order: WordOrder::Badc, ..bits(0, 4) };
    check(&with_function(swapped.clone(), 22), Value::Uint(9), Ask::MaskWrite { address: 101, and: 0xf0ff, or: 0x0900 });
    assert_eq!((mask(&swapped), mask(&holding(DataType::U32))), (vec![0x0f00], vec![0xffff, 0xffff]));
    check_refused(&bits(4, 3), Value::Uint(8), "8 does not fit a bits (raw value 8)");
}

#[test]
fn a_write_goes_where_the_rule_says() {
    let moved = |kind, table, address| {
        let point = point(table, 101, kind);
        let register = Some(crate::config::Register { table, address });
        Point { write: Some(Box::new(WriteRule { register, ..WriteRule::default() })), ..point }
    };
    check(&moved(DataType::U16, Table::Holding, 400), Value::Uint(67), Ask::WriteRegister { address: 400, value: 67 });
    check(&moved(DataType::U32, Table::Holding, 400), Value::Uint(1), Ask::WriteRegisters { start: 400, words: vec![0, 1] });
    check(&moved(DataType::Bool, Table::Coil, 7), Value::Bool(true), Ask::WriteCoil { address: 7, on: true });
    check(&moved(DataType::U16, Table::Coil, 7), Value::Uint(0x5500), Ask::WriteCoilWord { address: 7, value: 0x5500 });
}

#[test]
fn a_listed_request_is_sent_for_true_and_for_nothing_else() {
    let raw = crate::config::RawPdu { request: vec![0x42], reply: vec![Some(0x42)] };
    let reset = Point { write: Some(Box::new(WriteRule { raw: Some(raw.clone()), ..WriteRule::default() })), ..holding(DataType::Bool) };
    check(&reset, Value::Bool(true), Ask::Raw(raw));
    check_refused(&reset, Value::Bool(false), "holding-101-bool takes true: it sends a request of its own");
}
