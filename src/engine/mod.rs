//! The one loop that owns the state machines.
