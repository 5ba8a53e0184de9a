//! `[device.*.point.*]` on an ascii line: which part of a frame it is, what it means, what is sent to write it.

use super::{Desk, pattern, template, too_many};
use crate::{
    config::{
        check::{
            id,
            point::{report, scale},
        },
        framed::{FieldPlace, FieldType, FramedPoint, FramedWrite, Pattern},
        keys::{Keys, Trail},
        nearest::nearest,
        problem::Code,
        source::Place,
        table::Table,
        tree::Content,
    },
    limits,
    model::{PointId, Value},
};
use std::time::Duration;

const KEYS: &[&str] = &["field", "columns", "type", "scale", "offset", "unit", "na", "values", "decimal", "report", "write"];
const WRITE: &[&str] = &["send", "expect", "refuse", "min", "max", "min_interval"];
const TYPES: &[(&str, FieldType)] = &[("number", FieldType::Number), ("text", FieldType::Text), ("bool", FieldType::Bool)];

/// What the points of one device share.
pub struct Context<'a> {
    /// `None`: what is wrong with them was reported.
    pub patterns: Option<&'a [Pattern]>,
    pub unit: Option<&'a str>,
    pub has_checksum: bool,
    pub poll: Duration,
}

impl Context<'_> {
    fn has_field(&self, name: &str) -> bool {
        self.patterns.is_some_and(|p| p.iter().flat_map(Pattern::fields).any(|f| f == name))
    }
}

pub fn all(keys: &Keys<'_>, context: &Context<'_>, counted: &mut usize, desk: &mut Desk<'_>) -> Vec<FramedPoint> {
    let trail = keys.trail.then("point");
    let table = keys.sub("point", "[device.name.point.weight]", &mut desk.out);
    let Some((table, at)) = table.filter(|(t, _)| !t.is_empty()) else {
        if keys.entry("point").is_none_or(|e| e.node.table().is_some()) {
            desk.out
                .error(Code::NoPoints, keys.at, keys.trail, format!("{} has no points", keys.trail))
                .because("nothing of what it says would be kept")
                .want_when(format!("[{}.point.weight]", keys.trail), "named like a group of the pattern");
        }
        return Vec::new();
    };
    *counted += table.len();
    if *counted > limits::CONFIG_POINTS {
        too_many(at, &trail, desk);
        return Vec::new();
    }
    let mut points = Vec::with_capacity(table.len());
    for (name, entry) in table.iter() {
        match entry.node.table() {
            Some(t) => points.extend(one(name, t, entry.at, &trail, context, desk)),
            None => {
                desk.out
                    .error(Code::WrongType, entry.at, trail.then(name), format!("`{name}` must be a table"))
                    .because("a point is a part of a frame")
                    .want(format!("{name} = {{ field = \"weight\" }}"));
            }
        }
    }
    // What is wrong with a single point was told already.
    if points.len() == table.len() && points.iter().all(|p| p.place.is_none()) {
        desk.out
            .error(Code::NoPoints, at, trail, format!("{} is only written", keys.trail))
            .because("no point is read, so it would never be seen")
            .want_when(format!("[{}.point.weight]", keys.trail), "named like a group of the pattern");
    }
    points
}

fn one(name: &str, table: &Table, at: Place, up: &Trail<'_>, context: &Context<'_>, desk: &mut Desk<'_>) -> Option<FramedPoint> {
    let trail = up.then(name);
    let keys = Keys::open(table, at, &trail, "a point of an ascii device", KEYS, &mut desk.out);
    let point_id = id(name, at, trail, PointId::parse, desk);
    let kind = if keys.has("type") { keys.word("type", TYPES, &mut desk.out) } else { None };
    let place = place(name, &keys, context, desk);
    let write = write(&keys, context, desk);
    let is_command = write.as_ref().is_some_and(|w| !w.takes_number());
    let kind = match (kind, &place) {
        (Some(kind), _) => kind,
        (None, Some(None)) if is_command => FieldType::Bool,
        (None, _) => FieldType::Number,
    };
    if let Some(write) = &write {
        fits(&keys, kind, write, desk);
    }
    let scale = scale(&keys, desk);
    let offset = keys.number("offset", &mut desk.out).unwrap_or(0.0);
    let unit = keys.text("unit", &mut desk.out).map(|t| t.it.to_owned()).unwrap_or_default();
    let na = keys.texts("na", &mut desk.out).into_iter().map(|t| t.it.to_owned()).collect();
    let values = values(&keys, kind, desk);
    let decimal = if keys.has("decimal") { keys.word("decimal", &[(".", '.'), (",", ',')], &mut desk.out).unwrap_or('.') } else { '.' };
    let report = report(&keys, context.poll, desk);
    Some(FramedPoint { scale, offset, unit, na, values, decimal, report, write, ..FramedPoint::new(point_id?, place?, kind) })
}

/// Where its value stands; `Some(None)`: it is only written. `None`: reported.
#[allow(clippy::option_option)] // said above
fn place(name: &str, keys: &Keys<'_>, context: &Context<'_>, desk: &mut Desk<'_>) -> Option<Option<FieldPlace>> {
    match (keys.has("field"), keys.has("columns")) {
        (true, true) => {
            desk.out
                .error(Code::TwoPlaces, keys.key_at("columns"), keys.key("columns"), "a field and columns")
                .because("a value stands in one place")
                .want("keep one");
            None
        }
        (true, false) => field(keys, context, desk).map(Some),
        (false, true) => columns(keys, context, desk).map(Some),
        (false, false) if context.has_field(name) => Some(Some(FieldPlace::Field(name.to_owned()))),
        (false, false) if keys.has("write") => Some(None),
        (false, false) => {
            let patterns = context.patterns?;
            let p = desk.out.error(Code::MissingKey, keys.at, keys.trail, format!("{} stands nowhere", keys.trail));
            p.because("no group of a pattern has its name, and `field` or `columns` is missing");
            match patterns.iter().flat_map(Pattern::fields).next() {
                Some(group) => p.want(format!("field = \"{group}\"")),
                None => p.want_when("columns = [4, 12]", "the fourth to the twelfth character"),
            };
            None
        }
    }
}

fn field(keys: &Keys<'_>, context: &Context<'_>, desk: &mut Desk<'_>) -> Option<FieldPlace> {
    let text = keys.text("field", &mut desk.out)?;
    if context.has_field(text.it) {
        return Some(FieldPlace::Field(text.it.to_owned()));
    }
    let names: Vec<&str> = context.patterns?.iter().flat_map(Pattern::fields).collect();
    let near = nearest(text.it, names.iter().copied());
    let because = match (near, &names[..]) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => "the device has no pattern with named groups".into(),
        (None, names) => format!("groups here: {}", names.join(", ")),
    };
    let found = format!("no pattern has a group `{}`", text.it);
    let p = desk.out.error(Code::UnknownField, text.at, keys.key("field"), found).because(because);
    match near.or(names.first().copied()) {
        Some(group) => p.want(format!("field = \"{group}\"")),
        None => p.want(format!("pattern = '(?<{}>[0-9.]+) g'", text.it)),
    };
    None
}

fn columns(keys: &Keys<'_>, context: &Context<'_>, desk: &mut Desk<'_>) -> Option<FieldPlace> {
    let example = "[4, 12]";
    let list = keys.list("columns", example, &mut desk.out)?;
    let number = |n: usize| match list.get(n).map(|node| &node.value) {
        Some(Content::Int(n)) => usize::try_from(*n).ok().filter(|n| (1..=limits::FRAME_BYTES).contains(n)),
        _ => None,
    };
    let found = match (number(0), number(1), list.len()) {
        (Some(first), Some(last), 2) if first <= last => FieldPlace::Columns(first, last),
        _ => {
            desk.out
                .error(Code::BadValue, keys.value_at("columns"), keys.key("columns"), "these are no columns")
                .because("the first and the last character, counted from 1")
                .want(format!("columns = {example}"));
            return None;
        }
    };
    if context.patterns.is_some_and(|p| !p.is_empty()) {
        desk.out
            .error(Code::TwoPlaces, keys.key_at("columns"), keys.key("columns"), "the device has a pattern")
            .because("its frames are read by groups or by columns")
            .want_when("field = \"…\"", "a group of the pattern")
            .want_when("no `pattern`", "columns for all points");
        return None;
    }
    Some(found)
}

/// `values = { S = "stable" }`: what a text stands for.
fn values(keys: &Keys<'_>, kind: FieldType, desk: &mut Desk<'_>) -> Vec<(String, Value)> {
    let (example, want) = match kind {
        FieldType::Number => ("{ OFF = 0, ON = 1 }", "a number"),
        FieldType::Text => ("{ S = \"stable\", D = \"moving\" }", "a string"),
        FieldType::Bool => ("{ S = true, D = false }", "true or false"),
    };
    let Some((table, _)) = keys.sub("values", example, &mut desk.out) else { return Vec::new() };
    let mut out = Vec::with_capacity(table.len());
    for (text, entry) in table.iter() {
        #[allow(clippy::cast_precision_loss)] // names of states are small numbers
        let value = match (&entry.node.value, kind) {
            (Content::Int(n), FieldType::Number) => Some(Value::Float(*n as f64)),
            (Content::Float(n), FieldType::Number) if n.is_finite() => Some(Value::Float(*n)),
            (Content::Text(t), FieldType::Text) => Some(Value::Text(t.as_str().into())),
            (Content::Flag(b), FieldType::Bool) => Some(Value::Bool(*b)),
            _ => None,
        };
        match value {
            Some(value) => out.push((text.to_owned(), value)),
            None => {
                desk.out
                    .error(Code::TypeMismatch, entry.node.at, keys.key("values"), format!("`{text}` must stand for {want}"))
                    .because(format!("the point is of type {}", kind.word()))
                    .want(format!("values = {example}"));
            }
        }
    }
    out
}

fn write(keys: &Keys<'_>, context: &Context<'_>, desk: &mut Desk<'_>) -> Option<FramedWrite> {
    let (table, at) = keys.sub("write", "{ send = \"Z\\r\\n\", expect = \"Z A\" }", &mut desk.out)?;
    let trail = keys.trail.then("write");
    let inner = Keys::open(table, at, &trail, "a write", WRITE, &mut desk.out);
    let expression = |key: &str, desk: &mut Desk<'_>| {
        let text = inner.text(key, &mut desk.out)?;
        pattern(text.it, text.at, inner.key(key), context.unit, desk)
    };
    let (expect, refuse) = (expression("expect", desk), expression("refuse", desk));
    if refuse.is_some() && !inner.has("expect") {
        desk.out
            .error(Code::BadWrite, inner.key_at("refuse"), inner.key("refuse"), "`refuse` without `expect`")
            .because("without `expect` no answer is awaited")
            .want("expect = \"Z A\"");
    }
    let out = &mut desk.out;
    let (min, max) = (inner.number("min", out), inner.number("max", out));
    if let (Some(lo), Some(hi)) = (min, max)
        && lo > hi
    {
        out.error(Code::MinAboveMax, inner.value_at("min"), inner.key("min"), format!("`min` {lo} is above `max` {hi}"))
            .because("no value fits between them")
            .want(format!("min = {hi}, max = {lo}"));
    }
    let min_interval = inner.duration("min_interval", Duration::ZERO..=Duration::from_secs(86_400), out).unwrap_or_default();
    if !inner.require("send", "send = \"Z\\r\\n\"", out) {
        return None;
    }
    let text = inner.text("send", out)?;
    let send = template::check(&text, "send", &inner, context.unit, context.has_checksum, true, desk)?;
    Some(FramedWrite { send, expect, refuse, min, max, min_interval })
}

/// A number needs its place in what is sent, and nothing else has one.
fn fits(keys: &Keys<'_>, kind: FieldType, write: &FramedWrite, desk: &mut Desk<'_>) {
    let (found, because, want) = match (kind, write.takes_number()) {
        (FieldType::Number, true) | (FieldType::Bool, false) => return,
        (FieldType::Number, false) => ("the number that is written is not sent", "`send` has no {value}", "send = \"L {value}\\r\\n\""),
        (FieldType::Bool, true) => ("true and false have no place in what is sent", "{value} is a number", "type = \"number\""),
        (FieldType::Text, _) => ("a text cannot be written", "what is sent is a command or a number", "type = \"number\""),
    };
    desk.out
        .error(Code::BadWrite, keys.key_at("write"), keys.key("write"), found)
        .because(because)
        .want(want)
        .want_when("type = \"bool\"", "a command without a value: true sends it");
}
