//! From two files to a running store: boots, epoch, what was left, the writer.

use super::{
    Backing, Before, Holder, Options, Restored, Store, StoreError,
    boots::{self, BootRow, Clocks},
    db,
    desk::{self, Desk},
    events::EventQueue,
    health::{Board, Db},
    inbox::Inbox,
    omen::Omen,
    queries::Queries,
    reserve::Reserve,
    sound::{self, FoundSpool, FoundState},
    spool::{
        Bell, Spool,
        commit::Saver,
        core::{Core, Room, Run},
        disk::{Found, Reader, Sizes},
    },
    state::{Begin, Caps},
    writer::{Shared, Writer},
};
use crate::{
    limits,
    model::{Boot, BootIndex, StoreState},
    system::clock::boot_uuid,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt, fchown},
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
    /// `close` was called.
    pub closing: AtomicBool,
    reader: Mutex<Option<(Arc<Desk>, JoinHandle<()>)>>,
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
        if let Some((desk, reader)) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            desk.close();
            let is_me = reader.thread().id() == std::thread::current().id();
            // A stop waits for no disk.
            if !is_me && !self.closing.load(Ordering::Relaxed) && reader.join().is_err() {
                tracing::error!("the thread that reads has panicked");
            }
        }
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

impl Handle {
    pub fn read_beside(&self) -> Result<(), StoreError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() && matches!(self.driver, Driver::Thread(_)) {
            let desk = Arc::new(Desk::new(self.shared.spool.uplinks()));
            let thread = desk::serve(&desk, &self.shared).map_err(StoreError::Thread)?;
            self.shared.spool.read_at(&desk);
            self.shared.events.read_at(&desk);
            *reader = Some((desk, thread));
        }
        Ok(())
    }
}

pub fn open(o: &Options, tuning: Tuning) -> Result<(Store, Restored), StoreError> {
    let lock = lock_directory(&o.data_dir)?;
    let (state_path, spool_path) = (o.data_dir.join("state.db"), o.data_dir.join("spool.db"));
    let reserve = Reserve::of(&o.data_dir);
    let FoundState { found: state, replaced: state_news, gaps: lost_events } =
        reserve.with_room(|| sound::state(&state_path, tuning.caps, o, &reserve))?;
    let holders = Holder::or_nobody(&o.uplinks);
    let hooks = o.uplinks.iter().filter(|h| h.events_only);
    let readers: Vec<Holder> = holders.iter().chain(hooks).cloned().collect();
    let FoundSpool { found: spool, news: spool_news, gaps: lost_segments, mend } =
        reserve.with_room(|| sound::spool(&spool_path, tuning.sizes, state.gone.as_ref(), &holders))?;

    let uuid = boot_uuid();
    let index = boots::index(&uuid, &state.boots, &spool.boots);
    let now = o.clock.now();
    let here = BootRow { id: index, uuid, clock: o.clock.reading(), seen: o.clock.now() };
    let clocks = Arc::new(Clocks::new(here.clone(), &state.boots, &spool.boots, &last_moments(&spool)));

    let fail = |source| StoreError::Open { path: state_path.clone(), source };
    let in_spool = |epoch| spool.runs.iter().any(|r| r.epoch == epoch);
    let before = state.state.before(in_spool).map_err(fail)?;
    let window_ms = u64::try_from((o.buffer.window + o.linger).as_millis()).unwrap_or(u64::MAX);
    // A state.db that was lost: the spool knows that there was a run.
    let known = spool.runs.last();
    let forgotten = || known.map(|r| (Before { epoch: r.epoch, telemetry: r.highest, event: 0, may_have_lost_ms: window_ms }, false));
    let (omen, trouble) = Omen::open(&o.data_dir);
    // What the disk did not take since it began to fail, beside what is always in RAM only.
    let lost_ms = trouble.map_or(0, |t| u64::try_from(t.age(&here.uuid, now, here.clock).as_millis()).unwrap_or(u64::MAX));
    let honest = |before: Before| Before {
        telemetry: highest(&spool, &before),
        may_have_lost_ms: before.may_have_lost_ms.saturating_add(lost_ms),
        ..before
    };
    let before = before.or_else(forgotten).map(|(before, clean)| if clean { before } else { honest(before) });
    let mut db = state.state;
    let begin = Begin { boot: clocks.here(), window: o.buffer.window + o.linger };
    let draw = |runs: u64| o.epoch_seed.map_or_else(random, |seed| Ok(mix(seed.wrapping_add(runs.wrapping_mul(0x9E37_79B9_7F4A_7C15)))));
    let epoch = reserve.with_room(|| db.begin(&begin, in_spool, draw).map_err(fail))?.map_err(StoreError::Random)?;
    // Without room it runs all the same.
    let _ = db.stock();

    let Found { disk, ring, cursors, mut runs, void, gone, .. } = spool;
    runs.push(Run { epoch, boot: index, highest: 0 });
    let mut core = Core::new(runs, ring, cursors, o.buffer.window, o.buffer.ack_within, tuning.room);
    let inbox = Arc::new(Inbox::new());
    let inline: Arc<OnceLock<Weak<Mutex<Writer>>>> = Arc::default();
    let board = Arc::new(Board::new(now, state.wear));
    let quarantined = [&state_news, &spool_news].into_iter().flatten().filter_map(|news| news.kept_as.clone()).collect();
    for (of, news) in [(Db::State, state_news), (Db::Spool, spool_news)] {
        if let Some(news) = news {
            board.set(of, StoreState::Quarantined, news.detail, now);
        }
    }
    // The first event of an epoch comes before what is owed.
    board.hold(board.owes() || mend.is_some() || !lost_segments.is_empty() || !void.is_empty());
    lost_segments.into_iter().chain(void).for_each(|gap| core.gaps.owe(gap));
    let shared = Arc::new(Shared {
        spool: Spool::new(
            core,
            Reader::open(&disk)?,
            bell(o.backing, &inbox, &inline),
            Arc::clone(&clocks),
            o.buffer.disk_max,
            Arc::clone(&board),
        ),
        events: EventQueue::new(db::reader(&state_path)?, db.last_event_row(), epoch, &readers, &state.marks, tuning.caps.events),
        clocks,
        inbox,
        clock: o.clock,
        board,
        queries: Queries::open(&state_path)?,
    });
    shared.events.owe(lost_events);
    shared.spool.lock().counts.disk_bytes = disk.bytes();
    shared.inbox.last_turn.store(now.0, Ordering::Relaxed);
    let mut writer = Writer::new(Arc::clone(&shared), db, Saver::new(disk, gone), omen, reserve);
    if let Some(why) = mend {
        writer.mend_spool(why);
    } else if o.backing == Backing::Thread {
        sound::look_behind(spool_path, &shared);
    }
    let driver = start(o.backing, writer, &inline)?;
    let (devices, open_commands, learned) = (state.devices, state.open_commands, state.learned);
    let (alarms, maintenance, attributes) = (state.alarms, state.maintenance, state.attributes);
    let (rules, schedules, relays) = (state.rules, state.schedules, state.relays);
    let restored = Restored {
        epoch,
        boot: index,
        before,
        devices,
        alarms,
        maintenance,
        attributes,
        rules,
        schedules,
        relays,
        open_commands: open_commands.commands,
        ended_parts: open_commands.ended_parts,
        learned,
        quarantined,
    };
    Ok((
        Store { handle: Arc::new(Handle { shared, driver, closing: AtomicBool::new(false), reader: Mutex::new(None), _lock: lock }) },
        restored,
    ))
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
    let path = dir.join("lock");
    // Where a disk hangs, a process that it holds cannot be ended: the next one must find its lock, and not hang as well.
    // Making a folder or opening for writing would.
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).map_err(fail)?;
            let file = File::create(&path).map_err(fail)?;
            // Root may have made it, for a tool beside a stopped daemon: whose directory it is must be able to open it.
            if let Ok(home) = std::fs::metadata(dir) {
                let _ = fchown(&file, Some(home.uid()), Some(home.gid()));
            }
            file
        }
        found => found.map_err(fail)?,
    };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| if e == rustix::io::Errno::WOULDBLOCK { StoreError::InUse { path: dir.to_owned() } } else { fail(e.into()) })?;
    Ok(file)
}

pub fn random() -> std::io::Result<u64> {
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
