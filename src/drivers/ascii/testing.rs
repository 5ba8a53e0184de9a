//! Devices for the tests of this room, as their manuals describe them.

use crate::config::framed::{Checksum, End, FieldPlace, FieldType, Framed, FramedPoint, FramedWrite, Over, Pattern, Piece, Sum};
use crate::model::{DeviceId, LineId, PointId};
use std::time::Duration;

pub fn device(id: &str, end: End) -> Framed {
    let (id, line) = (DeviceId::parse(id).expect("valid"), LineId::parse("scales").expect("valid"));
    Framed { poll: Duration::from_secs(1), offline_after: Duration::from_secs(3), ..Framed::new(id, line, end) }
}

pub fn point(name: &str, kind: FieldType) -> FramedPoint {
    FramedPoint::new(PointId::parse(name).expect("valid"), Some(FieldPlace::Field(name.to_owned())), kind)
}

pub fn request(text: &str) -> Option<Vec<Piece>> {
    Some(vec![Piece::Bytes(text.as_bytes().to_vec())])
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("compiles")
}

/// MT-SICS: `SI` is answered by `S S     100.00 g`.
pub fn scale(id: &str) -> Framed {
    let zero = FramedWrite {
        send: vec![Piece::Bytes(b"Z\r\n".to_vec())],
        expect: Some(pattern("Z A")),
        refuse: Some(pattern("Z [I+-]")),
        min: None,
        max: None,
        min_interval: Duration::ZERO,
    };
    let written = |name: &str, write: FramedWrite| FramedPoint {
        write: Some(write),
        ..FramedPoint::new(PointId::parse(name).expect("valid"), None, FieldType::Bool)
    };
    let limit = FramedWrite {
        send: vec![Piece::Bytes(b"L ".to_vec()), Piece::Value { width: 0, decimals: Some(1) }, Piece::Bytes(b"\r\n".to_vec())],
        expect: None,
        ..zero.clone()
    };
    Framed {
        request: request("SI\r\n"),
        patterns: vec![pattern(r"S (?<stable>[SD]) +(?<weight>-?[0-9.]+) (?<unit>\w+)"), pattern("S (?<fault>[I+-])")],
        points: vec![
            written("limit", limit),
            FramedPoint {
                values: vec![("S".into(), true.into_value()), ("D".into(), false.into_value())],
                ..point("stable", FieldType::Bool)
            },
            point("weight", FieldType::Number),
            written("zero", zero),
        ],
        ..device(id, End::Terminator(b"\r\n".to_vec()))
    }
}

trait IntoValue {
    fn into_value(self) -> crate::model::Value;
}

impl IntoValue for bool {
    fn into_value(self) -> crate::model::Value {
        crate::model::Value::Bool(self)
    }
}

/// NMEA 0183: `$WIMWV,214.8,R,0.1,K,A*28`, said without being asked.
pub fn weather(id: &str) -> Framed {
    let mut device = device(id, End::Terminator(b"\r\n".to_vec()));
    device.frame.start = b"$".to_vec();
    device.frame.checksum =
        Some(Checksum { kind: Sum::Xor8, over: Over::Body, hex: true, after: false, mark: b"*".to_vec(), little: false });
    device.patterns = vec![pattern(r"WIMWV,(?<angle>[0-9.]*),R,(?<speed>[0-9.]*),K,A"), pattern(r"WIMTA,(?<air>-?[0-9.]*),C")];
    device.points = ["air", "angle", "speed"].map(|name| point(name, FieldType::Number)).into();
    device
}

/// IEC 62056-21: a data block between STX and ETX, with a block check character behind it.
pub fn meter(id: &str) -> Framed {
    let mut device = device(id, End::Terminator(vec![3]));
    device.frame.start = vec![2];
    device.frame.checksum = Some(Checksum { kind: Sum::Xor8, over: Over::Body, hex: false, after: true, mark: Vec::new(), little: false });
    device.request = request("/?!\r\n");
    device.patterns = vec![pattern(r"(?s).*1\.8\.0\((?<energy>[0-9.]+)\*kWh\).*")];
    device.points = vec![point("energy", FieldType::Number)];
    device
}
