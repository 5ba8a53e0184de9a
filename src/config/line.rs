//! `[line.*]`: a bus, or a TCP connection that devices share.

use crate::model::LineId;
pub use crate::model::Parity;
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub id: LineId,
    pub transport: Transport,
    /// What is spoken there. Default Modbus.
    pub protocol: Protocol,
    /// From the end of the request to the first byte of the answer. Default: serial 300 ms, TCP 1 s.
    pub timeout: Duration,
    /// Repeats of a read that got no valid answer, within the same poll; 0 ends a poll at its first timeout. Default 0.
    pub retries: u8,
    /// Silence between an answer and the next request, never below 3.5 characters on a serial line. Default 0.
    pub min_gap: Duration,
    /// Wait after opening before the first request. Default 0.
    pub connect_delay: Duration,
    /// On TCP: whether Modbus TCP or RTU frames are spoken there is found out, and remembered.
    pub auto_framing: bool,
    /// A TCP connection that nothing was asked on for so long is closed, for devices that serve one client at a time.
    pub idle_close: Option<Duration>,
    /// A TCP connection is closed after each poll.
    pub connect_per_poll: bool,
}

impl Line {
    /// With the defaults of a line that says only where it leads.
    pub fn new(id: LineId, transport: Transport) -> Line {
        let timeout = match transport {
            Transport::Serial(_) => Duration::from_millis(300),
            Transport::Tcp { .. } | Transport::RtuOverTcp { .. } => Duration::from_secs(1),
        };
        Line {
            id,
            transport,
            protocol: Protocol::Modbus,
            timeout,
            retries: 0,
            min_gap: Duration::ZERO,
            connect_delay: Duration::ZERO,
            auto_framing: false,
            idle_close: None,
            connect_per_poll: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Modbus,
    /// Frames of text by the devices' own rules. `Transport::Tcp` carries their bytes as they are.
    Ascii,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    Serial(Serial),
    /// Modbus TCP (MBAP header). Default port 502.
    Tcp {
        host: String,
        port: u16,
    },
    /// RTU frames over a TCP connection, as transparent serial servers carry them.
    RtuOverTcp {
        host: String,
        port: u16,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Serial {
    pub path: PathBuf,
    pub baud: u32,
    pub parity: Parity,
    /// 7 or 8.
    pub bits: u8,
    /// 1 or 2.
    pub stop: u8,
}

impl Serial {
    /// Bits on the wire per character: start, data, parity, stop.
    pub fn bits_per_char(&self) -> u32 {
        1 + u32::from(self.bits) + u32::from(self.parity != Parity::None) + u32::from(self.stop)
    }
}
