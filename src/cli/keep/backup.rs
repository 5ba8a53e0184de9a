//! `fieldgate backup FILE`: configuration, secrets and data in one file, while the daemon runs or not.

use super::{
    Refusal,
    archive::{self, Entry},
    belongings::{Belongings, owner},
    cannot,
};
use crate::{
    cli::{Global, Out, out},
    limits,
    store::{SCHEMAS, copy},
    system::clock::Clock,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::BufWriter,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The first file in it: what it is, before anything is believed.
pub const MANIFEST: &str = "fieldgate-backup.json";
pub const VERSION: u64 = 1;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sudo fieldgate backup gateway.tar\n  sudo fieldgate backup gateway.tar --no-history     without what [history] keeps\n\nIt holds passwords and keys: it is made with mode 0600, keep it so. fieldgate restore puts it on another machine.\nExit: 0 done, 5 refused."
)]
pub struct Args {
    /// The file to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Without the values that [history] keeps
    #[arg(long)]
    no_history: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match save(&Belongings::of(global), args) {
        Ok(saved) => {
            if out.json {
                out.say(&saved.to_string());
            } else {
                say(out, &saved);
            }
            ExitCode::SUCCESS
        }
        Err(refusal) => refusal.told(out),
    }
}

fn say(out: &Out, saved: &Value) {
    let text = |key: &str| saved[key].as_str().unwrap_or_default();
    let names = |key: &str| saved[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let size = out::bytes(saved["bytes"].as_u64().unwrap_or_default());
    let (files, data) = (saved["config_files"].as_u64().unwrap_or_default(), names("data").join(", "));
    let s = if files == 1 { "" } else { "s" };
    out.say(&format!("{} {}: {size}, the configuration ({files} file{s}), {data}", out.glyph("good"), text("file")));
    out.say("  it holds passwords and keys: keep it where only you can read it");
    for path in names("left_out") {
        out.say(&format!("  not in it: {path}"));
    }
    out.next(&format!("sudo fieldgate restore {}", text("file")));
}

fn save(of: &Belongings, args: &Args) -> Result<Value, Refusal> {
    let Some(gateway) = &of.gateway else {
        return Err(Refusal::new(
            format!("{} does not check, so it cannot be told where the data is", of.main.display()),
            "fieldgate check",
        ));
    };
    if args.file.exists() {
        return Err(Refusal::new(format!("{} is there already", args.file.display()), "name another file, or remove that one"));
    }
    // Its own folder has the room, and is not the card that the data wears.
    let part = beside(&args.file, ".part");
    let copy = beside(&args.file, ".part-copy");
    let made = write(of, args, gateway, &part, &copy);
    let _ = fs::remove_file(&copy);
    match made {
        Ok(saved) => {
            fs::rename(&part, &args.file).map_err(cannot("write", &args.file))?;
            Ok(saved)
        }
        Err(refusal) => {
            let _ = fs::remove_file(&part);
            Err(refusal)
        }
    }
}

fn beside(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// Only its owner reads it, from the first byte on.
fn private(path: &Path) -> Result<File, Refusal> {
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot("write", path))
}

fn write(of: &Belongings, args: &Args, gateway: &str, part: &Path, copy: &Path) -> Result<Value, Refusal> {
    let (files, links) = of.config()?;
    let mut to = tar::Builder::new(BufWriter::new(private(part)?));
    let failed = |e| cannot("write", &args.file)(e);
    let owner_of_data = owner(&of.data_dir);
    let data: Vec<&'static str> =
        copy::FILES.into_iter().filter(|f| !(args.no_history && *f == "samples.db") && of.data_dir.join(f).exists()).collect();
    let now = Clock::Real.now();
    let manifest = json!({
        "v": VERSION, "made_by": env!("CARGO_PKG_VERSION"), "gateway": gateway, "at_ms": Clock::Real.reading().wall(now).0,
        "main": of.main.file_name().unwrap_or_default().to_string_lossy(), "owner": [owner_of_data.0, owner_of_data.1], "data": data,
        "schemas": SCHEMAS.iter().map(|(name, schema)| ((*name).to_owned(), json!(schema))).collect::<serde_json::Map<_, _>>(),
    });
    let text = manifest.to_string();
    let entry = Entry { name: MANIFEST.into(), mode: 0o600, owner: (0, 0), bytes: text.len() as u64 };
    archive::put(&mut to, &entry, &mut text.as_bytes()).map_err(failed)?;
    let mut total = 0;
    for name in &files {
        let path = of.config_dir.join(name);
        let mut from = File::open(&path).map_err(cannot("read", &path))?;
        let entry = describe(&from, Path::new("config").join(name), &path)?;
        total += entry.bytes;
        if total > limits::BACKUP_FILE_BYTES {
            let most = limits::BACKUP_FILE_BYTES >> 20;
            let message = format!("the files in {} have more than {most} MiB together", of.config_dir.display());
            return Err(Refusal::new(message, "that is no configuration; move what is not to another place"));
        }
        archive::put(&mut to, &entry, &mut from).map_err(failed)?;
    }
    for name in &data {
        drop(private(copy)?);
        copy::copy(&of.data_dir, name, copy).map_err(|e| Refusal::new(e.to_string(), "run it with sudo; is there room on that disk?"))?;
        let mut from = File::open(copy).map_err(cannot("read", copy))?;
        let entry = Entry { mode: 0o640, owner: owner_of_data, ..describe(&from, Path::new("data").join(name), copy)? };
        archive::put(&mut to, &entry, &mut from).map_err(failed)?;
    }
    let written = to.into_inner().and_then(|to| Ok(to.into_inner()?));
    written.and_then(|file| file.sync_all()).map_err(failed)?;
    let bytes = fs::metadata(part).map_or(0, |m| m.len());
    let links = links.iter().map(|l| of.config_dir.join(l));
    let left_out: Vec<String> = of.elsewhere(&files).into_iter().chain(links).map(|p| p.display().to_string()).collect();
    Ok(json!({
        "v": 1, "file": args.file.display().to_string(), "gateway": gateway, "bytes": bytes, "config_files": files.len(), "data": data,
        "left_out": left_out,
    }))
}

fn describe(file: &File, name: PathBuf, path: &Path) -> Result<Entry, Refusal> {
    let about = file.metadata().map_err(cannot("read", path))?;
    Ok(Entry { name, mode: about.mode() & 0o777, owner: (about.uid(), about.gid()), bytes: about.len() })
}
