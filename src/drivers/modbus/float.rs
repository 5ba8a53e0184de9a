//! Half and single precision to `f64` and back.
//!
//! A single 237.4 is widened to 237.4, not to 237.39999389648438: of all doubles that are this single, the one with the
//! fewest decimal digits. Nothing is lost (it narrows to the same single), and what people read and networks carry is a
//! third as long.

/// 10^0 … 10^22, all exact in a double.
const TENS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// 10^-1 … 10^-12, as a configuration file spells them.
const TENTHS: [f64; 12] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12];

/// 10^n, exact up to 10^22; infinite above, which no value survives.
pub fn ten(n: u16) -> f64 {
    TENS.get(usize::from(n)).copied().unwrap_or(f64::INFINITY)
}

/// ±10^n if `scale` is ±10^-n: dividing by it rounds once, multiplying by 0.1 twice.
pub fn divisor(scale: f64) -> Option<f64> {
    let size = scale.abs();
    if size >= 1.0 {
        return None;
    }
    TENTHS.iter().position(|tenth| size == *tenth).map(|n| TENS[n + 1].copysign(scale))
}

/// Not a number and the infinities stay what they are.
pub fn widen(single: f32) -> f64 {
    let exact = f64::from(single);
    let size = exact.abs();
    // Large ones are whole numbers; tiny ones and specials are rare and need no beauty.
    if !(1e-6..1e7).contains(&size) {
        return exact;
    }
    // Seven significant digits hold most measured values, nine hold every single.
    let whole_digits = TENS.iter().take(8).take_while(|ten| size >= **ten).count();
    let small = usize::from(whole_digits == 0) * leading_zeros(size);
    for digits in 7..=9 {
        let ten = TENS[digits + small - whole_digits];
        let short = rounded(exact * ten) / ten;
        #[allow(clippy::cast_possible_truncation)] // the narrowing is what is compared
        if short as f32 == single {
            return short;
        }
    }
    exact
}

/// Zeros after the decimal point.
fn leading_zeros(size: f64) -> usize {
    TENS[1..7].iter().take_while(|ten| size * **ten < 1.0).count()
}

/// To the nearest whole number; the argument is below 10^10 in size.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // 10^10 fits both ways
fn rounded(v: f64) -> f64 {
    (v + 0.5_f64.copysign(v)) as i64 as f64
}

/// IEEE 754 binary16.
pub fn from_half(half: u16) -> f64 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

/// The nearest half, ties to even; too large becomes infinity.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the scaled fraction is a whole number up to 2048
pub fn to_half(v: f64) -> u16 {
    let sign = if v.is_sign_negative() { 0x8000 } else { 0 };
    let size = v.abs();
    if size.is_nan() {
        return sign | 0x7e00;
    }
    // Halves with this exponent are this far apart; below 2^-14 all are 2^-24 apart.
    let exponent = if size < 2f64.powi(-14) { -14 } else { ((size.to_bits() >> 52) as i32) - 1023 };
    if exponent > 15 {
        return sign | 0x7c00;
    }
    let steps = (size / 2f64.powi(exponent - 10)).round_ties_even() as u16;
    // A carry out of the fraction runs into the exponent, up to infinity, as it should.
    let biased = (exponent + 14) as u16;
    sign | ((biased << 10) + steps)
}

#[cfg(test)]
mod tests;
