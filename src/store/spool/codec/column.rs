//! One point's values over all rows of a shape.
//!
//! The tag says how they are written: low six bits the kind, 0x40 a bitmap of nulls comes first, 0x80 one value stands
//! for all. Tags are run-coded by the caller, since neighbouring points of a device are alike.

use super::{
    Corrupt,
    bytes::{Bytes, put, put_signed, put_text},
};
use crate::model::Value;

const ALL_NULL: u8 = 0;
const BOOL: u8 = 1;
const INT: u8 = 2;
const UINT: u8 = 3;
const TEXT: u8 = 4;
const MIXED: u8 = 5;
const F64: u8 = 6;
const F32: u8 = 7;
/// And above: a float that is exactly an integer divided by ten to the power of (tag - DECIMAL).
const DECIMAL: u8 = 8;
const NULLS: u8 = 0x40;
const CONSTANT: u8 = 0x80;

const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Writes the column and returns its tag.
pub fn write<'a>(values: impl Iterator<Item = &'a Value> + Clone, out: &mut Vec<u8>) -> u8 {
    let (mut kinds, mut nulls, mut rows) = (0u8, false, 0usize);
    for v in values.clone() {
        rows += 1;
        match v {
            Value::Null => nulls = true,
            Value::Bool(_) => kinds |= 1 << BOOL,
            Value::Int(_) => kinds |= 1 << INT,
            Value::Uint(_) => kinds |= 1 << UINT,
            Value::Text(_) => kinds |= 1 << TEXT,
            Value::Float(_) => kinds |= 1 << F64,
        }
    }
    if kinds == 0 {
        return ALL_NULL;
    }
    if !kinds.is_power_of_two() {
        write_mixed(values, out);
        return MIXED;
    }
    let mut tag = 0;
    if nulls {
        tag |= NULLS;
        write_bits(values.clone().map(|v| matches!(v, Value::Null)), out);
    }
    let present = values.filter(|v| !matches!(v, Value::Null));
    let first = present.clone().next();
    if rows > 1 && present.clone().all(|v| first.is_some_and(|f| same(f, v))) {
        let kind = write_kind(kinds, first.into_iter(), out);
        return tag | kind | CONSTANT;
    }
    tag | write_kind(kinds, present, out)
}

/// Bit by bit: 0.0 and -0.0 print differently.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

fn write_kind<'a>(kinds: u8, values: impl Iterator<Item = &'a Value> + Clone, out: &mut Vec<u8>) -> u8 {
    let kind = (BOOL..F64).find(|k| kinds >> k & 1 == 1).unwrap_or(F64);
    match kind {
        BOOL => {
            write_bits(values.map(|v| matches!(v, Value::Bool(true))), out);
            BOOL
        }
        INT => {
            write_deltas(values.map(|v| if let Value::Int(i) = v { *i } else { 0 }), out);
            INT
        }
        UINT => {
            write_deltas(values.map(|v| if let Value::Uint(u) = v { u.cast_signed() } else { 0 }), out);
            UINT
        }
        TEXT => {
            values.for_each(|v| {
                if let Value::Text(t) = v {
                    put_text(out, t);
                }
            });
            TEXT
        }
        _ => write_floats(values.map(|v| if let Value::Float(f) = v { *f } else { 0.0 }), out),
    }
}

fn write_floats(values: impl Iterator<Item = f64> + Clone, out: &mut Vec<u8>) -> u8 {
    let mut power = 0u8;
    let decimal = values.clone().all(|v| {
        while scaled(v, power).is_none() {
            power += 1;
            if power as usize == POWERS.len() {
                return false;
            }
        }
        true
    });
    // A later value may have raised the power past the point where an earlier one is still exact.
    if decimal && values.clone().all(|v| scaled(v, power).is_some()) {
        write_deltas(values.map(|v| scaled(v, power).unwrap_or(0)), out);
        return DECIMAL + power;
    }
    if values.clone().all(|v| as_f32(v).is_some()) {
        values.for_each(|v| out.extend_from_slice(&as_f32(v).unwrap_or(0.0).to_le_bytes()));
        return F32;
    }
    values.for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
    F64
}

/// `v` times ten to the power, if dividing that again gives exactly `v`.
fn scaled(v: f64, power: u8) -> Option<i64> {
    let by = POWERS[power as usize];
    let k = (v * by).round();
    if k.abs() > 9e15 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)] // checked above; NaN becomes 0 and fails the comparison
    let k = k as i64;
    (unscaled(k, power).to_bits() == v.to_bits()).then_some(k)
}

#[allow(clippy::cast_precision_loss)] // the writer checked that it is exact
fn unscaled(k: i64, power: u8) -> f64 {
    k as f64 / POWERS[power as usize]
}

fn as_f32(v: f64) -> Option<f32> {
    #[allow(clippy::cast_possible_truncation)] // compared with the original
    let narrow = v as f32;
    (f64::from(narrow).to_bits() == v.to_bits()).then_some(narrow)
}

fn write_deltas(values: impl Iterator<Item = i64>, out: &mut Vec<u8>) {
    let mut before = 0i64;
    for v in values {
        put_signed(out, v.wrapping_sub(before));
        before = v;
    }
}

fn write_bits(bits: impl Iterator<Item = bool>, out: &mut Vec<u8>) {
    let (mut byte, mut n) = (0u8, 0u8);
    for bit in bits {
        byte |= u8::from(bit) << n;
        n += 1;
        if n == 8 {
            out.push(byte);
            (byte, n) = (0, 0);
        }
    }
    if n > 0 {
        out.push(byte);
    }
}

fn write_mixed<'a>(values: impl Iterator<Item = &'a Value>, out: &mut Vec<u8>) {
    for v in values {
        match v {
            Value::Null => out.push(0),
            Value::Bool(b) => out.push(1 + u8::from(*b)),
            Value::Int(i) => {
                out.push(3);
                put_signed(out, *i);
            }
            Value::Uint(u) => {
                out.push(4);
                put(out, *u);
            }
            Value::Float(f) => {
                out.push(5);
                out.extend_from_slice(&f.to_le_bytes());
            }
            Value::Text(t) => {
                out.push(6);
                put_text(out, t);
            }
        }
    }
}

/// Reads `rows` values and hands each to `each`, in order.
pub fn read(tag: u8, rows: usize, from: &mut Bytes<'_>, mut each: impl FnMut(Value)) -> Result<(), Corrupt> {
    let kind = tag & 0x3F;
    if kind == ALL_NULL {
        (0..rows).for_each(|_| each(Value::Null));
        return Ok(());
    }
    let nulls = if tag & NULLS != 0 { Some(from.take(rows.div_ceil(8))?) } else { None };
    let is_null = |n: usize| nulls.is_some_and(|b| b[n / 8] >> (n % 8) & 1 == 1);
    let present = rows - nulls.map_or(0, |_| (0..rows).filter(|n| is_null(*n)).count());
    let mut reader = Kind { kind, before: 0, bits: &[], bit: 0 };
    if tag & CONSTANT != 0 {
        reader.start(1, from)?;
        let one = reader.next(from)?;
        (0..rows).for_each(|n| each(if is_null(n) { Value::Null } else { one.clone() }));
        return Ok(());
    }
    reader.start(present, from)?;
    for n in 0..rows {
        each(if is_null(n) { Value::Null } else { reader.next(from)? });
    }
    Ok(())
}

struct Kind<'a> {
    kind: u8,
    before: i64,
    bits: &'a [u8],
    bit: usize,
}

impl<'a> Kind<'a> {
    fn start(&mut self, present: usize, from: &mut Bytes<'a>) -> Result<(), Corrupt> {
        if self.kind == BOOL {
            self.bits = from.take(present.div_ceil(8))?;
        }
        Ok(())
    }

    fn delta(&mut self, from: &mut Bytes<'_>) -> Result<i64, Corrupt> {
        self.before = self.before.wrapping_add(from.get_signed()?);
        Ok(self.before)
    }

    fn next(&mut self, from: &mut Bytes<'_>) -> Result<Value, Corrupt> {
        match self.kind {
            BOOL => {
                let n = self.bit;
                self.bit += 1;
                let byte = self.bits.get(n / 8).ok_or(Corrupt("it ends early"))?;
                Ok(Value::Bool(byte >> (n % 8) & 1 == 1))
            }
            INT => Ok(Value::Int(self.delta(from)?)),
            UINT => Ok(Value::Uint(self.delta(from)?.cast_unsigned())),
            TEXT => Ok(Value::Text(from.text()?.into())),
            MIXED => read_mixed(from),
            F64 => float(from.take(8)?),
            F32 => {
                let b: [u8; 4] = from.take(4)?.try_into().map_err(|_| Corrupt("it ends early"))?;
                finite(f64::from(f32::from_le_bytes(b)))
            }
            k if (k - DECIMAL) as usize >= POWERS.len() => Err(Corrupt("an unknown kind of column")),
            k => finite(unscaled(self.delta(from)?, k - DECIMAL)),
        }
    }
}

fn read_mixed(from: &mut Bytes<'_>) -> Result<Value, Corrupt> {
    Ok(match from.byte()? {
        0 => Value::Null,
        1 => Value::Bool(false),
        2 => Value::Bool(true),
        3 => Value::Int(from.get_signed()?),
        4 => Value::Uint(from.get()?),
        5 => return float(from.take(8)?),
        6 => Value::Text(from.text()?.into()),
        _ => return Err(Corrupt("an unknown kind of value")),
    })
}

fn float(bytes: &[u8]) -> Result<Value, Corrupt> {
    let b: [u8; 8] = bytes.try_into().map_err(|_| Corrupt("it ends early"))?;
    finite(f64::from_le_bytes(b))
}

/// `Value::Float` is always finite.
fn finite(v: f64) -> Result<Value, Corrupt> {
    if v.is_finite() { Ok(Value::Float(v)) } else { Err(Corrupt("a float is not finite")) }
}
