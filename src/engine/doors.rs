//! The receiving end of a door, with a look at the message that waits first: timers run only up to its arrival.

use crate::model::{Boot, Bulk, Urgent};
use tokio::sync::mpsc;

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
