//! Is this JSON one that can mean only one thing? Refuses deep nesting and keys that come twice, before a tree is built.

use crate::limits;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeSet, fmt};

/// Says in words where the document is malformed, nested deeper than `limits::JSON_DEPTH`, or ambiguous.
pub fn check(body: &[u8]) -> Result<(), serde_json::Error> {
    let mut from = serde_json::Deserializer::from_slice(body);
    Shape { depth: 0 }.deserialize(&mut from)?;
    from.end()
}

/// Walks a value and keeps nothing of it but the keys of the open objects.
#[derive(Clone, Copy)]
struct Shape {
    depth: usize,
}

impl Shape {
    fn deeper<E: de::Error>(self) -> Result<Shape, E> {
        if self.depth >= limits::JSON_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {} levels", limits::JSON_DEPTH)));
        }
        Ok(Shape { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(key) = keys.replace(key) {
                return Err(de::Error::custom(format_args!("the key {key:?} comes twice")));
            }
            map.next_value_seed(inner)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        accept(r#"{"a":[1,-2.5,"x",null,true,{"a":{}}]}"#);
        accept(&("[".repeat(32) + &"]".repeat(32)));
        refuse(&("[".repeat(33) + &"]".repeat(33)), "nested deeper than 32 levels");
        refuse(&"[".repeat(100_000), "nested deeper than 32 levels");
        refuse(r#"{"w":{"k":1,"k":2}}"#, "the key \"k\" comes twice");
        refuse(r#"{"k":1,"\u006b":2}"#, "the key \"k\" comes twice");
        refuse(r#"{"a":1} {"b":2}"#, "trailing characters");
        refuse("", "EOF while parsing");
        refuse("{'a':1}", "key must be a string");
    }

    #[track_caller]
    fn accept(text: &str) {
        check(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn refuse(text: &str, want: &str) {
        let got = check(text.as_bytes()).unwrap_err().to_string();
        assert!(got.contains(want), "{text:.60}: {got}");
    }
}
