//! What is computed of points: windows one after the other, and figures that move with every sample. What comes out are
//! readings of further points of the same device.
//!
//! - Only good numbers and switches count; a switch is 0 or 1.
//! - A window lies between two multiples of its length on the boot clock. It is told when it is over, or at the stop. What
//!   comes late counts for the one that is open.
//! - Moving figures look back over their time in a fixed number of parts ([`ring`]). Rules see each of them; upstream goes
//!   one for each part, and every change of yes and no.
//! - Nothing of it outlives a restart.
//!
//! Memory is bounded by the configuration. Absent on purpose: alarms; a rule makes one of any figure.

mod ring;
#[cfg(test)]
mod tests;

use super::requests::Requests;
use crate::model::{Analysis, Boot, DeviceId, Figure, PointId, Quality, Reading, Value};
use ring::Ring;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Requests of one device whose lists of points are remembered. More (names that never repeat): they are looked up afresh.
const REQUESTS: usize = 256;

/// Something that was computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub reading: Reading,
    /// It goes upstream; else only rules and surfaces see it.
    pub told: bool,
}

#[derive(Debug, Default)]
pub struct Analytics {
    tasks: Vec<Task>,
    devices: BTreeMap<DeviceId, Watched>,
    /// Ends of windows that are open.
    due: BTreeSet<(Boot, usize)>,
}

#[derive(Debug)]
struct Watched {
    points: BTreeMap<PointId, Vec<usize>>,
    /// Place in the reading, and task.
    requests: Requests<Vec<(usize, usize)>>,
}

#[derive(Debug)]
struct Task {
    device: DeviceId,
    window: Option<Windows>,
    moving: Option<Moving>,
}

#[derive(Debug)]
struct Windows {
    length: Duration,
    figures: Vec<Figure>,
    points: Arc<[PointId]>,
    /// Of the last one that is over.
    end: Boot,
    open: Option<Window>,
}

#[derive(Debug)]
struct Window {
    end: Boot,
    count: u64,
    sum: f64,
    min: (f64, Value),
    max: (f64, Value),
    last: Value,
}

#[derive(Debug)]
struct Moving {
    points: Arc<[PointId]>,
    mean: Option<Ring>,
    rate: Option<Ring>,
    z_score: Option<Ring>,
    stuck: Option<Stuck>,
    above: Option<Limit>,
    below: Option<Limit>,
    /// Of the shortest ring. `None`: nothing but yes and no.
    part: Option<Duration>,
    /// When it was told last, and the answers then.
    told: Option<(Boot, Vec<Value>)>,
}

#[derive(Debug)]
struct Stuck {
    after: Duration,
    last: Option<(f64, Boot)>,
}

#[derive(Debug)]
struct Limit {
    at: f64,
    hysteresis: f64,
    is: bool,
}

impl Analytics {
    pub fn new(all: &[Analysis]) -> Analytics {
        let mut analytics = Analytics::default();
        for (n, analysis) in all.iter().enumerate() {
            let watched = analytics.devices.entry(analysis.of.device.clone()).or_default();
            watched.points.entry(analysis.of.point.clone()).or_default().push(n);
            analytics.tasks.push(Task::new(analysis));
        }
        analytics
    }

    pub fn reading(&mut self, reading: &Reading, out: &mut Vec<Made>) {
        let Some(device) = self.devices.get_mut(&reading.device) else { return };
        let Watched { points, requests } = device;
        let tasks = |(n, point)| points.get(point).into_iter().flatten().map(move |task| (n, *task));
        let (_, watched) = requests.of(&reading.points, || reading.points.iter().enumerate().flat_map(tasks).collect());
        for &(n, task) in watched.iter() {
            let Some(value) = reading.values.get(n).filter(|_| reading.quality_of(n) == Quality::Good) else { continue };
            let Some(number) = value.as_f64() else { continue };
            let one = &mut self.tasks[task];
            let before = one.due();
            one.sample(reading.at, value, number, out);
            let due = one.due();
            if before != due {
                self.due.remove(&(before.unwrap_or_default(), task));
                self.due.extend(due.map(|at| (at, task)));
            }
        }
    }

    pub fn next_due(&self) -> Option<Boot> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Tells the windows that are over. `upto`: everything that was read before was handed in.
    pub fn expire(&mut self, upto: Boot, out: &mut Vec<Made>) {
        while let Some((_, task)) = self.due.first().copied().filter(|(at, _)| *at <= upto) {
            self.due.pop_first();
            self.tasks[task].close(upto, out);
        }
    }

    /// The end: windows that are open are told as they are.
    pub fn flush(&mut self, now: Boot, out: &mut Vec<Made>) {
        while let Some((_, task)) = self.due.pop_first() {
            self.tasks[task].close(now, out);
        }
    }
}

impl Default for Watched {
    fn default() -> Watched {
        Watched { points: BTreeMap::new(), requests: Requests::up_to(REQUESTS) }
    }
}

impl Task {
    fn new(a: &Analysis) -> Task {
        let figures = a.window.map(|length| {
            let told: Vec<(Figure, PointId)> = a.figures.iter().filter_map(|f| Some((*f, a.point(f.word())?))).collect();
            let (figures, points): (Vec<Figure>, Vec<PointId>) = told.into_iter().unzip();
            Windows { length, figures, points: points.into(), end: Boot(0), open: None }
        });
        let points: Vec<PointId> = a.moving().filter_map(|name| a.point(name)).collect();
        let part = [a.moving_mean, a.rate, a.z_score].into_iter().flatten().map(|span| Ring::new(span).part()).min();
        let limit = |at: Option<f64>| at.map(|at| Limit { at, hysteresis: a.hysteresis, is: false });
        let moving = (!points.is_empty()).then(|| Moving {
            points: points.into(),
            mean: a.moving_mean.map(Ring::new),
            rate: a.rate.map(Ring::new),
            z_score: a.z_score.map(Ring::new),
            stuck: a.stuck_after.map(|after| Stuck { after, last: None }),
            above: limit(a.above),
            below: limit(a.below),
            part,
            told: None,
        });
        Task { device: a.of.device.clone(), window: figures, moving }
    }

    fn due(&self) -> Option<Boot> {
        self.window.as_ref()?.open.as_ref().map(|w| w.end)
    }

    fn sample(&mut self, at: Boot, value: &Value, number: f64, out: &mut Vec<Made>) {
        if self.due().is_some_and(|end| at >= end) {
            self.close(at, out);
        }
        if let Some(windows) = &mut self.window {
            windows.take(at, value, number);
        }
        if let Some(moving) = &mut self.moving {
            let (values, told) = moving.take(at, number);
            out.push(Made { reading: made(&self.device, at, &moving.points, values), told });
        }
    }

    fn close(&mut self, now: Boot, out: &mut Vec<Made>) {
        let Some(windows) = &mut self.window else { return };
        let Some(window) = windows.open.take() else { return };
        let at = window.end.min(now);
        windows.end = window.end;
        let values = windows.figures.iter().map(|f| window.figure(*f)).collect();
        out.push(Made { reading: made(&self.device, at, &windows.points, values), told: true });
    }
}

fn made(device: &DeviceId, at: Boot, points: &Arc<[PointId]>, values: Vec<Value>) -> Reading {
    let quality = |v: &Value| if *v == Value::Null { Quality::NotAvailable } else { Quality::Good };
    let quality = values.contains(&Value::Null).then(|| values.iter().map(quality).collect());
    Reading { device: device.clone(), at, points: Arc::clone(points), values, quality }
}

impl Windows {
    fn take(&mut self, at: Boot, value: &Value, number: f64) {
        let length = u64::try_from(self.length.as_micros()).unwrap_or(u64::MAX).max(1);
        // One that is over is not begun again.
        let at = at.max(self.end);
        let new = || Window {
            end: Boot((at.0 / length).saturating_add(1).saturating_mul(length)),
            count: 0,
            sum: 0.0,
            min: (number, value.clone()),
            max: (number, value.clone()),
            last: Value::Null,
        };
        let window = self.open.get_or_insert_with(new);
        window.count += 1;
        window.sum += number;
        if number < window.min.0 {
            window.min = (number, value.clone());
        }
        if number > window.max.0 {
            window.max = (number, value.clone());
        }
        window.last = value.clone();
    }
}

impl Window {
    #[allow(clippy::cast_precision_loss)] // a count of samples
    fn figure(&self, figure: Figure) -> Value {
        match figure {
            Figure::Min => self.min.1.clone(),
            Figure::Max => self.max.1.clone(),
            Figure::Mean => Value::float(self.sum / self.count as f64),
            Figure::Last => self.last.clone(),
            Figure::Count => Value::Uint(self.count),
        }
    }
}

impl Moving {
    /// The figures, and whether they are told.
    fn take(&mut self, at: Boot, number: f64) -> (Vec<Value>, bool) {
        let mut values = Vec::with_capacity(self.points.len());
        let known = |v: Option<f64>| v.map_or(Value::Null, Value::float);
        if let Some(ring) = &mut self.mean {
            ring.push(at, number);
            values.push(Value::float(ring.spread().mean));
        }
        if let Some(ring) = &mut self.rate {
            ring.push(at, number);
            values.push(known(ring.rate(at, number)));
        }
        if let Some(ring) = &mut self.z_score {
            ring.turn(at);
            values.push(known(ring.z_score(number)));
            ring.push(at, number);
        }
        let numbers = values.len();
        if let Some(stuck) = &mut self.stuck {
            let since = match stuck.last {
                Some((last, since)) if last == number => since,
                _ => at,
            };
            stuck.last = Some((number, since));
            values.push(Value::Bool(at.since(since) >= stuck.after));
        }
        values.extend(self.above.as_mut().map(|limit| limit.is(|limit, band| number > limit - band)));
        values.extend(self.below.as_mut().map(|limit| limit.is(|limit, band| number < limit + band)));
        let answers = &values[numbers..];
        let told = match (&self.told, self.part) {
            (None, _) => true,
            (Some((_, before)), _) if before != answers => true,
            (Some((last, _)), Some(part)) => at.since(*last) >= part,
            _ => false,
        };
        if told {
            self.told = Some((at, answers.to_vec()));
        }
        (values, told)
    }
}

impl Limit {
    fn is(&mut self, beyond: impl Fn(f64, f64) -> bool) -> Value {
        self.is = beyond(self.at, if self.is { self.hysteresis } else { 0.0 });
        Value::Bool(self.is)
    }
}
