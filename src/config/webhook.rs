//! `[webhook.*]`: whom events are told by HTTP.

use super::uplink::{Secret, Tls};
use crate::model::UplinkId;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// What a webhook may ask for, in the order of the documents.
pub const EVENTS: &[&str] = &[
    "device.online",
    "device.suspect",
    "device.offline",
    "device.unknown",
    "device.registered",
    "device.changed",
    "alarm",
    "maintenance",
    "command",
    "line",
    "refresh_stopped",
    "uplink",
    "rule",
    "schedule",
    "dead_letter",
    "gap",
    "start",
    "clock",
    "store",
];

/// Those that people wait for.
pub const COMMON: &[&str] = &["device.online", "device.offline", "alarm"];

#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    pub name: String,
    /// Where it stands in the event stream: `webhook-NAME`.
    pub id: UplinkId,
    pub host: String,
    pub port: u16,
    /// `None`: `http://`.
    pub tls: Option<Tls>,
    /// With what follows `?`, if anything does.
    pub path: String,
    pub events: Vec<&'static str>,
    pub secret: Secret,
}

impl Webhook {
    pub fn wants(&self, event: &str) -> bool {
        self.events.contains(&event)
    }

    /// The bytes that sign: of `whsec_…` what its base64 says, else the text itself. `None`: it is no base64.
    pub fn key(&self) -> Option<Vec<u8>> {
        key(&self.secret)
    }
}

pub fn key(secret: &Secret) -> Option<Vec<u8>> {
    match secret.0.strip_prefix("whsec_") {
        Some(text) => STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok().filter(|bytes| !bytes.is_empty()),
        None => Some(secret.0.clone().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_signs_by_its_bytes() {
        let key = |text: &str| key(&Secret(text.into()));
        assert_eq!(key("plain text").unwrap(), b"plain text");
        assert_eq!(key("whsec_aGVsbG8=").unwrap(), b"hello");
        assert_eq!(key("whsec_aGVsbG8").unwrap(), b"hello");
        assert_eq!(key("whsec_/+8=").unwrap(), [0xff, 0xef]);
        for bad in ["whsec_", "whsec_a", "whsec_a b", "whsec_aGVsbG8_"] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }

    #[test]
    fn common_events_are_events() {
        assert!(COMMON.iter().all(|event| EVENTS.contains(event)));
    }
}
