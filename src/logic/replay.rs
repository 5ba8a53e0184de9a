//! What to send next: events first, then live telemetry, with the backlog interleaved.
//!
//! ```text
//! events waiting ──► at most 4 in a row while telemetry waits (80 %), then one telemetry
//! live waiting   ──► the backlog has its share (50 %: they alternate)
//! only backlog   ──► takes what the window leaves, all but the reserve, at most at its rate
//! ```
//! The reserve keeps places of the window free for what is new: with the whole window full of backlog a fresh alarm
//! would wait for a round trip.
//!
//! Absent on purpose: the queues themselves. The pump says what waits and takes the answer.

use crate::model::Boot;
use std::time::Duration;

/// Events in a row while telemetry waits: 4 of 5 sends.
const EVENTS_IN_A_ROW: u8 = 4;
/// Places of the window that the backlog leaves free, unless the window is very small.
const RESERVE: usize = 4;

/// Of a window of so many places.
pub const fn reserve(window: usize) -> usize {
    if window / 4 < RESERVE { window / 4 } else { RESERVE }
}

/// What is ready to be sent, and how full the window is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub events: bool,
    pub live: bool,
    pub backlog: bool,
    /// Places left in the window, and all of them.
    pub room: usize,
    pub window: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Event,
    Live,
    Backlog,
}

#[derive(Debug)]
pub struct Replay {
    events_in_a_row: u8,
    /// Of 100 sends of telemetry while both wait, how many are backlog.
    share: u32,
    /// What the backlog is owed of them.
    credit: u32,
    /// Samples of the backlog in a second.
    rate: Option<u64>,
    /// The backlog has had what it may have until then.
    paid_until: Boot,
}

/// What the backlog did not use of its rate is lost to it after this.
const SAVED: Duration = Duration::from_millis(100);

impl Replay {
    pub fn new(share: u8, rate: Option<u64>) -> Replay {
        // The first is backlog from a half on: it has waited longer.
        Replay { events_in_a_row: 0, share: u32::from(share), credit: 50, rate, paid_until: Boot(0) }
    }

    /// When the backlog may go on, if its rate forbids it now.
    pub fn held_until(&self, now: Boot) -> Option<Boot> {
        (self.rate.is_some() && self.paid_until > now).then_some(self.paid_until)
    }

    /// So many samples of the backlog were sent.
    pub fn replayed(&mut self, samples: u64, now: Boot) {
        if let Some(rate) = self.rate.filter(|rate| *rate > 0) {
            let from = self.paid_until.max(now.saturating_sub(SAVED));
            self.paid_until = from + Duration::from_micros(samples.saturating_mul(1_000_000) / rate);
        }
    }

    /// What to send now; `None`: nothing may be sent. The caller sends it, or asks again with what was empty left out.
    pub fn choose(&self, waiting: Waiting) -> Option<Choice> {
        if waiting.room == 0 {
            return None;
        }
        let backlog = waiting.backlog && (waiting.room > reserve(waiting.window) || waiting.live);
        let telemetry = match (waiting.live, backlog) {
            (true, true) if self.credit + self.share < 100 => Some(Choice::Live),
            (_, true) => Some(Choice::Backlog),
            (true, false) => Some(Choice::Live),
            (false, false) => None,
        };
        match telemetry {
            Some(choice) if !waiting.events || self.events_in_a_row >= EVENTS_IN_A_ROW => Some(choice),
            _ => waiting.events.then_some(Choice::Event),
        }
    }

    /// It was sent. `both`: live values and the backlog waited.
    pub fn sent(&mut self, choice: Choice, both: bool) {
        match choice {
            Choice::Event => self.events_in_a_row = self.events_in_a_row.saturating_add(1),
            Choice::Live | Choice::Backlog => {
                self.events_in_a_row = 0;
                if both {
                    let spent = if choice == Choice::Backlog { 100 } else { 0 };
                    self.credit = (self.credit + self.share).saturating_sub(spent);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_of_sends() {
        let all = Waiting { events: true, live: true, backlog: true, room: 32, window: 32 };
        check(all, "EEEEBEEEELEEEEBEEEELEEEEB");
        check(Waiting { events: false, ..all }, "BLBLBLBL");
        check(Waiting { live: false, ..all }, "EEEEBEEEEB");
        check(Waiting { events: false, live: false, ..all }, "BBBBBB");
        check(Waiting { backlog: false, ..all }, "EEEELEEEEL");
        check(Waiting { live: false, backlog: false, ..all }, "EEEEEEEEEE");
        check(Waiting { room: 0, ..all }, "......");
        // The last places are for what is new.
        check(Waiting { events: false, live: false, room: 4, ..all }, "...");
        check(Waiting { live: false, room: 4, ..all }, "EEEEEE");
        check(Waiting { events: false, room: 4, ..all }, "BLBL");
        // A broker that takes one at a time.
        check(Waiting { events: false, live: false, room: 1, window: 1, ..all }, "BBB");
    }

    #[test]
    fn shares() {
        let both = Waiting { events: false, live: true, backlog: true, room: 32, window: 32 };
        check_share(20, both, "LLBLLLLBLLLLB");
        check_share(80, both, "BBLBBBBLBBBB");
        check_share(1, both, &"L".repeat(49));
    }

    #[test]
    fn a_rate_holds_the_backlog_back() {
        let mut replay = Replay::new(50, Some(1000));
        let at = Boot::from_ms;
        replay.replayed(500, at(10_000));
        assert_eq!(replay.held_until(at(10_000)), Some(at(10_400)), "a tenth of a second was saved");
        assert_eq!(replay.held_until(at(10_400)), None);
        replay.replayed(100, at(10_400));
        assert_eq!(replay.held_until(at(10_400)), Some(at(10_500)));
        let mut free = Replay::new(50, None);
        free.replayed(1_000_000, at(10_000));
        assert_eq!(free.held_until(at(10_000)), None);
    }

    #[track_caller]
    fn check(waiting: Waiting, want: &str) {
        check_share(50, waiting, want);
    }

    #[track_caller]
    fn check_share(share: u8, waiting: Waiting, want: &str) {
        let mut replay = Replay::new(share, None);
        let mut got = String::new();
        for _ in 0..want.len() {
            let choice = replay.choose(waiting);
            got.push(match choice {
                Some(Choice::Event) => 'E',
                Some(Choice::Live) => 'L',
                Some(Choice::Backlog) => 'B',
                None => '.',
            });
            if let Some(choice) = choice {
                replay.sent(choice, waiting.live && waiting.backlog);
            }
        }
        assert_eq!(got, want, "{waiting:?}");
    }

    proptest! {
        /// Whatever waits when: nothing that may be sent is held back, and nobody is starved.
        #[test]
        fn nobody_starves(turns in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0usize..33), 1..200)) {
            let mut replay = Replay::new(50, None);
            let (mut events, mut live, mut backlog) = (0, 0, 0);
            for (e, l, b, room) in turns {
                let choice = replay.choose(Waiting { events: e, live: l, backlog: b, room, window: 32 });
                prop_assert_eq!(choice.is_some(), room > 0 && (e || l || (b && room > RESERVE)));
                match choice {
                    Some(Choice::Event) => { prop_assert!(e); events = if l { events + 1 } else { 0 }; }
                    Some(Choice::Live) => { prop_assert!(l); events = 0; live = 0; backlog += i32::from(b); }
                    Some(Choice::Backlog) => { prop_assert!(b); events = 0; backlog = 0; live += i32::from(l); }
                    None => {}
                }
                prop_assert!(events <= 4 && live <= 1 && backlog <= 1, "events {events}, live {live}, backlog {backlog}");
                if let Some(choice) = choice { replay.sent(choice, l && b); }
            }
        }
    }
}
