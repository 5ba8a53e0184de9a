//! Which changes of an uplink are told as events: each while they are rare, sums while the link flaps.
//!
//! ```text
//! up ─► down: told at once, as long as its budget lasts ─► else counted, and told as one when there is budget again
//! ```
//! An event costs a commit and a message, and a bad mobile link may go down every few seconds. So each uplink has
//! `limits::UPLINK_EVENTS` at once and one more every `limits::UPLINK_EVENT_EVERY`: 152 in the worst day. Nothing is left out of
//! the sums: `changes` counts every change, and `down_for` all the time that it was down since the last `up` that was told.
//!
//! It is taken to be up at the start, so a start with a reachable cloud tells nothing. Pure.

use crate::{
    limits,
    model::{Boot, LineState, UplinkFigures, UplinkState},
};
use std::time::Duration;

/// What is told of an uplink.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub state: LineState,
    /// Why it is down.
    pub reason: String,
    /// With the change to up.
    pub down_for: Option<Duration>,
    /// For how many changes it stands.
    pub changes: u32,
    pub at: Boot,
}

/// One uplink.
#[derive(Debug, Clone)]
pub struct Link {
    is_up: bool,
    /// When it came into this state. `None`: at the start.
    since: Option<Boot>,
    reason: String,
    /// Of outages that are over and were not told yet.
    down_for: Duration,
    untold: u32,
    /// The moment at which everything that was told is paid.
    paid: Boot,
}

impl Default for Link {
    fn default() -> Link {
        Link { is_up: true, since: None, reason: String::new(), down_for: Duration::ZERO, untold: 0, paid: Boot(0) }
    }
}

impl Link {
    /// What is to be told now, if anything.
    pub fn see(&mut self, figures: &UplinkFigures, now: Boot) -> Option<Told> {
        let is_up = match figures.state {
            UplinkState::Up | UplinkState::CatchingUp => true,
            UplinkState::Down => false,
            // Not connected yet: nobody knows.
            UplinkState::Unknown => return None,
        };
        let since = self.since;
        // Down and up again, or up and down, between two looks.
        let twice = is_up == self.is_up && since.is_some_and(|since| figures.since > since);
        if is_up != self.is_up {
            self.untold = self.untold.saturating_add(1);
            if is_up {
                self.down_for += since.map_or(Duration::ZERO, |since| figures.since.since(since));
            }
        } else if twice {
            self.untold = self.untold.saturating_add(2);
            if !is_up {
                self.down_for += since.map_or(Duration::ZERO, |since| figures.since.since(since));
            }
        }
        if !is_up {
            self.reason.clone_from(&figures.reason);
        }
        (self.is_up, self.since) = (is_up, Some(figures.since));
        self.tell(now)
    }

    fn tell(&mut self, now: Boot) -> Option<Told> {
        let paid = self.paid.max(now) + limits::UPLINK_EVENT_EVERY;
        if self.untold == 0 || paid.since(now) > limits::UPLINK_EVENT_EVERY * limits::UPLINK_EVENTS {
            return None;
        }
        self.paid = paid;
        let (state, reason, down_for) = if self.is_up {
            (LineState::Up, String::new(), Some(std::mem::take(&mut self.down_for)))
        } else {
            (LineState::Down, self.reason.clone(), None)
        };
        Some(Told { state, reason, down_for, changes: std::mem::take(&mut self.untold), at: self.since.unwrap_or(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figures(state: UplinkState, since_s: u64) -> UplinkFigures {
        UplinkFigures { state, since: Boot::from_ms(since_s * 1000), reason: "refused".into(), ..UplinkFigures::default() }
    }

    fn see(link: &mut Link, state: UplinkState, since_s: u64, now_s: u64) -> Option<(&'static str, Option<u64>, u32)> {
        let told = link.see(&figures(state, since_s), Boot::from_ms(now_s * 1000))?;
        Some((told.state.word(), told.down_for.map(|d| d.as_secs()), told.changes))
    }

    use UplinkState::{CatchingUp, Down, Unknown, Up};

    #[test]
    fn an_outage_is_two_events_and_a_start_is_none() {
        let mut link = Link::default();
        assert_eq!(see(&mut link, Unknown, 0, 0), None);
        assert_eq!(see(&mut link, Up, 1, 1), None, "a start");
        assert_eq!(see(&mut link, CatchingUp, 1, 2), None, "a way of being up");
        assert_eq!(see(&mut link, Down, 100, 101), Some(("down", None, 1)));
        assert_eq!(see(&mut link, Down, 100, 102), None);
        assert_eq!(see(&mut link, CatchingUp, 940, 941), Some(("up", Some(840), 1)));
        let mut link = Link::default();
        assert_eq!(see(&mut link, Down, 5, 6), Some(("down", None, 1)), "away from the start");
        assert_eq!(see(&mut link, Up, 65, 66), Some(("up", Some(60), 1)));
    }

    #[test]
    fn what_happened_between_two_looks_is_seen() {
        let mut link = Link::default();
        assert_eq!(see(&mut link, Up, 1, 1), None);
        assert_eq!(see(&mut link, Up, 50, 51), Some(("up", Some(0), 2)), "it was away for a moment");
    }

    #[test]
    fn a_flapping_link_is_told_in_sums_and_its_end_is_told() {
        let mut link = Link::default();
        assert_eq!(see(&mut link, Up, 0, 0), None);
        let (mut told, mut changes) = (0, 0);
        for n in 0..1200 {
            let state = if n % 2 == 0 { Down } else { Up };
            if let Some((.., c)) = see(&mut link, state, 3 * n + 3, 3 * n + 3) {
                (told, changes) = (told + 1, changes + c);
            }
        }
        // An hour: eight, and one every ten minutes.
        assert!((8..=14).contains(&told), "{told}");
        let end = see(&mut link, Up, 3600, 4300).expect("its rest is told");
        assert_eq!((end.0, changes + end.2), ("up", 1200));
    }

    proptest! {
        /// However it flaps: the bound holds in each day, every change is counted once, and the last word is how it is.
        #[test]
        fn no_day_has_more_and_nothing_is_left_out(steps in proptest::collection::vec((1..4000u64, any::<bool>()), 1..400)) {
            let (mut link, mut now, mut is_up, mut since) = (Link::default(), 1, true, 1);
            let (mut made, mut told_at, mut counted, mut last) = (0, Vec::new(), 0, true);
            link.see(&figures(Up, 1), Boot::from_ms(1000));
            let mut down = 0;
            let mut told_down = 0;
            for (wait, flips) in steps {
                now += wait;
                if flips {
                    if !is_up { down += now - since; }
                    (is_up, since, made) = (!is_up, now, made + 1);
                }
                if let Some((state, for_s, changes)) = see(&mut link, if is_up { Up } else { Down }, since, now) {
                    told_at.push(now);
                    counted += changes;
                    told_down += for_s.unwrap_or(0);
                    last = state == "up";
                }
            }
            // A rest pays everything.
            now += 20_000;
            if let Some((state, for_s, changes)) = see(&mut link, if is_up { Up } else { Down }, since, now) {
                counted += changes;
                told_down += for_s.unwrap_or(0);
                last = state == "up";
            }
            prop_assert_eq!(counted, made);
            prop_assert_eq!(last, is_up);
            prop_assert!(!is_up || told_down == down, "{} of {}", told_down, down);
            for (n, from) in told_at.iter().enumerate() {
                let day = told_at[n..].iter().take_while(|at| **at < from + 86_400).count();
                prop_assert!(day <= 152, "{day} in a day");
            }
        }
    }
}
