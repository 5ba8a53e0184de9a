//! `fieldgate config add --from-scan`: what the last scan found, as a file in conf.d. Where there is no configuration yet,
//! also the smallest main file that runs.

use super::draft::{Draft, Wishes, draft, quoted};
use crate::{
    cli::{
        EXIT_CONFIG, Global, Out,
        out::Paint,
        scan::found::{self, Found},
    },
    config::{self, Secrets, Surroundings},
};
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

const EXIT_USAGE: u8 = 2;
/// Where a main file that is not there yet sends to.
const CLOUD: &str = "mqtt://127.0.0.1:1883";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fieldgate config add --from-scan                      what the last scan found
  fieldgate config add --from-scan --name meters --poll 2s
  fieldgate scan /dev/ttyUSB0 --json | fieldgate config add --from-scan -

Exit: 0 written, 1 nothing to write, 2 usage, 78 it would not check.")]
pub struct Args {
    /// What a scan found: the last one, a file of `scan --json`, or - for stdin
    #[arg(long, value_name = "FILE", num_args = 0..=1, required = true)]
    from_scan: Option<Option<PathBuf>>,
    /// Name of the file and of the line
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How often the devices are read
    #[arg(long, default_value = "5s", value_name = "TIME")]
    poll: String,
    /// The cloud's broker, for a main file that is not there yet
    #[arg(long, value_name = "URL")]
    cloud: Option<String>,
    /// Only print what would be written
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match add(global, out, args) {
        Ok(code) | Err(code) => code,
    }
}

fn add(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, ExitCode> {
    let found = scanned(out, args.from_scan.as_ref().and_then(Option::as_deref))?;
    let dir = global.config.parent().unwrap_or(Path::new("")).to_owned();
    let around = Surroundings::real(Secrets::Unread);
    let before = config::load_with(&global.config, &around);
    let is_new = !global.config.exists();
    let wishes = Wishes { line: args.name.as_deref(), poll: &args.poll };
    let mut draft = draft(&found, before.config.as_ref(), &wishes, &stable);
    if let Some(name) = &args.name {
        draft.name.clone_from(name);
    }
    if draft.devices.is_empty() {
        draft.left_out.iter().for_each(|why| eprintln!("  {why}"));
        out.error(
            "nothing-to-add",
            "none of what was found can be added as it is",
            "fieldgate profiles     lists the devices that have a profile",
        );
        return Err(ExitCode::FAILURE);
    }
    let main = is_new.then(|| main_file(&global.config, args.cloud.as_deref().unwrap_or(CLOUD)));
    if args.dry_run {
        out.say(main.iter().map(|m| format!("{m}\n")).collect::<String>().as_str().trim_start());
        out.say(draft.text.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let file = free_file(&dir.join("conf.d"), &draft.name);
    let cannot = |e: io::Error| {
        out.error(
            "unwritable",
            &format!("{} cannot be written: {e}", file.display()),
            "sudo, or name a configuration of yours with --config FILE",
        );
        ExitCode::FAILURE
    };
    fs::create_dir_all(dir.join("conf.d")).map_err(cannot)?;
    if let Some(main) = &main {
        fs::write(&global.config, main).map_err(cannot)?;
    }
    fs::write(&file, &draft.text).map_err(cannot)?;
    let after = config::load_with(&global.config, &around);
    let errors = |loaded: &config::Loaded| config::render::count(&loaded.problems).0;
    if errors(&after) > if is_new { 0 } else { errors(&before) } {
        // A running gateway must not find it at its next start.
        let _ = fs::remove_file(&file);
        let style = config::render::Style { color: out.color, ascii: out.ascii };
        eprint!("{}", config::render::text(&after.problems, style));
        out.error(
            "configuration",
            &format!("{} would not check and was not kept", file.display()),
            "fieldgate config add --from-scan --dry-run",
        );
        return Err(ExitCode::from(EXIT_CONFIG));
    }
    say(global, out, args, &draft, &file, main.is_some());
    Ok(ExitCode::SUCCESS)
}

fn say(global: &Global, out: &Out, args: &Args, draft: &Draft, file: &Path, is_new: bool) {
    if out.json {
        out.say(&serde_json::json!({"v": 1, "file": file, "devices": draft.devices, "left_out": draft.left_out}).to_string());
        return;
    }
    let n = draft.devices.len();
    let devices = if n == 1 { "1 device".to_owned() } else { format!("{n} devices") };
    if is_new {
        let cloud = args.cloud.as_deref().unwrap_or(CLOUD);
        out.say(&format!("{} {}: a gateway that sends to {cloud}", out.glyph("good"), global.config.display()));
    } else if args.cloud.is_some() {
        eprintln!("{} is there already; its uplink stays as it is", global.config.display());
    }
    out.say(&format!("{} {}: {devices}: {}", out.glyph("good"), file.display(), draft.devices.join(", ")));
    for why in &draft.left_out {
        out.say(&out.paint(Paint::Dim, &format!("  {why}")));
    }
    let config = if global.config.starts_with("/etc") { String::new() } else { format!(" --config {}", global.config.display()) };
    out.next(&format!("fieldgate check{config}     then   fieldgate run{config}"));
}

/// What was found, from the last scan, a file or a pipe.
fn scanned(out: &Out, from: Option<&Path>) -> Result<Vec<Found>, ExitCode> {
    let (text, name) = match from {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            (io::stdin().read_to_string(&mut text).map(|_| text), "stdin".to_owned())
        }
        Some(path) => (fs::read_to_string(path), path.display().to_string()),
        None => match found::last_scan() {
            Some(path) => (fs::read_to_string(&path), path.display().to_string()),
            None => (Err(io::ErrorKind::NotFound.into()), "the last scan".to_owned()),
        },
    };
    let text = text.map_err(|e| {
        let message = if from.is_none() { "no scan was made yet".to_owned() } else { format!("{name} cannot be read: {e}") };
        out.error("no-scan", &message, "fieldgate ports     then   fieldgate scan PORT");
        ExitCode::from(EXIT_USAGE)
    })?;
    found::read(&text).map_err(|e| {
        out.error("unreadable", &format!("{name} is not what `scan --json` prints: {e}"), "scan again");
        ExitCode::from(EXIT_USAGE)
    })
}

/// The least that runs. Away from the package's directories everything stays beside the file.
fn main_file(path: &Path, cloud: &str) -> String {
    let mut text = "# A new gateway. Every key: docs/configuration.md\n\n[gateway]\n".to_owned();
    if !path.starts_with("/etc") {
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        for (key, name) in [("data_dir", "data"), ("run_dir", "run")] {
            text += &format!("{key} = {}\n", quoted(&dir.join(name).to_string_lossy()));
        }
    }
    text + &format!("\n[uplink.cloud]\nurl = {}\n", quoted(cloud))
}

/// A name that is not there yet: nothing is overwritten.
fn free_file(dir: &Path, name: &str) -> PathBuf {
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered).map(|n| dir.join(format!("{n}.toml")));
    names.find(|path| !path.exists()).unwrap_or_else(|| dir.join(name))
}

/// The port's name that survives a replug: by its serial number, else by its socket, else as it is.
fn stable(port: &str) -> String {
    let Ok(device) = fs::canonicalize(port) else { return port.to_owned() };
    let link = |dir: &str| {
        let mut links: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        links.sort();
        links.into_iter().find(|l| fs::canonicalize(l).is_ok_and(|to| to == device))
    };
    if port.starts_with("/dev/serial/") {
        return port.to_owned();
    }
    let found = link("/dev/serial/by-id").or_else(|| link("/dev/serial/by-path"));
    found.map_or_else(|| port.to_owned(), |l| l.display().to_string())
}
