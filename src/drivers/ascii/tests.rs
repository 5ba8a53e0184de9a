//! Frames, checksums and fields of real devices, and of bytes that are none.

use super::*;
use crate::{
    config::framed::{Checksum, End, Over, Sum},
    drivers::ascii::{
        check,
        frame::{Found, find},
        parse, testing,
    },
};
use proptest::prelude::*;

fn said(device: &Framed, bytes: &[u8]) -> Vec<String> {
    let values = |s: Said| {
        let pair = |(n, id): (usize, &PointId)| {
            let quality = s.quality.as_ref().map_or(Quality::Good, |q| q[n]);
            let value = match &s.values[n] {
                Value::Null => quality.word().to_owned(),
                Value::Float(v) => v.to_string(),
                Value::Bool(v) => v.to_string(),
                Value::Text(v) => v.to_string(),
                other => format!("{other:?}"),
            };
            format!("{id}={value}")
        };
        s.points.iter().enumerate().map(pair).collect::<Vec<_>>().join(" ")
    };
    parse(&Parser::new(device), bytes).into_iter().map(values).collect()
}

/// Examples that makers print in their manuals: Vaisala M210822EN (MWV message), WMT700 user guide E.3.
#[test]
fn checksums_of_printed_examples_are_right() {
    let mut station = testing::weather("w");
    station.patterns = vec![testing::pattern(r"WIMWV,(?<angle>[0-9.]*),R,(?<speed>[0-9.]*),[MN],[AV]")];
    for (sentence, want) in [
        ("$WIMWV,39,R,1.3,M,A*06\r\n", "angle=39 speed=1.3"),
        ("$WIMWV,61,R,1.0,M,A*08\r\n", "angle=61 speed=1"),
        ("$WIMWV,39,R,0.5,M,A*01\r\n", "angle=39 speed=0.5"),
        ("$WIMWV,045,R,011.63,N,A*09\r\n", "angle=45 speed=11.63"),
    ] {
        check_said(&station, sentence.as_bytes(), &[want]);
    }
}

fn bcc(block: &[u8]) -> Vec<u8> {
    let mut frame = vec![2];
    frame.extend(block);
    frame.push(3);
    frame.push(u8::try_from(check::sum(Sum::Xor8, &frame[1..])).unwrap());
    frame
}

#[test]
fn a_scale_says_its_weight() {
    let scale = testing::scale("s");
    check_said(&scale, b"S S     100.00 g\r\n", &["stable=true weight=100"]);
    check_said(&scale, b"S D      -0.52 kg\r\n", &["stable=false weight=-0.52"]);
    check_said(&scale, b"S I\r\n", &[""]);
    check_said(&scale, b"S S     100.00 g\r\nS D 1.5 g\r\n", &["stable=true weight=100", "stable=false weight=1.5"]);
    check_said(&scale, b"ES\r\n", &[]);
    check_said(&scale, b"xS S     100.00 g\r\n", &[]);
    check_said(&scale, b"S S     100.00 g", &[]);
}

#[test]
fn a_weather_station_is_believed_only_with_its_checksum() {
    let station = testing::weather("w");
    check_said(&station, b"$WIMWV,214.8,R,0.1,K,A*28\r\n", &["angle=214.8 speed=0.1"]);
    check_said(&station, b"$WIMWV,214.8,R,0.2,K,A*28\r\n", &[]);
    check_said(&station, b"$WIMWV,214.8,R,0.1,K,A\r\n", &[]);
    check_said(&station, b"noise$WIMWV,214.8,R,0.1,K,A*28\r\n$WIMTA,12.5,C*1D\r\n", &["angle=214.8 speed=0.1", "air=12.5"]);
    // Broken off and begun anew: the second is whole.
    check_said(&station, b"$WIMWV,21$WIMWV,214.8,R,0.1,K,A*28\r\n", &["angle=214.8 speed=0.1"]);
    check_said(&station, b"$WIMTA,,C*05\r\n", &["air=bad"]);
}

#[test]
fn a_meter_with_a_block_check_character_may_hold_anything_in_it() {
    let meter = testing::meter("m");
    check_said(&meter, &bcc(b"1.8.0(000123.45*kWh)\r\n!\r\n"), &["energy=123.45"]);
    let mut wrong = bcc(b"1.8.0(000123.45*kWh)\r\n!\r\n");
    *wrong.last_mut().unwrap() ^= 1;
    check_said(&meter, &wrong, &[]);
    // The block check character is cut off.
    wrong.pop();
    assert_eq!(find(&meter.frame, &wrong, false), Found::More(1));
}

#[track_caller]
fn check_said(device: &Framed, bytes: &[u8], want: &[&str]) {
    assert_eq!(said(device, bytes), want, "{}", String::from_utf8_lossy(bytes));
}

#[test]
fn columns_are_counted_from_one_and_may_be_missing() {
    for (first, last, want) in [(1, 2, Some("ab")), (3, 6, Some("cdef")), (5, 9, Some("ef")), (6, 6, Some("f")), (7, 9, None), (0, 3, None)]
    {
        assert_eq!(columns("abcdef", first, last), want, "{first} to {last}");
    }
}

#[test]
fn numbers_are_decimal_and_nothing_else() {
    for (field, decimal, want) in [
        ("12.50", '.', Some(12.5)),
        ("-   0.52", '.', Some(-0.52)),
        ("+ 3", '.', Some(3.0)),
        ("1e3", '.', Some(1000.0)),
        ("12,5", ',', Some(12.5)),
        ("12,5", '.', None),
        (".5", '.', Some(0.5)),
        ("", '.', None),
        ("--1", '.', None),
        ("nan", '.', None),
        ("inf", '.', None),
        ("1e999", '.', None),
        ("------", '.', None),
        ("12.5 kg", '.', None),
    ] {
        assert_eq!(number(field, decimal), want, "{field}");
    }
}

#[test]
fn a_field_is_scaled_named_or_not_available() {
    let check = |point: &FramedPoint, field: Option<&str>, want: (Value, Quality)| assert_eq!(decode(point, field), want, "{field:?}");
    let number = FramedPoint { scale: 0.1, na: vec!["------".into()], ..testing::point("p", FieldType::Number) };
    check(&number, Some(" 642 "), (Value::Float(64.2), Quality::Good));
    check(&number, Some("------"), (Value::Null, Quality::NotAvailable));
    check(&number, Some("OL"), (Value::Null, Quality::Bad));
    check(&number, None, (Value::Null, Quality::NotAvailable));
    let word = FramedPoint { values: vec![("S".into(), Value::Text("stable".into()))], ..testing::point("p", FieldType::Text) };
    check(&word, Some("S"), (Value::Text("stable".into()), Quality::Good));
    check(&word, Some("X"), (Value::Null, Quality::Bad));
    check(&testing::point("p", FieldType::Bool), Some("ON"), (Value::Bool(true), Quality::Good));
    check(&testing::point("p", FieldType::Bool), Some("2"), (Value::Null, Quality::Bad));
    check(&testing::point("p", FieldType::Text), Some("a b"), (Value::Text("a b".into()), Quality::Good));
}

fn rules() -> impl Strategy<Value = crate::config::framed::Frame> {
    let end = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..3).prop_map(End::Terminator),
        (1usize..40).prop_map(End::Length),
        Just(End::Silence(std::time::Duration::from_millis(50))),
    ];
    let kind = prop::sample::select(vec![Sum::Sum8, Sum::Xor8, Sum::Lrc, Sum::Crc16Modbus, Sum::Crc16Ccitt, Sum::Crc16Xmodem]);
    let over = prop::sample::select(vec![Over::Frame, Over::Body, Over::Data]);
    let checksum = (kind, over, any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..2), any::<bool>())
        .prop_map(|(kind, over, hex, after, mark, little)| Checksum { kind, over, hex, after, mark, little });
    (prop::collection::vec(any::<u8>(), 0..3), end, 1usize..60, prop::option::of(checksum)).prop_map(
        |(start, end, max_bytes, mut checksum)| {
            if let Some(c) = &mut checksum {
                // As `check` asks for it.
                c.after &= matches!(end, End::Terminator(_));
            }
            crate::config::framed::Frame { start, end, max_bytes, checksum }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_taken_apart_without_a_panic_and_every_step_moves_on(
        rule in rules(),
        bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0x24), 1 => Just(0x0d), 1 => Just(0x0a)], 0..200),
        quiet in any::<bool>(),
    ) {
        let mut rest = bytes.as_slice();
        loop {
            match find(&rule, rest, quiet) {
                Found::More(n) => {
                    prop_assert!(n >= 1);
                    // Bounded: what is kept while more is wanted is at most the longest frame and a cut start.
                    let most = rule.max_bytes.max(match rule.end { End::Length(n) => n, _ => 0 });
                    if !quiet {
                        let from = if rule.start.is_empty() { 0 } else {
                            rest.windows(rule.start.len()).position(|w| w == rule.start).unwrap_or(0)
                        };
                        prop_assert!(rest.len() - from <= most + 8, "{} kept of at most {most}", rest.len() - from);
                    }
                    break;
                }
                Found::Garbled { end, .. } => {
                    prop_assert!(end >= 1 && end <= rest.len());
                    rest = &rest[end..];
                }
                Found::Frame { body, end } => {
                    prop_assert!(end >= 1 && body.start <= body.end && body.end <= end && end <= rest.len());
                    rest = &rest[end..];
                }
            }
        }
    }

    #[test]
    fn any_bytes_become_values_or_nothing(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"$WIMTA,12.5C*\r\nS \x02\x03".to_vec())], 0..300)) {
        for device in [testing::scale("s"), testing::weather("w"), testing::meter("m")] {
            for said in parse(&Parser::new(&device), &bytes) {
                prop_assert_eq!(said.points.len(), said.values.len());
                prop_assert!(said.values.iter().all(|v| v.as_f64().is_none_or(f64::is_finite)));
            }
        }
    }

    #[test]
    fn a_built_frame_is_found_wherever_it_stands(kind in 0usize..6, hex in any::<bool>(), noise in prop::collection::vec(any::<u8>().prop_filter("no start", |b| *b != 2), 0..20), body in "[ -)+-~]{1,20}") {
        let kind = [Sum::Sum8, Sum::Xor8, Sum::Lrc, Sum::Crc16Modbus, Sum::Crc16Ccitt, Sum::Crc16Xmodem][kind];
        let rule = crate::config::framed::Frame {
            start: vec![2],
            end: End::Terminator(vec![3]),
            max_bytes: 64,
            checksum: Some(Checksum { kind, over: Over::Body, hex, after: true, mark: Vec::new(), little: false }),
        };
        let mut bytes = noise.clone();
        bytes.push(2);
        bytes.extend(body.bytes());
        bytes.push(3);
        let sum = check::sum(kind, &bytes[noise.len() + 1..]);
        bytes.extend(check::written(rule.checksum.as_ref().unwrap(), sum));
        let begin = noise.len() + 1;
        prop_assert_eq!(find(&rule, &bytes, false), Found::Frame { body: begin..begin + body.len(), end: bytes.len() });
    }
}
