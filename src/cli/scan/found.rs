//! What a scan found: as it is printed, as a line of JSON, and kept for `config add --from-scan`.

use super::identity::Identity;
use crate::{
    cli::{
        Out,
        table::{Table, left, right},
    },
    model::{Parity, Settings},
};
use serde::{Deserialize, Serialize};
use std::{io, path::PathBuf};

/// Wide enough for most titles with their evidence.
const TITLE: usize = 44;

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Port, or `host:port`.
    pub place: String,
    pub unit: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baud: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<u8>,
    /// On TCP: `mbap` or `rtu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framing: Option<String>,
    pub answer_ms: u64,
    pub identity: Option<String>,
    pub profile: Option<String>,
    pub title: String,
    #[serde(default)]
    pub evidence: Option<String>,
    pub confidence: String,
    /// Broken answers before the first good one.
    #[serde(default)]
    pub garbled: u8,
}

impl Found {
    pub fn new(place: &str, unit: u8, settings: Option<Settings>, framing: Option<&str>, identity: Identity) -> Found {
        Found {
            place: place.to_owned(),
            unit,
            baud: settings.map(|s| s.baud),
            parity: settings.map(|s| s.parity),
            stop: settings.map(|s| s.stop),
            framing: framing.map(str::to_owned),
            answer_ms: 0,
            identity: identity.said,
            profile: identity.profile,
            title: identity.title,
            evidence: identity.evidence,
            confidence: identity.sure.to_owned(),
            garbled: 0,
        }
    }

    pub fn settings(&self) -> Option<Settings> {
        Some(Settings { baud: self.baud?, parity: self.parity?, bits: 8, stop: self.stop.unwrap_or(1) })
    }

    /// Printed row by row: its columns are as wide as they mostly have to be.
    pub fn table(net: bool) -> Table {
        let (title, sure) = (left("LOOKS LIKE").least(TITLE).text(30), left("SURE").least(4).rank(2));
        let answers = right("ANSWERS").least(7).rank(1);
        if net {
            return Table::new(&[left("ADDRESS").least(22), right("UNIT").least(4), answers, title, sure]);
        }
        Table::new(&[right("UNIT").least(4), left("LINE").least(11), answers, title, sure])
    }

    pub fn row(&self, out: &Out) -> String {
        // What stands behind a comma says which kind of device it is: known to whoever stands before it.
        let mut title = self.title.split(',').next().unwrap_or_default().to_owned();
        if let Some(evidence) = &self.evidence {
            title = format!("{title} ({evidence})");
        }
        if self.garbled > 0 {
            title = format!("{title}; {} broken first", self.garbled);
        }
        let answers = format!("{} ms", self.answer_ms);
        let sure = match self.confidence.as_str() {
            "high" => out.paint(crate::cli::out::Paint::Green, "high"),
            other => other.to_owned(),
        };
        let (unit, settings) = (self.unit.to_string(), self.settings());
        let cells = match settings {
            Some(settings) => [unit, settings.to_string(), answers, title, sure],
            None => [self.place.clone(), unit, answers, title, sure],
        };
        Found::table(settings.is_none()).one("  ", &cells, out)
    }
}

/// Where the last scan is kept: `$XDG_STATE_HOME` or `~/.local/state`.
pub fn last_scan() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = var("XDG_STATE_HOME").or_else(|| var("HOME").map(|h| h.join(".local/state")))?;
    Some(base.join("fieldgate").join("last-scan.jsonl"))
}

/// Keeps what was found, one object a line, as `--json` prints it.
pub fn keep(found: &[Found]) -> io::Result<Option<PathBuf>> {
    let Some(path) = last_scan() else { return Ok(None) };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let text: String = found.iter().filter_map(|f| serde_json::to_string(f).ok()).map(|line| line + "\n").collect();
    std::fs::write(&path, text)?;
    Ok(Some(path))
}

/// Reads lines of `scan --json`; the last one, which counts the tries, and empty ones are passed over.
pub fn read(text: &str) -> Result<Vec<Found>, serde_json::Error> {
    let devices = text.lines().filter(|l| l.contains("\"unit\""));
    devices.map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_back_as_it_was_written() {
        let settings = Settings { baud: 9600, parity: Parity::Even, bits: 8, stop: 1 };
        let identity =
            Identity { profile: Some("eastron-sdm120".into()), title: "Eastron SDM120".into(), sure: "high", ..Identity::default() };
        let serial = Found { answer_ms: 21, ..Found::new("/dev/ttyUSB1", 7, Some(settings), None, identity.clone()) };
        let net = Found::new("192.168.1.20:502", 1, None, Some("mbap"), identity);
        let lines = [&serial, &net].map(|f| serde_json::to_string(f).unwrap()).join("\n") + "\n{\"done\":true,\"tried\":2}\n";
        assert_eq!(read(&lines).unwrap(), [serial.clone(), net]);
        assert_eq!(serial.settings(), Some(settings));
        assert_eq!(serial.row(&Out::plain()).split_whitespace().collect::<Vec<_>>()[..5], ["7", "9600", "8E1", "21", "ms"]);
    }
}
