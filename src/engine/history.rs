//! The past of a device as surfaces ask for it: its transitions, and how long it was there. Reads from the disk: for a thread
//! that may wait.

use crate::{
    logic::{
        timeline::timeline,
        uptime::{Turn, uptime},
    },
    model::{Boot, Cause, DeviceId, State, WallMs},
    store::{HistoryRow, Store, StoreError},
};

pub use crate::logic::{
    timeline::Slot,
    uptime::{Outage, Uptime},
};

/// One transition, with the moment as it is known today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    pub at: WallMs,
    pub state: State,
    pub cause: Option<Cause>,
    pub missed: u32,
}

/// Its transitions in `from..to`, oldest first. Before them the one that held at `from`, if it is kept.
pub fn transitions(store: &Store, device: &DeviceId, from: WallMs, to: WallMs) -> Result<Vec<Transition>, StoreError> {
    let offsets = store.offsets();
    let wall = |row: &HistoryRow| offsets.get(&row.boot).map_or(row.wall, |clock| clock.wall(row.at));
    let rows = store.history_since(device, from)?;
    let all = rows.iter().rev().map(|row| Transition { at: wall(row), state: row.state, cause: row.cause, missed: row.missed });
    Ok(all.filter(|t| t.at < to).collect())
}

/// How long it was there in `from..to`, of the time in which this gateway could see it.
pub fn uptime_of(store: &Store, device: &DeviceId, from: WallMs, to: WallMs, now: Boot) -> Result<Uptime, StoreError> {
    let looked = looked(store, now)?;
    uptime_in(store, device, &looked, from, to)
}

/// The same, and `slots` equal parts of the range with the worst of each, for a bar.
pub fn past_of(
    store: &Store,
    device: &DeviceId,
    (from, to): (WallMs, WallMs),
    slots: u32,
    now: Boot,
) -> Result<(Uptime, Vec<Slot>), StoreError> {
    let looked = looked(store, now)?;
    let turns = turns(store, device, from, to)?;
    Ok((uptime(&turns, &looked, from, to), timeline(&turns, &looked, from, to, slots)))
}

/// The same for many devices: when somebody looked is read once.
pub fn uptimes(store: &Store, devices: &[DeviceId], from: WallMs, to: WallMs, now: Boot) -> Result<Vec<Uptime>, StoreError> {
    let looked = looked(store, now)?;
    devices.iter().map(|device| uptime_in(store, device, &looked, from, to)).collect()
}

fn uptime_in(store: &Store, device: &DeviceId, looked: &[(WallMs, WallMs)], from: WallMs, to: WallMs) -> Result<Uptime, StoreError> {
    Ok(uptime(&turns(store, device, from, to)?, looked, from, to))
}

fn turns(store: &Store, device: &DeviceId, from: WallMs, to: WallMs) -> Result<Vec<Turn>, StoreError> {
    let all = transitions(store, device, from, to)?;
    Ok(all.iter().map(|t| Turn { at: t.at, state: t.state, cause: t.cause }).collect())
}

/// When a process was there to see anything. This one still is.
fn looked(store: &Store, now: Boot) -> Result<Vec<(WallMs, WallMs)>, StoreError> {
    let offsets = store.offsets();
    let runs = store.runs()?;
    let last = runs.len().saturating_sub(1);
    let spans = runs.iter().enumerate().filter_map(|(n, run)| {
        let clock = offsets.get(&run.boot)?;
        Some((clock.wall(run.began), clock.wall(if n == last { run.seen.max(now) } else { run.seen })))
    });
    Ok(spans.collect())
}
