//! A thread with a runtime of its own, so that what floods it takes nothing from the lines and the uplink but its share of
//! a core.
//!
//! A thread that waits for messages is woken by each, which costs more than to handle one. One that is made `resting_while` they
//! stream in looks at them every [`ROUND`], sleeps in between, and takes what came in that time in one go; every [`LONG_ROUND`] while
//! they flood in. What comes from time to time is taken at once, and who has more to do than that never sleeps.

use super::{bursts::Bursts, clock::Clock, stream::Stream};
use crate::model::Boot;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// Threads of one such runtime that wait for the disk. More: the next one waits for its turn.
const BLOCKING: usize = 2;
/// What streams in is looked at so often. It is also how much later such a thread hears of anything else.
const ROUND: Duration = Duration::from_millis(1);
/// The same for what floods in: a core would be busy with little else than waking up.
const LONG_ROUND: Duration = Duration::from_millis(7);
/// Over so long it is counted what comes.
const WINDOW: Duration = Duration::from_millis(10);
/// Messages a second, from which on they stream in: two in a round. With fewer there is little to share.
const STREAM: u64 = 2_000;
/// And from which on they flood in.
const FLOOD: u64 = 4_000;

pub struct OwnThread {
    name: String,
    resting: Option<Resting>,
}

struct Resting {
    clock: Clock,
    /// Messages since the start. `None`: it must not rest.
    taken: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    bursts: Arc<Bursts>,
}

impl OwnThread {
    pub fn named(name: &str) -> OwnThread {
        OwnThread { name: name.to_owned(), resting: None }
    }

    /// `taken` tells how many messages were handled since the start, and nothing while somebody waits for this thread to do something
    /// else. Before each rest after some of them, `bursts` is told.
    pub fn resting_while(self, clock: Clock, taken: impl Fn() -> Option<u64> + Send + Sync + 'static, bursts: Arc<Bursts>) -> OwnThread {
        OwnThread { resting: Some(Resting { clock, taken: Box::new(taken), bursts }), ..self }
    }

    /// Runs the future there; what is given back resolves at its end.
    pub fn run<F, R>(self, run: F) -> io::Result<oneshot::Receiver<()>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = ()>,
    {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(BLOCKING);
        if let Some(Resting { clock, taken, bursts }) = self.resting {
            let looks = Mutex::new(Looks { stream: Stream::over(WINDOW), taken: 0, woke: Boot(0) });
            builder.on_thread_park(move || {
                let (now, Some(count)) = (clock.now(), taken()) else { return };
                let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(round) = round(looks.stream.rate(now, count)) else { return };
                let rest = round.saturating_sub(now.since(looks.woke));
                if std::mem::replace(&mut looks.taken, count) != count {
                    bursts.over(now + rest);
                }
                if !rest.is_zero() {
                    let time = rustix::thread::Timespec { tv_sec: 0, tv_nsec: i64::from(rest.subsec_nanos()) };
                    let _ = rustix::thread::nanosleep(&time);
                }
                looks.woke = clock.now();
            });
        }
        let runtime = builder.build()?;
        let (done, ended) = oneshot::channel();
        let work = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, run());
            drop(local);
            let _ = done.send(());
        };
        std::thread::Builder::new().name(self.name).spawn(work)?;
        Ok(ended)
    }
}

/// When such a thread has looked.
struct Looks {
    stream: Stream,
    /// What was taken before the last rest.
    taken: u64,
    /// When the round began.
    woke: Boot,
}

/// How often it looks, at so many messages a second. `None`: whenever something comes.
fn round(rate: u64) -> Option<Duration> {
    match rate {
        FLOOD.. => Some(LONG_ROUND),
        STREAM.. => Some(ROUND),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A thread that takes what comes: so many messages at once, again and again. Gives whether the end of a burst was told.
    async fn tells_bursts(at_once: u64, is_held_up: bool) -> bool {
        let (taken, bursts) = (Arc::new(AtomicU64::new(0)), Arc::new(Bursts::default()));
        let (give, mut take) = tokio::sync::mpsc::channel::<()>(2_000);
        let (count, counted) = (taken.clone(), taken.clone());
        let counted = move || (!is_held_up).then(|| counted.load(Ordering::Relaxed));
        let thread = OwnThread::named("test").resting_while(Clock::Real, counted, bursts.clone());
        let run = move || async move {
            while take.recv().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let ended = thread.run(run).unwrap();
        let mut sent = 0;
        for _ in 0..50 {
            for _ in 0..at_once {
                give.send(()).await.unwrap();
            }
            sent += at_once;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(give);
        ended.await.unwrap();
        assert_eq!(taken.load(Ordering::Relaxed), sent);
        bursts.next() > Boot(0)
    }

    #[tokio::test]
    async fn the_end_of_a_burst_is_told_while_messages_flood_in_and_nobody_is_held_up() {
        assert!(tells_bursts(1_000, false).await);
        assert!(!tells_bursts(1_000, true).await, "who is held up waits for no rest");
        assert!(!tells_bursts(1, false).await, "a few are no stream");
    }

    #[test]
    fn a_thread_looks_less_often_while_messages_stream_in_and_still_less_while_they_flood_in() {
        let check = |rate, round_ms: Option<u64>| assert_eq!(round(rate), round_ms.map(Duration::from_millis), "{rate}");
        check(0, None);
        check(1_999, None);
        check(2_000, Some(1));
        check(3_999, Some(1));
        check(4_000, Some(7));
        check(u64::MAX, Some(7));
    }
}
