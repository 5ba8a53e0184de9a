//! After everything has healed: does what the cloud got agree with what really happened?

mod alive;
mod commands;
mod firings;
mod messages;
mod runs;
mod samples;
mod status;

use crate::{plan::Plan, world::Log};
use messages::Received;
use std::fmt;

/// How much a simulation was about; printed for each seed, so that an empty one is seen.
#[derive(Debug, Default, Clone, Copy)]
pub struct Figures {
    pub lives: usize,
    pub samples: usize,
    pub lost_by_kills: usize,
    /// By the last life.
    pub sealed: u64,
    /// That messages stand for, with those that thinning left out.
    pub arrived: u64,
    pub thinned: u64,
    pub gapped: u64,
    pub publications: usize,
    pub messages: usize,
    pub repeated: usize,
    pub status: usize,
    pub commands: usize,
    pub written: usize,
    pub firings: usize,
    pub runs: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { lives, samples, lost_by_kills, thinned, gapped, publications, messages, .. } = self;
        let Figures { repeated, status, commands, written, firings, runs, .. } = self;
        write!(
            f,
            "{lives} lives, {messages} messages ({repeated} again), {samples} samples ({lost_by_kills} lost by kills, {thinned} thinned, {gapped} in gaps), "
        )?;
        write!(f, "{publications} publications, {status} changes of status, {commands} commands ({written} written)")?;
        if firings + runs > 0 { write!(f, ", {firings} firings of rules, {runs} runs of schedules") } else { Ok(()) }
    }
}

pub fn all(plan: &Plan, log: &mut Log) -> Figures {
    let mut wrong = Vec::new();
    let received = Received::read(log, &mut wrong);
    let mut figures = Figures { lives: log.ends.len(), messages: log.arrivals.len(), ..Figures::default() };
    messages::check(plan, log, &received, &mut figures, &mut wrong);
    samples::check(log, &received, &mut figures, &mut wrong);
    status::check(plan, log, &received, &mut figures, &mut wrong);
    commands::check(plan, log, &received, &mut figures, &mut wrong);
    if plan.brain.is_some() {
        alive::check(plan, log, &received, &mut wrong);
        firings::check(plan, log, &received, &mut figures, &mut wrong);
        runs::check(plan, log, &received, &mut figures, &mut wrong);
    }
    log.violations.append(&mut wrong);
    figures
}
