//! Waits for a port that is gone to appear again under its name.
//!
//! An adapter that was pulled leaves a dangling name, then none, then maybe no `by-id` directory at all; it comes back as
//! another `ttyUSBn` behind the same by-id or by-path name. Watched is the deepest directory of that name that exists.
//! Without inotify the line tries again every second, as it does beside this.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io,
};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
    path: PathBuf,
}

impl Watch {
    pub fn new(path: &Path) -> io::Result<Watch> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let watch = Watch { fd, path: path.to_owned() };
        watch.arm()?;
        Ok(watch)
    }

    /// Watches the deepest directory that exists; a deeper one may come while this happens.
    fn arm(&self) -> io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        loop {
            let deepest = self.deepest();
            match inotify::add_watch(&self.fd, deepest, flags) {
                Ok(_) if self.deepest() == deepest => return Ok(()),
                Ok(_) | Err(io::Errno::NOENT | io::Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn deepest(&self) -> &Path {
        self.path.ancestors().skip(1).find(|dir| dir.is_dir()).unwrap_or_else(|| Path::new("/"))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Something changed in the directory: whether the port is there.
    pub fn look(&self) -> bool {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|n| n > 0) {}
        // A directory that is gone is watched no more, one that came is not watched yet.
        let _ = self.arm();
        self.path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::{fs, os::unix::fs::symlink};

    fn is_told(watch: &Watch) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(watch.fd(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })) == Ok(1)
    }

    #[test]
    fn a_name_is_seen_to_come_back_even_with_its_directories() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("serial/by-id/usb-FTDI_1-if00-port0");
        let watch = Watch::new(&link).expect("inotify works");
        for _ in 0..2 {
            fs::create_dir(dir.path().join("serial")).expect("made");
            assert!(is_told(&watch) && !watch.look());
            fs::create_dir(dir.path().join("serial/by-id")).expect("made");
            assert!(is_told(&watch) && !watch.look());
            symlink(dir.path(), &link).expect("linked");
            assert!(is_told(&watch) && watch.look());
            fs::remove_dir_all(dir.path().join("serial")).expect("removed");
            assert!(is_told(&watch) && !watch.look());
        }
    }
}
