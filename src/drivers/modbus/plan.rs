//! Merges a device's points into the fewest reads that the device permits.
//!
//! Invariants: every readable point is in exactly one request; a request spans at most `max_words` registers or `max_bits`
//! bits (only a single value that is wider than that is asked for anyway, since half a value is none); it spans no run of
//! unasked registers longer than `max_gap`; it never spans a register of a `read_alone` point of which it is not the own
//! request; it never covers a known hole.
//!
//! Limits count the span, not the points: ten points far apart make a large read.
//!
//! A scale-factor register is read with its value, whatever lies between, because the two belong together at one moment.
//! Where one read cannot reach both (too far, another table, a hole between) the factor has a request of its own before the
//! values; its word then stands behind the data of the value's request, at the field's `scale_offset`.

use super::{
    decode::Codec,
    holes::{Holes, one},
    pdu::Ask,
};
use crate::{
    config::device::{Device, Point, Register, Table},
    model::{PointId, Shared},
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
    pub fields: Arc<[Field]>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    /// Index in `device.points`.
    pub point: usize,
    /// Registers or bits from `start`.
    pub offset: u16,
    /// Registers from `start` to the scale factor. `count` and more: it was read by a request of its own, and its word
    /// stands behind the data.
    pub scale_offset: Option<u16>,
    /// How the point's bytes become a value, worked out once.
    pub(super) codec: Codec,
}

impl Request {
    pub fn ask(&self) -> Ask {
        Ask::Read { table: self.table, start: self.start, count: self.count }
    }

    /// As a range, which may end at 65536.
    pub fn span(&self) -> Range<u32> {
        u32::from(self.start)..u32::from(self.start) + u32::from(self.count)
    }

    /// Reads the range for nobody: to learn whether the device serves it, or for a scale factor.
    pub fn bare(table: Table, span: &Range<u32>) -> Request {
        let narrow = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Request { table, start: narrow(span.start), count: narrow(span.end - span.start), points: [].into(), fields: [].into() }
    }
}

/// What the plans of many devices of one kind have in common, kept once.
#[derive(Debug, Default)]
pub struct Plans {
    points: Shared<PointId>,
    fields: Shared<Field>,
}

impl Plans {
    pub fn share(&mut self, request: &mut Request) {
        request.points = self.points.one_of(Arc::clone(&request.points));
        request.fields = self.fields.one_of(Arc::clone(&request.fields));
    }
}

/// The requests of one poll, in order of table and address, when nothing is known of the device.
pub fn plan(device: &Device) -> Vec<Request> {
    plan_around(device, &Holes::default())
}

/// The requests of one poll: scale factors that need a request of their own first.
pub fn plan_around(device: &Device, holes: &Holes) -> Vec<Request> {
    let mut requests = lone_factors(device, holes);
    requests.extend(plan_some(device, (0..device.points.len()).filter(|n| device.points[*n].read), holes));
    requests
}

/// The requests that read only these points of the device.
pub fn plan_points(device: &Device, points: impl IntoIterator<Item = usize>) -> Vec<Request> {
    plan_some(device, points, &Holes::default())
}

/// The requests that read these points, with the scale factors that need requests of their own. What is known to be
/// refused is asked alone, and no neighbour with it.
pub fn plan_read(device: &Device, holes: &Holes, points: &[usize]) -> Vec<Request> {
    let is_refused = |n: &usize| device.points.get(*n).is_some_and(|p| holes.refuses_point(p).is_some());
    let mut requests = factors_of(device, holes, points.iter().filter_map(|n| device.points.get(*n)));
    requests.extend(plan_some(device, points.iter().copied(), holes));
    requests.extend(points.iter().filter(|n| is_refused(n)).flat_map(|n| plan_points(device, [*n])));
    requests
}

fn plan_some(device: &Device, points: impl IntoIterator<Item = usize>, holes: &Holes) -> Vec<Request> {
    let readable = |n: &usize| device.points.get(*n).is_some_and(|p| holes.refuses_point(p).is_none());
    let mut order: Vec<usize> = points.into_iter().filter(readable).collect();
    order.sort_by_key(|n| {
        let (table, span) = extent(device, holes, &device.points[*n]);
        (table, span.start, span.end, *n)
    });
    order.dedup();
    let mut groups: Vec<Group> = Vec::new();
    // Taking each point into the open request while it fits is minimal: a request that holds the first point cannot
    // start lower, and a point left out early would only lengthen a later request.
    let mut open: Option<Group> = None;
    for n in order {
        let point = &device.points[n];
        let (table, span) = extent(device, holes, point);
        if point.read_alone {
            groups.push(Group { table, span, points: vec![n] });
            continue;
        }
        match &mut open {
            Some(group) if group.takes(device, holes, table, &span) => group.push(n, &span),
            _ => groups.extend(open.replace(Group { table, span, points: vec![n] })),
        }
    }
    groups.extend(open);
    groups.sort_by_key(|g| (g.table, g.span.start));
    groups.iter().map(|g| request(device, holes, &g.points)).collect()
}

/// A request being collected. Addresses as `u32`: a value may end at 65536.
struct Group {
    table: Table,
    span: Range<u32>,
    points: Vec<usize>,
}

impl Group {
    fn push(&mut self, n: usize, span: &Range<u32>) {
        self.span.end = self.span.end.max(span.end);
        self.points.push(n);
    }

    /// Whether the point, which starts no lower than any point in it, may join.
    fn takes(&self, device: &Device, holes: &Holes, table: Table, new: &Range<u32>) -> bool {
        let end = self.span.end.max(new.end);
        let gap = self.span.end..new.start;
        self.table == table
            && end - self.span.start <= u32::from(max_count(device, holes, table))
            && gap.len() <= usize::from(device.max_gap)
            && holes.refuses(table, &(self.span.start..end)).is_none()
            && !device.points.iter().any(|p| p.read_alone && p.register.table == table && overlap(&span(p), &gap))
    }
}

/// The registers that a point's request must cover: its own, with its scale factor where one read reaches both.
pub fn extent(device: &Device, holes: &Holes, point: &Point) -> (Table, Range<u32>) {
    let (table, own) = (point.register.table, span(point));
    match point.scale_register.filter(|r| r.table == table).map(one) {
        Some(factor) => {
            let both = own.start.min(factor.start)..own.end.max(factor.end);
            let fits = both.len() <= usize::from(max_count(device, holes, table)) && holes.refuses(table, &both).is_none();
            (table, if fits { both } else { own })
        }
        None => (table, own),
    }
}

/// Scale factors that are out of reach of their values, each once.
fn lone_factors(device: &Device, holes: &Holes) -> Vec<Request> {
    factors_of(device, holes, device.points.iter())
}

fn factors_of<'p>(device: &Device, holes: &Holes, points: impl Iterator<Item = &'p Point>) -> Vec<Request> {
    let readable = points.filter(|p| p.scale_register.is_some() && holes.refuses_point(p).is_none());
    let mut registers: Vec<Register> = readable.filter_map(|p| p.scale_register.filter(|r| !reaches(device, holes, p, *r))).collect();
    registers.sort_unstable();
    registers.dedup();
    registers.into_iter().map(|r| Request::bare(r.table, &one(r))).collect()
}

fn reaches(device: &Device, holes: &Holes, point: &Point, factor: Register) -> bool {
    let (table, span) = extent(device, holes, point);
    table == factor.table && span.contains(&u32::from(factor.address))
}

fn max_count(device: &Device, holes: &Holes, table: Table) -> u16 {
    let most = if table.is_bits() { device.max_bits.clamp(1, BITS_MAX) } else { device.max_words.clamp(1, WORDS_MAX) };
    most.min(holes.limit(table))
}

/// The registers or bits that the point takes.
pub fn span(point: &Point) -> Range<u32> {
    let start = u32::from(point.register.address);
    let width = if point.register.table.is_bits() { 1 } else { u32::from(point.kind.words()) };
    start..start + width
}

fn overlap(a: &Range<u32>, b: &Range<u32>) -> bool {
    !b.is_empty() && a.start < b.end && b.start < a.end
}

/// The request for these points, which are of one table and not empty.
pub fn request(device: &Device, holes: &Holes, points: &[usize]) -> Request {
    let of = |n: &usize| &device.points[*n];
    let extents = || points.iter().map(|n| extent(device, holes, of(n)).1);
    let start = extents().map(|e| e.start).min().unwrap_or(0);
    let end = extents().map(|e| e.end).max().unwrap_or(0);
    let bare = Request::bare(points.first().map_or(Table::Holding, |n| of(n).register.table), &(start..end));
    let mut behind = bare.count;
    let fields = points.iter().map(|n| {
        let (point, scale) = (of(n), of(n).scale_register);
        let scale_offset = scale.map(|factor| {
            if reaches(device, holes, point, factor) {
                return factor.address - bare.start;
            }
            behind += 1;
            behind - 1
        });
        Field { point: *n, offset: point.register.address - bare.start, scale_offset, codec: Codec::of(point) }
    });
    Request { fields: fields.collect(), points: points.iter().map(|n| of(n).id.clone()).collect(), ..bare }
}

#[cfg(test)]
mod tests;
