//! How much may be on its way to a broker without its acknowledgement.
//!
//! ```text
//! answers in time, and the window was the limit ──► one more message, so much more bytes: it doubles in a round trip
//! an answer later than the link needs           ──► less by as much as it was late, once in a round trip
//! ```
//! On a long link the window grows until the link is busy; on a narrow one it shrinks until what is new does not wait
//! behind a queue of our own making. The broker's own limit is never passed.
//!
//! Absent on purpose: what is in flight (the pump's book), what is sent next (`replay`).

use crate::{limits, model::Boot};
use std::time::Duration;

/// A link's shortest answer is believed for one to two of these: the route may have changed.
const BELIEVED: Duration = Duration::from_secs(60);
/// What an answer may take beyond the shortest one: as long again, within these.
const SLACK: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

#[derive(Debug)]
pub struct Flight {
    messages: usize,
    bytes: usize,
    /// What the broker takes.
    most: usize,
    /// The shortest answer of this minute and of the one before.
    shortest: [Option<Duration>; 2],
    minute: Boot,
    /// What was sent before this says nothing about the window since.
    shrunk: Boot,
    /// When messages and when bytes were last the limit. Answers come in bursts: the first of them sees a full window,
    /// and it was full for the others as well.
    full: [Option<Boot>; 2],
}

/// What is open when an answer comes.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    pub messages: usize,
    pub bytes: usize,
}

impl Flight {
    pub fn new(receive_max: Option<u16>, now: Boot) -> Flight {
        let most = receive_max.map_or(limits::UPLINK_IN_FLIGHT, |n| usize::from(n).clamp(1, limits::UPLINK_IN_FLIGHT));
        Flight {
            messages: limits::UPLINK_IN_FLIGHT_START.min(most),
            bytes: limits::UPLINK_BYTES_START,
            most,
            shortest: [None; 2],
            minute: now,
            shrunk: now,
            full: [None; 2],
        }
    }

    /// Messages that may be open at present.
    pub fn size(&self) -> usize {
        self.messages
    }

    /// How many more may be sent. One may always go.
    pub fn room(&self, open: Open) -> usize {
        // The last quarter is for what is new.
        if open.messages > 0 && open.bytes >= self.bytes + self.bytes / 4 { 0 } else { self.messages.saturating_sub(open.messages) }
    }

    /// Whether the bytes leave room for the backlog.
    pub fn takes_backlog(&self, open: Open) -> bool {
        open.messages == 0 || open.bytes < self.bytes
    }

    /// An answer to a message of so many bytes. `open`: with that message.
    pub fn answered(&mut self, sent: Boot, now: Boot, bytes: usize, open: Open) {
        let took = now - sent;
        let allowed = self.shortest.iter().flatten().min().map(|shortest| *shortest + (*shortest).clamp(SLACK[0], SLACK[1]));
        self.remember(took, now);
        // The last places are not for the backlog.
        let fills = [open.messages + super::replay::reserve(self.messages) >= self.messages, open.bytes >= self.bytes];
        let limits_it = |n: usize| fills[n] || self.full[n].is_some_and(|at| sent < at);
        let [by_messages, by_bytes] = [limits_it(0), limits_it(1)];
        for (full, _) in self.full.iter_mut().zip(fills).filter(|(_, fills)| *fills) {
            *full = Some(now);
        }
        if let Some(allowed) = allowed.filter(|allowed| took > *allowed) {
            if sent >= self.shrunk {
                self.shrunk = now;
                // In 64ths: at most three quarters stay, at least an eighth.
                let stays = usize::try_from(allowed.as_micros() * 64 / took.as_micros().max(1)).unwrap_or(64).clamp(8, 48);
                self.messages = (self.messages * stays / 64).max(limits::UPLINK_IN_FLIGHT_MIN).min(self.most);
                self.bytes = (self.bytes * stays / 64).max(limits::UPLINK_BYTES_MIN);
            }
            return;
        }
        if by_messages {
            self.messages = (self.messages + 1).min(self.most);
        }
        if by_bytes {
            self.bytes = (self.bytes + bytes).min(limits::UPLINK_BYTES);
        }
    }

    fn remember(&mut self, took: Duration, now: Boot) {
        if now - self.minute >= BELIEVED {
            self.shortest = [None, self.shortest[0]];
            self.minute = now;
        }
        self.shortest[0] = Some(self.shortest[0].map_or(took, |shortest| shortest.min(took)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A link with a round trip and so many bytes a second; always something to send. Gives what was delivered in
    /// messages, and the longest answer of the second half.
    fn run(receive_max: Option<u16>, round_trip_ms: u64, bytes_per_s: u64, size: usize, seconds: u64) -> (u64, u64, usize) {
        let mut flight = Flight::new(receive_max, Boot(0));
        let mut open: VecDeque<(u64, u64)> = VecDeque::new();
        let (mut free_at, mut delivered, mut longest) = (0u64, 0u64, 0u64);
        let first = (0, round_trip_ms * 1000);
        open.push_back(first);
        for now in (0..seconds * 1000).map(|ms| ms * 1000) {
            while let Some((sent, back)) = open.front().copied().filter(|(_, back)| *back <= now) {
                let before = Open { messages: open.len(), bytes: open.len() * size };
                open.pop_front();
                flight.answered(Boot(sent), Boot(now), size, before);
                delivered += 1;
                if now > seconds * 500_000 {
                    longest = longest.max((back - sent) / 1000);
                }
            }
            let now_open = |open: &VecDeque<_>| Open { messages: open.len(), bytes: open.len() * size };
            while flight.room(now_open(&open)) > 0 && flight.takes_backlog(now_open(&open)) {
                free_at = free_at.max(now) + size as u64 * 1_000_000 / bytes_per_s;
                open.push_back((now, free_at + round_trip_ms * 1000));
            }
        }
        (delivered, longest, flight.size())
    }

    #[test]
    fn a_long_link_is_filled() {
        // 200 ms: 32 messages in flight would be 160 a second.
        let (delivered, ..) = run(None, 200, 100_000_000, 1000, 20);
        assert!(delivered > 20 * 4000, "{delivered}");
        // 20 KB each, so the bytes are the limit: 2 MiB in 200 ms.
        let (delivered, ..) = run(None, 200, 100_000_000, 20_000, 20);
        assert!(delivered > 20 * 400, "{delivered}");
    }

    #[test]
    fn on_a_narrow_link_what_is_new_does_not_wait_long() {
        // 64 kbit/s.
        for size in [200, 2_000, 10_000] {
            let (delivered, longest, _) = run(None, 100, 8_000, size, 120);
            assert!(longest < 3_000, "{size}: {longest} ms");
            assert!(delivered * size as u64 > 80 * 8_000, "{size}: {delivered}");
        }
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut flight = Flight::new(None, Boot(0));
        for n in 0..1000 {
            let at = Boot(n * 1_000_000);
            flight.answered(at, at + Duration::from_millis(200), 1000, Open { messages: 5, bytes: 5000 });
        }
        assert_eq!(flight.size(), limits::UPLINK_IN_FLIGHT_START);
    }

    #[test]
    fn the_brokers_limit_is_never_passed() {
        for limit in [1, 5, 20] {
            let (_, _, size) = run(Some(limit), 200, 100_000_000, 1000, 5);
            assert_eq!(size, usize::from(limit));
        }
        assert_eq!(Flight::new(Some(0), Boot(0)).size(), 1);
    }
}
