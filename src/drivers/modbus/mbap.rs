//! Modbus TCP framing: transaction id, protocol 0, length, unit, PDU.
//!
//! There is no resynchronisation: TCP loses nothing, so a header that cannot be one means that the stream is not Modbus
//! TCP (or that a reader lost its place), and only a new connection helps.

use super::pdu::{self, Ask, Garbled, Scan};

/// Transaction, protocol, length and unit.
const HEADER: usize = 7;
/// Unit and PDU; a PDU has 2 (an exception) to 253 bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 3..=254;

/// Appends a whole frame.
pub fn encode(tid: u16, unit: u8, ask: &Ask, out: &mut Vec<u8>) {
    let length = u16::try_from(ask.request_len() + 1).unwrap_or(u16::MAX);
    out.extend_from_slice(&tid.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(unit);
    ask.encode(out);
}

/// Judges the first frame of `buf`. Another transaction's is foreign (a late reply: ours may follow); a reply in our
/// transaction that is not ours in unit, function or length spends the transaction and is garbled.
pub fn scan(buf: &[u8], tid: u16, unit: u8, ask: &Ask) -> Scan {
    scan_by(buf, tid, unit, |reply| pdu::check(ask, reply).map(|_| ()))
}

/// As [`scan`], with the comparison of the reply's PDU.
pub fn scan_by(buf: &[u8], tid: u16, unit: u8, check: impl FnOnce(&[u8]) -> Result<(), Garbled>) -> Scan {
    let &[t0, t1, p0, p1, l0, l1, got_unit, ..] = buf else { return incomplete(buf) };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if (p0, p1) != (0, 0) || !LENGTHS.contains(&length) {
        return Scan::Garbled(Garbled::Malformed { bytes: buf.len() });
    }
    let end = HEADER - 1 + length;
    let Some(pdu) = buf.get(HEADER..end) else { return Scan::More { at_least: end - buf.len() } };
    let got = u16::from_be_bytes([t0, t1]);
    if got != tid {
        return Scan::Foreign { end, why: Garbled::WrongTransaction { asked: tid, got } };
    }
    if got_unit != unit {
        return Scan::Garbled(Garbled::WrongUnit { asked: unit, got: got_unit });
    }
    match check(pdu) {
        Ok(()) => Scan::Reply { pdu: HEADER..end, end },
        Err(why) => Scan::Garbled(why),
    }
}

/// Less than a header: a wrong protocol shows before it is whole.
fn incomplete(buf: &[u8]) -> Scan {
    if buf.iter().skip(2).take(2).any(|b| *b != 0) {
        return Scan::Garbled(Garbled::Malformed { bytes: buf.len() });
    }
    // The shortest frame is an exception, two bytes after the header.
    Scan::More { at_least: HEADER + 2 - buf.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::device::Table;
    use proptest::prelude::*;

    const READ: Ask = Ask::Read { table: Table::Input, start: 12, count: 2 };
    /// Transaction 0x0102, unit 9.
    const REPLY: [u8; 13] = [1, 2, 0, 0, 0, 7, 9, 4, 4, 0x43, 0x66, 0x33, 0x34];

    #[test]
    fn a_request_has_its_header() {
        let mut out = Vec::new();
        encode(0x0102, 9, &READ, &mut out);
        assert_eq!(out, [1, 2, 0, 0, 0, 6, 9, 4, 0, 12, 0, 2]);
        out.clear();
        encode(3, 255, &Ask::WriteRegisters { start: 1, words: vec![10, 0x102] }, &mut out);
        assert_eq!(out, [0, 3, 0, 0, 0, 11, 255, 16, 0, 1, 0, 2, 4, 0, 10, 1, 2]);
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>), want: Scan) {
        let mut buf = REPLY.to_vec();
        change(&mut buf);
        assert_eq!(scan(&buf, 0x0102, 9, &READ), want, "{buf:02x?}");
    }

    #[test]
    fn the_reply_is_what_was_asked() {
        check(|_| {}, Scan::Reply { pdu: 7..13, end: 13 });
        check(|b| b.push(0xff), Scan::Reply { pdu: 7..13, end: 13 });
        check(|b| *b = [1, 2, 0, 0, 0, 3, 9, 0x84, 2].to_vec(), Scan::Reply { pdu: 7..9, end: 9 });
    }

    #[test]
    fn a_late_reply_is_foreign_and_ours_may_follow() {
        check(|b| b[1] = 1, Scan::Foreign { end: 13, why: Garbled::WrongTransaction { asked: 0x0102, got: 0x0101 } });
    }

    #[test]
    fn a_wrong_reply_in_our_transaction_is_garbled() {
        check(|b| b[6] = 8, Scan::Garbled(Garbled::WrongUnit { asked: 9, got: 8 }));
        check(|b| b[7] = 3, Scan::Garbled(Garbled::WrongFunction { asked: 4, got: 3 }));
        check(|b| b[8] = 2, Scan::Garbled(Garbled::WrongLength { asked: 4, got: 2 }));
        check(|b| *b = [1, 2, 0, 0, 0, 5, 9, 4, 2, 0, 0].to_vec(), Scan::Garbled(Garbled::WrongLength { asked: 4, got: 2 }));
        check(|b| *b = [1, 2, 0, 0, 0, 9, 9, 4, 6, 0, 0, 0, 0, 0, 0].to_vec(), Scan::Garbled(Garbled::WrongLength { asked: 4, got: 6 }));
    }

    #[test]
    fn what_is_no_header_is_seen_at_once() {
        check(|b| b[2] = 1, Scan::Garbled(Garbled::Malformed { bytes: 13 }));
        check(|b| b[4] = 1, Scan::Garbled(Garbled::Malformed { bytes: 13 }));
        check(|b| b[5] = 2, Scan::Garbled(Garbled::Malformed { bytes: 13 }));
        check(|b| *b = b"HTTP".to_vec(), Scan::Garbled(Garbled::Malformed { bytes: 4 }));
    }

    #[test]
    fn what_is_missing_is_never_overstated() {
        check(Vec::clear, Scan::More { at_least: 9 });
        check(|b| b.truncate(3), Scan::More { at_least: 6 });
        check(|b| b.truncate(7), Scan::More { at_least: 6 });
        check(|b| b.truncate(12), Scan::More { at_least: 1 });
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(buf in prop::collection::vec(any::<u8>(), 0..300), tid: u16, unit: u8) {
            match scan(&buf, tid, unit, &READ) {
                Scan::More { at_least } => prop_assert!(at_least >= 1),
                Scan::Reply { pdu, end } => prop_assert!(pdu.end == end && end <= buf.len()),
                Scan::Foreign { end, .. } => prop_assert!(end <= buf.len()),
                Scan::Garbled(_) => {}
            }
        }
    }
}
