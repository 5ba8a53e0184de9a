//! Which unit is asked next, with which settings and for how long, and what its answer means. Pure: no port, no clock.
//!
//! ```text
//! round 1: the likely units at every setting ─► round 2: the other units, settings that found something first
//!             at the end of a setting's units: those that were garbled or late are asked again, with more patience
//! ```
//! What was asked for is tried in full; only its order follows what is found. It ends early at `stop_at`.
//! Invariant: the only question is a read of one holding register. A unit that refuses it is as alive as one that answers.

use super::pace;
use crate::{
    drivers::modbus::rtu,
    limits,
    model::{Settings, SiteAsk, SiteOutcome, SiteReport},
};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// Holding register 0, one word: the cheapest question that any unit answers or refuses.
pub const PROBE: [u8; 5] = [3, 0, 0, 0, 1];
/// Installers number from 1; these are tried at every setting before the rest at any.
const LIKELY: usize = 10;
/// A suspicious unit is asked so often again.
const SECOND_LOOKS: u8 = 2;
/// So many units in a row that are nothing but noise: somebody else is talking there.
const NOISY: usize = 12;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// `None`: as the line is set, or TCP.
    pub settings: Vec<Option<Settings>>,
    pub units: Vec<u8>,
    pub stop_at: Option<usize>,
    /// How long a device may think before its first byte.
    pub patience: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    pub settings: Option<Settings>,
    pub unit: u8,
    pub timeout: Duration,
    /// Asked before, and what came was suspicious.
    pub again: bool,
}

impl Try {
    pub fn ask(&self) -> SiteAsk {
        SiteAsk { unit: self.unit, pdu: PROBE.to_vec(), timeout: Some(self.timeout), settings: self.settings }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Nothing,
    /// It answers or refuses: alive. `garbled`: so many answers before this one were broken.
    Found {
        took: Duration,
        refused: Option<u8>,
        garbled: u8,
    },
    /// Something answers each time, and each time broken.
    Collision,
}

/// A unit whose answer was broken or came late.
#[derive(Debug)]
struct Suspect {
    setting: usize,
    unit: u8,
    looks: u8,
    garbled: u8,
    late: bool,
}

#[derive(Debug)]
struct Current {
    asked: Try,
    setting: usize,
    suspect: Option<Suspect>,
}

#[derive(Debug)]
pub struct Strategy {
    wanted: Wanted,
    /// The units of the two rounds.
    rounds: [Vec<u8>; 2],
    round: usize,
    /// Settings of this round that are still to be begun, in order.
    settings: VecDeque<usize>,
    setting: usize,
    unit: usize,
    suspects: VecDeque<Suspect>,
    known: BTreeSet<(usize, u8)>,
    found: Vec<usize>,
    current: Option<Current>,
    patience: Duration,
    silent_noise: usize,
    tries: u64,
    garbled: u64,
    minimum: Duration,
    noisy: Option<Settings>,
}

impl Strategy {
    pub fn new(wanted: Wanted) -> Strategy {
        let split = if wanted.settings.len() > 1 { LIKELY.min(wanted.units.len()) } else { wanted.units.len() };
        let (likely, rest) = wanted.units.split_at(split);
        let mut settings: VecDeque<usize> = (0..wanted.settings.len()).collect();
        Strategy {
            rounds: [likely.to_vec(), rest.to_vec()],
            round: 0,
            setting: settings.pop_front().unwrap_or(0),
            settings,
            unit: 0,
            suspects: VecDeque::new(),
            known: BTreeSet::new(),
            found: vec![0; wanted.settings.len()],
            current: None,
            patience: wanted.patience,
            silent_noise: 0,
            tries: 0,
            garbled: 0,
            minimum: Duration::ZERO,
            noisy: None,
            wanted,
        }
    }

    /// The next question; `None`: everything was asked, or enough was found.
    pub fn next(&mut self) -> Option<Try> {
        if self.wanted.stop_at.is_some_and(|n| self.count() >= n) || self.wanted.settings.is_empty() {
            return None;
        }
        loop {
            if let Some(unit) = self.rounds[self.round].get(self.unit).copied() {
                self.unit += 1;
                if self.is_known(self.setting, unit) {
                    continue;
                }
                return Some(self.begin(unit, None));
            }
            // While the port is set this way.
            if let Some(suspect) = self.suspects.pop_front() {
                if self.is_known(suspect.setting, suspect.unit) {
                    continue;
                }
                return Some(self.begin(suspect.unit, Some(suspect)));
            }
            self.advance()?;
        }
    }

    /// Found at this speed already: units and adapters that are not particular about parity answer at several settings.
    fn is_known(&self, setting: usize, unit: u8) -> bool {
        let baud = |n: usize| self.wanted.settings[n].map(|s| s.baud);
        self.known.iter().any(|(n, known)| *known == unit && baud(*n) == baud(setting))
    }

    /// To the next setting, or round.
    fn advance(&mut self) -> Option<()> {
        self.unit = 0;
        if let Some(setting) = self.settings.pop_front() {
            self.setting = setting;
            return Some(());
        }
        if self.round > 0 || self.rounds[1].is_empty() {
            return None;
        }
        self.round = 1;
        let mut order: Vec<usize> = (0..self.wanted.settings.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse(self.found[*n]));
        self.settings = order.into();
        self.setting = self.settings.pop_front()?;
        Some(())
    }

    fn begin(&mut self, unit: u8, suspect: Option<Suspect>) -> Try {
        let late = suspect.as_ref().is_some_and(|s| s.late);
        let timeout = if late { (self.patience * 3).min(limits::SCAN_PATIENCE_MAX) } else { self.patience };
        let asked = Try { settings: self.wanted.settings[self.setting], unit, timeout, again: suspect.is_some() };
        self.current = Some(Current { asked: asked.clone(), setting: self.setting, suspect });
        asked
    }

    /// What came of the question that `next` gave.
    pub fn heard(&mut self, report: &SiteReport) -> Verdict {
        let Some(Current { asked, setting, suspect }) = self.current.take() else { return Verdict::Nothing };
        self.tries += u64::from(!matches!(report.outcome, SiteOutcome::NotSent(_)));
        self.minimum += pace::least(asked.settings, asked.timeout, report);
        self.notice_late(setting, asked.unit, &report.heard);
        let mut suspect = suspect.unwrap_or(Suspect { setting, unit: asked.unit, looks: 0, garbled: 0, late: false });
        match &report.outcome {
            // A gateway speaks, not the unit: nobody is there.
            SiteOutcome::Exception(0x0a | 0x0b) => {}
            SiteOutcome::Answer(_) => return self.alive(&asked, setting, report, None, suspect.garbled),
            SiteOutcome::Exception(code) => return self.alive(&asked, setting, report, Some(*code), suspect.garbled),
            SiteOutcome::Garbled(_) => {
                self.garbled += 1;
                suspect.garbled += 1;
                self.silent_noise += 1;
                if self.silent_noise >= NOISY {
                    self.noisy = self.noisy.or(asked.settings);
                }
            }
            SiteOutcome::Silent | SiteOutcome::NotSent(_) => self.silent_noise = 0,
        }
        let suspicious = suspect.garbled > 0 || suspect.late;
        if suspicious && suspect.looks < SECOND_LOOKS {
            suspect.looks += 1;
            self.suspects.push_back(suspect);
        } else if suspect.garbled > SECOND_LOOKS && self.noisy.is_none() {
            return Verdict::Collision;
        }
        Verdict::Nothing
    }

    fn alive(&mut self, asked: &Try, setting: usize, report: &SiteReport, refused: Option<u8>, garbled: u8) -> Verdict {
        self.silent_noise = 0;
        self.known.insert((setting, asked.unit));
        self.found[setting] += 1;
        // Twice the slowest that was seen, because its neighbours may be slower.
        let thought = report.took.saturating_sub(pace::chars(asked.settings, report.heard.len()));
        self.patience = self.patience.max((thought * 2).min(limits::SCAN_PATIENCE_MAX));
        Verdict::Found { took: report.took, refused, garbled }
    }

    /// An answer of another unit than was asked: one that answers later than it was given time for.
    fn notice_late(&mut self, setting: usize, asked: u8, heard: &[u8]) {
        let Some(unit) = answer_of(heard).filter(|u| *u != asked && self.wanted.units.contains(u)) else { return };
        if !self.known.contains(&(setting, unit)) && !self.suspects.iter().any(|s| (s.setting, s.unit) == (setting, unit)) {
            self.suspects.push_back(Suspect { setting, unit, looks: 0, garbled: 0, late: true });
        }
    }

    /// Units found so far; one that answers at two settings counts twice.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    pub fn tries(&self) -> u64 {
        self.tries
    }

    /// Tries with answers that were no frames.
    pub fn garbled(&self) -> u64 {
        self.garbled
    }

    /// Where bytes came whoever was asked.
    pub fn noisy(&self) -> Option<Settings> {
        self.noisy
    }

    /// The time that the tries so far take on the wire, with the timeouts that silent units need.
    pub fn minimum(&self) -> Duration {
        self.minimum
    }

    /// Of 1.
    #[allow(clippy::cast_precision_loss)] // a few thousand tries
    pub fn part(&self) -> f64 {
        let all = (self.wanted.settings.len() * self.wanted.units.len()).max(1);
        (self.tries as f64 / all as f64).min(1.0)
    }

    /// What the rest takes if everybody there is silent, at the pace so far.
    pub fn left(&self, elapsed: Duration) -> Duration {
        let silent = |setting: usize| pace::least_silent(self.wanted.settings[setting], self.patience);
        let here = self.rounds[self.round].len().saturating_sub(self.unit);
        let mut left = silent(self.setting) * small(here);
        for setting in &self.settings {
            left += silent(*setting) * small(self.rounds[self.round].len());
        }
        if self.round == 0 {
            for setting in 0..self.wanted.settings.len() {
                left += silent(setting) * small(self.rounds[1].len());
            }
        }
        let pace = if self.minimum.is_zero() { 1.0 } else { (elapsed.as_secs_f64() / self.minimum.as_secs_f64()).clamp(1.0, 10.0) };
        left.mul_f64(pace)
    }

    /// As the port is set now.
    pub fn settings(&self) -> Option<Settings> {
        self.wanted.settings.get(self.setting).copied().flatten()
    }

    /// The unit that is asked now.
    pub fn unit(&self) -> u8 {
        self.current.as_ref().map_or(0, |c| c.asked.unit)
    }

    /// Place of the unit asked last among those asked for, and how many these are.
    pub fn place(&self) -> (usize, usize) {
        let before = if self.round == 0 { 0 } else { self.rounds[0].len() };
        (before + self.unit, self.wanted.units.len())
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The unit of a whole reply to the probe within these bytes.
fn answer_of(heard: &[u8]) -> Option<u8> {
    (0..heard.len()).find_map(|at| {
        let rest = &heard[at..];
        let len = match rest {
            [_, 3, 2, ..] => 7,
            [_, 0x83, ..] => 5,
            _ => return None,
        };
        let frame = rest.get(..len)?;
        let (body, crc) = frame.split_at(len - 2);
        (rtu::crc16(body).to_le_bytes() == crc).then(|| frame[0])
    })
}

#[cfg(test)]
mod tests;
