//! The receiving end of a door, with a look at the message that waits first: timers run only up to its arrival.

use crate::model::{Boot, Bulk, Urgent};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long telemetry that streams in is left to come together. A rule that watches a value has ten times as long.
const REST: Duration = Duration::from_millis(1);
/// A burst takes no longer, so that who hands it in can tell its end.
const BURST: Duration = Duration::from_millis(2);

pub(super) struct Door<T> {
    queue: mpsc::Receiver<T>,
    /// Taken from the queue to look at it, not handled yet.
    first: Option<T>,
    taken: u64,
}

/// When the door got the message.
pub(super) trait Arrived {
    fn arrived(&self) -> Boot;
}

impl<T: Arrived> Door<T> {
    pub fn new(queue: mpsc::Receiver<T>) -> Door<T> {
        Door { queue, first: None, taken: 0 }
    }

    /// `None`: everybody who could send is gone. Loses nothing when it is dropped half-way.
    pub async fn next(&mut self) -> Option<T> {
        let message = match self.first.take() {
            Some(message) => Some(message),
            None => self.queue.recv().await,
        };
        self.taken += u64::from(message.is_some());
        message
    }

    pub fn try_next(&mut self) -> Option<T> {
        let message = self.first.take().or_else(|| self.queue.try_recv().ok());
        self.taken += u64::from(message.is_some());
        message
    }

    /// Messages since the start.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.first.is_some())
    }

    /// When the oldest message arrived that is not handled yet.
    pub fn oldest(&mut self) -> Option<Boot> {
        if self.first.is_none() {
            self.first = self.queue.try_recv().ok();
        }
        self.first.as_ref().map(Arrived::arrived)
    }

    /// Whoever wants to hand something in must wait.
    pub fn is_full(&self) -> bool {
        self.queue.capacity() == 0
    }

    /// Nothing is left and nobody can send any more.
    pub fn is_over(&self) -> bool {
        self.first.is_none() && self.queue.is_empty() && self.queue.is_closed()
    }
}

/// When a door is looked at: at each message, or from time to time while they stream in, because to wake up costs more than
/// to handle one. Best at the end of a burst, which whoever rests between them tells.
#[derive(Debug, Default)]
pub(super) struct Pace {
    taken: u64,
    /// When something was taken last.
    at: Boot,
    rests: Option<Boot>,
}

impl Pace {
    /// After a look at the door: how many messages were taken since the start, and whether more wait. `next`: when the next
    /// burst begins.
    pub fn looked(&mut self, now: Boot, taken: u64, more: bool, next: Boot) {
        let came = std::mem::replace(&mut self.taken, taken) != taken;
        let before = if came { std::mem::replace(&mut self.at, now) } else { self.at };
        self.rests = match self.rests.filter(|until| *until > now) {
            _ if more => None,
            _ if next > now => Some(next + BURST),
            _ if came && now.since(before) <= 2 * REST => Some(now + REST),
            resting => resting,
        };
    }

    /// Until when the door is left alone.
    pub fn rests(&self) -> Option<Boot> {
        self.rests
    }
}

impl Arrived for Urgent {
    fn arrived(&self) -> Boot {
        match self {
            Urgent::Poll { at, .. }
            | Urgent::Line { at, .. }
            | Urgent::Learned { at, .. }
            | Urgent::Discovered { at, .. }
            | Urgent::Attributes { at, .. } => *at,
            Urgent::Said(said) => said.at,
            Urgent::Heartbeat(pushed) => pushed.at,
            Urgent::Command { command, .. } => command.received,
            Urgent::Done(done) | Urgent::Acknowledged { done, .. } => done.at,
            Urgent::DeadLetter(letter) | Urgent::DeadLetterHeld { letter, .. } => letter.at,
        }
    }
}

impl Arrived for Bulk {
    fn arrived(&self) -> Boot {
        match self {
            Bulk::Reading(reading) => reading.at,
            Bulk::Message { at, .. } => *at,
            Bulk::Pushed(pushed) => pushed.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at (ms, messages taken, whether more wait), and until when the door is left alone then.
    #[track_caller]
    fn check(looks: &[(u64, u64, bool)], want: &[Option<u64>]) {
        let looks: Vec<_> = looks.iter().map(|(at, came, more)| (*at, *came, *more, 0)).collect();
        check_bursts(&looks, want);
    }

    /// The same, with the time at which the next burst begins.
    #[track_caller]
    fn check_bursts(looks: &[(u64, u64, bool, u64)], want: &[Option<u64>]) {
        let (mut pace, mut taken) = (Pace::default(), 0);
        let mut rests = |(at, came, more, next): &(u64, u64, bool, u64)| {
            taken += came;
            pace.looked(Boot::from_ms(*at), taken, *more, Boot::from_ms(*next));
            pace.rests().map(Boot::ms)
        };
        assert_eq!(looks.iter().map(&mut rests).collect::<Vec<_>>(), want, "{looks:?}");
    }

    #[test]
    fn what_streams_in_is_left_to_come_together() {
        check(&[(1_000, 1, false), (1_001, 1, false), (1_002, 7, false), (1_003, 0, false)], &[None, Some(1_002), Some(1_003), None]);
        check(&[(1_000, 1, false), (1_002, 1, false), (1_002, 0, false)], &[None, Some(1_003), Some(1_003)]);
    }

    #[test]
    fn what_comes_in_bursts_is_left_until_the_next_one_is_over() {
        check_bursts(&[(1_000, 80, false, 1_005), (1_006, 80, false, 1_011)], &[Some(1_007), Some(1_013)]);
        // Something else wakes the engine while the next burst comes in.
        check_bursts(&[(1_000, 80, false, 1_005), (1_006, 20, false, 1_005), (1_007, 60, true, 1_005)], &[Some(1_007), Some(1_007), None]);
        // The last one.
        check_bursts(&[(1_000, 80, false, 1_005), (1_007, 0, false, 1_005)], &[Some(1_007), None]);
    }

    #[test]
    fn what_comes_alone_is_taken_at_once() {
        check(&[(1_000, 1, false), (1_003, 1, false), (1_006, 3, false)], &[None, None, None]);
    }

    #[test]
    fn what_waits_already_does_not_wait_longer() {
        check(&[(1_000, 64, true), (1_001, 64, true), (1_002, 5, false)], &[None, None, Some(1_003)]);
    }
}
