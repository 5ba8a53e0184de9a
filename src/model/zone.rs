//! A time zone: what a clock on the wall shows at a moment, also in years to come.

use super::calendar;
use std::{fmt, sync::Arc};

/// UTC, or what a file of the machine's time zone database says.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    table: Option<Arc<tz::TimeZone>>,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadZone(pub String);

/// Until then a file must know its rules.
const KNOWN_UNTIL_YEAR: i64 = 2100;

impl Zone {
    pub const UTC: &'static str = "UTC";

    pub fn utc() -> Zone {
        Zone { name: Zone::UTC.into(), table: None }
    }

    /// A name that can be looked up: it never leaves the directory of zones.
    pub fn is_name(name: &str) -> bool {
        let clean = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'));
        name.len() <= 64 && name.split('/').all(clean)
    }

    /// From the bytes of a TZif file (RFC 8536).
    pub fn of_file(name: &str, bytes: &[u8]) -> Result<Zone, BadZone> {
        let table = tz::TimeZone::from_tz_data(bytes).map_err(|e| BadZone(format!("the file of zone {name} is damaged: {e}")))?;
        let late = calendar::days_since_1970(KNOWN_UNTIL_YEAR, 1, 1) * 86_400;
        if table.find_local_time_type(late).is_err() {
            return Err(BadZone(format!("the file of zone {name} does not say what holds in years to come")));
        }
        Ok(Zone { name: name.into(), table: Some(Arc::new(table)) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds by which a clock there is ahead of UTC at this moment, in seconds since 1970.
    pub fn offset(&self, at: i64) -> i64 {
        let found = self.table.as_ref().and_then(|t| t.find_local_time_type(at).ok());
        found.map_or(0, |kind| kind.ut_offset().into())
    }

    /// What a clock there shows, as seconds since 1970 of that clock.
    pub fn local(&self, at: i64) -> i64 {
        at + self.offset(at)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(Zone::is_name(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../../x", "Europe/../x", "Europe//Berlin", "Europe/Berlin ", "a\0b"] {
            assert!(!Zone::is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for bytes in [&b""[..], b"TZif", b"no such thing", &[0; 100]] {
            assert!(Zone::of_file("x", bytes).is_err());
        }
        assert_eq!(Zone::utc().local(1_795_255_200), 1_795_255_200);
    }
}
