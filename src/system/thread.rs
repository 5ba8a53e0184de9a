//! A thread with a runtime of its own, so that what floods it takes nothing from the lines and the uplink but its share of
//! a core.
//!
//! A thread that waits for messages is woken by each, which costs more than to handle one. One that is made `resting_while` they
//! stream in sleeps for [`REST`] before it waits, and takes what came in that time in one go. What comes from time to time is
//! taken at once.

use super::clock::Clock;
use crate::model::Boot;
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
/// Over so long it is counted what comes.
const WINDOW: Duration = Duration::from_millis(10);
/// Messages in a rest, from which on they stream in. With fewer there is little to share.
const STREAM: u64 = 2;

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
            let stream = Mutex::new(Stream::default());
            builder.on_thread_park(move || {
                if stream.lock().unwrap_or_else(PoisonError::into_inner).rests(clock.now(), taken()) {
                    let rest = rustix::thread::Timespec { tv_sec: 0, tv_nsec: i64::from(REST.subsec_nanos()) };
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

/// Whether messages stream in.
#[derive(Debug, Default)]
struct Stream {
    since: Boot,
    before: u64,
    streams: bool,
}

impl Stream {
    /// To be asked each time before the thread waits.
    fn rests(&mut self, now: Boot, taken: u64) -> bool {
        let time = now.since(self.since);
        if time >= WINDOW {
            let came = u128::from(taken - self.before);
            self.streams = came * REST.as_micros() >= u128::from(STREAM) * time.as_micros();
            (self.since, self.before) = (now, taken);
        }
        self.streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_rests_while_messages_stream_in_and_not_for_one_that_comes_alone() {
        let mut stream = Stream::default();
        let mut rests = |at_ms, taken| stream.rests(Boot::from_ms(at_ms), taken);
        assert!(!rests(1_000, 50), "it has just begun");
        assert!(!rests(1_005, 100));
        assert!(rests(1_010, 110), "six in a millisecond");
        assert!(rests(1_019, 111), "too early to say");
        assert!(!rests(1_020, 111));
        // After a pause the first one waits for nothing.
        assert!(rests(1_030, 200) && !rests(5_000, 201) && !rests(5_001, 202));
    }
}
