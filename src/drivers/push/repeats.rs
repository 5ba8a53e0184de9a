//! Which messages came before: a device that got no answer sends the same again, and it must count once. Pure.
//!
//! The same is the same number with the same content. A device that restarted and counts from 1 again sends other content
//! under an old number, and that is news.

use crate::{limits, model::DeviceId};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

#[derive(Debug, Default)]
pub struct Repeats {
    devices: BTreeMap<DeviceId, VecDeque<(Mark, bool)>>,
}

/// A number and what it stood for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    seq: u64,
    content: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    New,
    /// The same is being stored.
    Underway,
    /// The same is durable.
    Kept,
}

impl Mark {
    pub fn of(seq: u64, body: &[u8]) -> Mark {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Mark { seq, content: hasher.finish() }
    }
}

impl Repeats {
    /// Whether it came before. A new one is under way from now on.
    pub fn begin(&mut self, device: &DeviceId, mark: Mark) -> Came {
        if self.devices.len() >= limits::API_DEVICES && !self.devices.contains_key(device) {
            self.devices.clear();
        }
        let marks = self.devices.entry(device.clone()).or_default();
        match marks.iter().find(|(m, _)| *m == mark) {
            Some((_, true)) => Came::Kept,
            Some((_, false)) => Came::Underway,
            None => {
                if marks.len() >= limits::API_REPEATS {
                    marks.pop_front();
                }
                marks.push_back((mark, false));
                Came::New
            }
        }
    }

    /// It is durable, or must be taken again when it comes again.
    pub fn end(&mut self, device: &DeviceId, mark: Mark, kept: bool) {
        let Some(marks) = self.devices.get_mut(device) else { return };
        match (marks.iter().position(|(m, _)| *m == mark), kept) {
            (Some(at), true) => marks[at].1 = true,
            (Some(at), false) => drop(marks.remove(at)),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_with_the_same_content_counts_once() {
        let (mut repeats, pump) = (Repeats::default(), DeviceId::parse("pump").unwrap());
        let (first, other) = (Mark::of(1, b"a"), Mark::of(1, b"b"));
        assert_eq!(repeats.begin(&pump, first), Came::New);
        assert_eq!(repeats.begin(&pump, first), Came::Underway);
        repeats.end(&pump, first, true);
        assert_eq!(repeats.begin(&pump, first), Came::Kept);
        assert_eq!(repeats.begin(&pump, other), Came::New, "it restarted and counts anew");
        repeats.end(&pump, other, false);
        assert_eq!(repeats.begin(&pump, other), Came::New, "it was not kept, so it must be sent again");
        assert_eq!(repeats.begin(&DeviceId::parse("valve").unwrap(), first), Came::New);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut repeats = Repeats::default();
        for n in 0..limits::API_DEVICES + 10 {
            let device = DeviceId::parse(&format!("d{n}")).unwrap();
            for seq in 0..40 {
                repeats.begin(&device, Mark::of(seq, b""));
            }
            assert_eq!(repeats.devices[&device].len(), limits::API_REPEATS);
        }
        assert!(repeats.devices.len() <= limits::API_DEVICES);
    }
}
