//! The RTU reply parser, fed as a port feeds it: in pieces, each judged.

use super::{feed::Feed, plant};
use fieldgate::drivers::modbus::{Scan, rtu};

/// As much as a line keeps of what nobody can read.
const MOST: usize = 1024;

pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let (unit, echoes) = (feed.byte(), feed.byte() % 2 == 1);
    let ask = plant::ask(&mut feed);
    let step = usize::from(feed.byte() % 64) + 1;
    // The fuzzer does not guess 16 bits of checksum: some frames get theirs.
    let repair = feed.byte();
    let mut bytes = feed.rest().to_vec();
    bytes.truncate(MOST);
    if repair % 2 == 1 {
        if repair % 4 == 3 && bytes.len() > 1 {
            (bytes[0], bytes[1]) = (unit, ask.function());
        }
        let crc = rtu::crc16(&bytes);
        bytes.extend(crc.to_le_bytes());
    }
    let mut buffer = Vec::new();
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match rtu::scan_on(&buffer, unit, &ask, echoes) {
                Scan::More { at_least } => {
                    assert!(at_least >= 1);
                    break;
                }
                Scan::Reply { pdu, end } => {
                    assert!(pdu.start >= 1 && pdu.end + 2 == end && end <= buffer.len());
                    assert_eq!(buffer[pdu.start - 1], unit);
                    assert_eq!(rtu::crc16(&buffer[pdu.start - 1..end]), 0);
                    return plant::accept(&ask, &buffer[pdu]);
                }
                Scan::Foreign { end, .. } => {
                    assert!(end >= 1 && end <= buffer.len(), "a foreign frame spends bytes");
                    buffer.drain(..end);
                }
                Scan::Garbled(_) => return,
            }
        }
        let _ = rtu::leftover(&buffer, unit, &ask);
    }
}
