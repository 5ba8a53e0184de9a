//! Schedules: those of the configuration and those that were added, carried out as commands like any other.
//!
//! One timer wakes the engine at the next moment of any of them. A run is one transaction: how far the schedule has come, the
//! row of the run and the ids of its commands; only then do the commands go their usual way. An id that the store knows is
//! not executed again, whatever the clocks say.

use super::{Engine, commands::Landed};
use crate::{
    config::zone,
    limits,
    logic::schedule::{Effect, Mark, Moment, Occurrence, Rule, Schedules, Timetable},
    model::{
        Boot, BootIndex, Command, CommandId, Event, EventKind, Outcome, Phase, PointId, Receipt, Schedule, ScheduleAsk, ScheduleId,
        ScheduleNews, Settled, Timing, Value, WallMs, Zone, calendar, command::SCHEDULE,
    },
    store::{Accepted, Change, Restored, RestoredSchedule, ScheduleChange, StoreError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("there is no schedule {0}")]
    Unknown(ScheduleId),
    #[error("schedule {0} is in the configuration; change it there, or disable it")]
    Configured(ScheduleId),
    #[error("schedule {0} is disabled in the configuration; set enabled = true there")]
    Disabled(ScheduleId),
    #[error("{0}")]
    Refused(String),
    #[error("there are {max} schedules, which is all that can be; remove one", max = limits::SCHEDULES)]
    Full,
    #[error("the disk does not take it, so it would not outlive a restart; fieldgate status says what is wrong")]
    NotStored,
    #[error("the daemon is stopping")]
    Stopping,
}

/// One schedule, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleView {
    pub id: ScheduleId,
    pub is: Schedule,
    /// It is in the configuration: it can be disabled here, and not be changed or removed.
    pub configured: bool,
    /// Who added, enabled or disabled it last; empty: nobody.
    pub by: String,
    pub enabled: bool,
    pub next: Option<WallMs>,
    /// It has run for the last time.
    pub is_over: bool,
    /// It does not run, and why.
    pub fault: Option<String>,
}

/// Whose answer is due, once it is durable.
pub(super) type Changed = oneshot::Sender<Result<(), ScheduleError>>;

#[derive(Debug, Default)]
pub(super) struct Planner {
    core: Schedules,
    known: BTreeMap<ScheduleId, Known>,
    due: Option<Boot>,
    zones_read: Boot,
    boot: Option<BootIndex>,
}

#[derive(Debug)]
struct Known {
    is: Schedule,
    configured: bool,
    by: String,
    enabled: bool,
    /// Its zone cannot be read.
    fault: Option<String>,
}

impl Planner {
    pub fn due(&self) -> Option<Boot> {
        self.due
    }

    /// Something has changed: it is looked at in this turn.
    pub fn wake(&mut self, now: Boot) {
        self.due = (!self.known.is_empty()).then_some(now);
    }

    fn put(&mut self, id: &ScheduleId, known: Known, mark: Mark) {
        self.core.remove(id);
        let fault = match rule(&known.is) {
            Ok(rule) => {
                self.core.set(id.clone(), rule, known.enabled, mark);
                None
            }
            Err(why) => {
                tracing::error!(schedule = %id, error = why, "a schedule does not run");
                Some(why)
            }
        };
        self.known.insert(id.clone(), Known { fault, ..known });
    }

    /// Rules of time zones change some times a year, and the machine's updates bring them.
    fn read_zones(&mut self, now: Boot) {
        self.zones_read = now;
        for (id, known) in self.known.iter().filter(|(_, k)| k.is.zone != Zone::UTC) {
            match rule(&known.is) {
                Ok(rule) => self.core.retime(id, rule.table),
                Err(error) => tracing::warn!(schedule = %id, error, "its time zone cannot be read anew; what was read before counts on"),
            }
        }
    }
}

fn rule(is: &Schedule) -> Result<Rule, String> {
    let zone = match is.timing {
        // It has none.
        Timing::Every { .. } => Zone::utc(),
        Timing::At(_) | Timing::Cron(_) => zone::load(&is.zone).map_err(|e| e.to_string())?,
    };
    let table = Timetable::new(is.timing.clone(), zone);
    Ok(Rule { timing: is.timing.clone(), table, missed: is.missed, untrusted_clock: is.untrusted_clock })
}

impl Engine {
    /// Those of the configuration and those that were added, each as far as it had come.
    pub(super) async fn begin_schedules(&mut self, restored: &Restored, now: Boot) {
        self.planner.boot = Some(restored.boot);
        self.planner.zones_read = now;
        let mut changes = Vec::new();
        let config = Arc::clone(&self.config);
        for s in &config.schedules {
            let row = restored.schedules.iter().find(|r| r.id == s.id);
            // Whoever disabled it has a name; the configuration has none.
            let enabled = s.enabled && row.is_none_or(|r| r.enabled || r.by.is_empty());
            let timing = s.is.when();
            let by = row.filter(|_| s.enabled).map_or(String::new(), |r| r.by.clone());
            let is_known = row.is_some_and(|r| r.body.is_none() && r.timing == timing && r.enabled == enabled && r.by == by);
            if !is_known {
                if row.is_some_and(|r| r.body.is_some()) {
                    tracing::warn!(schedule = %s.id, "the configuration has a schedule of that name now; the one that was added is gone");
                }
                let put = ScheduleChange::Put { id: s.id.clone(), body: None, timing: timing.clone(), enabled, by: by.clone(), at: now };
                changes.push(Change::Schedule(put));
            }
            let mark = row.map_or(Mark::default(), |r| left(r, &timing, enabled));
            self.planner.put(&s.id, Known { is: s.is.clone(), configured: true, by, enabled, fault: None }, mark);
        }
        for row in &restored.schedules {
            if self.planner.known.contains_key(&row.id) {
                continue;
            }
            match &row.body {
                None => changes.push(Change::Schedule(ScheduleChange::Gone(row.id.clone()))),
                Some(is) => {
                    let known = Known { is: is.clone(), configured: false, by: row.by.clone(), enabled: row.enabled, fault: None };
                    self.planner.put(&row.id, known, left(row, &is.when(), row.enabled));
                }
            }
        }
        self.planner.wake(now);
        self.submit(changes, Receipt::none()).await;
    }

    /// The clocks, and whether the wall clock can be acted by: it was set in this boot, and not too long ago.
    fn moment(&self, now: Boot) -> Moment {
        let (reading, _) = self.store.clock();
        let is_near = |error: u64| u128::from(error) <= limits::SCHEDULE_CLOCK_ERROR.as_millis();
        let trusted = reading.is_synchronised() || reading.error_ms.is_some_and(is_near);
        Moment { now, wall: reading.wall(now), trusted }
    }

    /// Runs what is due, and finds out when to come again.
    pub(super) async fn run_schedules(&mut self, now: Boot) {
        if now.since(self.planner.zones_read) >= limits::ZONES_EVERY {
            self.planner.read_zones(now);
        }
        let moment = self.moment(now);
        let mut effects = Vec::new();
        self.planner.core.turn(moment, &mut effects);
        // Told in the transaction of what follows from it.
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                Effect::Missed { id, missed, count, first, last, ran } => {
                    let (first, last) = (WallMs(first.saturating_mul(1000)), WallMs(last.saturating_mul(1000)));
                    let policy = missed.word();
                    tracing::warn!(schedule = %id, missed = count, policy, made_up = ran, "runs of a schedule were missed");
                    let (news, by) = (ScheduleNews::Missed, String::new());
                    let (first, last, policy) = (Some(first), Some(last), Some(missed));
                    let kind = EventKind::Schedule { schedule: id, news, by, missed: count, first, last, policy, ran };
                    told.push(Change::Event(Event { at: now, kind }));
                }
                Effect::Moved { id, mark } => {
                    told.push(Change::Schedule(ScheduleChange::Mark { id, mark }));
                    self.submit(std::mem::take(&mut told), Receipt::none()).await;
                }
                Effect::Run { id, at } => self.fire(id, at, std::mem::take(&mut told), moment).await,
            }
        }
        let zones = (!self.planner.known.is_empty()).then_some(self.planner.zones_read + limits::ZONES_EVERY);
        self.planner.due = [self.planner.core.due(moment), zones].into_iter().flatten().min();
    }

    async fn fire(&mut self, id: ScheduleId, at: Occurrence, mut changes: Vec<Change>, moment: Moment) {
        let Some(known) = self.planner.known.get(&id) else { return };
        let boot = self.planner.boot.map_or(0, |b| b.0);
        let (name, second) = match at {
            Occurrence::Wall(second) => (calendar::text(second) + "Z", second),
            Occurrence::Boot(s) => (format!("boot{boot}+{s}s"), moment.wall.0.div_euclid(1000)),
        };
        let command = |(n, (device, action))| Command {
            id: CommandId::of_schedule(&id, &name, n),
            device,
            action,
            from: format!("{SCHEDULE}{id}"),
            received: moment.now,
            issued_at: None,
            expires_in: limits::SCHEDULE_EXPIRES,
            from_stored_session: false,
        };
        let commands: Vec<Command> = known.is.actions().into_iter().enumerate().map(command).collect();
        tracing::info!(schedule = %id, moment = name, commands = commands.len(), "schedule runs");
        let ids = commands.iter().map(|c| (c.id.clone(), c.device.clone())).collect();
        let is_wall = matches!(at, Occurrence::Wall(_));
        changes.push(Change::Schedule(ScheduleChange::Ran { id: id.clone(), second, is_wall, commands: ids, at: moment.now }));
        while self.in_store + commands.len() > limits::STORE_CHANGES {
            let Some(landed) = self.landed.recv().await else { return };
            self.on_landed(landed).await;
        }
        self.in_store += commands.len();
        let (land, kept) = (self.land.clone(), commands.clone());
        let done = move |answer: Result<Vec<Result<Accepted, Arc<StoreError>>>, Arc<StoreError>>| {
            let answers = answer.unwrap_or_else(|error| kept.iter().map(|_| Err(Arc::clone(&error))).collect());
            for (command, answer) in kept.into_iter().zip(answers) {
                if land.try_send(Landed { command, answer, of: Some((id.clone(), at)), parts: vec![] }).is_err() {
                    tracing::debug!("a command landed after the engine had stopped");
                }
            }
        };
        self.store.accept_all(changes, commands, done).await;
    }

    /// A command of a run is on the disk, or could not be put there.
    pub(super) fn run_landed(&mut self, (id, at): &(ScheduleId, Occurrence), is_kept: bool) {
        if is_kept {
            self.planner.core.kept(id, *at);
        } else {
            let now = self.clock.now();
            self.planner.core.undone(id, now);
            self.planner.wake(now);
        }
    }

    /// What is to be stored for it, with its event.
    fn change_schedule(&mut self, ask: ScheduleAsk, by: &str, now: Boot) -> Result<Vec<Change>, ScheduleError> {
        let mut changes = Vec::new();
        let (id, news) = match ask {
            ScheduleAsk::List => return Ok(changes),
            ScheduleAsk::Set(id, is) => {
                self.set_schedule(&id, is, by, now, &mut changes)?;
                (id, ScheduleNews::Set)
            }
            ScheduleAsk::Remove(id) => {
                match self.planner.known.get(&id) {
                    None => return Err(ScheduleError::Unknown(id)),
                    Some(known) if known.configured => return Err(ScheduleError::Configured(id)),
                    Some(_) => self.forget_schedule(&id, &mut changes),
                }
                (id, ScheduleNews::Removed)
            }
            ScheduleAsk::Enable(id, on) => {
                let is_off = self.config.schedules.iter().any(|s| s.id == id && !s.enabled);
                let Some(known) = self.planner.known.get_mut(&id) else { return Err(ScheduleError::Unknown(id)) };
                if on && is_off {
                    return Err(ScheduleError::Disabled(id));
                }
                if known.enabled == on {
                    return Ok(changes);
                }
                (known.enabled, known.by) = (on, by.to_owned());
                let body = (!known.configured).then(|| Box::new(known.is.clone()));
                let (timing, by) = (known.is.when(), by.to_owned());
                changes.push(Change::Schedule(ScheduleChange::Put { id: id.clone(), body, timing, enabled: on, by, at: now }));
                self.planner.core.enable(&id, on);
                (id, if on { ScheduleNews::Enabled } else { ScheduleNews::Disabled })
            }
        };
        tracing::info!(schedule = %id, %by, "schedule {}", news.word());
        let (first, last, policy) = (None, None, None);
        let kind = EventKind::Schedule { schedule: id, news, by: by.to_owned(), missed: 0, first, last, policy, ran: 0 };
        changes.push(Change::Event(Event { at: now, kind }));
        self.planner.wake(now);
        Ok(changes)
    }

    fn set_schedule(&mut self, id: &ScheduleId, is: Schedule, by: &str, now: Boot, changes: &mut Vec<Change>) -> Result<(), ScheduleError> {
        let old = self.planner.known.get(id);
        if old.is_some_and(|known| known.configured) {
            return Err(ScheduleError::Configured(id.clone()));
        }
        if is.write.len() > limits::SCHEDULE_WRITES {
            return Err(ScheduleError::Refused(format!("a schedule writes at most {} points", limits::SCHEDULE_WRITES)));
        }
        for (device, action) in is.actions() {
            if !self.registry.contains(&device) && !self.is_broadcast(&device) {
                return Err(ScheduleError::Refused(format!("there is no device {device} here")));
            }
            self.commands.allows(&device, &action).map_err(|why| ScheduleError::Refused(format!("{device}: {why}")))?;
        }
        let rule = rule(&is).map_err(ScheduleError::Refused)?;
        let moment = self.moment(now);
        if moment.trusted && rule.table.next(moment.wall.0.div_euclid(1000)).is_none() {
            return Err(ScheduleError::Refused("its time is over".into()));
        }
        let is_same = old.is_some_and(|known| known.enabled && known.is.when() == is.when());
        if old.is_none() && self.planner.known.len() >= limits::SCHEDULES {
            let Planner { core, known, .. } = &mut self.planner;
            let mut over = known.iter().filter(|(_, k)| !k.configured).map(|(id, _)| id);
            let over = over.find(|id| core.is_over(id, moment)).cloned().ok_or(ScheduleError::Full)?;
            self.forget_schedule(&over, changes);
        }
        let mark = if is_same { self.planner.core.mark(id) } else { Mark::default() };
        let (body, timing) = (Some(Box::new(is.clone())), is.when());
        changes.push(Change::Schedule(ScheduleChange::Put { id: id.clone(), body, timing, enabled: true, by: by.to_owned(), at: now }));
        self.planner.put(id, Known { is, configured: false, by: by.to_owned(), enabled: true, fault: None }, mark);
        Ok(())
    }

    fn forget_schedule(&mut self, id: &ScheduleId, changes: &mut Vec<Change>) {
        self.planner.known.remove(id);
        self.planner.core.remove(id);
        changes.push(Change::Schedule(ScheduleChange::Gone(id.clone())));
    }

    /// Of somebody on this machine; answered when it is durable.
    pub(super) async fn schedule_asked(&mut self, ask: ScheduleAsk, by: &str, answer: Changed) {
        let changes = match self.change_schedule(ask, by, self.clock.now()) {
            Ok(changes) => changes,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let answer = Mutex::new(Some(answer));
        let tell = move |_, how| {
            if let Some(answer) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                drop(answer.send(if how == Settled::Kept { Ok(()) } else { Err(ScheduleError::NotStored) }));
            }
        };
        self.submit(changes, Receipt::new(0, Arc::new(tell))).await;
    }

    /// A command to the gateway itself: its end is committed with what it changed.
    pub(super) async fn run_own(&mut self, command: Command, ask: ScheduleAsk) {
        let now = self.clock.now();
        let (phase, reason, values, mut changes) = match self.commands.in_time(now, &command, self.store.clock().0) {
            Err((phase, reason)) => (phase, reason, BTreeMap::new(), Vec::new()),
            Ok(()) => {
                let values = if ask == ScheduleAsk::List { self.listed(now) } else { BTreeMap::new() };
                match self.change_schedule(ask, &command.from, now) {
                    Ok(changes) => (Phase::Confirmed, String::new(), values, changes),
                    Err(error) => (Phase::Rejected, error.to_string(), values, Vec::new()),
                }
            }
        };
        let outcome = Outcome::new(phase, reason).with(values);
        let Command { id, device, .. } = command;
        tracing::info!(%id, phase = outcome.phase.word(), reason = %outcome.reason, "command ended");
        self.note_phase(&id, outcome.phase, Some(&outcome));
        changes.extend(self.end_told(id, device, outcome));
        self.submit(changes, Receipt::none()).await;
    }

    /// Each in a sentence, under its id.
    fn listed(&mut self, now: Boot) -> BTreeMap<PointId, Value> {
        let sentence = |s: &ScheduleView| {
            let next = s.next.map(|at| format!(", next {}Z", calendar::text(at.0.div_euclid(1000))));
            let state = if s.enabled { next.unwrap_or_default() } else { ", disabled".to_owned() };
            s.is.sentence() + &state
        };
        let all = self.schedules(now);
        all.iter().filter_map(|s| Some((PointId::parse(s.id.as_str()).ok()?, Value::Text(sentence(s).into())))).collect()
    }

    pub(super) fn schedules(&mut self, now: Boot) -> Vec<ScheduleView> {
        let moment = self.moment(now);
        let Planner { core, known, .. } = &mut self.planner;
        let view = |(id, k): (&ScheduleId, &Known)| ScheduleView {
            id: id.clone(),
            is: k.is.clone(),
            configured: k.configured,
            by: k.by.clone(),
            enabled: k.enabled,
            next: core.next(id, moment),
            is_over: core.is_over(id, moment),
            fault: k.fault.clone().or_else(|| {
                let waits = k.enabled && !moment.trusted && !k.is.untrusted_clock;
                waits.then(|| "nobody has set the clock of this machine since it started".to_owned())
            }),
        };
        known.iter().map(view).collect()
    }
}

/// How far it had come, if that says anything about what it is now.
fn left(row: &RestoredSchedule, timing: &str, enabled: bool) -> Mark {
    let is_same = row.timing == timing;
    Mark { mark: row.mark.filter(|_| is_same && row.enabled == enabled), ran: row.ran.filter(|_| is_same) }
}
