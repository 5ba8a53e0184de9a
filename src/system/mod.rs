//! The machine: the clock, its trust and its witness, systemd and the pace of its restarts, where log lines go, serial ports, what
//! the allocator keeps, how often something happens and when a burst of it is over, the tap that `trace` opens. Names only `model`
//! (its time types) and `limits`.

pub mod bursts;
pub mod clock;
pub mod logging;
pub mod memory;
pub mod notify;
pub mod pace;
pub mod ports;
pub mod receipt;
pub mod secret;
pub mod steps;
pub mod stream;
pub mod tap;
pub mod thread;
pub mod trust;
pub mod witness;
