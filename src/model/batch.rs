//! The sealed batch: the unit of sending and of acknowledgement. A resend is the same data under the same key.

use super::{Boot, BootIndex, DeviceId, PointId, Quality, Reading, Value};
use std::sync::Arc;

/// 64 random bits drawn at every process start. Written as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Epoch {
    pub fn parse(text: &str) -> Option<Epoch> {
        if text.len() == 16 { u64::from_str_radix(text, 16).ok().map(Epoch) } else { None }
    }
}

impl serde::Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Epoch::parse(&text).ok_or_else(|| serde::de::Error::custom("an epoch is 16 hex digits"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Telemetry,
    Event,
}

impl Stream {
    pub const fn word(self) -> &'static str {
        match self {
            Stream::Telemetry => "telemetry",
            Stream::Event => "event",
        }
    }
}

/// With the gateway id this makes any consumer idempotent. Sequences start at 1 in each stream of each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub epoch: Epoch,
    pub stream: Stream,
    pub seq: u64,
}

/// Telemetry under one key. Immutable from the moment it has a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    pub key: Key,
    /// The kernel boot whose clock the rows were stamped with.
    pub boot: BootIndex,
    pub frames: Vec<Frame>,
}

impl Sealed {
    /// Samples that the batch stands for: one per point and row, and those that thinning left out.
    pub fn samples(&self) -> u64 {
        self.frames.iter().map(Frame::samples).sum()
    }

    /// The first and last moment in it.
    pub fn span(&self) -> Option<(Boot, Boot)> {
        let mut rows = self.frames.iter().flat_map(|f| f.rows.iter().map(|r| r.at));
        let first = rows.next()?;
        Some(rows.fold((first, first), |(lo, hi), at| (lo.min(at), hi.max(at))))
    }
}

/// Readings of one device with the same points: a small table.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub device: DeviceId,
    pub points: Arc<[PointId]>,
    /// In order of arrival, never empty.
    pub rows: Vec<Row>,
    /// Set where rows were left out at the limit on the disk.
    pub thin: Option<Thin>,
}

/// Of each window only the rows stayed that hold the least, greatest or last value of a point, or a change of quality.
/// They are rows as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thin {
    pub window_ms: u32,
    /// Samples that the frame stands for, with those that are there.
    pub of: u32,
}

impl Frame {
    /// Samples that it stands for.
    pub fn samples(&self) -> u64 {
        self.thin.map_or((self.points.len() * self.rows.len()) as u64, |thin| u64::from(thin.of))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub at: Boot,
    /// One per point of the frame.
    pub values: Vec<Value>,
    /// `None`: all good. Else one per point.
    pub quality: Option<Vec<Quality>>,
}

impl From<Reading> for Frame {
    fn from(r: Reading) -> Frame {
        Frame { device: r.device, points: r.points, rows: vec![Row { at: r.at, values: r.values, quality: r.quality }], thin: None }
    }
}
