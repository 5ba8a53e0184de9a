//! A thread with a runtime of its own, so that what floods it takes nothing from the lines and the uplink but its share of
//! a core.
//!
//! A thread that waits for messages is woken by each, which costs more than to handle one. One that is made `resting_while` they
//! stream in sleeps for [`REST`] before it waits, and takes what came in that time in one go; [`LONG_REST`] while they flood in. What
//! comes from time to time is taken at once.

use super::{clock::Clock, stream::Stream};
use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// Threads of one such runtime that wait for the disk. More: the next one waits for its turn.
const BLOCKING: usize = 2;
/// What streams in is left to come together for so long. It is also how much later such a thread hears of anything else.
const REST: Duration = Duration::from_millis(1);
/// The same for what floods in: a core would be busy with little else than waking up.
const LONG_REST: Duration = Duration::from_millis(3);
/// Over so long it is counted what comes.
const WINDOW: Duration = Duration::from_millis(10);
/// Messages a second, from which on they stream in: two in a rest. With fewer there is little to share.
const STREAM: u64 = 2_000;
/// And from which on they flood in.
const FLOOD: u64 = 4_000;

pub struct OwnThread {
    name: String,
    resting: Option<Resting>,
}

struct Resting {
    clock: Clock,
    /// Messages since the start.
    taken: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl OwnThread {
    pub fn named(name: &str) -> OwnThread {
        OwnThread { name: name.to_owned(), resting: None }
    }

    /// `taken` tells how many messages were handled since the start.
    pub fn resting_while(self, clock: Clock, taken: impl Fn() -> u64 + Send + Sync + 'static) -> OwnThread {
        OwnThread { resting: Some(Resting { clock, taken: Box::new(taken) }), ..self }
    }

    /// Runs the future there; what is given back resolves at its end.
    pub fn run<F, R>(self, run: F) -> io::Result<oneshot::Receiver<()>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = ()>,
    {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(BLOCKING);
        if let Some(Resting { clock, taken }) = self.resting {
            let stream = Mutex::new(Stream::over(WINDOW));
            builder.on_thread_park(move || {
                let rate = stream.lock().unwrap_or_else(PoisonError::into_inner).rate(clock.now(), taken());
                if let Some(rest) = rest(rate) {
                    let rest = rustix::thread::Timespec { tv_sec: 0, tv_nsec: i64::from(rest.subsec_nanos()) };
                    let _ = rustix::thread::nanosleep(&rest);
                }
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

/// How long it rests before it waits, at so many messages a second.
fn rest(rate: u64) -> Option<Duration> {
    match rate {
        FLOOD.. => Some(LONG_REST),
        STREAM.. => Some(REST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_rests_while_messages_stream_in_and_longer_while_they_flood_in() {
        let check = |rate, rest_ms: Option<u64>| assert_eq!(rest(rate), rest_ms.map(Duration::from_millis), "{rate}");
        check(0, None);
        check(1_999, None);
        check(2_000, Some(1));
        check(3_999, Some(1));
        check(4_000, Some(3));
        check(u64::MAX, Some(3));
    }
}
