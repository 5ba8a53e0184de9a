//! How long to wait before a start, after runs that ended badly soon after theirs.
//!
//! systemd starts a program that ended again at once, and never gives up. A defect that comes back at each start would
//! write to the card a hundred thousand times a day. So a run leaves a mark in the runtime directory, which is memory and which
//! systemd keeps over its own restarts only; a run that ends in order takes it away. Without systemd nothing waits.

use super::{clock::Clock, notify};
use crate::{limits, model::Boot};
use std::{env, fs, path::PathBuf, time::Duration};

const FILE: &str = "ended-badly";

/// Of the run before: when it began, and how many before it had ended soon, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    began: Boot,
    soon: u32,
}

/// One run, from its start to its end in order.
#[derive(Debug)]
pub struct Run {
    file: Option<PathBuf>,
}

/// Waits as long as the ends before this start ask for, and leaves the mark. Before anything that touches the card.
pub fn begin() -> Run {
    // It may name several; the first is the one that holds the control socket.
    let folder = env::var_os("RUNTIME_DIRECTORY").and_then(|folders| env::split_paths(&folders).next());
    let Some(file) = folder.map(|f| f.join(FILE)) else { return Run { file: None } };
    let soon = read(&file).map_or(0, |mark| soon(mark, Clock::Real.now()));
    let wait = wait(soon);
    if !wait.is_zero() {
        // Taken away meanwhile: whoever ends a run that waits is a person, and the next start is not to wait.
        let _ = fs::remove_file(&file);
        tracing::warn!(ends = soon, wait_s = wait.as_secs(), "the runs before this one ended soon after their start; waiting");
        notify::status(&format!("waits {} s: the last {soon} runs ended soon after their start", wait.as_secs()));
        std::thread::sleep(wait);
    }
    let mark = Mark { began: Clock::Real.now(), soon };
    // Where it cannot be written nothing waits.
    let _ = fs::write(&file, format!("{} {}\n", mark.began.0, mark.soon));
    Run { file: Some(file) }
}

impl Run {
    pub fn ended_in_order(self) {
        if let Some(file) = self.file {
            let _ = fs::remove_file(file);
        }
    }
}

fn read(file: &std::path::Path) -> Option<Mark> {
    let text = fs::read_to_string(file).ok()?;
    let (began, soon) = text.trim_end().split_once(' ')?;
    Some(Mark { began: Boot(began.parse().ok()?), soon: soon.parse().ok()? })
}

/// How many runs in a row ended soon, with the one that left this mark.
fn soon(mark: Mark, now: Boot) -> u32 {
    if now - mark.began < limits::RUN_LASTED { mark.soon.saturating_add(1) } else { 0 }
}

/// Nothing at first, because most ends come alone; then doubling.
fn wait(soon: u32) -> Duration {
    let Some(more) = soon.checked_sub(limits::RESTARTS_AT_ONCE + 1) else { return Duration::ZERO };
    Duration::from_secs(1).saturating_mul(1 << more.min(16)).min(limits::RESTART_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lasted_s: &[u64], waits_s: &[u64]) {
        let mut mark = None;
        let mut now = Boot::from_ms(0);
        let mut got = Vec::new();
        for lasted in lasted_s {
            let soon = mark.map_or(0, |mark| soon(mark, now));
            got.push(wait(soon).as_secs());
            now = now + wait(soon);
            mark = Some(Mark { began: now, soon });
            now = now + Duration::from_secs(*lasted);
        }
        assert_eq!(got, waits_s);
    }

    #[test]
    fn runs_that_end_soon_are_started_ever_later_and_one_that_lasted_begins_anew() {
        check(&[0; 11], &[0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        check(&[59; 5], &[0, 0, 0, 1, 2]);
        check(&[60; 5], &[0; 5]);
        check(&[3, 3, 3, 3, 3, 600, 3, 3, 3, 3], &[0, 0, 0, 1, 2, 4, 0, 0, 0, 1]);
        assert_eq!(wait(u32::MAX), limits::RESTART_WAIT);
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(read(&file), None);
        for (text, mark) in [
            ("", None),
            ("12", None),
            ("x y", None),
            ("-1 2\n", None),
            ("12 3\n", Some(Mark { began: Boot(12), soon: 3 })),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file), mark, "{text:?}");
        }
    }
}
