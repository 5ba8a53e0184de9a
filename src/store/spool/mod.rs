//! Telemetry until the cloud has acknowledged it: RAM first, SQLite behind.
//!
//! A batch that is acknowledged within `buffer.window` is never written. The others are written by a commit that starts
//! at half the window of the oldest, all in one segment, into the slots of a ring (docs/decisions, FIELD_TRUTH 6: the
//! number of durable commits is what wears a card). An acknowledgement alone never commits.
//!
//! - [`core`] where each batch stands, pure
//! - [`ring`] what is on the disk; [`disk`] the SQL; [`series`] the dictionary; [`codec`] the bodies
//! - [`commit`] the writer's turn, with the limit on the disk

pub mod codec;
pub mod commit;
pub mod core;
pub mod disk;
mod figures;
pub mod gaps;
mod ring;
mod series;
mod thin;

use super::{
    boots::Clocks,
    db,
    desk::Desk,
    health::{Board, Db},
};
use crate::model::{Boot, Frame, Key, Receipt, Sealed, SpoolFigures, UplinkIndex, UplinkSpool, event::Alive};
use core::{Core, Next};
use disk::{Place, Reader, Unread};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

/// One batch to be sent. It stays in flight until it is acknowledged or returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub sealed: Arc<Sealed>,
    /// It is late: from the disk, or sent before on a connection that was lost.
    pub backlog: bool,
}

/// Tells the writer that a commit is due at the first moment; the second is now.
pub type Bell = Box<dyn Fn(Boot, Boot) + Send + Sync>;

pub struct Spool {
    core: Mutex<Core>,
    reader: Mutex<Reader>,
    /// One for each uplink.
    notify: Vec<Notify>,
    bell: Bell,
    clocks: Arc<Clocks>,
    disk_max: u64,
    board: Arc<Board>,
    /// Where reading is asked for, once somebody reads beside.
    desk: OnceLock<Arc<Desk>>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").finish_non_exhaustive()
    }
}

impl Spool {
    pub(super) fn new(core: Core, reader: Reader, bell: Bell, clocks: Arc<Clocks>, disk_max: u64, board: Arc<Board>) -> Spool {
        let notify = core.cursors.iter().map(|_| Notify::new()).collect();
        Spool { core: Mutex::new(core), reader: Mutex::new(reader), notify, bell, clocks, disk_max, board, desk: OnceLock::new() }
    }

    pub(super) fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read_at(&self, desk: &Arc<Desk>) {
        // Once.
        let _ = self.desk.set(Arc::clone(desk));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self) {
        self.notify.iter().for_each(Notify::notify_one);
    }

    /// Those that have a cursor: the ones of the configuration, or one that stands for those to come.
    pub fn uplinks(&self) -> u8 {
        u8::try_from(self.notify.len()).unwrap_or(u8::MAX)
    }

    /// Seals the frames under the next number. `receipts` are kept when the batch is durable or acknowledged by the
    /// cloud; awaited ones pull the commit forward to `now` + `ack_within`.
    pub fn append(&self, frames: Vec<Frame>, receipts: Vec<Receipt>, now: Boot) -> u64 {
        let mut core = self.lock();
        let (seq, dropped) = core.append(frames, receipts, now);
        let due = core.due();
        drop(core);
        // Outside the lock: they tell their door, whatever that does.
        drop(dropped);
        if let Some(due) = due {
            (self.bell)(due, now);
        }
        self.tell();
        seq
    }

    /// The next batch of this process run that is not late and was never sent. With `window` 0 only what is durable.
    pub fn next_live(&self, u: UplinkIndex) -> Option<Outgoing> {
        self.lock().next_live(u).map(|sealed| Outgoing { sealed, backlog: false })
    }

    /// The oldest batch that is late, by epoch, then by number.
    pub fn next_backlog(&self, u: UplinkIndex) -> Option<Outgoing> {
        let mut core = self.lock();
        let next = loop {
            match core.next_backlog(u) {
                Next::Ready(sealed) => break Some(Outgoing { sealed, backlog: true }),
                Next::Load(n) if self.load(&mut core, u, n) => {}
                Next::Load(_) | Next::Nothing => break None,
            }
        };
        let owes = core.gaps.owes();
        drop(core);
        if owes {
            // Of damaged segments. Not while the lock is held: the writer takes it.
            (self.bell)(Boot(0), Boot(0));
        }
        next
    }

    /// Whether it is worth asking again: a segment that cannot be read now stays for later.
    fn load(&self, core: &mut Core, u: UplinkIndex, n: u64) -> bool {
        let Some((slot, epoch)) = core.ring.get(n).map(|s| (s.slot, core.epoch_of(s.epoch))) else {
            return false;
        };
        let place = Place { n, slot, epoch };
        let Some(read) = self.desk.get().map_or_else(|| Some(self.read(place)), |desk| desk.fetch(place)) else {
            return false;
        };
        match read {
            Ok(batches) => {
                core.loaded(u, n, batches);
                true
            }
            Err(e) if e.is_final() => {
                tracing::error!(segment = n, error = %e, "spooled telemetry is damaged; a gap event names it");
                core.damaged(n);
                true
            }
            Err(e) => {
                let trouble = format!("cannot read spool.db: {e}");
                if core.counts.trouble != trouble {
                    tracing::error!(error = %e, "spooled telemetry cannot be read now; it is tried again");
                }
                core.counts.trouble = trouble;
                false
            }
        }
    }

    /// After an I/O error SQLite may call a sound file malformed, so only a fresh connection is believed; and then the
    /// writer looks at the file.
    pub(super) fn read(&self, place: Place) -> Result<Vec<Sealed>, Unread> {
        let Place { n, slot, epoch } = place;
        let mut reader = self.reader();
        match reader.segment(n, slot, epoch) {
            Err(Unread::Sql(e)) if db::is_damaged(&e) => {}
            other => return other,
        }
        if let Err(e) = reader.open_again() {
            // Damage where the schema is, or a disk that fails: the writer finds out which.
            self.board.suspect(Db::Spool, format!("it cannot be opened for reading: {e}"), false);
            return Err(Unread::Sql(rusqlite::Error::InvalidQuery));
        }
        let again = reader.segment(n, slot, epoch);
        if let Err(Unread::Sql(e)) = &again
            && db::is_damaged(e)
        {
            self.board.suspect(Db::Spool, format!("segment {n} cannot be read: {e}"), false);
        }
        again
    }

    /// What has become old while it waited for its link is backlog, though nothing new came since.
    pub fn let_late_ones_go(&self, u: UplinkIndex, now: Boot) {
        self.lock().let_late_ones_go(usize::from(u.0), now);
    }

    pub fn has_live(&self, u: UplinkIndex) -> bool {
        self.lock().has_live(u)
    }

    pub fn has_backlog(&self, u: UplinkIndex) -> bool {
        self.lock().has_backlog(u)
    }

    /// By its own PUBACK. An unknown key, a repeated one, or one that is not in flight is ignored.
    pub fn acknowledged(&self, u: UplinkIndex, key: Key, now: Boot) {
        let mut core = self.lock();
        let receipts = core.acknowledged(u, key, now);
        drop(core);
        receipts.into_iter().for_each(Receipt::keep);
    }

    /// The connection is lost: what was in flight is to be sent again, the same data in the same order.
    pub fn return_unacknowledged(&self, u: UplinkIndex) {
        self.lock().return_unacknowledged(u);
        self.tell();
    }

    /// Something new to send. One waiter for each uplink.
    pub async fn changed(&self, u: UplinkIndex) {
        match self.notify.get(usize::from(u.0)) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Of one uplink.
    pub fn figures_of(&self, u: UplinkIndex, now: Boot) -> UplinkSpool {
        let mut core = self.lock();
        let oldest = core.oldest_for(u).map(|(boot, at)| self.age_ms(boot, at, now));
        let inflow = core.inflow.per_second(now);
        let Some(c) = core.cursors.get_mut(usize::from(u.0)) else {
            return UplinkSpool::default();
        };
        let drain_rate = c.rate.per_second(now);
        let gained = drain_rate.saturating_sub(inflow);
        UplinkSpool {
            waiting_samples: c.waiting_samples,
            oldest_age_ms: oldest,
            acknowledged_samples: c.acknowledged_samples,
            dropped_samples: c.dropped_samples,
            drain_rate,
            drained_in_s: (c.waiting_samples > 0 && gained > 0).then(|| c.waiting_samples.div_ceil(gained)),
        }
    }

    pub fn figures(&self, now: Boot) -> SpoolFigures {
        let core = self.lock();
        let counts = core.counts.clone();
        SpoolFigures {
            waiting_batches: core.waiting_batches(),
            waiting_samples: core.waiting_samples(),
            oldest_age_ms: core.oldest().map(|(boot, at)| self.age_ms(boot, at, now)),
            sealed_samples: counts.sealed_samples,
            acknowledged_samples: counts.acknowledged_samples,
            dropped_samples: counts.dropped_samples,
            thinned_samples: counts.thinned_samples,
            commits: counts.commits,
            bytes_written: counts.bytes_written,
            disk_bytes: counts.disk_bytes,
            disk_max: self.disk_max,
            trouble: counts.trouble,
        }
    }

    /// Across boots by wall time, which is all there is.
    fn age_ms(&self, boot: crate::model::BootIndex, at: Boot, now: Boot) -> u64 {
        let here = self.clocks.here();
        if boot == here.id {
            return now.ms().saturating_sub(at.ms());
        }
        let age = here.clock.wall(now).0 - self.clocks.of(boot).wall(at).0;
        u64::try_from(age).unwrap_or(0)
    }

    /// The numbers that are still to come, per epoch.
    pub fn alive(&self) -> Vec<Alive> {
        self.lock().alive()
    }
}
