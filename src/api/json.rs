//! A value as the control socket and `--json` show it: bare; and back.

use crate::model::Value;
use serde_json::Value as Json;

pub fn plain(value: &Value) -> Json {
    value.plain()
}

/// The value that was shown so. `None`: a list or an object is none of a point.
pub fn value(json: &Json) -> Option<Value> {
    Value::of_plain(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
