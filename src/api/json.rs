//! A value as the control socket and `--json` show it: bare.

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
