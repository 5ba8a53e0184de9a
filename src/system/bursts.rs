//! What streams in comes in bursts: between two, the thread that hands it in rests. Whoever takes it waits for the end of a
//! burst and has it whole, with one wake-up and without waiting for more that cannot come.

use crate::model::Boot;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Bursts {
    next: AtomicU64,
    over: Notify,
}

impl Bursts {
    /// All is handed in, and no more comes before `next`.
    pub fn over(&self, next: Boot) {
        self.next.store(next.0, Ordering::Release);
        self.over.notify_one();
    }

    /// Something was handed in that must not wait for the end of a burst.
    pub fn hurry(&self) {
        self.over.notify_one();
    }

    /// Resolves when one is over, for a single waiter. Also later, if nobody waited then.
    pub async fn ended(&self) {
        self.over.notified().await;
    }

    /// No more comes before this moment; it has passed unless somebody rests.
    pub fn next(&self) -> Boot {
        Boot(self.next.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_burst_is_told_once_also_to_one_who_comes_late() {
        let bursts = Bursts::default();
        assert_eq!(bursts.next(), Boot(0), "nobody rests");
        bursts.over(Boot(7));
        bursts.over(Boot(9));
        bursts.ended().await;
        assert_eq!(bursts.next(), Boot(9));
        let again = bursts.ended();
        tokio::pin!(again);
        tokio::select! {
            biased;
            () = &mut again => panic!("none was over since"),
            () = std::future::ready(()) => {}
        }
        bursts.hurry();
        again.await;
        assert_eq!(bursts.next(), Boot(9), "who hurries says nothing of the next one");
    }
}
