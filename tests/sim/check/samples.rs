//! Promise 1 and promise 4: what the line took and what was acknowledged to a publisher arrives, and nothing else does.

use super::{Figures, messages::Received};
use crate::world::{Log, Name, Taken};
use fieldgate::model::{Settled, Value};
use std::{collections::BTreeMap, time::Duration};

pub fn check(log: &Log, received: &Received, figures: &mut Figures, wrong: &mut Vec<String>) {
    for (name, got) in &received.samples {
        let taken = log.taken.get(name).map(|t| &t.value);
        let is_right = match taken {
            Some(Value::Uint(v)) => got.as_u64() == Some(*v),
            Some(Value::Null) => got.is_null(),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("wrong value at the cloud: {name:?} = {got}, taken {taken:?}"));
        }
    }
    figures.samples = received.samples.len();
    let account = received.account(&log.epochs);
    (figures.arrived, figures.thinned, figures.gapped) = (account.arrived, account.left_out, account.gapped);
    // What was thinned has a number of another life when that is dropped.
    let mut told = account.left_out + account.gapped;
    figures.sealed = log.sealed;
    let lost = may_have_lost(log, received);
    for (name, taken) in &log.taken {
        if received.samples.contains_key(name) {
            figures.publications += usize::from(taken.publication.is_some());
            continue;
        }
        let kept = taken.publication.is_some_and(|id| log.receipts.get(&id) == Some(&Settled::Kept));
        let by_kill = !kept && is_lost_by_kill(log, taken, &lost);
        if !(taken.due || kept) {
            continue;
        }
        if by_kill {
            figures.lost_by_kills += 1;
            continue;
        }
        match told.checked_sub(1) {
            Some(left) => told = left,
            None => missing(log, name, taken, kept, &lost, wrong),
        }
    }
}

fn missing(log: &Log, name: &Name, taken: &Taken, kept: bool, lost: &BTreeMap<usize, Duration>, wrong: &mut Vec<String>) {
    let end = log.ends.get(taken.life).copied();
    let before_end = end.map(|e| e.at - taken.at);
    let told = lost.get(&taken.life);
    let what = if kept { "acknowledged to its publisher" } else { "taken at the door" };
    wrong.push(format!("{name:?} of life {} was {what} and never came: {before_end:?} before {end:?}, {told:?} told", taken.life));
}

/// By life: what the next epoch that spoke said that may be lost of it.
fn may_have_lost(log: &Log, received: &Received) -> BTreeMap<usize, Duration> {
    let next = |life: usize| (life + 1..log.epochs.len()).find_map(|next| received.epoch_event(next));
    let told = (0..log.ends.len()).filter_map(|life| Some((life, next(life)?["may_have_lost_ms"].as_u64()?)));
    told.map(|(life, ms)| (life, Duration::from_millis(ms))).collect()
}

/// From the door through the engine's turn to the writer's: even with a window of 0 a value is in RAM for a moment.
const MOMENT: Duration = Duration::from_millis(25);

fn is_lost_by_kill(log: &Log, taken: &Taken, lost: &BTreeMap<usize, Duration>) -> bool {
    let (Some(end), Some(told)) = (log.ends.get(taken.life), lost.get(&taken.life)) else { return false };
    // A file that takes no writes cannot keep the promise; what was young when it began to fail is lost, too.
    let from = end.spool_full_since.unwrap_or(end.at).saturating_sub(*told + MOMENT);
    (!end.clean || end.spool_full_since.is_some()) && taken.at >= from
}
