//! What is asked of a unit, what it may answer, and the strict comparison of the two.
//!
//! A reply is data only if it could be nothing else: its function, its byte count and, for a write, the address and value
//! that it repeats must be those of the request. The unit (and on TCP the transaction) is compared by the framing.

use crate::config::device::Table;
use std::ops::Range;

/// Most data bytes of a read reply: the byte count is one byte and a PDU has at most 253.
const DATA_MAX: usize = 250;

/// One request. At most 125 registers or 2000 bits are read, 123 registers or 1968 coils written; the planner and
/// [`super::encode`] keep to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Read { table: Table, start: u16, count: u16 },
    WriteCoil { address: u16, on: bool },
    WriteRegister { address: u16, value: u16 },
    WriteCoils { start: u16, bits: Vec<bool> },
    WriteRegisters { start: u16, words: Vec<u16> },
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
        }
    }

    /// Appends the PDU.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.function());
        out.extend_from_slice(&self.start().to_be_bytes());
        out.extend_from_slice(&self.second().to_be_bytes());
        match self {
            Ask::Read { .. } | Ask::WriteCoil { .. } | Ask::WriteRegister { .. } => {}
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
            Ask::Read { .. } | Ask::WriteCoil { .. } | Ask::WriteRegister { .. } => 5,
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
        if self.is_write() { 5 } else { 2 + self.data_len() }
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
    if ask.is_write() { check_echo(ask, rest) } else { check_data(ask.data_len(), rest) }
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

fn saturated(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
