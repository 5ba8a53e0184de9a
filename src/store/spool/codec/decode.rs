//! Bytes to the same batches.

use super::{Corrupt, Names, SAMPLES_MAX, VERSION, VERSION_THIN, bytes::Bytes, column, crc::crc32};
use crate::model::{Boot, BootIndex, DeviceId, Epoch, Frame, Key, PointId, Quality, Row, Sealed, Stream, Thin};
use std::sync::Arc;

/// What a segment holds, without its values: number and samples of each batch.
pub type Contents = Vec<(u64, u64)>;

struct Shape {
    device: DeviceId,
    points: Arc<[PointId]>,
    rows: usize,
}

struct Listed {
    seq: u64,
    /// Shape and rows.
    frames: Vec<(usize, usize, Option<Thin>)>,
}

struct Head<'a> {
    boot: BootIndex,
    base: u64,
    shapes: Vec<Shape>,
    batches: Vec<Listed>,
    rest: Bytes<'a>,
}

/// The batches of a body, equal to what was encoded.
pub fn decode(body: &[u8], epoch: Epoch, names: &impl Names) -> Result<Vec<Sealed>, Corrupt> {
    let Head { boot, base, shapes, batches, mut rest } = head(body, Some(names))?;
    let mut rows = Vec::with_capacity(shapes.len());
    for shape in &shapes {
        rows.push(read_rows(shape, base, &mut rest)?.into_iter());
    }
    if !rest.0.is_empty() {
        return Err(Corrupt("it goes on behind its end"));
    }
    let sealed = |b: Listed| {
        let frames = b.frames.into_iter().map(|(shape, count, thin)| Frame {
            device: shapes[shape].device.clone(),
            points: Arc::clone(&shapes[shape].points),
            rows: rows[shape].by_ref().take(count).collect(),
            thin,
        });
        Sealed { key: Key { epoch, stream: Stream::Telemetry, seq: b.seq }, boot, frames: frames.collect() }
    };
    Ok(batches.into_iter().map(sealed).collect())
}

/// Which batches a body holds, and how many samples each stands for. Needs no dictionary.
pub fn directory(body: &[u8]) -> Result<Contents, Corrupt> {
    let head = head::<NoNames>(body, None)?;
    let of = |(shape, rows, thin): &(usize, usize, Option<Thin>)| {
        thin.map_or((head.shapes[*shape].points.len() * rows) as u64, |thin| u64::from(thin.of))
    };
    let samples = |b: &Listed| b.frames.iter().map(of).sum();
    Ok(head.batches.iter().map(|b| (b.seq, samples(b))).collect())
}

struct NoNames;

impl Names for NoNames {
    fn series(&self, _: u32) -> Option<(DeviceId, PointId)> {
        None
    }
}

fn head<'a, N: Names>(body: &'a [u8], names: Option<&N>) -> Result<Head<'a>, Corrupt> {
    let (content, crc) = body.split_last_chunk::<4>().ok_or(Corrupt("it ends early"))?;
    if crc32(content) != u32::from_le_bytes(*crc) {
        return Err(Corrupt("its checksum is wrong"));
    }
    let mut from = Bytes(content);
    let thin = match from.byte()? {
        VERSION => false,
        VERSION_THIN => true,
        _ => return Err(Corrupt("it was written by another version")),
    };
    let boot = BootIndex(u32::try_from(from.get()?).map_err(|_| Corrupt("its boot is no boot"))?);
    let base = from.get()?;
    let mut shapes = Vec::new();
    for _ in 0..from.count()? {
        shapes.push(read_shape(&mut from, names)?);
    }
    let batches = read_listing(&mut from, &mut shapes, thin)?;
    Ok(Head { boot, base, shapes, batches, rest: from })
}

fn read_listing(from: &mut Bytes<'_>, shapes: &mut [Shape], thin: bool) -> Result<Vec<Listed>, Corrupt> {
    let mut batches = Vec::new();
    let count = from.count()?;
    let mut seq = from.get()?;
    let (mut samples, mut rows_all) = (0u64, 0usize);
    for _ in 0..count {
        seq = seq.checked_add(from.get()?).ok_or(Corrupt("a number is too large"))?;
        let mut frames = Vec::new();
        for _ in 0..from.count()? {
            let (shape, rows) = (from.get()?, from.count()?);
            let shape = usize::try_from(shape).map_err(|_| Corrupt("a shape is missing"))?;
            let of = shapes.get_mut(shape).ok_or(Corrupt("a shape is missing"))?;
            of.rows += rows;
            rows_all += rows;
            samples += (of.points.len() * rows) as u64;
            if samples > SAMPLES_MAX || rows_all > from.0.len() {
                return Err(Corrupt("it claims too many rows"));
            }
            frames.push((shape, rows, if thin { read_thin(from)? } else { None }));
        }
        batches.push(Listed { seq, frames });
    }
    Ok(batches)
}

fn read_thin(from: &mut Bytes<'_>) -> Result<Option<Thin>, Corrupt> {
    let narrow = |v: u64| u32::try_from(v).map_err(|_| Corrupt("a count is too large"));
    let of = narrow(from.get()?)?;
    if of == 0 { Ok(None) } else { Ok(Some(Thin { window_ms: narrow(from.get()?)?, of })) }
}

fn read_shape<N: Names>(from: &mut Bytes<'_>, names: Option<&N>) -> Result<Shape, Corrupt> {
    // Not `count`: a run names many points by few bytes.
    let count = usize::try_from(from.get()?).ok().filter(|n| *n as u64 <= SAMPLES_MAX).ok_or(Corrupt("it claims too many points"))?;
    if from.byte()? == 1 {
        let device = DeviceId::parse(from.text()?).map_err(|_| Corrupt("a device id is none"))?;
        let points = (0..count).map(|_| PointId::parse(from.text()?).map_err(|_| Corrupt("a point id is none")));
        return Ok(Shape { device, points: points.collect::<Result<Vec<_>, _>>()?.into(), rows: 0 });
    }
    let mut device = None;
    let mut points = Vec::new();
    let mut next = 0i64;
    let mut left = count;
    while left > 0 {
        let first = next.checked_add(from.get_signed()?).ok_or(Corrupt("a series is none"))?;
        let run = usize::try_from(from.get()?).ok().filter(|r| (1..=left).contains(r)).ok_or(Corrupt("a run is too long"))?;
        left -= run;
        next = first.checked_add(run as i64).ok_or(Corrupt("a series is none"))?;
        let Some(names) = names else {
            continue;
        };
        for id in first..next {
            let known = u32::try_from(id).ok().and_then(|id| names.series(id));
            let (of, point) = known.ok_or(Corrupt("a series is not in the dictionary"))?;
            device.get_or_insert(of);
            points.push(point);
        }
    }
    match (device, names) {
        (Some(device), _) => Ok(Shape { device, points: points.into(), rows: 0 }),
        // Without the dictionary only the count matters.
        (None, None) => {
            let nobody = DeviceId::parse("x").map_err(|_| Corrupt("a device id is none"))?;
            let nothing = PointId::parse("x").map_err(|_| Corrupt("a point id is none"))?;
            Ok(Shape { device: nobody, points: vec![nothing; count].into(), rows: 0 })
        }
        (None, Some(_)) => Err(Corrupt("a shape has no device")),
    }
}

fn read_rows(shape: &Shape, base: u64, from: &mut Bytes<'_>) -> Result<Vec<Row>, Corrupt> {
    let mut rows = Vec::with_capacity(shape.rows);
    let (mut at, mut step) = (base.cast_signed(), 0i64);
    for _ in 0..shape.rows {
        step = step.wrapping_add(from.get_signed()?);
        at = at.wrapping_add(step);
        let ms = u64::try_from(at).ok().filter(|ms| *ms < u64::MAX / 1000).ok_or(Corrupt("a time is none"))?;
        rows.push(Row { at: Boot::from_ms(ms), values: Vec::with_capacity(shape.points.len()), quality: None });
    }
    read_qualities(&mut rows, shape.points.len(), from)?;
    let mut left = shape.points.len() as u64;
    let mut tags = Vec::new();
    while left > 0 {
        let (tag, run) = (from.byte()?, from.get()?);
        left = left.checked_sub(run).filter(|_| run > 0).ok_or(Corrupt("too many columns"))?;
        tags.push((tag, run));
    }
    for (tag, run) in tags {
        for _ in 0..run {
            let mut n = 0;
            column::read(tag, rows.len(), from, |v| {
                rows[n].values.push(v);
                n += 1;
            })?;
        }
    }
    Ok(rows)
}

fn read_qualities(rows: &mut [Row], points: usize, from: &mut Bytes<'_>) -> Result<(), Corrupt> {
    let mut n = 0usize;
    for _ in 0..from.count()? {
        n = n.saturating_add(usize::try_from(from.get()?).unwrap_or(usize::MAX));
        let row = rows.get_mut(n).ok_or(Corrupt("a quality has no row"))?;
        let mut qualities = Vec::with_capacity(points);
        while qualities.len() < points {
            let quality = quality(from.byte()?)?;
            let run = usize::try_from(from.get()?).ok().filter(|r| (1..=points - qualities.len()).contains(r));
            let run = run.ok_or(Corrupt("a run is too long"))?;
            qualities.extend(std::iter::repeat_n(quality, run));
        }
        row.quality = Some(qualities);
    }
    Ok(())
}

fn quality(code: u8) -> Result<Quality, Corrupt> {
    use Quality::{Bad, Good, NotAvailable, Pending, Stale, Suspect, Unsupported};
    [Good, Stale, NotAvailable, Pending, Unsupported, Bad, Suspect].get(code as usize).copied().ok_or(Corrupt("an unknown quality"))
}
