//! systemd: ready, stopping, status line, watchdog. Without systemd every call does nothing.

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A writer that has not returned for longer than this has hung: the watchdog is no longer fed.
const WRITER_HANGS_AFTER: Duration = Duration::from_secs(30);

pub fn ready(status: &str) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

/// What `systemctl status` shows until the next word.
pub fn status(text: &str) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(text)]);
}

/// It begins anew, or looks whether it has to: `systemctl reload` waits for the next [`ready`].
pub fn reloading() {
    let since = sd_notify::NotifyState::monotonic_usec_now();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading].into_iter().chain(since).collect::<Vec<_>>());
}

pub fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Status("stopping: sending what is in memory")]);
}

/// Fed only while the engine turns and the database writer returns: never by a timer that would outlive them.
pub async fn feed_watchdog(turns: impl Fn() -> u64, writer_age: impl Fn() -> Duration, stop: CancellationToken) {
    let Some(every) = sd_notify::watchdog_enabled().map(|d| d / 2) else { return };
    let mut last = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let now = turns();
        if should_pet(now, last, writer_age()) {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
        last = Some(now);
    }
}

fn should_pet(turns: u64, last: Option<u64>, writer_age: Duration) -> bool {
    last.is_none_or(|last| turns > last) && writer_age < WRITER_HANGS_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_starves_when_the_engine_stands_or_the_writer_hangs() {
        assert!(should_pet(5, Some(4), Duration::ZERO));
        assert!(!should_pet(4, Some(4), Duration::ZERO));
        assert!(!should_pet(5, Some(4), Duration::from_secs(31)));
    }
}
