//! The Modbus TCP reply parser, fed as a stream: in pieces, frame by frame.

use super::{feed::Feed, plant};
use fieldgate::drivers::modbus::{Scan, mbap};

pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let (unit, tid) = (feed.byte(), feed.word());
    let ask = plant::ask(&mut feed);
    let step = usize::from(feed.byte() % 64) + 1;
    let mut buffer = Vec::new();
    for piece in feed.rest().chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match mbap::scan(&buffer, tid, unit, &ask) {
                Scan::More { at_least } => {
                    assert!(at_least >= 1);
                    // A header says at once how long its frame is: nothing grows beyond one frame.
                    assert!(buffer.len() <= 260 + step, "{} bytes of one frame", buffer.len());
                    break;
                }
                Scan::Reply { pdu, end } => {
                    assert!(pdu.start == 7 && pdu.end == end && end <= buffer.len());
                    assert_eq!((buffer[6], &buffer[..2]), (unit, &tid.to_be_bytes()[..]));
                    return plant::accept(&ask, &buffer[pdu]);
                }
                Scan::Foreign { end, .. } => {
                    assert!(end >= 1 && end <= buffer.len(), "a foreign frame spends bytes");
                    buffer.drain(..end);
                }
                Scan::Garbled(_) => return,
            }
        }
    }
}
