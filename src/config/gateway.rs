//! `[gateway]`: who this is and where its files are.

use crate::model::GatewayId;
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    pub id: GatewayId,
    /// Holds state.db and spool.db. Default: $STATE_DIRECTORY, else /var/lib/fieldgate.
    pub data_dir: PathBuf,
    /// Holds the control socket. Default: $RUNTIME_DIRECTORY, else /run/fieldgate.
    pub run_dir: PathBuf,
    /// After a boot telemetry waits so long for a synchronised clock. Default 60 s.
    pub clock_hold: Duration,
    /// The machine's own clock is right, also without a time server. Default false.
    pub trust_rtc: bool,
}

impl Gateway {
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }
}
