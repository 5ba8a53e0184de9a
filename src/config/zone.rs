//! Time zones of the machine: the files that Debian's package tzdata brings and keeps current.

use crate::{limits, model::Zone};
use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

const FOLDERS: [&str; 2] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo"];

/// Why there is no such zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    #[error("{0:?} is no name of a time zone; write one such as Europe/Berlin")]
    Name(String),
    #[error("this machine has no time zones; apt install tzdata brings them")]
    NoZones,
    #[error("this machine does not know the time zone {0}; timedatectl list-timezones shows those that it does")]
    Unknown(String),
    #[error("{0}; apt install --reinstall tzdata brings it anew")]
    Unreadable(String),
}

/// Reads a file of some kilobytes. UTC needs none.
pub fn load(name: &str) -> Result<Zone, ZoneError> {
    if name == Zone::UTC {
        return Ok(Zone::utc());
    }
    if !Zone::is_name(name) {
        return Err(ZoneError::Name(name.to_owned()));
    }
    let unreadable = |e: io::Error| ZoneError::Unreadable(format!("the time zone {name} cannot be read: {e}"));
    let paths = FOLDERS.map(|folder| PathBuf::from(folder).join(name));
    let Some(path) = paths.iter().find(|path| path.is_file()) else {
        let any = FOLDERS.iter().any(|folder| PathBuf::from(folder).join("Europe").is_dir());
        return Err(if any { ZoneError::Unknown(name.to_owned()) } else { ZoneError::NoZones });
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limits::ZONE_BYTES).read_to_end(&mut bytes)).map_err(unreadable)?;
    Zone::of_file(name, &bytes).map_err(|e| ZoneError::Unreadable(e.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_the_machine_are_read() {
        let berlin = load("Europe/Berlin").unwrap();
        // 2026-07-01 and 2026-12-01, at noon; 2090-07-01 is by the rule alone.
        assert_eq!([1_782_907_200, 1_796_126_400, 3_802_593_600].map(|at| berlin.offset(at)), [7200, 3600, 7200]);
        assert_eq!(load("Europe/Berlim"), Err(ZoneError::Unknown("Europe/Berlim".into())));
        assert_eq!(load("../passwd"), Err(ZoneError::Name("../passwd".into())));
        assert_eq!(load("Europe"), Err(ZoneError::Unknown("Europe".into())));
        assert_eq!(load("zone.tab").map_err(|e| matches!(e, ZoneError::Name(_))), Err(true));
        assert_eq!(load("UTC"), Ok(Zone::utc()));
    }
}
