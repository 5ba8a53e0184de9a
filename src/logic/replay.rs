//! What to send next: events first, then live telemetry, with the backlog interleaved.
//!
//! ```text
//! events waiting ──► at most 4 in a row while telemetry waits (80 %), then one telemetry
//! live waiting   ──► alternates with the backlog (each at least 1 of 2)
//! only backlog   ──► takes what the window leaves, all but RESERVE places
//! ```
//! The reserve keeps places of the window free for what is new: with the whole window full of backlog a fresh alarm
//! would wait for a round trip.
//!
//! Absent on purpose: the queues themselves. The pump says what waits and takes the answer.

/// Events in a row while telemetry waits: 4 of 5 sends.
const EVENTS_IN_A_ROW: u8 = 4;
/// Places of the window that the backlog leaves free.
const RESERVE: usize = 4;

/// What is ready to be sent, and how full the window is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub events: bool,
    pub live: bool,
    pub backlog: bool,
    /// Places left in the window.
    pub room: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Event,
    Live,
    Backlog,
}

#[derive(Debug, Default)]
pub struct Replay {
    events_in_a_row: u8,
    backlog_last: bool,
}

impl Replay {
    /// What to send now; `None`: nothing may be sent. The caller sends it, or asks again with what was empty left out.
    pub fn choose(&self, waiting: Waiting) -> Option<Choice> {
        if waiting.room == 0 {
            return None;
        }
        let backlog = waiting.backlog && (waiting.room > RESERVE || waiting.live);
        let telemetry = match (waiting.live, backlog) {
            (true, true) if self.backlog_last => Some(Choice::Live),
            (_, true) => Some(Choice::Backlog),
            (true, false) => Some(Choice::Live),
            (false, false) => None,
        };
        match telemetry {
            Some(choice) if !waiting.events || self.events_in_a_row >= EVENTS_IN_A_ROW => Some(choice),
            _ => waiting.events.then_some(Choice::Event),
        }
    }

    /// It was sent.
    pub fn sent(&mut self, choice: Choice) {
        match choice {
            Choice::Event => self.events_in_a_row = self.events_in_a_row.saturating_add(1),
            Choice::Live | Choice::Backlog => {
                self.events_in_a_row = 0;
                self.backlog_last = choice == Choice::Backlog;
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
        let all = Waiting { events: true, live: true, backlog: true, room: 32 };
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
    }

    #[track_caller]
    fn check(waiting: Waiting, want: &str) {
        let mut replay = Replay::default();
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
                replay.sent(choice);
            }
        }
        assert_eq!(got, want, "{waiting:?}");
    }

    proptest! {
        /// Whatever waits when: nothing that may be sent is held back, and nobody is starved.
        #[test]
        fn nobody_starves(turns in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0usize..33), 1..200)) {
            let mut replay = Replay::default();
            let (mut events, mut live, mut backlog) = (0, 0, 0);
            for (e, l, b, room) in turns {
                let choice = replay.choose(Waiting { events: e, live: l, backlog: b, room });
                prop_assert_eq!(choice.is_some(), room > 0 && (e || l || (b && room > RESERVE)));
                match choice {
                    Some(Choice::Event) => { prop_assert!(e); events = if l { events + 1 } else { 0 }; }
                    Some(Choice::Live) => { prop_assert!(l); events = 0; live = 0; backlog += i32::from(b); }
                    Some(Choice::Backlog) => { prop_assert!(b); events = 0; backlog = 0; live += i32::from(l); }
                    None => {}
                }
                prop_assert!(events <= 4 && live <= 1 && backlog <= 1, "events {events}, live {live}, backlog {backlog}");
                if let Some(choice) = choice { replay.sent(choice); }
            }
        }
    }
}
