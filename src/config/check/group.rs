//! `[group.*]`: one table, many devices. Each row of `each` or `csv` makes a device by filling `{column}` places in
//! every string; a column named like a key of a device fills that key if the group does not.

use super::{Desk, csv, framed, things};
use crate::{
    config::{
        keys::Keys,
        nearest::nearest,
        problem::Code,
        source::Place,
        table::{Entry, Table},
        tree::{Content, Node},
        words,
    },
    limits,
};
use std::collections::BTreeMap;

/// Keys of a device that a column may fill without being named.
const FROM_COLUMNS: &[&str] = &[
    "id",
    "line",
    "tcp",
    "rtu_over_tcp",
    "unit",
    "poll",
    "offline_after",
    "alarm_after",
    "profile",
    "timeout",
    "retries",
    "min_gap",
    "max_words",
    "max_bits",
    "max_gap",
];

/// A device that a group makes.
pub struct Made {
    pub group: String,
    pub id: String,
    pub at: Place,
    pub table: Table,
}

type Row = BTreeMap<String, (String, Option<Place>)>;

pub fn expand(root: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<Made> {
    let mut made = Vec::new();
    for (name, table, at) in things(root, "group", desk) {
        let Some(rows) = rows(name, table, at, desk) else { continue };
        if made.len() + rows.len() > limits::CONFIG_DEVICES {
            desk.out
                .error(Code::TooMany, at, format!("group.{name}"), format!("more than {} devices", limits::CONFIG_DEVICES))
                .because("one gateway takes so many")
                .want("spread them over several gateways");
            continue;
        }
        for row in rows {
            made.push(one(name, table, at, &row, desk));
        }
    }
    made
}

/// `None` was reported.
fn rows(name: &str, table: &Table, at: Place, desk: &mut Desk<'_>) -> Option<Vec<Row>> {
    let section = crate::config::keys::Trail::ROOT.then("group");
    let trail = section.then(name);
    let keys = Keys { table, at, trail: &trail };
    match (keys.has("each"), keys.has("csv")) {
        (true, false) => {
            let text = keys.text("each", &mut desk.out)?;
            match words::numbers(text.it, limits::CONFIG_DEVICES) {
                Ok(numbers) => Some(numbers.into_iter().map(|n| Row::from([("n".to_owned(), (n.to_string(), None))])).collect()),
                Err(why) => {
                    desk.out
                        .error(Code::BadEach, text.at, keys.key("each"), format!("`{}` is no list of numbers", text.it))
                        .because(why)
                        .want_when("each = \"1..8\"", "both ends belong to it")
                        .want_when("each = \"1,3,5-7\"", "single numbers and runs");
                    None
                }
            }
        }
        (false, true) => from_csv(&keys, desk),
        (both, _) => {
            let found = if both { "has both `each` and `csv`" } else { "makes no devices" };
            let p = desk.out.error(Code::BadEach, at, trail, format!("{trail} {found}")).because("one of `each` and `csv` says how many");
            p.want_when("each = \"1..8\"", "with {n} in id and unit").want_when("csv = \"meters.csv\"", "with a column for each key");
            None
        }
    }
}

fn from_csv(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Vec<Row>> {
    let name = keys.text("csv", &mut desk.out)?;
    let path = desk.resolve(name.at, name.it);
    let read = std::fs::read(&path).map_err(|e| e.to_string()).and_then(|bytes| {
        let bytes = if bytes.len() <= limits::CONFIG_BYTES { Ok(bytes) } else { Err("it is too large".to_owned()) };
        bytes.and_then(|b| String::from_utf8(b).map_err(|_| "it is not UTF-8 text".to_owned()))
    });
    let text = match read {
        Ok(text) => text,
        Err(why) => {
            desk.out
                .error(Code::Unreadable, name.at, keys.key("csv"), format!("{} cannot be read", path.display()))
                .because(why)
                .want("a path from the directory of this file");
            return None;
        }
    };
    let file = desk.out.sources.add(path, text.clone());
    let csv = match csv::parse(file, &text, limits::CONFIG_DEVICES) {
        Ok(csv) => csv,
        Err((at, why)) => {
            desk.out
                .error(Code::BadCsv, at, keys.key("csv"), format!("this CSV cannot be read: {why}"))
                .because("the first line names the columns, each further line is a device")
                .want("id,unit");
            return None;
        }
    };
    columns(keys, &csv, desk);
    let rows = csv.rows.iter().enumerate().map(|(n, cells)| {
        let mut row = Row::from([("n".to_owned(), ((n + 1).to_string(), None))]);
        row.extend(csv.columns.iter().zip(cells).map(|(column, cell)| (column.0.clone(), (cell.0.clone(), Some(cell.1)))));
        row
    });
    Some(rows.collect())
}

/// A column that nothing uses is most likely a typing error.
fn columns(keys: &Keys<'_>, csv: &csv::Csv, desk: &mut Desk<'_>) {
    let mut used = Vec::new();
    places(keys.table, &mut used);
    for (column, at) in &csv.columns {
        if FROM_COLUMNS.contains(&column.as_str()) || used.contains(column) || column.starts_with('#') {
            continue;
        }
        let near = nearest(column, FROM_COLUMNS.iter().copied());
        let because = near.map_or_else(|| format!("{{{column}}} stands nowhere in {}", keys.trail), |n| format!("did you mean `{n}`?"));
        desk.out
            .warning(Code::UnusedColumn, *at, keys.key("csv"), format!("nothing uses the column `{column}`"))
            .because(because)
            .want_when(near.map_or_else(|| format!("#{column}"), str::to_owned), if near.is_some() { "" } else { "marks it as a comment" });
    }
}

/// Every placeholder that the group names.
fn places(table: &Table, into: &mut Vec<String>) {
    for (_, entry) in table.iter() {
        match &entry.node.value {
            Content::Text(t) => {
                into.extend(pieces(t).into_iter().filter_map(|p| if let Piece::Place(name) = p { Some(name.to_owned()) } else { None }))
            }
            Content::Table(t) => places(t, into),
            _ => {}
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Place(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(len) = rest[open..].find('}') else { break };
        out.push(Piece::Text(&rest[..open]));
        out.push(Piece::Place(rest[open + 1..open + len].trim()));
        rest = &rest[open + len + 1..];
    }
    out.push(Piece::Text(rest));
    out
}

fn one(name: &str, table: &Table, at: Place, row: &Row, desk: &mut Desk<'_>) -> Made {
    let mut out = fill(table, row, name, desk);
    out.remove("each");
    out.remove("csv");
    for key in FROM_COLUMNS.iter().filter(|k| !table.contains_key(k)) {
        if let Some((text, Some(cell))) = row.get(*key).filter(|(text, _)| !text.is_empty()) {
            let node = Node { at: *cell, value: Content::Text(text.clone()), filled: true };
            out.insert(key, Entry { at: *cell, node });
        }
    }
    let given = out.remove("id");
    let (id, at) = match given.as_ref().map(|e| (&e.node.value, e.node.at)) {
        Some((Content::Text(t), place)) => (t.clone(), place),
        Some((_, place)) => {
            desk.out
                .error(Code::WrongType, place, format!("group.{name}.id"), "`id` must be a string")
                .because("{n} makes it different for each device")
                .want(format!("id = \"{name}-{{n}}\""));
            (format!("{name}-{}", row.get("n").map_or("", |n| &n.0)), place)
        }
        None => (format!("{name}-{}", row.get("n").map_or("", |n| &n.0)), at),
    };
    Made { group: name.to_owned(), id, at, table: out }
}

fn fill(table: &Table, row: &Row, group: &str, desk: &mut Desk<'_>) -> Table {
    table.iter().map(|(key, e)| (key.into(), Entry { at: e.at, node: fill_node(&e.node, row, group, key, desk) })).collect()
}

fn fill_node(node: &Node, row: &Row, group: &str, key: &str, desk: &mut Desk<'_>) -> Node {
    match &node.value {
        // Their braces are filled later, or belong to an expression.
        Content::Text(_) if framed::TEXTS.contains(&key) => node.clone(),
        Content::Text(t) if t.contains('{') => fill_text(t, node.at, row, group, key, desk),
        Content::Table(t) => Node { at: node.at, value: Content::Table(fill(t, row, group, desk)), filled: false },
        _ => node.clone(),
    }
}

fn fill_text(text: &str, at: Place, row: &Row, group: &str, key: &str, desk: &mut Desk<'_>) -> Node {
    let pieces = pieces(text);
    let mut out = String::with_capacity(text.len());
    let mut place = at;
    for piece in &pieces {
        match piece {
            Piece::Text(t) => out.push_str(t),
            Piece::Place(name) => match row.get(*name) {
                Some((value, cell)) => {
                    out.push_str(value);
                    // A value that is one cell and nothing else is best corrected in the cell.
                    if let (Some(cell), true) = (cell, text.len() == name.len() + 2) {
                        place = *cell;
                    }
                }
                None => {
                    let near = nearest(name, row.keys().map(String::as_str));
                    let known: Vec<String> = row.keys().map(|k| format!("{{{k}}}")).collect();
                    let because = near.map_or_else(|| format!("there is: {}", known.join(", ")), |n| format!("did you mean `{{{n}}}`?"));
                    let want = text.replace(&format!("{{{name}}}"), &format!("{{{}}}", near.unwrap_or("n")));
                    desk.out
                        .error(Code::UnknownPlaceholder, at, format!("group.{group}.{key}"), format!("nothing fills {{{name}}}"))
                        .because(because)
                        .want(format!("{key} = \"{want}\""));
                }
            },
        }
    }
    Node { at: place, value: Content::Text(out), filled: true }
}
