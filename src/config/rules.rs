//! `[rule.*]`: what is watched, and what follows.

use crate::model::{Condition, Pace, PointRef, RuleAction, RuleId};

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: RuleId,
    pub when: Condition,
    /// While this is true the condition is not.
    pub unless: Option<Condition>,
    pub pace: Pace,
    /// In the order in which they are written.
    pub actions: Vec<RuleAction>,
}

impl Rule {
    /// All that it looks at.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        [&self.when].into_iter().chain(&self.unless)
    }

    pub fn points(&self) -> impl Iterator<Item = &PointRef> {
        self.conditions().flat_map(|c| &c.tests).flat_map(crate::model::Test::points)
    }
}
