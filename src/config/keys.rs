//! Typed access to the keys of one table. Opening it reports unknown keys, each accessor reports its own problem, so
//! one pass over the document finds everything. `None` means absent or reported.

use super::{
    nearest::nearest,
    problem::{Code, Problems},
    source::{Place, is_secret},
    table::{Entry, Table},
    tree::{Content, Node},
    words,
};
use std::{fmt, ops::RangeInclusive, time::Duration};

/// The dotted name of a table or key, written out only when a problem needs it.
#[derive(Debug, Clone, Copy)]
pub struct Trail<'a> {
    up: Option<&'a Trail<'a>>,
    name: &'a str,
}

impl<'a> Trail<'a> {
    pub const ROOT: Trail<'static> = Trail { up: None, name: "" };

    pub fn then(&'a self, name: &'a str) -> Trail<'a> {
        Trail { up: Some(self), name }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up.filter(|up| !up.name.is_empty()) {
            write!(f, "{up}.")?;
        }
        f.write_str(self.name)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed<T> {
    pub it: T,
    pub at: Place,
}

pub struct Keys<'a> {
    pub table: &'a Table,
    /// Where the table itself is named.
    pub at: Place,
    pub trail: &'a Trail<'a>,
}

impl<'a> Keys<'a> {
    /// Reports what is no key here. `what` as in "is no key of a device".
    pub fn open(table: &'a Table, at: Place, trail: &'a Trail<'a>, what: &str, known: &[&str], out: &mut Problems) -> Keys<'a> {
        for (key, entry) in table.iter().filter(|(k, _)| !known.contains(k)) {
            unknown(key, entry, trail, what, known, out);
        }
        Keys { table, at, trail }
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.table.get(key)
    }

    /// Where the key stands, else the table.
    pub fn key_at(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.at, |e| e.at)
    }

    /// Where the value stands, else the table.
    pub fn value_at(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.at, |e| e.node.at)
    }

    pub fn key(&self, key: &str) -> String {
        self.trail.then(key).to_string()
    }

    /// Reports a key that must be there. `example` is a whole line.
    pub fn require(&self, key: &str, example: &str, out: &mut Problems) -> bool {
        let there = self.has(key);
        if !there {
            out.error(Code::MissingKey, self.at, self.key(key), format!("{} needs `{key}`", self.trail))
                .because(format!("`{key}` is missing"))
                .want(example);
        }
        there
    }

    fn node(&self, key: &str) -> Option<&'a Node> {
        self.table.get(key).map(|e| &e.node)
    }

    pub fn text(&self, key: &str, out: &mut Problems) -> Option<Placed<&'a str>> {
        let node = self.node(key)?;
        match &node.value {
            Content::Text(t) => Some(Placed { it: t, at: node.at }),
            other => {
                let quoted = match other {
                    Content::Int(_) | Content::Float(_) | Content::Flag(_) | Content::Time => format!("\"{}\"", out.sources.slice(node.at)),
                    _ => "\"…\"".into(),
                };
                self.wrong(key, node, "a string", &quoted, out);
                None
            }
        }
    }

    pub fn flag(&self, key: &str, out: &mut Problems) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Content::Flag(b) => Some(*b),
            Content::Text(t) if node.filled && matches!(t.as_str(), "true" | "false") => Some(t == "true"),
            other => {
                let meant = match other {
                    Content::Text(t) => matches!(t.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1"),
                    Content::Int(n) => *n != 0,
                    _ => true,
                };
                self.wrong(key, node, "true or false", if meant { "true" } else { "false" }, out);
                None
            }
        }
    }

    pub fn integer(&self, key: &str, range: RangeInclusive<i64>, out: &mut Problems) -> Option<i64> {
        let node = self.node(key)?;
        let n = match &node.value {
            Content::Int(n) => *n,
            Content::Text(t) if node.filled && t.trim().parse::<i64>().is_ok() => t.trim().parse().unwrap_or(0),
            other => {
                let example = match other {
                    Content::Text(t) if t.trim().parse::<i64>().is_ok() => t.trim().to_owned(),
                    #[allow(clippy::cast_possible_truncation)] // an example
                    Content::Float(f) if f.is_finite() => format!("{}", f.round() as i64),
                    _ => range.start().to_string(),
                };
                self.wrong(key, node, "a whole number", &example, out);
                return None;
            }
        };
        if range.contains(&n) {
            return Some(n);
        }
        let (lo, hi) = range.into_inner();
        out.error(Code::OutOfRange, node.at, self.key(key), format!("`{key}` is {n}, outside {lo} to {hi}"))
            .because(format!("{lo} to {hi} is possible here"))
            .want(format!("{key} = {}", n.clamp(lo, hi)));
        None
    }

    pub fn number(&self, key: &str, out: &mut Problems) -> Option<f64> {
        let node = self.node(key)?;
        let n = match &node.value {
            #[allow(clippy::cast_precision_loss)] // scales and limits do not need 53 bits
            Content::Int(n) => *n as f64,
            Content::Float(f) => *f,
            Content::Text(t) if node.filled && t.trim().parse::<f64>().is_ok() => t.trim().parse().unwrap_or(0.0),
            other => {
                let example = match other {
                    Content::Text(t) if t.trim().parse::<f64>().is_ok() => t.trim().to_owned(),
                    _ => "1.0".into(),
                };
                self.wrong(key, node, "a number", &example, out);
                return None;
            }
        };
        if n.is_finite() {
            return Some(n);
        }
        out.error(Code::OutOfRange, node.at, self.key(key), format!("`{key}` is not a finite number")).want(format!("{key} = 1.0"));
        None
    }

    pub fn duration(&self, key: &str, range: RangeInclusive<Duration>, out: &mut Problems) -> Option<Duration> {
        let node = self.node(key)?;
        let text = match &node.value {
            Content::Text(t) => t.as_str(),
            other => {
                let example = match other {
                    Content::Int(n) if *n >= 0 => format!("\"{n}s\""),
                    _ => "\"5s\"".into(),
                };
                self.wrong(key, node, "a duration in a string", &example, out);
                return None;
            }
        };
        let found = match words::duration(text) {
            Ok(found) => found,
            Err(guess) => {
                out.error(Code::BadDuration, node.at, self.key(key), format!("`{text}` is no duration"))
                    .because("a number and ms, s, m, h or d, without a blank")
                    .want(format!("{key} = \"{}\"", guess.as_deref().unwrap_or("5s")));
                return None;
            }
        };
        if range.contains(&found) {
            return Some(found);
        }
        let (lo, hi) = (words::duration_text(*range.start()), words::duration_text(*range.end()));
        let near = words::duration_text(found.clamp(*range.start(), *range.end()));
        out.error(Code::OutOfRange, node.at, self.key(key), format!("`{key}` is {text}, outside {lo} to {hi}"))
            .because(format!("{lo} to {hi} is possible here"))
            .want(format!("{key} = \"{near}\""));
        None
    }

    pub fn size(&self, key: &str, range: RangeInclusive<u64>, out: &mut Problems) -> Option<u64> {
        let node = self.node(key)?;
        let text = match &node.value {
            Content::Text(t) => t.as_str(),
            other => {
                let example = match other {
                    Content::Int(n) if *n >= 0 => format!("\"{n}B\""),
                    _ => "\"512MiB\"".into(),
                };
                self.wrong(key, node, "a size in a string", &example, out);
                return None;
            }
        };
        match words::size(text) {
            Ok(found) if range.contains(&found) => Some(found),
            Ok(_) => {
                let mib = |n: u64| format!("{}MiB", n >> 20);
                let (lo, hi) = (mib(*range.start()), mib(*range.end()));
                out.error(Code::OutOfRange, node.at, self.key(key), format!("`{key}` is {text}, outside {lo} to {hi}"))
                    .because(format!("{lo} to {hi} is possible here"))
                    .want(format!("{key} = \"512MiB\""));
                None
            }
            Err(guess) => {
                out.error(Code::BadSize, node.at, self.key(key), format!("`{text}` is no size"))
                    .because("a whole number and B, kB, KiB, MB, MiB, GB or GiB, without a blank")
                    .want(format!("{key} = \"{}\"", guess.as_deref().unwrap_or("512MiB")));
                None
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, key: &str, choices: &[(&str, T)], out: &mut Problems) -> Option<T> {
        let text = self.text(key, out)?;
        if let Some((_, value)) = choices.iter().find(|(w, _)| *w == text.it) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(w, _)| *w).collect();
        let near = nearest(text.it, names.iter().copied());
        let because = near.map_or_else(|| format!("possible here: {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
        let p = out.error(Code::BadValue, text.at, self.key(key), format!("`{}` is no value of `{key}`", text.it)).because(because);
        match near {
            Some(n) => p.want(format!("{key} = \"{n}\"")),
            None => names.iter().fold(p, |p, n| p.want(format!("{key} = \"{n}\""))),
        };
        None
    }

    /// A table, with the place of its key.
    pub fn sub(&self, key: &str, example: &str, out: &mut Problems) -> Option<(&'a Table, Place)> {
        let entry = self.entry(key)?;
        match &entry.node.value {
            Content::Table(t) => Some((t, entry.at)),
            _ => {
                self.wrong(key, &entry.node, "a table", example, out);
                None
            }
        }
    }

    pub fn list(&self, key: &str, example: &str, out: &mut Problems) -> Option<&'a [Node]> {
        let node = self.node(key)?;
        match &node.value {
            Content::List(l) => Some(l),
            _ => {
                self.wrong(key, node, "a list", example, out);
                None
            }
        }
    }

    pub fn texts(&self, key: &str, out: &mut Problems) -> Vec<Placed<&'a str>> {
        let Some(list) = self.list(key, "[\"…\"]", out) else { return Vec::new() };
        let mut texts = Vec::new();
        for node in list {
            match &node.value {
                Content::Text(t) => texts.push(Placed { it: t.as_str(), at: node.at }),
                _ => self.wrong(key, node, "a list of strings", "[\"…\"]", out),
            }
        }
        texts
    }

    /// Reports a value of the wrong kind. `example` is what should stand behind `key =`.
    pub fn wrong(&self, key: &str, node: &Node, want: &str, example: &str, out: &mut Problems) {
        // A table is written under its own header, everything else behind its key.
        let line = if want == "a table" && example.starts_with('[') { example.to_owned() } else { format!("{key} = {example}") };
        out.error(Code::WrongType, node.at, self.key(key), format!("`{key}` must be {want}"))
            .because(format!("this is {}", node.value.kind()))
            .want(line);
    }
}

fn unknown(key: &str, entry: &Entry, trail: &Trail<'_>, what: &str, known: &[&str], out: &mut Problems) {
    let near = nearest(key, known.iter().copied());
    let value = out.sources.slice(entry.node.at).lines().next().unwrap_or("").to_owned();
    let header = entry.node.table().is_some() && !value.starts_with('{');
    let because = near.map_or_else(|| format!("keys here: {}", known.join(", ")), |n| format!("did you mean `{n}`?"));
    let p = out.error(Code::UnknownKey, entry.at, trail.then(key), format!("`{key}` is no key of {what}")).because(because);
    match near {
        Some(n) if header => p.want(format!("[{}…]", trail.then(n))),
        Some(n) if (is_secret(key) || is_secret(n)) && !value.starts_with('{') => p.want(format!("{n} = …")),
        Some(n) => p.want(format!("{n} = {value}")),
        None => p.want("take it out, or write one of the keys above"),
    };
}
