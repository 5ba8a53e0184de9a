//! One request of a site tool on a line, and what came of it: `read`, `write`, `scan` and `explore` are made of these,
//! whether they hold the port themselves or take their turn on a line of the running daemon.

use super::Boot;
use std::{fmt, sync::Arc, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    None,
    Even,
    Odd,
}

/// How a serial port is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    pub baud: u32,
    pub parity: Parity,
    /// 7 or 8.
    pub bits: u8,
    /// 1 or 2.
    pub stop: u8,
}

impl fmt::Display for Settings {
    /// `9600 8E1`, as installers say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{} {}{parity}{}", self.baud, self.bits, self.stop)
    }
}

/// One request to one unit. It goes on the wire once, whatever becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SiteAsk {
    /// 1 to 247; on TCP 0 to 255.
    pub unit: u8,
    /// Function code and data, 1 to 253 bytes. The reply to a function that is known is checked as strictly as a poll's.
    pub pdu: Vec<u8>,
    /// From the end of the request to the first byte of the reply. `None`: the line's.
    pub timeout: Option<Duration>,
    /// Other serial settings, for this request alone. `None`: the line's. Nothing on TCP.
    pub settings: Option<Settings>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SiteReport {
    pub outcome: SiteOutcome,
    /// The frame as it went out; empty if nothing was sent.
    pub sent: Vec<u8>,
    /// Every byte that came until the verdict.
    pub heard: Vec<u8>,
    /// From the end of the request to the end of the reply, or to the deadline.
    pub took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteOutcome {
    /// The PDU of a reply that passed every check.
    Answer(Vec<u8>),
    /// The unit refused, with this code.
    Exception(u8),
    /// Bytes came, but no valid reply; why, in words.
    Garbled(String),
    Silent,
    /// Nothing was sent; why, in words.
    NotSent(String),
}

/// A request with where its report goes.
pub struct SiteJob {
    pub ask: SiteAsk,
    /// Not begun after this moment.
    pub deadline: Boot,
    /// Must not block. Dropped without being called, it tells that the line has ended.
    pub tell: Box<dyn FnOnce(SiteReport) + Send>,
}

impl fmt::Debug for SiteJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteJob").field("ask", &self.ask).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Where site tools ask on a line. Gives the job back when too many wait, or when the line has ended.
pub type SitePort = Arc<dyn Fn(SiteJob) -> Result<(), SiteJob> + Send + Sync>;

/// What went over a line at once: a frame that was sent, or bytes as they were heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireFrame {
    /// Counts from 0 since the line was started.
    pub n: u64,
    pub at: Boot,
    pub sent: bool,
    pub bytes: Vec<u8>,
}

/// Reads the last frames of a line: those from a number on, the oldest first, at most so many.
pub type FramePort = Arc<dyn Fn(u64, usize) -> Vec<WireFrame> + Send + Sync>;
