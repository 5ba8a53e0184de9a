//! The past of values on this machine, for whoever asks here: samples for days, the least, mean and greatest of minutes and of
//! quarters of an hour for longer.
//!
//! ```text
//!  engine ──put──► ram ──every commit──► THREAD ──► samples.db: a device's rows of one commit, packed as the spool packs
//!                   └────── question ◄── chunks of the range
//! ```
//! - A file of its own: its churn never checkpoints the state, and one that is damaged begins anew while everybody else goes on.
//! - What is in RAM only (`commit_every`) is lost by a crash; upstream it is not, the spool has it.
//! - Nothing waits for it. Where the file system has little room nothing is written, which is said once: history goes first.
//!
//! Absent on purpose: transitions of devices, commands, alarms (state.db), what goes upstream (spool).

mod disk;
mod query;
mod ram;
#[cfg(test)]
mod tests;
mod tiers;

pub use query::{Past, Rows, Slot, Slots};
pub use tiers::Summary;

use super::{
    StoreError,
    boots::{BootRow, Clocks},
    db, quarantine, reserve,
};
use crate::{
    config::History,
    limits,
    model::{Boot, BootIndex, ClockReading, DeviceId, Frame, PointId, Reading},
    system::clock::Clock,
};
pub(super) use disk::SCHEMA;
use disk::{Chunk, Disk};
use ram::Ram;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

/// What decides over how long things are kept.
type Keep = History;

/// The handle that everybody shares.
#[derive(Clone)]
pub struct Samples {
    shared: Arc<Shared>,
}

struct Shared {
    config: History,
    path: PathBuf,
    clock: Clock,
    clocks: Arc<Clocks>,
    /// One asks at a time, for a question may be large; and nothing moves from RAM to the disk meanwhile, so that it is neither
    /// missed nor counted twice.
    asking: Mutex<()>,
    inner: Mutex<Inner>,
    bell: Condvar,
}

#[derive(Default)]
struct Inner {
    ram: Ram,
    hurry: bool,
    stop: bool,
    figures: Figures,
    thread: Option<JoinHandle<()>>,
}

/// How it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of the file, in use.
    pub bytes: u64,
    pub commits: u64,
    /// Samples that were not kept: no room in RAM or on the disk.
    pub lost: u64,
    /// Why nothing is written now.
    pub trouble: Option<String>,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples").finish_non_exhaustive()
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Samples {
    /// Opens or begins samples.db; one that is damaged is begun anew. Starts the thread that writes.
    pub(super) fn open(dir: &Path, config: History, clock: Clock, clocks: Arc<Clocks>) -> Result<Samples, StoreError> {
        let path = dir.join("samples.db");
        let disk = open_or_anew(&path, &clocks, config.disk_max)?;
        let inner = Inner { figures: Figures { bytes: disk.bytes().unwrap_or(0), ..Figures::default() }, ..Inner::default() };
        let shared =
            Arc::new(Shared { config, path, clock, clocks, asking: Mutex::default(), inner: Mutex::new(inner), bell: Condvar::new() });
        let its = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("samples".into()).spawn(move || its.write_until_stopped(disk)).map_err(StoreError::Thread)?;
        lock(&shared.inner).thread = Some(thread);
        Ok(Samples { shared })
    }

    /// What is in the file, with the daemon stopped: it answers, and nothing is written. Moments are as the file knows the clocks.
    pub fn at_rest(dir: &Path, config: History) -> Samples {
        let nowhere = BootRow { id: BootIndex(0), uuid: String::new(), clock: ClockReading::estimated(0), seen: Boot(0) };
        let shared = Shared {
            config,
            path: dir.join("samples.db"),
            clock: Clock::Real,
            clocks: Arc::new(Clocks::new(nowhere, &[], &[], &BTreeMap::new())),
            asking: Mutex::default(),
            inner: Mutex::default(),
            bell: Condvar::new(),
        };
        Samples { shared: Arc::new(shared) }
    }

    /// Keeps what was read. The hot path: a copy under a lock that nobody holds for long.
    pub fn put(&self, reading: &Reading) {
        let mut inner = lock(&self.shared.inner);
        let urgent = inner.ram.put(reading, &self.shared.config);
        if urgent && !inner.hurry {
            inner.hurry = true;
            self.shared.bell.notify_one();
        }
    }

    pub fn figures(&self) -> Figures {
        let inner = lock(&self.shared.inner);
        Figures { lost: inner.figures.lost + inner.ram.lost, ..inner.figures.clone() }
    }

    /// Writes what is in RAM and ends the thread. For a thread that may wait.
    pub fn close(&self) {
        let thread = {
            let mut inner = lock(&self.shared.inner);
            inner.stop = true;
            self.shared.bell.notify_one();
            inner.thread.take()
        };
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that keeps the local history has panicked");
        }
    }

    /// In slots of `step`, or as it was read where there are fewer. Reads from the disk: for a thread that may wait.
    pub fn slots(&self, device: &DeviceId, points: &[PointId], past: Past) -> Result<Slots, StoreError> {
        let _one = lock(&self.shared.asking);
        query::slots(&self.shared, device, points, past)
    }

    /// As it was read, oldest first, at most `limits::SAMPLES_ROWS`.
    pub fn rows(&self, device: &DeviceId, points: &[PointId], past: Past) -> Result<Rows, StoreError> {
        let _one = lock(&self.shared.asking);
        query::rows(&self.shared, device, points, past)
    }
}

/// A history is not worth keeping a gateway from its work.
fn open_or_anew(path: &Path, clocks: &Clocks, max: u64) -> Result<Disk, StoreError> {
    let open = || Disk::open(path, &clocks.here().uuid, max);
    match open() {
        Err(StoreError::Open { source, .. }) if db::is_unreadable(&source) => {
            tracing::warn!(error = %source, "samples.db is damaged; the local history begins anew");
            let fail = |source: std::io::Error| StoreError::Directory { path: path.to_owned(), source };
            quarantine::remove(path).map_err(fail)?;
            open()
        }
        other => other,
    }
}

impl Shared {
    fn write_until_stopped(&self, disk: Disk) {
        let mut disk = Some(disk);
        loop {
            self.wait();
            if self.write(&mut disk) {
                disk.into_iter().for_each(Disk::end);
                return;
            }
        }
    }

    /// Until a commit is due.
    fn wait(&self) {
        let waits = |inner: &mut Inner| !inner.hurry && !inner.stop;
        let inner = self.bell.wait_timeout_while(lock(&self.inner), self.config.commit_every, waits);
        drop(inner.unwrap_or_else(PoisonError::into_inner));
    }

    /// Says whether it was the last.
    fn write(&self, disk: &mut Option<Disk>) -> bool {
        let _no_questions = lock(&self.asking);
        let (frames, stop) = {
            let mut inner = lock(&self.inner);
            inner.hurry = false;
            (inner.ram.take(), inner.stop)
        };
        let samples: u64 = frames.values().flatten().map(Frame::samples).sum();
        let done = self.try_write(disk, frames);
        let mut inner = lock(&self.inner);
        match done {
            Ok(bytes) => {
                if inner.figures.trouble.take().is_some() {
                    tracing::info!("the local history is written again");
                }
                inner.figures.bytes = bytes;
                inner.figures.commits += 1;
            }
            Err(why) => {
                inner.figures.lost += samples;
                if inner.figures.trouble.as_ref() != Some(&why) {
                    tracing::warn!(%why, samples, "the local history is not written; nothing else depends on it");
                    inner.figures.trouble = Some(why);
                }
            }
        }
        stop
    }

    fn try_write(&self, disk: &mut Option<Disk>, frames: BTreeMap<DeviceId, Vec<Frame>>) -> Result<u64, String> {
        if !self.path.parent().is_none_or(|dir| reserve::has_room_for(dir, limits::SAMPLES_FREE)) {
            return Err(format!("less than {} MiB are free on the file system", limits::SAMPLES_FREE >> 20));
        }
        // It was damaged, or could not be opened.
        if disk.is_none() {
            *disk = Some(open_or_anew(&self.path, &self.clocks, self.config.disk_max).map_err(|e| e.to_string())?);
        }
        let Some(open) = disk else { return Err("no file".into()) };
        let chunks: BTreeMap<DeviceId, Vec<Chunk>> =
            frames.into_iter().map(|(device, frames)| (device.clone(), disk::chunks(&device, frames, &self.config))).collect();
        let written = open.write(chunks, &self.clocks.by_uuid()).and_then(|()| {
            let here = self.clocks.here().clock;
            open.prune(here.is_synchronised().then(|| here.wall(self.clock.now()).0))?;
            open.bytes()
        });
        written.map_err(|error| {
            if db::is_unreadable(&error) {
                *disk = None;
            }
            error.to_string()
        })
    }
}

/// Bodies name their points themselves.
struct Names;

impl super::spool::codec::Names for Names {
    fn series(&self, _: u32) -> Option<(DeviceId, PointId)> {
        None
    }
}
