//! Device profiles: what all devices of a kind have in common. A device says `profile = "name"` or, for one of its
//! variants, `profile = "name@variant"`, and may override any key; points are joined by name. Later directories win,
//! so the operator's copy replaces the shipped one.

mod about;

use super::{Desk, device};
use crate::{
    config::{
        keys::{Keys, Trail},
        nearest::nearest,
        problem::Code,
        profile::{About, Probe, Profile, built_in},
        source::Place,
        table::Table,
        tree,
    },
    limits,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

/// About the profile itself; the rest is laid under the device.
const ABOUT: &[&str] = &["title", "vendor", "model", "source", "verified", "notes", "serial", "net", "probe", "variant", "without"];
/// Of a device's keys those that only the site knows.
const OF_THE_SITE: &[&str] =
    &["line", "tcp", "rtu_over_tcp", "unit", "poll", "offline_after", "alarm_after", "connect_delay", "bits", "stop", "profile"];

#[derive(Debug, Default)]
pub struct Profiles {
    pub dirs: Vec<PathBuf>,
    read: BTreeMap<String, Option<Rc<Sheet>>>,
}

/// A profile as read, without or with what one variant changes.
#[derive(Debug)]
struct Sheet {
    at: Place,
    about: About,
    probes: Vec<Probe>,
    /// What is laid under the device.
    table: Rc<Table>,
    variants: Vec<(String, Sheet)>,
}

impl Profiles {
    pub fn new(dirs: Vec<PathBuf>) -> Profiles {
        Profiles { dirs, read: BTreeMap::new() }
    }

    /// Name and file of all profiles that are there, in order of name; of one name the last directory's.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let is_brought = self.dirs.iter().any(|d| d == Path::new(built_in::DIR));
        let brought = built_in::ALL.iter().filter(|_| is_brought).map(|(name, _)| Path::new(built_in::DIR).join(format!("{name}.toml")));
        let files = self.dirs.iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten().filter_map(|e| Some(e.ok()?.path()));
        let files = brought.chain(files);
        let by_name: BTreeMap<String, PathBuf> = files
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .filter_map(|p| Some((p.file_stem()?.to_str()?.to_owned(), p)))
            .filter(|(name, _)| is_clean(name))
            .collect();
        by_name.into_iter().collect()
    }
}

/// A name stays in its directory.
fn is_clean(name: &str) -> bool {
    let bytes = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    !name.is_empty() && bytes && !name.starts_with('.')
}

/// What the profile of that name, or `name@variant`, lays under a device. `None` was reported.
pub fn find(name: &str, at: Place, key: String, desk: &mut Desk<'_>) -> Option<Rc<Table>> {
    let (base, variant) = name.split_once('@').map_or((name, None), |(base, variant)| (base, Some(variant)));
    if !desk.profiles.read.contains_key(base) {
        let mut path = desk.profiles.dirs.iter().rev().map(|d| d.join(format!("{base}.toml")));
        let path = path.find(|p| is_clean(base) && (p.is_file() || built_in::text(p).is_some()));
        let sheet = path.and_then(|p| read(base, &p, desk)).map(Rc::new);
        desk.profiles.read.insert(base.to_owned(), sheet);
    }
    let Some(sheet) = desk.profiles.read.get(base).cloned().flatten() else {
        unknown(base, at, key, desk);
        return None;
    };
    let Some(variant) = variant else { return Some(sheet.table.clone()) };
    let found = sheet.variants.iter().find(|(v, _)| v == variant).map(|(_, sheet)| sheet.table.clone());
    if found.is_none() {
        no_variant(base, variant, &sheet, at, key, desk);
    }
    found
}

fn unknown(name: &str, at: Place, key: String, desk: &mut Desk<'_>) {
    let names: Vec<String> = desk.profiles.files().into_iter().map(|(name, _)| name).collect();
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

fn no_variant(base: &str, variant: &str, sheet: &Sheet, at: Place, key: String, desk: &mut Desk<'_>) {
    let names: Vec<&str> = sheet.variants.iter().map(|(name, _)| name.as_str()).collect();
    let near = nearest(variant, names.iter().copied());
    let because = match (near, names.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => "it has no variants".into(),
        (None, false) => format!("its variants: {}", names.join(", ")),
    };
    let p = desk.out.error(Code::UnknownProfile, at, key, format!("profile {base} has no variant `{variant}`")).because(because);
    match near {
        Some(near) => p.want(format!("profile = \"{base}@{near}\"")),
        None => p.want(format!("profile = \"{base}\"")),
    };
}

/// Keys that a profile, or a variant of one, may have.
fn keys() -> Vec<&'static str> {
    let of_a_device = device::KEYS.iter().filter(|key| !OF_THE_SITE.contains(key));
    ABOUT.iter().chain(of_a_device).copied().collect()
}

fn read(name: &str, path: &Path, desk: &mut Desk<'_>) -> Option<Sheet> {
    let text = match built_in::text(path) {
        Some(text) => text.to_owned(),
        None => String::from_utf8(std::fs::read(path).ok().filter(|b| b.len() <= limits::CONFIG_BYTES)?).ok()?,
    };
    let file = desk.out.sources.add(path.to_owned(), text);
    let table = tree::parse(file, &mut desk.out);
    let (trail, at, known) = (Trail::ROOT, Place::whole(file), keys());
    let keys = Keys::open(&table, at, &trail, "a profile", &known, &mut desk.out);
    let about = about::about(&keys, &About::default(), desk);
    let probes = about::probes(&keys, desk);
    if !keys.has("point") && !keys.has("kind") {
        desk.out
            .error(Code::NoPoints, at, "point", format!("profile {name} has no points"))
            .because("a profile says what there is to read")
            .want("[point.voltage] with register and type");
    }
    let mut base = table.clone();
    base.retain(|key| !ABOUT.contains(&key) && known.contains(&key));
    let section = trail.then("variant");
    let mut variants = Vec::new();
    for (variant, over, at) in super::things(&keys, "variant", desk) {
        let trail = section.then(variant);
        let keys = Keys::open(over, at, &trail, "a variant", &known, &mut desk.out);
        let sheet = self::variant(variant, &keys, &base, &about, desk);
        variants.push((variant.to_owned(), sheet));
    }
    Some(Sheet { at, about, probes, table: Rc::new(base), variants })
}

/// What a variant says over what its profile says. Its probes replace the profile's: they tell the two apart.
fn variant(name: &str, keys: &Keys<'_>, base: &Table, about: &About, desk: &mut Desk<'_>) -> Sheet {
    if !is_clean(name) {
        desk.out
            .error(Code::BadId, keys.at, keys.trail, format!("`{name}` is no name of a variant"))
            .because("it stands behind the @ of `profile`")
            .want("[variant.e1]");
    }
    for nested in ["variant"].into_iter().filter(|k| keys.has(k)) {
        desk.out
            .error(Code::MisplacedKey, keys.key_at(nested), keys.key(nested), "a variant has no variants")
            .want("[variant.NAME] side by side");
    }
    let mut under = base.clone();
    for gone in if keys.has("without") { keys.texts("without", &mut desk.out) } else { Vec::new() } {
        let points = under.get_mut("point").and_then(|e| e.node.table_mut());
        let known = match (points, gone.it) {
            (Some(points), "*") => {
                points.retain(|_| false);
                true
            }
            (Some(points), name) => points.remove(name).is_some(),
            (None, _) => false,
        };
        if !known {
            desk.out
                .error(Code::BadValue, gone.at, keys.key("without"), format!("the profile has no point `{}`", gone.it))
                .because("`without` names points that this variant does not have")
                .want("without = [\"*\"]");
        }
    }
    let mut over = keys.table.clone();
    over.retain(|key| !ABOUT.contains(&key));
    let table = tree::overlay(&under, &over);
    let about = about::about(keys, about, desk);
    Sheet { at: keys.at, about, probes: about::probes(keys, desk), table: Rc::new(table), variants: Vec::new() }
}

/// The profile in a file and its variants, as devices with their points. Those with an error are left out.
pub fn check(name: &str, path: &Path, desk: &mut Desk<'_>) -> Vec<Profile> {
    let before = desk.out.errors();
    let Some(sheet) = read(name, path, desk) else {
        let file = desk.out.sources.add(path.to_owned(), String::new());
        desk.out
            .error(Code::Unreadable, Place::whole(file), "", format!("{} cannot be read", path.display()))
            .because("it is not there, not text, or too large")
            .want(format!("ls -l {}", path.display()));
        return Vec::new();
    };
    let named = sheet.variants.iter().map(|(variant, sheet)| (format!("{name}@{variant}"), sheet));
    let entries: Vec<(String, &Sheet)> = std::iter::once((name.to_owned(), &sheet)).chain(named).collect();
    let mut out = Vec::new();
    for (id, sheet) in entries {
        if let Some(mut device) = device::of_profile(&sheet.table, sheet.at, desk) {
            device.profile = Some(id.clone());
            out.push(Profile { id, file: path.to_owned(), about: sheet.about.clone(), probes: sheet.probes.clone(), device });
        }
    }
    if desk.out.errors() > before { Vec::new() } else { out }
}
