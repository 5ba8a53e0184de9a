//! From the bytes of a reply to values. The hot path: no clock, no lock, one allocation per request.
//!
//! Order of work: bytes in the point's word order, then the sentinels on the raw pattern, then scale and offset, words last.
//! A NaN or an infinity is `Null` with `NotAvailable`, as is a sentinel; never 0, never -32768 °C. What cannot be a value of
//! its type (a BCD digit of 12, the 31st of June) is `Null` with `Bad`.

mod codec;
mod decimal;
pub(super) mod text;
pub(super) mod time;

pub(super) use codec::{Codec, order};
pub(super) use decimal::{to_bcd, to_m10k};

use super::plan::{Field, Request};
use crate::{
    config::device::{DataType, Device, Names, Point, WordOrder},
    model::{Quality, Value},
};

/// The values of the request's fields, in their order, and their quality if any is not good. `data` is what
/// [`super::pdu::check`] found: the reply's bytes without the byte count.
pub fn decode(device: &Device, request: &Request, data: &[u8]) -> (Vec<Value>, Option<Vec<Quality>>) {
    let mut values = Vec::with_capacity(request.fields.len());
    let mut quality: Option<Vec<Quality>> = None;
    let bits = request.table.is_bits();
    for (n, field) in request.fields.iter().enumerate() {
        // Points are wide and most are plain numbers: the loop stays within the fields unless there is more to look at.
        let value = match (field.codec.is_plain, bits) {
            (true, true) => on(field, data).map(|on| Value::Bool(on == 1)),
            (true, false) => registers(field, data).and_then(|raw| field.codec.value(raw)),
            (false, _) => device.points.get(field.point).ok_or(Quality::Bad).and_then(|point| careful(point, field, data, bits)),
        };
        values.push(value.unwrap_or_else(|not_good| {
            quality.get_or_insert_with(|| vec![Quality::Good; request.fields.len()])[n] = not_good;
            Value::Null
        }));
    }
    (values, quality)
}

/// A coil or discrete input: least significant bit of the first byte first.
fn on(field: &Field, data: &[u8]) -> Result<u64, Quality> {
    let byte = data.get(usize::from(field.offset / 8)).ok_or(Quality::Bad)?;
    Ok(u64::from(byte >> (field.offset % 8) & 1))
}

/// The field's registers as one pattern, at most four of them.
#[inline]
fn registers(field: &Field, data: &[u8]) -> Result<u64, Quality> {
    // A reply that passed the check is long enough; a request made for another device is not trusted.
    let bytes = data.get(usize::from(field.offset) * 2..).ok_or(Quality::Bad)?;
    let raw = match field.codec.words {
        1 => raw(bytes.first_chunk::<2>(), field.codec.order),
        2 => raw(bytes.first_chunk::<4>(), field.codec.order),
        3 => raw(bytes.first_chunk::<6>(), field.codec.order),
        _ => raw(bytes.first_chunk::<8>(), field.codec.order),
    };
    raw.ok_or(Quality::Bad)
}

/// A value of a point that has more to it than type, order, scale and offset.
fn careful(point: &Point, field: &Field, data: &[u8], bits: bool) -> Result<Value, Quality> {
    if let DataType::Text(chars) = point.kind {
        let bytes = data.get(usize::from(field.offset) * 2..).and_then(|b| b.get(..usize::from(chars.registers) * 2));
        return text::read(chars, point.order, bytes.ok_or(Quality::Bad)?);
    }
    let raw = if bits { on(field, data)? } else { field.codec.cut(registers(field, data)?) };
    sentinel(point, raw)?;
    match &point.names {
        Names::Values(words) => {
            let number = field.codec.whole(raw)?;
            match words.binary_search_by_key(&number, |(n, _)| *n) {
                Ok(n) => return Ok(Value::Text(words[n].1.clone())),
                // A state that the manual does not list is still worth knowing.
                Err(_) if bits => return Ok(Value::Bool(raw == 1)),
                Err(_) => {}
            }
        }
        Names::Flags(words) => return Ok(flags(words, raw)),
        Names::None if bits => return Ok(Value::Bool(raw == 1)),
        Names::None => {}
    }
    if point.scale_register.is_none() {
        return field.codec.cooked(raw);
    }
    // Without the register beside it the value may be wrong by any power of ten.
    let at = usize::from(field.scale_offset.ok_or(Quality::Bad)?) * 2;
    let factor = *data.get(at..).and_then(<[u8]>::first_chunk::<2>).ok_or(Quality::Bad)?;
    let factor = if swapped(point.order) { i16::from_le_bytes(factor) } else { i16::from_be_bytes(factor) };
    match factor {
        i16::MIN => Err(Quality::NotAvailable),
        -10..=10 => field.codec.scaled(point, raw, factor),
        _ => Err(Quality::Bad),
    }
}

/// Whether the pattern stands for something that is no value.
pub(super) fn sentinel(point: &Point, raw: u64) -> Result<(), Quality> {
    let lists = [(&point.na, Quality::NotAvailable), (&point.pending, Quality::Pending), (&point.unsupported, Quality::Unsupported)];
    lists.into_iter().find(|(list, _)| list.contains(&raw)).map_or(Ok(()), |(_, quality)| Err(quality))
}

fn flags(words: &[(u8, std::sync::Arc<str>)], raw: u64) -> Value {
    let mut out = String::new();
    for (_, word) in words.iter().filter(|(bit, _)| raw.checked_shr(u32::from(*bit)).is_some_and(|r| r & 1 == 1)) {
        if !out.is_empty() {
            out.push('|');
        }
        out.push_str(word);
    }
    Value::Text(out.into())
}

/// Whether the two bytes of a register are swapped.
const fn swapped(order: WordOrder) -> bool {
    matches!(order, WordOrder::Badc | WordOrder::Dcba)
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

#[cfg(test)]
mod tests;
