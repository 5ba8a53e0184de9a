//! Templates of evcc: YAML with placeholders of another template language in it, so no reader of YAML takes them.
//!
//! Read here are lines and their indentation, which is all that a register needs: the block under `register:`, the `scale`
//! beside it, the keys above it for its name, and the `{{ if eq .usage "…" }}` around it. A value with a placeholder is
//! named as not carried over. Absent on purpose: everything else of YAML.

use super::{Fact, Facts};

#[derive(Debug, PartialEq)]
struct Line<'a> {
    indent: usize,
    /// Begins with a dash: the first key of a new entry.
    is_item: bool,
    key: &'a str,
    value: &'a str,
    /// `pv`, `battery`, …: what the conditions around it say.
    usage: String,
}

pub fn read(text: &str, name: &str) -> Facts {
    let mut facts = Facts { source: name.to_owned(), ..Facts::default() };
    let lines = lines(text);
    let first = |key: &str| lines.iter().find(|l| l.key == key && !l.value.is_empty()).map(|l| l.value.to_owned());
    facts.vendor = first("brand").unwrap_or_default();
    facts.model = first("generic").or_else(|| first("en")).or_else(|| first("template")).unwrap_or_default();
    let port = lines.iter().find(|l| l.key == "port").and_then(|l| l.value.parse::<u16>().ok());
    let unit = lines.iter().find(|l| l.key == "id").and_then(|l| l.value.parse::<u8>().ok());
    if let (Some(port), Some(unit)) = (port, unit) {
        facts.keys.push(format!("net = {{ port = {port}, unit = {unit} }}"));
    }
    let begin = lines.iter().position(|l| l.key == "render").map_or(0, |n| n + 1);
    if let Some(model) = lines[begin..].iter().find(|l| l.key == "model" && !l.value.is_empty()) {
        facts.left.push(format!("model {}: its registers are in evcc's own code, not in the template", model.value));
    }
    for n in begin..lines.len() {
        if lines[n].key == "register" && lines[n].value.is_empty() {
            register(&lines, begin, n, &mut facts);
        }
    }
    facts
}

fn register(lines: &[Line<'_>], begin: usize, at: usize, facts: &mut Facts) {
    let indent = lines[at].indent;
    let inside = |key: &str| lines[at + 1..].iter().take_while(|l| l.indent > indent).find(|l| l.key == key).map_or("", |l| l.value);
    let (name, top) = name(lines, begin, at);
    let (address, kind) = (inside("address"), inside("type").to_ascii_lowercase());
    let decode = [inside("decode"), inside("encoding")].into_iter().find(|d| !d.is_empty()).unwrap_or("").to_ascii_lowercase();
    let Ok(address) = parse(address) else {
        return facts.left.push(format!("{name}: its address is `{address}`"));
    };
    if kind.starts_with("write") {
        return facts.left.push(format!("{name}: a write to {address} ({kind}, {decode})"));
    }
    if !matches!(kind.as_str(), "holding" | "input" | "coil") {
        return facts.left.push(format!("{name} at {address}: table `{kind}`"));
    }
    let (mut fact, sum) = (Fact { name, register: format!("{kind}:{address}"), ..Fact::default() }, sum(lines, at));
    if kind != "coil" {
        let Some((kind, order, na)) = decoded(&decode, inside("bitmask")) else {
            return facts.left.push(format!("{} at {}: decoded as `{decode}`", fact.name, fact.register));
        };
        (fact.kind, fact.order, fact.na) = (kind, order, na);
        match beside(lines, at, "scale") {
            "" => {}
            text => match text.parse() {
                Ok(scale) => fact.scale = Some(scale),
                Err(_) => facts.left.push(format!("{}: its scale is `{text}`", fact.name)),
            },
        }
        fact.unit = unit(top);
    }
    if let Some(sum) = sum {
        facts.left.push(format!("{}: evcc combines it with others (`{sum}`); the sign and the sum are left to the reader", fact.name));
    }
    facts.points.push(fact);
}

fn parse(text: &str) -> Result<u16, ()> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).map_err(drop),
        None => text.parse().map_err(drop),
    }
}

/// Lines with a key, without comments; conditions become the usage of what they hold.
fn lines(text: &str) -> Vec<Line<'_>> {
    let mut out = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start();
        if bare.starts_with("{{") {
            condition(bare, &mut conditions);
            continue;
        }
        let mut indent = line.len() - bare.len();
        let mut rest = bare;
        let is_item = rest.starts_with("- ");
        while let Some(after) = rest.strip_prefix("- ") {
            indent += rest.len() - after.trim_start().len();
            rest = after.trim_start();
        }
        let Some((key, value)) = rest.split_once(':').filter(|(key, _)| !key.is_empty() && !key.contains(['#', ' ', '"'])) else {
            continue;
        };
        let value = value.split(" #").next().unwrap_or("").trim().trim_matches(['"', '\'']);
        let usage = conditions.iter().rev().find(|u| !u.is_empty()).cloned().unwrap_or_default();
        out.push(Line { indent, is_item, key, value, usage });
    }
    out
}

/// `{{- if eq .usage "pv" }}` … `{{- else }}` … `{{- end }}`.
fn condition(text: &str, conditions: &mut Vec<String>) {
    let body = text.trim_start_matches(['{', '-']).trim_start();
    let usage = || match body.find("eq .usage") {
        Some(at) => body[at..].split('"').nth(1).unwrap_or("").to_owned(),
        None => String::new(),
    };
    if body.starts_with("end") {
        conditions.pop();
    } else if body.starts_with("else") {
        conditions.pop();
        conditions.push(usage());
    } else if ["if", "range", "with", "define", "block"].iter().any(|w| body.starts_with(w)) && conditions.len() < 64 {
        conditions.push(usage());
    }
}

/// Places of the keys above a line, nearest first.
fn above(lines: &[Line<'_>], begin: usize, at: usize) -> Vec<usize> {
    let mut out = Vec::new();
    let mut indent = lines[at].indent;
    for n in (begin..at).rev() {
        if lines[n].indent < indent {
            indent = lines[n].indent;
            out.push(n);
        }
    }
    out
}

/// `battery_power`, `currents_2`: the key under `render`, with the usage before it and a number behind it in a list.
fn name<'a>(lines: &'a [Line<'a>], begin: usize, at: usize) -> (String, &'a str) {
    let above = above(lines, begin, at);
    let Some(top) = above.last().copied() else { return ("value".into(), "") };
    let usage = &lines[at].usage;
    let mut name = if usage.is_empty() { lines[top].key.to_owned() } else { format!("{usage}_{}", lines[top].key) };
    if lines[top + 1..=at].iter().any(|l| l.is_item) {
        let nth = lines[top + 1..=at].iter().filter(|l| l.key == "register" && l.value.is_empty()).count();
        name = format!("{name}_{nth}");
    }
    (name, lines[top].key)
}

/// A list that evcc adds up or otherwise combines, if the register is in one.
fn sum<'a>(lines: &'a [Line<'a>], at: usize) -> Option<&'a str> {
    above(lines, 0, at).into_iter().map(|n| lines[n].key).find(|key| matches!(*key, "add" | "mul" | "div" | "abs" | "sign"))
}

/// A key of the same entry, before or behind the line.
fn beside<'a>(lines: &'a [Line<'a>], at: usize, key: &str) -> &'a str {
    let indent = lines[at].indent;
    let same = |l: &&Line<'_>| l.indent == indent && l.key == key;
    let behind = lines[at + 1..].iter().take_while(|l| l.indent > indent || (l.indent == indent && !l.is_item)).find(same);
    let mut before = lines[..at].iter().rev().take_while(|l| l.indent >= indent);
    let found = behind.or_else(|| if lines[at].is_item { None } else { before.find(same) });
    found.map_or("", |l| l.value)
}

type Decoded = (String, &'static str, Vec<&'static str>);

fn decoded(decode: &str, mask: &str) -> Option<Decoded> {
    let (kind, order, na): (&str, &'static str, &[&'static str]) = match decode {
        "int16" => ("i16", "ABCD", &[]),
        "int16nan" => ("i16", "ABCD", &["0x8000", "0x7FFF"]),
        "uint16" => ("u16", "ABCD", &[]),
        "uint16nan" => ("u16", "ABCD", &["0xFFFF"]),
        "int32" => ("i32", "ABCD", &[]),
        "int32nan" => ("i32", "ABCD", &["0x80000000", "0x7FFFFFFF"]),
        "int32s" => ("i32", "CDAB", &[]),
        "uint32" => ("u32", "ABCD", &[]),
        "uint32nan" => ("u32", "ABCD", &["0xFFFFFFFF"]),
        "uint32s" => ("u32", "CDAB", &[]),
        "float32" | "ieee754" => ("f32", "ABCD", &[]),
        "float32s" | "ieee754s" => ("f32", "CDAB", &[]),
        "uint64" => ("u64", "ABCD", &[]),
        "uint64nan" => ("u64", "ABCD", &["\"0xFFFFFFFFFFFFFFFF\""]),
        "float64" => ("f64", "ABCD", &[]),
        "bool16" => {
            let mask = parse(mask).ok().filter(|m| m.is_power_of_two())?;
            return Some((format!("bit:{}", mask.trailing_zeros()), "ABCD", Vec::new()));
        }
        _ => return None,
    };
    Some((kind.to_owned(), order, na.to_vec()))
}

/// evcc's own units.
fn unit(key: &str) -> &'static str {
    match key {
        "power" | "powers" | "maxpower" | "maxacpower" => "W",
        "energy" | "import" | "export" | "chargedenergy" => "kWh",
        "currents" => "A",
        "voltages" => "V",
        "soc" | "limitsoc" => "%",
        _ => "",
    }
}
