//! Tables, and everything against a model that keeps every sample.

use super::*;
use crate::{limits, model::PointRef};
use proptest::prelude::*;

const S: u64 = 1_000_000;

fn point(name: &str) -> PointId {
    PointId::parse(name).unwrap()
}

fn device() -> DeviceId {
    DeviceId::parse("d").unwrap()
}

fn nothing() -> Analysis {
    Analysis {
        id: "a".into(),
        of: PointRef { device: device(), point: point("p") },
        window: None,
        figures: Figure::ALL.into(),
        replace: false,
        moving_mean: None,
        rate: None,
        z_score: None,
        stuck_after: None,
        above: None,
        below: None,
        hysteresis: 0.0,
    }
}

fn secs(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n))
}

fn reading(at: u64, value: Value, quality: Quality) -> Reading {
    let quality = (quality != Quality::Good).then(|| vec![Quality::Good, quality]);
    Reading { device: device(), at: Boot(at), points: [point("other"), point("p")].into(), values: vec![Value::Uint(7), value], quality }
}

/// `second name=value …` of what is told; `?` for what has no value.
fn words(made: &Made) -> String {
    let one = |(p, v): (&PointId, &Value)| {
        let value = match v {
            Value::Null => "?".into(),
            Value::Bool(b) => b.to_string(),
            Value::Uint(n) => n.to_string(),
            other => format!("{:.2}", other.as_f64().unwrap()),
        };
        format!(" {}={value}", p.as_str().strip_prefix("p.").unwrap())
    };
    let all: String = made.reading.points.iter().zip(&made.reading.values).map(one).collect();
    format!("{}{all}", made.reading.at.ms() / 1000)
}

/// Samples as (second, value), then the end at `until`: what is told.
#[track_caller]
fn check(analysis: &Analysis, samples: &[(u64, f64)], until: u64, want: &[&str]) {
    let mut analytics = Analytics::new(std::slice::from_ref(analysis));
    let mut out = Vec::new();
    for (at, value) in samples {
        analytics.reading(&reading(at * S, Value::Float(*value), Quality::Good), &mut out);
    }
    analytics.expire(Boot(until * S), &mut out);
    let got: Vec<String> = out.iter().filter(|m| m.told).map(words).collect();
    assert_eq!(got, want, "{samples:?}");
}

#[test]
fn a_window_says_what_was_in_it_when_it_is_over() {
    let a = Analysis { window: secs(10), ..nothing() };
    let samples = [(11, 4.0), (12, 2.0), (19, 6.0), (21, 1.0)];
    let first = "20 min=2.00 max=6.00 mean=4.00 last=6.00 count=3";
    check(&a, &samples, 25, &[first]);
    check(&a, &samples, 30, &[first, "30 min=1.00 max=1.00 mean=1.00 last=1.00 count=1"]);
    // Nothing in it: nothing to say. Its end belongs to the next.
    check(
        &a,
        &[(15, 1.0), (20, 2.0), (55, 3.0)],
        59,
        &["20 min=1.00 max=1.00 mean=1.00 last=1.00 count=1", "30 min=2.00 max=2.00 mean=2.00 last=2.00 count=1"],
    );
    let some = Analysis { figures: vec![Figure::Mean, Figure::Count], ..a };
    check(&some, &samples, 25, &["20 mean=4.00 count=3"]);
}

#[test]
fn what_is_not_good_or_no_number_does_not_count() {
    let mut analytics = Analytics::new(&[Analysis { window: secs(10), figures: vec![Figure::Last, Figure::Count], ..nothing() }]);
    let mut out = Vec::new();
    for (value, quality) in [
        (Value::Uint(3), Quality::Good),
        (Value::Null, Quality::Bad),
        (Value::Null, Quality::Good),
        (Value::Uint(9), Quality::Suspect),
        (Value::Text("x".into()), Quality::Good),
        (Value::Bool(true), Quality::Good),
    ] {
        analytics.reading(&reading(S, value, quality), &mut out);
    }
    assert!(out.is_empty() && analytics.next_due() == Some(Boot(10 * S)));
    analytics.flush(Boot(4 * S), &mut out);
    assert_eq!(out.iter().map(words).collect::<Vec<_>>(), ["4 last=true count=2"], "a window at the stop ends there");
    assert_eq!(analytics.next_due(), None);
}

#[test]
fn what_comes_late_counts_for_the_window_that_is_open() {
    let mut analytics = Analytics::new(&[Analysis { window: secs(10), figures: vec![Figure::Count], ..nothing() }]);
    let mut out = Vec::new();
    for at in [15, 21, 18] {
        analytics.reading(&reading(at * S, Value::Uint(1), Quality::Good), &mut out);
    }
    analytics.expire(Boot(30 * S), &mut out);
    analytics.reading(&reading(29 * S, Value::Uint(1), Quality::Good), &mut out);
    analytics.expire(Boot(40 * S), &mut out);
    assert_eq!(out.iter().map(words).collect::<Vec<_>>(), ["20 count=1", "30 count=2", "40 count=1"]);
}

#[test]
fn a_rate_is_the_change_within_its_time_and_needs_half_of_it() {
    let a = Analysis { rate: secs(60), ..nothing() };
    check(
        &a,
        &[(0, 10.0), (29, 11.0), (30, 12.0), (60, 14.0), (70, 24.0)],
        70,
        &[
            "0 rate=?",
            "29 rate=?",
            "30 rate=4.00",
            // From 29 s on: what is older than a minute is gone.
            "60 rate=5.81",
            "70 rate=19.02",
        ],
    );
}

#[test]
fn a_value_without_a_change_is_stuck_and_limits_have_a_band() {
    let a = Analysis { stuck_after: secs(10), ..nothing() };
    check(
        &a,
        &[(0, 1.0), (9, 1.0), (10, 1.0), (11, 1.0), (12, 2.0), (22, 2.0)],
        30,
        &["0 stuck=false", "10 stuck=true", "12 stuck=false", "22 stuck=true"],
    );
    let a = Analysis { above: Some(80.0), below: Some(20.0), hysteresis: 5.0, ..nothing() };
    let samples = [(0, 50.0), (1, 80.0), (2, 80.1), (3, 75.1), (4, 75.0), (5, 19.0), (6, 24.9), (7, 25.0)];
    check(
        &a,
        &samples,
        9,
        &[
            "0 above=false below=false",
            "2 above=true below=false",
            "4 above=false below=false",
            "5 above=false below=true",
            "7 above=false below=false",
        ],
    );
}

#[test]
fn what_is_unusual_has_a_high_z_score() {
    let a = Analysis { z_score: secs(3600), ..nothing() };
    let mut analytics = Analytics::new(&[a]);
    let mut last = |at: u64, value: f64| {
        let mut out = Vec::new();
        analytics.reading(&reading(at * S, Value::Float(value), Quality::Good), &mut out);
        out.pop().unwrap().reading.values[0].as_f64()
    };
    // A large mean beside a small spread.
    for n in 0..20 {
        let z = last(n, 1e6 + [0.1, -0.1][usize::try_from(n % 2).unwrap()]);
        assert_eq!(z.is_some(), n >= limits::ANALYTICS_USUAL, "{n}");
        assert!(z.is_none_or(|z| z.abs() < 1.5), "{z:?}");
    }
    assert!((last(20, 1e6 + 1.0).unwrap() - 9.7).abs() < 0.1);
}

#[derive(Debug, Clone, Copy)]
enum Op {
    /// After so many tenths of a second.
    Sample(u64, i16),
    Late(u64, i16),
    Expire(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let value = -20i16..20;
    let op = prop_oneof![
        6 => (0u64..60, value.clone()).prop_map(|(dt, v)| Op::Sample(dt, v)),
        1 => (1u64..200, value).prop_map(|(dt, v)| Op::Late(dt, v)),
        1 => (0u64..300).prop_map(Op::Expire),
    ];
    proptest::collection::vec(op, 1..120)
}

/// Every sample that there was, each with the moment for which it counts.
struct Model {
    window: u64,
    part: u64,
    /// Of windows: end, and values so far.
    open: Option<(u64, Vec<f64>)>,
    over: u64,
    samples: Vec<(u64, u64, f64)>,
}

impl Model {
    fn close(&mut self, upto: u64, out: &mut Vec<(u64, Vec<f64>)>) {
        if self.open.as_ref().is_some_and(|(end, _)| *end <= upto) {
            let (end, values) = self.open.take().unwrap();
            self.over = end;
            out.push((end, values));
        }
    }

    fn sample(&mut self, at: u64, value: f64, out: &mut Vec<(u64, Vec<f64>)>) {
        self.close(at, out);
        let counts_at = at.max(self.over);
        let (over, window) = (counts_at / self.window + 1, self.window);
        self.open.get_or_insert_with(|| (over * window, Vec::new())).1.push(value);
        let index = (at / self.part).max(self.samples.last().map_or(0, |s| s.0));
        self.samples.push((index, at, value));
    }

    /// Those that the moving figures look back on, before or with the last one.
    fn recent(&self, with: bool) -> Vec<(u64, f64)> {
        let last = self.samples.last().unwrap().0;
        let n = self.samples.len() - usize::from(!with);
        self.samples[..n].iter().filter(|s| s.0 + limits::ANALYTICS_PARTS > last).map(|s| (s.1, s.2)).collect()
    }
}

fn close_to(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]
    #[test]
    fn every_figure_is_what_all_samples_say(ops in ops()) {
        let span = Duration::from_secs(12);
        let a = Analysis { window: secs(10), moving_mean: Some(span), rate: Some(span), z_score: Some(span), ..nothing() };
        let mut analytics = Analytics::new(&[a]);
        let mut model = Model { window: 10 * S, part: 12 * S / limits::ANALYTICS_PARTS, open: None, over: 0, samples: Vec::new() };
        let mut now = 5 * S;
        for op in ops {
            let (mut out, mut want) = (Vec::new(), Vec::new());
            let sampled = match op {
                Op::Sample(dt, value) => {
                    now += dt * S / 10;
                    Some((now, value))
                }
                Op::Late(dt, value) => Some((now.saturating_sub(dt * S / 10), value)),
                Op::Expire(dt) => {
                    now += dt * S / 10;
                    None
                }
            };
            match sampled {
                Some((at, value)) => {
                    analytics.reading(&reading(at, Value::Int(value.into()), Quality::Good), &mut out);
                    model.sample(at, value.into(), &mut want);
                }
                None => {
                    analytics.expire(Boot(now), &mut out);
                    model.close(now, &mut want);
                }
            }
            let (windows, moving): (Vec<_>, Vec<_>) = out.iter().partition(|m| m.reading.points.len() == 5);
            prop_assert_eq!(windows.len(), want.len());
            for (made, (end, values)) in windows.iter().zip(&want) {
                let got: Vec<f64> = made.reading.values.iter().map(|v| v.as_f64().unwrap()).collect();
                let sum: f64 = values.iter().sum();
                let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap();
                let n = values.len() as f64;
                prop_assert_eq!(&got, &[fold(f64::min), fold(f64::max), sum / n, *values.last().unwrap(), n]);
                prop_assert!(made.told && made.reading.at == Boot(*end));
            }
            prop_assert_eq!(moving.len(), usize::from(sampled.is_some()));
            for made in moving {
                let (at, value) = (made.reading.at.0, model.samples.last().unwrap().2);
                let mean = |all: &[(u64, f64)]| all.iter().map(|s| s.1).sum::<f64>() / all.len() as f64;
                let with = model.recent(true);
                let values: Vec<Option<f64>> = made.reading.values.iter().map(Value::as_f64).collect();
                prop_assert!(close_to(values[0].unwrap(), mean(&with)), "{:?} {:?}", values, with);
                let (since, before) = with[0];
                let over = at.saturating_sub(since);
                let rate = (over * 2 >= 12 * S).then(|| (value - before) * 12.0 * S as f64 / over as f64);
                prop_assert!(rate.is_some() == values[1].is_some() && rate.is_none_or(|r| close_to(r, values[1].unwrap())));
                let before = model.recent(false);
                if (before.len() as u64) < limits::ANALYTICS_USUAL {
                    prop_assert!(values[2].is_none());
                    continue;
                }
                let usual = mean(&before);
                let spread: f64 = before.iter().map(|s| (s.1 - usual).powi(2)).sum::<f64>() / (before.len() - 1) as f64;
                if spread > 1e-9 {
                    prop_assert!(close_to(values[2].unwrap(), (value - usual) / spread.sqrt()), "{:?} {:?}", values, before);
                }
            }
        }
    }
}
