//! The document as read: TOML values with their places, still untyped. What groups fill in and profiles overlay is
//! done on this tree, so that a problem points at the very text that an operator wrote, in whichever file that is.

use super::{
    problem::{Code, Problems},
    source::Place,
    table::{Entry, Table},
};
use toml::de::{DeTable, DeValue};

#[derive(Debug, Clone)]
pub struct Node {
    pub at: Place,
    pub value: Content,
    /// A string that a group filled in: it may stand for a number or a flag.
    pub filled: bool,
}

#[derive(Debug, Clone)]
pub enum Content {
    Text(String),
    Int(i64),
    Float(f64),
    Flag(bool),
    /// Dates have no use here.
    Time,
    List(Vec<Node>),
    Table(Table),
}

impl Content {
    pub const fn kind(&self) -> &'static str {
        match self {
            Content::Text(_) => "a string",
            Content::Int(_) => "a whole number",
            Content::Float(_) => "a number with a fraction",
            Content::Flag(_) => "true or false",
            Content::Time => "a date",
            Content::List(_) => "a list",
            Content::Table(_) => "a table",
        }
    }
}

impl Node {
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Content::Table(t) => Some(t),
            _ => None,
        }
    }

    pub fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Content::Table(t) => Some(t),
            _ => None,
        }
    }
}

/// Reads the TOML of a file that is already among the sources. What is broken is reported, the rest comes back.
pub fn parse(file: u32, out: &mut Problems) -> Table {
    // The text must not be borrowed while problems are collected; configurations are small.
    let text = out.sources.text(file).to_owned();
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in errors.iter().take(5) {
        let span = error.span().unwrap_or(0..0);
        let at = place(file, span);
        // One fault on a line is enough: the second follows from the first.
        if !out.mark_broken(at) {
            continue;
        }
        let message = error.message();
        if message == "duplicate key" {
            let name = out.sources.slice(at).to_owned();
            out.error(Code::DuplicateKey, at, &name, format!("`{name}` is here a second time"))
                .because("the same key or table stands further up")
                .want("keep one of the two, or give this one another name");
        } else {
            out.error(Code::Syntax, at, "", format!("this is no TOML: {message}")).because("reading stumbled here").want(remedy(message));
        }
    }
    convert(file, document.into_inner(), out)
}

/// The commonest slips, by the words of the TOML reader.
fn remedy(message: &str) -> &'static str {
    if message.contains("string") || message.contains("quote") {
        "put text in double quotes on one line: key = \"text\""
    } else if message.contains("`=`") || message.contains("key") {
        "write key = value, one per line; a table is [name.id]"
    } else if message.contains("newline") {
        "one key = value per line; text stands in double quotes"
    } else if message.contains("`]`") || message.contains("`}`") || message.contains("`,`") {
        "close every [ with ] and every { with }, commas between"
    } else {
        "text stands in double quotes, numbers and true/false without"
    }
}

fn convert(file: u32, table: DeTable<'_>, out: &mut Problems) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let at = place(file, key.span());
            let node_at = place(file, value.span());
            let node = Node { at: node_at, value: content(file, node_at, value.into_inner(), out), filled: false };
            (key.into_inner().into_owned().into_boxed_str(), Entry { at, node })
        })
        .collect()
}

fn content(file: u32, at: Place, value: DeValue<'_>, out: &mut Problems) -> Content {
    match value {
        DeValue::String(s) => Content::Text(s.into_owned()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(n) => Content::Int(n),
            Err(_) => {
                out.error(Code::OutOfRange, at, "", format!("{} is too large a number", i.as_str()))
                    .want("a number below 9,223,372,036,854,775,807");
                Content::Int(0)
            }
        },
        DeValue::Float(f) => Content::Float(f.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Content::Flag(b),
        DeValue::Datetime(_) => Content::Time,
        DeValue::Array(list) => Content::List(
            list.into_iter()
                .map(|v| {
                    let at = place(file, v.span());
                    Node { at, value: content(file, at, v.into_inner(), out), filled: false }
                })
                .collect(),
        ),
        DeValue::Table(t) => Content::Table(convert(file, t, out)),
    }
}

fn place(file: u32, span: std::ops::Range<usize>) -> Place {
    let short = |n| u32::try_from(n).unwrap_or(u32::MAX - 1);
    Place { file, start: short(span.start), end: short(span.end) }
}

/// Sections whose entries are things with an id: one thing stands in one file.
const THINGS: &[&str] = &["line", "group", "device", "uplink", "user", "route", "schedule", "rule", "analytics"];

/// Adds what a further file holds. A section may go on in another file; a thing or a key may not stand in two.
pub fn merge(into: &mut Table, more: Table, out: &mut Problems) {
    merge_at(into, more, "", out);
}

fn merge_at(into: &mut Table, more: Table, path: &str, out: &mut Problems) {
    let things = THINGS.contains(&path.rsplit('.').next().unwrap_or(""));
    for (key, entry) in more {
        let name = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match into.get_mut(&key) {
            None => {
                into.insert(&key, entry);
            }
            Some(Entry { node: Node { value: Content::Table(old), .. }, .. }) if !things && entry.node.table().is_some() => {
                if let Content::Table(new) = entry.node.value {
                    merge_at(old, new, &name, out);
                }
            }
            Some(old) => {
                let code = if things { Code::DuplicateId } else { Code::DuplicateKey };
                let first = out.sources.spot(old.at);
                out.error(code, entry.at, &name, format!("`{name}` stands in two files"))
                    .because(format!("it stands in {}:{} too", first.file.display(), first.line))
                    .want("keep one of the two, or give this one another name");
            }
        }
    }
}

/// Lays what a device says over what its profile says: keys of the device win, points are joined by name.
pub fn overlay(base: &Table, over: &Table) -> Table {
    let mut out = base.clone();
    for (key, entry) in over.iter() {
        match (out.get_mut(key), &entry.node.value) {
            (Some(Entry { node: Node { value: Content::Table(below), .. }, .. }), Content::Table(above)) if key == "point" => {
                for (id, point) in above.iter() {
                    let joined = match (below.get(id).and_then(|b| b.node.table()), point.node.table()) {
                        (Some(b), Some(p)) => {
                            let mut both = b.clone();
                            p.iter().for_each(|(k, e)| both.insert(k, e.clone()));
                            Entry { at: point.at, node: Node { at: point.node.at, value: Content::Table(both), filled: false } }
                        }
                        _ => point.clone(),
                    };
                    below.insert(id, joined);
                }
            }
            _ => out.insert(key, entry.clone()),
        }
    }
    out
}
