//! Verdicts in tables, and the effort that one bad sample costs.

use super::*;
use crate::model::Epoch;

fn key(seq: u64) -> Key {
    Key { epoch: Epoch(1), stream: Stream::Telemetry, seq }
}

fn event(seq: u64) -> Key {
    Key { stream: Stream::Event, ..key(seq) }
}

/// Strikes of message 1 with `samples`; `w` between them is message 9 being taken.
#[track_caller]
fn check(blame: Blame, samples: u64, script: &str, want: Verdict) {
    let (mut s, mut now, mut last) = (Suspects::default(), Boot::from_ms(0), Verdict::Wait);
    for what in script.chars() {
        now = now + Duration::from_secs(100);
        match what {
            'w' => s.accepted(key(9), now),
            _ => last = s.strike(key(1), blame, samples, now),
        }
    }
    assert_eq!(last, want, "{blame:?} {samples} {script}");
}

#[test]
fn one_sample_is_put_aside_only_with_a_witness() {
    use {Blame::*, Verdict::*};
    for (blame, script) in [(Content, "xwx"), (Rules, "xwx"), (Silence, "xx"), (Closes, "xwxwx"), (TooLarge, "x")] {
        check(blame, 1, script, Condemn);
    }
    for (blame, script) in
        [(Content, "x"), (Content, "xxxxxx"), (Rules, "wxxx"), (Silence, "x"), (Closes, "xwx"), (Closes, "xxxxx"), (Closes, "xwxx")]
    {
        check(blame, 1, script, Wait);
    }
}

#[test]
fn a_message_is_parted_without_a_witness_only_to_look_for_one() {
    use {Blame::*, Verdict::*};
    for (blame, script) in [(Content, "x"), (Rules, "xwx"), (Silence, "x"), (Closes, "xx"), (TooLarge, "x")] {
        check(blame, 100, script, Part);
    }
    for (blame, script) in [(Rules, "xxx"), (Closes, "x")] {
        check(blame, 100, script, Wait);
    }
    let mut s = Suspects::default();
    assert_eq!(s.strike(key(1), Content, 100, Boot(0)), Part);
    assert_eq!(s.strike(key(2), Content, 100, Boot(0)), Wait, "one is enough to look");
    s.accepted(key(3), Boot(0));
    assert_eq!(s.strike(key(2), Content, 100, Boot(0)), Part);
}

#[test]
fn a_broker_that_takes_nothing_gets_nothing_put_aside_and_few_parts() {
    for blame in [Blame::Content, Blame::Rules, Blame::Closes] {
        let (mut s, mut now, mut parts, mut next) = (Suspects::default(), Boot::from_ms(0), 0, 100);
        let mut waiting: BTreeMap<Key, u64> = (1..20).map(|n| (key(n), 5000)).collect();
        for _ in 0..2000 {
            now = now + Duration::from_secs(60);
            let (key_, samples) = s
                .next(now, |k| waiting.contains_key(k))
                .map_or_else(|| waiting.first_key_value().map(|(k, v)| (*k, *v)).unwrap(), |k| (k, waiting[&k]));
            match s.strike(key_, blame, samples, now) {
                Verdict::Wait => {}
                Verdict::Part => {
                    parts += 1;
                    waiting.remove(&key_);
                    for half in [samples / 2, samples - samples / 2] {
                        next += 1;
                        waiting.insert(key(next), half);
                        s.part_of(key(next), blame, now);
                    }
                }
                Verdict::Condemn => panic!("{blame:?}: nothing was taken, so nothing is the data's fault"),
            }
        }
        assert!(parts <= UNPROVEN, "{blame:?}: {parts}");
        assert!(s.is_stuck(Stream::Telemetry) && !s.is_stuck(Stream::Event));
        assert_eq!(waiting.values().sum::<u64>(), 19 * 5000);
    }
}

#[test]
fn what_was_open_at_two_closes_is_tried_alone() {
    let mut s = Suspects::default();
    assert_eq!(s.closed(&[key(1), event(1), key(2)], None, Boot(0)), None);
    assert!(s.is_wary() && !s.contains(key(1)));
    s.accepted(key(1), Boot(0));
    assert_eq!(s.closed(&[event(1), key(2), key(3)], None, Boot(0)), None);
    assert!(s.contains(event(1)) && s.contains(key(2)) && !s.contains(key(3)) && !s.contains(key(1)));
    assert_eq!(s.alone(key(2)), Some(0));
    s.accepted(event(1), Boot(0));
    assert_eq!(s.closed(&[key(2)], Some((key(2), 8)), Boot(0)), Some((key(2), Verdict::Wait)));
    assert_eq!(s.closed(&[key(2)], Some((key(2), 8)), Boot(0)), Some((key(2), Verdict::Part)));
    // Two closes with nothing in common accuse nobody.
    let mut s = Suspects::default();
    for n in 0..100 {
        s.closed(&[key(n)], None, Boot(0));
        assert!(!s.contains(key(n)));
    }
}

#[test]
fn a_quota_is_waited_for_and_then_tried_with_one_message() {
    let (mut s, second) = (Suspects::default(), Duration::from_secs(1));
    let start = Boot::from_ms(1000);
    assert_eq!(s.quota_room(start), usize::MAX);
    assert_eq!(s.quota(start), second);
    assert_eq!(s.quota(start), second, "the others that were in flight change nothing");
    assert_eq!((s.quota_room(start), s.quota_room(start + second)), (0, 1));
    assert_eq!(s.quota(start + second), 2 * second);
    assert_eq!(s.due(|_| true), Some(start + 3 * second));
    s.accepted(key(1), start + 3 * second);
    assert_eq!(s.quota_room(start), usize::MAX);
}

#[test]
fn tries_become_rarer_until_somebody_is_taken() {
    let (mut s, mut now) = (Suspects::default(), Boot::from_ms(0));
    for want in [1, 2, 4, 8, 16, 32, 60, 60] {
        s.strike(key(1), Blame::Rules, 1, now);
        assert_eq!(s.due(|_| true), Some(now + Duration::from_secs(want)));
        assert_eq!(s.next(now, |_| true), None);
        now = now + Duration::from_secs(want);
    }
    s.accepted(key(2), now);
    assert_eq!(s.next(now, |_| true), Some(key(1)), "a witness brings it forward");
    assert_eq!(s.next(now, |_| false), None, "only what is held");
}
