//! Which files are a gateway's: those of its configuration, and those of its data.

use super::{Refusal, cannot};
use crate::{
    cli::Global,
    config::{self, Secrets, Surroundings},
    limits,
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Beside the main file in a directory that holds other things too.
const FOLDERS: [&str; 4] = ["conf.d", "profiles", "secrets", "certs"];
/// How files of the data directory begin; others are not fieldgate's.
const DATA: [&str; 8] = ["state.db", "spool.db", "samples.db", "reserve", "disk-trouble", "lock", BEFORE, NEW];
/// What a restore found, kept until the next one.
pub const BEFORE: &str = "before-restore";
/// What a restore is about to put in place.
pub const NEW: &str = "restore-new";

#[derive(Debug)]
pub struct Belongings {
    /// `None`: the configuration does not check.
    pub gateway: Option<String>,
    pub main: PathBuf,
    pub config_dir: PathBuf,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
}

impl Belongings {
    /// Of the gateway with this configuration. One that does not check has its data where it lies by default.
    pub fn of(global: &Global) -> Belongings {
        let main = std::path::absolute(&global.config).unwrap_or_else(|_| global.config.clone());
        let config_dir = main.parent().unwrap_or(Path::new("/")).to_owned();
        let found = config::load_with(&main, &Surroundings::real(Secrets::Unread)).config.map(|c| c.gateway);
        let (data_dir, run_dir) = found
            .as_ref()
            .map_or_else(|| ("/var/lib/fieldgate".into(), "/run/fieldgate".into()), |g| (g.data_dir.clone(), g.run_dir.clone()));
        Belongings { gateway: found.map(|g| g.id.to_string()), main, config_dir, data_dir, run_dir }
    }

    /// Files of the configuration, relative to its directory, in order; and links, which are nobody's.
    pub fn config(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Refusal> {
        let (mut files, mut links) = (Vec::new(), Vec::new());
        if self.config_dir.file_name().is_some_and(|name| name == "fieldgate") {
            self.walk(&self.config_dir, &mut files, &mut links)?;
        } else {
            if self.main.is_file() {
                files.push(self.main.clone());
            }
            for folder in FOLDERS {
                self.walk(&self.config_dir.join(folder), &mut files, &mut links)?;
            }
        }
        let inside = |paths: Vec<PathBuf>| {
            let mut paths: Vec<PathBuf> =
                paths.into_iter().filter_map(|p| p.strip_prefix(&self.config_dir).ok().map(Path::to_owned)).collect();
            paths.sort();
            paths
        };
        Ok((inside(files), inside(links)))
    }

    fn walk(&self, folder: &Path, files: &mut Vec<PathBuf>, links: &mut Vec<PathBuf>) -> Result<(), Refusal> {
        let entries = match fs::read_dir(folder) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
            other => other.map_err(cannot("read", folder))?,
        };
        for entry in entries {
            let path = entry.map_err(cannot("read", folder))?.path();
            let kind = fs::symlink_metadata(&path).map_err(cannot("read", &path))?.file_type();
            if path == self.data_dir || path == self.run_dir {
                continue;
            }
            if kind.is_dir() {
                self.walk(&path, files, links)?;
            } else if kind.is_file() {
                files.push(path);
            } else {
                links.push(path);
            }
            if files.len() > limits::BACKUP_FILES {
                let message = format!("{} holds more than {} files", self.config_dir.display(), limits::BACKUP_FILES);
                return Err(Refusal::new(message, "that is no configuration; name another with --config"));
            }
        }
        Ok(())
    }

    /// What is in the data directory of fieldgate's, and what of others.
    pub fn data(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Refusal> {
        let entries = match fs::read_dir(&self.data_dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            other => other.map_err(cannot("read", &self.data_dir))?,
        };
        let mut all: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        all.sort();
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            DATA.iter().any(|known| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.'])))
        };
        Ok(all.into_iter().partition(is_ours))
    }

    /// Files that the configuration names by an absolute path and that lie elsewhere.
    pub fn elsewhere(&self, config: &[PathBuf]) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for file in config.iter().filter(|f| f.extension().is_some_and(|e| e == "toml")) {
            let text = fs::read_to_string(self.config_dir.join(file)).unwrap_or_default();
            let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
            for word in lines.flat_map(|l| l.split(['"', '\'']).skip(1).step_by(2)).filter(|word| word.starts_with('/')) {
                let path = PathBuf::from(word);
                let known = path.starts_with(&self.config_dir) || path.starts_with("/dev") || found.contains(&path);
                if !known && path.is_file() {
                    found.push(path);
                }
            }
        }
        let drop_ins = Path::new("/etc/systemd/system/fieldgate.service.d");
        if self.config_dir == Path::new("/etc/fieldgate") && drop_ins.exists() {
            found.push(drop_ins.to_owned());
        }
        found
    }
}

/// Whose it is.
pub fn owner(path: &Path) -> (u32, u32) {
    fs::metadata(path).map_or((0, 0), |m| (m.uid(), m.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dir: &Path) -> Belongings {
        let data_dir = dir.join("data");
        Belongings { gateway: None, main: dir.join("fieldgate.toml"), config_dir: dir.to_owned(), data_dir, run_dir: dir.join("run") }
    }

    fn fill(dir: &Path, names: &[&str]) {
        for name in names {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    fn shown(paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn in_a_directory_of_its_own_everything_belongs_to_it_and_elsewhere_what_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("fieldgate");
        let names = ["fieldgate.toml", "conf.d/a.toml", "secrets/cloud", "meters.csv", "data/state.db"];
        for home in [own.as_path(), dir.path()] {
            fill(home, &names);
        }
        std::os::unix::fs::symlink("/etc/passwd", own.join("link")).unwrap();
        let (files, links) = of(&own).config().unwrap();
        assert_eq!(shown(&files), ["conf.d/a.toml", "fieldgate.toml", "meters.csv", "secrets/cloud"]);
        assert_eq!(shown(&links), ["link"]);
        assert_eq!(shown(&of(dir.path()).config().unwrap().0), ["conf.d/a.toml", "fieldgate.toml", "secrets/cloud"]);
    }

    #[test]
    fn of_the_data_directory_only_what_fieldgate_makes_is_its() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), &["data/state.db", "data/state.db-wal", "data/spool.db.corrupt-1", "data/lock", "data/holiday.jpg", "data/locks"]);
        let (ours, others) = of(dir.path()).data().unwrap();
        assert_eq!((ours.len(), others.len()), (4, 2), "{ours:?} {others:?}");
    }

    #[test]
    fn files_that_lie_elsewhere_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        fill(dir.path(), &["key.pem", "fieldgate/in.pem"]);
        let home = dir.path().join("fieldgate");
        let text = format!("# \"/etc/hostname\"\nkey = \"{}\"\nca = \"{}\"\nx = \"/none\"\n", key.display(), home.join("in.pem").display());
        fs::write(home.join("fieldgate.toml"), text).unwrap();
        assert_eq!(of(&home).elsewhere(&["fieldgate.toml".into()]), [key]);
    }
}
