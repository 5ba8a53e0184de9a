//! `na`, `pending`, `unsupported` = [...]: raw patterns that are no value, in the point's own width.

use super::Desk;
use crate::config::{device::DataType, keys::Keys, problem::Code, source::Place, tree::Content};

/// Bits of the raw value that a sentinel is compared with.
const fn width(kind: DataType) -> u32 {
    match kind {
        DataType::Bool => 1,
        DataType::Bits(b) => b.count as u32,
        DataType::U8 | DataType::I8 => 8,
        DataType::U16 | DataType::I16 | DataType::F16 => 16,
        DataType::U32 | DataType::I32 | DataType::F32 => 32,
        DataType::U64 | DataType::I64 | DataType::F64 => 64,
        DataType::Bcd(digits) => digits as u32 * 4,
        // Both are at most four registers.
        DataType::M10k(_) | DataType::Time(_) => kind.words() as u32 * 16,
        DataType::Text(_) => 0,
    }
}

/// The list under `name`.
pub fn check(keys: &Keys<'_>, name: &str, kind: DataType, desk: &mut Desk<'_>) -> Vec<u64> {
    if !keys.has(name) {
        return Vec::new();
    }
    let Some(list) = keys.list(name, "[0x8000]", &mut desk.out) else { return Vec::new() };
    let bits = width(kind);
    if bits == 0 {
        desk.out
            .error(Code::NoEffect, keys.key_at(name), keys.key(name), format!("`{name}` beside a string"))
            .because("an empty string, all 0 and all 0xFFFF are not available by themselves")
            .want(format!("take `{name}` out"));
        return Vec::new();
    }
    let mut out = Vec::with_capacity(list.len());
    for node in list {
        let pattern = match &node.value {
            Content::Int(n) => fit(i128::from(*n), bits),
            Content::Text(t) => hex(t).and_then(|n| fit(n, bits)),
            #[allow(clippy::cast_possible_truncation)] // the value as the device holds it
            Content::Float(f) => match kind {
                DataType::F32 => Some(u64::from((*f as f32).to_bits())),
                DataType::F64 => Some(f.to_bits()),
                _ => None,
            },
            _ => None,
        };
        match pattern {
            Some(p) => out.push(p),
            None => complain(keys, name, node.at, kind, bits, desk),
        }
    }
    out
}

fn complain(keys: &Keys<'_>, name: &str, at: Place, kind: DataType, bits: u32, desk: &mut Desk<'_>) {
    let text = desk.out.sources.slice(at).to_owned();
    let example = format!("0x{:X}", 1u128 << (bits - 1));
    let example = if bits == 64 { format!("\"{example}\"") } else { example };
    desk.out
        .error(Code::OutOfRange, at, keys.key(name), format!("{text} is no raw pattern of {}", kind.word()))
        .because(format!("{bits} bits as read, before scaling"))
        .want(format!("{name} = [{example}]"));
}

/// Negative numbers in two's complement.
fn fit(n: i128, bits: u32) -> Option<u64> {
    let mask = (1i128 << bits) - 1;
    let fits = (-(1i128 << (bits - 1))..=mask).contains(&n);
    if fits { u64::try_from(n & mask).ok() } else { None }
}

/// TOML's own numbers end at 63 bits; a string goes to 64.
fn hex(text: &str) -> Option<i128> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    u64::from_str_radix(digits, 16).ok().map(i128::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_the_width() {
        for (n, bits, want) in [
            (0x8000, 16, Some(0x8000)),
            (-32768, 16, Some(0x8000)),
            (-1, 16, Some(0xFFFF)),
            (65535, 16, Some(65535)),
            (65536, 16, None),
            (-32769, 16, None),
            (-1, 64, Some(u64::MAX)),
            (i128::from(u64::MAX), 64, Some(u64::MAX)),
            (1, 1, Some(1)),
            (2, 1, None),
        ] {
            assert_eq!(fit(n, bits), want, "{n} in {bits} bits");
        }
    }
}
