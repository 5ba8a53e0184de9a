//! Strings: which bytes of the registers are characters, in which encoding, and where they end.
//!
//! NULs and blanks around the text are not part of it, and it ends at the first NUL. What is no character comes out as
//! U+FFFD, control characters too, so that no screen and no message is disturbed. Nothing, all 0 and all 0xFF are not
//! available.

use super::swapped;
use crate::{
    config::device::{Chars, Encoding, Lane, WordOrder},
    model::{Quality, Value},
};

/// Bytes of the longest string, 125 registers.
const LONGEST: usize = 250;

/// The text in these registers.
pub fn read(chars: Chars, order: WordOrder, registers: &[u8]) -> Result<Value, Quality> {
    let mut bytes = [0; LONGEST];
    let mut len = 0;
    for pair in registers.as_chunks::<2>().0 {
        let pair = if swapped(order) { [pair[1], pair[0]] } else { *pair };
        let picked = match chars.lane {
            Lane::Both => &pair[..],
            Lane::High => &pair[..1],
            Lane::Low => &pair[1..],
        };
        bytes.get_mut(len..len + picked.len()).ok_or(Quality::Bad)?.copy_from_slice(picked);
        len += picked.len();
    }
    let bytes = &bytes[..len];
    if bytes.iter().all(|b| *b == 0xff) {
        return Err(Quality::NotAvailable);
    }
    let start = bytes.iter().position(|b| !is_padding(*b)).unwrap_or(len);
    let bytes = bytes[start..].split(|b| *b == 0).next().unwrap_or_default();
    let end = bytes.iter().rposition(|b| !is_padding(*b)).map_or(0, |n| n + 1);
    let bytes = &bytes[..end];
    if bytes.is_empty() {
        return Err(Quality::NotAvailable);
    }
    let plain = bytes.iter().all(|b| (0x20..0x7f).contains(b));
    Ok(Value::Text(match (plain, std::str::from_utf8(bytes), chars.encoding) {
        (true, Ok(text), _) => text.into(),
        (_, _, Encoding::Utf8) => String::from_utf8_lossy(bytes).chars().map(clean).collect::<String>().into(),
        (_, _, Encoding::Latin1) => bytes.iter().map(|b| clean(char::from(*b))).collect::<String>().into(),
        (_, _, Encoding::Ascii) => {
            bytes.iter().map(|b| if b.is_ascii() { clean(char::from(*b)) } else { char::REPLACEMENT_CHARACTER }).collect::<String>().into()
        }
    }))
}

/// NUL and white space.
const fn is_padding(byte: u8) -> bool {
    matches!(byte, 0 | b' ' | b'\t' | b'\n' | b'\r')
}

fn clean(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

/// The registers that hold the text, the rest NUL. `Err`: why it does not fit.
pub fn write(chars: Chars, order: WordOrder, text: &str) -> Result<Vec<u16>, String> {
    let bytes: Option<Vec<u8>> = match chars.encoding {
        Encoding::Utf8 => Some(text.bytes().collect()),
        Encoding::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
        Encoding::Ascii => text.is_ascii().then(|| text.bytes().collect()),
    };
    let bytes = bytes.ok_or("it has characters that the device's encoding lacks")?;
    let registers = usize::from(chars.registers);
    let most = if chars.lane == Lane::Both { registers * 2 } else { registers };
    if bytes.len() > most {
        return Err(format!("it takes {} bytes, there is room for {most}", bytes.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters".into());
    }
    let byte = |n: usize| bytes.get(n).copied().unwrap_or(0);
    let word = |n: usize| match chars.lane {
        Lane::Both => u16::from_be_bytes([byte(n * 2), byte(n * 2 + 1)]),
        Lane::High => u16::from_be_bytes([byte(n), 0]),
        Lane::Low => u16::from(byte(n)),
    };
    Ok((0..registers).map(word).map(|w| if swapped(order) { w.swap_bytes() } else { w }).collect())
}
