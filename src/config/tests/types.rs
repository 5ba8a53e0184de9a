//! Types and what stands beside them: strings, times, words, sentinels, scale registers, counters, notations.

use super::*;
use crate::config::{
    Counter, DataType, Encoding, Lane, Names, Point, Register, Table, TimeForm,
    device::{Chars, Layout, Time},
};

/// The only point of a file whose point has these lines.
#[track_caller]
fn one(lines: &str, device: &str) -> Point {
    let loaded = load(&format!("[device.d.point.p]\n{lines}\n{GATEWAY}{UPLINK}{DEVICE}{device}"));
    let shown = render::text(&loaded.problems, render::Style::default());
    loaded.config.unwrap_or_else(|| panic!("{lines}\n{shown}")).devices[0].points[0].clone()
}

#[track_caller]
fn kind(lines: &str, want: DataType) {
    assert_eq!(one(&format!("register = \"holding:1\"\n{lines}"), "").kind, want, "{lines}");
}

#[test]
fn texts_and_times_say_how_they_lie() {
    let chars = |registers, lane, encoding| DataType::Text(Chars { registers, lane, encoding });
    kind("type = \"string:16\"", chars(16, Lane::Both, Encoding::Utf8));
    kind("type = \"string:7\"\nbytes = \"low\"\nencoding = \"latin1\"", chars(7, Lane::Low, Encoding::Latin1));
    kind("type = \"string:7\"\nbytes = \"high\"\nencoding = \"ascii\"\norder = \"BADC\"", chars(7, Lane::High, Encoding::Ascii));
    let time = |form, bcd, local| DataType::Time(Time { form, bcd, local });
    kind("type = \"hhmm\"\nbcd = true", time(TimeForm::HourMinute, true, false));
    kind("type = \"unix32\"", time(TimeForm::Unix, false, false));
    kind("type = \"datetime:4\"\nzone = \"local\"", time(TimeForm::Iec870, false, true));
    let layout = Layout { registers: 3, at: [2, 1, 0, 3, 4, 5], wide_year: false };
    kind("type = \"datetime:3\"\nlayout = \"DMYhms\"", time(TimeForm::Bytes(layout), false, false));
    kind("type = \"bcd:8\"", DataType::Bcd(8));
    kind("type = \"m10k:4\"", DataType::M10k(4));
}

#[test]
fn what_does_not_belong_to_the_type_is_said() {
    let bad = |lines: &str, want: &[&str]| point(&format!("register = \"holding:1\"\n{lines}"), want);
    bad("type = \"string:126\"", &["bad-value 3:8+12"]);
    bad("type = \"m10k:5\"", &["bad-value 3:8+8"]);
    bad("type = \"u16\"\nbytes = \"low\"", &["misplaced-key 4:1+5"]);
    bad("type = \"string:4\"\nbytes = \"lower\"", &["bad-value 4:9+7"]);
    bad("type = \"string:4\"\nzone = \"local\"", &["misplaced-key 4:1+4"]);
    bad("type = \"string:4\"\norder = \"CDAB\"", &["bad-value 4:9+6"]);
    bad("type = \"string:4\"\nna = [0]", &["no-effect 4:1+2"]);
    bad("type = \"datetime:3\"", &["missing-key 3:8+12"]);
    bad("type = \"datetime:3\"\nlayout = \"DMYhm\"", &["bad-value 4:10+7"]);
    bad("type = \"hhmm\"\nlayout = \"hm\"", &["bad-value 4:10+4"]);
    bad("type = \"unix32\"\nbcd = true", &["misplaced-key 4:1+3"]);
    bad("type = \"hhmm\"\nscale_register = \"holding:2\"", &["type-mismatch 4:18+11"]);
}

#[test]
fn words_stand_for_numbers_or_bits() {
    let names = |lines: &str| one(&format!("register = \"holding:1\"\n{lines}"), "").names;
    let values = |list: &[(i128, &str)]| Names::Values(list.iter().map(|(n, w)| (*n, (*w).into())).collect());
    // pzem-004t-v3 in device_facts.json: 65535 is the alarm.
    assert_eq!(names("type = \"u16\"\nvalues = { 0 = \"ok\", 65535 = \"alarm\" }"), values(&[(0, "ok"), (65535, "alarm")]));
    assert_eq!(names("type = \"i16\"\nvalues = { 0x10 = \"b\", \"-1\" = \"a\" }"), values(&[(-1, "a"), (16, "b")]));
    let flags = Names::Flags(vec![(0, "alarm".into()), (3, "fan".into())]);
    assert_eq!(names("type = \"u16\"\nflags = { 3 = \"fan\", 0 = \"alarm\" }"), flags);
    let bad = |lines: &str, want: &[&str]| point(&format!("register = \"holding:1\"\n{lines}"), want);
    bad("type = \"u16\"\nvalues = { 0 = \"a\" }\nflags = { 0 = \"a\" }", &["no-effect 5:1+5"]);
    bad("type = \"f32\"\nvalues = { 0 = \"a\" }", &["type-mismatch 4:1+6"]);
    bad("type = \"i16\"\nflags = { 0 = \"a\" }", &["type-mismatch 4:1+5"]);
    bad("type = \"u16\"\nscale = 0.1\nvalues = { 0 = \"a\" }", &["type-mismatch 5:1+6"]);
    bad("type = \"u16\"\nvalues = { 65536 = \"a\" }", &["out-of-range 4:12+5"]);
    bad("type = \"u16\"\nvalues = { off = \"a\" }", &["out-of-range 4:12+3"]);
    bad("type = \"u16\"\nvalues = { 0 = 1 }", &["wrong-type 4:16+1"]);
    bad("type = \"u16\"\nvalues = { 0 = \"a\", 1 = \"a\" }", &["duplicate-key 4:21+1"]);
    bad("type = \"u16\"\nflags = { 16 = \"a\" }", &["out-of-range 4:11+2"]);
    bad("type = \"u16\"\nflags = { 0 = \"a|b\" }", &["wrong-type 4:15+5"]);
    bad("type = \"u16\"\nwrite = true\nflags = { 0 = \"a\" }", &["bad-write 4:1+5"]);
}

#[test]
fn sentinels_of_three_kinds() {
    // Daikin (FIELD_TRUTH row 8): 32765 pending, 32766 unavailable, 32767 unsupported.
    let daikin = one("register = \"holding:1\"\ntype = \"i16\"\npending = [32765]\nna = [32766]\nunsupported = [32767]", "");
    assert_eq!((daikin.pending, daikin.na, daikin.unsupported), (vec![32765], vec![32766], vec![32767]));
    point("register = \"holding:1\"\ntype = \"i16\"\npending = [70000]", &["out-of-range 4:12+5"]);
}

#[test]
fn a_scale_register_is_in_the_table_of_its_value() {
    let at = |lines: &str| one(&format!("register = \"holding:40071\"\ntype = \"u16\"\n{lines}"), "").scale_register;
    assert_eq!(at("scale_register = \"holding:40075\""), Some(Register { table: Table::Holding, address: 40075 }));
    let bad = |lines: &str, want: &[&str]| point(&format!("register = \"holding:1\"\ntype = \"u32\"\n{lines}"), want);
    bad("scale_register = \"input:9\"", &["type-mismatch 4:18+9"]);
    bad("scale_register = \"holding:2\"", &["type-mismatch 4:18+11"]);
    bad("scale_register = 40083", &["ambiguous-register 4:18+5"]);
    bad("scale_register = \"holding:9\"\nwrite = true", &["bad-write 5:1+5"]);
}

#[test]
fn counters() {
    let counter = |lines: &str| one(&format!("register = \"input:0\"\ntype = \"u32\"\n{lines}"), "").counter;
    assert_eq!(counter("counter = true"), Some(Counter::default()));
    assert_eq!(counter("counter = false"), None);
    assert_eq!(counter("scale = 0.1\ncounter = { width = 23 }"), Some(Counter { modulo: Some(838_860.8), ..Counter::default() }));
    let all = "counter = { modulo = 9999.99, reset = \"daily\", delta = true, confirm = 5, max_per_s = 2.5 }";
    let want = Counter { modulo: Some(9999.99), daily: true, delta: true, confirm: 5, max_per_s: Some(2.5) };
    assert_eq!(counter(all), Some(want));
    let bad = |lines: &str, want: &[&str]| point(&format!("register = \"input:0\"\n{lines}"), want);
    bad("type = \"u32\"\ncounter = { width = 32, modulo = 100 }", &["no-effect 4:13+5"]);
    bad("type = \"u32\"\ncounter = { modulo = 0 }", &["out-of-range 4:22+1"]);
    bad("type = \"u32\"\ncounter = { reset = \"weekly\" }", &["bad-value 4:21+8"]);
    bad("type = \"u32\"\ncounter = { confirm = 1 }", &["out-of-range 4:23+1"]);
    bad("type = \"u32\"\ncounter = 3", &["wrong-type 4:11+1"]);
    bad("type = \"string:4\"\ncounter = true", &["type-mismatch 4:1+7"]);
    let twice = "[device.d.point.p]\nregister = \"input:0\"\ntype = \"u32\"\ncounter = { delta = true }\n";
    let other = "[device.d.point.p_delta]\nregister = \"input:2\"\ntype = \"u32\"\n";
    check(&format!("{twice}{other}{GATEWAY}{UPLINK}{DEVICE}"), &["duplicate-id 1:17+1"]);
}

#[test]
fn notation_says_what_five_digits_mean() {
    let modicon = one("register = 30012\ntype = \"i16\"", "notation = \"modicon\"\n");
    assert_eq!(modicon.register, Register { table: Table::Input, address: 11 });
    let note = "modicon-register 2:12+5";
    check(&format!("[device.d.point.p]\nregister = 30012\ntype = \"i16\"\n{GATEWAY}{UPLINK}{DEVICE}notation = \"modicon\""), &[note]);
    point("register = \"hr:7\"\ntype = \"i16\"", &["modicon-register 2:12+6"]);
    let p = &check(
        &format!("[device.d.point.p]\nregister = \"4x00008\"\ntype = \"i16\"\n{GATEWAY}{UPLINK}{DEVICE}"),
        &["modicon-register 2:12+9"],
    )[0];
    assert_eq!(p.found, "4x00008 is holding:7 on the wire");
}
