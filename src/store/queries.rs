//! Reading state.db for people: on a connection of its own, beside the writer.

use super::{RestoredAttribute, StoreError, db};
use crate::{
    limits,
    model::{
        Action, AlarmKind, Boot, BootIndex, Cause, ClockReading, Command, DeviceId, Learned, Outcome, Phase, ScheduleId, State, Urgency,
        WallMs,
    },
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// A transition.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    pub state: State,
    pub cause: Option<Cause>,
    pub boot: BootIndex,
    pub at: Boot,
    /// As the clock was then; for display only.
    pub wall: WallMs,
    pub missed: u32,
}

/// From when to when a process was there to see devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub boot: BootIndex,
    pub began: Boot,
    /// Its last sign of life: at most five minutes before its end.
    pub seen: Boot,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRow {
    pub id: i64,
    pub device: String,
    pub kind: AlarmKind,
    pub boot: BootIndex,
    pub at: Boot,
    /// As the clock was then; for display only.
    pub wall: WallMs,
    pub reason: String,
    pub rule: Option<String>,
    pub point: Option<String>,
    pub severity: Urgency,
    /// Who has seen it, and when.
    pub seen: Option<(String, WallMs)>,
    /// `None`: it is raised.
    pub cleared: Option<(BootIndex, Boot, WallMs)>,
}

/// A switched point, as it stands or stood.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayRow {
    pub point: String,
    pub on: bool,
    pub boot: BootIndex,
    pub at: Boot,
    /// As the clock was then; for display only.
    pub wall: WallMs,
    /// The command that switched it and who gave that. `None`: it was seen so.
    pub by: Option<(String, String)>,
    /// How often it had switched since the row before, with this one.
    pub changes: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CommandRow {
    pub id: String,
    pub device: String,
    pub source: String,
    pub phase: Phase,
    pub received: WallMs,
    /// `None`: not ended.
    pub outcome: Option<Outcome>,
    /// `None`: an older or newer version wrote it.
    pub asked: Option<Action>,
}

/// A command of a schedule's run.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRunRow {
    pub schedule: String,
    /// Its moment; when it ran is beside it.
    pub at: WallMs,
    pub ran: WallMs,
    pub command: String,
    pub device: String,
    /// `None`: not ended.
    pub phase: Option<Phase>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterRow {
    pub id: i64,
    pub source: String,
    pub topic: String,
    pub reason: String,
    pub body: Vec<u8>,
    pub wall: WallMs,
}

/// Which dead letters. The default: all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LetterFilter {
    /// Empty: any.
    pub ids: Vec<i64>,
    /// The source begins so.
    pub source: Option<String>,
    pub before: Option<WallMs>,
}

const HISTORY: &str = "SELECT state, cause, boot, at, wall_ms, missed FROM status_history WHERE device = ?1 ORDER BY id DESC LIMIT ?2";

fn transition(r: &Row) -> rusqlite::Result<HistoryRow> {
    Ok(HistoryRow {
        state: State::parse(&r.get::<_, String>(0)?).unwrap_or(State::Unknown),
        cause: r.get::<_, Option<String>>(1)?.as_deref().and_then(Cause::parse),
        boot: BootIndex(r.get(2)?),
        at: Boot(r.get::<_, i64>(3)?.cast_unsigned()),
        wall: WallMs(r.get(4)?),
        missed: r.get(5)?,
    })
}

fn relay(r: &Row) -> rusqlite::Result<RelayRow> {
    let (command, source): (Option<String>, Option<String>) = (r.get(5)?, r.get(6)?);
    Ok(RelayRow {
        point: r.get(0)?,
        on: r.get(1)?,
        boot: BootIndex(r.get(2)?),
        at: Boot(r.get::<_, i64>(3)?.cast_unsigned()),
        wall: WallMs(r.get(4)?),
        by: command.zip(source),
        changes: r.get(7)?,
    })
}

#[derive(Debug)]
pub struct Queries(Mutex<Connection>);

impl Queries {
    pub fn open(path: &Path) -> Result<Queries, StoreError> {
        Ok(Queries(Mutex::new(db::reader(path)?)))
    }

    /// As [`super::EventQueue`] has it.
    pub fn reader(&self, change: impl FnOnce(&mut Connection)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn all<T>(&self, sql: &str, params: impl rusqlite::Params, row: impl FnMut(&Row) -> rusqlite::Result<T>) -> Result<Vec<T>, StoreError> {
        let db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || db.prepare_cached(sql)?.query_map(params, row)?.collect();
        let rows: rusqlite::Result<Vec<T>> = read();
        rows.map_err(|source| StoreError::Read { file: "state.db", source })
    }

    /// What was found out about devices and lines, in order of whom it is about.
    pub fn learned(&self) -> Result<Vec<Learned>, StoreError> {
        let db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        super::state::learned(&db).map_err(|source| StoreError::Read { file: "state.db", source })
    }

    /// The newest transitions of a device, newest first.
    pub fn history(&self, device: &DeviceId, limit: u32) -> Result<Vec<HistoryRow>, StoreError> {
        self.all(HISTORY, params![device.as_str(), limit], transition)
    }

    /// The newest transitions of all devices, newest first.
    pub fn moves(&self, limit: u32) -> Result<Vec<(String, HistoryRow)>, StoreError> {
        let sql = "SELECT state, cause, boot, at, wall_ms, missed, device FROM status_history ORDER BY id DESC LIMIT ?1";
        self.all(sql, [limit], |r| Ok((r.get(6)?, transition(r)?)))
    }

    /// The same of one, down to the one that held at `since` by what is known of the clocks. A device whose transitions were all
    /// pushed out by others' has its present state for its last one.
    pub fn history_since(
        &self,
        device: &DeviceId,
        since: WallMs,
        offsets: &BTreeMap<BootIndex, ClockReading>,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let enough = |row: &HistoryRow| offsets.get(&row.boot).map_or(row.wall, |clock| clock.wall(row.at)) <= since;
        let db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || {
            let mut newest_first = db.prepare_cached(HISTORY)?;
            let mut found = Vec::new();
            for row in newest_first.query_map(params![device.as_str(), limits::STATUS_HISTORY.cast_signed()], transition)? {
                found.push(row?);
                if found.last().is_some_and(enough) {
                    break;
                }
            }
            if found.is_empty() {
                let mut present = db.prepare_cached("SELECT state, cause, boot, since, wall_ms, missed FROM device WHERE id = ?1")?;
                found.extend(present.query_row([device.as_str()], transition).optional()?);
            }
            Ok(found)
        };
        read().map_err(|source| StoreError::Read { file: "state.db", source })
    }

    /// Oldest first. Runs of a version that did not write it down are left out.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.all("SELECT boot, began, seen FROM epoch WHERE began IS NOT NULL AND seen IS NOT NULL ORDER BY id", [], |r| {
            let moment = |n| r.get::<_, i64>(n).map(|at| Boot(at.cast_unsigned()));
            Ok(Run { boot: BootIndex(r.get(0)?), began: moment(1)?, seen: moment(2)? })
        })
    }

    /// The newest alarms, newest first.
    pub fn alarms(&self, device: Option<&DeviceId>, raised: bool, limit: u32) -> Result<Vec<AlarmRow>, StoreError> {
        let sql = "SELECT id, device, kind, boot, at, wall_ms, reason, cleared_boot, cleared_at, cleared_wall_ms, rule, point,
                   severity, seen_by, seen_wall_ms FROM alarm
                   WHERE (?1 IS NULL OR device = ?1) AND (NOT ?2 OR cleared_at IS NULL) ORDER BY id DESC LIMIT ?3";
        self.all(sql, params![device.map(DeviceId::as_str), raised, limit], |r| {
            let cleared: (Option<u32>, Option<i64>, Option<i64>) = (r.get(7)?, r.get(8)?, r.get(9)?);
            let kind = AlarmKind::parse(&r.get::<_, String>(2)?).unwrap_or(AlarmKind::Offline);
            let seen: (Option<String>, Option<i64>) = (r.get(13)?, r.get(14)?);
            Ok(AlarmRow {
                id: r.get(0)?,
                device: r.get(1)?,
                kind,
                rule: Some(r.get::<_, String>(10)?).filter(|rule| !rule.is_empty()),
                point: r.get(11)?,
                severity: r.get::<_, Option<String>>(12)?.and_then(|s| Urgency::parse(&s)).unwrap_or(kind.severity()),
                seen: seen.0.zip(seen.1.map(WallMs)),
                boot: BootIndex(r.get(3)?),
                at: Boot(r.get::<_, i64>(4)?.cast_unsigned()),
                wall: WallMs(r.get(5)?),
                reason: r.get(6)?,
                cleared: match cleared {
                    (Some(boot), Some(at), Some(wall)) => Some((BootIndex(boot), Boot(at.cast_unsigned()), WallMs(wall))),
                    _ => None,
                },
            })
        })
    }

    /// What a device said of itself last.
    pub fn attributes(&self, device: &DeviceId) -> Result<Vec<RestoredAttribute>, StoreError> {
        let db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        super::state::attributes(&db, Some(device)).map_err(|source| StoreError::Read { file: "state.db", source })
    }

    /// The switched points of a device, in order of name.
    pub fn relays(&self, device: &DeviceId) -> Result<Vec<RelayRow>, StoreError> {
        let sql = "SELECT point, is_on, boot, at, wall_ms, command, source, 1 FROM relay WHERE device = ?1 ORDER BY point";
        self.all(sql, [device.as_str()], relay)
    }

    /// Their newest changes, newest first.
    pub fn relay_history(&self, device: &DeviceId, limit: u32) -> Result<Vec<RelayRow>, StoreError> {
        let sql = "SELECT point, is_on, boot, at, wall_ms, command, source, changes FROM relay_history
                   WHERE device = ?1 ORDER BY id DESC LIMIT ?2";
        self.all(sql, params![device.as_str(), limit], relay)
    }

    /// The newest commands, newest first.
    pub fn commands(&self, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        self.command_rows("ORDER BY n DESC LIMIT ?1", [limit])
    }

    /// The command of this id, if there was one.
    pub fn command(&self, id: &str) -> Result<Option<CommandRow>, StoreError> {
        Ok(self.command_rows("WHERE id = ?1", [id])?.pop())
    }

    fn command_rows(&self, which: &str, params: impl rusqlite::Params) -> Result<Vec<CommandRow>, StoreError> {
        self.all(&format!("SELECT id, device, source, phase, wall_ms, outcome, body FROM command {which}"), params, |r| {
            let outcome: Option<String> = r.get(5)?;
            Ok(CommandRow {
                id: r.get(0)?,
                device: r.get(1)?,
                source: r.get(2)?,
                phase: Phase::parse(&r.get::<_, String>(3)?).unwrap_or(Phase::Unknown),
                received: WallMs(r.get(4)?),
                outcome: outcome.and_then(|text| serde_json::from_str(&text).ok()),
                asked: serde_json::from_str::<Command>(&r.get::<_, String>(6)?).ok().map(|c| c.action),
            })
        })
    }

    /// The newest first. Few are kept of each schedule.
    pub fn schedule_runs(&self, of: Option<&ScheduleId>) -> Result<Vec<ScheduleRunRow>, StoreError> {
        let sql = "SELECT schedule, at, wall_ms, command, device, phase, reason FROM schedule_run
                   WHERE ?1 IS NULL OR schedule = ?1 ORDER BY id DESC";
        self.all(sql, [of.map(ScheduleId::as_str)], |r| {
            Ok(ScheduleRunRow {
                schedule: r.get(0)?,
                at: WallMs(r.get::<_, i64>(1)?.saturating_mul(1000)),
                ran: WallMs(r.get(2)?),
                command: r.get(3)?,
                device: r.get(4)?,
                phase: r.get::<_, Option<String>>(5)?.as_deref().and_then(Phase::parse),
                reason: r.get::<_, Option<String>>(6)?.unwrap_or_default(),
            })
        })
    }

    /// The newest dead letters, newest first.
    pub fn dead_letters(&self, filter: &LetterFilter, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        let sql = "SELECT id, source, topic, reason, body, wall_ms FROM dead_letter
                   WHERE (?1 IS NULL OR id = ?1) AND substr(source, 1, length(?2)) = ?2 AND wall_ms < ?3 ORDER BY id DESC LIMIT ?4";
        let (source, before) = (filter.source.clone().unwrap_or_default(), filter.before.map_or(i64::MAX, |at| at.0));
        let one = |id: Option<i64>| {
            self.all(sql, params![id, source, before, limit], |r| {
                Ok(DeadLetterRow {
                    id: r.get(0)?,
                    source: r.get(1)?,
                    topic: r.get(2)?,
                    reason: r.get(3)?,
                    body: r.get(4)?,
                    wall: WallMs(r.get(5)?),
                })
            })
        };
        if filter.ids.is_empty() {
            return one(None);
        }
        let mut all = Vec::new();
        for id in &filter.ids {
            all.append(&mut one(Some(*id))?);
        }
        Ok(all)
    }
}
