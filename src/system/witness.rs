//! What a witness outside the sandbox says of the kernel's clock.
//!
//! Asking whether the clock is synchronised and setting it are one system call, so a unit that may do neither cannot ask.
//! `fieldgate clock` runs in a unit of its own that may do nothing else, and leaves the answer in a file.
//!
//! Where no crate asks the kernel (32 bits), systemd-timedated is asked, who knows whether, but not how well.

use super::{
    clock::{Clock, Kept, kernel},
    trust::{Observed, SLEW_MS, drift_ms},
};
use crate::model::Boot;
use std::{fs, io, path::Path, process::Command, time::Duration};

const FILE: &str = "/run/fieldgate-clock/kernel";
/// How often the witness looks. It is woken by steps of the clock besides.
pub const EVERY: Duration = if cfg!(target_pointer_width = "64") { Duration::from_secs(5) } else { Duration::from_secs(20) };
/// An older word is that of a witness that has ended.
const FRESH: Duration = Duration::from_secs(30);
/// More is no word of ours.
const BYTES: usize = 100;

/// At `at` the wall clock was `offset_ms` before the boot clock, and kept so well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    at: Boot,
    offset_ms: i64,
    kept: Kept,
}

impl Word {
    /// `None`: nobody answers here either.
    pub fn now() -> Option<Word> {
        let kept = kernel().or_else(timedated)?;
        let at = Clock::Real.now();
        let Observed { offset_ms, .. } = Clock::Real.observe();
        Some(Word { at, offset_ms, kept })
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
        self.kept != Kept::No
    }

    fn parse(text: &str) -> Option<Word> {
        let mut parts = text.split_whitespace();
        let at = Boot::from_ms(parts.next()?.parse().ok()?);
        let offset_ms = parts.next()?.parse().ok()?;
        let kept = match parts.next()? {
            "no" => Kept::No,
            "yes" => Kept::Yes { error_ms: None },
            error => Kept::Yes { error_ms: Some(error.parse().ok()?) },
        };
        parts.next().is_none().then_some(Word { at, offset_ms, kept })
    }

    fn text(&self) -> String {
        let kept = match self.kept {
            Kept::No => "no".to_owned(),
            Kept::Yes { error_ms } => error_ms.map_or_else(|| "yes".to_owned(), |ms| ms.to_string()),
        };
        format!("{} {} {kept}\n", self.at.ms(), self.offset_ms)
    }

    pub fn is_fresh(&self, now: Boot) -> bool {
        // One of another boot may lie in the future.
        self.at <= now && now - self.at <= FRESH
    }

    /// How well a clock that shows this offset is kept. An offset that the witness has not seen yet comes from a step since; of
    /// that it will tell.
    pub fn holds(&self, now: Boot, offset_ms: i64) -> Kept {
        match self.kept {
            Kept::Yes { error_ms } if offset_ms.abs_diff(self.offset_ms) <= SLEW_MS => {
                Kept::Yes { error_ms: error_ms.map(|error| error.saturating_add(drift_ms(now - self.at))) }
            }
            _ => Kept::No,
        }
    }
}

/// What systemd-timedated says, which asks the kernel.
fn timedated() -> Option<Kept> {
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    said(std::str::from_utf8(&asked.stdout).ok()?)
}

fn said(answer: &str) -> Option<Kept> {
    match answer.trim() {
        "yes" => Some(Kept::Yes { error_ms: None }),
        "no" => Some(Kept::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSURE: Kept = Kept::Yes { error_ms: None };

    fn sure(error_ms: u64) -> Kept {
        Kept::Yes { error_ms: Some(error_ms) }
    }

    fn word(kept: Kept) -> Word {
        Word { at: Boot::from_ms(100_000), offset_ms: 1_795_000_000_000, kept }
    }

    #[test]
    fn a_word_is_read_as_it_was_left() {
        for said in [word(sure(12)), word(UNSURE), word(Kept::No)] {
            assert_eq!(Word::parse(&said.text()), Some(said));
        }
        for broken in ["", "1", "1 2", "1 2 maybe", "1 2 3 4", "-1 2 3", "1 2 -3", "99999999999999999999 2 3"] {
            assert_eq!(Word::parse(broken), None, "{broken:?}");
        }
    }

    #[track_caller]
    fn check(kept: Kept, at_s: u64, offset_ms: i64, want: Kept) {
        assert_eq!(word(kept).holds(Boot::from_ms(at_s * 1000), offset_ms), want, "{kept:?} at {at_s} s, {offset_ms}");
    }

    #[test]
    fn it_holds_for_the_offset_that_was_seen_and_grows_less_sure() {
        let offset = word(Kept::No).offset_ms;
        check(sure(12), 100, offset, sure(12));
        check(sure(12), 120, offset + 49, sure(22));
        check(UNSURE, 120, offset, UNSURE);
        check(Kept::No, 100, offset, Kept::No);
        // Somebody has set the clock since: the witness has not said what of it is true.
        check(sure(12), 101, offset + 3_600_000, Kept::No);
        check(UNSURE, 101, offset - 51, Kept::No);
    }

    #[test]
    fn a_word_of_a_witness_that_has_ended_is_not_believed() {
        for (at_s, want) in [(99, false), (100, true), (130, true), (131, false)] {
            assert_eq!(word(Kept::No).is_fresh(Boot::from_ms(at_s * 1000)), want, "{at_s} s");
        }
    }

    #[test]
    fn an_answer_of_timedated_is_yes_or_no_or_none() {
        assert_eq!([said("yes\n"), said("no\n"), said(""), said("Failed to connect")], [Some(UNSURE), Some(Kept::No), None, None]);
    }
}
