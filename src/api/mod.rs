//! Surfaces for people and programs on this machine: the control socket, and the status document that it serves.

pub mod control;
pub mod json;
pub mod letters;
mod requests;
pub mod status;
