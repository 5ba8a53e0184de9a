//! `[schedule.NAME]`: what is written at its time.

use crate::model::{self, ScheduleId};

#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub id: ScheduleId,
    pub is: model::Schedule,
    /// At first; whoever disables it while it runs is remembered.
    pub enabled: bool,
}
