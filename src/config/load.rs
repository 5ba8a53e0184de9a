//! Reading: the main file, `conf.d/*.toml` beside it in order of name, the profiles that devices name. Everything that
//! can be read is checked, whatever is wrong with the rest.

use super::{
    Config,
    check::{self, Desk, Profiles},
    problem::{Code, Problem, Problems, Severity},
    source::{Place, Spot},
    surroundings::{Secrets, Surroundings},
    table::Table,
    tree,
};
use crate::{
    limits,
    model::{DeviceId, Shared},
};
use std::{
    collections::BTreeMap,
    hint::black_box,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

/// Large for an allocator, and still not a mapping of its own.
const LARGE: usize = 100_000;

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// `None` when anything is an error.
    pub config: Option<Config>,
    /// Errors, then warnings, then notes; each in order of file and place.
    pub problems: Vec<Problem>,
    /// The main file, then those of conf.d.
    pub files: Vec<PathBuf>,
    pub counts: Counts,
    /// Where each device's poll period stands, else the device: for problems that only the plan shows.
    pub polls: BTreeMap<DeviceId, Spot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub lines: usize,
    pub devices: usize,
    pub points: usize,
}

/// For `run`: every secret must be readable.
pub fn load(path: &Path) -> Loaded {
    load_with(path, &Surroundings::real(Secrets::Needed))
}

pub fn load_with(path: &Path, around: &Surroundings) -> Loaded {
    let mut out = Problems::default();
    let (main, root, read) = aside(|| documents(path, &mut out));
    let mut desk = Desk { out, around, profiles: Profiles::new(profile_dirs(path, around)), framed: Vec::new(), points: Shared::default() };
    let (config, polls) = check::document(&root, main, &mut desk);
    let failed = desk.out.has_errors();
    let polls = polls.into_iter().map(|(id, at)| (id, desk.out.sources.spot(at))).collect();
    let (problems, _) = desk.out.finish();
    let config = config.filter(|_| !failed);
    let files = read.clone();
    give_back((root, read));
    let counts = config.as_ref().map(count).unwrap_or_default();
    Loaded { config, problems, files, counts, polls }
}

/// On a thread of its own, whose memory lies apart from that of the others.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Drops what was made aside, so that the system has its memory again. The tree of a large site is many times what comes of
/// it, in small pieces; between things that stay it would stay too (docs/decisions/0041-resident-memory.md).
fn give_back<T: Send>(made_aside: T) {
    aside(|| drop(made_aside));
    // Small pieces are joined only when a large one is asked for where they lie, and not while the thread that gave them
    // back keeps some at hand.
    aside(|| drop(black_box(Vec::<u8>::with_capacity(LARGE))));
}

/// The main file with what conf.d adds to it, and the files that were read.
fn documents(path: &Path, out: &mut Problems) -> (u32, Table, Vec<PathBuf>) {
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut files = vec![path.to_owned()];
    let (main, mut root) = read(path, out);
    for more in conf_d(&dir.join("conf.d"), out) {
        let (_, table) = read(&more, out);
        tree::merge(&mut root, table, out);
        files.push(more);
    }
    (main, root, files)
}

/// Where profiles are looked for; the later wins.
pub(super) fn profile_dirs(main: &Path, around: &Surroundings) -> Vec<PathBuf> {
    let mut dirs = around.profile_dirs.clone();
    dirs.push(main.parent().unwrap_or(Path::new("")).join("profiles"));
    if let Some(more) = around.var("FIELDGATE_PROFILES") {
        dirs.extend(more.split(':').filter(|d| !d.is_empty()).map(PathBuf::from));
    }
    let mut seen = std::collections::BTreeSet::new();
    dirs.retain(|d| seen.insert(d.clone()));
    dirs
}

fn count(config: &Config) -> Counts {
    let framed: usize = config.framed.iter().map(|d| d.points.len()).sum();
    Counts {
        lines: config.lines.len(),
        devices: config.devices.len() + config.framed.len(),
        points: config.devices.iter().map(|d| d.points.len()).sum::<usize>() + framed,
    }
}

/// A file that cannot be read is a problem and an empty table.
fn read(path: &Path, out: &mut Problems) -> (u32, Table) {
    let size = std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
    let bytes = if size > limits::CONFIG_BYTES as u64 { Ok(Vec::new()) } else { std::fs::read(path) };
    let (bytes, error) = match bytes {
        Ok(bytes) => (bytes, None),
        Err(e) => (Vec::new(), Some(e)),
    };
    let text = String::from_utf8(bytes);
    let bad = text.as_ref().err().map(|e| e.utf8_error().valid_up_to());
    let text = text.unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    let file = out.sources.add(path.to_owned(), text);
    if let Some(e) = error {
        let remedy = if e.kind() == std::io::ErrorKind::NotFound {
            "name another with --config FILE; the package's template is /etc/fieldgate/fieldgate.toml".to_owned()
        } else {
            format!("ls -l {}", path.display())
        };
        out.error(Code::Unreadable, Place::whole(file), "", format!("{} cannot be read", path.display()))
            .because(e.to_string())
            .want(remedy);
    } else if size > limits::CONFIG_BYTES as u64 {
        out.error(Code::TooLarge, Place::whole(file), "", format!("{} is larger than {} MiB", path.display(), limits::CONFIG_BYTES >> 20))
            .because("no configuration needs that much")
            .want("use [group.…] tables and profiles");
    } else if let Some(offset) = bad {
        let start = u32::try_from(offset).unwrap_or(0);
        out.error(Code::NotUtf8, Place { file, start, end: start + 1 }, "", "this file is not UTF-8 text")
            .because("here is the first byte that is not")
            .want(format!("iconv -f latin1 -t utf-8 {}", path.display()));
    }
    let table = tree::parse(file, out);
    (file, table)
}

/// Files of conf.d in order of name; none if there is no such directory.
fn conf_d(dir: &Path, out: &mut Problems) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Vec::new(),
        Err(e) => {
            let file = out.sources.add(dir.to_owned(), String::new());
            out.error(Code::Unreadable, Place::whole(file), "", format!("{} cannot be read", dir.display()))
                .because(e.to_string())
                .want(format!("ls -ld {}", dir.display()));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "toml") && !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')))
        .collect();
    files.sort();
    files
}

impl Loaded {
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }
}
