//! Who holds a port: open descriptors, file locks, and the lock files of older programs.
//!
//! Another user's descriptors are hidden from everybody but root; locks are not.

use super::{Port, Roots, names, read};
use std::{fs, os::unix::fs::MetadataExt};

pub fn find(roots: &Roots, ports: &mut [Port]) {
    let me = std::process::id().to_string();
    for pid in names(&roots.proc).into_iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit()) && *n != me) {
        let fds = roots.proc.join(&pid).join("fd");
        let open = names(&fds).into_iter().filter_map(|fd| fs::read_link(fds.join(fd)).ok());
        for to in open {
            if let Some(port) = ports.iter_mut().find(|p| p.path == to) {
                note(roots, port, &pid);
            }
        }
    }
    for (pid, inode) in locks(roots) {
        let held = ports.iter_mut().find(|p| fs::metadata(&p.path).is_ok_and(|m| m.ino() == inode));
        if let Some(port) = held.filter(|_| pid != me) {
            note(roots, port, &pid);
        }
    }
    for port in ports {
        let lock = roots.run.join("lock").join(format!("LCK..{}", port.name));
        if let Some(pid) = read(&lock).filter(|pid| *pid != me) {
            note(roots, port, &pid);
        }
    }
}

/// Process and inode of every file lock.
fn locks(roots: &Roots) -> Vec<(String, u64)> {
    let text = read(&roots.proc.join("locks")).unwrap_or_default();
    let lock = |line: &str| {
        let mut words = line.split_whitespace();
        let pid = words.nth(4)?.to_owned();
        let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
        Some((pid, inode))
    };
    text.lines().filter_map(lock).collect()
}

/// A lock of a process that is gone holds nothing.
fn note(roots: &Roots, port: &mut Port, pid: &str) {
    let Some(name) = read(&roots.proc.join(pid).join("comm")) else { return };
    // `login` and `agetty` are what raspi-config calls a login console.
    let name = if matches!(name.as_str(), "agetty" | "getty" | "login") { "getty".to_owned() } else { name };
    if !port.held_by.contains(&name) {
        port.held_by.push(name);
    }
}
