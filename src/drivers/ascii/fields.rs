//! From the body of a frame to values: by the named groups of a pattern, or by columns.

use super::Garbled;
use crate::{
    config::framed::{FieldPlace, FieldType, Frame, Framed, FramedPoint, Pattern},
    model::{PointId, Quality, Value},
};
use std::{borrow::Cow, sync::Arc};

/// Longest part of an unreadable frame that is told.
const TOLD: usize = 40;

/// What one frame said.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub points: Arc<[PointId]>,
    /// As long as `points`.
    pub values: Vec<Value>,
    /// `None`: all good.
    pub quality: Option<Vec<Quality>>,
}

/// The rules of one device, ready to be used for each frame.
#[derive(Debug)]
pub struct Parser {
    frame: Frame,
    points: Vec<FramedPoint>,
    /// One per pattern; a single one without pattern for columns.
    layouts: Vec<Layout>,
}

#[derive(Debug)]
struct Layout {
    pattern: Option<Pattern>,
    /// Which points this kind of frame holds.
    at: Vec<usize>,
    ids: Arc<[PointId]>,
}

impl Parser {
    pub fn new(device: &Framed) -> Parser {
        let points = &device.points;
        let layout = |pattern: Option<&Pattern>| {
            let holds = |p: &FramedPoint| match (&p.place, pattern) {
                (Some(FieldPlace::Field(name)), Some(pattern)) => pattern.fields().any(|f| f == name),
                (Some(FieldPlace::Columns(..)), None) => true,
                _ => false,
            };
            let at: Vec<usize> = (0..points.len()).filter(|n| holds(&points[*n])).collect();
            let ids = at.iter().map(|n| points[*n].id.clone()).collect();
            Layout { pattern: pattern.cloned(), at, ids }
        };
        let layouts = match device.patterns.as_slice() {
            [] => vec![layout(None)],
            patterns => patterns.iter().map(|p| layout(Some(p))).collect(),
        };
        Parser { frame: device.frame.clone(), points: points.clone(), layouts }
    }

    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Reads the body of a frame that is whole and passed its checksum.
    pub fn read(&self, body: &[u8]) -> Result<Said, Garbled> {
        let text = text(body);
        self.layouts.iter().find_map(|l| self.read_as(l, &text)).ok_or_else(|| Garbled::NoPattern(told(&text)))
    }

    fn read_as(&self, layout: &Layout, text: &str) -> Option<Said> {
        let captures = match &layout.pattern {
            Some(pattern) => Some(pattern.regex().captures(text)?),
            None => None,
        };
        let mut said = Said { points: Arc::clone(&layout.ids), values: Vec::with_capacity(layout.at.len()), quality: None };
        for n in &layout.at {
            let point = &self.points[*n];
            let field = match (&point.place, &captures) {
                (Some(FieldPlace::Field(name)), Some(captures)) => captures.name(name).map(|m| m.as_str()),
                (Some(FieldPlace::Columns(first, last)), _) => columns(text, *first, *last),
                _ => None,
            };
            let (value, quality) = decode(point, field);
            if quality != Quality::Good && said.quality.is_none() {
                said.quality = Some(vec![Quality::Good; said.values.len()]);
            }
            said.values.push(value);
            if let Some(all) = &mut said.quality {
                all.push(quality);
            }
        }
        Some(said)
    }
}

/// UTF-8 where it is, else each byte as its Latin-1 letter.
pub fn text(body: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(body.iter().map(|b| char::from(*b)).collect()),
    }
}

/// For a message: short, and without control characters.
pub fn told(text: &str) -> String {
    let clean: String = text.chars().take(TOLD).map(|c| if c.is_control() { '.' } else { c }).collect();
    if text.chars().nth(TOLD).is_some() { format!("{clean}…") } else { clean }
}

/// From column `first` to `last`, counted from 1; `None` where the frame is too short for the first.
fn columns(text: &str, first: usize, last: usize) -> Option<&str> {
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let begin = starts.nth(first.checked_sub(1)?)?;
    if begin == text.len() {
        return None;
    }
    let end = starts.nth(last.saturating_sub(first)).unwrap_or(text.len());
    text.get(begin..end)
}

fn decode(point: &FramedPoint, field: Option<&str>) -> (Value, Quality) {
    let Some(field) = field.map(str::trim) else { return (Value::Null, Quality::NotAvailable) };
    if point.na.iter().any(|na| na.trim() == field) {
        return (Value::Null, Quality::NotAvailable);
    }
    if !point.values.is_empty() {
        let known = point.values.iter().find(|(text, _)| text == field).map(|(_, value)| value.clone());
        return known.map_or((Value::Null, Quality::Bad), |value| (value, Quality::Good));
    }
    let value = match point.kind {
        FieldType::Text => Some(Value::Text(field.into())),
        FieldType::Bool => switch(field).map(Value::Bool),
        FieldType::Number => number(field, point.decimal).map(|n| Value::float(scaled(n, point))),
    };
    match value {
        Some(Value::Null) | None => (Value::Null, Quality::Bad),
        Some(value) => (value, Quality::Good),
    }
}

fn switch(field: &str) -> Option<bool> {
    match field.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Some(true),
        "0" | "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// A decimal number. Scales put blanks between the sign and the digits.
fn number(field: &str, decimal: char) -> Option<f64> {
    let (sign, digits) = match field.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, field.strip_prefix('+').unwrap_or(field)),
    };
    let digits = digits.trim_start();
    // Rust reads `inf` and `nan` as numbers too, and a second sign is none.
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == decimal)
        && digits.chars().all(|c| c.is_ascii_digit() || c == decimal || matches!(c, 'e' | 'E' | '+' | '-'));
    if !is_number {
        return None;
    }
    let plain = if decimal == '.' { Cow::Borrowed(digits) } else { Cow::Owned(digits.replace(decimal, ".")) };
    plain.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| sign * n)
}

/// A scale of 0.1, 0.01, … divides, so that 642 becomes 64.2 and not 64.20000000000001.
fn scaled(number: f64, point: &FramedPoint) -> f64 {
    let whole = (1.0 / point.scale).round();
    let divides = point.scale.abs() < 1.0 && (whole * point.scale - 1.0).abs() < 1e-12;
    let value = if divides { number / whole } else { number * point.scale };
    value + point.offset
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
