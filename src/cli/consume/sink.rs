//! Where messages are kept: JSON lines or a database. Exactly once by the key (gateway, epoch, stream, seq).
//!
//! ```text
//! take, take, … ──► commit ──► the broker is told
//! ```
//! Nothing is acknowledged before `commit` has returned. After an error the sink is dropped and opened again: what was not
//! committed is in nobody's memory, and the broker brings it once more.

pub mod database;
pub mod lines;
#[cfg(test)]
mod testing;

use super::books::Books;
use crate::uplink::dialect::read::Message;

/// One delivery.
pub struct Delivery<'a> {
    pub topic: &'a str,
    pub body: &'a [u8],
    /// When it came here, for people.
    pub received_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Took {
    New,
    /// The key is known.
    Resent,
    /// The key is known with another content.
    Conflicting,
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("cannot use {file}: {source}")]
    File { file: String, source: std::io::Error },
    #[error("cannot use {file}: {source}")]
    Database { file: String, source: rusqlite::Error },
    #[error("{file}: {why}")]
    Foreign { file: String, why: String },
    /// Whoever read our stdout has gone.
    #[error("nobody reads any more")]
    Closed,
}

pub trait Sink {
    fn take(&mut self, delivery: &Delivery<'_>, message: &Message) -> Result<Took, SinkError>;
    /// The retained messages `state` and `devices`: the newest of each topic counts.
    fn retained(&mut self, delivery: &Delivery<'_>) -> Result<(), SinkError>;
    /// No message of this dialect: kept with the reason, its body cut.
    fn reject(&mut self, delivery: &Delivery<'_>, reason: &str) -> Result<(), SinkError>;
    /// All since the last commit is safe when this returns.
    fn commit(&mut self) -> Result<(), SinkError>;
    /// For the report.
    fn books(&mut self) -> Result<Books, SinkError>;
}
