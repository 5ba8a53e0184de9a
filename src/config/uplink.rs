//! `[uplink.*]`: the cloud's broker.

use crate::model::UplinkId;
use std::{fmt, path::PathBuf, time::Duration};

#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    pub id: UplinkId,
    /// Required: what it has not acknowledged is kept, and acknowledgements to local publishers wait for it.
    pub required: bool,
    /// The preferred broker.
    pub host: String,
    pub port: u16,
    pub tls: Option<Tls>,
    /// Tried in order when the preferred one cannot be reached.
    pub fallback: Vec<Address>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Default: `fieldgate-{gateway}`.
    pub client_id: String,
    pub dialect: Dialect,
    /// Default: 3.1.1, which every broker speaks.
    pub version: Mqtt,
    /// Default: `fieldgate/{gateway}`.
    pub topic_prefix: String,
    /// How long a batch waits for company. Default 50 ms.
    pub linger: Duration,
    /// Default 60 s.
    pub reconnect_max: Duration,
    /// Default 30 s, at least 5 s.
    pub keep_alive: Duration,
    /// Of the sends of telemetry, how many of 100 are for the backlog while live values wait. Default 50.
    pub replay_share: u8,
    /// Samples of the backlog in a second, at most. Default: as many as the broker acknowledges.
    pub replay_rate: Option<u64>,
}

/// One more broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    /// With `tls` of the uplink; `None`: `mqtt://`.
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file of roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and key, PEM.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Native,
}

/// The version of the protocol on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mqtt {
    #[default]
    V311,
    V5,
}

/// A secret that was read at load. Never shown: not by Debug, not in logs, not in `--json`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
