//! One point's numbers: from the pattern of its registers to a value. Worked out once per plan, used once per reading.

use super::{decimal, time};
use crate::{
    config::device::{Bits, DataType, Names, Point, WordOrder},
    drivers::modbus::float,
    model::{Quality, Value},
};

/// What decoding needs of a point, small and worked out once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Codec {
    kind: DataType,
    pub(super) order: WordOrder,
    pub(super) words: u16,
    /// No sentinels, words or scale register, and no text.
    pub(super) is_plain: bool,
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
        let sentinels = [&point.na, &point.pending, &point.unsupported].iter().any(|list| !list.is_empty());
        let worded = point.names != Names::None || matches!(point.kind, DataType::Text(_));
        let is_plain = !sentinels && !worded && point.scale_register.is_none();
        Codec { kind: point.kind, order: order(point), words: point.kind.words(), is_plain, scaling }
    }

    /// What of the registers is the value's own.
    #[inline]
    pub fn cut(&self, registers: u64) -> u64 {
        match self.kind {
            DataType::U8 | DataType::I8 => registers & 0xff,
            DataType::Bits(bits) => run(bits, registers),
            DataType::Bcd(digits) => registers & !u64::MAX.checked_shl(u32::from(digits) * 4).unwrap_or(0),
            _ => registers,
        }
    }

    /// The pattern of the point's registers as a value; sentinels and words are the caller's.
    #[inline]
    pub fn value(&self, registers: u64) -> Result<Value, Quality> {
        self.cooked(self.cut(registers))
    }

    /// What was cut out as a value.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // each cast keeps exactly the type's own width
    pub fn cooked(&self, raw: u64) -> Result<Value, Quality> {
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
            DataType::Bcd(_) => self.unsigned(decimal::bcd(raw).ok_or(Quality::Bad)?),
            DataType::M10k(_) => self.unsigned(decimal::m10k(raw).ok_or(Quality::Bad)?),
            DataType::Time(form) => time::read(form, raw).map(|t| Value::Text(t.into())).ok_or(Quality::Bad),
            // More than one pattern holds; its own path reads it.
            DataType::Text(_) => Err(Quality::Bad),
        }
    }

    /// The whole number that words stand for.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // as above
    pub fn whole(&self, raw: u64) -> Result<i128, Quality> {
        Ok(match self.kind {
            DataType::Bool => i128::from(raw != 0),
            DataType::I8 => i128::from(raw as u8 as i8),
            DataType::I16 => i128::from(raw as u16 as i16),
            DataType::I32 => i128::from(raw as u32 as i32),
            DataType::I64 => i128::from(raw as i64),
            DataType::Bcd(_) => i128::from(decimal::bcd(raw).ok_or(Quality::Bad)?),
            DataType::M10k(_) => i128::from(decimal::m10k(raw).ok_or(Quality::Bad)?),
            _ => i128::from(raw),
        })
    }

    /// raw * scale * 10^factor + offset. Powers of ten divide where they can, so that 642 with -1 is 64.2.
    pub fn scaled(&self, point: &Point, raw: u64, factor: i16) -> Result<Value, Quality> {
        let unscaled = Codec { scaling: Scaling::Plain, ..*self };
        let number = unscaled.cooked(raw)?.as_f64().ok_or(Quality::Bad)?;
        let ten = float::ten(factor.unsigned_abs());
        let fixed = float::divisor(point.scale);
        let value = match (factor < 0, fixed) {
            (true, Some(fixed)) => number / (ten * fixed),
            (false, Some(fixed)) => number * ten / fixed,
            (true, None) => number * point.scale / ten,
            (false, None) => number * point.scale * ten,
        };
        let value = value + point.offset;
        if value.is_finite() { Ok(Value::Float(value)) } else { Err(Quality::NotAvailable) }
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

/// The order in which the most significant register comes first. That of `m10k` comes last by default.
pub fn order(point: &Point) -> WordOrder {
    match (point.kind, point.order) {
        (DataType::M10k(_), WordOrder::Abcd) => WordOrder::Cdab,
        (DataType::M10k(_), WordOrder::Cdab) => WordOrder::Abcd,
        (DataType::M10k(_), WordOrder::Badc) => WordOrder::Dcba,
        (DataType::M10k(_), WordOrder::Dcba) => WordOrder::Badc,
        (_, order) => order,
    }
}
