//! The SQL of samples.db.

use super::{Names, tiers};
use crate::{
    config::History,
    model::{Boot, BootIndex, ClockReading, DeviceId, Epoch, Frame, Key, Sealed, Stream},
    store::{
        StoreError, db,
        spool::codec::{self, Corrupt, Shape},
    },
};
use rusqlite::{Connection, params};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

pub const SCHEMA: &[&str] = &[include_str!("../migrations/samples_001.sql")];
/// Its log is short: nothing waits for it.
const LOG: u64 = 256 * 1024;
/// Chunks that go in one statement.
const AT_ONCE: u32 = 200;

/// Rows as they were read, or summaries of slots so wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Rows,
    Minutes,
    Quarters,
}

impl Tier {
    pub const ALL: [Tier; 3] = [Tier::Rows, Tier::Minutes, Tier::Quarters];

    /// The width of its slots in seconds; its number in the file.
    pub const fn seconds(self) -> u32 {
        match self {
            Tier::Rows => 0,
            Tier::Minutes => 60,
            Tier::Quarters => 900,
        }
    }
}

/// What is to be written of one device.
#[derive(Debug)]
pub struct Chunk {
    pub tier: Tier,
    pub keep: Duration,
    pub frames: Vec<Frame>,
}

pub struct Disk {
    db: Connection,
    /// Of this boot, in this file.
    boot: i64,
    max: u64,
}

/// How the clocks of all boots map to wall time, by their ids.
pub type Offsets = Vec<(String, ClockReading)>;

impl Disk {
    pub fn open(path: &Path, boot: &str, max: u64) -> Result<Disk, StoreError> {
        let db = db::open(path, SCHEMA, LOG)?;
        let fail = |source| StoreError::Open { path: path.to_owned(), source };
        // A power cut may take the last commits, but never the file.
        db.execute_batch("PRAGMA synchronous = NORMAL").map_err(fail)?;
        let find = |db: &Connection| -> rusqlite::Result<i64> {
            db.execute("INSERT INTO boot (uuid, offset_ms) VALUES (?1, 0) ON CONFLICT DO NOTHING", [boot])?;
            db.query_row("SELECT id FROM boot WHERE uuid = ?1", [boot], |r| r.get(0))
        };
        let boot = find(&db).map_err(fail)?;
        Ok(Disk { db, boot, max })
    }

    /// All of one commit.
    pub fn write(&mut self, device_chunks: BTreeMap<DeviceId, Vec<Chunk>>, offsets: &Offsets) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        {
            let mut known = tx.prepare_cached("UPDATE boot SET offset_ms = ?2 WHERE uuid = ?1 AND offset_ms <> ?2")?;
            for (uuid, clock) in offsets {
                known.execute(params![uuid, clock.offset_ms])?;
            }
            let mut insert =
                tx.prepare_cached("INSERT INTO chunk (device, tier, boot, first, last, keep_s, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            for (device, chunks) in device_chunks {
                for Chunk { tier, keep, frames } in chunks {
                    let sealed = Sealed { key: key(), boot: BootIndex(0), frames };
                    let Some((first, last)) = sealed.span() else { continue };
                    let body = codec::encode(&[Arc::new(sealed)], |_| Shape::Names);
                    let (first, last) = (first.ms().cast_signed(), last.ms().cast_signed());
                    insert.execute(params![device.as_str(), tier.seconds(), self.boot, first, last, keep.as_secs().cast_signed(), body])?;
                }
            }
        }
        tx.commit()
    }

    /// Takes out what is older than wanted (`now`: nothing goes by age while nobody knows the time), and the oldest rows, then the
    /// oldest minutes, then quarters while the file is too large. How many chunks went.
    pub fn prune(&mut self, now_ms: Option<i64>) -> rusqlite::Result<usize> {
        let mut gone = 0;
        if let Some(now) = now_ms {
            let old = "DELETE FROM chunk WHERE id IN (SELECT c.id FROM chunk c JOIN boot b ON b.id = c.boot
                       WHERE c.last + b.offset_ms < ?1 - c.keep_s * 1000 LIMIT ?2)";
            gone += self.db.execute(old, params![now, AT_ONCE * 50])?;
        }
        for tier in Tier::ALL {
            while self.bytes()? > self.max / 10 * 9 {
                let oldest = "DELETE FROM chunk WHERE id IN (SELECT id FROM chunk WHERE tier = ?1 ORDER BY id LIMIT ?2)";
                let went = self.db.execute(oldest, params![tier.seconds(), AT_ONCE / 8])?;
                gone += went;
                if went == 0 {
                    break;
                }
            }
        }
        self.db.execute("DELETE FROM boot WHERE id <> ?1 AND id NOT IN (SELECT DISTINCT boot FROM chunk)", [self.boot])?;
        Ok(gone)
    }

    /// In use, without free pages.
    pub fn bytes(&self) -> rusqlite::Result<u64> {
        bytes(&self.db)
    }

    pub fn end(self) {
        // What stays in the log is read at the next start.
        let _ = db::restart_log(&self.db);
    }
}

pub fn bytes(db: &Connection) -> rusqlite::Result<u64> {
    let one = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned);
    Ok((one("page_count")? - one("freelist_count")?) * one("page_size")?)
}

fn key() -> Key {
    Key { epoch: Epoch(0), stream: Stream::Telemetry, seq: 1 }
}

/// Of one device and tier, what may lie between two moments of wall time, oldest first. `each` says whether to go on.
pub fn read(
    db: &Connection,
    (device, tier): (&DeviceId, Tier),
    (from, to): (i64, i64),
    offsets: &Offsets,
    mut each: impl FnMut(Vec<Frame>, i64) -> bool,
) -> rusqlite::Result<()> {
    for (boot, offset) in boots(db, offsets)? {
        // A slot begins before what is in it.
        let early = i64::from(tier.seconds()) * 1000;
        let mut chunks = db.prepare_cached(
            "SELECT body FROM chunk WHERE device = ?1 AND tier = ?2 AND boot = ?3 AND first < ?5 AND last >= ?4 ORDER BY first, id",
        )?;
        let mut rows = chunks.query(params![device.as_str(), tier.seconds(), boot, from - offset - early, to - offset])?;
        while let Some(row) = rows.next()? {
            let body = row
                .get_ref(0)?
                .as_blob()
                .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, e.into()))?;
            match codec::decode(body, Epoch(0), &Names) {
                Ok(sealed) => {
                    if !each(sealed.into_iter().flat_map(|s| s.frames).collect(), offset) {
                        return Ok(());
                    }
                }
                Err(Corrupt(why)) => tracing::warn!(%device, why, "a part of the local history cannot be read"),
            }
        }
    }
    Ok(())
}

/// When the oldest of the tier that is there began, in wall time.
pub fn oldest(db: &Connection, device: &DeviceId, tier: Tier, offsets: &Offsets) -> rusqlite::Result<Option<i64>> {
    let mut first = db.prepare_cached("SELECT min(first) FROM chunk WHERE device = ?1 AND tier = ?2 AND boot = ?3")?;
    let mut oldest = None;
    for (boot, offset) in boots(db, offsets)? {
        let at: Option<i64> = first.query_row(params![device.as_str(), tier.seconds(), boot], |r| r.get(0))?;
        oldest = oldest.into_iter().chain(at.map(|at| at + offset)).min();
    }
    Ok(oldest)
}

/// In order of time. What is known of a clock now counts more than what was when it was written.
fn boots(db: &Connection, offsets: &Offsets) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut all = db.prepare_cached("SELECT id, uuid, offset_ms FROM boot ORDER BY id")?;
    let rows = all.query_map([], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?)))?;
    rows.map(|row| {
        let (id, uuid, offset) = row?;
        Ok((id, offsets.iter().find(|(known, _)| *known == uuid).map_or(offset, |(_, clock)| clock.offset_ms)))
    })
    .collect()
}

/// A device's frames as they go into the file: rows by how long they are wanted, and the summaries.
pub fn chunks(device: &DeviceId, frames: Vec<Frame>, config: &History) -> Vec<Chunk> {
    let mut out: Vec<Chunk> = Vec::new();
    let mut put = |tier, keep: Duration, more: Vec<Frame>| {
        if keep.is_zero() || more.is_empty() {
            return;
        }
        match out.iter_mut().find(|c| c.tier == tier && c.keep == keep) {
            Some(chunk) => chunk.frames.extend(more),
            None => out.push(Chunk { tier, keep, frames: more }),
        }
    };
    for frame in frames {
        for (keep, part) in apart(device, frame, config) {
            if keep.is_zero() {
                continue;
            }
            for (tier, keep) in [(Tier::Minutes, config.minutes), (Tier::Quarters, config.quarters)] {
                let wanted = !keep.is_zero();
                let four = wanted.then(|| tiers::summarised(&part, u64::from(tier.seconds()) * 1000)).flatten();
                put(tier, keep, four.map_or_else(Vec::new, Vec::from));
            }
            put(Tier::Rows, keep, vec![part]);
        }
    }
    out
}

/// The columns of a frame by how long they are wanted.
fn apart(device: &DeviceId, frame: Frame, config: &History) -> Vec<(Duration, Frame)> {
    if let Some(keep) = config.keep_of_all(device) {
        return vec![(keep, frame)];
    }
    let mut columns: BTreeMap<Duration, Vec<usize>> = BTreeMap::new();
    for (n, point) in frame.points.iter().enumerate() {
        columns.entry(config.keep_of(device, point)).or_default().push(n);
    }
    let part = |columns: &[usize]| Frame {
        device: frame.device.clone(),
        points: columns.iter().map(|n| frame.points[*n].clone()).collect(),
        rows: frame.rows.iter().map(|row| row_of(row, columns)).collect(),
        thin: None,
    };
    columns.iter().map(|(keep, columns)| (*keep, part(columns))).collect()
}

fn row_of(row: &crate::model::Row, columns: &[usize]) -> crate::model::Row {
    crate::model::Row {
        at: row.at,
        values: columns.iter().map(|n| row.values[*n].clone()).collect(),
        quality: row.quality.as_ref().map(|q| columns.iter().map(|n| q[*n]).collect()),
    }
}

/// For whoever looks at RAM as if it had been read back.
pub fn wall(at: Boot, offset_ms: i64) -> i64 {
    at.ms().cast_signed().saturating_add(offset_ms)
}
