//! From a value to the one request that writes it: the inverse of [`super::decode`].
//!
//! What cannot be written exactly is refused instead of bent: 21.54 into steps of 0.1 would read back as another value than
//! was commanded. Absent on purpose: the operator's `min`, `max` and `min_interval`, which the engine keeps.

mod image;

use super::pdu::Ask;
use crate::{
    config::device::{Point, Table},
    model::Value,
};
use image::{by_word, image, on};

/// Why a value cannot be written to a point; says what could be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unwritable {
    #[error("{point} may not be written; give it write = {{ … }} if it should")]
    NotAllowed { point: String },
    #[error("{table} registers cannot be written")]
    Table { table: &'static str },
    #[error("single bits of a register cannot be written")]
    Bits,
    #[error("{value} is not a number or true/false")]
    NotANumber { value: String },
    #[error("{value} does not fit a {kind} (raw value {raw})")]
    Range { value: f64, raw: f64, kind: &'static str },
    #[error("{value} is between two steps of {step}; use {nearest}")]
    Step { value: f64, step: f64, nearest: f64 },
    #[error("{value} would be written as the pattern that means \"not available\"")]
    Sentinel { value: f64 },
    #[error("{value} is none of its words; use {words}")]
    Word { value: String, words: String },
    #[error("{value} is not a text")]
    NotAText { value: String },
    #[error("\"{value}\" cannot be written: {why}")]
    Text { value: String, why: String },
    #[error("\"{value}\" is no time that the device can hold; write it as {example}")]
    Time { value: String, example: &'static str },
    #[error("a set of flags cannot be written")]
    Flags,
    #[error("a value with a scale register cannot be written: the device may change its power of ten meanwhile")]
    ScaleRegister,
    #[error("function {function} cannot write {words} register(s) of table {table}; use {remedy}")]
    Function { function: u8, words: u16, table: &'static str, remedy: &'static str },
}

/// The request that writes `value`, with the function code of the point's rule.
pub fn write_asks(point: &Point, value: &Value) -> Result<Ask, Unwritable> {
    let rule = point.write.ok_or_else(|| Unwritable::NotAllowed { point: point.id.to_string() })?;
    let value = &by_word(point, value)?;
    let address = point.register.address;
    match (point.register.table, rule.function) {
        (Table::Coil, None | Some(5)) => Ok(Ask::WriteCoil { address, on: on(value)? }),
        (Table::Coil, Some(15)) => Ok(Ask::WriteCoils { start: address, bits: vec![on(value)?] }),
        (Table::Coil, Some(function)) => Err(Unwritable::Function { function, words: 1, table: "coil", remedy: "5 or 15" }),
        (Table::Holding, function) => registers(point, function, image(point, value)?),
        (table @ (Table::Discrete | Table::Input), _) => Err(Unwritable::Table { table: table.word() }),
    }
}

fn registers(point: &Point, function: Option<u8>, words: Vec<u16>) -> Result<Ask, Unwritable> {
    let start = point.register.address;
    match (function, words.as_slice()) {
        (None | Some(6), [value]) => Ok(Ask::WriteRegister { address: start, value: *value }),
        (None | Some(16), _) => Ok(Ask::WriteRegisters { start, words }),
        (Some(function), _) => {
            let remedy = if words.len() == 1 { "6 or 16" } else { "16" };
            Err(Unwritable::Function { function, words: point.kind.words(), table: "holding", remedy })
        }
    }
}

#[cfg(test)]
mod tests;
