//! Which schedules run now, by a wall clock that may be unknown, step, and be off while nothing runs.
//!
//! Each has a mark: everything up to it has been dealt with. A turn looks what came between the mark and now: the newest is
//! on time if it is no later than [`limits::SCHEDULE_GRACE`], all others were missed, and the policy says what becomes of
//! them. A step forward is therefore time in which runs were missed. After a step back the mark goes back too, so that what
//! was missed by mistake comes in its time; what has run is remembered beside it and does not come again.
//!
//! A run has the same name wherever it comes from: the schedule and its moment in UTC. Whoever carries it out refuses a name
//! that was there (the store does, for 30 days), so a kill between two commits repeats nothing.
//!
//! **A clock that nobody has set** runs nothing, unless the schedule allows it. An interval that does runs on the boot clock
//! then, and what was missed is not known.
//!
//! Absent on purpose: clocks, zone files, commands, the store.

#[cfg(test)]
mod tests;
mod timetable;

pub use timetable::{Came, Timetable};

use crate::{
    limits,
    model::{Boot, Missed, ScheduleId, Timing, WallMs},
};
use std::{collections::BTreeMap, time::Duration};

/// Runs further ahead than this were made by a clock that was wrong, and hold nothing up.
const AHEAD_MAX_S: i64 = 86_400;

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub now: Boot,
    pub wall: WallMs,
    /// Good enough to act by.
    pub trusted: bool,
}

/// Whose moment of a schedule it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occurrence {
    /// In seconds since 1970 of UTC.
    Wall(i64),
    /// In seconds of this boot's clock.
    Boot(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Run {
        id: ScheduleId,
        at: Occurrence,
    },
    /// So many of its moments passed without a run, from the first to the last; `ran` of them are made up for.
    Missed {
        id: ScheduleId,
        missed: Missed,
        count: u64,
        first: i64,
        last: i64,
        ran: u64,
    },
    /// All up to this moment has been dealt with, and nothing runs for it.
    Moved {
        id: ScheduleId,
        mark: i64,
    },
}

/// How a schedule runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub timing: Timing,
    pub table: Timetable,
    pub missed: Missed,
    pub untrusted_clock: bool,
}

/// What is remembered of one over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Everything up to it has been dealt with. `None`: it begins now.
    pub mark: Option<i64>,
    /// The latest that ran.
    pub ran: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    enabled: bool,
    mark: Mark,
    /// As it is on the disk.
    kept: Mark,
    /// Intervals of the boot clock that have been dealt with.
    boot: Option<u64>,
    /// The store did not take its last run.
    hold: Option<Boot>,
    /// The next one after the first.
    next: Option<(i64, Option<i64>)>,
}

#[derive(Debug, Default)]
pub struct Schedules {
    list: BTreeMap<ScheduleId, Entry>,
}

impl Schedules {
    /// Adds it, or puts it in the place of the one with this id.
    pub fn set(&mut self, id: ScheduleId, rule: Rule, enabled: bool, mark: Mark) {
        self.list.insert(id, Entry { rule, enabled, mark, kept: mark, boot: None, hold: None, next: None });
    }

    pub fn remove(&mut self, id: &ScheduleId) {
        self.list.remove(id);
    }

    /// What came while it was disabled was not missed.
    pub fn enable(&mut self, id: &ScheduleId, on: bool) {
        if let Some(e) = self.list.get_mut(id).filter(|e| e.enabled != on) {
            e.enabled = on;
            e.mark.mark = None;
            e.boot = None;
        }
    }

    /// New rules of its zone.
    pub fn retime(&mut self, id: &ScheduleId, table: Timetable) {
        if let Some(e) = self.list.get_mut(id) {
            e.rule.table = table;
            e.next = None;
        }
    }

    pub fn is_enabled(&self, id: &ScheduleId) -> bool {
        self.list.get(id).is_some_and(|e| e.enabled)
    }

    pub fn mark(&self, id: &ScheduleId) -> Mark {
        self.list.get(id).map_or(Mark::default(), |e| e.mark)
    }

    /// Its run is on the disk.
    pub fn kept(&mut self, id: &ScheduleId, at: Occurrence) {
        if let (Some(e), Occurrence::Wall(at)) = (self.list.get_mut(id), at) {
            e.kept = Mark { mark: Some(at), ran: Some(at) };
        }
    }

    /// Its run could not be remembered, so nothing was done: it is tried again, or counts as missed by then.
    pub fn undone(&mut self, id: &ScheduleId, now: Boot) {
        if let Some(e) = self.list.get_mut(id) {
            e.mark = e.kept;
            e.hold = Some(now + limits::SCHEDULE_AGAIN);
        }
    }

    /// When it comes next by what is known of the clock. `None`: never, or nobody can say.
    pub fn next(&mut self, id: &ScheduleId, at: Moment) -> Option<WallMs> {
        let e = self.list.get_mut(id).filter(|e| e.enabled)?;
        if !at.trusted && !e.rule.untrusted_clock {
            return None;
        }
        if let Some(every) = e.on_boot_clock(at) {
            let (now_ms, next) = (at.now.ms(), (at.now.ms() / 1000 / every + 1) * every * 1000);
            return Some(WallMs(at.wall.0.saturating_add(signed(next - now_ms))));
        }
        e.next(second(at.wall)).map(|s| WallMs(s.saturating_mul(1000)))
    }

    /// Whether it will never run again.
    pub fn is_over(&mut self, id: &ScheduleId, at: Moment) -> bool {
        at.trusted && self.list.get_mut(id).is_some_and(|e| e.next(second(at.wall)).is_none())
    }

    /// When [`Schedules::turn`] must be called next, while the clock stays what it is.
    pub fn due(&mut self, at: Moment) -> Option<Boot> {
        self.list.values_mut().filter(|e| e.enabled).filter_map(|e| e.due(at)).min()
    }

    /// Everything that is to be done now. Of one schedule what was missed is told before its runs, the runs in order.
    pub fn turn(&mut self, at: Moment, out: &mut Vec<Effect>) {
        for (id, e) in self.list.iter_mut().filter(|(_, e)| e.enabled) {
            e.turn(id, at, out);
        }
    }
}

impl Entry {
    /// The seconds of an interval that runs on the boot clock now.
    fn on_boot_clock(&self, at: Moment) -> Option<u64> {
        match self.rule.timing {
            Timing::Every { every, .. } if !at.trusted && self.rule.untrusted_clock => Some(every.as_secs().max(1)),
            _ => None,
        }
    }

    /// Everything up to it has been dealt with, as the clock is now.
    fn from(&self, wall: i64) -> i64 {
        let mark = self.mark.mark.unwrap_or(wall).min(wall);
        let ran = self.mark.ran.filter(|ran| ran - wall <= AHEAD_MAX_S).unwrap_or(i64::MIN);
        mark.max(ran)
    }

    fn next(&mut self, wall: i64) -> Option<i64> {
        let from = self.from(wall);
        match self.next {
            Some((asked, next)) if asked == from => next,
            _ => {
                let next = self.rule.table.next(from);
                self.next = Some((from, next));
                next
            }
        }
    }

    fn due(&mut self, at: Moment) -> Option<Boot> {
        if let Some(hold) = self.hold.filter(|hold| *hold > at.now) {
            return Some(hold);
        }
        if !at.trusted && !self.rule.untrusted_clock {
            return None;
        }
        if let Some(every) = self.on_boot_clock(at) {
            return Some(Boot::from_ms((at.now.ms() / 1000 / every + 1) * every * 1000));
        }
        let next = self.next(second(at.wall))?;
        let left = next.saturating_mul(1000).saturating_sub(at.wall.0).max(0);
        Some(at.now + Duration::from_millis(left.unsigned_abs()))
    }

    fn turn(&mut self, id: &ScheduleId, at: Moment, out: &mut Vec<Effect>) {
        if self.hold.is_some_and(|hold| hold > at.now) || !at.trusted && !self.rule.untrusted_clock {
            return;
        }
        self.hold = None;
        if let Some(every) = self.on_boot_clock(at) {
            let now = at.now.ms() / 1000 / every;
            let before = *self.boot.get_or_insert(now);
            if now > before {
                self.boot = Some(now);
                out.push(Effect::Run { id: id.clone(), at: Occurrence::Boot(now * every) });
            }
            return;
        }
        let wall = second(at.wall);
        // Until now it ran by another clock: there is nothing to make up for.
        if self.boot.take().is_some() {
            self.mark.mark = None;
        }
        if self.mark.mark.is_none() {
            (self.mark.mark, self.kept.mark) = (Some(wall), Some(wall));
            out.push(Effect::Moved { id: id.clone(), mark: wall });
        }
        // Back to what has not run: remembered, so that a kill does not leave it out.
        if self.mark.mark.is_some_and(|mark| mark > wall && mark > self.from(wall)) {
            (self.mark.mark, self.kept.mark) = (Some(wall), Some(wall));
            out.push(Effect::Moved { id: id.clone(), mark: wall });
        }
        let back = i64::try_from(limits::SCHEDULE_LOOK_BACK.as_secs()).unwrap_or(i64::MAX);
        let from = self.from(wall).max(wall - back);
        if self.next(wall).is_none_or(|next| next > wall) {
            return;
        }
        match self.rule.table.between(from, wall, limits::SCHEDULE_CATCH_UP + 1) {
            Some(came) => self.carry(id, at, &came, out),
            // What came is further back than is looked.
            None => {
                (self.mark.mark, self.kept.mark) = (Some(from), Some(from));
                out.push(Effect::Moved { id: id.clone(), mark: from });
            }
        }
    }

    fn carry(&mut self, id: &ScheduleId, at: Moment, came: &Came, out: &mut Vec<Effect>) {
        let Some((newest, before)) = came.newest.split_last() else { return };
        let late = at.wall.0.saturating_sub(newest.saturating_mul(1000));
        let on_time = u128::from(late.unsigned_abs()) <= limits::SCHEDULE_GRACE.as_millis();
        let made_up: &[i64] = match (self.rule.missed, on_time) {
            (Missed::Skip, _) | (Missed::Once, true) => &[],
            (Missed::Once, false) => std::slice::from_ref(newest),
            (Missed::All, true) => before,
            (Missed::All, false) => &came.newest,
        };
        let made_up = &made_up[made_up.len().saturating_sub(limits::SCHEDULE_CATCH_UP)..];
        let missed = came.count - u64::from(on_time);
        if missed > 0 {
            let last = if on_time { before.last().copied().unwrap_or(came.first) } else { *newest };
            let ran = made_up.len() as u64;
            out.push(Effect::Missed { id: id.clone(), missed: self.rule.missed, count: missed, first: came.first, last, ran });
        }
        self.mark.mark = Some(*newest);
        let on_time = on_time.then_some(newest);
        if made_up.is_empty() && on_time.is_none() {
            self.kept.mark = self.mark.mark;
            out.push(Effect::Moved { id: id.clone(), mark: *newest });
        }
        for run in made_up.iter().chain(on_time) {
            self.mark.ran = Some(*run);
            out.push(Effect::Run { id: id.clone(), at: Occurrence::Wall(*run) });
        }
    }
}

fn second(wall: WallMs) -> i64 {
    wall.0.div_euclid(1000)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
