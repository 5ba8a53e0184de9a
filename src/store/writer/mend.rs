//! Files that are damaged or gone, while the process runs: looked at, carried over as far as they can be read, replaced.
//!
//! ```text
//!  CORRUPT ─► suspected ─► a fresh connection ─┬─ says the same, or a check finds damage ─► salvage
//!                                              ├─ cannot read: the disk's fault, the file stays
//!                                              └─ works: nothing was wrong with the file
//!  state.db: at once.   spool.db: carrying (some segments a turn) ─► gaps committed ─► placing
//! ```
//! Until the new spool.db has its place the old one is neither written nor moved, so a kill at any moment begins again.

use super::Writer;
use crate::{
    limits,
    model::{Boot, StoreState},
    store::{
        StoreError,
        db::{self, Checked},
        health::{Db, Suspicion},
        open::random,
        quarantine,
        spool::{commit::Saver, disk::Salvage},
        state::{self, Work},
        wear::Gauge,
    },
};
use std::path::PathBuf;

/// A new file that cannot be written for lack of room or for errors is tried again so often; then what is left is lost.
const TRIES: u32 = 5;

#[derive(Debug)]
pub(super) struct Mending {
    stage: Stage,
    why: String,
    /// Not in its place any more: there is nothing to put aside.
    gone: bool,
    tries: u32,
    not_before: Boot,
    lost_samples: u64,
    cut: usize,
    whole: u64,
}

#[derive(Debug)]
enum Stage {
    Carrying(Box<Salvage>),
    /// Everything that can be read is over there; what cannot must be announced before the old file goes.
    Telling(Box<Salvage>),
    /// All connections have let go.
    Placing {
        new: PathBuf,
        kept_as: Option<PathBuf>,
    },
}

impl Writer {
    /// A file that is damaged for certain, known from the start.
    pub fn mend_spool(&mut self, why: String) {
        self.shared.board.suspect(Db::Spool, why, true);
    }

    /// When there is more to do for it.
    pub(super) fn mend_due(&self) -> Option<Boot> {
        match &self.mending {
            Some(m) => Some(m.not_before),
            None => self.shared.board.is_suspected().then_some(Boot(0)),
        }
    }

    pub(super) fn mend(&mut self, now: Boot) {
        if !self.is_in_place(now) {
            return;
        }
        if let Some(suspicion) = self.shared.board.take_suspicion(Db::State) {
            self.examine(Db::State, suspicion, now);
        }
        if let Some((_, why)) = self.places.again.take_if(|(at, _)| *at <= now) {
            self.begin(Db::Spool, why, false, now);
        }
        if self.mending.is_some() {
            self.go_on(now);
        } else if let Some(suspicion) = self.shared.board.take_suspicion(Db::Spool) {
            self.examine(Db::Spool, suspicion, now);
        }
    }

    /// Whether the directory is the one that was locked. A file that is gone from it is replaced.
    fn is_in_place(&mut self, now: Boot) -> bool {
        if self.places.lock.is_some() && quarantine::identity(&self.places.lock_path) != self.places.lock {
            // An unmounted card leaves an empty directory: what is written there would be found by nobody.
            for db in Db::BOTH {
                let detail = "the data directory is gone, or another one is mounted in its place".to_owned();
                self.shared.board.set(db, StoreState::Failing, detail, now);
            }
            self.places.away = true;
            return false;
        }
        if std::mem::take(&mut self.places.away) {
            // Back, and maybe not the same files: fresh connections.
            self.doubt(Db::State);
            self.doubt(Db::Spool);
        }
        for (db, path) in [(Db::State, self.state.path().to_owned()), (Db::Spool, self.saver.disk().path().to_owned())] {
            let busy = db == Db::Spool && self.mending.is_some();
            let known = self.places.files[db as usize];
            if !busy && known.is_some() && quarantine::identity(&path) != known {
                self.begin(db, "it was removed while in use".into(), true, now);
            }
        }
        true
    }

    fn examine(&mut self, db: Db, suspicion: Suspicion, now: Boot) {
        let Suspicion { why, sure } = suspicion;
        if sure {
            return self.begin(db, why, false, now);
        }
        let path = if db == Db::State { self.state.path() } else { self.saver.disk().path() };
        match db::check(path, limits::CHECK_WITHIN) {
            Checked::Damaged(found) => self.begin(db, found, false, now),
            Checked::Unreadable(error) => self.shared.board.set(db, StoreState::Failing, error, now),
            Checked::Sound | Checked::Unfinished if std::mem::replace(&mut self.places.doubted[db as usize], true) => {
                self.begin(db, why, false, now);
            }
            Checked::Sound | Checked::Unfinished => self.doubt(db),
        }
    }

    /// A fresh connection decides with its first commit.
    fn doubt(&mut self, db: Db) {
        let opened = if db == Db::State { self.state.open_again() } else { self.saver.disk().open_again() };
        if let Err(error) = opened {
            tracing::warn!(file = db.name(), %error, "no fresh connection; the old one is used on");
        }
    }

    fn begin(&mut self, db: Db, why: String, gone: bool, now: Boot) {
        tracing::error!(file = db.name(), %why, "database damaged or gone; what can be read is carried into a new one");
        match db {
            Db::State => self.replace_state(&why, gone, now),
            Db::Spool => self.begin_spool(why, gone, now),
        }
    }

    fn begin_spool(&mut self, why: String, gone: bool, now: Boot) {
        let begun = random().map_err(StoreError::Random).and_then(|bits| {
            let file = bits.cast_signed();
            Salvage::begin(self.saver.disk(), gone, file, &self.shared.spool)
        });
        match begun {
            Ok(salvage) => {
                let stage = Stage::Carrying(Box::new(salvage));
                let (tries, not_before) = (0, now);
                self.mending = Some(Mending { stage, why, gone, tries, not_before, lost_samples: 0, cut: 0, whole: 0 });
            }
            Err(error) => {
                self.shared.board.set(Db::Spool, StoreState::Failing, format!("damaged, and no new one can be made: {error}"), now);
                self.shared.spool.lock().failed(now, limits::WRITE_RETRY_MAX);
                self.places.again = Some((now + limits::WRITE_RETRY_MAX, why));
            }
        }
    }

    fn go_on(&mut self, now: Boot) {
        let Some(mut m) = self.mending.take() else { return };
        if now < m.not_before {
            self.mending = Some(m);
            return;
        }
        let result = match m.stage {
            Stage::Carrying(ref mut salvage) => match salvage.step(self.saver.disk(), &self.shared.spool) {
                Ok(false) => Ok(()),
                Ok(true) => {
                    m = m.telling();
                    Ok(())
                }
                Err(e) if m.tries + 1 >= TRIES => {
                    tracing::error!(error = %e, "no room or no luck with the new spool.db; what was not carried over is lost");
                    salvage.give_up();
                    m = m.telling();
                    Ok(())
                }
                Err(e) => Err(e.to_string()),
            },
            Stage::Telling(ref mut salvage) => match self.tell_cut(salvage, &mut m.lost_samples, now) {
                Ok(Some(new)) => {
                    (m.cut, m.whole) = (salvage.cut.len(), salvage.whole);
                    m.stage = Stage::Placing { new, kept_as: None };
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(e) => Err(e),
            },
            Stage::Placing { ref new, ref mut kept_as } => match self.place(new, kept_as, m.gone) {
                Ok(()) => {
                    let kept_as = kept_as.take();
                    let detail = m.detail(kept_as.as_ref());
                    return self.shared.board.set(Db::Spool, StoreState::Quarantined, detail, now);
                }
                Err(e) => Err(e),
            },
        };
        match result {
            // The first event of the epoch is waited for.
            Ok(()) if self.shared.board.is_held() && matches!(m.stage, Stage::Telling(_)) => {
                m.not_before = now + limits::WRITE_RETRY_MIN / 10
            }
            Ok(()) => m.not_before = now,
            Err(detail) => {
                m.tries += 1;
                m.not_before = now + limits::WRITE_RETRY_MIN;
                self.shared.board.set(Db::Spool, StoreState::Failing, format!("a new file cannot be made: {detail}"), now);
            }
        }
        self.shared.spool.lock().failed(now, limits::WRITE_RETRY_MIN);
        self.mending = Some(m);
    }

    /// The gap events of what is lost, committed; then the new file is finished and everybody lets go of the old one.
    /// `None`: not yet.
    fn tell_cut(&mut self, salvage: &mut Salvage, lost: &mut u64, now: Boot) -> Result<Option<PathBuf>, String> {
        // The first event of an epoch comes first.
        if self.shared.board.is_held() {
            return Ok(None);
        }
        // With what was announced before: its rows may still be in the old file, which a kill would find again.
        let gone: Vec<u64> = self.saver.gone().iter().chain(salvage.cut.keys()).copied().collect();
        let gaps = {
            let mut core = self.shared.spool.lock();
            let before = core.counts.dropped_samples;
            for (n, kept) in &salvage.cut {
                if kept.is_empty() { core.damaged(*n) } else { core.cut(*n, kept) }
            }
            *lost += core.counts.dropped_samples - before;
            core.gaps.take()
        };
        let events = gaps.iter().cloned().map(|gap| gap.event(now)).collect();
        if let Err(e) = self.commit(&[Work::Gone(self.saver.file(), &gone)], events, now) {
            self.owe(gaps, now);
            return Err(e.to_string());
        }
        let meta = Saver::meta(&mut self.shared.spool.lock(), &[]);
        salvage.finish(&meta).map_err(|e| e.to_string())?;
        Ok(Some(salvage.path().to_owned()))
    }

    /// Each step can be done again.
    fn place(&mut self, new: &std::path::Path, kept_as: &mut Option<PathBuf>, gone: bool) -> Result<(), String> {
        let shared = std::sync::Arc::clone(&self.shared);
        let path = self.saver.disk().path().to_owned();
        let mut reader = shared.spool.reader();
        reader.let_go().and_then(|()| self.saver.disk().let_go()).map_err(|e| e.to_string())?;
        if new.exists() {
            if gone {
                // Its log may be left.
                quarantine::remove(&path).map_err(|e| e.to_string())?;
            } else if path.exists() {
                *kept_as = Some(quarantine::move_aside(&path).map_err(|e| e.to_string())?);
            }
            quarantine::put_in_place(new, &path).map_err(|e| e.to_string())?;
        }
        self.saver.disk().open_again().and_then(|()| reader.open_again()).map_err(|e| e.to_string())?;
        drop(reader);
        self.saver.begun_anew();
        self.places.files[Db::Spool as usize] = quarantine::identity(&path);
        self.gauges[Db::Spool as usize] = Gauge::new(&path);
        let mut core = shared.spool.lock();
        let stale = core.ring.stale(u64::MAX);
        core.ring.emptied(&stale);
        core.worked();
        drop(core);
        shared.spool.tell();
        Ok(())
    }

    /// Small enough to be done in one go.
    fn replace_state(&mut self, why: &str, gone: bool, now: Boot) {
        match self.try_replace_state(gone) {
            Ok((words, kept_as)) => {
                let detail = format!("{why}; {}; {words}", kept(kept_as.as_ref()));
                self.shared.board.set(Db::State, StoreState::Quarantined, detail, now);
            }
            Err(error) => {
                self.shared.board.set(Db::State, StoreState::Failing, format!("damaged, and no new one can be made: {error}"), now);
                // The old one, or what there is in its place.
                self.doubt(Db::State);
            }
        }
    }

    fn try_replace_state(&mut self, gone: bool) -> Result<(String, Option<PathBuf>), StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let path = self.state.path().to_owned();
        let new = quarantine::beside(&path, ".new");
        let held = shared.events.in_ram();
        let fresh = if gone { None } else { db::reader(&path).ok() };
        let old = fresh.as_ref().unwrap_or(self.state.connection());
        let alive = || shared.inbox.last_turn.store(shared.clock.now().0, std::sync::atomic::Ordering::Relaxed);
        let newest = Some(self.state.last_event_row());
        let saved = self.reserve.with_room(|| state::salvage(old, &new, &held, newest, shared.clock, alive))?;
        // It may have taken the reserve, and the new file has no free pages.
        self.refill_at.get_or_insert(shared.clock.now());
        drop(fresh);
        let moved = |source| StoreError::Directory { path: path.clone(), source };
        let read = |source| StoreError::Write { file: "state.db", source };
        self.state.let_go().map_err(read)?;
        let mut kept_as = Ok(None);
        // Everybody has let go of the old file while it is moved.
        shared.events.reader(|events| {
            shared.queries.reader(|queries| {
                let memory = rusqlite::Connection::open_in_memory;
                if let (Ok(a), Ok(b)) = (memory(), memory()) {
                    (*events, *queries) = (a, b);
                }
                kept_as = if gone { quarantine::remove(&path).map(|()| None) } else { quarantine::move_aside(&path).map(Some) };
                if kept_as.is_ok()
                    && let Err(e) = quarantine::put_in_place(&new, &path)
                {
                    kept_as = Err(e);
                }
                for one in [events, queries] {
                    match db::reader(&path) {
                        Ok(db) => *one = db,
                        Err(error) => tracing::error!(%error, "state.db cannot be read after it was replaced"),
                    }
                }
            });
        });
        let kept_as = kept_as.map_err(moved)?;
        self.state.open_again()?;
        shared.events.owe(saved.gaps.iter().cloned().map(|e| crate::model::Event { at: shared.clock.now(), ..e }).collect());
        self.places.files[Db::State as usize] = quarantine::identity(&path);
        self.gauges[Db::State as usize] = Gauge::new(&path);
        Ok((saved.words(), kept_as))
    }
}

impl Mending {
    fn telling(mut self) -> Mending {
        if let Stage::Carrying(salvage) = self.stage {
            self.stage = Stage::Telling(salvage);
        }
        self
    }

    fn detail(&self, kept_as: Option<&PathBuf>) -> String {
        let Mending { why, cut, whole, lost_samples, .. } = self;
        format!("{why}; {}; {whole} of {} segments carried over, {lost_samples} samples lost", kept(kept_as), *whole + *cut as u64)
    }
}

fn kept(as_file: Option<&PathBuf>) -> String {
    match as_file.filter(|p| p.exists()) {
        Some(path) => format!("kept as {}", path.file_name().unwrap_or_default().to_string_lossy()),
        None => "nothing was kept of it".into(),
    }
}
