//! Disks that fail on demand: a library in front of the C library's calls, and file systems of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// What a program does to the databases below a directory, delayed or refused; see shim.c for the orders.
pub struct Shim {
    dir: TempDir,
}

impl Shim {
    /// `None`, with the reason printed: there is no C compiler here.
    pub fn build() -> Option<Shim> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/disk/shim.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(dir.path().join("shim.so")).arg(source).arg("-ldl").output();
        match built {
            Ok(out) if out.status.success() => {}
            other => return skip(&format!("no C compiler: {other:?}")),
        }
        let shim = Shim { dir };
        shim.order("");
        Some(shim)
    }

    /// For the environment of the program.
    pub fn environment(&self, below: &Path) -> [(&'static str, String); 3] {
        let show = |path: PathBuf| path.display().to_string();
        let (library, orders) = (self.dir.path().join("shim.so"), self.dir.path().join("orders"));
        [("LD_PRELOAD", show(library)), ("FIELDGATE_DISK", show(below.to_owned())), ("FIELDGATE_DISK_ORDERS", show(orders))]
    }

    pub fn order(&self, words: &str) {
        let (new, orders) = (self.dir.path().join("new"), self.dir.path().join("orders"));
        fs::write(&new, words).and_then(|()| fs::rename(new, orders)).expect("the temporary directory takes a file");
    }
}

/// A file system in a file, mounted on a directory.
pub struct Card {
    dir: TempDir,
    at: PathBuf,
}

impl Card {
    /// `None`, with the reason printed: it takes root and a loop device.
    pub fn mount(at: &Path) -> Option<Card> {
        let card = Card { dir: tempfile::tempdir().expect("a temporary directory"), at: at.to_owned() };
        let image = card.image();
        fs::File::create(&image).and_then(|f| f.set_len(48 << 20)).expect("a sparse file");
        run("mkfs.ext4", &["-q", "-F", &image.display().to_string()])?;
        card.mount_again()?;
        Some(card)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub fn mount_again(&self) -> Option<()> {
        run("mount", &["-o", "loop,errors=remount-ro", &self.image().display().to_string(), &self.at.display().to_string()])
    }

    /// What the kernel does when it finds the file system damaged. `None`: this one cannot be told to.
    pub fn fail(&self) -> Option<()> {
        let device = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&self.at).output().ok()?;
        let device = String::from_utf8_lossy(&device.stdout).trim().trim_start_matches("/dev/").to_owned();
        match fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test") {
            Ok(()) => Some(()),
            Err(e) => skip(&format!("ext4 on {device} takes no order to fail: {e}")),
        }
    }

    pub fn unmount(&self) {
        // Already gone, or the next line of the test says so.
        let _ = Command::new("umount").arg(&self.at).output();
    }

    /// As a person would after such an error.
    pub fn mend(&self) -> Option<()> {
        self.unmount();
        let _ = Command::new("e2fsck").args(["-fy"]).arg(self.image()).output();
        self.mount_again()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn run(program: &str, args: &[&str]) -> Option<()> {
    match Command::new(program).args(args).output() {
        Ok(out) if out.status.success() => Some(()),
        other => skip(&format!("{program} {args:?}: {other:?}")),
    }
}

fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}
