//! Our own messages, coming back: a broker of MQTT 3.1.1 sends us what we publish where we also listen.
//!
//! Taken for the device's own word, a status that we publish would prove that the device lives. Each message of ours is
//! swallowed once, if it comes back within a minute. When a device says the same at the same moment, one of the two
//! equal messages stays, which is all the same. Pure.

use crate::model::Boot;
use std::{collections::VecDeque, time::Duration};

const KEPT: Duration = Duration::from_secs(60);
/// Remembered at once. Full: the oldest goes, and its echo counts as heard.
const MOST: usize = 4_096;

#[derive(Default)]
pub struct Echo {
    sent: VecDeque<(Boot, String, Vec<u8>)>,
}

impl Echo {
    pub fn sent(&mut self, topic: &str, body: &[u8], now: Boot) {
        self.forget(now);
        if self.sent.len() >= MOST {
            self.sent.pop_front();
        }
        self.sent.push_back((now, topic.to_owned(), body.to_owned()));
    }

    pub fn is_ours(&mut self, topic: &str, body: &[u8], now: Boot) -> bool {
        self.forget(now);
        let found = self.sent.iter().position(|(_, t, b)| t == topic && b == body);
        found.and_then(|at| self.sent.remove(at)).is_some()
    }

    fn forget(&mut self, now: Boot) {
        while self.sent.front().is_some_and(|(at, _, _)| now - *at > KEPT) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_word_is_swallowed_once_and_for_a_minute() {
        let mut echo = Echo::default();
        let at = Boot::from_ms;
        echo.sent("devices/status/x", b"1", at(0));
        assert!(!echo.is_ours("devices/status/x", b"0", at(1)) && !echo.is_ours("devices/status/y", b"1", at(1)));
        assert!(echo.is_ours("devices/status/x", b"1", at(2)));
        assert!(!echo.is_ours("devices/status/x", b"1", at(3)));
        echo.sent("devices/status/x", b"1", at(10));
        assert!(!echo.is_ours("devices/status/x", b"1", at(60_011)));
        (0..MOST as u64 + 5).for_each(|n| echo.sent("t", b"x", at(70_000 + n)));
        assert_eq!(echo.sent.len(), MOST);
    }
}
