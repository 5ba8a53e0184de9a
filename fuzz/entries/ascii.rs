//! The parser of framed text, with several rules of frames and of what they say, fed in pieces as a port feeds it.

use super::feed::Feed;
use fieldgate::{
    config::framed::{Checksum, End, FieldPlace, FieldType, Framed, FramedPoint, Over, Pattern, Sum},
    drivers::ascii::{
        check,
        fields::{Parser, Said},
        frame::{self, Found},
        parse,
    },
    model::{DeviceId, LineId, PointId, Value},
};
use std::{sync::LazyLock, time::Duration};

const MAX_BYTES: usize = 80;

/// Each end of frame with each checksum, by patterns and by columns.
static PARSERS: LazyLock<Vec<Parser>> = LazyLock::new(|| {
    let ends =
        [End::Terminator(b"\r\n".to_vec()), End::Terminator(b"\x03".to_vec()), End::Length(24), End::Silence(Duration::from_millis(5))];
    let mut out = Vec::new();
    for end in &ends {
        for checksum in checksums() {
            for start in [&b""[..], b"$", b"\x02A"] {
                for by_pattern in [true, false] {
                    let mut device = device(end.clone(), by_pattern);
                    device.frame.start = start.to_vec();
                    device.frame.checksum.clone_from(&checksum);
                    device.frame.max_bytes = MAX_BYTES;
                    out.push(Parser::new(&device));
                }
            }
        }
    }
    out
});

fn checksums() -> Vec<Option<Checksum>> {
    let with = |kind, over, hex, after, mark: &[u8], little| Some(Checksum { kind, over, hex, after, mark: mark.to_vec(), little });
    vec![
        None,
        with(Sum::Xor8, Over::Body, true, false, b"*", false),
        with(Sum::Sum8, Over::Frame, false, false, b"", false),
        with(Sum::Lrc, Over::Data, true, true, b"", false),
        with(Sum::Crc16Modbus, Over::Frame, false, true, b"", true),
        with(Sum::Crc16Ccitt, Over::Body, true, false, b"#", false),
        with(Sum::Crc16Xmodem, Over::Frame, true, false, b"", true),
    ]
}

fn device(end: End, by_pattern: bool) -> Framed {
    let id = |name: &str| PointId::parse(name).expect("valid");
    let mut device = Framed::new(DeviceId::parse("d").expect("valid"), LineId::parse("bus").expect("valid"), end);
    let kinds = [("weight", FieldType::Number), ("unit", FieldType::Text), ("stable", FieldType::Bool)];
    if by_pattern {
        let pattern = |text| Pattern::new(text).expect("compiles");
        device.patterns = vec![pattern(r"S (?<stable>[SD]) +(?<weight>[-0-9.,eE]+) *(?<unit>\w*)"), pattern("(?<unit>.*)")];
    }
    for (n, (name, kind)) in kinds.into_iter().enumerate() {
        let place = if by_pattern { FieldPlace::Field(name.into()) } else { FieldPlace::Columns(n * 4 + 1, n * 4 + 4) };
        let point = FramedPoint::new(id(name), Some(place), kind);
        let values = if kind == FieldType::Bool { vec![("S".into(), Value::Bool(true)), ("D".into(), Value::Bool(false))] } else { vec![] };
        device.points.push(FramedPoint {
            scale: 0.1,
            offset: 3.0,
            decimal: if n == 0 { ',' } else { '.' },
            na: vec!["---".into()],
            values,
            ..point
        });
    }
    device
}

pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let parser = &PARSERS[usize::from(feed.byte()) % PARSERS.len()];
    let step = usize::from(feed.byte() % 64) + 1;
    let bytes = mended(parser, &mut feed);
    let said = parse(parser, &bytes);
    assert!(said.len() <= bytes.len(), "a frame has a byte");
    said.iter().for_each(sound);
    // In pieces: what is not whole yet never grows beyond the longest frame, and every judgement moves on.
    let mut buffer = Vec::new();
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let end = match frame::find(parser.frame(), &buffer, false) {
                Found::More(missing) => {
                    assert!(missing >= 1);
                    break;
                }
                Found::Garbled { end, .. } => end,
                Found::Frame { body, end } => {
                    assert!(body.start <= body.end && body.end <= end);
                    if let Ok(said) = parser.read(&buffer[body]) {
                        sound(&said);
                    }
                    end
                }
            };
            assert!(end >= 1 && end <= buffer.len(), "a judgement spends bytes");
            buffer.drain(..end);
        }
        assert!(buffer.len() <= 2 * MAX_BYTES + step, "{} bytes wait for an end", buffer.len());
    }
}

/// The bytes; sometimes with a checksum behind them that fits the plain cases.
fn mended(parser: &Parser, feed: &mut Feed<'_>) -> Vec<u8> {
    let mend = feed.byte() % 2 == 1;
    let mut bytes = feed.rest().to_vec();
    if let (true, Some(rule)) = (mend, &parser.frame().checksum) {
        let sum = check::sum(rule.kind, &bytes);
        bytes.extend_from_slice(&rule.mark);
        bytes.extend(check::written(rule, sum));
        if let End::Terminator(terminator) = &parser.frame().end {
            bytes.extend_from_slice(terminator);
        }
    }
    bytes
}

fn sound(said: &Said) {
    assert_eq!(said.points.len(), said.values.len());
    assert!(said.quality.as_ref().is_none_or(|q| q.len() == said.values.len()));
    assert!(said.values.iter().all(|v| !matches!(v, Value::Float(f) if !f.is_finite())), "no value is NaN or infinite");
}
