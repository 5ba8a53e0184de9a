//! Merges a device's points into the fewest reads that the device permits.
//!
//! Invariants: every point is in exactly one request; a request spans at most `max_words` registers or `max_bits` bits (only
//! a single value that is wider than that is asked for anyway, since half a value is none); it spans no run of unasked
//! registers longer than `max_gap`; it never spans a register of a `read_alone` point of which it is not the own request.
//!
//! Limits count the span, not the points: ten points far apart make a large read.

use super::{decode::Codec, pdu::Ask};
use crate::{
    config::device::{Device, Point, Table},
    model::PointId,
};
use std::{ops::Range, sync::Arc};

/// Most that the protocol lets one read ask for, whatever the device says it can do.
const WORDS_MAX: u16 = 125;
const BITS_MAX: u16 = 2000;

/// One read, and where its points lie in the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub table: Table,
    pub start: u16,
    /// Registers or bits.
    pub count: u16,
    /// As long as `fields` and in their order; shared by every reading of this request.
    pub points: Arc<[PointId]>,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    /// Index in `device.points`.
    pub point: usize,
    /// Registers or bits from `start`.
    pub offset: u16,
    /// How the point's bytes become a value, worked out once.
    pub(super) codec: Codec,
}

impl Request {
    pub fn ask(&self) -> Ask {
        Ask::Read { table: self.table, start: self.start, count: self.count }
    }

    /// The same points in two requests, for a block that the unit refused. `None`: one point is left.
    pub fn halves(&self, device: &Device) -> Option<(Request, Request)> {
        let (left, right) = self.fields.split_at(self.fields.len() / 2);
        let half = |fields: &[Field]| {
            let points: Vec<usize> = fields.iter().map(|f| f.point).collect();
            (!points.is_empty()).then(|| request(device, &points))
        };
        Some((half(left)?, half(right)?))
    }
}

/// The requests of one poll, in order of table and address.
pub fn plan(device: &Device) -> Vec<Request> {
    plan_points(device, (0..device.points.len()).filter(|n| device.points[*n].read))
}

/// The requests that read only these points of the device.
pub fn plan_points(device: &Device, points: impl IntoIterator<Item = usize>) -> Vec<Request> {
    let mut order: Vec<usize> = points.into_iter().filter(|n| *n < device.points.len()).collect();
    order.sort_by_key(|n| (device.points[*n].register, span(&device.points[*n]).end));
    order.dedup();
    let mut groups: Vec<Group> = Vec::new();
    // Taking each point into the open request while it fits is minimal: a request that holds the first point cannot
    // start lower, and a point left out early would only lengthen a later request.
    let mut open: Option<Group> = None;
    for n in order {
        let point = &device.points[n];
        if point.read_alone {
            groups.push(Group::of(n, point));
            continue;
        }
        match &mut open {
            Some(group) if group.takes(device, point) => group.push(n, point),
            _ => groups.extend(open.replace(Group::of(n, point))),
        }
    }
    groups.extend(open);
    groups.sort_by_key(|g| (g.table, g.span.start));
    groups.iter().map(|g| request(device, &g.points)).collect()
}

/// A request being collected. Addresses as `u32`: a value may end at 65536.
struct Group {
    table: Table,
    span: Range<u32>,
    points: Vec<usize>,
}

impl Group {
    fn of(n: usize, point: &Point) -> Group {
        Group { table: point.register.table, span: span(point), points: vec![n] }
    }

    fn push(&mut self, n: usize, point: &Point) {
        self.span.end = self.span.end.max(span(point).end);
        self.points.push(n);
    }

    /// Whether the point, which starts no lower than any point in it, may join.
    fn takes(&self, device: &Device, point: &Point) -> bool {
        let new = span(point);
        let end = self.span.end.max(new.end);
        let hole = self.span.end..new.start;
        self.table == point.register.table
            && end - self.span.start <= u32::from(max_count(device, self.table))
            && hole.len() <= usize::from(device.max_gap)
            && !device.points.iter().any(|p| p.read_alone && p.register.table == self.table && overlap(&span(p), &hole))
    }
}

fn max_count(device: &Device, table: Table) -> u16 {
    if table.is_bits() { device.max_bits.clamp(1, BITS_MAX) } else { device.max_words.clamp(1, WORDS_MAX) }
}

/// The registers or bits that the point takes.
fn span(point: &Point) -> Range<u32> {
    let start = u32::from(point.register.address);
    let width = if point.register.table.is_bits() { 1 } else { u32::from(point.kind.words()) };
    start..start + width
}

fn overlap(a: &Range<u32>, b: &Range<u32>) -> bool {
    !b.is_empty() && a.start < b.end && b.start < a.end
}

/// The request for these points, which are in order of address and not empty.
fn request(device: &Device, points: &[usize]) -> Request {
    let of = |n: &usize| &device.points[*n];
    let start = points.first().map_or(0, |n| of(n).register.address);
    let end = points.iter().map(|n| span(of(n)).end).max().unwrap_or(0);
    Request {
        table: points.first().map_or(Table::Holding, |n| of(n).register.table),
        start,
        count: u16::try_from(end - u32::from(start)).unwrap_or(u16::MAX),
        points: points.iter().map(|n| of(n).id.clone()).collect(),
        fields: points.iter().map(|n| field(*n, of(n), start)).collect(),
    }
}

fn field(n: usize, point: &Point, start: u16) -> Field {
    Field { point: n, offset: point.register.address - start, codec: Codec::of(point) }
}

#[cfg(test)]
mod tests;
