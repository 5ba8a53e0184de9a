//! What the site tools share: `ports`, `listen`, `scan`, `explore`, `read`, `write`.

pub mod bus;
