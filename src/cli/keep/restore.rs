//! `fieldgate restore FILE`: makes this machine the gateway of a backup, or leaves it as it was.
//!
//! Everything is unpacked beside its place and judged; only then is what was there moved aside and the new put in place.

use super::{
    Refusal,
    archive::{self, Entry},
    backup::{MANIFEST, VERSION},
    belongings::{BEFORE, Belongings, NEW, owner},
    cannot,
};
use crate::{
    cli::{Global, Out, agree, moment},
    config::{self, Secrets, Surroundings},
    store::{SCHEMAS, StoreError, copy},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo systemctl stop fieldgate; sudo fieldgate restore gateway.tar; sudo systemctl start fieldgate\n\nThis machine becomes the gateway that was saved, with its name. Never let both run: they would say that they are the same one.\nExit: 0 done, 1 nobody agreed, 2 nobody was asked, 5 refused."
)]
pub struct Args {
    /// What fieldgate backup made
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match restore(global, out, args) {
        Ok(code) => code,
        Err(refusal) => refusal.told(out),
    }
}

/// What it says of itself.
struct Manifest {
    gateway: String,
    at_ms: i64,
    main: String,
    service: (u32, u32),
}

impl Manifest {
    fn read(text: &str) -> Result<Manifest, Refusal> {
        let said: Value = serde_json::from_str(text).unwrap_or_default();
        let other = || Refusal::new("this is no backup of fieldgate", "fieldgate backup FILE makes one");
        if said["v"].as_u64().ok_or_else(other)? > VERSION {
            return Err(newer(&said));
        }
        for (file, schema) in said["schemas"].as_object().ok_or_else(other)? {
            let known = SCHEMAS.iter().find(|(name, _)| name == file).map_or(0, |(_, known)| *known as u64);
            if schema.as_u64().is_none_or(|schema| schema > known) {
                return Err(newer(&said));
            }
        }
        let text = |key: &str| said[key].as_str().map(str::to_owned).ok_or_else(other);
        let id = |n: usize| said["owner"][n].as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(other);
        let main = text("main")?;
        if main.is_empty() || main.contains('/') {
            return Err(other());
        }
        Ok(Manifest { gateway: text("gateway")?, at_ms: said["at_ms"].as_i64().ok_or_else(other)?, main, service: (id(0)?, id(1)?) })
    }
}

fn newer(said: &Value) -> Refusal {
    let by = said["made_by"].as_str().unwrap_or("a newer version");
    let message = format!("this backup was made by fieldgate {by}, which is newer than this one ({})", env!("CARGO_PKG_VERSION"));
    Refusal::new(message, "install that version or a newer one here first; nothing was changed")
}

/// Taken away when it was not moved into place.
struct Staging(PathBuf);

impl Staging {
    fn make(path: PathBuf) -> Result<Staging, Refusal> {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(cannot("make", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(cannot("make", &path))?;
        Ok(Staging(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn restore(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, Refusal> {
    let here = Belongings::of(global);
    let new_config = Staging::make(here.config_dir.join(format!(".{NEW}")))?;
    let (manifest, entries) = unpack(&args.file, |name| name.strip_prefix("config").ok().map(|rest| new_config.0.join(rest)))?;
    // The file that --config names here takes the place of the one that was named there.
    let main_name = here.main.file_name().unwrap_or_default().to_owned();
    if *main_name != *manifest.main {
        let (from, to) = (new_config.0.join(&manifest.main), new_config.0.join(&main_name));
        fs::rename(&from, &to).map_err(cannot("move", &from))?;
    }
    let data_dir = judged(&new_config.0.join(&main_name), &manifest)?;
    let stop_first = |e: StoreError| Refusal::new(e.to_string(), "sudo systemctl stop fieldgate, then again");
    // The one that runs here may have its data elsewhere; one directory is locked once.
    let is_same = fs::canonicalize(&data_dir).ok() == fs::canonicalize(&here.data_dir).ok();
    let _here = if is_same { None } else { Some(copy::hold(&here.data_dir).map_err(stop_first)?) };
    let held = copy::hold(&data_dir).map_err(stop_first)?;
    let new_data = Staging::make(data_dir.join(NEW))?;
    unpack(&args.file, |name| name.strip_prefix("data").ok().map(|rest| new_data.0.join(rest)))?;
    let data: Vec<&'static str> = copy::FILES.into_iter().filter(|name| new_data.0.join(name).exists()).collect();
    for name in &data {
        copy::judge(&new_data.0.join(name), name).map_err(|e| Refusal::new(e.to_string(), "nothing was changed"))?;
    }
    let when = moment::rfc3339(manifest.at_ms);
    let question = format!(
        "make this machine the gateway {} as it was at {when}? Its configuration in {} and data in {} are moved aside",
        manifest.gateway,
        here.config_dir.display(),
        data_dir.display()
    );
    if !args.yes {
        let unasked = ("this replaces a gateway's configuration and data", "add --yes");
        if let Err(code) = agree::or_end(out, &question, "nothing was changed", unasked) {
            return Ok(code);
        }
    }
    own(&entries, &manifest, &new_config.0, &new_data.0, (owner(&here.config_dir), owner(&data_dir)))?;
    let here = Belongings { data_dir: data_dir.clone(), ..here };
    move_aside(&here)?;
    put_in_place(&new_config.0, &here.config_dir)?;
    put_in_place(&new_data.0, &data_dir)?;
    drop(held);
    let aside = data_dir.join(BEFORE).display().to_string();
    if out.json {
        out.say(&json!({"v": 1, "gateway": manifest.gateway, "at": when, "data": data, "aside": aside}).to_string());
    } else {
        out.say(&format!("{} this machine is {} as it was at {when}", out.glyph("good"), manifest.gateway));
        out.say(&format!("  what was here is in {aside}, with its secrets: remove it when all is well"));
        out.say("  the machine that was saved must not run any more");
        out.next("sudo systemctl start fieldgate");
    }
    Ok(ExitCode::SUCCESS)
}

/// Unpacks those files for which there is a place, after a manifest that fits.
fn unpack(file: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> Result<(Manifest, Vec<Entry>), Refusal> {
    let mut from = BufReader::new(File::open(file).map_err(cannot("read", file))?);
    let (mut manifest, mut entries) = (None, Vec::new());
    archive::each(&mut from, |entry, body| {
        if manifest.is_none() {
            let mut text = String::new();
            let read = (entry.name == Path::new(MANIFEST)).then(|| body.take(64 * 1024).read_to_string(&mut text));
            let is_text = read.is_some_and(|r| r.is_ok());
            manifest = Some(Manifest::read(if is_text { &text } else { "" })?);
            return Ok(());
        }
        if let Some(path) = place(&entry.name) {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(cannot("make", folder))?;
            }
            let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut to = to.map_err(cannot("write", &path))?;
            io::copy(body, &mut to).and_then(|_| to.sync_all()).map_err(cannot("write", &path))?;
        }
        entries.push(entry.clone());
        Ok(())
    })?;
    let none = || Refusal::new("this is no backup of fieldgate", "fieldgate backup FILE makes one");
    Ok((manifest.ok_or_else(none)?, entries))
}

/// Where its data goes. A gateway that was named by its machine keeps its name in a file of its own.
fn judged(main: &Path, manifest: &Manifest) -> Result<PathBuf, Refusal> {
    let load = || config::load_with(main, &Surroundings::real(Secrets::Unread)).config;
    let bad =
        || Refusal::new("the configuration in this backup does not check here", "tar -xf unpacks it elsewhere; fieldgate check names why");
    let config = load().ok_or_else(bad)?;
    if config.gateway.id.to_string() == manifest.gateway {
        return Ok(config.gateway.data_dir);
    }
    let folder = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let file = folder.join("restored-id.toml");
    let text = format!("# The name of the machine that was saved.\n[gateway]\nid = \"{}\"\n", manifest.gateway);
    fs::create_dir_all(&folder).and_then(|()| fs::write(&file, text)).map_err(cannot("write", &file))?;
    fs::set_permissions(&file, Permissions::from_mode(0o640)).map_err(cannot("write", &file))?;
    load().filter(|c| c.gateway.id.to_string() == manifest.gateway).map(|c| c.gateway.data_dir).ok_or_else(bad)
}

/// As it was there: root's stays root's, the service's becomes that of this machine's service. Only root can give files away.
fn own(
    entries: &[Entry],
    manifest: &Manifest,
    config: &Path,
    data: &Path,
    (config_owner, data_owner): ((u32, u32), (u32, u32)),
) -> Result<(), Refusal> {
    let is_root = rustix::process::geteuid().is_root();
    let here = |id: u32, there: u32, own: u32| if id == there { own } else { 0 };
    for entry in entries {
        let (path, group) = match (entry.name.strip_prefix("config"), entry.name.strip_prefix("data")) {
            (Ok(rest), _) => (config.join(rest), config_owner.1),
            (_, Ok(rest)) => (data.join(rest), data_owner.1),
            _ => continue,
        };
        if !path.exists() {
            continue;
        }
        if is_root {
            let user = here(entry.owner.0, manifest.service.0, data_owner.0);
            let group = here(entry.owner.1, manifest.service.1, group);
            chown(&path, Some(user), Some(group)).map_err(cannot("give away", &path))?;
        }
        fs::set_permissions(&path, Permissions::from_mode(entry.mode)).map_err(cannot("write", &path))?;
    }
    for (dir, (user, group)) in [(config, config_owner), (data, data_owner)] {
        folders(dir, &|folder| {
            if is_root {
                chown(folder, Some(user), Some(group))?;
            }
            fs::set_permissions(folder, Permissions::from_mode(0o750))
        })
        .map_err(cannot("give away", dir))?;
    }
    let named = config.join("conf.d/restored-id.toml");
    if is_root && named.exists() {
        chown(&named, Some(config_owner.0), Some(config_owner.1)).map_err(cannot("give away", &named))?;
    }
    Ok(())
}

fn folders(dir: &Path, act: &impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_dir() {
            act(&path)?;
            folders(&path, act)?;
        }
    }
    Ok(())
}

/// What was here goes into one folder, in the place of what a restore before this one left there.
fn move_aside(here: &Belongings) -> Result<(), Refusal> {
    let aside = Staging::make(here.data_dir.join(BEFORE))?;
    for name in here.config()?.0 {
        // Not what was just unpacked.
        if name.starts_with(format!(".{NEW}")) {
            continue;
        }
        carry(&here.config_dir.join(&name), &aside.0.join("config").join(&name))?;
    }
    for path in here.data()?.0 {
        let name = path.file_name().unwrap_or_default();
        if ["lock", BEFORE, NEW].iter().all(|kept| name != *kept) {
            carry(&path, &aside.0.join("data").join(name))?;
        }
    }
    // It stays.
    std::mem::forget(aside);
    Ok(())
}

/// Moves a file, also to another file system.
fn carry(from: &Path, to: &Path) -> Result<(), Refusal> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(cannot("make", folder))?;
    }
    fs::rename(from, to).or_else(|_| fs::copy(from, to).and_then(|_| fs::remove_file(from))).map_err(cannot("move", from))
}

fn put_in_place(from: &Path, to: &Path) -> Result<(), Refusal> {
    for entry in fs::read_dir(from).map_err(cannot("read", from))? {
        let path = entry.map_err(cannot("read", from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            if !target.is_dir() {
                fs::rename(&path, &target).map_err(cannot("move", &path))?;
                continue;
            }
            put_in_place(&path, &target)?;
        } else {
            fs::rename(&path, &target).map_err(cannot("move", &path))?;
        }
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(cannot("write", to))
}
