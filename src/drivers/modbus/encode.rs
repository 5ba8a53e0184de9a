//! From a value to the one request that writes it: the inverse of [`super::decode`].
//!
//! What cannot be written exactly is refused instead of bent: 21.54 into steps of 0.1 would read back as another value than
//! was commanded. Absent on purpose: the operator's `min`, `max` and `min_interval`, which the engine keeps.

use super::{decode::Codec, float, pdu::Ask};
use crate::{
    config::device::{Bits, DataType, Point, Table, WordOrder},
    model::{Quality, Value},
};

/// Why a value cannot be written to a point; says what could be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unwritable {
    #[error("{point} may not be written; give it write = {{ … }} if it should")]
    NotAllowed { point: String },
    #[error("{table} registers cannot be written")]
    Table { table: &'static str },
    #[error("{point} takes true: it sends a request of its own")]
    RawTakesTrue { point: String },
    #[error("{value} is not a number or true/false")]
    NotANumber { value: String },
    #[error("{value} does not fit a {kind} (raw value {raw})")]
    Range { value: f64, raw: f64, kind: &'static str },
    #[error("{value} is between two steps of {step}; use {nearest}")]
    Step { value: f64, step: f64, nearest: f64 },
    #[error("{value} would be written as the pattern that means \"not available\"")]
    Sentinel { value: f64 },
    #[error("function {function} cannot write {words} register(s) of table {table}; use {remedy}")]
    Function { function: u8, words: u16, table: &'static str, remedy: &'static str },
}

/// The request that writes `value`, with the function code of the point's rule. For bits of a register without function 22 it
/// holds these bits alone, at their place; the others, which [`mask`] names, must be filled in from what the register holds.
pub fn write_asks(point: &Point, value: &Value) -> Result<Ask, Unwritable> {
    let rule = point.write.as_ref().ok_or_else(|| Unwritable::NotAllowed { point: point.id.to_string() })?;
    if let Some(raw) = &rule.raw {
        let is_true = matches!(value, Value::Bool(true) | Value::Int(1) | Value::Uint(1));
        return if is_true { Ok(Ask::Raw(raw.clone())) } else { Err(Unwritable::RawTakesTrue { point: point.id.to_string() }) };
    }
    let wanted = value.as_f64().filter(|v| v.is_finite());
    let wanted = wanted.ok_or_else(|| Unwritable::NotANumber { value: format!("{value:?}") })?;
    let register = rule.register.unwrap_or(point.register);
    let address = register.address;
    match (register.table, rule.function) {
        (Table::Coil, None | Some(5)) if point.kind == DataType::U16 => {
            let value = registers_of(point, value, wanted)?.first().copied().unwrap_or(0);
            Ok(Ask::WriteCoilWord { address, value })
        }
        (Table::Coil, None | Some(5)) => Ok(Ask::WriteCoil { address, on: on(wanted)? }),
        (Table::Coil, Some(15)) => Ok(Ask::WriteCoils { start: address, bits: vec![on(wanted)?] }),
        (Table::Coil, Some(function)) => Err(Unwritable::Function { function, words: 1, table: "coil", remedy: "5 or 15" }),
        (Table::Holding, function) => registers(point, address, function, registers_of(point, value, wanted)?),
        (table @ (Table::Discrete | Table::Input), _) => Err(Unwritable::Table { table: table.word() }),
    }
}

fn on(wanted: f64) -> Result<bool, Unwritable> {
    if wanted == 0.0 || wanted == 1.0 { Ok(wanted == 1.0) } else { Err(Unwritable::Range { value: wanted, raw: wanted, kind: "bool" }) }
}

/// The bits of each register that the point's value fills. All of them, except where the point is some bits of one.
pub fn mask(point: &Point) -> Vec<u16> {
    match point.kind {
        DataType::Bits(bits) => words(bits_mask(bits), 1, point.order),
        _ => vec![u16::MAX; usize::from(point.kind.words())],
    }
}

fn bits_mask(bits: Bits) -> u64 {
    ((1 << bits.count.min(16)) - 1) << bits.first.min(15) & 0xffff
}

/// The registers that mean `value`, in the order of the wire.
fn registers_of(point: &Point, value: &Value, wanted: f64) -> Result<Vec<u16>, Unwritable> {
    Ok(words(pattern(point, value, wanted)?, point.kind.words(), point.order))
}

fn registers(point: &Point, start: u16, function: Option<u8>, words: Vec<u16>) -> Result<Ask, Unwritable> {
    match (function, words.as_slice()) {
        (Some(22), [value]) => {
            let mask = mask(point).first().copied().unwrap_or(u16::MAX);
            Ok(Ask::MaskWrite { address: start, and: !mask, or: *value })
        }
        (None | Some(6), [value]) => Ok(Ask::WriteRegister { address: start, value: *value }),
        (None | Some(16), _) => Ok(Ask::WriteRegisters { start, words }),
        (Some(function), _) => {
            let remedy = if words.len() == 1 { "6, 16 or 22" } else { "16" };
            Err(Unwritable::Function { function, words: point.kind.words(), table: "holding", remedy })
        }
    }
}

/// The pattern as registers in the order of the wire.
#[allow(clippy::cast_possible_truncation)] // the register is what remains of the shifted pattern
fn words(pattern: u64, count: u16, order: WordOrder) -> Vec<u16> {
    let standard = (0..count).rev().map(|n| (pattern >> (n * 16)) as u16);
    match order {
        WordOrder::Abcd => standard.collect(),
        WordOrder::Cdab => standard.rev().collect(),
        WordOrder::Badc => standard.map(u16::swap_bytes).collect(),
        WordOrder::Dcba => standard.rev().map(u16::swap_bytes).collect(),
    }
}

/// The raw pattern in the point's own width.
fn pattern(point: &Point, value: &Value, wanted: f64) -> Result<u64, Unwritable> {
    let pattern = match point.kind {
        DataType::Bits(bits) => integer(point, value, wanted, 0, i128::from(bits_mask(bits) >> bits.first))? << bits.first,
        DataType::Bool => u64::from(on(wanted)?),
        DataType::F16 | DataType::F32 | DataType::F64 => real(point, wanted)?,
        DataType::U8 => integer(point, value, wanted, 0, 0xff)?,
        DataType::I8 => integer(point, value, wanted, -0x80, 0x7f)? & 0xff,
        DataType::U16 => integer(point, value, wanted, 0, 0xffff)?,
        DataType::I16 => integer(point, value, wanted, i16::MIN.into(), i16::MAX.into())? & 0xffff,
        DataType::U32 => integer(point, value, wanted, 0, u32::MAX.into())?,
        DataType::I32 => integer(point, value, wanted, i32::MIN.into(), i32::MAX.into())? & 0xffff_ffff,
        DataType::U64 => integer(point, value, wanted, 0, u64::MAX.into())?,
        DataType::I64 => integer(point, value, wanted, i64::MIN.into(), i64::MAX.into())?,
    };
    // Whatever was encoded must read back as a value.
    if Codec::of(point).value(pattern, &point.na) == Err(Quality::NotAvailable) {
        Err(Unwritable::Sentinel { value: wanted })
    } else {
        Ok(pattern)
    }
}

/// A whole number in two's complement.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range was checked; the width is masked by the caller
fn integer(point: &Point, value: &Value, wanted: f64, low: i128, high: i128) -> Result<u64, Unwritable> {
    let raw = match value {
        // Unscaled 64-bit numbers must not pass through a double.
        Value::Int(v) if is_plain(point) => i128::from(*v),
        Value::Uint(v) if is_plain(point) => i128::from(*v),
        _ => step(point, wanted)?,
    };
    let fits = (low..=high).contains(&raw);
    #[allow(clippy::cast_precision_loss)] // for the message only
    if fits { Ok(raw as u64) } else { Err(Unwritable::Range { value: wanted, raw: raw as f64, kind: point.kind.word() }) }
}

/// The whole number of steps that makes `wanted`.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // a float cast saturates, and the range check follows
fn step(point: &Point, wanted: f64) -> Result<i128, Unwritable> {
    let exact = unscaled(point, wanted);
    let raw = exact.round();
    // Arithmetic on decimals is off by a few units in the last place, never by a thousandth of a step…
    let slack = 1e-3_f64.max(raw.abs() * 1e-12);
    if (exact - raw).abs() > slack {
        let step = point.scale.abs();
        let nearest = float::divisor(point.scale).map_or(raw * point.scale, |ten| raw / ten) + point.offset;
        return Err(Unwritable::Step { value: wanted, step, nearest });
    }
    Ok(raw as i128)
}

fn real(point: &Point, wanted: f64) -> Result<u64, Unwritable> {
    let raw = unscaled(point, wanted);
    #[allow(clippy::cast_possible_truncation)] // rounding to the point's precision is what a float point means
    let (pattern, finite) = match point.kind {
        DataType::F16 => (u64::from(float::to_half(raw)), float::from_half(float::to_half(raw)).is_finite()),
        DataType::F32 => (u64::from((raw as f32).to_bits()), (raw as f32).is_finite()),
        _ => (raw.to_bits(), raw.is_finite()),
    };
    if finite { Ok(pattern) } else { Err(Unwritable::Range { value: wanted, raw, kind: point.kind.word() }) }
}

fn unscaled(point: &Point, wanted: f64) -> f64 {
    match float::divisor(point.scale) {
        _ if is_plain(point) => wanted,
        Some(ten) => (wanted - point.offset) * ten,
        None => (wanted - point.offset) / point.scale,
    }
}

fn is_plain(point: &Point) -> bool {
    point.scale == 1.0 && point.offset == 0.0
}

#[cfg(test)]
mod tests;
