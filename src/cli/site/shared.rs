//! A line of the running daemon: requests go through its control socket and take turns with its polls.

use super::{
    bus::{Bus, BusError},
    target::{Place, is_same},
};
use crate::{
    api::control,
    cli::{Global, status},
    config::{Serial, Transport},
    limits,
    model::{Settings, SiteAsk, SiteReport},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A line that the daemon holds.
#[derive(Debug, Clone)]
pub struct Held {
    pub id: String,
    socket: PathBuf,
    settings: Option<Settings>,
    timeout: Duration,
}

/// Whether a running daemon holds the place. A daemon that cannot be reached holds nothing that could be shared.
pub fn held(global: &Global, place: &Place) -> Option<Held> {
    let socket = status::socket(global);
    let answer = control::ask(&socket, &json!({"get": "lines"}), global.timeout).ok()?;
    answer["lines"].as_array()?.iter().find(|line| is_held(line, place)).map(|line| Held {
        id: line["id"].as_str().unwrap_or_default().to_owned(),
        socket,
        settings: serde_json::from_value(line["settings"].clone()).ok(),
        timeout: Duration::from_millis(line["timeout_ms"].as_u64().unwrap_or(1000)),
    })
}

/// Ports that a running daemon holds.
pub fn daemon_paths(global: &Global) -> Vec<PathBuf> {
    let answer = control::ask(&status::socket(global), &json!({"get": "lines"}), global.timeout).unwrap_or_default();
    let lines = answer["lines"].as_array().map_or(&[][..], Vec::as_slice);
    lines.iter().filter_map(|line| line["path"].as_str().map(PathBuf::from)).collect()
}

fn is_held(line: &Value, place: &Place) -> bool {
    match &place.line.transport {
        Transport::Serial(Serial { path, .. }) => line["path"].as_str().is_some_and(|held| is_same(Path::new(held), path)),
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => {
            line["host"].as_str().is_some_and(|held| held.eq_ignore_ascii_case(host)) && line["port"].as_u64() == Some((*port).into())
        }
    }
}

pub struct Shared {
    held: Held,
    place: String,
    /// Those that the user asks for, if they are not the line's.
    settings: Option<Settings>,
    patience: Duration,
}

impl Shared {
    pub fn new(global: &Global, place: &Place, held: Held) -> Shared {
        let settings = place.settings().filter(|s| Some(*s) != held.settings);
        Shared { held, place: place.name(), settings, patience: global.timeout }
    }
}

impl Bus for Shared {
    fn ask(&mut self, ask: &SiteAsk) -> Result<SiteReport, BusError> {
        let mut ask = ask.clone();
        ask.settings = ask.settings.or(self.settings);
        // The daemon answers when the request has had its turn: waiting for it comes on top of waiting for the unit.
        let wait = limits::SITE_WAIT + ask.timeout.unwrap_or(self.held.timeout) + self.patience;
        let request = json!({"site": {"line": self.held.id, "ask": ask}});
        let answer = control::ask(&self.held.socket, &request, wait)
            .map_err(|e| BusError::Daemon(format!("fieldgate does not answer at {}: {e}", self.held.socket.display())))?;
        if let Some(why) = answer["error"]["message"].as_str() {
            return Err(BusError::Daemon(format!("fieldgate refuses: {why}")));
        }
        serde_json::from_value(answer).map_err(|e| BusError::Daemon(format!("fieldgate answers something else than a report: {e}")))
    }

    fn settings(&self) -> Option<Settings> {
        self.settings.or(self.held.settings)
    }

    fn timeout(&self) -> Duration {
        self.held.timeout
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
