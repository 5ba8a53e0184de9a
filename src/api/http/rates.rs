//! How often each caller may ask: so many a second, and so many at once after a rest. Pure.

use crate::{limits, model::Boot};
use std::{collections::BTreeMap, time::Duration};

/// What one kind of caller may do.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub a_second: u32,
    pub at_once: u32,
}

pub const DEVICE: Rate = Rate { a_second: limits::API_DEVICE_RATE, at_once: limits::API_DEVICE_BURST };
pub const PERSON: Rate = Rate { a_second: limits::API_PERSON_RATE, at_once: limits::API_PERSON_BURST };

/// Of each caller the moment at which everything it asked for is paid.
#[derive(Debug, Default)]
pub struct Rates {
    paid_at: BTreeMap<String, Boot>,
}

impl Rates {
    /// `Err`: too often; how long to wait.
    pub fn take(&mut self, who: &str, rate: Rate, now: Boot) -> Result<(), Duration> {
        let price = Duration::from_secs(1) / rate.a_second;
        let paid = self.paid_at.get(who).copied().unwrap_or(now).max(now);
        let debt = paid.since(now) + price;
        let most = price * rate.at_once;
        if debt > most {
            return Err(debt - most);
        }
        if let Some(known) = self.paid_at.get_mut(who) {
            *known = paid + price;
            return Ok(());
        }
        if self.paid_at.len() >= limits::API_RATES {
            self.paid_at.retain(|_, paid| *paid > now);
        }
        if self.paid_at.len() >= limits::API_RATES {
            return Err(Duration::from_secs(1));
        }
        self.paid_at.insert(who.to_owned(), paid + price);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let (mut rates, rate) = (Rates::default(), Rate { a_second: 10, at_once: 3 });
        let mut at = |ms: u64| rates.take("a", rate, Boot::from_ms(ms)).map_err(|wait| wait.as_millis());
        assert_eq!([at(0), at(0), at(0), at(0)], [Ok(()), Ok(()), Ok(()), Err(100)]);
        assert_eq!([at(99), at(100), at(100)], [Err(1), Ok(()), Err(100)]);
        assert_eq!([at(10_000), at(10_000), at(10_000), at(10_000)], [Ok(()), Ok(()), Ok(()), Err(100)]);
    }

    #[test]
    fn one_caller_costs_another_nothing_and_the_memory_is_bounded() {
        let mut rates = Rates::default();
        for n in 0..limits::API_RATES {
            rates.take(&n.to_string(), DEVICE, Boot::from_ms(0)).unwrap();
        }
        assert!(rates.take("new", DEVICE, Boot::from_ms(0)).is_err(), "nobody has rested");
        assert!(rates.take("new", DEVICE, Boot::from_ms(1000)).is_ok());
        assert_eq!(rates.paid_at.len(), 1);
    }

    proptest! {
        /// In any stretch of time no more than the burst and what the rate gives in it.
        #[test]
        fn no_stretch_of_time_has_more(steps in proptest::collection::vec(0..60u64, 1..200)) {
            let (mut rates, rate) = (Rates::default(), Rate { a_second: 20, at_once: 5 });
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if rates.take("a", rate, Boot::from_ms(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (n, from) in taken.iter().enumerate() {
                for (m, to) in taken.iter().enumerate().skip(n) {
                    prop_assert!((m - n) as u64 <= 5 + (to - from) / 50, "{n}..{m}");
                }
            }
        }
    }
}
