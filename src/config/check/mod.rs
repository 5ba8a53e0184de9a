//! From the tree to the checked types: one file per section. Each function reports what is wrong and returns what it
//! could make of the rest, so that one run finds everything.

mod analytics;
mod api;
mod buffer;
mod counter;
mod csv;
mod device;
mod fixed;
mod form;
mod framed;
mod gateway;
mod group;
mod history;
mod later;
mod line;
mod mqtt;
mod na;
mod names;
mod point;
mod preset;
mod profile;
mod raw;
mod register;
mod route;
mod rules;
mod schedule;
mod secret;
mod uplink;
mod watching;
mod webhook;
mod write;
mod writes;

use super::{
    Config, Framed, Point, Problems,
    keys::{Keys, Trail},
    problem::Code,
    source::Place,
    surroundings::Surroundings,
    table::Table,
};
use crate::model::{BadId, DeviceId, Shared};
use std::{collections::BTreeMap, path::PathBuf};

pub use preset::sheet as preset_sheet;
pub use profile::{Profiles, check as profile};

/// What every check needs at hand.
pub struct Desk<'a> {
    pub out: Problems,
    pub around: &'a Surroundings,
    pub profiles: Profiles,
    /// Devices on lines with `protocol = "ascii"`, each with its place.
    pub framed: Vec<(Framed, Place)>,
    /// Lists of points so far.
    pub points: Shared<Point>,
}

impl Desk<'_> {
    /// A relative path is taken from the directory of the file that names it.
    pub fn resolve(&self, at: Place, path: &str) -> PathBuf {
        self.out.sources.path(at.file).parent().unwrap_or(std::path::Path::new("")).join(path)
    }
}

/// Where the poll period of a device stands, for problems that appear only with the plan.
pub type PollPlaces = BTreeMap<DeviceId, Place>;

const SECTIONS: &[&str] = &[
    "gateway",
    "line",
    "group",
    "device",
    "mqtt",
    "uplink",
    "buffer",
    "watch",
    "webhook",
    "api",
    "history",
    "schedule",
    "rule",
    "analytics",
    "limits",
];

/// The whole document. The configuration that comes back is meant only if no error was reported.
pub fn document(root: &Table, main: u32, desk: &mut Desk<'_>) -> (Option<Config>, PollPlaces) {
    let trail = Trail::ROOT;
    let whole = Place::whole(main);
    let keys = Keys::open(root, whole, &trail, "a configuration", SECTIONS, &mut desk.out);
    let gateway = gateway::check(&keys, desk);
    let lines = line::check(&keys, desk);
    let (devices, lines, polls) = device::check(&keys, lines, desk);
    let id = gateway.as_ref().map_or("gateway", |g| g.id.as_str());
    let mqtt = mqtt::check(&keys, id, desk);
    let uplinks = uplink::check(&keys, id, mqtt.as_ref(), whole, desk);
    let buffer = buffer::check(&keys, desk);
    let api = api::check(&keys, desk);
    let history = history::check(&keys, desk);
    let watch = watching::check(&keys, desk);
    let webhooks = webhook::check(&keys, &uplinks, desk);
    later::check(&keys, desk);
    let framed = framed::finish(desk);
    let known = schedule::Known { devices: &devices, framed: &framed, mqtt: mqtt.as_ref(), pushed: api.is_some() };
    let schedules = schedule::check(&keys, &known, desk);
    let (rules, analytics) = (Vec::new(), Vec::new());
    let mut config = gateway.map(|gateway| Config {
        gateway,
        lines,
        devices,
        framed,
        history,
        mqtt,
        api,
        uplinks,
        buffer,
        watch,
        schedules,
        webhooks,
        rules,
        analytics,
    });
    if let Some(config) = &mut config {
        rules::check(&keys, config, desk);
    }
    (config, polls)
}

/// The tables of a section of things, each under its id. What is no table is reported.
pub fn things<'a>(keys: &Keys<'a>, section: &str, desk: &mut Desk<'_>) -> Vec<(&'a str, &'a Table, Place)> {
    let Some((table, _)) = keys.sub(section, &format!("[{section}.name]"), &mut desk.out) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for (id, entry) in table.iter() {
        match entry.node.table() {
            Some(t) => out.push((id, t, entry.at)),
            None => {
                desk.out
                    .error(Code::WrongType, entry.at, format!("{section}.{id}"), format!("`{id}` stands directly under [{section}]"))
                    .because(format!("every {section} is a table with a name"))
                    .want(format!("[{section}.NAME]"));
            }
        }
    }
    out
}

/// An id that becomes part of topics and messages.
pub fn id<T>(text: &str, at: Place, key: impl ToString, parse: fn(&str) -> Result<T, BadId>, desk: &mut Desk<'_>) -> Option<T> {
    match parse(text) {
        Ok(id) => Some(id),
        Err(BadId(remedy)) => {
            let mut clean: String =
                text.chars().take(32).map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
            if clean.is_empty() {
                clean = "name".into();
            }
            let key = key.to_string();
            let value = desk.out.sources.slice(at).starts_with('"') && key.ends_with(".id");
            let want = match key.strip_suffix(text) {
                Some(section) if !value => format!("[{section}{clean}]"),
                _ => format!("id = \"{clean}\""),
            };
            desk.out.error(Code::BadId, at, key, format!("`{text}` is no id")).because(remedy).want(want);
            None
        }
    }
}
