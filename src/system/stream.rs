//! How often something happens: what comes in streams is left to come together, what comes from time to time waits for nothing.

use crate::model::Boot;
use std::time::Duration;

/// Counts over a window, and knows the rate of the last one that was complete.
#[derive(Debug)]
pub struct Stream {
    window: Duration,
    since: Boot,
    before: u64,
    /// A second.
    rate: u64,
}

impl Stream {
    pub const fn over(window: Duration) -> Stream {
        Stream { window, since: Boot(0), before: 0, rate: 0 }
    }

    /// How many there were a second. `count`: since the start. To be asked each time before a rest.
    pub fn rate(&mut self, now: Boot, count: u64) -> u64 {
        let time = now.since(self.since);
        if time >= self.window {
            let came = u128::from(count - self.before) * Duration::from_secs(1).as_nanos();
            self.rate = u64::try_from(came / time.as_nanos()).unwrap_or(u64::MAX);
            (self.since, self.before) = (now, count);
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_window_and_none_after_a_pause() {
        let mut stream = Stream::over(Duration::from_millis(10));
        let mut rate = |at_ms, count| stream.rate(Boot::from_ms(at_ms), count);
        assert_eq!(rate(1_000, 50), 50, "of the second before");
        assert_eq!(rate(1_005, 100), 50, "too early to say");
        assert_eq!(rate(1_010, 110), 6_000);
        assert_eq!(rate(1_019, 111), 6_000);
        assert_eq!(rate(1_020, 111), 100);
        assert_eq!(rate(1_030, 200), 8_900);
        assert_eq!(rate(5_000, 201), 0);
    }
}
