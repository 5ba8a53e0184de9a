//! Device profiles: what all devices of a kind have in common. A device says `profile = "name"` and may override any
//! key; points are joined by name. Later directories win, so the operator's copy replaces the shipped one.

use super::Desk;
use crate::{
    config::{
        keys::{Keys, Trail},
        nearest::nearest,
        problem::Code,
        source::Place,
        table::Table,
        tree,
    },
    limits,
};
use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

/// About the profile itself; the rest is laid under the device.
const ABOUT: &[&str] = &["vendor", "model", "source", "verified", "notes", "link"];
const KEYS: &[&str] = &[
    "vendor",
    "model",
    "source",
    "verified",
    "notes",
    "link",
    "max_words",
    "max_bits",
    "max_gap",
    "timeout",
    "retries",
    "min_gap",
    "notation",
    "point",
];

#[derive(Debug, Default)]
pub struct Profiles {
    pub dirs: Vec<PathBuf>,
    read: BTreeMap<String, Option<Rc<Table>>>,
}

impl Profiles {
    pub fn new(dirs: Vec<PathBuf>) -> Profiles {
        Profiles { dirs, read: BTreeMap::new() }
    }

    /// Names of all profiles that are there.
    fn names(&self) -> Vec<String> {
        let files = self.dirs.iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten().filter_map(|e| Some(e.ok()?.path()));
        let mut names: Vec<String> = files
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The profile of that name, read once. `None` was reported.
pub fn find(name: &str, at: Place, key: String, desk: &mut Desk<'_>) -> Option<Rc<Table>> {
    let clean =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) && !name.starts_with('.');
    if let Some(known) = desk.profiles.read.get(name) {
        let known = known.clone();
        if known.is_none() {
            unknown(name, at, key, desk);
        }
        return known;
    }
    let path = desk.profiles.dirs.iter().rev().map(|d| d.join(format!("{name}.toml"))).find(|p| clean && p.is_file());
    let table = path.and_then(|p| read(name, p, desk)).map(Rc::new);
    desk.profiles.read.insert(name.to_owned(), table.clone());
    if table.is_none() {
        unknown(name, at, key, desk);
    }
    table
}

fn unknown(name: &str, at: Place, key: String, desk: &mut Desk<'_>) {
    let names = desk.profiles.names();
    let near = nearest(name, names.iter().map(String::as_str)).filter(|n| *n != name);
    let dirs: Vec<String> = desk.profiles.dirs.iter().map(|d| d.display().to_string()).collect();
    let because = near.map_or_else(|| format!("looked in {}", dirs.join(", ")), |n| format!("did you mean `{n}`?"));
    let last = dirs.last().cloned().unwrap_or_default();
    let p = desk.out.error(Code::UnknownProfile, at, key, format!("there is no profile `{name}`")).because(because);
    match near {
        Some(n) => p.want(format!("profile = \"{n}\"")),
        None => p.want_when(format!("{last}/{name}.toml"), "put it there, or set FIELDGATE_PROFILES=DIR"),
    };
}

fn read(name: &str, path: PathBuf, desk: &mut Desk<'_>) -> Option<Table> {
    let bytes = std::fs::read(&path).ok().filter(|b| b.len() <= limits::CONFIG_BYTES)?;
    let text = String::from_utf8(bytes).ok()?;
    let file = desk.out.sources.add(path, text);
    let mut table = tree::parse(file, &mut desk.out);
    let trail = Trail::ROOT;
    let keys = Keys::open(&table, Place::whole(file), &trail, "a profile", KEYS, &mut desk.out);
    keys.word("verified", &[("none", ()), ("hardware", ())], &mut desk.out);
    if !keys.has("point") {
        desk.out
            .error(Code::NoPoints, Place::whole(file), "point", format!("profile {name} has no points"))
            .because("a profile says what there is to read")
            .want("[point.voltage] with register and type");
    }
    table.retain(|key| !ABOUT.contains(&key) && KEYS.contains(&key));
    Some(table)
}
