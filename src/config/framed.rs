//! Devices on a line with `protocol = "ascii"`: scales, weather stations, meters that send framed text and no Modbus.
//!
//! What a frame is (where it begins and ends, what protects it) and what it says (patterns or columns) is all written by
//! the operator; nothing here knows a make.

use super::device::Report;
use crate::model::{DeviceId, LineId, PointId, Value};
use regex_lite::Regex;
use std::{fmt, sync::Arc, time::Duration};

/// A device that is asked by a fixed request, or speaks by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    pub id: DeviceId,
    pub line: LineId,
    /// The request of a poll. `None`: it speaks by itself (`listen = true`).
    pub request: Option<Vec<Piece>>,
    /// Zero: as fast as the line allows. Nothing for a device that speaks by itself.
    pub poll: Duration,
    /// Silence after which it is offline. Default: 3 polls, at least 2 s; 30 s for a device that speaks by itself.
    pub offline_after: Duration,
    /// Offline for so long, it is an alarm. `None`: as `[watch]` says.
    pub alarm_after: Option<Duration>,
    /// `None`: the line's.
    pub timeout: Option<Duration>,
    pub retries: Option<u8>,
    pub min_gap: Option<Duration>,
    pub frame: Frame,
    /// The first that fits the whole frame counts. Empty: points are columns.
    pub patterns: Vec<Pattern>,
    /// Its replies carry its address, so that a neighbour's late reply is never taken for them.
    pub is_addressed: bool,
    /// In order of id.
    pub points: Vec<FramedPoint>,
}

impl Framed {
    /// With the defaults of a device that says only how its frames end.
    pub fn new(id: DeviceId, line: LineId, end: End) -> Framed {
        Framed {
            id,
            line,
            request: None,
            poll: Duration::from_secs(5),
            offline_after: Duration::from_secs(15),
            alarm_after: None,
            timeout: None,
            retries: None,
            min_gap: None,
            frame: Frame { start: Vec::new(), end, max_bytes: 256, checksum: None },
            patterns: Vec::new(),
            is_addressed: false,
            points: Vec::new(),
        }
    }
}

/// Where a frame begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What comes before it is no part of a frame. Empty: a frame begins where the one before ended.
    pub start: Vec<u8>,
    pub end: End,
    /// Longer is garbled.
    pub max_bytes: usize,
    pub checksum: Option<Checksum>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Terminator(Vec<u8>),
    /// Of the whole frame, `start` and checksum included.
    Length(usize),
    Silence(Duration),
}

/// What protects a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    pub kind: Sum,
    pub over: Over,
    /// As hexadecimal digits, else as bytes.
    pub hex: bool,
    /// Behind the terminator, else before it (or at the end of a frame without one).
    pub after: bool,
    /// What stands between the covered part and the checksum, as NMEA's `*`.
    pub mark: Vec<u8>,
    /// Low byte first.
    pub little: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// The sum of all bytes, modulo 256.
    Sum8,
    Xor8,
    /// The two's complement of the sum, as Modbus ASCII and Hanover displays use it.
    Lrc,
    /// Polynomial 0x8005 reflected, begun with 0xFFFF.
    Crc16Modbus,
    /// Polynomial 0x1021, begun with 0xFFFF ("CCITT-FALSE").
    Crc16Ccitt,
    /// Polynomial 0x1021, begun with 0.
    Crc16Xmodem,
}

impl Sum {
    pub const fn bytes(self) -> usize {
        match self {
            Sum::Sum8 | Sum::Xor8 | Sum::Lrc => 1,
            Sum::Crc16Modbus | Sum::Crc16Ccitt | Sum::Crc16Xmodem => 2,
        }
    }
}

impl Checksum {
    /// Bytes that it takes in the frame, without its mark.
    pub const fn width(&self) -> usize {
        if self.hex { self.kind.bytes() * 2 } else { self.kind.bytes() }
    }
}

/// What a checksum covers. It ends before the mark or the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// From the first byte, `start` included.
    Frame,
    /// Without `start`. A checksum behind the terminator covers the terminator too.
    Body,
    /// Without `start` and without the terminator.
    Data,
}

/// A regular expression that compiled. It must fit the whole frame.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    regex: Arc<Regex>,
}

impl Pattern {
    /// `Err` is the reason in the words of the expression's compiler.
    pub fn new(text: &str) -> Result<Pattern, String> {
        // Alone first: what is wrong is told of what was written.
        Regex::new(text).map_err(|e| e.to_string())?;
        let regex = Regex::new(&format!(r"\A(?:{text})\z")).map_err(|e| e.to_string())?;
        Ok(Pattern { text: text.into(), regex: Arc::new(regex) })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Names of its groups.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

/// One value of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FramedPoint {
    pub id: PointId,
    /// `None`: only written.
    pub place: Option<FieldPlace>,
    pub kind: FieldType,
    /// value = number * scale + offset.
    pub scale: f64,
    pub offset: f64,
    pub unit: String,
    /// Texts that mean "not available".
    pub na: Vec<String>,
    /// What a text stands for. Empty: the text itself.
    pub values: Vec<(String, Value)>,
    /// `.` or `,`.
    pub decimal: char,
    pub report: Report,
    pub write: Option<FramedWrite>,
}

impl FramedPoint {
    /// With the defaults of a point that says only where it is and of which type.
    pub fn new(id: PointId, place: Option<FieldPlace>, kind: FieldType) -> FramedPoint {
        FramedPoint {
            id,
            place,
            kind,
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
            na: Vec::new(),
            values: Vec::new(),
            decimal: '.',
            report: Report::default(),
            write: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldPlace {
    /// A named group of a pattern.
    Field(String),
    /// First and last column of the frame's body, counted from 1.
    Columns(usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    Number,
    Text,
    Bool,
}

impl FieldType {
    pub const fn word(self) -> &'static str {
        match self {
            FieldType::Number => "number",
            FieldType::Text => "text",
            FieldType::Bool => "bool",
        }
    }
}

/// What is sent to write a point. It goes on the wire once.
#[derive(Debug, Clone, PartialEq)]
pub struct FramedWrite {
    pub send: Vec<Piece>,
    /// The answer that says that it was done. `None`: the device does not answer, and nobody knows what came of it.
    pub expect: Option<Pattern>,
    /// Answers that say that it was not done.
    pub refuse: Option<Pattern>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Shortest time between two writes; sooner is rejected.
    pub min_interval: Duration,
}

impl FramedWrite {
    /// Whether the value that is written appears in what is sent. Without it only `true` can be written.
    pub fn takes_number(&self) -> bool {
        self.send.iter().any(|p| matches!(p, Piece::Value { .. }))
    }
}

/// A part of what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// The number that is written; padded with zeros to `width`, with so many `decimals`.
    Value {
        width: usize,
        decimals: Option<usize>,
    },
    /// The checksum of what stands before it, by the rule of the frame.
    Checksum,
}
