//! A line as a site tool sees it: one request, one report. Behind it is the port itself, or a line of the running daemon.

use crate::model::{Settings, SiteAsk, SiteReport};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The port cannot be opened, the connection cannot be made; what to do about it is in the words.
    #[error("{0}")]
    Down(String),
    /// The daemon that holds the line went away or refuses.
    #[error("{0}")]
    Daemon(String),
}

pub trait Bus {
    /// Asks once and waits for the report. Only a bus that cannot be used at all is an error: silence is a report.
    fn ask(&mut self, ask: &SiteAsk) -> Result<SiteReport, BusError>;

    /// How the port is set when an `ask` names no settings; `None` on TCP.
    fn settings(&self) -> Option<Settings>;

    /// The reply timeout when an `ask` names none.
    fn timeout(&self) -> Duration;

    /// `/dev/ttyUSB0`, `192.168.1.20:502`.
    fn place(&self) -> String;

    /// Whether requests take turns with the running daemon.
    fn is_shared(&self) -> bool;
}
