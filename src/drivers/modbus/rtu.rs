//! RTU framing: unit, PDU, CRC. A frame ends by its expected length, never by silence.
//!
//! The scan looks at everything received since the request and finds the reply in it:
//!
//! - noise before the reply is skipped (adapters emit garbage at open, line drivers at turn-around);
//! - an own echo is skipped (half-duplex adapters that hear themselves). A reply to function 5 or 6 equals its request:
//!   one copy is the reply, two are echo and reply, unless the caller already knows that the line echoes;
//! - a whole valid frame that is not ours (another unit, another function, another length) is foreign;
//! - our reply with a wrong checksum is garbled.
//!
//! Invariant: `Scan::Reply` only for unit, function, byte count (or repeated address and value) and CRC as asked.
//! Absent on purpose: time. A reply that came too late is kept out by draining and by the bar, in `drivers/line`.

use super::pdu::{self, Ask, Garbled, Scan};

/// Unit, function, code, CRC: the shortest reply.
const EXCEPTION: usize = 5;
/// Bytes that are skipped in search of a reply. More: garbled, the line is drained and the unit barred.
const NOISE_MAX: usize = 256;

/// CRC-16/MODBUS (polynomial A001 reflected, start FFFF). On the wire its low byte comes first.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, b| (crc >> 8) ^ TABLE[usize::from((crc ^ u16::from(*b)) & 0xff)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut n: u16 = 0;
    while n < 256 {
        let mut crc = n;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
            bit += 1;
        }
        table[n as usize] = crc;
        n += 1;
    }
    table
};

/// Appends a whole frame.
pub fn encode(unit: u8, ask: &Ask, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(unit);
    ask.encode(out);
    let crc = crc16(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Length of the frame that [`encode`] appends.
pub fn request_len(ask: &Ask) -> usize {
    ask.request_len() + 3
}

/// Length of the normal reply's frame.
pub fn reply_len(ask: &Ask) -> usize {
    ask.reply_len() + 3
}

/// Whether `buf`, received since the request, begins with that request: the line echoes, if something follows it.
pub fn begins_with_echo(buf: &[u8], unit: u8, ask: &Ask) -> bool {
    let mut request = Vec::with_capacity(request_len(ask));
    encode(unit, ask, &mut request);
    buf.starts_with(&request)
}

/// Judges the bytes received since the request, on a line that is not known to echo.
pub fn scan(buf: &[u8], unit: u8, ask: &Ask) -> Scan {
    scan_on(buf, unit, ask, false)
}

/// Judges the bytes received since the request. With `echoes` the first copy of the request is never taken for its reply.
pub fn scan_on(buf: &[u8], unit: u8, ask: &Ask, echoes: bool) -> Scan {
    let from = after_echo(buf, unit, ask, echoes);
    let rest = &buf[from..];
    let first = own(rest, unit, ask);
    if let Own::Whole(len) = first {
        return reply(from, len);
    }
    // A partial echo starts like a reply: nothing but the rest of it tells.
    let partial_echo = from == 0 && !rest.is_empty() && rest.len() < request_len(ask) && is_own_request(rest, unit, ask);
    if !partial_echo && let Some((len, why)) = foreign(rest, unit, ask) {
        return Scan::Foreign { end: from + len, why };
    }
    // Noise: our reply may start anywhere in it.
    for at in 1..rest.len() {
        if let Own::Whole(len) = own(&rest[at..], unit, ask) {
            return reply(from + at, len);
        }
    }
    if !partial_echo && let Own::Broken = first {
        return Scan::Garbled(Garbled::Crc);
    }
    if rest.len() > NOISE_MAX + reply_len(ask) {
        return Scan::Garbled(Garbled::Malformed { bytes: rest.len() });
    }
    // All our normal replies have one length, so the earliest possible start ends first.
    let missing = (0..rest.len()).find_map(|at| match own(&rest[at..], unit, ask) {
        Own::Partial(missing) => Some(missing),
        _ => None,
    });
    let echo_missing = partial_echo.then(|| request_len(ask) - rest.len());
    Scan::More { at_least: missing.or(echo_missing).unwrap_or(EXCEPTION) }
}

/// What a deadline found instead of a reply. `None`: nothing, or only our own echo; the unit was silent.
pub fn leftover(buf: &[u8], unit: u8, ask: &Ask) -> Option<Garbled> {
    let from = if begins_with_echo(buf, unit, ask) { request_len(ask) } else { 0 };
    let bytes = buf.len() - from;
    (bytes > 0).then_some(Garbled::Malformed { bytes })
}

fn reply(at: usize, len: usize) -> Scan {
    Scan::Reply { pdu: at + 1..at + len - 2, end: at + len }
}

/// Where the echo of our request ends; 0 without one.
fn after_echo(buf: &[u8], unit: u8, ask: &Ask, echoes: bool) -> usize {
    let len = request_len(ask);
    if echoes {
        // Noise may come before the echo too, and behind noise it must not pass for the reply to a write.
        let mut request = Vec::with_capacity(len);
        encode(unit, ask, &mut request);
        return buf.windows(len).position(|w| w == request).map_or(0, |at| at + len);
    }
    if buf.len() < len || !is_own_request(&buf[..len], unit, ask) {
        return 0;
    }
    // Functions 5 and 6 always, a read of bits by rare chance: the request is also a valid reply to itself.
    let twice = buf.get(len..2 * len).is_some_and(|second| second == &buf[..len]);
    let may_be_reply = pdu::check(ask, &buf[1..len - 2]).is_ok();
    if twice || !may_be_reply { len } else { 0 }
}

/// Whether `bytes` are the beginning of our request.
fn is_own_request(bytes: &[u8], unit: u8, ask: &Ask) -> bool {
    // Most replies differ in the first bytes: build the frame only when these agree.
    let alike = bytes.first() == Some(&unit) && bytes.get(1).is_none_or(|f| *f == ask.function());
    if !alike {
        return false;
    }
    let mut request = Vec::with_capacity(request_len(ask));
    encode(unit, ask, &mut request);
    request.starts_with(bytes)
}

/// What begins at the first byte, seen as our reply.
enum Own {
    Whole(usize),
    /// It may be ours and lacks so many bytes.
    Partial(usize),
    /// Certainly meant to be ours (at least three bytes agree), and its checksum is wrong.
    Broken,
    No,
}

fn own(bytes: &[u8], unit: u8, ask: &Ask) -> Own {
    let function = ask.function();
    match *bytes {
        [got, ..] if got != unit => Own::No,
        // A reply of one byte between unit and checksum is shorter than a refusal.
        [] | [_] => Own::Partial(EXCEPTION.min(reply_len(ask)) - bytes.len()),
        [_, got, ..] if got == function | 0x80 => match bytes.get(..EXCEPTION) {
            None => Own::Partial(EXCEPTION - bytes.len()),
            Some(frame) if crc_fits(frame) => Own::Whole(EXCEPTION),
            Some(_) => Own::No,
        },
        [_, got, ..] if got == function => normal(bytes, ask),
        _ => Own::No,
    }
}

/// Unit and function agree.
fn normal(bytes: &[u8], ask: &Ask) -> Own {
    let head = &bytes[2..];
    let len = reply_len(ask);
    let agrees = ask.may_be_answered_by(&head[..head.len().min(len - 4)]);
    match bytes.get(..len) {
        _ if !agrees => Own::No,
        None => Own::Partial(len - bytes.len()),
        Some(frame) if !crc_fits(frame) => Own::Broken,
        // A write's reply may still repeat another value.
        Some(frame) if pdu::check(ask, &frame[1..len - 2]).is_ok() => Own::Whole(len),
        Some(_) => Own::No,
    }
}

/// A whole valid frame at the first byte that is not our reply, with what is wrong about it.
fn foreign(bytes: &[u8], unit: u8, ask: &Ask) -> Option<(usize, Garbled)> {
    let &[got_unit, function, third, ..] = bytes else { return None };
    // The head of our own reply must not be read as another master's request.
    if matches!(own(bytes, unit, ask), Own::Partial(_) | Own::Broken) {
        return None;
    }
    let counted = 5 + usize::from(third);
    let request_counted = bytes.get(6).map_or(0, |count| 9 + usize::from(*count));
    let lengths: [usize; 2] = match function {
        f if f & 0x80 != 0 => [EXCEPTION, 0],
        1..=4 => [counted, 8],
        5 | 6 | 8 => [8, 0],
        7 => [EXCEPTION, 4],
        11 => [8, 4],
        12 | 17 => [counted, 4],
        15 | 16 => [8, request_counted],
        20 | 21 | 23 => [counted, 0],
        22 => [10, 0],
        _ => [0, 0],
    };
    let len = lengths.into_iter().find(|len| *len >= 4 && bytes.get(..*len).is_some_and(crc_fits))?;
    let why = if got_unit == unit {
        pdu::check(ask, &bytes[1..len - 2]).err().unwrap_or(Garbled::Malformed { bytes: len })
    } else {
        Garbled::WrongUnit { asked: unit, got: got_unit }
    };
    Some((len, why))
}

fn crc_fits(frame: &[u8]) -> bool {
    let Some((body, crc)) = frame.split_last_chunk::<2>() else { return false };
    crc16(body) == u16::from_le_bytes(*crc)
}

#[cfg(test)]
mod tests;
