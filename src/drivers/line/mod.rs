//! One owner per line: a pure core, driven by a thread on a serial port and by a task on TCP.

pub mod core;
pub mod event;
mod exchange;
mod figures;
mod guard;
mod orders;
mod schedule;
#[cfg(test)]
mod testing;
