//! `[mqtt.preset.*]`: the routes of a known firmware. A preset is a file of routes, as an operator would write them, that
//! comes with the program; a route of the operator's with the same name takes its place.

use super::{Desk, route, things};
use crate::config::{
    Route,
    keys::{Keys, Trail},
    nearest::nearest,
    problem::Code,
    source::Place,
    table::{Entry, Table},
    tree,
};
use std::path::Path;

/// Name, the first levels of its topics (`None`: it has none that could be others), and its routes.
struct Preset {
    name: &'static str,
    base: Option<&'static str>,
    text: &'static str,
}

macro_rules! preset {
    ($name:literal, $base:expr) => {
        Preset { name: $name, base: $base, text: include_str!(concat!("../../../config/presets/", $name, ".toml")) }
    };
}

/// In order of name.
const ALL: &[Preset] = &[
    preset!("autocore", Some("autocore")),
    preset!("devices", Some("devices/status")),
    preset!("feeds", Some("users")),
    preset!("homie", Some("homie")),
    preset!("shelly", Some("")),
    preset!("tasmota", None),
    preset!("zigbee2mqtt", Some("zigbee2mqtt")),
];

/// The routes of a preset as an operator could write them, each under its name in `[mqtt.route]`.
pub fn sheet(name: &str, base: Option<&str>) -> Option<String> {
    let preset = ALL.iter().find(|p| p.name == name)?;
    let base = base.or(preset.base).unwrap_or_default();
    let levels = if base.is_empty() { String::new() } else { format!("{base}/") };
    Some(preset.text.replace("[route.", &format!("[mqtt.route.{name}-")).replace("{base}/", &levels))
}

/// Adds what the presets bring to the routes, which stay in order of id.
pub fn check(mqtt: &Keys<'_>, routes: &mut Vec<Route>, desk: &mut Desk<'_>) {
    if !mqtt.has("preset") {
        return;
    }
    let section = mqtt.trail.then("preset");
    for (name, table, at) in things(mqtt, "preset", desk) {
        let trail = section.then(name);
        let keys = Keys::open(table, at, &trail, "a preset", &["base", "unknown", "defaults"], &mut desk.out);
        let Some(preset) = ALL.iter().find(|p| p.name == name) else {
            unknown(name, at, &trail, desk);
            continue;
        };
        let Ok(base) = base(preset, &keys, desk) else { continue };
        for route in brought(preset, base, &keys, desk) {
            if routes.iter().all(|own| own.id != route.id) {
                routes.push(route);
            }
        }
    }
    routes.sort_by(|a, b| a.id.cmp(&b.id));
}

fn unknown(name: &str, at: Place, trail: &Trail<'_>, desk: &mut Desk<'_>) {
    let names: Vec<&str> = ALL.iter().map(|p| p.name).collect();
    let near = nearest(name, names.iter().copied());
    let because = near.map_or_else(|| format!("there are {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
    desk.out
        .error(Code::BadValue, at, trail, format!("there is no preset `{name}`"))
        .because(because)
        .want_when(format!("[mqtt.preset.{}]", near.unwrap_or("tasmota")), "a known firmware")
        .want_when("[mqtt.route.NAME]", "anything else");
}

fn base<'a>(preset: &Preset, keys: &Keys<'a>, desk: &mut Desk<'_>) -> Result<Option<&'a str>, ()> {
    let Some(base) = keys.text("base", &mut desk.out) else { return if keys.has("base") { Err(()) } else { Ok(None) } };
    if preset.base.is_none() {
        desk.out
            .error(
                Code::MisplacedKey,
                keys.key_at("base"),
                keys.key("base"),
                format!("the topics of {} begin with what they say", preset.name),
            )
            .because("a device's own levels follow a word that says what the message is")
            .want("routes of your own, which fieldgate check --routes shows to begin with");
        return Err(());
    }
    let whole = base.it.trim_matches('/') == base.it && !base.it.is_empty() && !base.it.contains(['{', '}', '#', '"', '\\']);
    let wild = base.it.split('/').any(|level| level != "+" && level.contains('+'));
    if !whole || wild || base.it.chars().any(char::is_control) || base.it.len() > 512 {
        desk.out
            .error(Code::BadTopic, base.at, keys.key("base"), format!("`{}` cannot begin a topic", base.it))
            .because("levels with slashes between them, and none at either end")
            .want(format!("base = \"{}\"", preset.base.filter(|b| !b.is_empty()).unwrap_or("site/shelly")));
        return Err(());
    }
    Ok(Some(base.it))
}

fn brought(preset: &Preset, base: Option<&str>, keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<Route> {
    let text = sheet(preset.name, base).unwrap_or_default();
    let file = desk.out.sources.add(Path::new("(built in)").join(format!("{}.toml", preset.name)), text);
    let document = tree::parse(file, &mut desk.out);
    let routes = document.get("mqtt").and_then(|e| e.node.table()).and_then(|mqtt| mqtt.get("route")).and_then(|e| e.node.table());
    let mut all = Vec::new();
    for (name, entry) in routes.into_iter().flat_map(Table::iter) {
        let Some(table) = entry.node.table() else { continue };
        all.extend(route::brought(&said_over(table, keys), entry.at, name, preset.name, desk));
    }
    all
}

/// What the operator says of all devices of the preset.
fn said_over(route: &Table, keys: &Keys<'_>) -> Table {
    let mut table = route.clone();
    let hears = !table.get("kind").is_some_and(|kind| matches!(&kind.node.value, tree::Content::Text(t) if t == "command"));
    for key in ["unknown", "defaults"] {
        if let (Some(Entry { at, node }), true) = (keys.entry(key), hears) {
            table.insert(key, Entry { at: *at, node: node.clone() });
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_preset_is_built_in() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/presets");
        let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let mut shipped: Vec<String> = files.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        shipped.sort();
        assert_eq!(ALL.iter().map(|p| p.name).collect::<Vec<_>>(), shipped);
    }

    #[test]
    fn a_base_is_put_in_front() {
        let topic = |name: &str, base| sheet(name, base).unwrap().lines().find(|l| l.starts_with("topic")).unwrap().to_owned();
        assert_eq!(topic("zigbee2mqtt", None), "topic = \"zigbee2mqtt/{device}\"");
        assert_eq!(topic("zigbee2mqtt", Some("site/z2m")), "topic = \"site/z2m/{device}\"");
        assert!(sheet("shelly", None).unwrap().contains("topic = \"{device}/online\""));
        assert!(sheet("shelly", Some("plant")).unwrap().contains("topic = \"plant/{device}/online\""));
        assert_eq!(sheet("nothing", None), None);
    }
}
