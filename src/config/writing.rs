//! Writes beyond one value at one address: fixed contents, request bytes of a device's own, values that are written again.

use super::device::Register;
use std::{fmt, time::Duration};

/// A write whose content is known beforehand: `setup` of a device, `pre` of a point.
#[derive(Clone, PartialEq, Eq)]
pub struct FixedWrite {
    /// A coil or holding register, the first of them.
    pub register: Register,
    /// At least one. On coils 0 or 1 each.
    pub words: Vec<u16>,
    /// 5, 6, 15 or 16, as fits the register and the number of words.
    pub function: u8,
    /// It came from a file, variable or credential: shown nowhere.
    pub secret: bool,
}

impl fmt::Debug for FixedWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: &dyn fmt::Debug = if self.secret { &"secret" } else { &self.words };
        f.debug_struct("FixedWrite").field("register", &self.register).field("words", words).field("function", &self.function).finish()
    }
}

/// A request that is no read or write of the protocol, allowed because the operator listed its very bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPdu {
    /// Function code and data, without unit and checksum. Never empty.
    pub request: Vec<u8>,
    /// The whole reply; `None` is any byte. Begins with the function code of the request.
    pub reply: Vec<Option<u8>>,
}

impl RawPdu {
    /// Whether the bytes are a reply, or the beginning of one.
    pub fn begins(&self, pdu: &[u8]) -> bool {
        pdu.len() <= self.reply.len() && pdu.iter().zip(&self.reply).all(|(got, want)| want.is_none_or(|want| want == *got))
    }
}

/// A set-point that the device forgets unless it is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// Written again so long after the last write.
    pub every: Duration,
    /// Without a new command for this long nothing is written any more.
    pub lasts: Duration,
    /// The uplink that commanded may be away for this long.
    pub stop: Duration,
}
