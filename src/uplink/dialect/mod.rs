//! Model to topic and bytes, and back. Pure: no `async`, no clock, no store.

pub mod back;
pub mod command;
mod events;
mod json;
pub mod native;
pub mod read;
mod shape;

pub use events::event as told;
pub use native::{Native, Part, Presence};
