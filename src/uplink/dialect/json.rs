//! JSON straight into a reused buffer: no tree is built, so a sample costs tens of nanoseconds.
//!
//! Numbers and escapes are those of serde_json (shortest floats that read back equal, integers as integers). What must
//! not be written cannot be: a `Value::Float` that is not finite is written as null.

use crate::model::Value;

/// Digits of any integer or finite float.
pub fn number(out: &mut Vec<u8>, v: impl serde::Serialize) {
    serde_json::to_writer(out, &v).expect("a number into a Vec cannot fail");
}

/// A string in quotes, escaped.
pub fn text(out: &mut Vec<u8>, v: &str) {
    serde_json::to_writer(out, v).expect("a string into a Vec cannot fail");
}

/// A string of which the type guarantees that nothing needs an escape: an id, or a word of ours.
pub fn clean(out: &mut Vec<u8>, v: &str) {
    out.push(b'"');
    out.extend_from_slice(v.as_bytes());
    out.push(b'"');
}

pub fn value(out: &mut Vec<u8>, v: &Value) {
    match v {
        Value::Float(f) if f.is_finite() => number(out, f),
        Value::Null | Value::Float(_) => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Int(i) => number(out, i),
        Value::Uint(u) => number(out, u),
        Value::Text(t) => text(out, t),
    }
}

/// One object: writes the comma and the key before each member. `end` closes it.
pub struct Object<'a> {
    pub out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, first: true }
    }

    /// The key must need no escape: ids and words of ours do not.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        clean(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub fn word(&mut self, key: &str, v: &str) -> &mut Self {
        clean(self.key(key), v);
        self
    }

    pub fn text(&mut self, key: &str, v: &str) -> &mut Self {
        text(self.key(key), v);
        self
    }

    pub fn number(&mut self, key: &str, v: impl serde::Serialize) -> &mut Self {
        number(self.key(key), v);
        self
    }

    pub fn flag(&mut self, key: &str, v: bool) -> &mut Self {
        let out = self.key(key);
        out.extend_from_slice(if v { b"true" } else { b"false" });
        self
    }

    /// A word, or null.
    pub fn maybe_word(&mut self, key: &str, v: Option<&str>) -> &mut Self {
        match v {
            Some(v) => self.word(key, v),
            None => self.null(key),
        }
    }

    pub fn null(&mut self, key: &str) -> &mut Self {
        self.key(key).extend_from_slice(b"null");
        self
    }

    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Items between brackets, with commas.
pub fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        check(&Value::Float(64.2), "64.2");
        check(&Value::Float(21.0), "21.0");
        check(&Value::Float(-0.0), "-0.0");
        check(&Value::Float(1e-7), "1e-7");
        check(&Value::Float(0.1 + 0.2), "0.30000000000000004");
        check(&Value::Float(f64::NAN), "null");
        check(&Value::Float(f64::NEG_INFINITY), "null");
        check(&Value::Int(i64::MIN), "-9223372036854775808");
        check(&Value::Uint(u64::MAX), "18446744073709551615");
        check(&Value::Bool(true), "true");
        check(&Value::Null, "null");
        check(&Value::Text("Zähler \"1\"\n\u{1}".into()), r#""Zähler \"1\"\n\u0001""#);
    }

    #[track_caller]
    fn check(v: &Value, want: &str) {
        let mut out = Vec::new();
        value(&mut out, v);
        assert_eq!(String::from_utf8(out).unwrap(), want, "{v:?}");
    }
}
