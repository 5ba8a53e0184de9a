//! Values, refusals and fixed writes in the words of an outcome.

use crate::{
    config::{FixedWrite, Table},
    drivers::modbus::Ask,
    model::Value,
};

pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "not available".into(),
        Value::Bool(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Text(v) => v.to_string(),
    }
}

/// What a fixed write sends. Checked: the function fits the register and the number of words.
pub(super) fn fixed(write: &FixedWrite) -> Ask {
    let (address, words) = (write.register.address, &write.words);
    let first = words.first().copied().unwrap_or(0);
    match (write.register.table, write.function) {
        (Table::Coil, 15) => Ask::WriteCoils { start: address, bits: words.iter().map(|w| *w != 0).collect() },
        (Table::Coil, _) => Ask::WriteCoil { address, on: first != 0 },
        (_, 16) => Ask::WriteRegisters { start: address, words: words.clone() },
        _ => Ask::WriteRegister { address, value: first },
    }
}

/// Modbus Application Protocol 1.1b3, section 7.
pub(in crate::drivers::line) fn exception(code: u8) -> &'static str {
    match code {
        1 => "illegal function (exception 1)",
        2 => "illegal data address (exception 2)",
        3 => "illegal data value (exception 3)",
        4 => "server device failure (exception 4)",
        5 => "acknowledged, still working (exception 5)",
        6 => "server device busy (exception 6)",
        8 => "memory parity error (exception 8)",
        0x0a => "gateway path unavailable (exception 10)",
        0x0b => "gateway target did not respond (exception 11)",
        _ => "refused with an unknown exception",
    }
}
