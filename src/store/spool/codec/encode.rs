//! Batches to bytes.

use super::{
    Shape, VERSION, VERSION_THIN,
    bytes::{put, put_signed, put_text},
    column,
    crc::crc32,
};
use crate::model::{DeviceId, Frame, Quality, Row, Sealed, Thin};
use std::{collections::HashMap, sync::Arc};

struct Shaped<'a> {
    frame: &'a Frame,
    shape: Shape,
    rows: Vec<&'a Row>,
}

/// Packs batches of one boot, in order of their numbers, into one body. `shape` knows the dictionary.
pub fn encode(batches: &[Arc<Sealed>], mut shape: impl FnMut(&Frame) -> Shape) -> Vec<u8> {
    let mut shapes: Vec<Shaped> = Vec::new();
    let mut index: HashMap<(&DeviceId, *const (), usize), usize> = HashMap::new();
    let mut listing = Vec::with_capacity(256);
    let thin = batches.iter().flat_map(|b| &b.frames).any(|f| f.thin.is_some());
    let mut seq = batches.first().map_or(0, |b| b.key.seq);
    put(&mut listing, batches.len() as u64);
    put(&mut listing, seq);
    for batch in batches {
        put(&mut listing, batch.key.seq - seq);
        seq = batch.key.seq;
        put(&mut listing, batch.frames.len() as u64);
        for frame in &batch.frames {
            // All frames live as long as this call, so an address names one list of points.
            let at = (&frame.device, Arc::as_ptr(&frame.points).cast::<()>(), frame.points.len());
            let n = *index.entry(at).or_insert_with(|| {
                shapes.push(Shaped { frame, shape: shape(frame), rows: Vec::new() });
                shapes.len() - 1
            });
            shapes[n].rows.extend(&frame.rows);
            put(&mut listing, n as u64);
            put(&mut listing, frame.rows.len() as u64);
            match frame.thin {
                Some(Thin { window_ms, of }) => {
                    put(&mut listing, u64::from(of));
                    put(&mut listing, u64::from(window_ms));
                }
                None if thin => put(&mut listing, 0),
                None => {}
            }
        }
    }
    let base = shapes.first().and_then(|s| s.rows.first()).map_or(0, |r| r.at.ms());
    let mut out = Vec::with_capacity(4096);
    out.push(if thin { VERSION_THIN } else { VERSION });
    put(&mut out, batches.first().map_or(0, |b| u64::from(b.boot.0)));
    put(&mut out, base);
    put(&mut out, shapes.len() as u64);
    shapes.iter().for_each(|s| write_shape(s, &mut out));
    out.append(&mut listing);
    shapes.iter().for_each(|s| write_rows(s, base, &mut out));
    let crc = crc32(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn write_shape(s: &Shaped, out: &mut Vec<u8>) {
    put(out, s.frame.points.len() as u64);
    match &s.shape {
        Shape::Ids(ids) if !ids.is_empty() => {
            out.push(0);
            let (mut n, mut expected) = (0, 0i64);
            while n < ids.len() {
                let first = ids[n];
                let run = ids[n..].iter().zip(first..).take_while(|(id, want)| **id == *want).count();
                put_signed(out, i64::from(first) - expected);
                put(out, run as u64);
                expected = i64::from(first) + run as i64;
                n += run;
            }
        }
        _ => {
            out.push(1);
            put_text(out, s.frame.device.as_str());
            s.frame.points.iter().for_each(|p| put_text(out, p.as_str()));
        }
    }
}

fn write_rows(s: &Shaped, base: u64, out: &mut Vec<u8>) {
    let (mut before, mut step) = (base.cast_signed(), 0i64);
    for row in &s.rows {
        let at = row.at.ms().cast_signed();
        put_signed(out, (at - before) - step);
        step = at - before;
        before = at;
    }
    write_qualities(&s.rows, out);
    let mut tags: Vec<(u8, u64)> = Vec::new();
    let mut columns = Vec::new();
    for point in 0..s.frame.points.len() {
        let tag = column::write(s.rows.iter().map(|r| &r.values[point]), &mut columns);
        match tags.last_mut() {
            Some((same, run)) if *same == tag => *run += 1,
            _ => tags.push((tag, 1)),
        }
    }
    for (tag, run) in tags {
        out.push(tag);
        put(out, run);
    }
    out.append(&mut columns);
}

/// Only of the rows that carry any: their place, then runs of equal codes.
fn write_qualities(rows: &[&Row], out: &mut Vec<u8>) {
    let carrying = || rows.iter().enumerate().filter_map(|(n, r)| r.quality.as_ref().map(|q| (n, q)));
    put(out, carrying().count() as u64);
    let mut before = 0;
    for (n, qualities) in carrying() {
        put(out, (n - before) as u64);
        before = n;
        for run in qualities.chunk_by(|a, b| a == b) {
            out.push(code(run[0]));
            put(out, run.len() as u64);
        }
    }
}

/// Frozen: they are on disks.
fn code(q: Quality) -> u8 {
    match q {
        Quality::Good => 0,
        Quality::Stale => 1,
        Quality::NotAvailable => 2,
        Quality::Pending => 3,
        Quality::Unsupported => 4,
        Quality::Bad => 5,
        Quality::Suspect => 6,
    }
}
