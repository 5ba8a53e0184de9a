//! Registers as a unit gives them: a run that is refused is halved until the refused ones stand alone, and these are not
//! asked again.

use crate::{
    cli::site::{Bus, BusError},
    config::Table,
    model::{SiteAsk, SiteOutcome},
};
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Word(u16),
    Refused(u8),
    /// No valid answer.
    Missing,
}

/// Registers of one table, and what is known of them.
#[derive(Debug, Clone)]
pub struct Span {
    pub table: Table,
    pub start: u16,
    pub count: u16,
    unit: u8,
    refused: BTreeMap<u16, u8>,
}

/// What one look brought.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub cells: Vec<Option<Cell>>,
    /// The longest answer.
    pub took: Duration,
    /// Any answer at all, or refusal.
    pub alive: bool,
    pub garbled: bool,
}

impl Span {
    pub fn new(unit: u8, table: Table, start: u16, count: u16) -> Span {
        Span { table, start, count: count.min(u16::MAX - start), unit, refused: BTreeMap::new() }
    }

    /// Reads all of it that is not known to be refused.
    pub fn read(&mut self, bus: &mut dyn Bus) -> Result<Look, BusError> {
        let mut look = Look { cells: vec![None; usize::from(self.count)], ..Look::default() };
        let mut open = self.runs();
        while let Some((at, count)) = open.pop() {
            let [a, b] = at.to_be_bytes();
            let [c, d] = count.to_be_bytes();
            let ask = SiteAsk { unit: self.unit, pdu: vec![self.table.read_function(), a, b, c, d], timeout: None, settings: None };
            let report = bus.ask(&ask)?;
            look.took = look.took.max(report.took);
            match report.outcome {
                SiteOutcome::Answer(pdu) => {
                    look.alive = true;
                    for n in 0..count {
                        let word = pdu.get(2 + usize::from(n) * 2..).and_then(|w| w.first_chunk::<2>());
                        self.put(&mut look, at + n, word.map_or(Cell::Missing, |w| Cell::Word(u16::from_be_bytes(*w))));
                    }
                }
                SiteOutcome::Exception(2 | 3) if count > 1 => {
                    look.alive = true;
                    open.extend([(at + count / 2, count - count / 2), (at, count / 2)]);
                }
                SiteOutcome::Exception(code) => {
                    look.alive = true;
                    for n in 0..count {
                        self.refused.insert(at + n, code);
                    }
                }
                SiteOutcome::Garbled(_) => look.garbled = true,
                // The rest would be as silent, one timeout each.
                SiteOutcome::Silent | SiteOutcome::NotSent(_) => break,
            }
        }
        for (at, code) in self.refused.clone() {
            self.put(&mut look, at, Cell::Refused(code));
        }
        Ok(look)
    }

    fn put(&self, look: &mut Look, at: u16, cell: Cell) {
        if let Some(slot) = at.checked_sub(self.start).and_then(|n| look.cells.get_mut(usize::from(n))) {
            *slot = Some(cell);
        }
    }

    /// What is to be asked, last first.
    fn runs(&self) -> Vec<(u16, u16)> {
        const RUN: u16 = 40;
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for at in (self.start..self.start + self.count).filter(|at| !self.refused.contains_key(at)) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == at && *count < RUN => *count += 1,
                _ => runs.push((at, 1)),
            }
        }
        runs.reverse();
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Settings, SiteReport};

    /// Registers 0 to 9 with 3 and 7 refused; counts its requests.
    struct Holes(u32);

    impl Bus for Holes {
        fn ask(&mut self, ask: &SiteAsk) -> Result<SiteReport, BusError> {
            self.0 += 1;
            let (at, count) = (u16::from_be_bytes([ask.pdu[1], ask.pdu[2]]), u16::from_be_bytes([ask.pdu[3], ask.pdu[4]]));
            let hole = (at..at + count).any(|n| matches!(n, 3 | 7));
            let data = (at..at + count).flat_map(u16::to_be_bytes);
            let answer = || SiteOutcome::Answer([ask.pdu[0], u8::try_from(count * 2).unwrap()].into_iter().chain(data).collect());
            let outcome = if hole { SiteOutcome::Exception(2) } else { answer() };
            Ok(SiteReport { outcome, sent: vec![], heard: vec![], took: Duration::from_millis(9) })
        }

        fn settings(&self) -> Option<Settings> {
            None
        }

        fn timeout(&self) -> Duration {
            Duration::from_secs(1)
        }

        fn place(&self) -> String {
            "there".into()
        }

        fn is_shared(&self) -> bool {
            false
        }
    }

    #[test]
    fn refused_registers_are_found_once_and_not_asked_again() {
        let (mut bus, mut span) = (Holes(0), Span::new(1, Table::Input, 0, 10));
        let look = span.read(&mut bus).unwrap();
        let want: Vec<Option<Cell>> = (0..10).map(|n| Some(if matches!(n, 3 | 7) { Cell::Refused(2) } else { Cell::Word(n) })).collect();
        assert_eq!(look.cells, want);
        let first = bus.0;
        assert_eq!(span.read(&mut bus).unwrap().cells, want);
        assert_eq!(bus.0 - first, 3, "the three runs between the holes");
    }
}
