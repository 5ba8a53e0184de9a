//! What a witness outside the sandbox says of the kernel's clock.
//!
//! Asking whether the clock is synchronised and setting it are one system call, so a unit that may do neither cannot ask.
//! `fieldgate clock` runs in a unit of its own that may do nothing else, and leaves the answer in a file.

use super::{
    clock::{Clock, kernel},
    trust::{Observed, SLEW_MS, drift_ms},
};
use crate::model::Boot;
use std::{fs, io, path::Path, time::Duration};

const FILE: &str = "/run/fieldgate-clock/kernel";
/// How often the witness looks. It is woken by steps of the clock besides.
pub const EVERY: Duration = Duration::from_secs(5);
/// An older word is that of a witness that has ended.
const FRESH: Duration = Duration::from_secs(30);
/// More is no word of ours.
const BYTES: usize = 100;

/// At `at` the wall clock was `offset_ms` before the boot clock, and off by `error_ms` at most. `None`: not synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    at: Boot,
    offset_ms: i64,
    error_ms: Option<u64>,
}

impl Word {
    /// `None`: the kernel does not answer here either.
    pub fn now() -> Option<Word> {
        kernel()?;
        let at = Clock::Real.now();
        let Observed { offset_ms, error_ms, .. } = Clock::Real.observe();
        Some(Word { at, offset_ms, error_ms })
    }

    pub fn read() -> Option<Word> {
        let text = fs::read(FILE).ok().filter(|bytes| bytes.len() <= BYTES)?;
        Word::parse(std::str::from_utf8(&text).ok()?)
    }

    /// Whole or not at all: a reader never sees half a word.
    pub fn leave(&self) -> io::Result<()> {
        let beside = Path::new(FILE).with_extension("new");
        fs::write(&beside, self.text())?;
        fs::rename(beside, FILE)
    }

    pub fn is_synchronised(&self) -> bool {
        self.error_ms.is_some()
    }

    fn parse(text: &str) -> Option<Word> {
        let mut parts = text.split_whitespace();
        let at = Boot::from_ms(parts.next()?.parse().ok()?);
        let offset_ms = parts.next()?.parse().ok()?;
        let error_ms = match parts.next()? {
            "no" => None,
            error => Some(error.parse().ok()?),
        };
        parts.next().is_none().then_some(Word { at, offset_ms, error_ms })
    }

    fn text(&self) -> String {
        let error = self.error_ms.map_or_else(|| "no".to_owned(), |ms| ms.to_string());
        format!("{} {} {error}\n", self.at.ms(), self.offset_ms)
    }

    pub fn is_fresh(&self, now: Boot) -> bool {
        // One of another boot may lie in the future.
        self.at <= now && now - self.at <= FRESH
    }

    /// By how much a clock that shows this offset may be off. An offset that the witness has not seen yet comes from a step
    /// since; of that it will tell.
    pub fn holds(&self, now: Boot, offset_ms: i64) -> Option<u64> {
        let is_same = offset_ms.abs_diff(self.offset_ms) <= SLEW_MS;
        self.error_ms.filter(|_| is_same).map(|error| error.saturating_add(drift_ms(now - self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(error_ms: Option<u64>) -> Word {
        Word { at: Boot::from_ms(100_000), offset_ms: 1_795_000_000_000, error_ms }
    }

    #[test]
    fn a_word_is_read_as_it_was_left() {
        for said in [word(Some(12)), word(None)] {
            assert_eq!(Word::parse(&said.text()), Some(said));
        }
        for broken in ["", "1", "1 2", "1 2 maybe", "1 2 3 4", "-1 2 3", "1 2 -3", "99999999999999999999 2 3"] {
            assert_eq!(Word::parse(broken), None, "{broken:?}");
        }
    }

    #[track_caller]
    fn check(error_ms: Option<u64>, at_s: u64, offset_ms: i64, want: Option<u64>) {
        assert_eq!(word(error_ms).holds(Boot::from_ms(at_s * 1000), offset_ms), want, "{error_ms:?} at {at_s} s, {offset_ms}");
    }

    #[test]
    fn it_holds_for_the_offset_that_was_seen_and_grows_less_sure() {
        let offset = word(None).offset_ms;
        check(Some(12), 100, offset, Some(12));
        check(Some(12), 120, offset + 49, Some(22));
        check(None, 100, offset, None);
        // Somebody has set the clock since: the witness has not said what of it is true.
        check(Some(12), 101, offset + 3_600_000, None);
        check(Some(12), 101, offset - 51, None);
    }

    #[test]
    fn a_word_of_a_witness_that_has_ended_is_not_believed() {
        for (at_s, want) in [(99, false), (100, true), (130, true), (131, false)] {
            assert_eq!(word(None).is_fresh(Boot::from_ms(at_s * 1000)), want, "{at_s} s");
        }
    }
}
