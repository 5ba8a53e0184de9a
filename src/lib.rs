//! fieldgate: an edge gateway between local sub-devices and a cloud broker.
//!
//! ```text
//!  line task ──┐                                  ┌──► live broadcast ──► api
//!  local MQTT ─┼─► urgent: status, replies ─► ENGINE ─► store (one transaction per batch) ─► SQLite
//!              └─► bulk: telemetry ─────────►   │  │
//!                                               │  └─► line task: a write takes its turn on the line
//!                      inbound command ◄── uplink ◄── broker
//!  spool (RAM first, SQLite behind) ─► uplink pump ─► dialect ─► broker ─ PUBACK ─► release
//!  anything unreadable, at any door ─► dead letters (bounded, with reason)
//! ```
//!
//! Who may name whom is kept by `tests/tidy.rs`; `docs/ARCHITECTURE.md` explains the rooms.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod drivers;
pub mod engine;
pub mod limits;
pub mod logic;
pub mod model;
pub mod store;
pub mod system;
pub mod uplink;
