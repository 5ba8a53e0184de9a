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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Moment, direction and length before the bytes.
const HEAD: usize = 8 + 1 + 2;

#[derive(Debug)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Number of the oldest frame, and of the next.
    first: u64,
    next: u64,
}

#[derive(Debug, Clone)]
pub struct Capture(Arc<Mutex<Ring>>);

impl Default for Capture {
    fn default() -> Capture {
        let bytes = VecDeque::with_capacity(limits::CAPTURE_BYTES);
        Capture(Arc::new(Mutex::new(Ring { bytes, first: 0, next: 0 })))
    }
}

impl Capture {
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
        let len = bytes.len().min(limits::CAPTURE_BYTES / 4);
        while self.bytes.len() + HEAD + len > limits::CAPTURE_BYTES {
            let gone = self.len_at(0);
            self.bytes.drain(..HEAD + gone);
            self.first += 1;
        }
        self.bytes.extend(at.0.to_le_bytes());
        self.bytes.push_back(u8::from(sent));
        self.bytes.extend(u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_frames_are_kept_in_a_ring_that_never_grows() {
        let capture = Capture::default();
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
