//! Tells at once that somebody has set the wall clock: a timer that the kernel cancels then.

use super::clock::Clock;
use rustix::{
    fd::{AsFd, OwnedFd},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use std::{future::pending, io::ErrorKind};
use tokio::net::unix::pipe::Receiver;

/// Far enough, and small enough for a 32-bit kernel.
const NEVER_S: i64 = i32::MAX as i64;

/// `None`: a simulated clock, or a kernel without such timers. Then the clock is only looked at from time to time.
///
/// The receiver of a pipe is the runtime's plainest reader of a descriptor, and the only one without `unsafe`.
#[derive(Debug)]
pub struct Steps(Option<Receiver>);

impl Steps {
    /// In a runtime that does IO, if the clock is the real one.
    pub fn of(clock: &Clock) -> Steps {
        if !matches!(clock, Clock::Real) {
            return Steps(None);
        }
        let timer = timer().and_then(Receiver::from_owned_fd_unchecked);
        if let Err(e) = &timer {
            tracing::warn!(error = %e, "steps of the wall clock are noticed some seconds late");
        }
        Steps(timer.ok())
    }

    /// Returns when the wall clock was set. May be dropped and called again.
    pub async fn next(&mut self) {
        let Some(timer) = &self.0 else { return pending().await };
        while timer.readable().await.is_ok() {
            // ECANCELED is what we wait for; any other end of the wait is looked at as well, which costs little.
            match timer.try_read(&mut [0u8; 8]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                _ if arm(timer).is_ok() => return,
                _ => break,
            }
        }
        self.0 = None;
        pending().await
    }
}

fn timer() -> std::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    arm(&timer)?;
    Ok(timer)
}

fn arm(timer: &impl AsFd) -> std::io::Result<()> {
    let never = Itimerspec { it_interval: Timespec::default(), it_value: Timespec { tv_sec: NEVER_S, tv_nsec: 0 } };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A timer that expires stands for one that is cancelled: setting the machine's clock is no business of a test.
    #[tokio::test]
    async fn it_is_quiet_until_something_happens_and_quiet_again_after_it() {
        let mut steps = Steps::of(&Clock::Real);
        let quiet = async |steps: &mut Steps| tokio::time::timeout(Duration::from_millis(50), steps.next()).await.is_err();
        assert!(quiet(&mut steps).await, "nobody has set the clock");
        let soon = Itimerspec { it_interval: Timespec::default(), it_value: Timespec { tv_sec: 0, tv_nsec: 20_000_000 } };
        timerfd_settime(steps.0.as_ref().unwrap(), TimerfdTimerFlags::empty(), &soon).unwrap();
        tokio::time::timeout(Duration::from_secs(5), steps.next()).await.expect("it is told");
        assert!(quiet(&mut steps).await, "it waits for the next one");
    }

    #[tokio::test]
    async fn a_simulated_clock_is_never_set_by_the_machine() {
        let clock = Clock::Paused { start: tokio::time::Instant::now(), base: crate::model::Boot(0), offset_ms: 0 };
        let mut steps = Steps::of(&clock);
        assert!(steps.0.is_none());
        assert!(tokio::time::timeout(Duration::from_millis(10), steps.next()).await.is_err());
    }
}
