//! Values that only count up: which increase to believe, when they roll over, are reset or are replaced.
//!
//! One reading never moves the base. A drop (and a jump that is further than the counter can count) is in doubt until it has
//! lasted for some readings; if the value comes back before that, it never happened, and the increase covers the gap.
//! A drop that lasts is a roll-over if the counter stood in the last quarter of its range and goes on in the first, a
//! declared daily reset if it fell below half, else a replacement: then nobody knows what was counted in between.
//! Absent on purpose: keeping the base over a restart. The first reading after it has no increase.

mod readings;

pub use readings::Counters;

use crate::model::Boot;

/// Readings that a drop to below half must last on a counter that is declared to begin anew every day.
const DAILY: u8 = 2;

/// Numbers are whole steps of the counter's resolution, so that increases are exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Steps in one of the value's units.
    pub per_unit: f64,
    /// In steps. `None`: it does not roll over.
    pub modulo: Option<i128>,
    pub daily: bool,
    /// Readings in a row.
    pub confirm: u8,
    /// In steps.
    pub max_per_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    steps: i128,
    at: Boot,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Doubt {
    latest: Seen,
    readings: u8,
    up: bool,
}

/// What a reading says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Since the last reading that was believed, in steps.
    Increase(i128),
    /// Believed, but the increase is not known: the first one, or after a replacement.
    Base,
    /// Not believed yet.
    Suspect,
}

#[derive(Debug, Clone, Default)]
pub struct Counter {
    last: Option<Seen>,
    doubt: Option<Doubt>,
    /// Where it stood before a drop that was believed: if it comes back there at once, the drop was a long glitch.
    former: Option<Seen>,
    /// The first reading was 0, which a device that is starting up says as well.
    began_at_zero: bool,
}

impl Counter {
    pub fn step(&mut self, rule: &Rule, at: Boot, steps: i128) -> Step {
        let now = Seen { steps, at };
        let Some(last) = self.last else {
            if steps == 0 && !self.began_at_zero {
                self.began_at_zero = true;
            } else {
                self.last = Some(now);
            }
            return Step::Base;
        };
        if let Some(former) = self.former.filter(|f| last.steps * 2 <= f.steps && rule.can_follow(*f, now)) {
            self.believe(now);
            self.former = None;
            return Step::Increase(steps - former.steps);
        }
        if rule.can_follow(last, now) {
            self.believe(now);
            // A new counter that grew this far is no glitch of the old one.
            self.former = self.former.filter(|f| steps * 2 <= f.steps);
            return Step::Increase(steps - last.steps);
        }
        let up = steps > last.steps;
        let before = self.doubt.filter(|d| d.up == up && rule.can_follow(d.latest, now)).map_or(0, |d| d.readings);
        let readings = before.saturating_add(1);
        let reset = !up && rule.daily && steps * 2 < last.steps;
        if readings < if reset { DAILY } else { rule.confirm } {
            self.doubt = Some(Doubt { latest: now, readings, up });
            return Step::Suspect;
        }
        self.believe(now);
        let wrapped = rule.modulo.filter(|m| !up && last.steps * 4 > m * 3 && steps * 4 < *m).map(|m| steps + m - last.steps);
        if let Some(increase) = wrapped.filter(|d| rule.can_count(*d, last, now)) {
            return Step::Increase(increase);
        }
        self.former = (!up).then_some(last);
        match reset && rule.can_count(steps, last, now) {
            true => Step::Increase(steps),
            false => Step::Base,
        }
    }

    fn believe(&mut self, now: Seen) {
        self.last = Some(now);
        self.doubt = None;
    }
}

impl Rule {
    /// Whether a counter that stood there can stand here now without any trick.
    fn can_follow(&self, from: Seen, to: Seen) -> bool {
        to.steps >= from.steps && self.modulo.is_none_or(|m| to.steps <= m) && self.can_count(to.steps - from.steps, from, to)
    }

    /// Whether so much can come together in that time. One step more: the counter shows whole ones.
    #[allow(clippy::cast_precision_loss)] // compared with a rate that somebody estimated
    fn can_count(&self, increase: i128, from: Seen, to: Seen) -> bool {
        self.max_per_s.is_none_or(|most| increase as f64 <= most * to.at.since(from.at).as_secs_f64() + 1.0)
    }
}

#[cfg(test)]
mod tests;
