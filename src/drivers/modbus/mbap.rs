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
    match pdu::check(ask, pdu) {
        Ok(_) => Scan::Reply { pdu: HEADER..end, end },
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
