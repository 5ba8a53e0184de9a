//! The last so many minutes of a point in a fixed number of parts: mean, spread and the oldest value, in bounded memory.

use crate::{limits, model::Boot};
use std::{collections::VecDeque, time::Duration};

#[derive(Debug)]
pub struct Ring {
    span: Duration,
    /// Microseconds.
    part: u64,
    parts: VecDeque<Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    index: u64,
    spread: Spread,
    first: (Boot, f64),
}

/// Count, mean and the sum of squared distances from it: exact also where a mean is large beside its spread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    pub n: u64,
    pub mean: f64,
    m2: f64,
}

impl Spread {
    #[allow(clippy::cast_precision_loss)] // counts of samples
    fn and(self, other: Spread) -> Spread {
        if self.n == 0 || other.n == 0 {
            return if self.n == 0 { other } else { self };
        }
        let n = self.n + other.n;
        let (a, b, all) = (self.n as f64, other.n as f64, n as f64);
        let delta = other.mean - self.mean;
        Spread { n, mean: self.mean + delta * b / all, m2: self.m2 + other.m2 + delta * delta * a * b / all }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn deviation(&self) -> f64 {
        if self.n < 2 { 0.0 } else { (self.m2 / (self.n - 1) as f64).sqrt() }
    }
}

impl Ring {
    pub fn new(span: Duration) -> Ring {
        let part = u64::try_from(span.as_micros()).unwrap_or(u64::MAX) / limits::ANALYTICS_PARTS;
        Ring { span, part: part.max(1), parts: VecDeque::new() }
    }

    /// One part of its time.
    pub const fn part(&self) -> Duration {
        Duration::from_micros(self.part)
    }

    /// Forgets what is over by then.
    pub fn turn(&mut self, at: Boot) {
        let index = self.index(at);
        while self.parts.front().is_some_and(|p| p.index + limits::ANALYTICS_PARTS <= index) {
            self.parts.pop_front();
        }
    }

    /// What comes late counts as now.
    fn index(&self, at: Boot) -> u64 {
        (at.0 / self.part).max(self.parts.back().map_or(0, |p| p.index))
    }

    pub fn push(&mut self, at: Boot, value: f64) {
        self.turn(at);
        let index = self.index(at);
        let one = Spread { n: 1, mean: value, m2: 0.0 };
        match self.parts.back_mut().filter(|p| p.index == index) {
            Some(part) => part.spread = part.spread.and(one),
            None => self.parts.push_back(Part { index, spread: one, first: (at, value) }),
        }
    }

    pub fn spread(&self) -> Spread {
        self.parts.iter().fold(Spread::default(), |all, p| all.and(p.spread))
    }

    /// How much the value changes within its time. `None`: less than half of that is known.
    pub fn rate(&self, at: Boot, value: f64) -> Option<f64> {
        let (since, before) = self.parts.front()?.first;
        let over = at.since(since);
        (over * 2 >= self.span).then(|| (value - before) * (self.span.as_secs_f64() / over.as_secs_f64()))
    }

    /// How many deviations it is from what was usual before it. `None`: too little is known, or nothing ever differed.
    pub fn z_score(&self, value: f64) -> Option<f64> {
        let usual = self.spread();
        let deviation = usual.deviation();
        if usual.n < limits::ANALYTICS_USUAL {
            return None;
        }
        if deviation > 0.0 {
            return Some((value - usual.mean) / deviation);
        }
        (value == usual.mean).then_some(0.0)
    }
}
