//! What a register could mean: every reading of its bits, and which of them looks like something that is measured.
//! Pure. The best guess is a guess: it says so by its score, and the display of the device is the judge.

use crate::config::{DataType, WordOrder};

/// A reading of one or two registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub kind: DataType,
    pub order: WordOrder,
    /// Not a number where the bits are none.
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    pub reading: Reading,
    /// value = raw * scale.
    pub scale: f64,
    pub unit: &'static str,
    /// 0 to 100.
    pub score: u8,
    pub says: String,
}

pub const ORDERS: [(WordOrder, &str); 4] =
    [(WordOrder::Abcd, "ABCD"), (WordOrder::Cdab, "CDAB"), (WordOrder::Badc, "BADC"), (WordOrder::Dcba, "DCBA")];

pub fn order_word(order: WordOrder) -> &'static str {
    ORDERS.iter().find(|(o, _)| *o == order).map_or("ABCD", |(_, word)| word)
}

impl Reading {
    /// `f32/CDAB`, `u16`.
    pub fn name(&self) -> String {
        if self.kind.words() == 1 { self.kind.word().to_owned() } else { format!("{}/{}", self.kind.word(), order_word(self.order)) }
    }
}

/// The four bytes in their order, first register first.
fn pattern(a: u16, b: u16, order: WordOrder) -> u32 {
    let (high, low) = match order {
        WordOrder::Abcd => (a, b),
        WordOrder::Cdab => (b, a),
        WordOrder::Badc => (a.swap_bytes(), b.swap_bytes()),
        WordOrder::Dcba => (b.swap_bytes(), a.swap_bytes()),
    };
    u32::from(high) << 16 | u32::from(low)
}

/// All readings of the first register, and of it with the next one where there is one.
pub fn readings(a: u16, b: Option<u16>) -> Vec<Reading> {
    let one = |kind, value| Reading { kind, order: WordOrder::Abcd, value };
    let mut out = vec![one(DataType::U16, f64::from(a)), one(DataType::I16, f64::from(a.cast_signed()))];
    for (order, _) in ORDERS {
        let Some(b) = b else { break };
        let bits = pattern(a, b, order);
        let two = |kind, value| Reading { kind, order, value };
        out.push(two(DataType::F32, f64::from(f32::from_bits(bits))));
        out.push(two(DataType::U32, f64::from(bits)));
        out.push(two(DataType::I32, f64::from(bits.cast_signed())));
    }
    out
}

/// What does not read as the display says is not starred.
const UNWANTED: u8 = 5;
/// What somebody would expect to measure: from, to, unit, how telling it is.
const USUAL: [(f64, f64, &str, u8); 6] = [
    (49.8, 50.2, "Hz", 92),
    (59.8, 60.2, "Hz", 90),
    (207.0, 253.0, "V", 88),
    (108.0, 126.0, "V", 55),
    (360.0, 440.0, "V", 70),
    (0.7, 1.0, "", 45),
];
/// Scales that devices use, and how much less telling an integer is under each.
const SCALES: [(f64, u8); 4] = [(1.0, 12), (0.1, 8), (0.01, 14), (0.001, 24)];

/// The most plausible reading. `before`: the same registers a moment ago. `expected`: what the display says.
pub fn best(a: u16, b: Option<u16>, before: Option<(u16, Option<u16>)>, expected: Option<f64>) -> Guess {
    let found = best_of(a, b, before, expected);
    match expected {
        Some(wanted) if !fits(found.reading.value * found.scale, wanted) => {
            // Something else than what is looked for, and still worth reading.
            let other = best_of(a, b, before, None);
            Guess { score: other.score.min(UNWANTED), ..other }
        }
        _ => found,
    }
}

fn best_of(a: u16, b: Option<u16>, before: Option<(u16, Option<u16>)>, expected: Option<f64>) -> Guess {
    let mut all: Vec<Guess> = readings(a, b).into_iter().flat_map(|r| guesses(r, moved(r, a, b, before), expected)).collect();
    all.push(sentinel(a, b));
    all.extend(text(a, b));
    // Of equals the first: the plainest reading, in the standard's order.
    all.into_iter().rev().max_by_key(|g| g.score).unwrap_or_else(|| sentinel(a, b))
}

fn moved(reading: Reading, a: u16, b: Option<u16>, before: Option<(u16, Option<u16>)>) -> bool {
    match before {
        None => false,
        Some((was, _)) if reading.kind.words() == 1 => was != a,
        Some((was, next)) => (was, next) != (a, b),
    }
}

fn guesses(reading: Reading, moving: bool, expected: Option<f64>) -> Vec<Guess> {
    let is_float = reading.kind == DataType::F32;
    let scales = if is_float { &SCALES[..1] } else { &SCALES[..] };
    let mut out = Vec::new();
    for (scale, less) in scales {
        let value = reading.value * scale;
        let Some((score, unit)) = plausible(value, is_float, *less, expected) else { continue };
        // Without a display to compare with, a rare order is the less likely one.
        let rare = match reading.order {
            _ if expected.is_some() || reading.kind.words() == 1 => 0,
            WordOrder::Abcd => 0,
            WordOrder::Cdab => 2,
            WordOrder::Badc => 12,
            WordOrder::Dcba => 14,
        };
        let score = score.saturating_sub(rare);
        let score = if moving { (score + 6).min(99) } else { score };
        let digits = decimals(*scale, is_float, value);
        let mut says = format!("{value:.digits$} {unit}").trim_end().to_owned();
        if expected.is_some_and(|e| fits(value, e)) {
            says += ", as the display says";
        } else if moving {
            says += ", moving";
        }
        out.push(Guess { reading, scale: *scale, unit, score, says });
    }
    out
}

fn decimals(scale: f64, is_float: bool, value: f64) -> usize {
    match scale {
        _ if is_float && value.abs() < 10.0 => 3,
        _ if is_float => 2,
        s if s >= 1.0 => 0,
        s if s >= 0.1 => 1,
        s if s >= 0.01 => 2,
        _ => 3,
    }
}

/// As exact as a display: half of one in a thousand.
fn fits(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= (expected.abs() * 0.0005).max(0.0005)
}

fn plausible(value: f64, is_float: bool, less: u8, expected: Option<f64>) -> Option<(u8, &'static str)> {
    if !value.is_finite() {
        return None;
    }
    if let Some(expected) = expected {
        return fits(value, expected).then_some((100 - less / 4, ""));
    }
    let size = value.abs();
    let usual = USUAL.iter().find(|(from, to, _, _)| (*from..=*to).contains(&value));
    match usual {
        // An integer as it is that happens to be 230 may be anything.
        Some((_, _, unit, score)) if is_float => Some((*score, unit)),
        Some((_, _, unit, score)) if less != SCALES[0].1 => Some((score.saturating_sub(less), unit)),
        _ if is_float && (0.01..1e6).contains(&size) => Some((60, "")),
        _ if is_float && (1e-4..1e8).contains(&size) => Some((25, "")),
        _ if is_float => None,
        // A small number as it is: a state, a count.
        _ if less == SCALES[0].1 && size > 0.0 && size < 10_000.0 => Some((28, "")),
        _ if less == SCALES[0].1 && size > 0.0 => Some((12, "")),
        _ => None,
    }
}

/// Zero, and what devices send instead of a value.
fn sentinel(a: u16, b: Option<u16>) -> Guess {
    let one = Reading { kind: DataType::U16, order: WordOrder::Abcd, value: f64::from(a) };
    let guess = |score, says: &str| Guess { reading: one, scale: 1.0, unit: "", score, says: says.into() };
    match (a, b) {
        (0, None | Some(0)) => guess(20, "zero"),
        (0x7fc0, Some(0)) | (0xffff, Some(0xffff) | None) | (0x8000, Some(0) | None) | (0x7fff, Some(0xffff) | None) => {
            guess(66, "not available")
        }
        (0xffff | 0x8000, _) => guess(30, "not available"),
        _ => guess(1, ""),
    }
}

/// Four printable characters are hardly a number.
fn text(a: u16, b: Option<u16>) -> Option<Guess> {
    let bytes = [a.to_be_bytes(), b?.to_be_bytes()].concat();
    if !bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b' ' | b'-' | b'.' | b'_')) || bytes.iter().all(|c| *c == b' ') {
        return None;
    }
    let reading = Reading { kind: DataType::U16, order: WordOrder::Abcd, value: f64::from(a) };
    Some(Guess { reading, scale: 1.0, unit: "", score: 80, says: format!("text \"{}\"", String::from_utf8_lossy(&bytes)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(value: f32) -> (u16, Option<u16>) {
        let bits = value.to_bits();
        (u16::try_from(bits >> 16).unwrap(), Some(u16::try_from(bits & 0xffff).unwrap()))
    }

    #[track_caller]
    fn check((a, b): (u16, Option<u16>), expected: Option<f64>, name: &str, says: &str) {
        let guess = best(a, b, None, expected);
        assert_eq!((guess.reading.name().as_str(), guess.says.as_str()), (name, says), "{a:04x} {b:04x?}: {guess:?}");
    }

    #[test]
    fn measured_values_are_recognised() {
        check(words(230.14), None, "f32/ABCD", "230.14 V");
        let (a, b) = words(50.01);
        check((b.unwrap(), Some(a)), None, "f32/CDAB", "50.01 Hz");
        check(words(5.57), None, "f32/ABCD", "5.570");
        check((2301, Some(17)), None, "u16", "230.1 V");
        check((5001, Some(0)), None, "u16", "50.01 Hz");
        check((0, Some(2301)), None, "u32/ABCD", "230.1 V");
        check((0, Some(0)), None, "u16", "zero");
        check((0x7fc0, Some(0)), None, "u16", "not available");
        check((0x5344, Some(0x4d31)), None, "u16", "text \"SDM1\"");
    }

    #[test]
    fn the_display_decides() {
        let (a, b) = words(1284.2);
        check((a, b), Some(1284.2), "f32/ABCD", "1284.20, as the display says");
        check((0, Some(12842)), Some(1284.2), "u32/ABCD", "1284.2, as the display says");
        check((12842, Some(5)), Some(12.842), "u16", "12.842, as the display says");
        assert!(best(17, Some(5), None, Some(1284.2)).score < 40);
    }

    #[test]
    fn what_moves_says_so() {
        let (a, b) = words(1284.2);
        assert_eq!(best(a, b, Some(words(1280.0)), None).says, "1284.20, moving");
        assert_eq!(best(a, b, Some((a, b)), None).says, "1284.20");
    }

    proptest! {
        #[test]
        fn a_guess_is_always_one_of_the_readings(a: u16, b: Option<u16>, c: u16, expected in proptest::option::of(-1e6..1e6f64)) {
            let guess = best(a, b, Some((c, b)), expected);
            prop_assert!(guess.score <= 100);
            let same = |r: &Reading| r.kind == guess.reading.kind && r.order == guess.reading.order;
            prop_assert!(readings(a, b).iter().any(same));
        }
    }
}
