//! The machine: the clock and its trust, systemd, signals. Names only `limits`, and `model`'s time types.

pub mod clock;
