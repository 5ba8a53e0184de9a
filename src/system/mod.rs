//! The machine: the clock and its trust, systemd, where log lines go, its serial ports. Names only `model` (its time types) and `limits`.

pub mod clock;
pub mod logging;
pub mod notify;
pub mod ports;
