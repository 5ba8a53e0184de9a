//! Collects readings until they are worth a message: for `linger` since the first was read, up to a number of samples and an
//! estimated size. What has waited on its way here waits a quarter of that at least: others may be on theirs. Where many
//! wait for an acknowledgement already, a twentieth of that is enough.
//!
//! Readings of one device with the same points become rows of one frame. What was handed in together (one reading, or
//! all of one publication with its receipt) is never split over two messages: if it does not fit any more, what is there
//! goes first; if it is bigger than a message, it travels alone.
//! Absent on purpose: numbers and epochs; the spool gives them.

use crate::{
    limits,
    model::{Boot, DeviceId, Frame, PointId, Quality, Reading, Receipt, Row, Value},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// So many publishers who wait for an acknowledgement are company enough: a message of its own costs each of them little.
const COMPANY: usize = 32;
/// Room that is made for the next message at once, if this one has as much in it.
const LIKELY: usize = 128;

/// What goes into one message.
#[derive(Debug, Default)]
pub struct Full {
    pub frames: Vec<Frame>,
    pub receipts: Vec<Receipt>,
}

#[derive(Debug)]
pub struct Batch {
    linger: Duration,
    /// The same where somebody waits for the acknowledgement.
    answer_within: Duration,
    frames: Vec<Frame>,
    /// Where the newest frame of a device is, and for each frame where the one before it of the same device is.
    newest: HashMap<DeviceId, usize>,
    before: Vec<Option<usize>>,
    receipts: Vec<Receipt>,
    samples: usize,
    bytes: usize,
    since: Option<Boot>,
    /// When the first one came who waits for the acknowledgement.
    asked_since: Option<Boot>,
    complete: bool,
}

impl Batch {
    pub fn new(linger: Duration) -> Batch {
        Batch {
            linger,
            answer_within: linger,
            frames: vec![],
            newest: HashMap::new(),
            before: vec![],
            receipts: vec![],
            samples: 0,
            bytes: 0,
            since: None,
            asked_since: None,
            complete: false,
        }
    }

    /// A long linger (a metered link) must not make a publisher wait for its acknowledgement.
    pub fn answering_within(self, limit: Duration) -> Batch {
        Batch { answer_within: limit.min(self.linger), ..self }
    }

    /// Adds one reading; a batch that became full by it, or that had to go first, comes out.
    pub fn push(&mut self, now: Boot, reading: Reading, out: &mut Vec<Full>) {
        self.add(now, reading, out);
        self.close_if_full(out);
    }

    /// Adds readings that came together, under the receipt that waits for them.
    pub fn push_all(&mut self, now: Boot, readings: Vec<Reading>, receipt: Receipt, out: &mut Vec<Full>) {
        if let [_, _, ..] = readings.as_slice() {
            let samples = readings.iter().map(|r| r.values.len()).sum();
            let bytes = readings.iter().map(|r| cost(r, self.frame_of(&r.device, &r.points).is_none())).sum();
            self.make_room(samples, bytes, out);
            for reading in readings {
                let place = self.frame_of(&reading.device, &reading.points);
                self.put(now, reading, place);
            }
        } else {
            readings.into_iter().for_each(|reading| self.add(now, reading, out));
        }
        if receipt.is_awaited() {
            self.asked_since.get_or_insert(now);
            self.receipts.push(receipt);
        }
        self.close_if_full(out);
    }

    fn add(&mut self, now: Boot, reading: Reading, out: &mut Vec<Full>) {
        let place = self.frame_of(&reading.device, &reading.points);
        let is_there = !self.make_room(reading.values.len(), cost(&reading, place.is_none()), out);
        self.put(now, reading, place.filter(|_| is_there));
    }

    /// When [`Batch::take`] is due.
    pub fn due(&self) -> Option<Boot> {
        let within = match self.complete {
            _ if self.receipts.len() < COMPANY => self.answer_within,
            true => Duration::ZERO,
            false => self.answer_within / 50,
        };
        let waits = self.asked_since.map(|at| at + within);
        self.since.map(|at| at + self.linger).map(|at| waits.map_or(at, |w| w.min(at)))
    }

    /// Nobody else is on the way: company that is enough waits for no more.
    pub fn complete(&mut self) {
        self.complete = self.since.is_some();
    }

    /// What has come together so far.
    pub fn take(&mut self) -> Option<Full> {
        self.since.take()?;
        (self.asked_since, self.complete) = (None, false);
        self.newest.clear();
        self.before.clear();
        (self.samples, self.bytes) = (0, 0);
        Some(Full { frames: taken(&mut self.frames), receipts: taken(&mut self.receipts) })
    }

    /// Whether what was there had to go.
    fn make_room(&mut self, samples: usize, bytes: usize, out: &mut Vec<Full>) -> bool {
        let has_room = self.samples + samples <= limits::BATCH_SAMPLES && self.bytes + bytes <= limits::MESSAGE_BYTES;
        if !has_room {
            out.extend(self.take());
        }
        !has_room
    }

    fn close_if_full(&mut self, out: &mut Vec<Full>) {
        if self.samples >= limits::BATCH_SAMPLES || self.bytes >= limits::MESSAGE_BYTES {
            out.extend(self.take());
        }
    }

    fn put(&mut self, now: Boot, reading: Reading, place: Option<usize>) {
        self.bytes += cost(&reading, place.is_none());
        self.samples += reading.values.len();
        self.since.get_or_insert_with(|| reading.at.max(now.saturating_sub(self.linger * 3 / 4)));
        match place {
            Some(n) => self.frames[n].rows.push(Row { at: reading.at, values: reading.values, quality: reading.quality }),
            None => {
                self.before.push(self.newest.insert(reading.device.clone(), self.frames.len()));
                self.frames.push(Frame::from(reading));
            }
        }
    }

    fn frame_of(&self, device: &DeviceId, points: &Arc<[PointId]>) -> Option<usize> {
        let newest = self.newest.get(device).copied();
        let mut frames = std::iter::successors(newest, |n| self.before[*n]);
        let by_place = frames.clone().find(|n| Arc::ptr_eq(&self.frames[*n].points, points));
        by_place.or_else(|| frames.find(|n| self.frames[*n].points == *points))
    }
}

/// What is in it; what comes next is likely to be as many.
fn taken<T>(all: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(all.len().min(LIKELY));
    std::mem::replace(all, next)
}

/// Bytes that the reading adds to a message, on the safe side: the native dialect's JSON is the longest form. `begins`: it
/// has a frame of its own.
fn cost(reading: &Reading, begins: bool) -> usize {
    let row: usize = reading.values.iter().map(Value::json_len).sum::<usize>() + 12;
    let quality = reading.quality.as_ref().map_or(0, |q| q.iter().filter(|q| **q != Quality::Good).count() * 16);
    let names = || reading.points.iter().map(|p| p.as_str().len() + 8).sum::<usize>() + reading.device.as_str().len() + 64;
    row + quality + if begins { names() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(device: &str, points: usize) -> (DeviceId, Arc<[PointId]>) {
        (DeviceId::parse(device).unwrap(), (0..points).map(|n| PointId::parse(&format!("p{n}")).unwrap()).collect())
    }

    fn reading(of: &(DeviceId, Arc<[PointId]>), at: u64) -> Reading {
        let values = vec![Value::Uint(at); of.1.len()];
        Reading { device: of.0.clone(), at: Boot::from_ms(at), points: Arc::clone(&of.1), values, quality: None }
    }

    /// Readings as (device, points, at): the frames as (device, points, rows), one line per sealed batch and the rest last.
    #[track_caller]
    fn check(readings: &[(&str, usize, u64)], want: &[&[(&str, usize, usize)]]) {
        let (mut batch, mut out) = (Batch::new(Duration::from_millis(50)), vec![]);
        for (device, points, at) in readings {
            batch.push(Boot::from_ms(*at), reading(&names(device, *points), *at), &mut out);
        }
        out.extend(batch.take());
        let got: Vec<Vec<(&str, usize, usize)>> =
            out.iter().map(|b| b.frames.iter().map(|f| (f.device.as_str(), f.points.len(), f.rows.len())).collect()).collect();
        assert_eq!(got, want, "{readings:?}");
    }

    #[test]
    fn readings_of_one_device_with_the_same_points_share_a_frame() {
        check(&[], &[]);
        check(&[("a", 2, 1), ("b", 2, 2), ("a", 2, 3), ("a", 3, 4)], &[&[("a", 2, 2), ("b", 2, 1), ("a", 3, 1)]]);
    }

    #[test]
    fn a_batch_is_sealed_before_it_grows_past_a_message() {
        let many = limits::BATCH_SAMPLES;
        check(&[("a", many, 1), ("a", 1, 2)], &[&[("a", many, 1)], &[("a", 1, 1)]]);
        check(&[("a", 1, 1), ("b", many, 2), ("a", 1, 3)], &[&[("a", 1, 1)], &[("b", many, 1)], &[("a", 1, 1)]]);
        check(&[("a", many * 2, 1)], &[&[("a", many * 2, 1)]]);
        check(&[("a", many - 1, 1), ("b", 1, 2), ("b", 1, 3)], &[&[("a", many - 1, 1), ("b", 1, 1)], &[("b", 1, 1)]]);
    }

    #[test]
    fn it_waits_for_company_from_the_first_reading_on() {
        let (mut batch, mut out) = (Batch::new(Duration::from_millis(50)), vec![]);
        assert_eq!(batch.due(), None);
        batch.push(Boot::from_ms(10), reading(&names("a", 1), 10), &mut out);
        batch.push(Boot::from_ms(30), reading(&names("a", 1), 30), &mut out);
        assert_eq!(batch.due(), Some(Boot::from_ms(60)));
        assert!(batch.take().is_some());
        assert_eq!(batch.due(), None);
        assert!(batch.take().is_none());
    }

    #[test]
    fn what_has_waited_on_its_way_waits_less_for_company() {
        let (mut batch, mut out) = (Batch::new(Duration::from_millis(100)), vec![]);
        batch.push(Boot::from_ms(1030), reading(&names("a", 1), 1000), &mut out);
        assert_eq!(batch.due(), Some(Boot::from_ms(1100)));
        batch.take();
        // Held up for long, by a full door or a suspended machine: what comes behind it goes along all the same.
        batch.push(Boot::from_ms(9000), reading(&names("a", 1), 1000), &mut out);
        assert_eq!(batch.due(), Some(Boot::from_ms(9025)));
    }

    #[test]
    fn who_waits_for_an_acknowledgement_does_not_wait_for_company() {
        let mut out = vec![];
        let mut batch = Batch::new(Duration::from_secs(10)).answering_within(Duration::from_millis(100));
        let tell: Arc<dyn Fn(u64, crate::model::Settled) + Send + Sync> = Arc::new(|_, _| {});
        batch.push(Boot::from_ms(10), reading(&names("a", 1), 10), &mut out);
        batch.push_all(Boot::from_ms(20), vec![reading(&names("a", 1), 20)], Receipt::none(), &mut out);
        assert_eq!(batch.due(), Some(Boot::from_ms(10_010)));
        batch.push_all(Boot::from_ms(30), vec![reading(&names("a", 1), 30)], Receipt::new(1, Arc::clone(&tell)), &mut out);
        batch.push_all(Boot::from_ms(90), vec![reading(&names("a", 1), 90)], Receipt::new(2, tell), &mut out);
        assert_eq!(batch.due(), Some(Boot::from_ms(130)));
        batch.take();
        batch.push(Boot::from_ms(200), reading(&names("a", 1), 200), &mut out);
        assert_eq!(batch.due(), Some(Boot::from_ms(10_200)));
    }

    #[test]
    fn many_who_wait_for_an_acknowledgement_wait_for_no_more_company() {
        let tell: Arc<dyn Fn(u64, crate::model::Settled) + Send + Sync> = Arc::new(|_, _| {});
        let (mut batch, mut out) = (Batch::new(Duration::from_millis(50)).answering_within(Duration::from_millis(100)), vec![]);
        for n in 1..=COMPANY {
            assert_eq!(batch.due(), (n > 1).then_some(Boot::from_ms(150)), "{n}");
            batch.push_all(Boot::from_ms(100), vec![reading(&names("a", 1), 100)], Receipt::new(1, Arc::clone(&tell)), &mut out);
        }
        assert_eq!(batch.due(), Some(Boot::from_ms(101)));
        batch.complete();
        assert_eq!(batch.due(), Some(Boot::from_ms(100)), "nobody else is on the way");
        assert_eq!(batch.take().map(|full| full.receipts.len()), Some(COMPANY));
        assert_eq!(batch.due(), None);
        batch.complete();
        batch.push_all(Boot::from_ms(200), vec![reading(&names("a", 1), 200)], Receipt::new(1, Arc::clone(&tell)), &mut out);
        batch.complete();
        assert_eq!(batch.due(), Some(Boot::from_ms(250)), "for a few, others are waited for");
    }

    #[test]
    fn what_came_under_one_receipt_stays_together() {
        let (mut batch, mut out) = (Batch::new(Duration::ZERO), vec![]);
        let big = names("a", limits::BATCH_SAMPLES - 1);
        batch.push(Boot(0), reading(&big, 1), &mut out);
        let tell: Arc<dyn Fn(u64, crate::model::Settled) + Send + Sync> = Arc::new(|_, _| {});
        batch.push_all(Boot(0), vec![reading(&names("b", 1), 2), reading(&names("b", 2), 3)], Receipt::new(1, tell), &mut out);
        out.extend(batch.take());
        assert_eq!(out.iter().map(|b| (b.frames.len(), b.receipts.len())).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
    }

    proptest! {
        /// Nothing is lost, doubled or reordered within a device, and no batch is too big unless one reading is.
        #[test]
        fn every_reading_comes_out_once_and_in_order(sizes in proptest::collection::vec((0u8..4, 1usize..3000), 1..60)) {
            let (mut batch, mut out) = (Batch::new(Duration::from_millis(50)), vec![]);
            for (at, (device, points)) in sizes.iter().enumerate() {
                batch.push(Boot(0), reading(&names(&format!("d{device}"), *points), at as u64), &mut out);
            }
            out.extend(batch.take());
            let mut seen = vec![];
            for full in &out {
                let samples: usize = full.frames.iter().map(|f| f.points.len() * f.rows.len()).sum();
                let rows: usize = full.frames.iter().map(|f| f.rows.len()).sum();
                prop_assert!(samples <= limits::BATCH_SAMPLES || rows == 1);
                for frame in &full.frames {
                    prop_assert!(frame.rows.windows(2).all(|w| w[0].at < w[1].at));
                    for row in &frame.rows {
                        prop_assert_eq!(row.values.len(), frame.points.len());
                        seen.push((row.at.ms(), frame.device.as_str().to_owned(), frame.points.len()));
                    }
                }
            }
            seen.sort();
            let want: Vec<_> = sizes.iter().enumerate().map(|(at, (d, n))| (at as u64, format!("d{d}"), *n)).collect();
            prop_assert_eq!(seen, want);
        }

        #[test]
        fn the_estimate_of_digits_is_never_too_low(v in any::<u64>()) {
            prop_assert!(Value::Uint(v).json_len() > v.to_string().len());
        }
    }
}
