//! The files that were read, and places in them: every value keeps its place until a problem is written about it.
//!
//! A place is twelve bytes; lines and columns are computed only for what is reported.

use super::nearest;
use std::path::{Path, PathBuf};

/// A run of bytes in one of the files. `Place::NOWHERE` is for what no file holds (a key that is missing altogether).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

/// A place as people count: lines and columns from 1, columns and lengths in characters. Line 0: the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub file: PathBuf,
    pub line: u32,
    pub column: u32,
    pub length: u32,
    /// The line itself, without its end.
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    text: String,
    /// Where each line starts, in bytes.
    lines: Vec<usize>,
}

impl Place {
    /// The file as a whole.
    pub const fn whole(file: u32) -> Place {
        Place { file, start: u32::MAX, end: u32::MAX }
    }

    pub const fn is_whole(self) -> bool {
        self.start == u32::MAX
    }
}

impl Sources {
    pub fn add(&mut self, path: PathBuf, text: String) -> u32 {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        self.files.push(File { path, text, lines });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|f| f.path.as_path())
    }

    pub fn path(&self, file: u32) -> &Path {
        self.files.get(file as usize).map_or(Path::new(""), |f| &f.path)
    }

    pub fn text(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |f| &f.text)
    }

    /// What the file says at a place.
    pub fn slice(&self, at: Place) -> &str {
        self.text(at.file).get(at.start as usize..at.end as usize).unwrap_or("")
    }

    pub fn line_of(&self, at: Place) -> u32 {
        let Some(file) = self.files.get(at.file as usize).filter(|_| !at.is_whole()) else { return 0 };
        let line = file.lines.partition_point(|start| *start <= at.start as usize);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    /// The whole line of a place, its end cut off.
    fn line_text(&self, at: Place, line: u32) -> (usize, &str) {
        let Some(file) = self.files.get(at.file as usize) else { return (0, "") };
        let start = file.lines.get((line as usize).saturating_sub(1)).copied().unwrap_or(0);
        let end = file.lines.get(line as usize).copied().unwrap_or(file.text.len());
        (start, file.text.get(start..end).unwrap_or("").trim_end_matches(['\n', '\r']))
    }

    pub fn spot(&self, at: Place) -> Spot {
        let path = self.path(at.file).to_owned();
        if at.is_whole() {
            return Spot { file: path, line: 0, column: 0, length: 0, text: String::new() };
        }
        let line = self.line_of(at);
        let (start, text) = self.line_text(at, line);
        let from = floor(text, (at.start as usize).saturating_sub(start));
        // A value of several lines is marked on its first.
        let to = floor(text, (at.end as usize).saturating_sub(start)).max(from);
        let chars = |t: &str| u32::try_from(t.chars().count()).unwrap_or(u32::MAX);
        Spot { file: path, line, column: chars(&text[..from]) + 1, length: chars(&text[from..to]).max(1), text: veiled(text) }
    }
}

/// What a key is called, right or nearly, whose value nobody else is to read.
const SECRET: [&str; 4] = ["pass", "secret", "token", "psk"];

pub fn is_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    SECRET.iter().any(|word| lower.contains(word)) || nearest(key, ["password", "secret", "token", "device_tokens"]).is_some()
}

/// The line with stars for what may be a secret that stands in the open: problems are printed, and the service's go to the
/// journal. As long as before, because marks stand below it.
fn veiled(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut quote, mut hide) = (None, false);
    for (at, c) in line.char_indices() {
        let ends = match quote {
            Some(q) => c == q && !(q == '"' && line[..at].ends_with('\\')),
            None => hide && matches!(c, ',' | '}' | '#'),
        };
        if ends {
            (quote, hide) = (None, false);
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        } else if quote.is_none() && c == '=' {
            let names = |c: char| c.is_ascii_alphanumeric() || "_-.\"'".contains(c);
            let key = line[..at].trim_end().rsplit(|c| !names(c)).next().unwrap_or_default();
            let is_reference = line[at + 1..].trim_start().starts_with('{');
            hide = !is_reference && is_secret(key.rsplit('.').next().unwrap_or_default());
        } else if hide && !c.is_whitespace() {
            out.push('*');
            continue;
        }
        out.push(c);
    }
    // A name and password in an address: //anna:hush@host.
    let user = out.find("://").and_then(|at| Some((at + 3, at + 3 + out[at + 3..].find('@')?)));
    if let Some((from, to)) = user.filter(|(from, to)| !out[*from..*to].contains(['/', ' ', '"'])) {
        let stars = "*".repeat(out[from..to].chars().count());
        out.replace_range(from..to, &stars);
    }
    out
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, want: &str) {
        let shown = veiled(line);
        assert_eq!(shown, want);
        assert_eq!(shown.chars().count(), line.chars().count(), "marks stand below it");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        check("password = \"hush\"", "password = \"****\"");
        check("passwrd='hush' # mine", "passwrd='****' # mine");
        check("tokn = \"hush\"", "tokn = \"****\"");
        check("token = hush, role = \"viewer\"", "token = ****, role = \"viewer\"");
        check("a = { token = \"h\\\"sh\", role = \"viewer\" }", "a = { token = \"*****\", role = \"viewer\" }");
        check("user.a.password = \"hü = sh", "user.a.password = \"** * **");
        check("password = 1234 # pin", "password = **** # pin");
        check("url = \"mqtt://anna:hush@host:1\"", "url = \"mqtt://*********@host:1\"");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for line in [
            "password = { file = \"/etc/fieldgate/secrets/cloud\" }",
            "device_tokens = { credential = \"devices\" }",
            "[api.token.anna]",
            "url = \"mqtt://host:1883/a@b\"",
            "unit = 1 # no secret",
            "note = \"password = x\"",
            "topics = [\"a/b\"]",
            "",
        ] {
            check(line, line);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_stays_as_long(line in ".{0,60}") {
            assert_eq!(veiled(&line).chars().count(), line.chars().count());
        }
    }

    #[test]
    fn columns_and_lengths_are_characters() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml".into(), "x = 1\r\nunit = \"°C\" # ö\n".into());
        let at = |start, end| Place { file, start, end };
        let spot = sources.spot(at(14, 19));
        assert_eq!((spot.line, spot.column, spot.length, spot.text.as_str()), (2, 8, 4, "unit = \"°C\" # ö"));
        assert_eq!(sources.slice(at(14, 19)), "\"°C\"");
        let beyond = sources.spot(at(1000, 2000));
        assert_eq!((beyond.line, beyond.column, beyond.length), (3, 1, 1));
        assert_eq!(sources.spot(Place::whole(file)).line, 0);
    }
}
