//! What is unreadable, or comes from a device that is refused: kept with its reason, and told in bounded numbers.
//!
//! A publisher that sends nothing but nonsense must neither wear the card nor flood the cloud: so many rows a minute are
//! stored, the rest is counted; the cloud hears a sum every ten seconds.

use super::Engine;
use crate::{
    limits,
    model::{Boot, DeadLetter, DeviceId, Event, EventKind, Reading, Receipt},
    store::Change,
};
use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// Rows stored in a minute. More are counted only.
const STORED_A_MINUTE: u32 = 100;
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Sources told apart. Messages of further ones are told as `others`.
const SOURCES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Letters {
    minute: Option<(Boot, u32)>,
    told: Option<Boot>,
    untold: BTreeMap<String, (String, u64)>,
}

impl Letters {
    /// Counts one. True if its row is to be stored.
    fn count(&mut self, source: &str, reason: &str, at: Boot) -> bool {
        let fits = self.untold.contains_key(source) || self.untold.len() < SOURCES;
        let entry =
            if fits { self.untold.entry(source.to_owned()).or_default() } else { self.untold.entry("others".to_owned()).or_default() };
        reason.clone_into(&mut entry.0);
        entry.1 += 1;
        let minute = self.minute.get_or_insert((at, 0));
        if at.since(minute.0) >= Duration::from_secs(60) {
            *minute = (at, 0);
        }
        minute.1 += 1;
        minute.1 <= STORED_A_MINUTE
    }

    /// When the cloud is to be told; `None`: there is nothing to tell.
    pub fn due(&self) -> Option<Boot> {
        let told = self.told.map_or(Boot(0), |at| at + TOLD_EVERY);
        (!self.untold.is_empty()).then_some(told)
    }

    fn tell(&mut self, now: Boot) -> Vec<Change> {
        self.told = Some(now);
        let sums = std::mem::take(&mut self.untold).into_iter();
        let events = sums.map(|(source, (reason, count))| EventKind::DeadLetter { source, reason, count });
        events.map(|kind| Change::Event(Event { at: now, kind })).collect()
    }
}

impl Engine {
    /// Stores what was put aside; the receipt, if somebody waits for one, is kept when that is done.
    pub(super) async fn on_dead_letter(&mut self, mut letter: DeadLetter, receipt: Receipt) {
        letter.body.truncate(limits::DEAD_LETTER_BYTES);
        let mut changes = vec![];
        let (source, reason, at) = (letter.source.clone(), letter.reason.clone(), letter.at);
        if self.letters.count(&source, &reason, at) {
            tracing::warn!(%source, topic = %letter.topic, %reason, "message put aside");
            changes.push(Change::DeadLetter(letter));
        }
        let now = self.clock.now();
        if self.letters.due().is_some_and(|due| due <= now) {
            changes.append(&mut self.letters.tell(now));
        }
        self.submit(changes, receipt).await;
    }

    pub(super) async fn tell_dead_letters(&mut self, now: Boot) {
        let changes = self.letters.tell(now);
        self.submit(changes, Receipt::none()).await;
    }

    /// A message of a device that its route refuses.
    pub(super) async fn refuse(&mut self, device: &DeviceId, via: &str, reason: String, readings: &[Reading], at: Boot, receipt: Receipt) {
        let letter = DeadLetter { source: format!("route {via}"), topic: device.to_string(), reason, body: body(readings), at };
        self.on_dead_letter(letter, receipt).await;
    }
}

/// The values, one a line, as far as a dead letter goes.
fn body(readings: &[Reading]) -> Vec<u8> {
    let mut text = String::new();
    for (point, value) in readings.iter().flat_map(|r| r.points.iter().zip(&r.values)) {
        if text.len() >= limits::DEAD_LETTER_BYTES {
            break;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{point} = {value:?}");
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_stored_in_part_and_told_in_sums() {
        let mut letters = Letters::default();
        assert_eq!(letters.due(), None);
        let stored = (0..500).filter(|_| letters.count("mqtt", "no JSON", Boot::from_ms(1000))).count();
        assert_eq!(stored, 100);
        assert_eq!(letters.due(), Some(Boot(0)));
        assert_eq!(letters.tell(Boot::from_ms(2000)).len(), 1);
        assert!(letters.count("mqtt", "no JSON", Boot::from_ms(61_000)));
        assert_eq!(letters.due(), Some(Boot::from_ms(12_000)));
        for n in 0..100 {
            letters.count(&n.to_string(), "x", Boot::from_ms(61_000));
        }
        assert!(letters.tell(Boot::from_ms(62_000)).len() <= SOURCES + 1);
    }
}
