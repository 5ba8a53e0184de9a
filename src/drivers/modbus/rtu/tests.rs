use super::*;
use crate::config::device::Table;
use proptest::prelude::*;

/// An Eastron meter's voltage: the frames are those of its protocol document.
const READ: Ask = Ask::Read { table: Table::Input, start: 0, count: 2 };
const REQUEST: [u8; 8] = [1, 4, 0, 0, 0, 2, 0x71, 0xcb];
const REPLY: [u8; 9] = [1, 4, 4, 0x43, 0x66, 0x33, 0x34, 0x1b, 0x38];
const WRITE: Ask = Ask::WriteRegister { address: 101, value: 67 };

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut frame = body.to_vec();
    frame.extend(crc16(body).to_le_bytes());
    frame
}

fn request(ask: &Ask) -> Vec<u8> {
    let mut out = Vec::new();
    encode(1, ask, &mut out);
    out
}

#[track_caller]
fn check(ask: &Ask, buf: &[&[u8]], want: Scan) {
    let buf = buf.concat();
    assert_eq!(scan(&buf, 1, ask), want, "{ask:?} answered by {buf:02x?}");
}

#[track_caller]
fn check_reply(ask: &Ask, buf: &[&[u8]], at: usize, len: usize) {
    check(ask, buf, Scan::Reply { pdu: at + 1..at + len - 2, end: at + len });
}

#[test]
fn frames_are_those_of_the_documents() {
    assert_eq!(crc16(b"123456789"), 0x4b37);
    assert_eq!(request(&READ), REQUEST);
    assert_eq!(sealed(&REPLY[..7]), REPLY);
    assert_eq!((request_len(&READ), reply_len(&READ)), (8, 9));
    assert_eq!(request(&WRITE), [1, 6, 0, 0x65, 0, 0x43, 0xd8, 0x24]);
}

#[test]
fn a_reply_is_found_whole() {
    check_reply(&READ, &[&REPLY], 0, 9);
    check_reply(&READ, &[&REPLY, &[0, 0xff]], 0, 9);
    check_reply(&READ, &[&sealed(&[1, 0x84, 2])], 0, 5);
    check_reply(&WRITE, &[&request(&WRITE)], 0, 8);
}

#[test]
fn what_is_missing_is_what_the_reply_lacks() {
    // An exception is the shortest thing that may come.
    check(&READ, &[], Scan::More { at_least: 5 });
    check(&READ, &[&REPLY[..1]], Scan::More { at_least: 4 });
    check(&READ, &[&REPLY[..2]], Scan::More { at_least: 7 });
    check(&READ, &[&REPLY[..8]], Scan::More { at_least: 1 });
    check(&READ, &[&[1, 0x84]], Scan::More { at_least: 3 });
    check(&READ, &[&[0xff, 0xfe], &REPLY[..4]], Scan::More { at_least: 5 });
    check(&READ, &[&[0xff; 40]], Scan::More { at_least: 5 });
}

#[test]
fn noise_before_a_reply_is_skipped() {
    for noise in [&[0x00][..], &[0xff; 40], &[1, 4], &[1, 4, 4, 0x43], &[1, 0x84, 2]] {
        check_reply(&READ, &[noise, &REPLY], noise.len(), 9);
    }
    check_reply(&WRITE, &[&[0; 40], &request(&WRITE)], 40, 8);
}

#[test]
fn endless_noise_is_garbled() {
    check(&READ, &[&[0xff; 300]], Scan::Garbled(Garbled::Malformed { bytes: 300 }));
}

#[test]
fn an_echo_before_a_reply_is_skipped() {
    check(&READ, &[&REQUEST[..5]], Scan::More { at_least: 3 });
    check(&READ, &[&REQUEST], Scan::More { at_least: 5 });
    check(&READ, &[&REQUEST, &REPLY[..3]], Scan::More { at_least: 6 });
    check_reply(&READ, &[&REQUEST, &REPLY], 8, 9);
    check_reply(&READ, &[&REQUEST, &sealed(&[1, 0x84, 2])], 8, 5);
    let several = Ask::WriteRegisters { start: 100, words: vec![1, 2] };
    check_reply(&several, &[&request(&several), &sealed(&[1, 16, 0, 100, 0, 2])], 13, 8);
    assert!(begins_with_echo(&[REQUEST.as_slice(), &REPLY].concat(), 1, &READ));
    assert!(!begins_with_echo(&REPLY, 1, &READ));
}

/// Read 0x0200..: the echo's third byte equals the byte count of the reply.
#[test]
fn an_echo_that_begins_like_a_reply_is_not_a_broken_reply() {
    let ask = Ask::Read { table: Table::Holding, start: 0x0200, count: 1 };
    let (echo, reply) = (request(&ask), sealed(&[1, 3, 2, 0xab, 0xcd]));
    check(&ask, &[&echo[..7]], Scan::More { at_least: 1 });
    check(&ask, &[&echo], Scan::More { at_least: 5 });
    check_reply(&ask, &[&echo, &reply], 8, 7);
}

#[test]
fn the_repeated_write_is_an_echo_only_if_two_copies_come_or_the_line_is_known_to_echo() {
    let copy = request(&WRITE);
    check_reply(&WRITE, &[&copy], 0, 8);
    check_reply(&WRITE, &[&copy, &copy], 8, 8);
    assert_eq!(scan_on(&copy, 1, &WRITE, true), Scan::More { at_least: 5 });
    assert_eq!(scan_on(&[copy.as_slice(), &copy].concat(), 1, &WRITE, true), Scan::Reply { pdu: 9..14, end: 16 });
    let noisy = [&[0xff, 0], copy.as_slice()].concat();
    assert_eq!(scan_on(&noisy, 1, &WRITE, true), Scan::More { at_least: 5 }, "noise does not make the echo a reply");
    let refused = [copy.as_slice(), &sealed(&[1, 0x86, 4])].concat();
    assert_eq!(scan_on(&refused, 1, &WRITE, true), Scan::Reply { pdu: 9..11, end: 13 });
}

#[test]
fn a_whole_frame_that_is_not_ours_is_foreign() {
    let foreign = |body: &[u8], why| {
        let frame = sealed(body);
        check(&READ, &[&frame], Scan::Foreign { end: frame.len(), why });
        check(&READ, &[&frame, &REPLY], Scan::Foreign { end: frame.len(), why });
    };
    foreign(&[2, 4, 4, 0, 0, 0, 0], Garbled::WrongUnit { asked: 1, got: 2 });
    foreign(&[2, 0x84, 2], Garbled::WrongUnit { asked: 1, got: 2 });
    foreign(&[1, 3, 4, 0, 0, 0, 0], Garbled::WrongFunction { asked: 4, got: 3 });
    foreign(&[1, 0x83, 2], Garbled::WrongFunction { asked: 4, got: 0x83 });
    foreign(&[1, 4, 2, 0, 0], Garbled::WrongLength { asked: 4, got: 2 });
    foreign(&[1, 4, 6, 0, 0, 0, 0, 0, 0], Garbled::WrongLength { asked: 4, got: 6 });
    // Another master's request, and its write of several registers.
    foreign(&[7, 3, 0, 0, 0, 10], Garbled::WrongUnit { asked: 1, got: 7 });
    foreign(&[7, 16, 0, 1, 0, 2, 4, 0, 10, 1, 2], Garbled::WrongUnit { asked: 1, got: 7 });
}

#[test]
fn another_writes_confirmation_is_foreign() {
    let other = sealed(&[1, 6, 0, 101, 0, 68]);
    let why = Garbled::WrongEcho { address: 101, asked: 67, got_address: 101, got: 68 };
    check(&WRITE, &[&other], Scan::Foreign { end: 8, why });
    let other = sealed(&[1, 6, 0, 102, 0, 67]);
    let why = Garbled::WrongEcho { address: 101, asked: 67, got_address: 102, got: 67 };
    check(&WRITE, &[&other], Scan::Foreign { end: 8, why });
}

#[test]
fn our_reply_with_a_wrong_checksum_is_garbled() {
    for bad in 3..9 {
        let mut frame = REPLY;
        frame[bad] ^= 0x10;
        check(&READ, &[&frame], Scan::Garbled(Garbled::Crc));
    }
    let mut confirmation = request(&WRITE);
    confirmation[5] ^= 1;
    check(&WRITE, &[&confirmation], Scan::Garbled(Garbled::Crc));
}

#[test]
fn a_deadline_tells_silence_from_rubbish() {
    assert_eq!(leftover(&[], 1, &READ), None);
    assert_eq!(leftover(&REQUEST, 1, &READ), None, "our own echo is no life");
    assert_eq!(leftover(&REPLY[..4], 1, &READ), Some(Garbled::Malformed { bytes: 4 }));
}

fn any_read() -> impl Strategy<Value = Ask> {
    let words = (any::<bool>(), any::<u16>(), 1u16..=125);
    let words = words.prop_map(|(h, start, count)| Ask::Read { table: if h { Table::Holding } else { Table::Input }, start, count });
    let bits = (any::<bool>(), any::<u16>(), 1u16..=2000);
    let bits = bits.prop_map(|(c, start, count)| Ask::Read { table: if c { Table::Coil } else { Table::Discrete }, start, count });
    prop_oneof![words, bits]
}

fn any_ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => any_read(),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(address, on)| Ask::WriteCoil { address, on }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Ask::WriteRegister { address, value }),
        1 => (any::<u16>(), prop::collection::vec(any::<bool>(), 1..100)).prop_map(|(start, bits)| Ask::WriteCoils { start, bits }),
        1 => (any::<u16>(), prop::collection::vec(any::<u16>(), 1..123)).prop_map(|(start, words)| Ask::WriteRegisters { start, words }),
    ]
}

/// What a correct unit answers.
fn reply_to(ask: &Ask, unit: u8, filler: u8) -> Vec<u8> {
    let mut body = Vec::new();
    encode(unit, ask, &mut body);
    if ask.is_write() {
        body.truncate(6);
    } else {
        body.truncate(2);
        body.push(u8::try_from(ask.data_len()).unwrap());
        body.resize(3 + ask.data_len(), filler);
    }
    sealed(&body)
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(ask in any_ask(), unit: u8, echoes: bool, buf in prop::collection::vec(any::<u8>(), 0..600)) {
        match scan_on(&buf, unit, &ask, echoes) {
            Scan::More { at_least } => prop_assert!(at_least >= 1),
            Scan::Reply { pdu, end } => prop_assert!(pdu::check(&ask, &buf[pdu]).is_ok() && end <= buf.len()),
            Scan::Foreign { end, .. } => prop_assert!((4..=buf.len()).contains(&end)),
            Scan::Garbled(_) => {}
        }
    }

    /// However a reply is cut into arrivals, it is found by the byte that completes it, and not called broken before.
    #[test]
    fn a_reply_is_found_byte_by_byte(ask in any_ask(), unit in 1u8..=247, filler: u8, echoed: bool) {
        let mut echo = Vec::new();
        if echoed {
            encode(unit, &ask, &mut echo);
        }
        let reply = reply_to(&ask, unit, filler);
        let all = [echo.as_slice(), &reply].concat();
        for len in 0..all.len() {
            match scan_on(&all[..len], unit, &ask, echoed) {
                Scan::More { at_least } => prop_assert!(len + at_least <= all.len(), "{at_least} more after {len} of {}", all.len()),
                other => prop_assert!(false, "{other:?} after {len} of {}", all.len()),
            }
        }
        let at = echo.len();
        let end = at + reply.len();
        prop_assert_eq!(scan_on(&all, unit, &ask, echoed), Scan::Reply { pdu: at + 1..end - 2, end });
    }

    /// Up to 40 bytes of noise cost nothing, unless they happen to be a valid frame.
    #[test]
    fn a_reply_is_found_behind_noise(ask in any_ask(), filler: u8, noise in prop::collection::vec(any::<u8>(), 0..=40)) {
        let reply = reply_to(&ask, 1, filler);
        let all = [noise.as_slice(), &reply].concat();
        let found = matches!(scan(&all, 1, &ask), Scan::Reply { end, .. } if end == all.len());
        let unlucky = matches!(scan(&noise, 1, &ask), Scan::Foreign { .. });
        prop_assert!(found || unlucky);
    }

    /// A single broken byte anywhere never yields a reply.
    #[test]
    fn a_broken_reply_is_never_data(ask in any_ask(), filler: u8, at: prop::sample::Index, flip in 1u8..=255) {
        let mut reply = reply_to(&ask, 1, filler);
        let at = at.index(reply.len());
        reply[at] ^= flip;
        let judged = scan(&reply, 1, &ask);
        prop_assert!(!matches!(judged, Scan::Reply { .. }), "{:?}", judged);
    }
}
