//! Registers from the files of other programs, as a profile of ours: `fieldgate profiles import telegraf|evcc FILE`.
//!
//! Facts are taken over: address, table, type, order, scale, unit. What has no place here, or could be meant in two ways, is
//! named in a comment instead of guessed. The profile goes to stdout, for a person to read, complete and check.

mod evcc;
mod telegraf;
#[cfg(test)]
mod tests;

use crate::{cli::Out, limits};
use std::{collections::BTreeSet, fmt::Write, path::Path, process::ExitCode};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A configuration with [[inputs.modbus]]
    Telegraf,
    /// A template of evcc
    Evcc,
}

/// What a file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub vendor: String,
    pub model: String,
    pub source: String,
    /// Whole lines: `min_gap = "20ms"`, `serial = { … }`.
    pub keys: Vec<String>,
    pub points: Vec<Fact>,
    /// What could not be carried over, and why.
    pub left: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Fact {
    pub name: String,
    /// `input:12`.
    pub register: String,
    /// Empty on coils and discrete inputs.
    pub kind: String,
    pub order: &'static str,
    pub scale: Option<f64>,
    pub unit: &'static str,
    pub na: Vec<&'static str>,
    /// Further lines: `bytes = "low"`.
    pub more: Vec<String>,
}

/// Exit: 0 a profile came out, 1 nothing of Modbus was found, 2 the file cannot be read.
pub fn run(out: &Out, format: Format, file: &Path, unit: Option<u8>) -> ExitCode {
    let read = std::fs::metadata(file).and_then(|m| {
        if m.len() > limits::CONFIG_BYTES as u64 {
            Err(std::io::Error::other("the file is too large"))
        } else {
            std::fs::read_to_string(file)
        }
    });
    let text = match read {
        Ok(text) => text,
        Err(error) => {
            out.error("unreadable", &format!("{} cannot be read: {error}", file.display()), &format!("ls -l {}", file.display()));
            return ExitCode::from(2);
        }
    };
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let facts = match format {
        Format::Telegraf => telegraf::read(&text, &name, unit),
        Format::Evcc => Ok(evcc::read(&text, &name)),
    };
    match facts {
        Ok(facts) if facts.points.is_empty() => {
            let why = if facts.left.is_empty() { "no register stands in it".to_owned() } else { facts.left.join("; ") };
            out.error("nothing-found", &format!("{name} gives no profile: {why}"), "name a file with Modbus registers");
            ExitCode::FAILURE
        }
        Ok(facts) => {
            out.say(write(&facts).trim_end());
            out.next("fieldgate profiles check FILE, then compare every value with the device's display");
            ExitCode::SUCCESS
        }
        Err(why) => {
            out.error("unreadable", &format!("{name} is no such file: {why}"), "");
            ExitCode::from(2)
        }
    }
}

/// As a file for /etc/fieldgate/profiles.
pub(super) fn write(facts: &Facts) -> String {
    let mut s = format!("# Imported from {}. Not verified on hardware: compare with the display before you trust a value.\n", facts.source);
    for left in &facts.left {
        let _ = writeln!(s, "# Not carried over: {}", left.replace('\n', " "));
    }
    s.push('\n');
    for (key, value) in [("vendor", &facts.vendor), ("model", &facts.model), ("source", &facts.source)] {
        let _ = writeln!(s, "{key} = {}", quoted(value));
    }
    s.push_str("verified = \"none\"\n");
    for key in &facts.keys {
        let _ = writeln!(s, "{key}");
    }
    let mut names = BTreeSet::new();
    for fact in &facts.points {
        let _ = write!(s, "\n[point.{}]\nregister = {}\n", fresh(&mut names, &fact.name), quoted(&fact.register));
        if !fact.kind.is_empty() {
            let _ = writeln!(s, "type = {}", quoted(&fact.kind));
        }
        if !fact.order.is_empty() && fact.order != "ABCD" {
            let _ = writeln!(s, "order = \"{}\"", fact.order);
        }
        if let Some(scale) = fact.scale.filter(|s| *s != 1.0 && *s != 0.0 && s.is_finite()) {
            let _ = writeln!(s, "scale = {scale:?}");
        }
        if !fact.unit.is_empty() {
            let _ = writeln!(s, "unit = \"{}\"", fact.unit);
        }
        if !fact.na.is_empty() {
            let _ = writeln!(s, "na = [{}]", fact.na.join(", "));
        }
        for line in &fact.more {
            let _ = writeln!(s, "{line}");
        }
    }
    s
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

/// A name for a point that no other has: letters, digits, `_` and `-`.
fn fresh(names: &mut BTreeSet<String>, wanted: &str) -> String {
    let mut base: String = wanted.chars().take(40).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if base.is_empty() {
        base = "value".into();
    }
    let mut name = base.clone();
    let mut n = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}_{n}");
        n += 1;
    }
    name
}
