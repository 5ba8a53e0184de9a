//! A serial line of given speed on a pseudo-terminal.
//!
//! ```text
//! master ─ LINK ─ outer pty ─ this thread: every byte takes its line time ─ inner pty ─ slave server
//! ```
//!
//! A pseudo-terminal itself is infinitely fast, and a test on it proves nothing about a bus. Here a byte arrives when its
//! last bit would have, in both directions, and a reply starts 3.5 characters after the request ended. What a master does
//! wrong on a shared pair of wires is counted: talking while a slave talks, or too soon after it.
//!
//! Absent on purpose: noise, echoes and broken frames, which the tests' own fault servers make.

use crate::config::{Parity, Serial};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open},
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, ioctl_tiocnxcl, tcgetattr, tcsetattr},
    time::{ClockId, clock_gettime},
};
use std::{
    collections::VecDeque,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio_util::sync::CancellationToken;

/// Bytes on their way in one direction. Full: further bytes are lost, as on a line nobody listens to.
const QUEUE_MAX: usize = 4096;
/// Bytes are handed over in clumps of at most this, as a UART's FIFO does; the last byte of a frame is on time.
const CLUMP_NS: u64 = 500_000;
/// Longest sleep: how late a stop is seen.
const IDLE_NS: u64 = 100_000_000;
/// A master that kept its distance by its own clock may be seen this much early by ours.
const SLACK_NS: u64 = 50_000;

/// A pseudo-terminal: our end, and the name of the other.
pub struct Pty {
    ours: OwnedFd,
    pub path: PathBuf,
}

impl Pty {
    pub fn open() -> rustix::io::Result<Pty> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        Ok(Pty { ours, path })
    }

    /// What is written here comes out of the other end.
    pub fn ours(&self) -> &OwnedFd {
        &self.ours
    }

    /// Opens the other end without echo and line editing, so that our end stays usable while nobody else has it open.
    pub fn hold(&self) -> rustix::io::Result<OwnedFd> {
        let theirs = open(&self.path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut settings = tcgetattr(&theirs)?;
        settings.make_raw();
        tcsetattr(&theirs, OptionalActions::Now, &settings)?;
        Ok(theirs)
    }
}

/// A name for a pseudo-terminal's other end; goes away with this value.
pub struct Link {
    path: PathBuf,
    target: PathBuf,
}

impl Link {
    /// Replaces a symbolic link that is there (of a simulator that was killed), never a file.
    pub fn make(path: &Path, target: &Path) -> std::io::Result<Link> {
        if path.symlink_metadata().is_ok_and(|m| m.is_symlink()) {
            std::fs::remove_file(path)?;
        }
        std::os::unix::fs::symlink(target, path)?;
        Ok(Link { path: path.to_owned(), target: target.to_owned() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Another simulator may have taken the name over.
        if std::fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What a master did on the wire.
#[derive(Default)]
pub struct Figures {
    pub bytes_from_master: AtomicU64,
    pub bytes_to_master: AtomicU64,
    /// Requests that began while a slave was still sending.
    pub collisions: AtomicU64,
    /// Requests that began less than 3.5 characters after a reply.
    pub short_gaps: AtomicU64,
}

/// How long things take on the line.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    byte_ns: u64,
    gap_ns: u64,
}

impl Pace {
    pub fn new(baud: u32, parity: Parity) -> Pace {
        let line = Serial { path: PathBuf::new(), baud, parity, bits: 8, stop: 1 };
        let byte_ns = u64::from(line.bits_per_char()) * 1_000_000_000 / u64::from(baud.max(1));
        // Modbus over serial line 1.02, 2.5.1.1: above 19200 baud the gap is fixed.
        let gap_ns = if baud > 19_200 { 1_750_000 } else { byte_ns * 7 / 2 };
        Pace { byte_ns, gap_ns }
    }
}

/// Bytes that were sent and have not arrived.
struct Way {
    pace: Pace,
    bytes: VecDeque<(u8, u64)>,
    /// When the last byte sent has arrived.
    busy_until: u64,
}

impl Way {
    fn new(pace: Pace) -> Way {
        Way { pace, bytes: VecDeque::new(), busy_until: 0 }
    }

    fn send(&mut self, bytes: &[u8], earliest: u64) {
        for byte in bytes.iter().take(QUEUE_MAX - self.bytes.len()) {
            self.busy_until = self.busy_until.max(earliest) + self.pace.byte_ns;
            self.bytes.push_back((*byte, self.busy_until));
        }
    }

    fn arrived(&mut self, now: u64) -> Vec<u8> {
        let count = self.bytes.iter().take_while(|(_, due)| *due <= now).count();
        self.bytes.drain(..count).map(|(byte, _)| byte).collect()
    }

    fn next(&self) -> Option<u64> {
        let (_, first) = self.bytes.front()?;
        Some((first + CLUMP_NS).min(self.busy_until))
    }
}

/// Units of one speed on the line.
pub struct Branch {
    pub inner: Pty,
    /// Our hold on its other end.
    pub held: OwnedFd,
    pub baud: u32,
    pub pace: Pace,
}

/// Carries bytes between the master's pseudo-terminal and those of the units until the stop. Runs on a thread of its own: a
/// runtime's timers are too coarse for single bytes. Only the branch hears that has the speed which the master's port is set
/// to; to the others it is noise, as on a real line. (A pseudo-terminal keeps the speed, but no parity.)
pub fn carry(outer: &Pty, held: &OwnedFd, branches: &[Branch], figures: &Arc<Figures>, stop: &CancellationToken) -> Result<(), Errno> {
    let mut ways: Vec<(Way, Way)> = branches.iter().map(|b| (Way::new(b.pace), Way::new(b.pace))).collect();
    while !stop.is_cancelled() {
        let now = now_ns();
        for (branch, (requests, replies)) in branches.iter().zip(&mut ways) {
            hand_over(&branch.inner.ours, &requests.arrived(now));
            hand_over(&outer.ours, &replies.arrived(now));
        }
        let next = ways.iter().flat_map(|(a, b)| [a.next(), b.next()]).flatten().min().unwrap_or(u64::MAX);
        wait(outer, branches, next.saturating_sub(now).min(IDLE_NS))?;
        let now = now_ns();
        let mut buffer = [0; 512];
        let asked = take(&outer.ours, &mut buffer)?;
        if !asked.is_empty() {
            figures.bytes_from_master.fetch_add(asked.len() as u64, Relaxed);
            let spoken = ways.iter().map(|(_, replies)| replies.busy_until).max().unwrap_or(0);
            let heard_by = speaking_to(held, branches);
            let gap_ns = heard_by.map_or(0, |n| branches[n].pace.gap_ns);
            if spoken > now {
                figures.collisions.fetch_add(1, Relaxed);
            } else if spoken + gap_ns > now + SLACK_NS {
                figures.short_gaps.fetch_add(1, Relaxed);
            }
            if let Some(n) = heard_by {
                ways[n].0.send(asked, now);
            }
        }
        for (branch, (requests, replies)) in branches.iter().zip(&mut ways) {
            let replied = take(&branch.inner.ours, &mut buffer)?;
            figures.bytes_to_master.fetch_add(replied.len() as u64, Relaxed);
            replies.send(replied, now.max(requests.busy_until + branch.pace.gap_ns));
        }
        for terminal in branches.iter().map(|b| &b.held).chain([held]) {
            // Whoever is killed leaves its terminal exclusive, and the next one could not open it.
            let _ = ioctl_tiocnxcl(terminal);
        }
    }
    Ok(())
}

/// Which branch understands the master.
fn speaking_to(held: &OwnedFd, branches: &[Branch]) -> Option<usize> {
    let speed = tcgetattr(held).ok()?.input_speed();
    branches.iter().position(|b| b.baud == speed)
}

fn wait(outer: &Pty, branches: &[Branch], ns: u64) -> Result<(), Errno> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(ns).unwrap_or(0) };
    let inner = branches.iter().map(|b| &b.inner.ours);
    let mut fds: Vec<PollFd<'_>> = inner.chain([&outer.ours]).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is there to be read, perhaps nothing.
fn take<'a>(from: &OwnedFd, buffer: &'a mut [u8; 512]) -> Result<&'a [u8], Errno> {
    match rustix::io::read(from, buffer.as_mut_slice()) {
        Ok(count) => Ok(&buffer[..count]),
        // EIO: nobody has the other end open.
        Err(Errno::AGAIN | Errno::INTR | Errno::IO) => Ok(&[]),
        Err(error) => Err(error),
    }
}

/// Bytes for which there is no room are lost: nobody listens.
fn hand_over(to: &OwnedFd, bytes: &[u8]) {
    if !bytes.is_empty() {
        let _ = rustix::io::write(to, bytes);
    }
}

fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(baud: u32, parity: Parity, byte_us: u64, gap_us: u64) {
        let pace = Pace::new(baud, parity);
        assert_eq!((pace.byte_ns / 1000, pace.gap_ns / 1000), (byte_us, gap_us), "{baud} {parity:?}");
    }

    #[test]
    fn a_byte_takes_its_start_data_parity_and_stop_bits() {
        check(9600, Parity::Even, 1145, 4010);
        check(9600, Parity::None, 1041, 3645);
        check(115_200, Parity::None, 86, 1750);
    }

    #[test]
    fn bytes_arrive_one_line_time_after_another() {
        let mut way = Way::new(Pace { byte_ns: 1000, gap_ns: 0 });
        way.send(b"ab", 10_000);
        way.send(b"c", 10_500);
        assert_eq!(way.arrived(10_999), b"");
        assert_eq!(way.arrived(12_000), b"ab");
        assert_eq!(way.next(), Some(13_000));
        assert_eq!(way.arrived(13_000), b"c");
        assert_eq!(way.next(), None);
    }

    #[test]
    fn a_link_replaces_a_stale_link_but_never_a_file_and_leaves_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("bus"), dir.path().join("file"));
        std::fs::write(&file, "precious").unwrap();
        assert!(Link::make(&file, Path::new("/dev/pts/1")).is_err());
        let first = Link::make(&link, Path::new("/dev/pts/1")).unwrap();
        let second = Link::make(&link, Path::new("/dev/pts/2")).unwrap();
        drop(first);
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/dev/pts/2"));
        drop(second);
        assert!(link.symlink_metadata().is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
