//! The tap that `fieldgate trace` opens: one value followed from the frame on the bus to the cloud's acknowledgement.
//!
//! Line, engine and uplink each say what they did with a value while somebody looks. Nobody looking costs them one relaxed
//! load; nothing is formatted, locked or allocated. One tap per process, because a process is one gateway: handing it
//! through every constructor would be plumbing without a second user.
//!
//! ```text
//! asked ─► answered ─► decoded ─► reported ─► sealed ─► sent ─► acknowledged
//!             └ silent, garbled, refused    └ kept back: begins again with the next reading
//! ```
//! Invariant: the steps of a trace are of one reading, recognised by its device and its moment.

use crate::{
    limits,
    model::{Boot, DeviceId, Frame, Key, PointId, Reading},
};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::Notify;

pub static TAP: Tap = Tap::new();

/// One thing that was done with the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub step: &'static str,
    pub at: Boot,
    pub detail: String,
    pub bytes: Vec<u8>,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// For the next poll, or message.
    Waiting,
    /// The field did not answer with a value.
    NoAnswer,
    /// Read at this moment.
    Read(Boot),
    Sealed(Boot),
    Sent(Key),
    Acknowledged,
}

#[derive(Debug, Clone)]
pub struct Trace {
    id: u64,
    device: DeviceId,
    point: PointId,
    pub stage: Stage,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub struct Tap {
    open: AtomicUsize,
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    traces: Vec<Trace>,
}

impl Tap {
    const fn new() -> Tap {
        Tap { open: AtomicUsize::new(0), inner: Mutex::new(Inner { next: 0, traces: Vec::new() }), news: Notify::const_new() }
    }

    /// Whether anybody looks.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one push: a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to look; `None`: too many do already. Look no longer when the result is dropped.
    pub fn watch(&'static self, device: DeviceId, point: PointId) -> Option<Watch> {
        let mut inner = self.lock();
        if inner.traces.len() >= limits::TRACES {
            return None;
        }
        inner.next += 1;
        let id = inner.next;
        inner.traces.push(Trace { id, device, point, stage: Stage::Waiting, steps: Vec::new() });
        self.open.store(inner.traces.len(), Relaxed);
        Some(Watch { tap: self, id })
    }

    fn each(&self, of: impl Fn(&Trace) -> bool, mut change: impl FnMut(&mut Trace)) {
        let mut inner = self.lock();
        let mut changed = false;
        for trace in inner.traces.iter_mut().filter(|t| of(t)) {
            change(trace);
            let over = trace.steps.len().saturating_sub(limits::TRACE_STEPS);
            trace.steps.drain(..over);
            changed = true;
        }
        drop(inner);
        if changed {
            self.news.notify_waiters();
        }
    }

    /// A line has asked for these points, and this came of it. `read`: a valid reply with data.
    pub fn polled(&self, device: &DeviceId, points: &[PointId], asked: Step, came: Step, read: bool) {
        let mine = |t: &Trace| t.device == *device && points.contains(&t.point) && matches!(t.stage, Stage::Waiting | Stage::NoAnswer);
        self.each(mine, |t| {
            t.stage = if read { Stage::Read(came.at) } else { Stage::NoAnswer };
            t.steps = vec![asked.clone(), came.clone()];
        });
    }

    /// The engine has a reading: `words` says the value of a point in it, and what is done with it.
    pub fn reading(&self, reading: &Reading, now: Boot, words: impl Fn(&PointId, usize) -> (String, Result<String, String>)) {
        let mine = |t: &Trace| t.device == reading.device && matches!(t.stage, Stage::Waiting | Stage::NoAnswer | Stage::Read(_));
        self.each(mine, |t| {
            let Some(n) = reading.points.iter().position(|p| *p == t.point) else { return };
            match t.stage {
                Stage::Read(at) if at != reading.at => return,
                Stage::Read(_) => {}
                // It came by itself: a local publisher's.
                _ => t.steps = vec![Step { step: "received", at: reading.at, detail: "a message on local MQTT".into(), bytes: vec![] }],
            }
            let (decoded, report) = words(&t.point, n);
            t.step("decoded", now, decoded);
            match report {
                Ok(why) => {
                    t.step("reported", now, why);
                    t.stage = Stage::Read(reading.at);
                }
                Err(why) => {
                    t.step("kept back", now, why);
                    t.stage = Stage::Waiting;
                }
            }
        });
    }

    /// The spool has taken a batch under this number.
    pub fn sealed(&self, frames: &[Frame], seq: u64, now: Boot) {
        self.each(
            |t| matches!(t.stage, Stage::Read(at) if holds(frames, &t.device, at)),
            |t| {
                let Stage::Read(at) = t.stage else { return };
                let values: usize = frames.iter().map(|f| f.points.len() * f.rows.len()).sum();
                t.step("sealed", now, format!("telemetry {seq} with {} other values", values.saturating_sub(1)));
                t.stage = Stage::Sealed(at);
            },
        );
    }

    /// The uplink has written a batch to its connection.
    pub fn sent(&self, frames: &[Frame], key: Key, now: Boot, detail: impl Fn() -> String) {
        self.each(
            // A batch that goes out again after a lost link has the same key.
            |t| matches!(t.stage, Stage::Sealed(at) if holds(frames, &t.device, at)) || t.stage == Stage::Sent(key),
            |t| {
                t.step("sent", now, detail());
                t.stage = Stage::Sent(key);
            },
        );
    }

    /// The broker has acknowledged a batch.
    pub fn acknowledged(&self, key: Key, now: Boot) {
        self.each(
            |t| t.stage == Stage::Sent(key),
            |t| {
                t.step("acknowledged", now, "by the cloud".into());
                t.stage = Stage::Acknowledged;
            },
        );
    }
}

impl Trace {
    fn step(&mut self, step: &'static str, at: Boot, detail: String) {
        self.steps.push(Step { step, at, detail, bytes: vec![] });
    }
}

/// A row of the device at that moment. The spool keeps whole milliseconds.
fn holds(frames: &[Frame], device: &DeviceId, at: Boot) -> bool {
    frames.iter().any(|f| f.device == *device && f.rows.iter().any(|r| r.at.ms() == at.ms()))
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Watch {
    tap: &'static Tap,
    id: u64,
}

impl Watch {
    /// How far it came until now.
    pub fn look(&self) -> Option<Trace> {
        self.tap.lock().traces.iter().find(|t| t.id == self.id).cloned()
    }

    /// Returns when the cloud has acknowledged the value.
    pub async fn acknowledged(&self) {
        loop {
            let news = self.tap.news.notified();
            tokio::pin!(news);
            // From here on no news is missed.
            news.as_mut().enable();
            if self.look().is_none_or(|t| t.stage == Stage::Acknowledged) {
                return;
            }
            news.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.tap.lock();
        inner.traces.retain(|t| t.id != self.id);
        self.tap.open.store(inner.traces.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Row, Stream, Value};

    fn reading(at: u64) -> Reading {
        let (device, points) = (DeviceId::parse("m").unwrap(), [PointId::parse("p").unwrap()].into());
        Reading { device, at: Boot(at), points, values: vec![Value::Uint(7)], quality: None }
    }

    /// As the spool gives it back: in whole milliseconds.
    fn frame(at: u64) -> Frame {
        let Reading { device, points, values, .. } = reading(at);
        Frame { device, points, rows: vec![Row { at: Boot(at / 1000 * 1000), values, quality: None }], thin: None }
    }

    fn step(step: &'static str, at: u64) -> Step {
        Step { step, at: Boot(at), detail: String::new(), bytes: vec![] }
    }

    #[tokio::test]
    async fn a_value_is_followed_to_its_own_acknowledgement() {
        static TAP: Tap = Tap::new();
        assert!(!TAP.is_open());
        let r = reading(5_123);
        let watch = TAP.watch(r.device.clone(), r.points[0].clone()).unwrap();
        let steps = |w: &Watch| w.look().unwrap().steps.iter().map(|s| s.step).collect::<Vec<_>>();
        TAP.polled(&r.device, &r.points, step("asked", 1), step("silent", 2), false);
        assert_eq!(steps(&watch), ["asked", "silent"]);
        TAP.polled(&r.device, &r.points, step("asked", 3), step("answered", 5_123), true);
        // The next poll came before the engine had this one: it is not mixed in.
        TAP.polled(&r.device, &r.points, step("asked", 6), step("answered", 7), true);
        let said = |_: &PointId, _| ("7".to_owned(), Ok("every value".to_owned()));
        TAP.reading(&reading(7), Boot(8), said);
        assert_eq!(steps(&watch), ["asked", "answered"]);
        TAP.reading(&r, Boot(8), said);
        TAP.sealed(&[frame(4_000)], 11, Boot(9));
        TAP.sealed(&[frame(4_000), frame(5_123)], 12, Boot(9));
        let key = |seq| Key { epoch: Epoch(1), stream: Stream::Telemetry, seq };
        TAP.sent(&[frame(4_000)], key(11), Boot(10), String::new);
        TAP.sent(&[frame(5_123)], key(12), Boot(10), String::new);
        TAP.acknowledged(key(11), Boot(11));
        assert_eq!(watch.look().unwrap().stage, Stage::Sent(key(12)));
        TAP.acknowledged(key(12), Boot(12));
        watch.acknowledged().await;
        assert_eq!(steps(&watch), ["asked", "answered", "decoded", "reported", "sealed", "sent", "acknowledged"]);
        drop(watch);
        assert!(!TAP.is_open());
    }

    #[test]
    fn a_value_that_is_kept_back_is_not_the_end() {
        static TAP: Tap = Tap::new();
        let r = reading(5);
        let watch = TAP.watch(r.device.clone(), r.points[0].clone()).unwrap();
        TAP.reading(&r, Boot(6), |_, _| ("7".into(), Err("it did not change".into())));
        assert_eq!(watch.look().unwrap().stage, Stage::Waiting);
        assert_eq!(watch.look().unwrap().steps[2].step, "kept back");
        TAP.reading(&reading(9), Boot(9), |_, _| ("8".into(), Ok("it changed".into())));
        assert_eq!(watch.look().unwrap().stage, Stage::Read(Boot(9)));
    }

    #[test]
    fn only_so_many_look_at_once() {
        static TAP: Tap = Tap::new();
        let r = reading(1);
        let watches: Vec<_> = (0..limits::TRACES).map(|_| TAP.watch(r.device.clone(), r.points[0].clone()).unwrap()).collect();
        assert!(TAP.watch(r.device.clone(), r.points[0].clone()).is_none());
        drop(watches);
        assert!(TAP.watch(r.device, r.points[0].clone()).is_some());
    }
}
