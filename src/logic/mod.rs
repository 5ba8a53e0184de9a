//! Pure state machines, fn(now, input) -> effects: online state, commands, reporting, batching, replay policy, backoff.

pub mod backoff;
pub mod batch;
pub mod commands;
pub mod counter;
pub mod registry;
pub mod replay;
pub mod report;
