//! What is asked of a unit, what it may answer, and the strict comparison of the two.
//!
//! A reply is data only if it could be nothing else: its function, its byte count and, for a write, the address and value
//! that it repeats must be those of the request. The unit (and on TCP the transaction) is compared by the framing.

use crate::config::{RawPdu, device::Table};
use std::ops::Range;

/// Most data bytes of a read reply: the byte count is one byte and a PDU has at most 253.
const DATA_MAX: usize = 250;

/// One request. At most 125 registers or 2000 bits are read, 123 registers or 1968 coils written; the planner and
/// [`super::encode`] keep to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Read {
        table: Table,
        start: u16,
        count: u16,
    },
    WriteCoil {
        address: u16,
        on: bool,
    },
    WriteRegister {
        address: u16,
        value: u16,
    },
    WriteCoils {
        start: u16,
        bits: Vec<bool>,
    },
    WriteRegisters {
        start: u16,
        words: Vec<u16>,
    },
    /// A coil written with another word than on and off: what relay boards take for toggle and flash.
    WriteCoilWord {
        address: u16,
        value: u16,
    },
    /// Register = register and `and`, or (`or` and not `and`): the bits that `and` lacks become those of `or`.
    MaskWrite {
        address: u16,
        and: u16,
        or: u16,
    },
    /// What the operator listed, byte by byte.
    Raw(RawPdu),
}

/// What a valid reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Register or bit bytes, without the byte count.
    Data(&'a [u8]),
    /// The unit repeated the write: it has accepted it.
    Written,
    /// The unit refused, with this code. It is alive.
    Exception(u8),
}

/// Why bytes are no answer to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    #[error("asked unit {asked}, unit {got} answered")]
    WrongUnit { asked: u8, got: u8 },
    #[error("asked function {asked}, the reply is for function {got}")]
    WrongFunction { asked: u8, got: u8 },
    #[error("asked for {asked} bytes, the reply has {got}")]
    WrongLength { asked: usize, got: usize },
    #[error("wrote {asked:04x} at {address}, the reply repeats {got:04x} at {got_address}")]
    WrongEcho { address: u16, asked: u16, got_address: u16, got: u16 },
    #[error("the reply's {bytes} bytes are not those that `raw_reply` lists")]
    WrongBytes { bytes: usize },
    #[error("asked in transaction {asked}, the reply is for transaction {got}")]
    WrongTransaction { asked: u16, got: u16 },
    #[error("the checksum does not fit")]
    Crc,
    #[error("{bytes} bytes that are no Modbus frame")]
    Malformed { bytes: usize },
}

/// What the bytes received since the request amount to. Ranges and ends are offsets in the scanned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// Nothing can be said before so many further bytes have come (at least 1).
    More { at_least: usize },
    /// The reply to what was asked. [`check`] on `pdu` succeeds.
    Reply { pdu: Range<usize>, end: usize },
    /// A whole valid frame, but not ours. The bytes up to `end` are spent; our reply may still follow.
    Foreign { end: usize, why: Garbled },
    /// Our reply, broken, or more noise than can be skipped. Nothing good will follow.
    Garbled(Garbled),
}

impl Ask {
    pub fn function(&self) -> u8 {
        match self {
            Ask::Read { table, .. } => table.read_function(),
            Ask::WriteCoil { .. } => 5,
            Ask::WriteRegister { .. } => 6,
            Ask::WriteCoils { .. } => 15,
            Ask::WriteRegisters { .. } => 16,
            Ask::WriteCoilWord { .. } => 5,
            Ask::MaskWrite { .. } => 22,
            Ask::Raw(raw) => raw.request.first().copied().unwrap_or(0),
        }
    }

    /// Whether this changes something in the unit, so that it may go on the wire once only.
    pub fn is_write(&self) -> bool {
        !matches!(self, Ask::Read { .. })
    }

    /// The first address that it touches.
    pub fn start(&self) -> u16 {
        match self {
            Ask::Read { start, .. } | Ask::WriteCoils { start, .. } | Ask::WriteRegisters { start, .. } => *start,
            Ask::WriteCoil { address, .. } | Ask::WriteRegister { address, .. } => *address,
            Ask::WriteCoilWord { address, .. } | Ask::MaskWrite { address, .. } => *address,
            Ask::Raw(_) => 0,
        }
    }

    /// The second word of the PDU: a count, or the value of a single write. A write's reply repeats it.
    fn second(&self) -> u16 {
        match self {
            Ask::Read { count, .. } => *count,
            Ask::WriteCoil { on, .. } => u16::from(*on) * 0xff00,
            Ask::WriteRegister { value, .. } => *value,
            Ask::WriteCoils { bits, .. } => saturated(bits.len()),
            Ask::WriteRegisters { words, .. } => saturated(words.len()),
            Ask::WriteCoilWord { value, .. } => *value,
            Ask::MaskWrite { and, .. } => *and,
            Ask::Raw(_) => 0,
        }
    }

    /// Appends the PDU.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Ask::Raw(raw) = self {
            out.extend_from_slice(&raw.request);
            return;
        }
        out.push(self.function());
        out.extend_from_slice(&self.start().to_be_bytes());
        out.extend_from_slice(&self.second().to_be_bytes());
        match self {
            Ask::Read { .. } | Ask::WriteCoil { .. } | Ask::WriteRegister { .. } | Ask::WriteCoilWord { .. } | Ask::Raw(_) => {}
            Ask::MaskWrite { or, .. } => out.extend_from_slice(&or.to_be_bytes()),
            Ask::WriteCoils { bits, .. } => {
                out.push(u8::try_from(bits.len().div_ceil(8)).unwrap_or(u8::MAX));
                out.extend(bits.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))));
            }
            Ask::WriteRegisters { words, .. } => {
                out.push(u8::try_from(words.len() * 2).unwrap_or(u8::MAX));
                out.extend(words.iter().flat_map(|w| w.to_be_bytes()));
            }
        }
    }

    /// Length of the PDU that [`Ask::encode`] appends.
    pub fn request_len(&self) -> usize {
        match self {
            Ask::Read { .. } | Ask::WriteCoil { .. } | Ask::WriteRegister { .. } | Ask::WriteCoilWord { .. } => 5,
            Ask::MaskWrite { .. } => 7,
            Ask::Raw(raw) => raw.request.len(),
            Ask::WriteCoils { bits, .. } => 6 + bits.len().div_ceil(8),
            Ask::WriteRegisters { words, .. } => 6 + words.len() * 2,
        }
    }

    /// Data bytes that the reply to a read carries; 0 for a write.
    pub fn data_len(&self) -> usize {
        match self {
            Ask::Read { table, count, .. } if table.is_bits() => usize::from(*count).div_ceil(8).min(DATA_MAX),
            Ask::Read { count, .. } => (usize::from(*count) * 2).min(DATA_MAX),
            _ => 0,
        }
    }

    /// Length of the normal reply's PDU. An exception's is 2.
    pub fn reply_len(&self) -> usize {
        match self {
            Ask::Read { .. } => 2 + self.data_len(),
            Ask::MaskWrite { .. } => 7,
            Ask::Raw(raw) => raw.reply.len(),
            _ => 5,
        }
    }

    /// Whether the bytes of a PDU behind its function code may begin the normal reply.
    pub fn may_be_answered_by(&self, head: &[u8]) -> bool {
        let begins_with = |start: u16| start.to_be_bytes().iter().zip(head).all(|(a, b)| a == b);
        match self {
            Ask::Read { .. } => head.first().is_none_or(|count| usize::from(*count) == self.data_len()),
            Ask::Raw(raw) => head.iter().zip(raw.reply.iter().skip(1)).all(|(got, want)| want.is_none_or(|want| want == *got)),
            _ => begins_with(self.start()),
        }
    }
}

/// Compares a whole reply PDU with what was asked.
pub fn check<'a>(ask: &Ask, reply_pdu: &'a [u8]) -> Result<Answer<'a>, Garbled> {
    let asked = ask.function();
    let Some((&got, rest)) = reply_pdu.split_first() else { return Err(Garbled::Malformed { bytes: 0 }) };
    if got == asked | 0x80 {
        return match rest {
            [code] => Ok(Answer::Exception(*code)),
            _ => Err(Garbled::WrongLength { asked: 2, got: reply_pdu.len() }),
        };
    }
    if got != asked {
        return Err(Garbled::WrongFunction { asked, got });
    }
    match ask {
        Ask::Read { .. } => check_data(ask.data_len(), rest),
        Ask::MaskWrite { or, .. } => check_masks(ask, *or, rest),
        Ask::Raw(raw) => check_raw(raw, reply_pdu),
        _ => check_echo(ask, rest),
    }
}

fn check_data(asked: usize, rest: &[u8]) -> Result<Answer<'_>, Garbled> {
    let Some((&count, data)) = rest.split_first() else { return Err(Garbled::WrongLength { asked, got: 0 }) };
    if usize::from(count) != asked {
        return Err(Garbled::WrongLength { asked, got: usize::from(count) });
    }
    if data.len() != asked {
        return Err(Garbled::WrongLength { asked, got: data.len() });
    }
    Ok(Answer::Data(data))
}

fn check_echo<'a>(ask: &Ask, rest: &[u8]) -> Result<Answer<'a>, Garbled> {
    let &[a, b, c, d] = rest else { return Err(Garbled::WrongLength { asked: 4, got: rest.len() }) };
    let (got_address, got) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let (address, asked) = (ask.start(), ask.second());
    if (got_address, got) == (address, asked) { Ok(Answer::Written) } else { Err(Garbled::WrongEcho { address, asked, got_address, got }) }
}

/// Address and both masks come back.
fn check_masks<'a>(ask: &Ask, or: u16, rest: &[u8]) -> Result<Answer<'a>, Garbled> {
    let &[a, b, c, d, e, f] = rest else { return Err(Garbled::WrongLength { asked: 6, got: rest.len() }) };
    check_echo(ask, &[a, b, c, d])?;
    let got = u16::from_be_bytes([e, f]);
    let (address, got_address) = (ask.start(), u16::from_be_bytes([a, b]));
    if got == or { Ok(Answer::Written) } else { Err(Garbled::WrongEcho { address, asked: or, got_address, got }) }
}

fn check_raw<'a>(raw: &RawPdu, reply: &[u8]) -> Result<Answer<'a>, Garbled> {
    match () {
        () if reply.len() != raw.reply.len() => Err(Garbled::WrongLength { asked: raw.reply.len(), got: reply.len() }),
        () if raw.begins(reply) => Ok(Answer::Written),
        () => Err(Garbled::WrongBytes { bytes: reply.len() }),
    }
}

fn saturated(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Ask = Ask::Read { table: Table::Holding, start: 0x6b, count: 3 };
    const BITS: Ask = Ask::Read { table: Table::Coil, start: 0x13, count: 19 };

    /// The examples of the Modbus Application Protocol 1.1b3, sections 6.1 to 6.12.
    #[test]
    fn requests_are_those_of_the_specification() {
        check_request(&BITS, &[1, 0, 0x13, 0, 0x13]);
        check_request(&Ask::Read { table: Table::Discrete, start: 0xc4, count: 0x16 }, &[2, 0, 0xc4, 0, 0x16]);
        check_request(&READ, &[3, 0, 0x6b, 0, 3]);
        check_request(&Ask::Read { table: Table::Input, start: 8, count: 1 }, &[4, 0, 8, 0, 1]);
        check_request(&Ask::WriteCoil { address: 0xac, on: true }, &[5, 0, 0xac, 0xff, 0]);
        check_request(&Ask::WriteCoil { address: 0xac, on: false }, &[5, 0, 0xac, 0, 0]);
        check_request(&Ask::WriteRegister { address: 1, value: 3 }, &[6, 0, 1, 0, 3]);
        let bits = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|b| b == 1).to_vec();
        check_request(&Ask::WriteCoils { start: 0x13, bits }, &[15, 0, 0x13, 0, 10, 2, 0xcd, 1]);
        check_request(&Ask::WriteRegisters { start: 1, words: vec![10, 0x102] }, &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2]);
        check_request(&Ask::MaskWrite { address: 4, and: 0xf2, or: 0x25 }, &[22, 0, 4, 0, 0xf2, 0, 0x25]);
        // Waveshare: toggle relay 3; PZEM: reset the energy.
        check_request(&Ask::WriteCoilWord { address: 3, value: 0x5500 }, &[5, 0, 3, 0x55, 0]);
        check_request(&Ask::Raw(RawPdu { request: vec![0x42], reply: vec![Some(0x42)] }), &[0x42]);
    }

    #[track_caller]
    fn check_request(ask: &Ask, want: &[u8]) {
        let mut got = Vec::new();
        ask.encode(&mut got);
        assert_eq!(got, want, "{ask:?}");
        assert_eq!(ask.request_len(), want.len(), "{ask:?}");
        assert_eq!(ask.function(), want[0]);
    }

    #[test]
    fn replies_are_data_only_if_they_are_what_was_asked() {
        use Garbled::{Malformed, WrongFunction, WrongLength};
        check_reply(&READ, &[3, 6, 2, 0x2b, 0, 0, 0, 0x64], Ok(Answer::Data(&[2, 0x2b, 0, 0, 0, 0x64])));
        check_reply(&BITS, &[1, 3, 0xcd, 0x6b, 5], Ok(Answer::Data(&[0xcd, 0x6b, 5])));
        check_reply(&READ, &[], Err(Malformed { bytes: 0 }));
        check_reply(&READ, &[4, 6, 2, 0x2b, 0, 0, 0, 0x64], Err(WrongFunction { asked: 3, got: 4 }));
        check_reply(&READ, &[3], Err(WrongLength { asked: 6, got: 0 }));
        check_reply(&READ, &[3, 4, 2, 0x2b, 0, 0], Err(WrongLength { asked: 6, got: 4 }));
        check_reply(&READ, &[3, 8, 0, 0, 0, 0, 0, 0, 0, 0], Err(WrongLength { asked: 6, got: 8 }));
        check_reply(&READ, &[3, 6, 2, 0x2b, 0, 0, 0], Err(WrongLength { asked: 6, got: 5 }));
        check_reply(&READ, &[3, 6, 2, 0x2b, 0, 0, 0, 0x64, 0], Err(WrongLength { asked: 6, got: 7 }));
    }

    #[test]
    fn a_refusal_is_of_the_asked_function_and_has_one_code() {
        check_reply(&READ, &[0x83, 2], Ok(Answer::Exception(2)));
        check_reply(&READ, &[0x84, 2], Err(Garbled::WrongFunction { asked: 3, got: 0x84 }));
        check_reply(&READ, &[0x83], Err(Garbled::WrongLength { asked: 2, got: 1 }));
        check_reply(&READ, &[0x83, 2, 0], Err(Garbled::WrongLength { asked: 2, got: 3 }));
    }

    #[test]
    fn a_write_is_done_only_if_address_and_value_come_back() {
        let register = Ask::WriteRegister { address: 1, value: 3 };
        check_reply(&register, &[6, 0, 1, 0, 3], Ok(Answer::Written));
        check_reply(&register, &[6, 0, 2, 0, 3], Err(Garbled::WrongEcho { address: 1, asked: 3, got_address: 2, got: 3 }));
        check_reply(&register, &[6, 0, 1, 0, 4], Err(Garbled::WrongEcho { address: 1, asked: 3, got_address: 1, got: 4 }));
        check_reply(&register, &[6, 0, 1, 0], Err(Garbled::WrongLength { asked: 4, got: 3 }));
        let coil = Ask::WriteCoil { address: 0xac, on: true };
        check_reply(&coil, &[5, 0, 0xac, 0xff, 0], Ok(Answer::Written));
        check_reply(&coil, &[5, 0, 0xac, 0, 0], Err(Garbled::WrongEcho { address: 0xac, asked: 0xff00, got_address: 0xac, got: 0 }));
        let several = Ask::WriteRegisters { start: 1, words: vec![10, 0x102] };
        check_reply(&several, &[16, 0, 1, 0, 2], Ok(Answer::Written));
        check_reply(&several, &[16, 0, 1, 0, 1], Err(Garbled::WrongEcho { address: 1, asked: 2, got_address: 1, got: 1 }));
        check_reply(&several, &[0x90, 4], Ok(Answer::Exception(4)));
        check_reply(&Ask::WriteCoils { start: 0x13, bits: vec![true; 10] }, &[15, 0, 0x13, 0, 10], Ok(Answer::Written));
    }

    #[test]
    fn a_mask_write_is_done_only_if_address_and_both_masks_come_back() {
        let mask = Ask::MaskWrite { address: 4, and: 0xf2, or: 0x25 };
        check_reply(&mask, &[22, 0, 4, 0, 0xf2, 0, 0x25], Ok(Answer::Written));
        check_reply(&mask, &[22, 0, 5, 0, 0xf2, 0, 0x25], Err(Garbled::WrongEcho { address: 4, asked: 0xf2, got_address: 5, got: 0xf2 }));
        check_reply(&mask, &[22, 0, 4, 0, 0xf3, 0, 0x25], Err(Garbled::WrongEcho { address: 4, asked: 0xf2, got_address: 4, got: 0xf3 }));
        check_reply(&mask, &[22, 0, 4, 0, 0xf2, 0, 0x24], Err(Garbled::WrongEcho { address: 4, asked: 0x25, got_address: 4, got: 0x24 }));
        check_reply(&mask, &[22, 0, 4, 0, 0xf2], Err(Garbled::WrongLength { asked: 6, got: 4 }));
        check_reply(&mask, &[0x96, 1], Ok(Answer::Exception(1)));
        let toggle = Ask::WriteCoilWord { address: 3, value: 0x5500 };
        check_reply(&toggle, &[5, 0, 3, 0x55, 0], Ok(Answer::Written));
        check_reply(&toggle, &[5, 0, 3, 0xff, 0], Err(Garbled::WrongEcho { address: 3, asked: 0x5500, got_address: 3, got: 0xff00 }));
    }

    #[test]
    fn a_listed_request_takes_the_listed_reply_and_no_other() {
        let reset = Ask::Raw(RawPdu { request: vec![0x42], reply: vec![Some(0x42)] });
        check_reply(&reset, &[0x42], Ok(Answer::Written));
        check_reply(&reset, &[0x42, 0], Err(Garbled::WrongLength { asked: 1, got: 2 }));
        check_reply(&reset, &[0xc2, 1], Ok(Answer::Exception(1)));
        check_reply(&reset, &[0x43], Err(Garbled::WrongFunction { asked: 0x42, got: 0x43 }));
        let any = Ask::Raw(RawPdu { request: vec![0x41, 7], reply: vec![Some(0x41), None, Some(9)] });
        check_reply(&any, &[0x41, 0xaa, 9], Ok(Answer::Written));
        check_reply(&any, &[0x41, 0xaa, 8], Err(Garbled::WrongBytes { bytes: 3 }));
        check_reply(&any, &[0x41, 0xaa], Err(Garbled::WrongLength { asked: 3, got: 2 }));
    }

    #[track_caller]
    fn check_reply(ask: &Ask, pdu: &[u8], want: Result<Answer<'_>, Garbled>) {
        assert_eq!(check(ask, pdu), want, "{ask:?} answered by {pdu:02x?}");
        if let Ok(Answer::Data(_) | Answer::Written) = want {
            assert_eq!(ask.reply_len(), pdu.len(), "{ask:?}");
        }
    }

    #[test]
    fn no_request_is_too_large_for_its_length_fields_to_be_computed() {
        let huge = Ask::Read { table: Table::Holding, start: 0xffff, count: 0xffff };
        assert_eq!(huge.reply_len(), 252);
        assert_eq!(check(&huge, &[3, 250]), Err(Garbled::WrongLength { asked: 250, got: 0 }));
        let mut out = Vec::new();
        Ask::WriteRegisters { start: 0, words: vec![0; 1000] }.encode(&mut out);
        assert_eq!(out[5], 255);
    }
}
