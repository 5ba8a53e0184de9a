//! The demo's four acts as data: when the cable is pulled and plugged, when a meter loses its power, when the cloud
//! sends a command, and what is said meanwhile. Pure.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue {
    PullCable,
    PlugCable,
    KillMeter,
    SendCommand,
    End,
}

#[derive(Debug, Clone)]
pub struct Script {
    cues: Vec<(Duration, Cue)>,
    next: usize,
}

/// The outage of the full demo.
pub const OUTAGE: Duration = Duration::from_secs(20);

impl Script {
    /// Spread over `length`; the outage is 20 s where that leaves time for the rest, else a third of it.
    /// Without an end (`--serve`) the last cue is the command.
    pub fn new(length: Duration, ends: bool) -> Script {
        let outage = OUTAGE.min(length / 3);
        let rest = length.saturating_sub(outage);
        let pull = rest * 3 / 8;
        let plug = pull + outage;
        let tail = length.saturating_sub(plug);
        let mut cues =
            vec![(pull, Cue::PullCable), (plug, Cue::PlugCable), (plug + tail / 4, Cue::KillMeter), (plug + tail / 2, Cue::SendCommand)];
        if ends {
            cues.push((length, Cue::End));
        }
        Script { cues, next: 0 }
    }

    /// The cue that is due, each once, in order.
    pub fn due(&mut self, elapsed: Duration) -> Option<Cue> {
        let (at, cue) = *self.cues.get(self.next)?;
        (elapsed >= at).then(|| {
            self.next += 1;
            cue
        })
    }

    /// A key press took a cue's place: it does not come again.
    pub fn skip(&mut self, done: Cue) {
        if self.cues.get(self.next).is_some_and(|(_, cue)| *cue == done) {
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_an_outage_of_twenty_seconds_and_every_cue_once() {
        let mut s = Script::new(Duration::from_secs(60), true);
        let mut seen = Vec::new();
        for t in 0..=60 {
            while let Some(cue) = s.due(Duration::from_secs(t)) {
                seen.push((t, cue));
            }
        }
        assert_eq!(seen, [(15, Cue::PullCable), (35, Cue::PlugCable), (42, Cue::KillMeter), (48, Cue::SendCommand), (60, Cue::End)]);
    }
}
