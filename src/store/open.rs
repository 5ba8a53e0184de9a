//! From two files to a running store: boots, epoch, what was left, the writer.

use super::{
    Backing, Before, Holder, Options, Restored, Store, StoreError,
    boots::{self, BootRow, Clocks},
    db,
    events::EventQueue,
    inbox::Inbox,
    queries::Queries,
    reserve::Reserve,
    spool::{
        Bell, Spool,
        commit::Saver,
        core::{Core, Room, Run},
        disk::{Disk, Found, Reader, Sizes},
    },
    state::{Begin, Caps, State},
    writer::{Shared, Writer},
};
use crate::{
    limits,
    model::{Boot, BootIndex},
    system::clock::boot_uuid,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Limits that tests make small.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    pub caps: Caps,
    pub room: Room,
    pub sizes: Sizes,
}

impl Tuning {
    pub fn of(disk_max: u64, thin_window: Duration) -> Tuning {
        let room = Room { ram_bytes: limits::SPOOL_RAM_BYTES, ram_batches: limits::SPOOL_RAM_BATCHES };
        Tuning { caps: Caps::beside(disk_max), room, sizes: Sizes::of(disk_max).thinned_by(thin_window) }
    }
}

/// What ends with the last handle.
pub struct Handle {
    pub shared: Arc<Shared>,
    pub driver: Driver,
    pub queries: Queries,
    /// `close` was called.
    pub closing: AtomicBool,
    /// Held as long as the store is open: one daemon per data directory.
    _lock: File,
}

pub enum Driver {
    Thread(Mutex<Option<Thread>>),
    Inline(Arc<Mutex<Writer>>),
}

pub struct Thread {
    writer: JoinHandle<()>,
    /// Nothing is ever sent: it breaks when the writer ends.
    ended: Receiver<()>,
}

/// After `close` the writer ends at once, unless a disk or another program holds it: the stop does not wait for that.
const WRITER_ENDS_IN: Duration = Duration::from_millis(200);

impl Drop for Handle {
    /// Without `close` this is a kill: what was in RAM is lost. The files are closed when it returns.
    fn drop(&mut self) {
        self.shared.inbox.close();
        let Driver::Thread(thread) = &self.driver else { return };
        let Some(Thread { writer, ended }) = thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // The last handle may have been in a callback: the writer cannot wait for itself.
        if writer.thread().id() == std::thread::current().id() {
            return;
        }
        if self.closing.load(Ordering::Relaxed) && ended.recv_timeout(WRITER_ENDS_IN) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the database writer hangs; what was not written by now is lost");
        } else if writer.join().is_err() {
            tracing::error!("the database writer has panicked");
        }
    }
}

pub fn open(o: &Options, tuning: Tuning) -> Result<(Store, Restored), StoreError> {
    let lock = lock_directory(&o.data_dir)?;
    let mut quarantined = Vec::new();
    let (state_path, spool_path) = (o.data_dir.join("state.db"), o.data_dir.join("spool.db"));
    let reserve = Reserve::of(&o.data_dir);
    let state = with_room(&reserve, || db::or_new(&state_path, &mut quarantined, |path| State::load(path, tuning.caps)))?;
    let new_file = random().map_err(StoreError::Random)?.cast_signed();
    let holders = Holder::or_nobody(&o.uplinks);
    let load = |path: &Path| Disk::load(path, tuning.sizes, new_file, state.gone.as_ref(), &holders);
    let spool = with_room(&reserve, || db::or_new(&spool_path, &mut quarantined, load))?;

    let uuid = boot_uuid();
    let index = boots::index(&uuid, &state.boots, &spool.boots);
    let here = BootRow { id: index, uuid, clock: o.clock.reading(), seen: o.clock.now() };
    let clocks = Arc::new(Clocks::new(here, &state.boots, &spool.boots, &last_moments(&spool)));

    let fail = |source| StoreError::Open { path: state_path.clone(), source };
    let before = state.state.before(|epoch| spool.runs.iter().any(|r| r.epoch == epoch)).map_err(fail)?;
    let before = before.map(|(before, clean)| if clean { before } else { Before { telemetry: highest(&spool, &before), ..before } });
    let mut db = state.state;
    let begin = Begin { boot: clocks.here(), window: o.buffer.window + o.linger };
    let draw = |runs: u64| o.epoch_seed.map_or_else(random, |seed| Ok(mix(seed.wrapping_add(runs.wrapping_mul(0x9E37_79B9_7F4A_7C15)))));
    let epoch = with_room(&reserve, || db.begin(&begin, draw).map_err(fail))?.map_err(StoreError::Random)?;
    // Without room it runs all the same.
    let _ = db.stock();

    let Found { disk, ring, cursors, mut runs, void, gone, .. } = spool;
    runs.push(Run { epoch, boot: index, highest: 0 });
    let mut core = Core::new(runs, ring, cursors, o.buffer.window, o.buffer.ack_within, tuning.room);
    void.into_iter().for_each(|gap| core.gaps.owe(gap));
    let inbox = Arc::new(Inbox::new());
    let inline: Arc<OnceLock<Weak<Mutex<Writer>>>> = Arc::default();
    let shared = Arc::new(Shared {
        spool: Spool::new(core, Reader::open(&disk)?, bell(o.backing, &inbox, &inline), Arc::clone(&clocks), o.buffer.disk_max),
        events: EventQueue::new(db::reader(&state_path)?, db.last_event_row(), epoch, &holders, &state.marks, tuning.caps.events),
        clocks,
        inbox,
        clock: o.clock,
    });
    shared.spool.lock().counts.disk_bytes = disk.bytes();
    shared.inbox.last_turn.store(o.clock.now().0, Ordering::Relaxed);
    let writer = Writer::new(Arc::clone(&shared), db, Saver::new(disk, gone), reserve);
    let driver = start(o.backing, writer, &inline)?;
    let queries = Queries::open(&state_path)?;
    let (devices, open_commands, learned) = (state.devices, state.open_commands, state.learned);
    let restored = Restored { epoch, boot: index, before, devices, open_commands, learned, quarantined };
    Ok((Store { handle: Arc::new(Handle { shared, driver, queries, closing: AtomicBool::new(false), _lock: lock }) }, restored))
}

fn start(backing: Backing, writer: Writer, inline: &OnceLock<Weak<Mutex<Writer>>>) -> Result<Driver, StoreError> {
    match backing {
        Backing::Thread => {
            let (alive, ended) = channel();
            let work = move || {
                let _alive: Sender<()> = alive;
                writer.run();
            };
            let writer = std::thread::Builder::new().name("store".into()).spawn(work).map_err(StoreError::Thread)?;
            Ok(Driver::Thread(Mutex::new(Some(Thread { writer, ended }))))
        }
        Backing::Inline => {
            let writer = Arc::new(Mutex::new(writer));
            // Set once, a line above its first use.
            let _ = inline.set(Arc::downgrade(&writer));
            Ok(Driver::Inline(writer))
        }
    }
}

/// How the spool calls the writer: a ring at its door, or a call.
fn bell(backing: Backing, inbox: &Arc<Inbox>, inline: &Arc<OnceLock<Weak<Mutex<Writer>>>>) -> Bell {
    match backing {
        Backing::Thread => {
            let inbox = Arc::clone(inbox);
            Box::new(move |due, _| inbox.ring(due))
        }
        Backing::Inline => {
            let inline = Arc::clone(inline);
            Box::new(move |due: Boot, now: Boot| {
                if due <= now
                    && let Some(writer) = inline.get().and_then(Weak::upgrade)
                {
                    let after = writer.lock().unwrap_or_else(PoisonError::into_inner).turn(Vec::new(), now);
                    after.into_iter().for_each(|call| call());
                }
            })
        }
    }
}

/// On a file system that is full with the reserve's room.
fn with_room<T>(reserve: &Reserve, mut open: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    match open() {
        Err(StoreError::Open { source, .. }) if reserve.is_full(&source) && reserve.release() => open(),
        other => other,
    }
}

/// How far each boot came at least, by what it left in the spool.
fn last_moments(spool: &Found) -> BTreeMap<BootIndex, Boot> {
    let mut last = BTreeMap::new();
    for (_, segment) in spool.ring.from(0) {
        let at: &mut Boot = last.entry(segment.boot).or_default();
        *at = segment.at.max(*at);
    }
    last
}

/// The newest number of that epoch that the spool knows of.
fn highest(spool: &Found, before: &Before) -> u64 {
    spool.runs.iter().find(|r| r.epoch == before.epoch).map_or(0, |r| r.highest)
}

pub fn lock_directory(dir: &Path) -> Result<File, StoreError> {
    let fail = |source| StoreError::Directory { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(fail)?;
    let file = File::create(dir.join("lock")).map_err(fail)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| if e == rustix::io::Errno::WOULDBLOCK { StoreError::InUse { path: dir.to_owned() } } else { fail(e.into()) })?;
    Ok(file)
}

fn random() -> std::io::Result<u64> {
    let mut bits = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bits)?;
    Ok(u64::from_le_bytes(bits))
}

/// SplitMix64: neighbouring seeds give unlike epochs.
fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
