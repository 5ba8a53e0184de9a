//! Commands to several devices: each part goes its own way, and the whole has one end, with a line for each device.
//!
//! All of one phase: that is the phase of the whole. Else the least certain counts: `unknown` if it is there, for then
//! something may have been executed that nobody knows of; otherwise `failed`, with the counts as its reason (decision 0047).

use super::Effect;
use crate::{
    limits,
    model::{CommandId, DeviceId, Outcome, Phase},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Fans {
    whole: BTreeMap<CommandId, Fan>,
    of: BTreeMap<CommandId, CommandId>,
}

#[derive(Debug)]
struct Fan {
    open: BTreeSet<CommandId>,
    results: BTreeMap<DeviceId, Outcome>,
}

impl Fans {
    /// With those of `parts` that are new. The end, if none is.
    pub fn begin(&mut self, whole: &CommandId, parts: &[(CommandId, DeviceId, bool)]) -> Option<Outcome> {
        let used = |(part, device, is_new): &(CommandId, DeviceId, bool)| (!is_new).then(|| (device.clone(), used(part)));
        let results = parts.iter().filter_map(used).collect();
        let open: BTreeSet<CommandId> = parts.iter().filter(|p| p.2).map(|p| p.0.clone()).collect();
        if open.is_empty() {
            return Some(together(results));
        }
        self.of.extend(open.iter().map(|part| (part.clone(), whole.clone())));
        self.whole.insert(whole.clone(), Fan { open, results });
        None
    }

    /// Those that have not ended, of a whole.
    pub fn open(&self, whole: &CommandId) -> Option<Vec<CommandId>> {
        self.whole.get(whole).map(|fan| fan.open.iter().cloned().collect())
    }

    /// One has ended: a command by itself, or a part and perhaps its whole with it.
    pub fn told(&mut self, id: &CommandId, device: &DeviceId, outcome: Outcome, out: &mut Vec<Effect>) {
        let (id, device) = (id.clone(), device.clone());
        if !self.of.contains_key(&id) {
            return out.push(Effect::Done { id, device, outcome });
        }
        let whole = self.ended(&id, &device, &outcome);
        out.push(Effect::Part { id, device, outcome });
        out.extend(whole.map(|(id, outcome)| Effect::Done { id, device: DeviceId::gateway(), outcome }));
    }

    /// The whole with its end, if that was the last part.
    fn ended(&mut self, part: &CommandId, device: &DeviceId, outcome: &Outcome) -> Option<(CommandId, Outcome)> {
        let whole = self.of.remove(part)?;
        let fan = self.whole.get_mut(&whole)?;
        fan.open.remove(part);
        fan.results.insert(device.clone(), outcome.clone());
        if !fan.open.is_empty() {
            return None;
        }
        let fan = self.whole.remove(&whole)?;
        Some((whole, together(fan.results)))
    }
}

/// Somebody has used the id of a part for a command before: it cannot be told from a repetition, so it is not executed.
pub fn used(part: &CommandId) -> Outcome {
    Outcome::new(Phase::Rejected, format!("the id {part} was used before; send it again under a new id"))
}

/// How a command to several devices ended, by how it ended at each.
pub fn together(results: BTreeMap<DeviceId, Outcome>) -> Outcome {
    use Phase::{Accepted, Confirmed, Expired, Failed, Rejected, Sent, Unknown};
    let count = |phase: Phase| results.values().filter(|o| o.phase == phase).count();
    let counts: Vec<(Phase, usize)> = [Confirmed, Failed, Expired, Rejected, Unknown, Accepted, Sent]
        .into_iter()
        .map(|phase| (phase, count(phase)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let phase = match counts.as_slice() {
        [(phase, _)] => *phase,
        _ if count(Unknown) > 0 => Unknown,
        _ => Failed,
    };
    let told: Vec<String> = counts.iter().map(|(phase, n)| format!("{n} {}", phase.word())).collect();
    let reason = if phase == Confirmed { String::new() } else { told.join(", ") };
    Outcome { results: bounded(results), ..Outcome::new(phase, reason) }
}

/// Values are left out where they would make the event longer than a message may be; reasons are cut.
fn bounded(mut results: BTreeMap<DeviceId, Outcome>) -> BTreeMap<DeviceId, Outcome> {
    const LEFT_OUT: &str = "its values are left out here; they are in the result of its own command, ID@DEVICE";
    let mut bytes = 0;
    for outcome in results.values_mut() {
        let end = outcome.reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= limits::FAN_REASON).last();
        outcome.reason.truncate(end.unwrap_or(0));
        bytes += outcome.values.iter().map(|(point, value)| point.as_str().len() + value.json_len() + 4).sum::<usize>();
        if bytes > limits::FAN_VALUES && !outcome.values.is_empty() {
            outcome.values.clear();
            outcome.reason = if outcome.reason.is_empty() { LEFT_OUT.into() } else { format!("{}; {LEFT_OUT}", outcome.reason) };
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PointId, Value};
    use Phase::{Confirmed, Expired, Failed, Rejected, Unknown};

    #[track_caller]
    fn check(phases: &[Phase], want: (Phase, &str)) {
        let results = phases.iter().enumerate().map(|(n, p)| (DeviceId::parse(&format!("d{n}")).unwrap(), Outcome::new(*p, "so")));
        let whole = together(results.collect());
        assert_eq!((whole.phase, whole.reason.as_str()), want, "{phases:?}");
        assert_eq!(whole.results.values().map(|o| o.phase).collect::<Vec<_>>(), phases);
    }

    #[test]
    fn the_least_certain_decides_and_a_mixture_is_no_success() {
        check(&[Confirmed, Confirmed], (Confirmed, ""));
        check(&[Expired, Expired], (Expired, "2 expired"));
        check(&[Rejected], (Rejected, "1 rejected"));
        check(&[Confirmed, Rejected], (Failed, "1 confirmed, 1 rejected"));
        check(&[Expired, Rejected], (Failed, "1 expired, 1 rejected"));
        check(&[Confirmed, Unknown, Failed], (Unknown, "1 confirmed, 1 failed, 1 unknown"));
    }

    #[test]
    fn the_event_stays_within_a_message_whatever_was_read() {
        let values = |n: usize| (0..n).map(|p| (PointId::parse(&format!("p{p}")).unwrap(), Value::Text("x".repeat(200).into()))).collect();
        let one = |n: usize| {
            let outcome = Outcome::new(Confirmed, "ü".repeat(5_000)).with(values(60));
            (DeviceId::parse(&format!("d{n:03}")).unwrap(), outcome)
        };
        let whole = together((0..limits::FAN_OUT).map(one).collect());
        let kept = whole.results.values().filter(|o| !o.values.is_empty()).count();
        assert!((1..5).contains(&kept), "{kept}");
        let text = serde_json::to_string(&whole).unwrap();
        assert!(text.len() < limits::EVENT_MESSAGE_BYTES, "{}", text.len());
        assert!(whole.results.values().last().unwrap().reason.contains("left out here"));
    }
}
