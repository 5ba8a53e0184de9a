//! What is computed of a point: figures of windows, and figures that move with every sample.

use super::{PointId, PointRef};
use std::time::Duration;

/// What a window may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    Min,
    Max,
    Mean,
    Last,
    Count,
}

impl Figure {
    pub const ALL: [Figure; 5] = [Figure::Min, Figure::Max, Figure::Mean, Figure::Last, Figure::Count];

    pub const fn word(self) -> &'static str {
        match self {
            Figure::Min => "min",
            Figure::Max => "max",
            Figure::Mean => "mean",
            Figure::Last => "last",
            Figure::Count => "count",
        }
    }
}

/// What is computed of one point. Each figure is a point of the same device, `POINT.FIGURE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    pub id: String,
    pub of: PointRef,
    /// One after the other, without gaps between them.
    pub window: Option<Duration>,
    /// What is told of a window.
    pub figures: Vec<Figure>,
    /// The windows go upstream instead of the samples.
    pub replace: bool,
    pub moving_mean: Option<Duration>,
    /// The change within this time.
    pub rate: Option<Duration>,
    /// How many standard deviations a value is from the mean of this time before it.
    pub z_score: Option<Duration>,
    /// Without a change for so long, it is stuck.
    pub stuck_after: Option<Duration>,
    pub above: Option<f64>,
    pub below: Option<f64>,
    /// By so much a value must come back before it is not above or below any more.
    pub hysteresis: f64,
}

impl Analysis {
    /// The points that it makes.
    pub fn made(&self) -> impl Iterator<Item = PointId> + '_ {
        self.names().filter_map(|name| self.point(name))
    }

    /// Those of every sample, in this order.
    pub fn moving(&self) -> impl Iterator<Item = &'static str> + '_ {
        let all = [
            (self.moving_mean.is_some(), "moving_mean"),
            (self.rate.is_some(), "rate"),
            (self.z_score.is_some(), "z_score"),
            (self.stuck_after.is_some(), "stuck"),
            (self.above.is_some(), "above"),
            (self.below.is_some(), "below"),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name)
    }

    /// The point of that figure. `None`: its name would be too long.
    pub fn point(&self, name: &str) -> Option<PointId> {
        PointId::parse(&format!("{}.{name}", self.of.point)).ok()
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.window.iter().flat_map(|_| &self.figures).map(|f| f.word()).chain(self.moving())
    }
}
