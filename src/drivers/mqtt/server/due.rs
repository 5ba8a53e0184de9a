//! Whose acknowledgements can go out. A commit or the cloud's word keeps the receipts of hundreds of connections at once, on
//! other threads: one look of the endpoint serves them all, instead of a wake-up for each.
//!
//! Bounded: a session is named for what is held of it, which `limits::MQTT_HELD` bounds.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Due {
    sessions: Mutex<Vec<u64>>,
    told: Notify,
}

impl Due {
    pub fn tell(&self, session: u64) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push(session);
        if sessions.len() == 1 {
            drop(sessions);
            self.told.notify_one();
        }
    }

    /// All that were named since the last call; waits for one.
    pub async fn next(&self) -> Vec<u64> {
        self.told.notified().await;
        std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn whoever_was_named_is_looked_at_once_and_nobody_is_forgotten() {
        let due = Arc::new(Due::default());
        let told = due.clone();
        let teller = std::thread::spawn(move || (0..10_000).for_each(|n| told.tell(n)));
        let mut seen = Vec::new();
        while seen.len() < 10_000 {
            seen.extend(due.next().await);
        }
        teller.join().unwrap();
        assert!(seen.into_iter().eq(0..10_000));
    }
}
