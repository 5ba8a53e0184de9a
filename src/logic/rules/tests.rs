//! Tables, and rules against a model that looks at the whole history every second, with restarts.

use super::*;
use crate::{limits, logic::testing::models, model::PointRef};
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};

const S: u64 = 1_000_000;

fn id(text: &str) -> RuleId {
    RuleId::parse(text).unwrap()
}

fn device(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn point(text: &str) -> PointRef {
    PointRef { device: device("d"), point: PointId::parse(text).unwrap() }
}

fn less(name: &str, limit: i64) -> Test {
    Test::Value(point(name), Compare::Less, Value::Int(limit))
}

/// All of them at once.
fn all(tests: Vec<Test>) -> Condition {
    let expr = (1..tests.len()).fold(Expr::Test(0), |left, n| Expr::And(Box::new(left), Box::new(Expr::Test(n))));
    Condition { text: String::new(), tests, expr }
}

fn pace(hold: u64, hysteresis: f64, cooldown: u64) -> Pace {
    Pace { hold: Duration::from_secs(hold), hysteresis, cooldown: Duration::from_secs(cooldown) }
}

fn rule(when: Condition, pace: Pace) -> Rule {
    Rule { id: id("r"), when, unless: None, pace }
}

fn reading(at: u64, values: &[(&str, Option<i64>)]) -> Reading {
    let points = values.iter().map(|(p, _)| PointId::parse(p).unwrap()).collect();
    let quality = values.iter().map(|(_, v)| if v.is_some() { Quality::Good } else { Quality::NotAvailable }).collect();
    let values = values.iter().map(|(_, v)| v.map_or(Value::Null, Value::Int)).collect();
    Reading { device: device("d"), at: Boot(at), points, values, quality: Some(quality) }
}

#[derive(Debug, Clone, Copy)]
enum Do {
    /// Second and value; `None`: no value.
    X(u64, Option<i64>),
    Y(u64, Option<i64>),
    Is(u64, State),
    Until(u64),
    Off(u64),
    On(u64),
}
use Do::{Is, Off, On, Until, X, Y};

fn run(rules: &mut Rules, step: Do, out: &mut Vec<Effect>) {
    match step {
        X(at, value) => rules.reading(&reading(at * S, &[("other", Some(1)), ("x", value)]), out),
        Y(at, value) => rules.reading(&reading(at * S, &[("y", value)]), out),
        Is(at, state) => rules.state(&device("d"), state, Boot(at * S), out),
        Until(at) => rules.expire(Boot(at * S), out),
        Off(at) => drop(rules.switch(&id("r"), Some("anna".into()), Boot(at * S), out)),
        On(at) => drop(rules.switch(&id("r"), None, Boot(at * S), out)),
    }
}

fn words(effect: &Effect) -> String {
    let did = match effect.did {
        Did::Fired => "fired",
        Did::Cleared => "cleared",
        Did::Paused => "paused",
    };
    format!("{} {did}", effect.at.ms() / 1000)
}

#[track_caller]
fn check(rule: Rule, steps: &[Do], want: &[&str]) {
    let (mut rules, mut out) = (Rules::new(vec![rule]), Vec::new());
    steps.iter().for_each(|step| run(&mut rules, *step, &mut out));
    assert_eq!(out.iter().map(words).collect::<Vec<_>>(), want, "{steps:?}");
}

#[test]
fn it_fires_once_when_it_becomes_true_and_again_after_it_was_false() {
    let frost = || rule(all(vec![less("x", 5)]), Pace::default());
    check(frost(), &[X(1, Some(9)), X(2, Some(4)), X(3, Some(3)), X(4, Some(5)), X(5, Some(4))], &["2 fired", "4 cleared", "5 fired"]);
    check(frost(), &[X(1, Some(4))], &["1 fired"]);
    check(frost(), &[X(1, Some(9)), X(2, Some(9))], &[""; 0]);
}

#[test]
fn it_must_hold_and_what_nobody_knows_neither_counts_nor_ends_it() {
    let held = || rule(all(vec![less("x", 5)]), pace(10, 0.0, 0));
    check(held(), &[X(1, Some(4)), Until(10), X(10, Some(5)), Until(60)], &[""; 0]);
    check(held(), &[X(1, Some(4)), Until(10), Until(11)], &["11 fired"]);
    check(held(), &[X(1, Some(4)), X(60, Some(9))], &["11 fired", "60 cleared"]);
    check(held(), &[X(1, Some(4)), X(6, None), Until(60), X(60, Some(4)), Until(64), Until(65)], &["65 fired"]);
    check(held(), &[X(1, Some(4)), Until(11), X(12, None), Until(99), X(99, Some(4))], &["11 fired"]);
}

#[test]
fn a_value_must_come_back_by_the_hysteresis() {
    let wide = || rule(all(vec![less("x", 5)]), pace(0, 2.0, 0));
    check(
        wide(),
        &[X(1, Some(5)), X(2, Some(4)), X(3, Some(6)), X(4, Some(7)), X(5, Some(6)), X(6, Some(4))],
        &["2 fired", "4 cleared", "6 fired"],
    );
    let over = Test::Value(point("x"), Compare::AtLeast, Value::Int(5));
    check(rule(all(vec![over]), pace(0, 2.0, 0)), &[X(1, Some(5)), X(2, Some(3)), X(3, Some(2)), X(4, Some(4))], &["1 fired", "3 cleared"]);
}

#[test]
fn what_is_true_when_it_has_cooled_down_fires_then() {
    let cool = || rule(all(vec![less("x", 5)]), pace(0, 0.0, 10));
    let steps = [X(1, Some(4)), X(2, Some(9)), X(3, Some(4)), Until(10), Until(11)];
    check(cool(), &steps, &["1 fired", "2 cleared", "11 fired"]);
    check(cool(), &[X(1, Some(4)), X(2, Some(9)), X(3, Some(4)), X(4, Some(9)), Until(60)], &["1 fired", "2 cleared"]);
}

#[test]
fn a_device_that_is_not_there_has_no_values_and_unless_blocks() {
    use State::{Offline, Online, Unknown};
    let frost = || rule(all(vec![less("x", 5)]), Pace::default());
    check(frost(), &[X(1, Some(4)), Is(2, Offline), Is(3, Online), X(4, Some(9))], &["1 fired", "4 cleared"]);
    check(frost(), &[Is(1, Unknown), X(2, Some(4)), Is(3, Online), X(4, Some(4))], &["4 fired"]);
    let gone = rule(all(vec![Test::State(device("d"), Offline)]), Pace::default());
    check(gone, &[Is(1, Online), Is(2, Unknown), Is(3, Offline), Is(4, Unknown), Is(5, State::Suspect)], &["3 fired", "5 cleared"]);
    let blocked = Rule { unless: Some(all(vec![less("y", 0)])), ..frost() };
    check(blocked.clone(), &[X(1, Some(4))], &[""; 0]);
    check(blocked, &[Y(1, Some(-1)), X(2, Some(4)), Y(3, Some(0)), Y(4, Some(-1))], &["3 fired", "4 cleared"]);
}

#[test]
fn what_is_switched_off_does_nothing_and_begins_anew() {
    let frost = || rule(all(vec![less("x", 5)]), pace(10, 0.0, 0));
    check(
        frost(),
        &[X(1, Some(4)), Until(11), Off(12), X(13, Some(9)), X(14, Some(4)), Until(60), On(60), Until(69), Until(70)],
        &["11 fired", "12 cleared", "70 fired"],
    );
}

#[test]
fn one_that_fires_again_and_again_is_taken_for_a_loop() {
    let toggled: Vec<Do> = (0..40).map(|n| X(10 + n, Some(if n % 2 == 0 { 4 } else { 9 }))).collect();
    let (mut rules, mut out) = (Rules::new(vec![rule(all(vec![less("x", 5)]), Pace::default())]), Vec::new());
    toggled.iter().for_each(|step| run(&mut rules, *step, &mut out));
    let count = |did| out.iter().filter(|e| e.did == did).count();
    assert_eq!((count(Did::Fired), count(Did::Paused)), (limits::RULE_FIRINGS, 1));
    assert_eq!(rules.memory(0).unwrap().1.off.as_deref(), Some("it would have fired more than 10 times in 60 s"));
    // Slow enough: for ever.
    let slow: Vec<Do> = (0..400).map(|n| X(10 + n * 4, Some(if n % 2 == 0 { 4 } else { 9 }))).collect();
    let (mut rules, mut out) = (Rules::new(vec![rule(all(vec![less("x", 5)]), Pace::default())]), Vec::new());
    slow.iter().for_each(|step| run(&mut rules, *step, &mut out));
    assert!(out.iter().all(|e| e.did != Did::Paused));
}

#[test]
fn values_of_different_kinds_compare_as_people_mean_it() {
    use Compare::{Equal, Less, NotEqual};
    let check = |value: Value, how, limit: Value, want: Option<bool>| {
        assert_eq!(compare(&value, how, &limit, 0.0, false), want, "{value:?} {how:?} {limit:?}");
    };
    check(Value::Uint(1), Equal, Value::Bool(true), Some(true));
    check(Value::Uint(2), Equal, Value::Bool(true), Some(true));
    check(Value::Bool(false), Equal, Value::Int(0), Some(true));
    check(Value::Text("auto".into()), Equal, Value::Text("auto".into()), Some(true));
    check(Value::Text("auto".into()), NotEqual, Value::Text("off".into()), Some(true));
    check(Value::Text("5".into()), Less, Value::Int(7), None);
    check(Value::Text("5".into()), NotEqual, Value::Int(7), None);
    check(Value::Uint(u64::MAX), Less, Value::Int(7), Some(false));
    check(Value::Float(0.3), Equal, Value::Float(0.3), Some(true));
}

#[test]
fn it_is_explained_by_what_it_was_judged_by() {
    let when = all(vec![less("x", 5), Test::State(device("pump"), State::Online)]);
    let (mut rules, mut out) = (Rules::new(vec![rule(when, pace(30, 0.0, 0))]), Vec::new());
    assert_eq!(rules.views(Boot(0))[0].looked, None);
    run(&mut rules, X(1, Some(4)), &mut out);
    let view = &rules.views(Boot(2 * S))[0];
    assert_eq!((view.truth, view.looked), (None, Some(Boot(S))));
    assert_eq!(view.tests[0].truth, Some(true));
    assert_eq!(view.tests[0].values, [("4".to_owned(), Some(Boot(S)))]);
    assert_eq!(view.tests[1].values, [("not known here".to_owned(), None)]);
    rules.state(&device("pump"), State::Online, Boot(3 * S), &mut out);
    assert_eq!(rules.views(Boot(5 * S))[0].waits, "it must be true for 28 s more");
    assert_eq!(rules.because(0), "d.x < 5: 4; pump is online: online");
}

#[test]
fn a_reading_that_no_rule_watches_costs_one_look_up() {
    let mut rules =
        Rules::new((0..500).map(|n| Rule { id: id(&format!("r{n}")), ..rule(all(vec![less("x", 5)]), Pace::default()) }).collect());
    let (mut out, points) = (Vec::new(), Arc::from([PointId::parse("x").unwrap()]));
    let each = |rules: &mut Rules, out: &mut Vec<Effect>, device: &DeviceId, points: &Arc<[PointId]>, value: i64| {
        let began = tokio::time::Instant::now();
        for at in 0..1000 {
            let reading = Reading {
                device: device.clone(),
                at: Boot(at),
                points: Arc::clone(points),
                values: vec![Value::Int(value)],
                quality: None,
            };
            rules.reading(&reading, out);
        }
        began.elapsed().as_nanos() / 1000
    };
    let foreign = each(&mut rules, &mut out, &device("other"), &points, 9);
    let watched = each(&mut rules, &mut out, &device("d"), &points, 9);
    println!("{foreign} ns for a reading that nobody watches, {watched} ns for one that 500 rules watch");
    assert!(out.is_empty());
}

/// What is done in one second.
#[derive(Debug, Clone, Copy)]
enum Op {
    X(Option<i8>),
    Y(Option<i8>),
    Is(State),
    Restart,
    Wait(u8),
    Switch(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let value = || prop_oneof![5 => (-3i8..9).prop_map(Some), 1 => Just(None)];
    let state = prop_oneof![Just(State::Online), Just(State::Offline), Just(State::Unknown), Just(State::Suspect)];
    let op = prop_oneof![
        6 => value().prop_map(Op::X),
        3 => value().prop_map(Op::Y),
        2 => state.prop_map(Op::Is),
        1 => Just(Op::Restart),
        4 => (1u8..15).prop_map(Op::Wait),
        1 => any::<bool>().prop_map(Op::Switch),
    ];
    proptest::collection::vec(op, 1..60)
}

/// Looks at the whole history, second by second.
#[derive(Default)]
struct Model {
    /// Second and what was done; a restart forgets what was heard before it.
    history: Vec<(u64, Op)>,
    held: [bool; 2],
    kept: [bool; 2],
    fired: bool,
    fired_at: Option<u64>,
    off: bool,
    known: u64,
    truth: Option<bool>,
    firings: Vec<u64>,
}

impl Model {
    /// The last value of a point that counts, and the device's state.
    fn value(&self, which: usize) -> Option<i64> {
        let begin = self.history.iter().rposition(|(_, op)| matches!(op, Op::Restart)).map_or(0, |n| n + 1);
        let (mut value, mut there) = (None, true);
        for (_, op) in &self.history[begin..] {
            match (op, which) {
                (Op::X(v), 0) | (Op::Y(v), 1) => value = v.filter(|_| there).map(i64::from),
                (Op::Is(state), _) => {
                    there = matches!(state, State::Online | State::Suspect);
                    value = value.filter(|_| there);
                }
                _ => {}
            }
        }
        value
    }

    /// `x < 3 and y > 2`, each with its band.
    fn judge(&mut self, band: i64) -> Option<bool> {
        let wide = |held: bool| if held { band } else { 0 };
        let x = self.value(0).map(|x| x < 3 + wide(self.held[0]));
        let y = self.value(1).map(|y| y > 2 - wide(self.held[1]));
        self.held = [x.unwrap_or(self.held[0]), y.unwrap_or(self.held[1])];
        match (x, y) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    fn fire(&mut self, t: u64, hold: u64, cooldown: u64, out: &mut Vec<String>) {
        let cool = self.fired_at.is_none_or(|at| t >= at + cooldown);
        if self.truth != Some(true) || self.fired || self.off || self.known < hold || !cool {
            return;
        }
        self.firings.retain(|at| at + 60 > t);
        if self.firings.len() >= limits::RULE_FIRINGS {
            self.off = true;
            out.push(format!("{t} paused"));
        } else {
            self.firings.push(t);
            (self.fired, self.fired_at) = (true, Some(t));
            out.push(format!("{t} fired"));
        }
        self.kept = self.held;
    }

    fn clear(&mut self, t: u64, out: &mut Vec<String>) {
        if std::mem::take(&mut self.fired) {
            out.push(format!("{t} cleared"));
            self.kept = self.held;
        }
    }
}

fn follows(ops: Vec<Op>, hold: u64, band: i64, cooldown: u64) -> Result<(), TestCaseError> {
    let more = Test::Value(point("y"), Compare::More, Value::Int(2));
    let asked = || vec![rule(all(vec![less("x", 3), more.clone()]), pace(hold, band as f64, cooldown))];
    let (mut rules, mut model) = (Rules::new(asked()), Model::default());
    let mut stored = RuleMemory::default();
    let (mut got, mut want, mut t) = (Vec::new(), Vec::new(), 100u64);
    for op in ops {
        let pause = if let Op::Wait(n) = op { u64::from(n) } else { 1 };
        let mut out = Vec::new();
        for _ in 0..pause {
            t += 1;
            model.known += u64::from(model.truth == Some(true));
            if matches!(op, Op::Wait(_)) {
                rules.expire(Boot(t * S), &mut out);
                model.fire(t, hold, cooldown, &mut want);
            }
        }
        let at = Boot(t * S);
        match op {
            Op::Wait(_) => {}
            Op::Restart => {
                rules = Rules::new(asked());
                rules.restore(&id("r"), stored.clone());
                (model.truth, model.known, model.held) = (None, 0, model.kept);
                model.firings.clear();
                model.history.push((t, op));
            }
            Op::Switch(on) => {
                rules.switch(&id("r"), (!on).then(|| "anna".into()), at, &mut out);
                model.off = !on;
                (model.known, model.kept) = (0, model.held);
                model.firings.clear();
                if !on {
                    model.clear(t, &mut want);
                }
                stored = rules.memory(0).unwrap().1.clone();
            }
            Op::X(v) => run(&mut rules, X(t, v.map(i64::from)), &mut out),
            Op::Y(v) => run(&mut rules, Y(t, v.map(i64::from)), &mut out),
            Op::Is(state) => run(&mut rules, Is(t, state), &mut out),
        }
        if matches!(op, Op::X(_) | Op::Y(_) | Op::Is(_)) {
            model.history.push((t, op));
            let truth = model.judge(band);
            if truth == Some(false) {
                model.known = 0;
            }
            model.truth = truth;
            if truth == Some(false) {
                model.clear(t, &mut want);
            }
        }
        rules.expire(at, &mut out);
        model.fire(t, hold, cooldown, &mut want);
        if !out.is_empty() {
            stored = rules.memory(0).unwrap().1.clone();
        }
        got.extend(out.iter().map(words));
        prop_assert_eq!(&got, &want, "{:?} at {}", op, t);
    }
    Ok(())
}

#[test]
fn rules_do_what_their_whole_history_says() {
    let of = (ops(), 0u64..12, 0i64..4, prop_oneof![Just(0u64), 0u64..40]);
    models(file!(), "rules", of, |(ops, hold, band, cooldown)| follows(ops, hold, band, cooldown));
}
