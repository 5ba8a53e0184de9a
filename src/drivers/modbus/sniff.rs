//! Makes sense of the bytes on an RTU bus that somebody else drives: frames by their checksum, request and reply by their
//! shape and order. A pure function of bytes and moments.
//!
//! A frame is found where the length that its function implies gives a fitting checksum; gaps in time are not needed,
//! because adapters and serial servers make their own. What no frame covers is counted as noise.

use super::rtu::crc16;
use crate::model::Boot;
use std::{collections::VecDeque, time::Duration};

/// A reply later than this belongs to no request.
const PAIR: Duration = Duration::from_secs(2);
/// Bytes that wait for the rest of their frame. A frame has at most 256.
const WAIT_MAX: usize = 256;
/// Bytes older than this are the beginning of no frame any more.
const STALE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Request,
    Reply,
}

/// One valid frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: Boot,
    pub unit: u8,
    pub function: u8,
    pub direction: Direction,
    /// With unit and checksum.
    pub bytes: Vec<u8>,
    /// The same request twice at once: an adapter that hears itself.
    pub is_echo: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub bytes: u64,
    pub noise: u64,
    pub requests: u64,
    pub replies: u64,
    pub unanswered: u64,
    pub echoes: u64,
}

#[derive(Debug, Default)]
pub struct Sniffer {
    waiting: VecDeque<u8>,
    last: Option<Boot>,
    /// The request that waits for its reply.
    open: Option<(Boot, Vec<u8>)>,
    pub tally: Tally,
}

impl Sniffer {
    /// Bytes heard at this moment, and the frames that are whole by now.
    pub fn hear(&mut self, at: Boot, bytes: &[u8]) -> Vec<Seen> {
        if self.last.is_some_and(|last| at - last > STALE) {
            self.drop_waiting();
        }
        self.last = Some(at);
        self.tally.bytes += bytes.len() as u64;
        self.waiting.extend(bytes);
        let mut out = Vec::new();
        let mut from = 0;
        let buffer: Vec<u8> = self.waiting.iter().copied().collect();
        while from < buffer.len() {
            match frame_at(&buffer[from..], self.open.as_ref().map(|(_, request)| request.as_slice())) {
                Found::Frame(len, direction) => {
                    out.push(self.seen(at, &buffer[from..from + len], direction));
                    from += len;
                }
                // A frame that is whole further on shows that this byte begins none.
                Found::More if !has_frame_later(&buffer[from + 1..]) && buffer.len() - from <= WAIT_MAX => break,
                Found::More | Found::None => {
                    self.tally.noise += 1;
                    from += 1;
                }
            }
        }
        self.waiting.drain(..from);
        out
    }

    /// Nothing more comes: what waits is noise.
    pub fn end(&mut self) {
        self.drop_waiting();
        if self.open.take().is_some() {
            self.tally.unanswered += 1;
        }
    }

    fn drop_waiting(&mut self) {
        self.tally.noise += self.waiting.len() as u64;
        self.waiting.clear();
    }

    fn seen(&mut self, at: Boot, bytes: &[u8], direction: Direction) -> Seen {
        let (unit, function) = (bytes[0], bytes[1]);
        let mut is_echo = false;
        match direction {
            Direction::Request => {
                is_echo = self.open.as_ref().is_some_and(|(then, request)| *request == bytes && at - *then < Duration::from_millis(100));
                if is_echo {
                    self.tally.echoes += 1;
                } else {
                    self.tally.requests += 1;
                    if self.open.replace((at, bytes.to_vec())).is_some() {
                        self.tally.unanswered += 1;
                    }
                }
            }
            Direction::Reply => {
                self.tally.replies += 1;
                self.open = self.open.take().filter(|(then, request)| request[0] != unit && at - *then < PAIR);
            }
        }
        Seen { at, unit, function, direction, bytes: bytes.to_vec(), is_echo }
    }

    /// What was heard in one sentence, and what to do.
    pub fn verdict(&self) -> Verdict {
        let t = &self.tally;
        match (t.bytes, t.requests + t.replies) {
            (0, _) => Verdict::Silence,
            (_, 0) => Verdict::NoFrame,
            _ if t.echoes > 0 => Verdict::Echo,
            _ if t.requests > 0 => Verdict::Master,
            _ => Verdict::Replies,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Silence,
    NoFrame,
    Echo,
    Master,
    /// Replies to nobody that could be heard.
    Replies,
}

enum Found {
    Frame(usize, Direction),
    More,
    None,
}

fn has_frame_later(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| matches!(frame_at(&bytes[at..], None), Found::Frame(..)))
}

/// The frame that begins at the first byte. `open`: the request that has no reply yet.
fn frame_at(bytes: &[u8], open: Option<&[u8]>) -> Found {
    let [unit, function, rest @ ..] = bytes else { return Found::More };
    if *unit > 247 || !is_function(*function) {
        return Found::None;
    }
    let reply = reply_len(*function, rest);
    let request = request_len(*function, rest);
    let is_answer = open.is_some_and(|request| request[0] == *unit && request[1] & 0x7f == *function & 0x7f);
    // Writes of one value are repeated by their reply: the order tells.
    let order = match is_answer {
        true => [(reply, Direction::Reply), (request, Direction::Request)],
        false => [(request, Direction::Request), (reply, Direction::Reply)],
    };
    let mut is_open = false;
    for (len, direction) in order {
        match len.map(|len| bytes.get(..len)) {
            Some(Some(frame)) if fits(frame) => return Found::Frame(frame.len(), direction),
            Some(None) => is_open = true,
            Some(Some(_)) | None => {}
        }
    }
    if is_open { Found::More } else { Found::None }
}

const fn is_function(function: u8) -> bool {
    matches!(function & 0x7f, 1..=8 | 11 | 12 | 15..=17 | 20..=24 | 43)
}

/// Length of a whole reply frame, as far as its head tells; a head that is too short asks for more.
fn reply_len(function: u8, rest: &[u8]) -> Option<usize> {
    if function & 0x80 != 0 {
        return Some(5);
    }
    match function {
        1..=4 | 12 | 17 | 20 | 21 | 23 => rest.first().map_or(Some(5), |count| Some(5 + usize::from(*count))),
        5 | 6 | 8 | 11 | 15 | 16 => Some(8),
        7 => Some(5),
        22 => Some(10),
        _ => None,
    }
}

fn request_len(function: u8, rest: &[u8]) -> Option<usize> {
    match function {
        1..=6 | 8 => Some(8),
        7 | 11 | 12 | 17 => Some(4),
        15 | 16 => rest.get(4).map_or(Some(9), |count| Some(9 + usize::from(*count))),
        22 => Some(10),
        23 => rest.get(8).map_or(Some(13), |count| Some(13 + usize::from(*count))),
        43 => Some(7),
        _ => None,
    }
}

fn fits(frame: &[u8]) -> bool {
    let Some((body, crc)) = frame.split_last_chunk::<2>() else { return false };
    crc16(body) == u16::from_le_bytes(*crc)
}

/// What a frame says, in words: `read input 12, 2 words`, `refuses (2)`, `2 words`.
pub fn words(seen: &Seen) -> String {
    let b = &seen.bytes;
    let word = |at: usize| b.get(at..at + 2).map_or(0, |w| u16::from_be_bytes([w[0], w[1]]));
    let table = |function: u8| match function {
        1 | 5 | 15 => "coil",
        2 => "discrete",
        4 => "input",
        _ => "holding",
    };
    let many = |n: u16, of: &str| if n == 1 { format!("1 {of}") } else { format!("{n} {of}s") };
    match (seen.direction, seen.function) {
        (_, f) if f & 0x80 != 0 => format!("refuses ({})", b.get(2).copied().unwrap_or(0)),
        (Direction::Request, f @ (1 | 2)) => format!("read {} {}, {}", table(f), word(2), many(word(4), "bit")),
        (Direction::Request, f @ (3 | 4)) => format!("read {} {}, {}", table(f), word(2), many(word(4), "word")),
        (_, f @ (5 | 6)) => format!("write {} {} = {}", table(f), word(2), word(4)),
        (_, f @ (15 | 16)) => format!("write {} {}, {}", table(f), word(2), many(word(4), if f == 15 { "bit" } else { "word" })),
        (Direction::Reply, 1 | 2) => many(u16::from(b[2]), "byte"),
        (Direction::Reply, 3 | 4) => values(b),
        (Direction::Request, f) => format!("function {f}"),
        (Direction::Reply, f) => format!("answers function {f}"),
    }
}

/// A pair of words that makes a likely number is shown as one.
fn values(b: &[u8]) -> String {
    let data = &b[3..b.len().saturating_sub(2).max(3)];
    if let [a, c, d, e] = *data {
        let f = f32::from_be_bytes([a, c, d, e]);
        if f.is_finite() && (1e-3..1e7).contains(&f.abs()) {
            return format!("{f:.1} as f32");
        }
    }
    let words: Vec<String> = data.chunks_exact(2).take(8).map(|w| u16::from_be_bytes([w[0], w[1]]).to_string()).collect();
    let more = if data.len() > 16 { " …" } else { "" };
    format!("{}{more}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = body.to_vec();
        out.extend(crc16(body).to_le_bytes());
        out
    }

    /// What is seen of these chunks, 10 ms apart.
    fn listen(chunks: &[Vec<u8>]) -> (Vec<String>, Sniffer) {
        let mut sniffer = Sniffer::default();
        let mut seen = Vec::new();
        for (n, chunk) in (0u64..).zip(chunks) {
            seen.extend(sniffer.hear(Boot::from_ms(1000 + n * 10), chunk));
        }
        sniffer.end();
        let arrow = |d| if d == Direction::Request { "→" } else { "←" };
        let show = |s: &Seen| format!("{} {} {}{}", s.unit, arrow(s.direction), words(s), if s.is_echo { " (echo)" } else { "" });
        (seen.iter().map(show).collect(), sniffer)
    }

    #[track_caller]
    fn check(chunks: &[Vec<u8>], want: &[&str], verdict: Verdict) {
        let (seen, sniffer) = listen(chunks);
        assert_eq!((seen.iter().map(String::as_str).collect::<Vec<_>>(), sniffer.verdict()), (want.to_vec(), verdict), "{chunks:02x?}");
    }

    #[test]
    fn requests_and_replies_are_told_apart() {
        let ask = frame(&[1, 4, 0, 12, 0, 2]);
        let reply = frame(&[1, 4, 4, 0x44, 0xa0, 0x86, 0x66]);
        let write = frame(&[3, 6, 0, 101, 0, 67]);
        check(&[ask.clone(), reply.clone()], &["1 → read input 12, 2 words", "1 ← 1284.2 as f32"], Verdict::Master);
        check(&[[ask.clone(), reply.clone()].concat()], &["1 → read input 12, 2 words", "1 ← 1284.2 as f32"], Verdict::Master);
        check(&[write.clone(), write], &["3 → write holding 101 = 67", "3 ← write holding 101 = 67"], Verdict::Master);
        check(&[frame(&[9, 3, 0, 0, 0, 1]), frame(&[9, 0x83, 2])], &["9 → read holding 0, 1 word", "9 ← refuses (2)"], Verdict::Master);
        check(
            &[ask.clone(), ask.clone(), reply.clone()],
            &["1 → read input 12, 2 words", "1 → read input 12, 2 words (echo)", "1 ← 1284.2 as f32"],
            Verdict::Echo,
        );
        check(&[reply], &["1 ← 1284.2 as f32"], Verdict::Replies);
        check(&[], &[], Verdict::Silence);
        check(&[vec![0x55; 300]], &[], Verdict::NoFrame);
    }

    #[test]
    fn pieces_and_noise_do_not_hide_a_frame() {
        let ask = frame(&[1, 4, 0, 12, 0, 2]);
        let pieces: Vec<Vec<u8>> = ask.iter().map(|b| vec![*b]).collect();
        check(&pieces, &["1 → read input 12, 2 words"], Verdict::Master);
        check(&[[vec![0xff, 0, 1, 3], ask.clone()].concat()], &["1 → read input 12, 2 words"], Verdict::Master);
        let (_, sniffer) = listen(&[[vec![0xff, 0, 1, 3], ask].concat()]);
        assert_eq!((sniffer.tally.noise, sniffer.tally.unanswered), (4, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_without_a_panic_and_all_are_accounted_for(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..12)) {
            let mut sniffer = Sniffer::default();
            let mut framed = 0;
            for (n, chunk) in (0u64..).zip(&chunks) {
                framed += sniffer.hear(Boot::from_ms(n), chunk).iter().map(|s| s.bytes.len() as u64).sum::<u64>();
                prop_assert!(sniffer.waiting.len() <= WAIT_MAX + 80);
            }
            sniffer.end();
            prop_assert_eq!(sniffer.tally.bytes, framed + sniffer.tally.noise);
        }
    }
}
