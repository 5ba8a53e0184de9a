//! The drops that the field knows, then any sequence of them.

use super::*;
use crate::model::{DeviceId, PointId, Quality, Reading, Value};
use proptest::prelude::*;
use std::sync::Arc;

const PLAIN: Rule = Rule { per_unit: 1.0, modulo: None, daily: false, confirm: 3, max_per_s: None };

/// One reading a second; `+n` an increase, `=` a base, `?` suspect.
#[track_caller]
fn check(rule: Rule, readings: &[i128], want: &str) {
    let mut counter = Counter::default();
    let said: Vec<String> = (0u64..)
        .zip(readings)
        .map(|(s, steps)| match counter.step(&rule, Boot::from_ms(s * 1000), *steps) {
            Step::Increase(steps) => format!("+{steps}"),
            Step::Base => "=".into(),
            Step::Suspect => "?".into(),
        })
        .collect();
    assert_eq!(said.join(" "), want, "{readings:?}");
}

#[test]
fn a_counter_counts() {
    check(PLAIN, &[100, 100, 103, 110], "= +0 +3 +7");
}

/// evcc#30267 and #30592: a meter's single 0 became a power above 100 GW.
#[test]
fn a_single_zero_is_no_reset_and_makes_no_spike() {
    check(PLAIN, &[1_000_000, 0, 1_000_004], "= ? +4");
    check(PLAIN, &[1_000_000, 0, 0, 1_000_004, 1_000_005], "= ? ? +4 +1");
    // The first reading is no better than the others.
    check(PLAIN, &[0, 1_000_000, 1_000_004], "= = +4");
    check(PLAIN, &[0, 0, 4], "= = +4");
    // Near its end a 0 looks like a roll-over, and is none either.
    let wraps = Rule { modulo: Some(1_000_100), ..PLAIN };
    check(wraps, &[1_000_000, 0, 1_000_004], "= ? +4");
}

/// esphome#15286 (bl0942): totals that jitter backwards by one step.
#[test]
fn a_tiny_backward_glitch_makes_no_negative_increase() {
    check(PLAIN, &[100, 99, 100, 99, 101], "= ? +0 ? +1");
}

/// A zero that outlasts the doubt, and then the counter comes back.
#[test]
fn a_long_glitch_is_believed_but_its_end_makes_no_spike() {
    check(PLAIN, &[1000, 0, 0, 0, 0, 1003, 1004], "= ? ? = +0 +3 +1");
    check(Rule { max_per_s: Some(2.0), ..PLAIN }, &[1000, 0, 0, 0, 0, 1003, 1004], "= ? ? = +0 +3 +1");
}

/// pzem-004t-v3 in device_facts.json: wraps at 9999.99 kWh; bl0942 counts 23 bits.
#[test]
fn a_roll_over_is_seen_once_it_lasts() {
    check(Rule { modulo: Some(1_000_000), ..PLAIN }, &[999_990, 999_998, 3, 5, 9, 12], "= +8 ? ? +11 +3");
    check(Rule { modulo: Some(1 << 23), ..PLAIN }, &[8_388_600, 0, 2, 4, 5], "= ? ? +12 +1");
    // From the middle of its range it cannot roll over.
    check(Rule { modulo: Some(1_000_000), ..PLAIN }, &[500_000, 3, 5, 9, 12], "= ? ? = +3");
    // A jump over the whole range is none either.
    check(Rule { modulo: Some(1_000_000), max_per_s: Some(10.0), ..PLAIN }, &[800_000, 3, 5, 9, 12], "= ? ? = +3");
}

/// growatt-mic-min in device_facts.json: the daily counter resets at midnight or when the inverter restarts.
#[test]
fn a_daily_reset_is_believed_with_its_second_reading() {
    let daily = Rule { daily: true, ..PLAIN };
    check(daily, &[180, 184, 0, 0, 2, 5], "= +4 ? +0 +2 +3");
    check(daily, &[184, 3, 5], "= ? +5");
    check(daily, &[184, 0, 185], "= ? +1");
    // It fell, but not as far as a new day: an old fault, not a new day.
    check(daily, &[184, 180, 180, 181, 185], "= ? ? = +4");
}

#[test]
fn a_replaced_meter_is_believed_and_nobody_knows_what_it_counted() {
    check(PLAIN, &[54_321, 12, 13, 15, 16], "= ? ? = +1");
}

/// sem-community#782 and Growatt#417: bursts of nonsense in between.
#[test]
fn a_jump_that_nothing_can_count_is_suspect_where_a_maximum_is_known() {
    let slow = Rule { max_per_s: Some(5.0), ..PLAIN };
    check(slow, &[100, 4_000_000_000, 103, 106], "= ? +3 +3");
    check(slow, &[100, 4_000_000_000, 0, 4_000_000_000, 106], "= ? ? ? +6");
    check(slow, &[100, 700, 701, 702, 703], "= ? ? = +1");
}

#[test]
fn readings_get_the_increase_as_a_point_of_its_own() {
    let id = |name: &str| PointId::parse(name).unwrap();
    let device = DeviceId::parse("d").unwrap();
    let mut counters = Counters::default();
    let tenths = Rule { per_unit: 10.0, ..PLAIN };
    counters.set(&device, [(id("kwh"), tenths, Some(id("kwh_delta"))), (id("raw"), PLAIN, None)]);
    let points: Arc<[PointId]> = [id("v"), id("kwh"), id("raw")].into();
    let mut read = |s: u64, kwh: Value, quality: Quality, raw: u64| {
        let values = vec![Value::Float(230.1), kwh, Value::Uint(raw)];
        let quality = (quality != Quality::Good).then(|| vec![Quality::Good, quality, Quality::Good]);
        counters.pass(Reading { device: device.clone(), at: Boot::from_ms(s * 1000), points: Arc::clone(&points), values, quality })
    };
    let first = read(0, Value::Float(64.1), Quality::Good, 5);
    assert_eq!(*first.points, [id("v"), id("kwh"), id("raw"), id("kwh_delta")]);
    assert_eq!(first.values[3], Value::Null);
    assert_eq!(first.quality_of(3), Quality::NotAvailable);
    let second = read(1, Value::Float(64.2), Quality::Good, 6);
    assert_eq!((&second.values[3], &second.quality), (&Value::Float(0.1), &None), "not 0.10000000000000853");
    assert!(Arc::ptr_eq(&first.points, &second.points), "the longer list is shared");
    let dropped = read(2, Value::Float(0.0), Quality::Good, 6);
    assert_eq!(dropped.quality, Some(vec![Quality::Good, Quality::Suspect, Quality::Good, Quality::Suspect]));
    assert_eq!(dropped.values[1..], [Value::Float(0.0), Value::Uint(6), Value::Null]);
    let gone = read(3, Value::Null, Quality::NotAvailable, 0);
    assert_eq!(
        (gone.quality_of(1), gone.quality_of(2), gone.quality_of(3)),
        (Quality::NotAvailable, Quality::Suspect, Quality::NotAvailable)
    );
    let back = read(4, Value::Float(64.5), Quality::Good, 7);
    assert_eq!(back.values[3], Value::Float(0.3), "the increase covers the gap");
}

#[test]
fn other_readings_pass_untouched() {
    let id = |name: &str| PointId::parse(name).unwrap();
    let device = DeviceId::parse("d").unwrap();
    let mut counters = Counters::default();
    counters.set(&device, [(id("kwh"), PLAIN, Some(id("kwh_delta")))]);
    let points: Arc<[PointId]> = [id("v")].into();
    let reading = Reading { device, at: Boot(0), points: Arc::clone(&points), values: vec![Value::Int(1)], quality: None };
    assert!(Arc::ptr_eq(&counters.pass(reading).points, &points));
}

/// What the wire shows instead of the true value.
#[derive(Debug, Clone, Copy)]
enum Shown {
    True,
    Zero,
    Back(i128),
    Lost,
    Spike,
}

fn any_shown() -> impl Strategy<Value = Shown> {
    prop_oneof![6 => Just(Shown::True), 1 => Just(Shown::Zero), 1 => (1i128..5).prop_map(Shown::Back), 1 => Just(Shown::Lost), 1 => Just(Shown::Spike)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever glitches come, short of the readings that confirm: no increase is negative or beyond what can be counted, and
    /// together they are what was counted.
    #[test]
    fn increases_add_up_to_the_truth(
        // Up to 36 of the 40 that the rule allows: a maximum has room for a reading that is up to 4 low.
        start in 0i128..100_000, raises in prop::collection::vec((0i128..=36, any_shown()), 1..200), wraps: bool, limited: bool,
    ) {
        let modulo = wraps.then_some(100_000i128);
        let rule = Rule { modulo, max_per_s: limited.then_some(40.0), ..PLAIN };
        let show = |total: i128| modulo.map_or(total, |m| total.rem_euclid(m));
        let mut counter = Counter::default();
        let (mut total, mut counted, mut bad) = (start + 1, 0, 0);
        // Two readings of the truth to stand on, and enough at the end to settle every doubt: nothing may roll over in them.
        let raises = [(1, Shown::True), (1, Shown::True)].into_iter().chain(raises).chain([(0, Shown::True); 4]);
        let mut base = None;
        let mut believed = 0u64;
        for (s, (raise, shown)) in (0u64..).zip(raises) {
            total += raise;
            // A burst that is as long as the confirmation is no glitch any more.
            let shown = if bad >= 2 { Shown::True } else { shown };
            let here = show(total);
            let wire = match shown {
                Shown::True => Some(here),
                Shown::Zero => Some(0),
                Shown::Back(by) => Some((here - by).max(0)),
                Shown::Lost => None,
                Shown::Spike if limited => Some(here + 50_000),
                Shown::Spike => Some(here),
            };
            bad = match shown {
                Shown::True => 0,
                Shown::Lost => bad,
                _ => bad + 1,
            };
            let Some(wire) = wire else { continue };
            match counter.step(&rule, Boot::from_ms(s * 1000), wire) {
                Step::Increase(steps) => {
                    prop_assert!(steps >= 0);
                    // Without a maximum, a reading that was a little low is made up for in the next.
                    let slack = if limited { 1 } else { 5 };
                    prop_assert!(steps <= 40 * i128::from(s - believed) + slack, "{} in {} s", steps, s - believed);
                    counted += steps;
                    // A 0 that was none beside one that was: the next increase is of both.
                    if wire == here {
                        believed = s;
                    }
                }
                Step::Base => {
                    prop_assert!(base.is_none(), "a glitch became a base at {} s", s);
                    if wire != 0 {
                        base = Some(total);
                        believed = s;
                    }
                }
                Step::Suspect => {}
            }
        }
        prop_assert_eq!(Some(counted), base.map(|b| total - b));
    }
}
