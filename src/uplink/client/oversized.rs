//! A message that is larger than we take must not end the session, or a persistent one would bring it for ever.
//!
//! Its beginning is kept for the dead letter, the rest is read and thrown away without being held in memory.

use crate::{config::Mqtt, limits, uplink::broker::Message};
use bytes::{Buf, BytesMut};

/// The largest packet that is read whole: a payload at its limit, and room for its topic.
pub const PACKET_BYTES: usize = limits::PAYLOAD_BYTES + 65_536;

/// The beginning of a PUBLISH of more than [`PACKET_BYTES`]; `None` while too little of it is there.
pub struct Cut {
    pub message: Message,
    /// Bytes of it that are still to come and to be thrown away.
    pub skip: usize,
}

/// `Some(Ok)`: it was taken off the buffer. `Some(Err)`: no PUBLISH, so nothing can be saved. `None`: more is needed.
pub fn take(buffer: &mut BytesMut, version: Mqtt) -> Option<Result<Cut, ()>> {
    let (first, remaining, header) = fixed_header(buffer)?;
    if first >> 4 != 3 {
        return Some(Err(()));
    }
    let quality = (first >> 1) & 3;
    let topic_len = usize::from(u16::from_be_bytes([*buffer.get(header)?, *buffer.get(header + 1)?]));
    let id_at = header + 2 + topic_len;
    let properties_at = if quality > 0 { id_at + 2 } else { id_at };
    let body_at = match version {
        Mqtt::V311 => properties_at,
        Mqtt::V5 => {
            let (length, digits) = length(buffer, properties_at)?;
            properties_at + digits + length
        }
    };
    if body_at > header + remaining {
        return Some(Err(()));
    }
    let keep_to = (body_at + limits::DEAD_LETTER_BYTES).min(header + remaining);
    if buffer.len() < keep_to {
        return None;
    }
    let topic = String::from_utf8_lossy(&buffer[header + 2..id_at]).into_owned();
    let id = if quality > 0 { u16::from_be_bytes([buffer[id_at], buffer[id_at + 1]]) } else { 0 };
    let total = header + remaining;
    let message = Message {
        id,
        topic,
        body: bytes::Bytes::copy_from_slice(&buffer[body_at..keep_to]),
        length: total - body_at,
        retained: first & 1 == 1,
        again: first & 8 == 8,
    };
    let here = total.min(buffer.len());
    buffer.advance(here);
    Some(Ok(Cut { message, skip: total - here }))
}

/// First byte, remaining length, length of the header.
fn fixed_header(buffer: &[u8]) -> Option<(u8, usize, usize)> {
    let (remaining, digits) = length(buffer, 1)?;
    Some((buffer[0], remaining, 1 + digits))
}

/// A length of up to four bytes at `at`, and how many it has.
fn length(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for n in 0..4 {
        let byte = *buffer.get(at + n)?;
        value |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}
