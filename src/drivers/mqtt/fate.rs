//! What became of a publication that somebody follows: a command on its way to a device.

use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// ```text
/// Waiting ──► Written ──► Acknowledged
///    │  │        └──────► Unanswered     no receiver is left that could acknowledge it
///    │  └──► Cancelled                   taken back in time: it never goes out
///    └──► Nobody, Unsent                 nobody subscribed; gone before it was written
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fated {
    Waiting,
    Written,
    Acknowledged,
    Unanswered,
    Cancelled,
    Nobody,
    Unsent,
}

/// Followed by one waiter on any thread.
#[derive(Debug, Default)]
pub struct Fate {
    state: AtomicU8,
    changed: Notify,
}

impl Fate {
    pub fn now(&self) -> Fated {
        let state = self.state.load(Ordering::Acquire);
        let all = [Fated::Waiting, Fated::Written, Fated::Acknowledged, Fated::Unanswered, Fated::Cancelled, Fated::Nobody, Fated::Unsent];
        all.into_iter().find(|fated| *fated as u8 == state).unwrap_or(Fated::Unsent)
    }

    /// Resolves once it is neither `than` nor anything before.
    pub async fn later(&self, than: Fated) -> Fated {
        loop {
            let now = self.now();
            if now as u8 > than as u8 {
                return now;
            }
            self.changed.notified().await;
        }
    }

    /// Takes it back. `false`: too late, it was or is being sent.
    pub fn cancel(&self) -> bool {
        self.turn(Fated::Waiting, Fated::Cancelled)
    }

    /// `false`: it was taken back.
    pub fn written(&self) -> bool {
        self.turn(Fated::Waiting, Fated::Written) || self.now() != Fated::Cancelled
    }

    pub fn end(&self, fated: Fated) {
        if !self.turn(Fated::Written, fated) {
            self.turn(Fated::Waiting, fated);
        }
    }

    /// Nobody holds it any more.
    pub fn lost(&self) {
        if !self.turn(Fated::Written, Fated::Unanswered) {
            self.turn(Fated::Waiting, Fated::Unsent);
        }
    }

    fn turn(&self, from: Fated, to: Fated) -> bool {
        let turned = self.state.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if turned {
            self.changed.notify_one();
        }
        turned
    }
}
