//! What a spool.db holds at the start: the rows, without reading a single body.

use super::{
    Disk, Found, Gone, Sizes,
    notes::{Mark, Thinned},
};
use crate::{
    model::{Boot, BootIndex, ClockReading, DeviceId, Epoch, PointId},
    store::{
        Holder,
        boots::BootRow,
        spool::{
            core::{
                Run,
                cursor::{self, Cursor, Partial},
            },
            ring::{Alive, Ring, Segment},
            series::Series,
        },
    },
};
use rusqlite::{Connection, Row};
use std::{collections::BTreeMap, path::Path};

pub(super) fn load(
    db: Connection,
    path: &Path,
    sizes: Sizes,
    new_file: i64,
    gone: Option<&Gone>,
    holders: &[Holder],
) -> rusqlite::Result<Found> {
    db.execute("INSERT OR IGNORE INTO meta (id, file, head, epoch, telemetry, alive) VALUES (1, ?1, 0, 0, 0, x'0000')", [new_file])?;
    let meta = load_meta(&db)?;
    let gone = gone.filter(|(of, _)| *of == meta.file).map(|(_, n)| n.as_slice()).unwrap_or_default();
    let boots = boots(&db)?;
    let series = series(&db, sizes.series)?;
    let mut found = Found::empty(Disk::of(db, path, series, sizes, meta.file), boots, holders, gone);
    found.read_segments(&meta.kept(holders))?;
    found.ring.head = found.ring.head.max(meta.head);
    found.shrink()?;
    found.disk.stock();
    if let Some(run) = found.runs.iter_mut().find(|r| r.epoch == meta.epoch) {
        run.highest = run.highest.max(meta.telemetry);
    } else if meta.telemetry > 0 {
        found.runs.push(Run { epoch: meta.epoch, boot: BootIndex(0), highest: meta.telemetry });
    }
    Ok(found)
}

/// By name, what each uplink did not have.
pub(super) type Kept = Vec<(String, Alive)>;

/// The row of the table `meta`.
pub(super) struct MetaRow {
    pub file: i64,
    pub head: u64,
    pub epoch: Epoch,
    pub telemetry: u64,
    alive: Vec<u8>,
    cursors: Vec<u8>,
}

impl MetaRow {
    pub(super) fn kept(&self, holders: &[Holder]) -> Kept {
        if self.cursors.is_empty() {
            // Of a version with one uplink, whose name it did not write: the first one's.
            return vec![(holders.first().map_or(String::new(), |h| h.id.to_string()), Alive::read(&self.alive).unwrap_or_default())];
        }
        // What cannot be read only repeats.
        cursor::read(&self.cursors).unwrap_or_else(|_| everything())
    }
}

pub(super) fn everything() -> Kept {
    vec![(String::new(), Alive::default())]
}

pub(super) fn load_meta(db: &Connection) -> rusqlite::Result<MetaRow> {
    db.query_row("SELECT file, head, epoch, telemetry, alive, cursors FROM meta", [], |r| {
        let (head, epoch, telemetry): (i64, i64, i64) = (r.get(1)?, r.get(2)?, r.get(3)?);
        let (epoch, telemetry) = (Epoch(epoch.cast_unsigned()), telemetry.cast_unsigned());
        let head = head.cast_unsigned().min(1 << 62);
        Ok(MetaRow { file: r.get(0)?, head, epoch, telemetry, alive: r.get(4)?, cursors: r.get(5)? })
    })
}

/// A row of the table `segment`, without its body.
pub(super) struct SegmentRow {
    pub slot: u32,
    pub n: u64,
    pub epoch: Epoch,
    pub boot: BootIndex,
    pub at: Boot,
    pub first: u64,
    pub last: u64,
    pub batches: u32,
    pub samples: u32,
    pub bytes: u32,
}

pub(super) const SEGMENT_ROW: &str = "SELECT slot, n, epoch, boot, at, first_seq, last_seq, batches, samples, bytes FROM segment";

impl SegmentRow {
    /// Of a damaged file a row may hold anything; counting over such numbers would never end.
    const fn is_plausible(&self) -> bool {
        const MOST: u64 = 1 << 62;
        let span = self.last.saturating_sub(self.first);
        self.slot < 1 << 28
            && self.n < MOST
            && self.last < MOST
            && self.first <= self.last
            && span < 1 << 20
            && self.batches as u64 <= span + 1
    }
}

pub(super) fn segment_row(r: &Row) -> rusqlite::Result<SegmentRow> {
    let number = |column: usize| r.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(SegmentRow {
        slot: r.get(0)?,
        n: number(1)?,
        epoch: Epoch(number(2)?),
        boot: BootIndex(r.get(3)?),
        at: Boot(number(4)?),
        first: number(5)?,
        last: number(6)?,
        batches: r.get(7)?,
        samples: r.get(8)?,
        bytes: r.get(9)?,
    })
}

impl Found {
    /// `gone`: announced as gone, in this file.
    pub(super) fn empty(disk: Disk, boots: Vec<BootRow>, holders: &[Holder], gone: &[u64]) -> Found {
        let cursors = holders.iter().enumerate().map(|(n, h)| Cursor::new(h.clone(), n)).collect();
        // A number that was announced as gone is nobody else's, also where its row and what came after it went before a kill.
        let mut ring = Ring::default();
        ring.head = gone.iter().max().map_or(0, |n| n + 1);
        Found { disk, ring, cursors, runs: Vec::new(), boots, void: Vec::new(), gone: gone.to_vec() }
    }

    /// The file outgrew a limit that was lowered since. It can only shrink cheaply while nothing waits in it.
    fn shrink(&mut self) -> rusqlite::Result<()> {
        if self.ring.left == 0 && self.void.is_empty() && self.disk.file_bytes()? > self.disk.sizes.file_max {
            self.disk.db.execute_batch("DELETE FROM segment; DELETE FROM thinned WHERE replaces IS NULL; VACUUM")?;
            let head = self.ring.head;
            self.ring = Ring::default();
            self.ring.head = head;
        }
        Ok(())
    }

    /// `kept`: by name, what each uplink did not have.
    fn read_segments(&mut self, kept: &[(String, Alive)]) -> rusqlite::Result<()> {
        let thinned = Thinned::read(&self.disk.db, &self.gone)?;
        {
            let mut all = self.disk.db.prepare(&format!("{SEGMENT_ROW} ORDER BY n"))?;
            let mut rows = all.query([])?;
            while let Some(r) = rows.next()? {
                take_row(&segment_row(r)?, kept, &self.gone, &thinned, &mut self.runs, &mut self.ring, &mut self.cursors);
            }
        }
        self.settle(thinned);
        // Notes of segments that are overwritten by now.
        self.disk.db.execute("DELETE FROM thinned WHERE replaces IS NULL AND n NOT IN (SELECT n FROM segment)", [])?;
        Ok(())
    }

    /// What the notes ask for, when the rows are read.
    pub(super) fn settle(&mut self, thinned: Thinned) {
        self.disk.mark = match (&thinned.void, thinned.stands) {
            (Some(_), _) => Mark::Void,
            (None, true) => Mark::Stands,
            (None, false) => Mark::None,
        };
        self.void.extend(thinned.void.map(|(_, gap)| gap));
    }
}

/// Into the ring, or among the free slots.
pub(super) fn take_row(
    row: &SegmentRow,
    kept: &[(String, Alive)],
    gone: &[u64],
    thinned: &Thinned,
    runs: &mut Vec<Run>,
    ring: &mut Ring,
    cursors: &mut [Cursor],
) {
    let SegmentRow { slot, n, epoch, boot, at, first, last, batches, samples, bytes } = *row;
    if !row.is_plausible() {
        tracing::error!(slot, n, first, last, batches, "a row of spool.db is garbage; it is left out");
        return;
    }
    let run = run_of(runs, epoch, boot);
    runs[run].highest = runs[run].highest.max(last);
    let (epoch, span) = (u32::try_from(run).unwrap_or(0), u32::try_from(last - first).unwrap_or(u32::MAX));
    let level = thinned.levels.get(&n).copied().unwrap_or(0);
    let mut segment = Segment { at, first, slot, epoch, span, left: batches, samples, bytes, boot, level, done: 0 };
    let share = |of: u32| u64::from(samples) * u64::from(of) / u64::from(batches.max(1));
    let is_void = thinned.void.as_ref().is_some_and(|(void, _)| *void == n);
    let is_kept = kept.iter().any(|(_, alive)| alive.contains(n)) && !gone.contains(&n) && !is_void;
    let mut parts: Vec<Option<Partial>> = Vec::new();
    for c in &*cursors {
        let own = kept.iter().find(|(name, _)| *name == c.holder.id.as_str()).map(|(_, alive)| alive);
        let seqs = own.and_then(|alive| alive.delivered.get(&n).cloned()).unwrap_or_default();
        let has = u32::try_from(seqs.len()).unwrap_or(u32::MAX);
        if !is_kept || own.is_some_and(|alive| !alive.contains(n)) || has >= batches {
            segment.done |= c.bit;
        }
        parts.push(Some(Partial { seqs, samples: share(has) }));
    }
    if cursors.iter().all(|c| !c.wants(&segment)) {
        ring.free(slot, bytes.max(1));
        return;
    }
    // With one uplink the ring itself knows what is delivered of a segment.
    let delivered = if cursors.len() == 1 { parts.pop().flatten().unwrap_or_default().seqs } else { Default::default() };
    segment.left = segment.left.saturating_sub(u32::try_from(delivered.len()).unwrap_or(u32::MAX));
    segment.samples = u32::try_from(share(segment.left)).unwrap_or(samples);
    parts.resize(cursors.len(), None);
    cursors.iter_mut().zip(parts).filter(|(c, _)| c.wants(&segment)).for_each(|(c, part)| c.restore(n, &segment, part));
    ring.insert(n, segment, delivered);
}

pub(super) fn run_of(runs: &mut Vec<Run>, epoch: Epoch, boot: BootIndex) -> usize {
    if let Some(n) = runs.iter().rposition(|r| r.epoch == epoch) {
        return n;
    }
    runs.push(Run { epoch, boot, highest: 0 });
    runs.len() - 1
}

fn boots(db: &Connection) -> rusqlite::Result<Vec<BootRow>> {
    let mut all = db.prepare("SELECT id, uuid, offset_ms, quality FROM boot ORDER BY id")?;
    let rows = all.query_map([], |r| {
        // The whole truth is in state.db; this is for a spool whose state was lost.
        let of = if r.get::<_, i64>(3)? == 1 { ClockReading::synchronised } else { ClockReading::estimated };
        Ok(BootRow { id: BootIndex(r.get(0)?), uuid: r.get(1)?, clock: of(r.get(2)?), seen: Boot(0) })
    })?;
    rows.collect()
}

fn series(db: &Connection, max: usize) -> rusqlite::Result<Series> {
    let mut all = db.prepare("SELECT id, device, point FROM series ORDER BY id")?;
    let rows = all.query_map([], |r| {
        let (device, point): (String, String) = (r.get(1)?, r.get(2)?);
        Ok((r.get::<_, u32>(0)?, DeviceId::parse(&device).ok().zip(PointId::parse(&point).ok())))
    })?;
    let mut known: BTreeMap<u32, _> = BTreeMap::new();
    for row in rows {
        let (id, name) = row?;
        known.insert(id, name);
    }
    let next = known.last_key_value().map_or(0, |(id, _)| id + 1);
    Ok(Series::new((0..next).map(|id| known.remove(&id).flatten()).collect(), max))
}
