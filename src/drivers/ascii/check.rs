//! Checksums of framed text: computed, compared, and put into what is sent.

use super::Garbled;
use crate::config::framed::{Checksum, End, Frame, Over, Piece, Sum};

/// The checksum of these bytes. Kinds of 8 bits leave the high byte 0.
pub fn sum(kind: Sum, bytes: &[u8]) -> u16 {
    let add = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
    match kind {
        Sum::Sum8 => add(bytes).into(),
        Sum::Xor8 => bytes.iter().fold(0u8, |x, b| x ^ b).into(),
        Sum::Lrc => add(bytes).wrapping_neg().into(),
        Sum::Crc16Modbus => bytes
            .iter()
            .fold(0xffff, |crc, b| (0..8).fold(crc ^ u16::from(*b), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 })),
        Sum::Crc16Ccitt => ccitt(0xffff, bytes),
        Sum::Crc16Xmodem => ccitt(0, bytes),
    }
}

fn ccitt(begin: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(begin, |crc, b| {
        (0..8).fold(crc ^ (u16::from(*b) << 8), |crc, _| if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 })
    })
}

/// As it stands in a frame.
pub fn written(rule: &Checksum, value: u16) -> Vec<u8> {
    let [high, low] = value.to_be_bytes();
    let bytes = match (rule.kind.bytes(), rule.little) {
        (1, _) => vec![low],
        (_, true) => vec![low, high],
        (_, false) => vec![high, low],
    };
    if rule.hex { bytes.iter().flat_map(|b| format!("{b:02X}").into_bytes()).collect() } else { bytes }
}

/// Compares what a frame says with what it holds. Hexadecimal digits may be of either case.
pub fn verify(rule: &Checksum, covered: &[u8], said: &[u8]) -> Result<(), Garbled> {
    let want = written(rule, sum(rule.kind, covered));
    let is_equal = if rule.hex { said.eq_ignore_ascii_case(&want) } else { said == want };
    if is_equal { Ok(()) } else { Err(Garbled::Checksum) }
}

/// What is sent: the number in its place, and the checksum of everything before it in its own.
pub fn fill(frame: &Frame, pieces: &[Piece], number: f64) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => out.extend_from_slice(bytes),
            Piece::Value { width, decimals } => out.extend(format_number(number, *width, *decimals).into_bytes()),
            Piece::Checksum => {
                let Some(rule) = &frame.checksum else { continue };
                out.extend(written(rule, sum(rule.kind, covered(frame, rule, &out))));
            }
        }
    }
    out
}

/// The part of what was built so far that its checksum covers.
fn covered<'a>(frame: &Frame, rule: &Checksum, built: &'a [u8]) -> &'a [u8] {
    let unmarked = built.strip_suffix(rule.mark.as_slice()).unwrap_or(built);
    let begun = match rule.over {
        Over::Frame => unmarked,
        Over::Body | Over::Data => unmarked.strip_prefix(frame.start.as_slice()).unwrap_or(unmarked),
    };
    match (&frame.end, rule.over) {
        (End::Terminator(end), Over::Data) if rule.after => begun.strip_suffix(end.as_slice()).unwrap_or(begun),
        _ => begun,
    }
}

fn format_number(number: f64, width: usize, decimals: Option<usize>) -> String {
    match decimals {
        Some(decimals) => format!("{number:0width$.decimals$}"),
        None => format!("{number:0width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_123456789() {
        // The check values of the CRC catalogue (reveng.sourceforge.io); sum and xor by hand.
        for (kind, want) in [
            (Sum::Sum8, 0xdd),
            (Sum::Xor8, 0x31),
            (Sum::Lrc, 0x23),
            (Sum::Crc16Modbus, 0x4b37),
            (Sum::Crc16Ccitt, 0x29b1),
            (Sum::Crc16Xmodem, 0x31c3),
        ] {
            assert_eq!(sum(kind, b"123456789"), want, "{kind:?}");
        }
    }

    #[test]
    fn a_checksum_stands_in_a_frame_as_its_rule_says() {
        let rule = |kind, hex, little| Checksum { kind, over: Over::Body, hex, after: false, mark: Vec::new(), little };
        assert_eq!(written(&rule(Sum::Xor8, true, false), 0x0a), b"0A");
        assert_eq!(written(&rule(Sum::Crc16Modbus, true, false), 0x4b37), b"4B37");
        assert_eq!(written(&rule(Sum::Crc16Modbus, false, true), 0x4b37), [0x37, 0x4b]);
        assert_eq!(written(&rule(Sum::Lrc, false, false), 0x23), [0x23]);
        assert_eq!(verify(&rule(Sum::Xor8, true, false), b"123456789", b"31"), Ok(()));
        assert_eq!(verify(&rule(Sum::Xor8, true, false), b"123456780", b"31"), Err(Garbled::Checksum));
    }

    #[test]
    fn what_is_sent_holds_its_number_and_its_checksum() {
        let nmea = Checksum { kind: Sum::Xor8, over: Over::Body, hex: true, after: false, mark: b"*".to_vec(), little: false };
        let frame = Frame { start: b"$".to_vec(), end: End::Terminator(b"\r\n".to_vec()), max_bytes: 82, checksum: Some(nmea) };
        let pieces = [
            Piece::Bytes(b"$PSET,".to_vec()),
            Piece::Value { width: 6, decimals: Some(2) },
            Piece::Bytes(b"*".to_vec()),
            Piece::Checksum,
            Piece::Bytes(b"\r\n".to_vec()),
        ];
        let want = sum(Sum::Xor8, b"PSET,012.50");
        assert_eq!(fill(&frame, &pieces, 12.5), format!("$PSET,012.50*{want:02X}\r\n").into_bytes());
    }
}
