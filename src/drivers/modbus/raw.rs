//! A request of any function as a site tool asks it, and what may answer it.
//!
//! Functions 1 to 6, 15 and 16 are checked as strictly as a poll's request. Of 22 and 23, 17 and 43/14 the length of the
//! reply is known or shows in its head. Of every other function only the code can be compared, and on RTU the frame ends
//! by silence with a fitting checksum: that is what `is_quiet` is for.
//!
//! Invariant: a reply that is reported has the unit, the function (or its exception) and the checksum of what was asked.

use super::{
    mbap,
    pdu::{self, Ask, Garbled, Scan},
    rtu::{self, crc16},
};
use crate::config::device::Table;

/// Unit before a PDU and CRC behind it.
const FRAME: usize = 3;
/// Bytes that are looked through for a reply of unknown length.
const NOISE_MAX: usize = 512;

/// What a reply that passed every check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    Answer(&'a [u8]),
    Exception(u8),
}

/// What is known of the length of a reply PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Is(usize),
    /// So many bytes at least; then more can be said.
    AtLeast(usize),
    Unknown,
}

/// The request as one of the planner's, if it has their shape.
pub fn known(request: &[u8]) -> Option<Ask> {
    let (&function, rest) = request.split_first()?;
    let word = |at: usize| rest.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (start, second) = (word(0)?, word(2)?);
    let read = |table: Table, most: u16| {
        let fits = rest.len() == 4 && (1..=most).contains(&second);
        fits.then_some(Ask::Read { table, start, count: second })
    };
    match function {
        1 => read(Table::Coil, 2000),
        2 => read(Table::Discrete, 2000),
        3 => read(Table::Holding, 125),
        4 => read(Table::Input, 125),
        5 if rest.len() == 4 && matches!(second, 0 | 0xff00) => Some(Ask::WriteCoil { address: start, on: second != 0 }),
        6 if rest.len() == 4 => Some(Ask::WriteRegister { address: start, value: second }),
        15 => {
            let (count, data) = (usize::from(second), rest.get(5..)?);
            let fits = (1..=1968).contains(&count) && data.len() == count.div_ceil(8) && usize::from(rest[4]) == data.len();
            fits.then(|| Ask::WriteCoils { start, bits: (0..count).map(|n| data[n / 8] >> (n % 8) & 1 == 1).collect() })
        }
        16 => {
            let (count, data) = (usize::from(second), rest.get(5..)?);
            let fits = (1..=123).contains(&count) && data.len() == count * 2 && usize::from(rest[4]) == data.len();
            fits.then(|| Ask::WriteRegisters { start, words: data.chunks(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect() })
        }
        _ => None,
    }
}

/// Whether asking twice changes nothing in the unit.
pub fn is_read(request: &[u8]) -> bool {
    match request {
        [1..=4 | 7 | 11 | 12 | 17 | 20 | 24, ..] => true,
        [43, second, ..] => *second == 14,
        _ => false,
    }
}

/// The length of the reply PDU that begins with `head`, which may be empty.
pub fn reply_length(request: &[u8], head: &[u8]) -> Length {
    let Some(&function) = request.first() else { return Length::Unknown };
    if head.first().is_some_and(|got| *got == function | 0x80) {
        return Length::Is(2);
    }
    if let Some(ask) = known(request) {
        return Length::Is(ask.reply_len());
    }
    let counted = |head: &[u8]| head.get(1).map_or(Length::AtLeast(2), |n| Length::Is(2 + usize::from(*n)));
    match function {
        5 | 6 | 8 | 22 => Length::Is(request.len()),
        7 => Length::Is(2),
        11 => Length::Is(5),
        1..=4 | 12 | 17 | 20 | 21 | 23 => counted(head),
        24 => head.get(1..3).map_or(Length::AtLeast(3), |n| Length::Is(3 + usize::from(u16::from_be_bytes([n[0], n[1]])))),
        43 if request.get(1) == Some(&14) => identification(head),
        _ => Length::Unknown,
    }
}

/// Function 43/14: seven bytes, then the number of objects that the seventh says, each with its length.
fn identification(head: &[u8]) -> Length {
    let Some(objects) = head.get(6) else { return Length::AtLeast(7) };
    let mut at = 7;
    for _ in 0..*objects {
        let Some(len) = head.get(at + 1) else { return Length::AtLeast(at + 2) };
        at += 2 + usize::from(*len);
    }
    Length::Is(at)
}

/// Compares a whole reply PDU with the request.
pub fn check<'a>(request: &[u8], reply: &'a [u8]) -> Result<Said<'a>, Garbled> {
    let (Some(&asked), Some(&got)) = (request.first(), reply.first()) else { return Err(Garbled::Malformed { bytes: 0 }) };
    if got == asked | 0x80 {
        return match reply {
            [_, code] => Ok(Said::Exception(*code)),
            _ => Err(Garbled::WrongLength { asked: 2, got: reply.len() }),
        };
    }
    if got != asked {
        return Err(Garbled::WrongFunction { asked, got });
    }
    if let Some(ask) = known(request) {
        return pdu::check(&ask, reply).map(|_| Said::Answer(reply));
    }
    match asked {
        22 if reply != request => Err(Garbled::Malformed { bytes: reply.len() }),
        23 => {
            let want = 2 * request.get(3..5).map_or(0, |n| usize::from(u16::from_be_bytes([n[0], n[1]])));
            let got = reply.len().saturating_sub(2);
            let is_whole = got == want && reply.get(1).is_some_and(|n| usize::from(*n) == want);
            if is_whole { Ok(Said::Answer(reply)) } else { Err(Garbled::WrongLength { asked: want, got }) }
        }
        17 => match reply_length(request, reply) {
            Length::Is(len) if len == reply.len() => Ok(Said::Answer(reply)),
            Length::Is(len) | Length::AtLeast(len) => Err(Garbled::WrongLength { asked: len, got: reply.len() }),
            Length::Unknown => Err(Garbled::Malformed { bytes: reply.len() }),
        },
        // Units were seen to cut the last object short: what is whole of it is used.
        43 if request.get(1) == Some(&14) && (reply.len() < 7 || reply[1] != 14) => Err(Garbled::Malformed { bytes: reply.len() }),
        _ => Ok(Said::Answer(reply)),
    }
}

/// Appends a whole RTU frame.
pub fn encode_rtu(unit: u8, request: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(unit);
    out.extend_from_slice(request);
    let crc = crc16(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Appends a whole Modbus TCP frame.
pub fn encode_mbap(tid: u16, unit: u8, request: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&tid.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&u16::try_from(request.len() + 1).unwrap_or(u16::MAX).to_be_bytes());
    out.push(unit);
    out.extend_from_slice(request);
}

/// Judges the first frame of a Modbus TCP stream.
pub fn scan_mbap(buf: &[u8], tid: u16, unit: u8, request: &[u8]) -> Scan {
    mbap::scan_by(buf, tid, unit, |reply| check(request, reply).map(|_| ()))
}

/// Judges the bytes received since an RTU request. `echoes`: what is known of the adapter; `is_quiet`: nothing came for
/// 3.5 characters.
pub fn scan_rtu(buf: &[u8], unit: u8, request: &[u8], echoes: Option<bool>, is_quiet: bool) -> Scan {
    let Some(&function) = request.first() else { return Scan::Garbled(Garbled::Malformed { bytes: buf.len() }) };
    if let Some(ask) = known(request) {
        return rtu::scan_on(buf, unit, &ask, echoes == Some(true));
    }
    let mut own = Vec::with_capacity(request.len() + FRAME);
    encode_rtu(unit, request, &mut own);
    let is_echo_first = buf.starts_with(&own);
    let may_be_reply = check(request, request).is_ok() && reply_length(request, request) != Length::AtLeast(7);
    if is_echo_first && buf.len() == own.len() && may_be_reply && echoes == Some(false) {
        return Scan::Reply { pdu: 1..own.len() - 2, end: own.len() };
    }
    // One copy of the request is the reply or an echo; only two copies, or what is known of the adapter, tell.
    let from = if is_echo_first { own.len() } else { 0 };
    let rest = &buf[from..];
    let mut missing = None;
    for at in 0..rest.len() {
        match reply_at(&rest[at..], unit, request, is_quiet) {
            At::Whole(len) => return Scan::Reply { pdu: from + at + 1..from + at + len - 2, end: from + at + len },
            At::Missing(n) => missing = missing.or(Some(n)),
            At::No => {}
        }
    }
    if is_quiet && rest.len() > FRAME && crc_fits(rest) {
        let why = if rest[0] == unit {
            Garbled::WrongFunction { asked: function, got: rest[1] }
        } else {
            Garbled::WrongUnit { asked: unit, got: rest[0] }
        };
        return Scan::Foreign { end: buf.len(), why };
    }
    if rest.len() > NOISE_MAX {
        return Scan::Garbled(Garbled::Malformed { bytes: rest.len() });
    }
    Scan::More { at_least: missing.unwrap_or(1).max(1) }
}

enum At {
    Whole(usize),
    Missing(usize),
    No,
}

fn reply_at(bytes: &[u8], unit: u8, request: &[u8], is_quiet: bool) -> At {
    let ([got_unit, pdu @ ..], Some(function)) = (bytes, request.first()) else { return At::No };
    if *got_unit != unit || pdu.first().is_some_and(|f| *f & 0x7f != function & 0x7f) {
        return At::No;
    }
    let is_reply = |frame: &[u8]| crc_fits(frame) && check(request, &frame[1..frame.len() - 2]).is_ok();
    if is_quiet && bytes.len() > FRAME && is_reply(bytes) {
        return At::Whole(bytes.len());
    }
    match reply_length(request, pdu) {
        Length::Is(len) => match bytes.get(..len + FRAME) {
            Some(frame) if is_reply(frame) => At::Whole(len + FRAME),
            Some(_) => At::No,
            None => At::Missing(len + FRAME - bytes.len()),
        },
        Length::AtLeast(len) => At::Missing((len + FRAME).saturating_sub(bytes.len()).max(1)),
        Length::Unknown => At::Missing(1),
    }
}

pub(super) fn crc_fits(frame: &[u8]) -> bool {
    let Some((body, crc)) = frame.split_last_chunk::<2>() else { return false };
    crc16(body) == u16::from_le_bytes(*crc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTIFY: &[u8] = &[43, 14, 1, 0];

    #[test]
    fn the_planners_requests_are_recognised_and_encode_to_the_same_bytes() {
        for pdu in [
            &[1, 0, 0x13, 0, 0x13][..],
            &[2, 0, 1, 0, 8],
            &[3, 0, 0x6b, 0, 3],
            &[4, 0, 8, 0, 1],
            &[5, 0, 0xac, 0xff, 0],
            &[6, 0, 1, 0, 3],
            &[15, 0, 0x13, 0, 10, 2, 0xcd, 1],
            &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
        ] {
            let mut again = Vec::new();
            known(pdu).expect("known").encode(&mut again);
            assert_eq!(again, pdu);
        }
        for pdu in [&[3, 0, 0, 0, 126][..], &[3, 0, 0, 0, 0], &[3, 0, 0], &[5, 0, 0, 0x55, 0], &[17], &[16, 0, 1, 0, 2, 4, 0, 10], &[]] {
            assert_eq!(known(pdu), None, "{pdu:02x?}");
        }
    }

    #[test]
    fn lengths_show_in_the_head() {
        check_length(&[17], &[], Length::AtLeast(2));
        check_length(&[17], &[17, 5], Length::Is(7));
        check_length(&[17], &[0x91], Length::Is(2));
        check_length(IDENTIFY, &[43, 14, 1], Length::AtLeast(7));
        check_length(IDENTIFY, &[43, 14, 1, 1, 0, 0, 2, 0, 3, b'a', b'b', b'c'], Length::AtLeast(14));
        check_length(IDENTIFY, &[43, 14, 1, 1, 0, 0, 1, 0, 3, b'a'], Length::Is(12));
        check_length(&[22, 0, 4, 0, 0xf2, 0, 0x25], &[], Length::Is(7));
        check_length(&[3, 0, 0, 0, 2], &[], Length::Is(6));
        check_length(&[0x42], &[0x42], Length::Unknown);
    }

    #[track_caller]
    fn check_length(request: &[u8], head: &[u8], want: Length) {
        assert_eq!(reply_length(request, head), want, "{request:02x?} answered by {head:02x?}");
    }

    fn frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_rtu(unit, pdu, &mut out);
        out
    }

    #[track_caller]
    fn check_rtu(request: &[u8], heard: &[u8], echoes: Option<bool>, is_quiet: bool, want: Result<&[u8], &str>) {
        let got = scan_rtu(heard, 7, request, echoes, is_quiet);
        match (&got, want) {
            (Scan::Reply { pdu, .. }, Ok(reply)) => assert_eq!(&heard[pdu.clone()], reply),
            (Scan::More { .. }, Err("more")) | (Scan::Foreign { .. }, Err("foreign")) | (Scan::Garbled(_), Err("garbled")) => {}
            _ => panic!("{request:02x?} heard {heard:02x?}: {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn a_reply_of_known_length_ends_by_it_and_one_of_unknown_length_by_silence() {
        let id = [17, 3, 0x11, 0xff, 9];
        check_rtu(&[17], &frame(7, &id), None, false, Ok(&id));
        check_rtu(&[17], &frame(7, &id)[..5], None, false, Err("more"));
        check_rtu(&[17], &frame(8, &id), None, true, Err("foreign"));
        check_rtu(&[17], &frame(7, &[0x91, 1]), None, false, Ok(&[0x91, 1]));
        let objects = [43, 14, 1, 1, 0, 0, 2, 0, 2, b'A', b'B', 1, 1, b'x'];
        check_rtu(IDENTIFY, &frame(7, &objects), None, false, Ok(&objects));
        check_rtu(&[0x41, 1], &frame(7, &[0x41, 9, 9]), None, false, Err("more"));
        check_rtu(&[0x41, 1], &frame(7, &[0x41, 9, 9]), None, true, Ok(&[0x41, 9, 9]));
    }

    #[test]
    fn an_echo_is_never_taken_for_the_reply() {
        let reset = frame(7, &[0x42]);
        let twice = [reset.clone(), reset.clone()].concat();
        check_rtu(&[0x42], &reset, None, true, Err("more"));
        check_rtu(&[0x42], &reset, Some(true), true, Err("more"));
        check_rtu(&[0x42], &reset, Some(false), false, Ok(&[0x42]));
        check_rtu(&[0x42], &twice, None, true, Ok(&[0x42]));
        let id = [17, 3, 0x11, 0xff, 9];
        check_rtu(&[17], &frame(7, &[17]), Some(false), true, Err("more"));
        check_rtu(&[17], &[frame(7, &[17]), frame(7, &id)].concat(), None, false, Ok(&id));
    }

    #[test]
    fn a_tcp_reply_of_any_function_is_of_its_transaction() {
        let mut buf = Vec::new();
        encode_mbap(5, 7, &[17, 2, 1, 0xff], &mut buf);
        assert_eq!(scan_mbap(&buf, 5, 7, &[17]), Scan::Reply { pdu: 7..11, end: 11 });
        assert!(matches!(scan_mbap(&buf, 6, 7, &[17]), Scan::Foreign { end: 11, .. }));
        assert!(matches!(scan_mbap(&buf, 5, 8, &[17]), Scan::Garbled(Garbled::WrongUnit { .. })));
        assert!(matches!(scan_mbap(&buf, 5, 7, &[18]), Scan::Garbled(Garbled::WrongFunction { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(
            request in prop::collection::vec(any::<u8>(), 1..20),
            buf in prop::collection::vec(any::<u8>(), 0..64),
            echoes: Option<bool>,
            is_quiet: bool,
        ) {
            if let Scan::Reply { pdu, end } = scan_rtu(&buf, 1, &request, echoes, is_quiet) {
                prop_assert!(end <= buf.len() && pdu.end + 2 == end);
                prop_assert!(check(&request, &buf[pdu]).is_ok());
            }
            let _ = scan_mbap(&buf, 1, 1, &request);
        }
    }
}
