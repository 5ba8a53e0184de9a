//! What a point may hold, and how good it is.

use super::{Boot, DeviceId, PointId};
use std::sync::Arc;

/// One value. `Null` always comes with a quality other than `Good`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Always finite: a NaN or an infinity on the wire becomes `Null` with `NotAvailable`.
    Float(f64),
    Text(Arc<str>),
}

impl Value {
    /// A finite number, or `Null`.
    pub fn float(v: f64) -> Value {
        if v.is_finite() { Value::Float(v) } else { Value::Null }
    }

    /// Bytes of a text as JSON, without its quotes: a control character is written as six.
    pub fn escaped_len(text: &str) -> usize {
        let byte = |b: u8| match b {
            0..0x20 => 6,
            b'"' | b'\\' => 2,
            _ => 1,
        };
        text.bytes().map(byte).sum()
    }

    /// Bytes of it as JSON with its comma, on the safe side. The longest float has 24 characters, the usual one (scaled
    /// registers) below 12.
    pub fn json_len(&self) -> usize {
        match self {
            Value::Null | Value::Bool(_) => 6,
            Value::Int(v) => digits(v.unsigned_abs()) + 2,
            Value::Uint(v) => digits(*v) + 1,
            Value::Float(_) => 12,
            Value::Text(t) => Value::escaped_len(t) + 3,
        }
    }

    /// Bare, as every surface shows it.
    pub fn plain(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(on) => (*on).into(),
            Value::Int(n) => (*n).into(),
            Value::Uint(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::Text(text) => text.as_ref().into(),
        }
    }

    /// The value that was shown so. `None`: a list or an object is none of a point.
    pub fn of_plain(json: &serde_json::Value) -> Option<Value> {
        Some(match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(on) => Value::Bool(*on),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Value::Int(n),
                (None, Some(n)) => Value::Uint(n),
                (None, None) => Value::Float(n.as_f64()?),
            },
            serde_json::Value::String(text) => Value::Text(text.as_str().into()),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => return None,
        })
    }

    /// As a number, for limits and deadbands. Booleans are 0 and 1.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            #[allow(clippy::cast_precision_loss)] // limits and deadbands do not need 53 bits
            Value::Int(v) => Some(*v as f64),
            #[allow(clippy::cast_precision_loss)]
            Value::Uint(v) => Some(*v as f64),
            Value::Float(v) => Some(*v),
            Value::Null | Value::Text(_) => None,
        }
    }
}

/// Decimal digits, at most one too many.
const fn digits(v: u64) -> usize {
    (u64::BITS - v.leading_zeros()) as usize * 77 / 256 + 1
}

/// UI.md section 1.2: the words are the same on every surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    Good,
    Stale,
    NotAvailable,
    Pending,
    Unsupported,
    Bad,
    /// A counter that dropped, or jumped further than it can count, and has not been confirmed yet. It has its value.
    Suspect,
}

impl Quality {
    pub const fn word(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Stale => "stale",
            Quality::NotAvailable => "not_available",
            Quality::Pending => "pending",
            Quality::Unsupported => "unsupported",
            Quality::Bad => "bad",
            Quality::Suspect => "suspect",
        }
    }

    pub fn parse(word: &str) -> Option<Quality> {
        use Quality::*;
        [Good, Stale, NotAvailable, Pending, Unsupported, Bad, Suspect].into_iter().find(|q| q.word() == word)
    }
}

/// The points of one device that were read together, at one moment. Never split over two messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub device: DeviceId,
    pub at: Boot,
    /// Shared by all readings of one planned request, so that a reading costs no allocation per name.
    pub points: Arc<[PointId]>,
    /// As long as `points`.
    pub values: Vec<Value>,
    /// `None`: all good. Else as long as `points`.
    pub quality: Option<Vec<Quality>>,
}

impl Reading {
    pub fn quality_of(&self, n: usize) -> Quality {
        self.quality.as_ref().and_then(|q| q.get(n).copied()).unwrap_or(Quality::Good)
    }
}
