//! A payload's values: every leaf of a JSON document with its path, or the one plain value.
//!
//! The document is walked once, without building a tree: this is the hot path of local MQTT. Paths are collected in one
//! text; a device sends the same shape again and again, so [`Shapes`] turns an equal text into the same shared names and
//! a message costs no allocation per name. Bounded by `limits::MQTT_LEAVES` and `limits::JSON_DEPTH`.
//!
//! Absent on purpose: topics, routes, time.

use super::walk::Walk;
use crate::{
    config::Shape,
    limits,
    model::{PointId, Quality, Value},
};
use std::{collections::HashMap, sync::Arc};

/// Why a payload cannot be used; becomes the reason of its dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not JSON: {0}")]
    Json(String),
    #[error("neither JSON nor text")]
    Bytes,
    #[error("nested deeper than {} levels", limits::JSON_DEPTH)]
    Deep,
    #[error("more than {} values", limits::MQTT_LEAVES)]
    Many,
    #[error("more than {} bytes of text", limits::MQTT_TEXT_BYTES)]
    Long,
    #[error("no point id can be made of {0:?}: use 'values' to name it")]
    Name(String),
    #[error("two values for point {0}: use 'values' to tell them apart")]
    Twice(String),
    #[error("none of the route's 'values' is in it")]
    Nothing,
    #[error("there is nothing at {0}, where the route's 'at' looks")]
    Missing(String),
    #[error("{0:?} is neither on nor off: the route's 'words' may say what it is")]
    Switch(String),
}

/// Values with their names, ready for a reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaves {
    pub points: Arc<[PointId]>,
    pub values: Vec<Value>,
}

impl Leaves {
    /// A JSON null is a value that is not available.
    pub fn quality(&self) -> Option<Vec<Quality>> {
        let of = |value: &Value| if *value == Value::Null { Quality::NotAvailable } else { Quality::Good };
        self.values.contains(&Value::Null).then(|| self.values.iter().map(of).collect())
    }
}

/// Names that were made before, by the text of their paths.
#[derive(Debug, Default)]
pub struct Shapes {
    known: HashMap<Box<str>, Known>,
    bytes: usize,
    shape: Shape,
    /// Empty, for its memory.
    walk: Walk,
}

#[derive(Debug, Clone)]
struct Known {
    points: Arc<[PointId]>,
    /// Which leaves these are, each with whether it is a switch. `None`: all of them, and none is.
    picks: Option<Arc<[(usize, bool)]>>,
}

/// Shapes remembered. Full: forgotten and learned anew, which only costs time.
const SHAPES: usize = 1_000;

impl Shapes {
    pub fn with(shape: &Shape) -> Shapes {
        Shapes { shape: shape.clone(), ..Shapes::default() }
    }

    /// All leaves of a payload; a plain payload becomes the point `plain`.
    pub fn all(&mut self, payload: &[u8], plain: &str) -> Result<Leaves, Unreadable> {
        self.under(payload, "", plain)
    }

    /// The same, where names of leaves begin with `name`.
    pub fn under(&mut self, payload: &[u8], name: &str, plain: &str) -> Result<Leaves, Unreadable> {
        let mut walk = std::mem::take(&mut self.walk);
        let json = document(payload);
        let is_whole = json.is_some_and(|json| matches!(json.first(), Some(b'{' | b'[')));
        match (json, &self.shape.at) {
            (Some(_), Some(at)) if is_whole => {
                let root = value(payload)?;
                walk.under(name, root.pointer(at).ok_or_else(|| Unreadable::Missing(at.clone()))?)?;
            }
            (Some(json), _) => walk.json(json, name, plain)?,
            (None, _) => walk.put_named(plain, text(payload)?)?,
        }
        let leaves = self.named(walk)?;
        if let (false, [point], [Value::Text(word)]) = (is_whole, &*leaves.points, &*leaves.values)
            && self.shape.switches(point.as_str())
        {
            return Err(Unreadable::Switch(word.chars().take(80).collect()));
        }
        Ok(leaves)
    }

    /// The leaves under some JSON pointers; each pointer's name starts those of its leaves.
    pub fn chosen<'a>(&mut self, payload: &[u8], wanted: impl Iterator<Item = (&'a PointId, &'a str)>) -> Result<Leaves, Unreadable> {
        let root = value(payload)?;
        let mut walk = Walk::default();
        for (point, pointer) in wanted {
            if let Some(found) = root.pointer(pointer) {
                walk.under(point.as_str(), found)?;
            }
        }
        if walk.values.is_empty() { Err(Unreadable::Nothing) } else { self.named(walk) }
    }

    /// All leaves of an object that was parsed already.
    pub fn of(&mut self, found: &serde_json::Value) -> Result<Leaves, Unreadable> {
        let mut walk = Walk::default();
        walk.tree(found)?;
        self.named(walk)
    }

    fn named(&mut self, mut walk: Walk) -> Result<Leaves, Unreadable> {
        if let Some(known) = self.known.get(walk.names.as_str()) {
            let leaves = known.leaves(std::mem::take(&mut walk.values), &self.shape);
            self.walk = walk.emptied();
            return Ok(leaves);
        }
        let known = known(&walk, &self.shape)?;
        if self.known.len() >= SHAPES || self.bytes + walk.names.len() > limits::MQTT_NAME_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += walk.names.len();
        self.known.insert(walk.names.into(), known.clone());
        Ok(known.leaves(walk.values, &self.shape))
    }
}

impl Known {
    fn leaves(&self, mut values: Vec<Value>, shape: &Shape) -> Leaves {
        let points = self.points.clone();
        let Some(picks) = &self.picks else { return Leaves { points, values } };
        let mut take = |(leaf, is_switch): &(usize, bool)| {
            let value = std::mem::replace(&mut values[*leaf], Value::Null);
            if *is_switch { switched(value, shape) } else { value }
        };
        Leaves { values: picks.iter().map(&mut take).collect(), points }
    }
}

/// Words of a switch become true and false; what is no such word stays what it is.
fn switched(value: Value, shape: &Shape) -> Value {
    let is = |word: &str, words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    match &value {
        Value::Int(0) | Value::Uint(0) => Value::Bool(false),
        Value::Int(1) | Value::Uint(1) => Value::Bool(true),
        Value::Text(word) => match shape.words.iter().find(|(own, _)| word.eq_ignore_ascii_case(own)) {
            Some((_, on)) => Value::Bool(*on),
            None if is(word, &["on", "true", "1"]) => Value::Bool(true),
            None if is(word, &["off", "false", "0"]) => Value::Bool(false),
            None => value,
        },
        _ => value,
    }
}

fn known(walk: &Walk, shape: &Shape) -> Result<Known, Unreadable> {
    let mut seen = std::collections::BTreeSet::new();
    let (mut points, mut picks) = (Vec::with_capacity(walk.values.len()), Vec::new());
    let taken = walk.names.split_terminator('\n').enumerate().filter(|(_, name)| shape.takes(name));
    for (leaf, name) in taken {
        let point = PointId::parse(name).map_err(|_| Unreadable::Name(name.chars().take(80).collect()))?;
        if !seen.insert(name) {
            return Err(Unreadable::Twice(name.to_owned()));
        }
        picks.push((leaf, shape.switches(name)));
        points.push(point);
    }
    let all = picks.len() == walk.values.len() && picks.iter().all(|(_, is_switch)| !is_switch);
    Ok(Known { points: points.into(), picks: (!all).then(|| picks.into()) })
}

/// Parses a payload as one JSON value; text that is no JSON is that text.
pub fn value(payload: &[u8]) -> Result<serde_json::Value, Unreadable> {
    match document(payload) {
        Some(json) if depth(json) > limits::JSON_DEPTH => Err(Unreadable::Deep),
        Some(json) => serde_json::from_slice(json).map_err(|e| Unreadable::Json(e.to_string())),
        None => text(payload).map(|value| match value {
            Value::Text(text) => serde_json::Value::String((*text).to_owned()),
            _ => serde_json::Value::Null,
        }),
    }
}

/// One JSON scalar as a value; `None` for objects and arrays.
pub fn scalar(json: &serde_json::Value) -> Option<Value> {
    Some(match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::String(text) => Value::Text(text.as_str().into()),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(v), _) => Value::Int(v),
            (None, Some(v)) => Value::Uint(v),
            (None, None) => Value::float(n.as_f64()?),
        },
        _ => return None,
    })
}

/// The payload without blanks around it, if it can only be JSON: a document, a quoted text, or a whole plain scalar.
fn document(payload: &[u8]) -> Option<&[u8]> {
    let trimmed = payload.trim_ascii();
    match trimmed.first()? {
        b'{' | b'[' | b'"' => Some(trimmed),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => serde_json::from_slice::<serde::de::IgnoredAny>(trimmed).ok().map(|_| trimmed),
        _ => None,
    }
}

fn text(payload: &[u8]) -> Result<Value, Unreadable> {
    let text = std::str::from_utf8(payload).map_err(|_| Unreadable::Bytes)?.trim();
    if text.is_empty() || text.contains('\0') { Err(Unreadable::Bytes) } else { Ok(Value::Text(text.into())) }
}

/// The deepest nesting of brackets outside of quotes. Cheaper than parsing, and before it: nesting costs stack.
pub fn depth(json: &[u8]) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Leaves written as `name=value name=value`, or the reason why not.
    fn show(result: &Result<Leaves, Unreadable>) -> String {
        match result {
            Err(why) => format!("! {why}"),
            Ok(leaves) => {
                let one = |(point, value): (&PointId, &Value)| match value {
                    Value::Null => format!("{point}=null"),
                    Value::Bool(v) => format!("{point}={v}"),
                    Value::Int(v) => format!("{point}={v}"),
                    Value::Uint(v) => format!("{point}={v}u"),
                    Value::Float(v) => format!("{point}={v:?}"),
                    Value::Text(v) => format!("{point}={v:?}"),
                };
                leaves.points.iter().zip(&leaves.values).map(one).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[track_caller]
    fn check(payload: &str, want: &str) {
        let got = show(&Shapes::default().all(payload.as_bytes(), "value"));
        assert_eq!(got, want, "{payload}");
    }

    #[test]
    fn every_leaf_becomes_a_point() {
        check(r#"{"a":1,"b":{"c":-2.5,"d":[true,null,"x"]}}"#, r#"a=1 b.c=-2.5 b.d.0=true b.d.1=null b.d.2="x""#);
        check(r#"{"Zähler 1":7,"":{"":1}}"#, "Z_hler_1=7 _._=1");
        check(r#"{"big":18446744073709551615,"neg":-9223372036854775808}"#, "big=18446744073709551615u neg=-9223372036854775808");
        check("{}", "");
        check(" [1, 2] ", "0=1 1=2");
    }

    #[test]
    fn a_text_that_no_broker_takes_is_refused() {
        let refused =
            |payload: String| assert_eq!(show(&Shapes::default().all(payload.as_bytes(), "v")), "! more than 65536 bytes of text");
        refused("x".repeat(limits::MQTT_TEXT_BYTES + 1));
        refused(format!("[\"{0}\",\"{0}\"]", "x".repeat(40_000)));
        refused(format!("a{}", "\u{1}".repeat(20_000))); // each becomes \u0001
        let most = "x".repeat(limits::MQTT_TEXT_BYTES);
        assert!(Shapes::default().all(most.as_bytes(), "v").is_ok());
    }

    #[test]
    fn names_that_never_repeat_fill_no_memory() {
        let mut shapes = Shapes::default();
        for n in 0..100 {
            let members: Vec<String> = (0..limits::MQTT_LEAVES).map(|k| format!("\"{n:030}-{k:010}\":1")).collect();
            shapes.all(format!("{{{}}}", members.join(",")).as_bytes(), "v").unwrap();
            let held: usize = shapes.known.keys().map(|names| names.len()).sum();
            assert!(held <= limits::MQTT_NAME_BYTES && held == shapes.bytes, "{held} bytes");
        }
    }

    #[test]
    fn a_plain_payload_is_one_value() {
        check("21.5", "value=21.5");
        check(" 42\r\n", "value=42");
        check("true", "value=true");
        check("null", "value=null");
        check("ON", r#"value="ON""#);
        check("\"ON\"", r#"value="ON""#);
        check("nan", r#"value="nan""#);
        check("12:30", r#"value="12:30""#);
        check("-", r#"value="-""#);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        check(r#"{"a":1"#, "! not JSON: EOF while parsing an object at line 1 column 6");
        check(r#"{"a":1} x"#, "! not JSON: trailing characters at line 1 column 9");
        check(r#"{"a b":1,"a_b":2}"#, "! two values for point a_b: use 'values' to tell them apart");
        check(r#"{"a":1,"a":2}"#, "! two values for point a: use 'values' to tell them apart");
        check("", "! neither JSON nor text");
        check(&format!("{}1{}", "[".repeat(33), "]".repeat(33)), "! nested deeper than 32 levels");
        check(&"[".repeat(100_000), "! nested deeper than 32 levels");
        check(&format!("[{}1]", "1,".repeat(1_000)), "! more than 1000 values");
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(100_000));
        assert!(show(&Shapes::default().all(long.as_bytes(), "value")).starts_with("! no point id can be made of \"xxx"));
        assert_eq!(Shapes::default().all(&[0xff, 0xfe], "value"), Err(Unreadable::Bytes));
    }

    #[test]
    fn exactly_the_limit_of_values_is_allowed() {
        let full = format!("[{}1]", "1,".repeat(limits::MQTT_LEAVES - 1));
        let leaves = Shapes::default().all(full.as_bytes(), "value").unwrap();
        assert_eq!(leaves.values.len(), limits::MQTT_LEAVES);
    }

    #[test]
    fn pointers_choose_and_name() {
        let payload = br#"{"Time":"2026-01-01T00:00:00","ENERGY":{"Power":[12,0,3],"Total":1.5,"a/b":4}}"#;
        let id = |text: &str| PointId::parse(text).unwrap();
        let check = |wanted: &[(&str, &str)], want: &str| {
            let ids: Vec<(PointId, &str)> = wanted.iter().map(|(name, pointer)| (id(name), *pointer)).collect();
            let got = Shapes::default().chosen(payload, ids.iter().map(|(name, pointer)| (name, *pointer)));
            assert_eq!(show(&got), want, "{wanted:?}");
        };
        check(&[("total", "/ENERGY/Total")], "total=1.5");
        check(&[("power", "/ENERGY/Power"), ("gone", "/ENERGY/Gone")], "power.0=12 power.1=0 power.2=3");
        check(&[("x", "/ENERGY/a~1b")], "x=4");
        check(&[("gone", "/Gone")], "! none of the route's 'values' is in it");
        let plain = Shapes::default().chosen(b"7", [(&id("level"), "")].into_iter());
        assert_eq!(show(&plain), "level=7");
    }

    #[track_caller]
    fn check_shaped(shape: &Shape, name: &str, payload: &str, want: &str) {
        let plain = if name.is_empty() { "value" } else { name };
        // Twice: the second time its names are known.
        let mut shapes = Shapes::with(shape);
        for _ in 0..2 {
            assert_eq!(show(&shapes.under(payload.as_bytes(), name, plain)), want, "{payload}");
        }
    }

    #[test]
    fn a_shape_chooses_names_and_switches() {
        let list = |of: &[&str]| of.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let state = Shape { except: list(&["Time"]), switches: list(&["POWER*"]), ..Shape::default() };
        check_shaped(&state, "", r#"{"Time":"x","POWER1":"ON","POWER2":"off","Dimmer":50}"#, "POWER1=true POWER2=false Dimmer=50");
        check_shaped(&state, "", r#"{"POWER1":"BLINK"}"#, r#"POWER1="BLINK""#);
        check_shaped(&state, "", r#"{"Time":"x"}"#, "");
        let relay = Shape { switches: list(&["*"]), words: [("overpower".to_owned(), false)].into(), ..Shape::default() };
        for (word, want) in [("on", "true"), ("OFF", "false"), ("1", "true"), ("0", "false"), ("\"on\"", "true"), ("overpower", "false")] {
            check_shaped(&relay, "relay.0", word, &format!("relay.0={want}"));
        }
        check_shaped(&relay, "relay.0", "21", "relay.0=21");
        check_shaped(&relay, "relay.0", "open", "! \"open\" is neither on nor off: the route's 'words' may say what it is");
        check_shaped(&relay, "relay.0", r#"{"state":"on","by":"button"}"#, r#"relay.0.state=true relay.0.by="button""#);
        let feed = Shape { at: Some("/value".into()), ..Shape::default() };
        check_shaped(&feed, "t", r#"{"value":21.5,"unit":"C"}"#, "t=21.5");
        check_shaped(&feed, "t", r#"{"value":{"lat":1,"lon":2}}"#, "t.lat=1 t.lon=2");
        check_shaped(&feed, "t", "21.5", "t=21.5");
        check_shaped(&feed, "t", r#"{"valeu":21.5}"#, "! there is nothing at /value, where the route's 'at' looks");
        let rpc =
            Shape { at: Some("/params".into()), except: list(&["ts", "*.id"]), switches: list(&["switch_*.output"]), ..Shape::default() };
        check_shaped(
            &rpc,
            "",
            r#"{"params":{"ts":1.5,"switch:0":{"id":0,"output":true,"apower":8.9}}}"#,
            "switch_0.output=true switch_0.apower=8.9",
        );
    }

    #[test]
    fn an_equal_shape_shares_its_names() {
        let mut shapes = Shapes::default();
        let a = shapes.all(br#"{"a":1,"b":2}"#, "value").unwrap();
        let b = shapes.all(br#"{"a":3,"b":4}"#, "value").unwrap();
        let c = shapes.all(br#"{"b":3,"a":4}"#, "value").unwrap();
        assert!(Arc::ptr_eq(&a.points, &b.points) && !Arc::ptr_eq(&a.points, &c.points));
        assert_eq!(a.quality(), None);
        assert_eq!(shapes.all(br#"{"a":null,"b":2}"#, "value").unwrap().quality(), Some(vec![Quality::NotAvailable, Quality::Good]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload: Vec<u8>) {
            let _ = Shapes::default().all(&payload, "value");
            let _ = value(&payload);
        }

        #[test]
        fn arbitrary_json_keeps_names_and_values_in_step(payload in "[\\[\\]{}\",:a-c0-9 .\\\\ntf-]{0,60}") {
            if let Ok(leaves) = Shapes::default().all(payload.as_bytes(), "value") {
                prop_assert_eq!(leaves.points.len(), leaves.values.len());
            }
        }
    }
}
