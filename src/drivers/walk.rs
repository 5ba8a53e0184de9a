//! The walk through one JSON document: every leaf with its path, without building a tree.
//!
//! Paths are joined by dots and hold only what a point id may hold; arrays count from 0.

use super::leaves::{Unreadable, depth};
use crate::{limits, model::Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Collects leaves. `path` is where we are; `names` holds one line per value, in order.
#[derive(Debug, Default)]
pub struct Walk {
    path: String,
    pub names: String,
    pub values: Vec<Value>,
    /// Bytes of all texts, as JSON.
    text: usize,
}

/// Memory for names that is kept for the next document.
const KEPT: usize = 4096;
/// A path is cut here. It is too long for a point id anyway, and one huge key must not be repeated for every leaf.
const PATH: usize = 80;
const MANY: &str = "fieldgate: too many values";
const LONG: &str = "fieldgate: too much text";

impl Walk {
    /// For the next document: the memory of this one, unless it was a huge one.
    pub fn emptied(self) -> Walk {
        let Walk { mut path, mut names, .. } = self;
        if names.capacity() > KEPT {
            return Walk::default();
        }
        path.clear();
        names.clear();
        Walk { path, names, ..Walk::default() }
    }

    /// A whole document; a plain one is called `plain`, and the leaves of another begin with `name`, if there is one.
    pub fn json(&mut self, json: &[u8], name: &str, plain: &str) -> Result<(), Unreadable> {
        if depth(json) > limits::JSON_DEPTH {
            return Err(Unreadable::Deep);
        }
        self.prefix(name);
        let mut from = serde_json::Deserializer::from_slice(json);
        Node(self).deserialize(&mut from).and_then(|()| from.end()).map_err(|e| self.why(&e.to_string()))?;
        if self.names == "\n" {
            // One value with an empty path: the payload is plain.
            self.names.clear();
            self.prefix(plain);
            self.names.push_str(&self.path);
            self.names.push('\n');
        }
        Ok(())
    }

    /// What a JSON pointer led to, under a name, or without one under the names of its members.
    pub fn under(&mut self, name: &str, found: &serde_json::Value) -> Result<(), Unreadable> {
        self.prefix(name);
        Node(self).deserialize(found).map_err(|e| self.why(&e.to_string()))
    }

    /// A whole document that was parsed already, and is an object.
    pub fn tree(&mut self, found: &serde_json::Value) -> Result<(), Unreadable> {
        self.path.clear();
        Node(self).deserialize(found).map_err(|e| self.why(&e.to_string()))
    }

    fn why(&self, error: &str) -> Unreadable {
        match error {
            _ if error.starts_with(MANY) => Unreadable::Many,
            _ if error.starts_with(LONG) => Unreadable::Long,
            _ => Unreadable::Json(error.to_owned()),
        }
    }

    fn prefix(&mut self, name: &str) {
        self.path.clear();
        if !name.is_empty() {
            self.push(name);
        }
    }

    /// Enters a member; returns where to cut the path when leaving it.
    fn push(&mut self, key: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        if key.is_empty() {
            self.path.push('_');
        }
        for c in key.chars() {
            if self.path.len() > PATH {
                break;
            }
            let kept = c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            self.path.push(if kept { c } else { '_' });
        }
        before
    }

    /// `Err`: [`MANY`] or [`LONG`].
    fn put(&mut self, value: Value) -> Result<(), &'static str> {
        if self.values.len() >= limits::MQTT_LEAVES {
            return Err(MANY);
        }
        if let Value::Text(text) = &value {
            self.text += Value::escaped_len(text);
            if self.text > limits::MQTT_TEXT_BYTES {
                return Err(LONG);
            }
        }
        self.names.push_str(&self.path);
        self.names.push('\n');
        self.values.push(value);
        Ok(())
    }

    /// One value.
    pub fn put_named(&mut self, name: &str, value: Value) -> Result<(), Unreadable> {
        self.prefix(name);
        self.put(value).map_err(|why| self.why(why))
    }
}

/// Walks one JSON value, whatever it is.
struct Node<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Node<'_> {
    fn leaf<E: serde::de::Error>(self, value: Value) -> Result<(), E> {
        self.0.put(value).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<(), E> {
        self.leaf(Value::Bool(v))
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<(), E> {
        self.leaf(Value::Int(v))
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        self.leaf(i64::try_from(v).map_or(Value::Uint(v), Value::Int))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<(), E> {
        self.leaf(Value::float(v))
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<(), E> {
        self.leaf(Value::Text(v.into()))
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.leaf(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (mut index, mut digits) = (0usize, String::new());
        loop {
            use fmt::Write as _;
            digits.clear();
            write!(digits, "{index}").map_err(A::Error::custom)?;
            let cut = self.0.push(&digits);
            let more = seq.next_element_seed(Node(self.0))?;
            self.0.path.truncate(cut);
            if more.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(cut) = map.next_key_seed(Key(self.0))? {
            map.next_value_seed(Node(self.0))?;
            self.0.path.truncate(cut);
        }
        Ok(())
    }
}

/// Enters a member by its key.
struct Key<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = usize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<usize, E> {
        Ok(self.0.push(key))
    }
}
