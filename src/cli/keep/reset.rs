//! `fieldgate factory-reset`: wipes what makes this machine this gateway, before it is given away or thrown away.

use super::{
    Refusal,
    belongings::{Belongings, owner},
    cannot,
};
use crate::{
    cli::{Global, Out, agree, out},
    store::copy,
};
use rustix::fs::OFlags;
use serde_json::json;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What the package installs first.
const SHIPPED: &str = "/usr/share/fieldgate/fieldgate.toml";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo systemctl disable --now fieldgate; sudo fieldgate factory-reset\n\nWipes the configuration, its secrets, and all data. The package stays. What flash memory keeps of overwritten files no program can\nreach: destroy a card that must not be read.\nExit: 0 done, 1 nobody agreed, 2 nobody was asked, 5 refused."
)]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match reset(&Belongings::of(global), out, args) {
        Ok(code) => code,
        Err(refusal) => refusal.told(out),
    }
}

fn reset(here: &Belongings, out: &Out, args: &Args) -> Result<ExitCode, Refusal> {
    let (config, mut remains) = here.config()?;
    let held = copy::hold(&here.data_dir).map_err(|e| Refusal::new(e.to_string(), "sudo systemctl stop fieldgate, then again"))?;
    let (data, others) = here.data()?;
    let who = here.gateway.as_deref().unwrap_or("whose configuration does not check");
    let (config_dir, data_dir) = (here.config_dir.display(), here.data_dir.display());
    if !args.yes {
        let question = format!("wipe the gateway {who}: configuration and secrets in {config_dir}, data in {data_dir}, for good?");
        if let Err(code) = agree::or_end(out, &question, "nothing was wiped", ("this wipes a gateway", "add --yes")) {
            return Ok(code);
        }
    }
    remains = remains.iter().map(|link| here.config_dir.join(link)).collect();
    // Asked before the files that name them are gone.
    let elsewhere = here.elsewhere(&config);
    let mut bytes = 0;
    for name in &config {
        bytes += wipe(&here.config_dir.join(name))?;
    }
    for path in &data {
        bytes += if path.is_dir() { wipe_folder(path)? } else { wipe(path)? };
    }
    drop(held);
    let wiped = config.len() + data.len();
    let shipped = put_shipped(here)?;
    remains.extend(others.into_iter().chain(elsewhere));
    let remains: Vec<String> = remains.iter().map(|p| p.display().to_string()).collect();
    if out.json {
        out.say(&json!({"v": 1, "files": wiped, "bytes": bytes, "shipped": shipped, "remains": remains}).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    out.say(&format!("{} wiped {wiped} files, {}, in {config_dir} and {data_dir}", out.glyph("good"), out::bytes(bytes)));
    if shipped {
        out.say("  the configuration is the one that was shipped");
    }
    for path in &remains {
        out.say(&format!("  remains: {path}"));
    }
    out.say("  remains: the journal of the system (it names devices, no secrets), and its machine id");
    out.say("  remains: what flash memory keeps of overwritten blocks; destroy a card that must not be read");
    out.say("  its logins at the cloud are still good: take them back there");
    Ok(ExitCode::SUCCESS)
}

/// Overwritten where it lies, then removed: on a disk that keeps its blocks nothing is left of it.
fn wipe(path: &Path) -> Result<u64, Refusal> {
    let bytes = fs::symlink_metadata(path).map_err(cannot("wipe", path))?.len();
    let zeros = || -> io::Result<()> {
        // The service's user owns the folder: a link that it puts there in this moment is not followed.
        let mut file = OpenOptions::new().write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
        io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut file)?;
        file.flush()?;
        file.sync_all()
    };
    if fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) {
        zeros().map_err(cannot("wipe", path))?;
    }
    fs::remove_file(path).map_err(cannot("wipe", path))?;
    Ok(bytes)
}

fn wipe_folder(folder: &Path) -> Result<u64, Refusal> {
    let mut bytes = 0;
    let entries: Vec<PathBuf> = fs::read_dir(folder).map_err(cannot("wipe", folder))?.filter_map(|e| Some(e.ok()?.path())).collect();
    for path in entries {
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
        bytes += if is_folder { wipe_folder(&path)? } else { wipe(&path)? };
    }
    fs::remove_dir(folder).map_err(cannot("wipe", folder))?;
    Ok(bytes)
}

/// The package's own configuration again, where there is one and this is its place.
fn put_shipped(here: &Belongings) -> Result<bool, Refusal> {
    if here.main != Path::new("/etc/fieldgate/fieldgate.toml") || !Path::new(SHIPPED).is_file() {
        return Ok(false);
    }
    fs::copy(SHIPPED, &here.main).map_err(cannot("write", &here.main))?;
    let (user, group) = owner(&here.config_dir);
    chown(&here.main, Some(user), Some(group)).map_err(cannot("give away", &here.main))?;
    fs::set_permissions(&here.main, Permissions::from_mode(0o640)).map_err(cannot("write", &here.main))?;
    File::open(&here.config_dir).and_then(|dir| dir.sync_all()).map_err(cannot("write", &here.config_dir))?;
    Ok(true)
}
