//! Pure state machines, fn(now, input) -> effects: online state, commands, rules, refreshes, reporting, batching, replay, backoff.

pub mod analytics;
pub mod backoff;
pub mod batch;
pub mod commands;
pub mod counter;
pub mod flight;
pub mod links;
pub mod parting;
pub mod refresh;
pub mod registry;
pub mod relays;
pub mod replay;
pub mod report;
mod requests;
pub mod rules;
pub mod schedule;
pub mod suspects;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod uptime;
