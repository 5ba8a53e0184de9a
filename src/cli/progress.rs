//! What a long command tries now, how much is done and when it ends: a bar on a terminal, else a line every 10 s. On stderr,
//! so that stdout holds the answer alone.

use super::{
    Out,
    out::{Paint, bar, cut, width},
};
use crate::{model::Boot, system::clock::Clock};
use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

/// What is over within this shows nothing.
const FROM: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);
const WIDE: usize = 22;

pub struct Progress {
    out: Out,
    terminal: bool,
    clock: Clock,
    started: Boot,
    last: Boot,
    drawn: bool,
}

/// One look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// `9600 8N1   unit  87 of 247`
    pub what: String,
    /// Of 1.
    pub part: f64,
    /// `3 found`
    pub so_far: String,
    pub left: Option<Duration>,
}

impl Look {
    /// As a part of something that takes so much more time.
    pub fn with(self, ahead: Duration, elapsed: Duration) -> Look {
        let Some(left) = self.left.filter(|_| !ahead.is_zero()).map(|left| left + ahead) else { return self };
        let part = elapsed.as_secs_f64() / (elapsed + left).as_secs_f64().max(0.001);
        Look { part, left: Some(left), ..self }
    }
}

impl Progress {
    pub fn new(out: &Out, clock: Clock) -> Progress {
        let now = clock.now();
        let terminal = std::io::stderr().is_terminal();
        Progress { out: out.clone(), terminal, clock, started: now, last: now, drawn: false }
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.now() - self.started
    }

    /// Shows it if it is time to; `look` is asked only then.
    pub fn show(&mut self, look: impl FnOnce() -> Look) {
        let now = self.clock.now();
        let due = if self.terminal { now - self.started >= FROM && now - self.last >= REDRAW } else { now - self.last >= LINE_EVERY };
        if !due || self.out.quiet {
            return;
        }
        self.last = now;
        // A line that wraps could not be taken away again; the last column stays free for the cursor.
        let fit = |line: String| match width(std::io::stderr()) {
            Some(wide) => cut(&line, wide.saturating_sub(1), self.out.ascii),
            None => line,
        };
        let line = if self.terminal { fit(self.bar(&look())) } else { text(&look()) };
        let mut stderr = std::io::stderr().lock();
        let _ = if self.terminal { write!(stderr, "\r{line}\x1b[K") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
        self.drawn = self.terminal;
    }

    /// Takes the bar away, for what is to be said now.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }

    /// Something said on the way.
    pub fn note(&mut self, text: &str) {
        self.clear();
        if !self.out.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    fn bar(&self, look: &Look) -> String {
        let left = look.left.map(|l| format!("   {} left", took(l))).unwrap_or_default();
        let so_far = self.out.paint(Paint::Dim, &format!("{}{left}", look.so_far));
        format!("  {}  {}  {so_far}", look.what, bar(look.part, WIDE, self.out.ascii))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn text(look: &Look) -> String {
    let what = look.what.split_whitespace().collect::<Vec<_>>().join(" ");
    let left = look.left.map(|l| format!(", {} left", took(l))).unwrap_or_default();
    format!("{what}, {:.0} % done, {}{left}", look.part * 100.0, look.so_far)
}

/// `0.4 s`, `48 s`, `2 min 4 s`, `1 h 5 min`: at most two units, as exact as a person waits.
pub fn took(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.1} s", d.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 if s.is_multiple_of(60) => format!("{} min", s / 60),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_at_most_two_units() {
        for (ms, want) in
            [(420, "0.4 s"), (9_940, "9.9 s"), (48_200, "48 s"), (120_000, "2 min"), (124_000, "2 min 4 s"), (3_900_000, "1 h 5 min")]
        {
            assert_eq!(took(Duration::from_millis(ms)), want);
        }
    }

    #[test]
    fn without_a_terminal_a_line_says_it() {
        let look =
            Look { what: "9600 8N1   unit  87 of 247".into(), part: 0.35, so_far: "3 found".into(), left: Some(Duration::from_secs(72)) };
        assert_eq!(text(&look), "9600 8N1 unit 87 of 247, 35 % done, 3 found, 1 min 12 s left");
    }
}
