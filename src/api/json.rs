//! A value as the control socket and `--json` show it: bare; and back.

use crate::model::Value;
use serde_json::{Value as Json, json};

pub fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(on) => json!(on),
        Value::Int(n) => json!(n),
        Value::Uint(n) => json!(n),
        Value::Float(n) => json!(n),
        Value::Text(text) => json!(text.as_ref()),
    }
}

/// The value that was shown so. `None`: a list or an object is none of a point.
pub fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(on) => Value::Bool(*on),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(n)) => Value::Uint(n),
            (None, None) => Value::Float(n.as_f64()?),
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(_) | Json::Object(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_above_2_to_the_63_comes_back_as_it_was() {
        for shown in [
            Value::Uint(u64::MAX),
            Value::Uint(i64::MAX as u64 + 1),
            Value::Int(-3),
            Value::Float(6.5),
            Value::Bool(true),
            Value::Null,
            Value::Text("auto".into()),
        ] {
            assert_eq!(value(&plain(&shown)), Some(shown));
        }
        assert_eq!(value(&json!([1])), None);
    }
}
