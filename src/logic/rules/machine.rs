//! One rule in time: from the truth of its condition to firing once, holding, cooling down, clearing.

use crate::{
    limits,
    model::{Boot, Pace, RuleMemory},
};
use std::{collections::VecDeque, time::Duration};

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Fired,
    /// Its condition is false again, or it was switched off.
    Cleared,
    /// It would have fired too often.
    Paused,
}

#[derive(Debug, Default)]
pub struct Machine {
    pace: Pace,
    pub memory: RuleMemory,
    truth: Option<bool>,
    /// For how long it was known to be true up to `since`.
    known: Duration,
    /// Since when it is known to be true, if it is now.
    since: Option<Boot>,
    /// The last ones, oldest first.
    firings: VecDeque<Boot>,
}

impl Machine {
    pub fn new(pace: Pace) -> Machine {
        Machine { pace, ..Machine::default() }
    }

    pub const fn truth(&self) -> Option<bool> {
        self.truth
    }

    /// When it fires if nothing changes until then.
    pub fn due(&self) -> Option<Boot> {
        let since = self.since.filter(|_| !self.memory.fired && self.memory.off.is_none())?;
        Some((since + self.pace.hold.saturating_sub(self.known)).max(self.cool()))
    }

    fn cool(&self) -> Boot {
        self.memory.fired_at.map_or(Boot(0), |at| at + self.pace.cooldown)
    }

    /// What falls due up to then.
    pub fn expire(&mut self, upto: Boot) -> Option<(Boot, Did)> {
        let due = self.due().filter(|due| *due <= upto)?;
        Some((due, self.fire(due)))
    }

    /// The truth from now on.
    pub fn step(&mut self, now: Boot, truth: Option<bool>) -> Option<Did> {
        self.truth = truth;
        match truth {
            Some(false) => {
                (self.known, self.since) = (Duration::ZERO, None);
                std::mem::take(&mut self.memory.fired).then_some(Did::Cleared)
            }
            // Neither fires nor clears. Time in which nobody knows does not count, and does not begin it anew.
            None => {
                self.known += self.since.take().map_or(Duration::ZERO, |since| now.since(since));
                None
            }
            Some(true) => {
                self.since.get_or_insert(now);
                self.expire(now).map(|(_, did)| did)
            }
        }
    }

    fn fire(&mut self, at: Boot) -> Did {
        while self.firings.front().is_some_and(|first| *first + limits::RULE_FIRINGS_WITHIN <= at) {
            self.firings.pop_front();
        }
        if self.firings.len() >= limits::RULE_FIRINGS {
            let (most, within) = (limits::RULE_FIRINGS, limits::RULE_FIRINGS_WITHIN.as_secs());
            self.memory.off = Some(format!("it would have fired more than {most} times in {within} s"));
            return Did::Paused;
        }
        self.firings.push_back(at);
        (self.memory.fired, self.memory.fired_at) = (true, Some(at));
        self.memory.count += 1;
        Did::Fired
    }

    /// `why`: it is switched off; `None`: on again, and what is true now counts from now.
    pub fn switch(&mut self, why: Option<String>, now: Boot) -> Option<Did> {
        self.firings.clear();
        self.memory.off = why;
        self.known = Duration::ZERO;
        self.since = self.since.map(|_| now);
        if self.memory.off.is_some() {
            return std::mem::take(&mut self.memory.fired).then_some(Did::Cleared);
        }
        self.expire(now).map(|(_, did)| did)
    }

    /// What it waits for, in words; empty: for its condition.
    pub fn waits(&self, now: Boot) -> String {
        let secs = |d: Duration| format!("{} s", d.as_secs_f64().ceil());
        match self.due() {
            _ if self.memory.fired => "it has fired, and waits for its condition to be false".into(),
            Some(due) if due > now && self.cool() == due => format!("it cools down for {} more", secs(due - now)),
            Some(due) if due > now => format!("it must be true for {} more", secs(due - now)),
            _ => String::new(),
        }
    }
}
