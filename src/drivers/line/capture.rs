//! The last frames of a line, for `listen`, for a support case, and to be replayed as a test.
//!
//! A ring of bytes that is allocated once: the owner writes what it sends and what it hears, with the moment, and neither
//! allocates nor waits. Full: the oldest go.

use crate::{
    limits,
    model::{Boot, WireFrame},
};
use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Moment, direction and length before the bytes.
const HEAD: usize = 8 + 1 + 2;

#[derive(Debug)]
struct Ring {
    bytes: VecDeque<u8>,
    room: usize,
    /// Number of the oldest frame, and of the next.
    first: u64,
    next: u64,
}

#[derive(Debug, Clone)]
pub struct Capture(Arc<Mutex<Ring>>);

impl Capture {
    pub fn new(room: usize) -> Capture {
        Capture(Arc::new(Mutex::new(Ring { bytes: VecDeque::with_capacity(room), room, first: 0, next: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Frames are written whole: a panic in another holder leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, at: Boot, sent: bool, bytes: &[u8]) {
        self.lock().put(at, sent, bytes);
    }

    /// Frames from number `after` on, the oldest first, at most so many.
    pub fn since(&self, after: u64, most: usize) -> Vec<WireFrame> {
        self.lock().since(after, most)
    }
}

impl Ring {
    fn put(&mut self, at: Boot, sent: bool, bytes: &[u8]) {
        let len = bytes.len().min(self.room / 4);
        while self.bytes.len() + HEAD + len > self.room {
            let gone = self.len_at(0);
            self.bytes.drain(..HEAD + gone);
            self.first += 1;
        }
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&at.0.to_le_bytes());
        head[8] = u8::from(sent);
        head[9..].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
        self.bytes.extend(&head);
        self.bytes.extend(&bytes[..len]);
        self.next += 1;
    }

    fn len_at(&self, at: usize) -> usize {
        usize::from(self.bytes[at + 9]) | usize::from(self.bytes[at + 10]) << 8
    }

    fn since(&self, after: u64, most: usize) -> Vec<WireFrame> {
        let mut out = Vec::new();
        let (mut at, mut n) = (0, self.first);
        while at < self.bytes.len() && out.len() < most {
            let len = self.len_at(at);
            if n >= after {
                let moment: [u8; 8] = std::array::from_fn(|i| self.bytes[at + i]);
                let bytes = self.bytes.range(at + HEAD..at + HEAD + len).copied().collect();
                out.push(WireFrame { n, at: Boot(u64::from_le_bytes(moment)), sent: self.bytes[at + 8] == 1, bytes });
            }
            at += HEAD + len;
            n += 1;
        }
        out
    }
}

/// A frame as a line of a file: `+12.345678 > 01 04 00 0c 00 02 b1 c8`. `>` is what the master sent; a frame that
/// carries a secret was kept without its bytes and shows as `<secret>`.
pub fn line(since: Boot, at: Boot, sent: bool, bytes: &[u8]) -> String {
    let after = at - since;
    let mut s = format!("+{}.{:06} {}", after.as_secs(), after.subsec_micros(), if sent { '>' } else { '<' });
    if bytes.is_empty() {
        s.push_str(" <secret>");
    }
    for b in bytes {
        let _ = write!(s, " {b:02x}");
    }
    s
}

/// Reads such lines; those that begin with `#`, that hide a secret, and empty ones are skipped. An error names the line.
pub fn parse(text: &str) -> Result<Vec<WireFrame>, String> {
    let mut out = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#') && !l.ends_with("<secret>")) {
        let wrong = |what: &str| format!("line {}: {what}; a frame is `+12.345678 > 01 04 …`", n + 1);
        let mut words = line.split_whitespace();
        let after = words.next().and_then(|w| w.strip_prefix('+')?.parse::<f64>().ok()).filter(|s| (0.0..1e9).contains(s));
        let after = after.ok_or_else(|| wrong("it begins with no time"))?;
        let sent = match words.next() {
            Some(">") => true,
            Some("<") => false,
            _ => return Err(wrong("neither > nor < says who spoke")),
        };
        let bytes: Option<Vec<u8>> = words.map(|w| u8::from_str_radix(w, 16).ok()).collect();
        let bytes = bytes.filter(|b| !b.is_empty() && b.len() <= limits::CAPTURE_BYTES).ok_or_else(|| wrong("there are no bytes"))?;
        out.push(WireFrame { n: out.len() as u64, at: Boot(0) + Duration::from_secs_f64(after), sent, bytes });
    }
    Ok(out)
}

/// What answered which request: the pieces heard up to the next request are one answer; none is silence.
pub fn exchanges(frames: &[WireFrame]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for frame in frames {
        match out.last_mut() {
            _ if frame.sent => out.push((frame.bytes.clone(), Vec::new())),
            Some((_, answer)) => answer.extend(&frame.bytes),
            // Heard before anything was asked.
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_frames_reads_back_as_what_was_written() {
        let since = Boot::from_ms(1000);
        let text = format!(
            "# meters\n\n{}\n{}\n{}\n{}\n",
            line(since, Boot::from_ms(1000), true, &[1, 4, 0]),
            line(since, Boot::from_ms(1012), false, &[1, 4]),
            line(since, Boot::from_ms(1013), false, &[0xff]),
            line(since, Boot(13_345_678), true, &[2]),
        );
        assert!(text.contains("+0.000000 > 01 04 00\n") && text.contains("+12.345678 > 02\n"), "{text}");
        let frames = parse(&text).expect("readable");
        assert_eq!(frames[3].at, Boot(12_345_678));
        assert_eq!(exchanges(&frames), [(vec![1, 4, 0], vec![1, 4, 0xff]), (vec![2], vec![])]);
        for (text, says) in [("x > 01", "no time"), ("+1 01", "neither"), ("+1 > xx", "no bytes"), ("#\n+1 >", "line 2")] {
            let why = parse(text).expect_err("unreadable");
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn the_last_frames_are_kept_in_a_ring_that_never_grows() {
        let capture = Capture::new(limits::CAPTURE_BYTES);
        let room = capture.lock().bytes.capacity();
        for n in 0..5000u64 {
            let len = usize::try_from(n % 256).expect("small");
            capture.put(Boot(n), n % 2 == 0, &vec![1; len]);
        }
        capture.put(Boot(5000), false, &vec![7; 1 << 20]);
        assert_eq!(capture.lock().bytes.capacity(), room, "allocated once");
        let frames = capture.since(0, 10_000);
        assert!(frames.len() > 20 && frames.last().is_some_and(|f| f.n == 5000 && f.bytes.len() == limits::CAPTURE_BYTES / 4));
        for f in &frames[..frames.len() - 1] {
            assert_eq!((f.at, f.sent, f.bytes.len() as u64), (Boot(f.n), f.n % 2 == 0, f.n % 256), "{f:?}");
        }
        let later = capture.since(4999, 10_000);
        assert_eq!(later.iter().map(|f| f.n).collect::<Vec<_>>(), [4999, 5000]);
        assert_eq!(capture.since(0, 2).len(), 2);
        assert!(capture.since(5001, 10).is_empty());
    }
}
