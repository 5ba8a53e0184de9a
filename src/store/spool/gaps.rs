//! Data that will never come: collected until state.db has taken the event.

use crate::model::{Boot, Epoch, Event, EventKind, Replaced, Stream, UplinkId};
use std::{borrow::Cow, collections::BTreeSet, ops::RangeInclusive};

#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    pub epoch: Epoch,
    pub from: u64,
    pub to: u64,
    pub samples: u64,
    pub reason: Cow<'static, str>,
    /// `None`: of all uplinks.
    pub uplink: Option<UplinkId>,
    pub replaced_by: Option<Replaced>,
}

impl Gap {
    pub const RAM: Cow<'static, str> = Cow::Borrowed("the disk could not be written and the buffer in RAM was full");
    pub const VOID: Cow<'static, str> = Cow::Borrowed("thinning did not come to its end: nothing was ever sent under these numbers");
    pub const HAD: Cow<'static, str> = Cow::Borrowed("thinned for other uplinks: this one has what these stand for");
    pub const DAMAGED: Cow<'static, str> = Cow::Borrowed("damaged on the disk");
    pub const UNKNOWN: Cow<'static, str> = Cow::Borrowed("damaged on the disk; how many samples these numbers held is not known");

    pub fn event(self, at: Boot) -> Event {
        let Gap { epoch, from, to, samples, reason, uplink, replaced_by } = self;
        Event {
            at,
            kind: EventKind::Gap { epoch, stream: Stream::Telemetry, from, to, samples, reason: reason.into_owned(), uplink, replaced_by },
        }
    }
}

/// Neighbours become one, also those that the same numbers stand for. Bounded by that: only the oldest unsaved batches are dropped, one after the other.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Gap>);

impl Gaps {
    pub fn owe(&mut self, gap: Gap) {
        match self.0.last_mut() {
            Some(last)
                if last.epoch == gap.epoch
                    && last.to + 1 == gap.from
                    && last.reason == gap.reason
                    && last.uplink == gap.uplink
                    && last.replaced_by == gap.replaced_by =>
            {
                last.to = gap.to;
                last.samples += gap.samples;
            }
            _ => self.0.push(gap),
        }
    }

    pub fn owes(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn take(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.0)
    }

    /// The event could not be written: it is still owed, before all newer ones.
    pub fn give_back(&mut self, mut gaps: Vec<Gap>) {
        gaps.append(&mut self.0);
        gaps.into_iter().for_each(|gap| self.owe(gap));
    }
}

/// The numbers of a range that are not delivered, as gaps. The samples are given to the first, as they are known only
/// together.
pub fn ranges(epoch: Epoch, all: RangeInclusive<u64>, delivered: &BTreeSet<u64>, samples: u64, reason: Cow<'static, str>) -> Vec<Gap> {
    let mut gaps = Gaps::default();
    let mut samples = samples;
    for seq in all.filter(|seq| !delivered.contains(seq)) {
        gaps.owe(Gap {
            epoch,
            from: seq,
            to: seq,
            samples: std::mem::take(&mut samples),
            reason: reason.clone(),
            uplink: None,
            replaced_by: None,
        });
    }
    gaps.take()
}
