//! The registers of a value: the inverse of every type in `decode`.

use super::Unwritable;
use crate::{
    config::device::{Chars, DataType, Names, Point, Time, TimeForm, WordOrder},
    drivers::modbus::{
        decode::{Codec, order, sentinel, text, time, to_bcd, to_m10k},
        float,
    },
    model::{Quality, Value},
};

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

/// The word's number, where the point has words. Everything else stays what it is.
pub fn by_word(point: &Point, value: &Value) -> Result<Value, Unwritable> {
    match (&point.names, value) {
        (Names::Values(words), Value::Text(word)) => {
            let number = words.iter().find(|(_, w)| w == word).and_then(|(n, _)| match i64::try_from(*n) {
                Ok(n) => Some(Value::Int(n)),
                Err(_) => u64::try_from(*n).ok().map(Value::Uint),
            });
            let all = || words.iter().map(|(_, w)| &**w).collect::<Vec<_>>().join(", ");
            number.ok_or_else(|| Unwritable::Word { value: word.to_string(), words: all() })
        }
        (Names::Flags(_), _) => Err(Unwritable::Flags),
        _ => Ok(value.clone()),
    }
}

/// A bool as true, false, 1 or 0.
pub fn on(value: &Value) -> Result<bool, Unwritable> {
    let wanted = number(value)?;
    if wanted == 0.0 || wanted == 1.0 { Ok(wanted == 1.0) } else { Err(Unwritable::Range { value: wanted, raw: wanted, kind: "bool" }) }
}

fn number(value: &Value) -> Result<f64, Unwritable> {
    let wanted = value.as_f64().filter(|v| v.is_finite());
    wanted.ok_or_else(|| Unwritable::NotANumber { value: format!("{value:?}") })
}

fn text_of(value: &Value) -> Result<&str, Unwritable> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(Unwritable::NotAText { value: format!("{other:?}") }),
    }
}

/// The registers that read back as the value.
pub fn image(point: &Point, value: &Value) -> Result<Vec<u16>, Unwritable> {
    if point.scale_register.is_some() {
        return Err(Unwritable::ScaleRegister);
    }
    if let DataType::Text(chars) = point.kind {
        return characters(chars, point.order, text_of(value)?);
    }
    Ok(words(pattern(point, value)?, point.kind.words(), order(point)))
}

fn characters(chars: Chars, order: WordOrder, wanted: &str) -> Result<Vec<u16>, Unwritable> {
    let refuse = |why: String| Unwritable::Text { value: wanted.to_owned(), why };
    let registers = text::write(chars, order, wanted).map_err(refuse)?;
    let bytes: Vec<u8> = registers.iter().flat_map(|w| w.to_be_bytes()).collect();
    match text::read(chars, order, &bytes) {
        Ok(Value::Text(again)) if *again == *wanted => Ok(registers),
        Ok(Value::Text(again)) => Err(refuse(format!("it would read back as \"{again}\""))),
        _ => Err(refuse("it would read back as not available".into())),
    }
}

/// The raw pattern in the point's own width.
fn pattern(point: &Point, value: &Value) -> Result<u64, Unwritable> {
    let pattern = match point.kind {
        DataType::Bits(_) => return Err(Unwritable::Bits),
        DataType::Time(form) => {
            let wanted = text_of(value)?;
            let example = match form {
                Time { form: TimeForm::HourMinute, .. } => "08:05",
                Time { local: true, .. } => "2026-11-21T14:07:00",
                Time { .. } => "2026-11-21T14:07:00Z",
            };
            time::write(form, wanted).ok_or_else(|| Unwritable::Time { value: wanted.to_owned(), example })?
        }
        DataType::Text(_) => return Err(Unwritable::NotANumber { value: format!("{value:?}") }),
        DataType::Bool => u64::from(on(value)?),
        _ => numeric(point, value, number(value)?)?,
    };
    // Whatever was encoded must read back as a value.
    let codec = Codec::of(point);
    let lost = sentinel(point, codec.cut(pattern)).is_err() || codec.value(pattern) == Err(Quality::NotAvailable);
    if lost { Err(Unwritable::Sentinel { value: value.as_f64().unwrap_or(f64::NAN) }) } else { Ok(pattern) }
}

fn numeric(point: &Point, value: &Value, wanted: f64) -> Result<u64, Unwritable> {
    let digits = |count: u32| integer(point, value, wanted, 0, 10i128.pow(count) - 1);
    match point.kind {
        DataType::U8 => integer(point, value, wanted, 0, 0xff),
        DataType::I8 => Ok(integer(point, value, wanted, -0x80, 0x7f)? & 0xff),
        DataType::U16 => integer(point, value, wanted, 0, 0xffff),
        DataType::I16 => Ok(integer(point, value, wanted, i16::MIN.into(), i16::MAX.into())? & 0xffff),
        DataType::U32 => integer(point, value, wanted, 0, u32::MAX.into()),
        DataType::I32 => Ok(integer(point, value, wanted, i32::MIN.into(), i32::MAX.into())? & 0xffff_ffff),
        DataType::U64 => integer(point, value, wanted, 0, u64::MAX.into()),
        DataType::I64 => integer(point, value, wanted, i64::MIN.into(), i64::MAX.into()),
        DataType::Bcd(count) => Ok(to_bcd(digits(count.min(16).into())?)),
        DataType::M10k(registers) => Ok(to_m10k(digits(u32::from(registers.min(4)) * 4)?)),
        _ => real(point, wanted),
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
