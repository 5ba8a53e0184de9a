//! Questions to the past: slots for a chart, rows for whoever wants to know exactly. Blocking.

use super::{
    Shared,
    disk::{self, Offsets, Tier},
    lock,
    tiers::{self, Summary},
};
use crate::{
    limits,
    model::{DeviceId, Frame, PointId, Quality, Value, WallMs},
    store::{StoreError, db},
};
use rusqlite::Connection;
use std::{collections::BTreeMap, time::Duration};

/// `from..to`, in slots of `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    pub from: WallMs,
    pub to: WallMs,
    pub step: Duration,
}

/// When it begins, and what was in it.
pub type Slot = (WallMs, Summary);
/// Of each point that had numbers, its slots in order of time; empty ones are left out.
pub type Slots = BTreeMap<PointId, Vec<Slot>>;

/// Rows of the past, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub points: BTreeMap<PointId, Vec<(WallMs, Value, Quality)>>,
    /// There are more: ask again from here.
    pub next: Option<WallMs>,
}

struct Wanted<'a> {
    /// Empty: all.
    points: &'a [PointId],
}

impl Wanted<'_> {
    fn wants(&self, point: &PointId) -> bool {
        self.points.is_empty() || self.points.contains(point)
    }
}

pub fn slots(shared: &Shared, device: &DeviceId, points: &[PointId], past: Past) -> Result<Slots, StoreError> {
    let wanted = Wanted { points };
    let step = i64::try_from(past.step.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut found: BTreeMap<(PointId, i64), Summary> = BTreeMap::new();
    let put = |found: &mut BTreeMap<_, _>, point: &PointId, at: i64, s: Summary| {
        if wanted.wants(point) && (past.from.0..past.to.0).contains(&at) {
            tiers::add(found, (point.clone(), past.from.0 + (at - past.from.0) / step * step), s);
        }
    };
    let kept: Vec<Tier> = Tier::ALL.into_iter().filter(|t| shared.config.keeps(t.seconds())).collect();
    let coarsest = kept.iter().rposition(|t| u64::from(t.seconds()) <= past.step.as_secs()).unwrap_or(0);
    let (db, offsets) = open(shared)?;
    let mut to = past.to.0;
    let here = shared.clocks.here().clock.offset_ms;
    // What is not written yet is there as rows.
    for frame in in_ram(shared, device) {
        each_value(&frame, here, |point, at, value| {
            if let Some(one) = Summary::of(value) {
                put(&mut found, point, at, one);
            }
        });
    }
    let mut read = |db: &Connection| -> rusqlite::Result<()> {
        for tier in &kept[coarsest..] {
            // What is finer is not kept so long.
            let begins = disk::oldest(db, device, *tier, &offsets)?.unwrap_or(i64::MAX).max(past.from.0);
            if begins < to {
                disk::read(db, (device, *tier), (begins, to), &offsets, |frames, offset| {
                    if *tier == Tier::Rows {
                        for frame in &frames {
                            each_value(frame, offset, |point, at, value| {
                                if let Some(one) = Summary::of(value).filter(|_| (begins..to).contains(&at)) {
                                    put(&mut found, point, at, one);
                                }
                            });
                        }
                    } else {
                        for four in frames.chunks(4) {
                            for (at, n, s) in tiers::summaries(four) {
                                let at = disk::wall(at, offset);
                                let end = at + i64::from(tier.seconds()) * 1000;
                                // One in which the range begins or ends counts whole; one in which a finer tier begins does not.
                                if end > past.from.0 && (end <= to || to == past.to.0 && at < to) {
                                    put(&mut found, &four[0].points[n], at.max(past.from.0), s);
                                }
                            }
                        }
                    }
                    true
                })?;
                to = begins;
            }
        }
        Ok(())
    };
    if let Some(db) = db {
        read(&db).map_err(|source| StoreError::Read { file: "samples.db", source })?;
    }
    let mut out = Slots::new();
    for ((point, at), summary) in found {
        out.entry(point).or_default().push((WallMs(at), summary));
    }
    Ok(out)
}

pub fn rows(shared: &Shared, device: &DeviceId, points: &[PointId], past: Past) -> Result<Rows, StoreError> {
    let wanted = Wanted { points };
    let (db, offsets) = open(shared)?;
    let mut out = Rows::default();
    let mut count = 0;
    let mut take = |frames: &[Frame], offset: i64| {
        for frame in frames {
            for row in &frame.rows {
                let at = disk::wall(row.at, offset);
                if !(past.from.0..past.to.0).contains(&at) || out.next.is_some() {
                    continue;
                }
                if count >= limits::SAMPLES_ROWS {
                    out.next = Some(WallMs(at));
                    continue;
                }
                for (n, point) in frame.points.iter().enumerate().filter(|(_, p)| wanted.wants(p)) {
                    let quality = row.quality.as_ref().and_then(|q| q.get(n)).copied().unwrap_or(Quality::Good);
                    out.points.entry(point.clone()).or_default().push((WallMs(at), row.values[n].clone(), quality));
                    count += 1;
                }
            }
        }
        out.next.is_none()
    };
    let ram = in_ram(shared, device);
    if let Some(db) = db {
        disk::read(&db, (device, Tier::Rows), (past.from.0, past.to.0), &offsets, |frames, offset| take(&frames, offset))
            .map_err(|source| StoreError::Read { file: "samples.db", source })?;
    }
    take(&ram, shared.clocks.here().clock.offset_ms);
    Ok(out)
}

/// `None`: there is no file, after one that was damaged. A connection for each question: they are rare, and its memory is not.
fn open(shared: &Shared) -> Result<(Option<Connection>, Offsets), StoreError> {
    let db = if shared.path.exists() { Some(db::reader(&shared.path)?) } else { None };
    Ok((db, shared.clocks.by_uuid()))
}

fn in_ram(shared: &Shared, device: &DeviceId) -> Vec<Frame> {
    let inner = lock(&shared.inner);
    inner.ram.devices.get(device).cloned().unwrap_or_default()
}

fn each_value(frame: &Frame, offset: i64, mut each: impl FnMut(&PointId, i64, &Value)) {
    for row in &frame.rows {
        let at = disk::wall(row.at, offset);
        frame.points.iter().zip(&row.values).for_each(|(point, value)| each(point, at, value));
    }
}
