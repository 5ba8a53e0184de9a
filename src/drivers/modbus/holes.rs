//! What a device was found to refuse, and the keys under which that is remembered.
//!
//! Rule that the plan stands on: a read that covers a refused range is refused. So a hole is the smallest range known to be
//! refused; a request must not cover one, and a point that covers one is not readable. A hole may lie between points (the
//! registers that a request spanned without asking for them), or be a point's own registers.

use crate::config::{Device, Point, Register, Table};
use std::{collections::BTreeMap, fmt, ops::Range};

/// One thing that a device does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hole {
    /// Registers or bits from an address. Wider than `u16`: a value may end at 65536.
    Span { table: Table, start: u16, count: u16 },
    /// The function that reads the table is unknown to the device.
    Table(Table),
    /// Reads of more than this are refused, although their parts are answered.
    Limit { table: Table, most: u16 },
}

impl Hole {
    pub fn span(table: Table, span: &Range<u32>) -> Hole {
        let narrow = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Hole::Span { table, start: narrow(span.start), count: narrow(span.end.saturating_sub(span.start)) }
    }

    /// From the key of a remembered fact. `None`: a fact of another kind.
    pub fn parse(key: &str) -> Option<Hole> {
        let (kind, place) = key.split_once(' ')?;
        let table = |word: &str| [Table::Coil, Table::Discrete, Table::Input, Table::Holding].into_iter().find(|t| t.word() == word);
        match kind {
            "hole" => {
                let (name, span) = place.split_once(':')?;
                let (start, count) = span.split_once('+')?;
                Some(Hole::Span { table: table(name)?, start: start.parse().ok()?, count: count.parse().ok().filter(|n| *n > 0)? })
            }
            "table" => table(place).map(Hole::Table),
            "limit" => {
                let (name, most) = place.split_once('+')?;
                Some(Hole::Limit { table: table(name)?, most: most.parse().ok().filter(|n| *n > 0)? })
            }
            _ => None,
        }
    }

    pub const fn table(&self) -> Table {
        match self {
            Hole::Span { table, .. } | Hole::Table(table) | Hole::Limit { table, .. } => *table,
        }
    }
}

/// The key of the fact.
impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hole::Span { table, start, count } => write!(f, "hole {}:{start}+{count}", table.word()),
            Hole::Table(table) => write!(f, "table {}", table.word()),
            Hole::Limit { table, most } => write!(f, "limit {}+{most}", table.word()),
        }
    }
}

/// All of a device, each with the exception that told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holes {
    all: BTreeMap<Hole, u8>,
}

impl Holes {
    pub fn insert(&mut self, hole: Hole, code: u8) {
        self.all.insert(hole, code);
    }

    pub fn remove(&mut self, hole: &Hole) {
        self.all.remove(hole);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Hole, u8)> {
        self.all.iter().map(|(hole, code)| (hole, *code))
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The exception that a read of this range is known to bring, apart from its length.
    pub fn refuses(&self, table: Table, span: &Range<u32>) -> Option<u8> {
        self.all.iter().find(|(hole, _)| covers(table, span, hole)).map(|(_, code)| *code)
    }

    /// The longest read that the device takes, as far as that was learned.
    pub fn limit(&self, table: Table) -> u16 {
        let limits = self.all.keys().filter_map(|hole| match hole {
            Hole::Limit { table: t, most } if *t == table => Some(*most),
            _ => None,
        });
        limits.min().unwrap_or(u16::MAX)
    }

    /// Why the point cannot be read: the exception.
    pub fn refuses_point(&self, point: &Point) -> Option<u8> {
        let scale = point.scale_register.and_then(|r| self.refuses(r.table, &one(r)));
        self.refuses(point.register.table, &super::plan::span(point)).or(scale)
    }

    /// The points of the device that are not readable, by place in `device.points`.
    pub fn unreadable(&self, device: &Device) -> Vec<usize> {
        if self.is_empty() {
            return Vec::new();
        }
        (0..device.points.len()).filter(|n| self.refuses_point(&device.points[*n]).is_some()).collect()
    }
}

/// Whether a read of the span covers the hole.
pub fn covers(table: Table, span: &Range<u32>, hole: &Hole) -> bool {
    match hole {
        Hole::Span { table: t, start, count } => {
            *t == table && span.start <= u32::from(*start) && u32::from(*start) + u32::from(*count) <= span.end
        }
        Hole::Table(t) => *t == table,
        Hole::Limit { .. } => false,
    }
}

/// A single register as a range.
pub fn one(register: Register) -> Range<u32> {
    let start = u32::from(register.address);
    start..start + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_as_written() {
        for (key, hole) in [
            ("hole input:30+2", Hole::Span { table: Table::Input, start: 30, count: 2 }),
            ("hole holding:65535+1", Hole::Span { table: Table::Holding, start: 65_535, count: 1 }),
            ("table discrete", Hole::Table(Table::Discrete)),
            ("limit input+62", Hole::Limit { table: Table::Input, most: 62 }),
        ] {
            assert_eq!((Hole::parse(key), hole.to_string().as_str()), (Some(hole), key));
        }
        for other in ["framing", "hole", "hole input:30", "hole input:30+0", "hole papers:1+1", "hole input:70000+1", "limit input+", ""] {
            assert_eq!(Hole::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_read_is_refused_if_it_covers_a_hole() {
        let mut holes = Holes::default();
        holes.insert(Hole::Span { table: Table::Input, start: 30, count: 2 }, 2);
        check(&holes, Table::Input, 30..32, Some(2));
        check(&holes, Table::Input, 0..100, Some(2));
        check(&holes, Table::Input, 30..31, None);
        check(&holes, Table::Input, 31..40, None);
        check(&holes, Table::Holding, 0..100, None);
        holes.insert(Hole::Table(Table::Holding), 1);
        check(&holes, Table::Holding, 5..6, Some(1));
    }

    #[track_caller]
    fn check(holes: &Holes, table: Table, span: Range<u32>, want: Option<u8>) {
        assert_eq!(holes.refuses(table, &span), want, "{table:?} {span:?}");
    }
}
