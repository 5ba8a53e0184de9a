//! From the bytes of a reply to values. The hot path: no clock, no lock, one allocation per request.
//!
//! Order of work: bytes in the point's word order, then the `na` patterns on the raw pattern, then scale and offset.
//! A NaN or an infinity is `Null` with `NotAvailable`, as is a sentinel; never 0, never -32768 °C.

use super::{
    float,
    plan::{Field, Request},
};
use crate::{
    config::device::{Bits, DataType, Device, Point, WordOrder},
    model::{Quality, Value},
};

/// The values of the request's fields, in their order, and their quality if any is not good. `data` is what
/// [`super::pdu::check`] found: the reply's bytes without the byte count.
pub fn decode(device: &Device, request: &Request, data: &[u8]) -> (Vec<Value>, Option<Vec<Quality>>) {
    let mut values = Vec::with_capacity(request.fields.len());
    let mut quality: Option<Vec<Quality>> = None;
    let bits = request.table.is_bits();
    for (n, field) in request.fields.iter().enumerate() {
        // Points are wide and rarely have sentinels: the loop stays within the fields unless they do.
        let na = if field.codec.has_na { device.points.get(field.point).map_or(&[][..], |point| &point.na) } else { &[] };
        let value = if bits { bit(field, data, na) } else { registers(field, data, na) };
        values.push(value.unwrap_or_else(|not_good| {
            quality.get_or_insert_with(|| vec![Quality::Good; request.fields.len()])[n] = not_good;
            Value::Null
        }));
    }
    (values, quality)
}

/// A coil or discrete input: least significant bit of the first byte first.
fn bit(field: &Field, data: &[u8], na: &[u64]) -> Result<Value, Quality> {
    let byte = data.get(usize::from(field.offset / 8)).ok_or(Quality::Bad)?;
    let on = u64::from(byte >> (field.offset % 8) & 1);
    if na.contains(&on) { Err(Quality::NotAvailable) } else { Ok(Value::Bool(on == 1)) }
}

#[inline]
fn registers(field: &Field, data: &[u8], na: &[u64]) -> Result<Value, Quality> {
    // A reply that passed the check is long enough; a request made for another device is not trusted.
    let bytes = data.get(usize::from(field.offset) * 2..).ok_or(Quality::Bad)?;
    let raw = match field.codec.words {
        1 => raw(bytes.first_chunk::<2>(), field.codec.order),
        2 => raw(bytes.first_chunk::<4>(), field.codec.order),
        _ => raw(bytes.first_chunk::<8>(), field.codec.order),
    };
    field.codec.value(raw.ok_or(Quality::Bad)?, na)
}

/// The registers as one pattern, first register of the standard order most significant.
#[inline]
fn raw<const N: usize>(bytes: Option<&[u8; N]>, order: WordOrder) -> Option<u64> {
    let (words, _) = bytes?.as_chunks::<2>();
    let big = |all: u64, pair: &[u8; 2]| all << 16 | u64::from(u16::from_be_bytes(*pair));
    let little = |all: u64, pair: &[u8; 2]| all << 16 | u64::from(u16::from_le_bytes(*pair));
    Some(match order {
        WordOrder::Abcd => words.iter().fold(0, big),
        WordOrder::Cdab => words.iter().rev().fold(0, big),
        WordOrder::Badc => words.iter().fold(0, little),
        WordOrder::Dcba => words.iter().rev().fold(0, little),
    })
}

/// What decoding needs of a point, small and worked out once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Codec {
    kind: DataType,
    order: WordOrder,
    words: u16,
    has_na: bool,
    scaling: Scaling,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// Integers stay integers.
    Plain,
    /// (raw + shift) / ten + add
    Divide {
        shift: f64,
        ten: f64,
        add: f64,
    },
    Multiply {
        scale: f64,
        offset: f64,
    },
}

impl Codec {
    pub fn of(point: &Point) -> Codec {
        let (scale, offset) = (point.scale, point.offset);
        let scaling = match float::divisor(scale) {
            _ if scale == 1.0 && offset == 0.0 => Scaling::Plain,
            // 642 with scale 0.1 and offset -40 is 24.2, not 24.200000000000003: shift before dividing, while it is exact.
            Some(ten) if (offset * ten).fract() == 0.0 => Scaling::Divide { shift: offset * ten, ten, add: 0.0 },
            Some(ten) => Scaling::Divide { shift: 0.0, ten, add: offset },
            None => Scaling::Multiply { scale, offset },
        };
        Codec { kind: point.kind, order: point.order, words: point.kind.words(), has_na: !point.na.is_empty(), scaling }
    }

    /// The pattern of the point's registers as a value.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // each cast keeps exactly the type's own width
    pub fn value(&self, registers: u64, na: &[u64]) -> Result<Value, Quality> {
        let raw = match self.kind {
            DataType::U8 | DataType::I8 => registers & 0xff,
            DataType::Bits(bits) => run(bits, registers),
            _ => registers,
        };
        if na.contains(&raw) {
            return Err(Quality::NotAvailable);
        }
        match self.kind {
            DataType::Bool => Ok(Value::Bool(raw != 0)),
            DataType::Bits(Bits { count: 1, .. }) => Ok(Value::Bool(raw == 1)),
            DataType::Bits(_) | DataType::U8 | DataType::U16 | DataType::U32 | DataType::U64 => self.unsigned(raw),
            DataType::I8 => self.signed(i64::from(raw as u8 as i8)),
            DataType::I16 => self.signed(i64::from(raw as u16 as i16)),
            DataType::I32 => self.signed(i64::from(raw as u32 as i32)),
            DataType::I64 => self.signed(raw as i64),
            DataType::F16 => self.real(float::from_half(raw as u16)),
            DataType::F32 => self.real(float::widen(f32::from_bits(raw as u32))),
            DataType::F64 => self.real(f64::from_bits(raw)),
        }
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a scaled 64-bit counter has the 53 bits of a double
    fn unsigned(&self, raw: u64) -> Result<Value, Quality> {
        if self.scaling == Scaling::Plain { Ok(Value::Uint(raw)) } else { self.real(raw as f64) }
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)]
    fn signed(&self, raw: i64) -> Result<Value, Quality> {
        if self.scaling == Scaling::Plain { Ok(Value::Int(raw)) } else { self.real(raw as f64) }
    }

    #[inline]
    fn real(&self, raw: f64) -> Result<Value, Quality> {
        let value = match self.scaling {
            Scaling::Plain => raw,
            Scaling::Divide { shift, ten, add } => (raw + shift) / ten + add,
            Scaling::Multiply { scale, offset } => raw * scale + offset,
        };
        if value.is_finite() { Ok(Value::Float(value)) } else { Err(Quality::NotAvailable) }
    }
}

/// A run of bits, or 0 where the register has none.
#[inline]
fn run(Bits { first, count }: Bits, register: u64) -> u64 {
    register.checked_shr(first.into()).unwrap_or(0) & !u64::MAX.checked_shl(count.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
