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
        let value = match device.points.get(field.point) {
            Some(point) if bits => bit(point, field, data),
            Some(point) => registers(point, field, data),
            None => Err(Quality::Bad),
        };
        values.push(value.unwrap_or_else(|not_good| {
            quality.get_or_insert_with(|| vec![Quality::Good; request.fields.len()])[n] = not_good;
            Value::Null
        }));
    }
    (values, quality)
}

/// A coil or discrete input: least significant bit of the first byte first.
fn bit(point: &Point, field: &Field, data: &[u8]) -> Result<Value, Quality> {
    let byte = data.get(usize::from(field.offset / 8)).ok_or(Quality::Bad)?;
    let on = byte >> (field.offset % 8) & 1;
    available(point, u64::from(on))?;
    Ok(Value::Bool(on == 1))
}

#[inline]
fn registers(point: &Point, field: &Field, data: &[u8]) -> Result<Value, Quality> {
    let words = usize::from(point.kind.words());
    let from = usize::from(field.offset) * 2;
    // A reply that passed the check is long enough; a request made for another device is not trusted.
    let bytes = data.get(from..from + words * 2).ok_or(Quality::Bad)?;
    value(point, raw(bytes, point.order))
}

/// The registers as one pattern, first register of the standard order most significant.
#[inline]
pub(super) fn raw(bytes: &[u8], order: WordOrder) -> u64 {
    let word = |pair: &[u8; 2]| match order {
        WordOrder::Abcd | WordOrder::Cdab => u64::from(u16::from_be_bytes(*pair)),
        WordOrder::Badc | WordOrder::Dcba => u64::from(u16::from_le_bytes(*pair)),
    };
    let (words, _) = bytes.as_chunks::<2>();
    match order {
        WordOrder::Abcd | WordOrder::Badc => words.iter().fold(0, |all, pair| all << 16 | word(pair)),
        WordOrder::Cdab | WordOrder::Dcba => words.iter().rev().fold(0, |all, pair| all << 16 | word(pair)),
    }
}

/// The pattern of `words` registers as a value of the point.
#[inline]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // each cast keeps exactly the type's own width
pub(super) fn value(point: &Point, raw: u64) -> Result<Value, Quality> {
    match point.kind {
        DataType::Bool => whole(point, raw).map(|raw| Value::Bool(raw != 0)),
        DataType::Bits(Bits { first, count }) => {
            let run = raw.checked_shr(first.into()).unwrap_or(0) & !u64::MAX.checked_shl(count.into()).unwrap_or(0);
            available(point, run)?;
            if count == 1 { Ok(Value::Bool(run == 1)) } else { unsigned(point, run) }
        }
        DataType::U8 => whole(point, raw & 0xff).and_then(|raw| unsigned(point, raw)),
        DataType::I8 => whole(point, raw & 0xff).and_then(|raw| signed(point, i64::from(raw as u8 as i8))),
        DataType::U16 | DataType::U32 | DataType::U64 => whole(point, raw).and_then(|raw| unsigned(point, raw)),
        DataType::I16 => whole(point, raw).and_then(|raw| signed(point, i64::from(raw as u16 as i16))),
        DataType::I32 => whole(point, raw).and_then(|raw| signed(point, i64::from(raw as u32 as i32))),
        DataType::I64 => whole(point, raw).and_then(|raw| signed(point, raw as i64)),
        DataType::F16 => whole(point, raw).and_then(|raw| real(point, float::from_half(raw as u16))),
        DataType::F32 => whole(point, raw).and_then(|raw| real(point, float::widen(f32::from_bits(raw as u32)))),
        DataType::F64 => whole(point, raw).and_then(|raw| real(point, f64::from_bits(raw))),
    }
}

#[inline]
fn whole(point: &Point, raw: u64) -> Result<u64, Quality> {
    available(point, raw).map(|()| raw)
}

#[inline]
fn available(point: &Point, raw: u64) -> Result<(), Quality> {
    if point.na.contains(&raw) { Err(Quality::NotAvailable) } else { Ok(()) }
}

#[inline]
#[allow(clippy::cast_precision_loss)] // a scaled 64-bit counter has 53 bits: stated in the documentation of `scale`
fn unsigned(point: &Point, raw: u64) -> Result<Value, Quality> {
    if is_plain(point) { Ok(Value::Uint(raw)) } else { real(point, raw as f64) }
}

#[inline]
#[allow(clippy::cast_precision_loss)]
fn signed(point: &Point, raw: i64) -> Result<Value, Quality> {
    if is_plain(point) { Ok(Value::Int(raw)) } else { real(point, raw as f64) }
}

#[inline]
fn real(point: &Point, raw: f64) -> Result<Value, Quality> {
    let value = if is_plain(point) { raw } else { scaled(raw, point.scale, point.offset) };
    if value.is_finite() { Ok(Value::Float(value)) } else { Err(Quality::NotAvailable) }
}

fn is_plain(point: &Point) -> bool {
    point.scale == 1.0 && point.offset == 0.0
}

fn scaled(raw: f64, scale: f64, offset: f64) -> f64 {
    match float::divisor(scale) {
        // 642 with scale 0.1 and offset -40 is 24.2, not 24.200000000000003: shift before dividing, while it is exact.
        Some(ten) if (offset * ten).fract() == 0.0 => (raw + offset * ten) / ten,
        Some(ten) => raw / ten + offset,
        None => raw * scale + offset,
    }
}
