//! How results are said: colour, glyphs, JSON, numbers and ages. One vocabulary for every subcommand.

use super::Global;
use std::io::{IsTerminal, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// Resolved once from the global flags and the terminal.
#[derive(Debug, Clone)]
pub struct Out {
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
    pub color: bool,
    /// The same for stderr.
    pub color_err: bool,
    pub ascii: bool,
    /// Columns of the terminal that a table has to fit; `None`: piped, or all of it is wanted.
    pub width: Option<usize>,
}

/// Sixteen ANSI colours only, so that the reader's theme rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Bold,
    Dim,
    Green,
    Amber,
    Red,
    Grey,
    Blue,
}

impl Out {
    pub fn new(global: &Global) -> Out {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let color = |is_terminal: bool| match global.color {
            Color::Always => !global.json,
            Color::Never => false,
            Color::Auto => is_terminal && !plain && !global.json,
        };
        let (color, color_err) = (color(std::io::stdout().is_terminal()), color(std::io::stderr().is_terminal()));
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|k| std::env::var(k).ok().filter(|v| !v.is_empty()));
        let utf8 = locale.is_none_or(|l| {
            let l = l.to_ascii_lowercase();
            l.contains("utf-8") || l.contains("utf8")
        });
        let (ascii, width) = (global.ascii || !utf8, if global.wide { None } else { width(std::io::stdout()) });
        Out { json: global.json, quiet: global.quiet, verbose: global.verbose, color, color_err, ascii, width }
    }

    /// For tests and for parts that only need plain text.
    pub fn plain() -> Out {
        Out { json: false, quiet: false, verbose: 0, color: false, color_err: false, ascii: false, width: None }
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Green => "32",
            Paint::Amber => "33",
            Paint::Red => "31",
            Paint::Grey => "90",
            Paint::Blue => "34",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The glyph of a state word, of a line's or an uplink's; shape before colour.
    pub fn glyph(&self, word: &str) -> String {
        let (glyph, ascii, paint) = match word {
            "online" | "up" | "good" | "catching_up" | "synchronised" | "well" => ("●", "+", Paint::Green),
            "suspect" | "slow" | "warning" | "estimated" => ("◐", "~", Paint::Amber),
            "offline" | "down" | "trouble" => ("✕", "x", Paint::Red),
            "maintenance" => ("◇", "m", Paint::Blue),
            _ => ("◌", "?", Paint::Grey),
        };
        self.paint(paint, if self.ascii { ascii } else { glyph })
    }

    /// The answer. A closed pipe (`| head`) ends the program quietly.
    pub fn say(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Lines that do not wrap: on a terminal that is too narrow they end in `…`; piped, nothing is cut. Columns leave before,
    /// by [`Table`](super::table::Table).
    pub fn table(&self, text: &str) {
        self.say(&match self.width {
            Some(wide) => text.lines().map(|line| cut(line, wide, self.ascii)).collect::<Vec<_>>().join("\n"),
            None => text.to_owned(),
        });
    }

    /// An error in the form of every surface: what happened, then the remedy after an arrow.
    pub fn error(&self, code: &str, message: &str, remedy: &str) {
        if self.json {
            let (message, remedy) = (one_line(message), one_line(remedy));
            let body = serde_json::json!({"error": {"code": code, "message": message, "remedy": remedy}});
            eprintln!("{body}");
        } else {
            // Its own stream decides: stderr may be a file where stdout is a terminal.
            let word = Out { color: self.color_err, ..self.clone() }.paint(Paint::Red, "error");
            eprintln!("{word}: {message}");
            if !remedy.is_empty() {
                eprintln!("  {} {remedy}", if self.ascii { "->" } else { "→" });
            }
        }
    }

    /// One dim line with the obvious sequel; not when piped, not with --quiet.
    pub fn next(&self, command: &str) {
        if !self.quiet && !self.json && std::io::stdout().is_terminal() {
            self.say(&self.paint(Paint::Dim, &format!("Next: {command}")));
        }
    }
}

/// Of a terminal; `None` for a pipe or a file.
pub fn width(stream: impl IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|wide| *wide > 0)
}

/// The line in so many columns. Colours take none.
pub fn cut(line: &str, wide: usize, ascii: bool) -> String {
    let (mut shown, mut out, mut last) = (0, String::new(), 0);
    for (c, is_shown) in characters(line) {
        if is_shown && shown == wide {
            // The last column says that there is more, and no colour runs on.
            out.truncate(last);
            out.push(if ascii { '>' } else { '…' });
            return if line.contains('\x1b') { out + "\x1b[0m" } else { out };
        }
        if is_shown {
            (last, shown) = (out.len(), shown + 1);
        }
        out.push(c);
    }
    out
}

/// Columns that the text takes.
pub fn columns(text: &str) -> usize {
    characters(text).filter(|(_, is_shown)| *is_shown).count()
}

/// Each with whether it takes a column: colours take none.
fn characters(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut colour = false;
    text.chars().map(move |c| {
        let was = colour;
        colour = c == '\x1b' || was && c != 'm';
        (c, !was && !colour)
    })
}

/// For JSON: what stands on several lines of a screen.
fn one_line(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

/// `06 00 65 00 43`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// `now`, `2 s`, `48 s`, `12 min`, `3 h 5 min`, `6 d 4 h`: at most two units.
pub fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => "now".into(),
        1..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

fn two(a: u64, a_unit: &str, b: u64, b_unit: &str) -> String {
    if b == 0 { format!("{a} {a_unit}") } else { format!("{a} {a_unit} {b} {b_unit}") }
}

/// `6,150`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes in powers of 1,000, for traffic and wear: `121 kB`, `3.1 MB`.
pub fn bytes(n: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let f = n as f64;
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.0} kB", f / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", f / 1e6),
        _ => format!("{:.1} GB", f / 1e9),
    }
}

/// How much of 1 is done, in so many characters.
pub fn bar(part: f64, wide: usize, ascii: bool) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to some 50
    let full = (part.clamp(0.0, 1.0) * wide as f64).round() as usize;
    if ascii {
        return format!("{}{}", "=".repeat(full), "-".repeat(wide - full));
    }
    let edge = if full < wide { "╺" } else { "" };
    format!("{}{edge}{}", "━".repeat(full), "─".repeat((wide - full).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        for (ms, want) in
            [(400, "now"), (2_000, "2 s"), (59_999, "59 s"), (720_000, "12 min"), (11_100_000, "3 h 5 min"), (532_800_000, "6 d 4 h")]
        {
            assert_eq!(age(ms), want, "{ms} ms");
        }
    }

    #[test]
    fn a_line_is_cut_to_the_terminal_and_colours_take_no_room() {
        assert_eq!(cut("abcdef", 6, false), "abcdef");
        assert_eq!(cut("abcdef", 4, false), "abc…");
        assert_eq!(cut("a\x1b[1mbcd\x1b[0mef", 4, true), "a\x1b[1mbc>\x1b[0m");
        assert_eq!(cut("a\x1b[1mbcd\x1b[0m", 4, true), "a\x1b[1mbcd\x1b[0m");
        assert_eq!(cut("°C °C", 3, false), "°C…");
    }

    #[test]
    fn an_error_of_several_lines_is_one_line_in_json() {
        assert_eq!(one_line("no answer\n  heard: nothing"), "no answer; heard: nothing");
        assert_eq!(one_line("let the bus tell:\n    fieldgate scan P"), "let the bus tell: fieldgate scan P");
    }

    #[test]
    fn counts_have_thousands_separators() {
        for (n, want) in [(0, "0"), (999, "999"), (1_000, "1,000"), (6_150, "6,150"), (33_187, "33,187"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), want);
        }
    }

    #[test]
    fn bytes_are_in_powers_of_a_thousand() {
        for (n, want) in [(0, "0 B"), (121_400, "121 kB"), (3_100_000, "3.1 MB"), (5_900_000_000, "5.9 GB")] {
            assert_eq!(bytes(n), want);
        }
    }
}
