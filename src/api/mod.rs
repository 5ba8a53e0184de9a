//! Surfaces for people and programs: the control socket of this machine, HTTP, and the status document that both serve.

pub mod control;
pub mod http;
pub mod json;
pub mod letters;
mod requests;
pub mod samples;
pub mod status;
