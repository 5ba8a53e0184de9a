//! How long a device was there, of the time in which somebody could have seen it.
//!
//! Online counts while it is `online` or `suspect`: overdue is not yet gone. Not observed is what nobody could see: its line
//! or the gateway was away, it was not heard yet, or a person said not to judge. Both figures are given, so that a gateway
//! that was off for a week looks neither like a dead device nor like a perfect one.
//!
//! Pure: moments come as wall time, as well as that is known when somebody asks. Order is the order of the history.

use crate::model::{Cause, State, WallMs};

/// From this moment on it was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub at: WallMs,
    pub state: State,
    pub cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uptime {
    pub range_ms: u64,
    pub online_ms: u64,
    pub offline_ms: u64,
    /// A part of what was not observed.
    pub maintenance_ms: u64,
    /// Changes within the range, without those that only say that the gateway began to look.
    pub changes: u64,
    /// The longest time without interruption for which it was offline, as far as it lies in the range.
    pub longest_outage: Option<Outage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    pub from: WallMs,
    pub ms: u64,
}

impl Uptime {
    pub fn observed_ms(&self) -> u64 {
        self.online_ms + self.offline_ms
    }

    /// Of the time observed. `None`: it never was.
    #[allow(clippy::cast_precision_loss)] // milliseconds of 200,000 years
    pub fn online_share(&self) -> Option<f64> {
        (self.observed_ms() > 0).then(|| self.online_ms as f64 / self.observed_ms() as f64)
    }

    /// Of the range.
    #[allow(clippy::cast_precision_loss)]
    pub fn observed_share(&self) -> Option<f64> {
        (self.range_ms > 0).then(|| self.observed_ms() as f64 / self.range_ms as f64)
    }
}

/// `turns`: in the order of the history; before the first nothing is known. `looked`: when a gateway was there to see it.
pub fn uptime(turns: &[Turn], looked: &[(WallMs, WallMs)], from: WallMs, to: WallMs) -> Uptime {
    let (from, to) = (from.0, to.0.max(from.0));
    let looked = merged(looked, from, to);
    let mut out = Uptime { range_ms: to.abs_diff(from), ..Uptime::default() };
    let mut outage: Option<(i64, i64)> = None;
    let mut begun = i64::MIN;
    let mut first = 0;
    for (n, turn) in turns.iter().enumerate() {
        // A clock that was corrected may put a later change before an earlier one: it lasts for nothing then.
        begun = begun.max(turn.at.0);
        let end = turns.get(n + 1).map_or(to, |next| next.at.0.max(begun).min(to));
        if (from..to).contains(&begun) && turn.cause != Some(Cause::Restored) {
            out.changes += 1;
        }
        let begin = begun.max(from);
        while looked.get(first).is_some_and(|(_, until)| *until <= begin) {
            first += 1;
        }
        for (a, b) in looked[first.min(looked.len())..].iter().take_while(|(a, _)| *a < end) {
            let (a, b) = ((*a).max(begin), (*b).min(end));
            let ms = u64::try_from(b.saturating_sub(a)).unwrap_or(0);
            match (turn.state, turn.cause) {
                _ if ms == 0 => {}
                (State::Online | State::Suspect, _) => out.online_ms += ms,
                (State::Offline, _) => {
                    out.offline_ms += ms;
                    let whole = outage.filter(|(_, until)| *until == a).map_or((a, b), |(since, _)| (since, b));
                    outage = Some(whole);
                    let ms = whole.1.abs_diff(whole.0);
                    if out.longest_outage.is_none_or(|o| o.ms < ms) {
                        out.longest_outage = Some(Outage { from: WallMs(whole.0), ms });
                    }
                }
                (State::Unknown, Some(Cause::Maintenance)) => out.maintenance_ms += ms,
                (State::Unknown, _) => {}
            }
        }
    }
    out
}

/// In order, without overlaps, within the range.
pub(super) fn merged(looked: &[(WallMs, WallMs)], from: i64, to: i64) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = looked.iter().map(|(a, b)| (a.0.max(from), b.0.min(to))).filter(|(a, b)| a < b).collect();
    all.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (a, b) in all {
        match out.last_mut() {
            Some(last) if a <= last.1 => last.1 = last.1.max(b),
            _ => out.push((a, b)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1000;

    fn turn(at: i64, state: State, cause: Option<Cause>) -> Turn {
        Turn { at: WallMs(at * S), state, cause }
    }

    fn online(at: i64) -> Turn {
        turn(at, State::Online, None)
    }

    fn offline(at: i64) -> Turn {
        turn(at, State::Offline, Some(Cause::Silent))
    }

    fn unknown(at: i64, cause: Cause) -> Turn {
        turn(at, State::Unknown, Some(cause))
    }

    /// Seconds online, offline, in maintenance, of 100; changes; the longest outage as begin and length.
    #[track_caller]
    fn check(turns: &[Turn], looked: &[(i64, i64)], want: (u64, u64, u64, u64, Option<(i64, u64)>)) {
        let looked: Vec<_> = looked.iter().map(|(a, b)| (WallMs(a * S), WallMs(b * S))).collect();
        let got = uptime(turns, &looked, WallMs(0), WallMs(100 * S));
        let outage = got.longest_outage.map(|o| (o.from.0 / S, o.ms / 1000));
        assert_eq!((got.online_ms / 1000, got.offline_ms / 1000, got.maintenance_ms / 1000, got.changes, outage), want, "{turns:?}");
        assert_eq!(got.range_ms, 100_000);
    }

    #[test]
    fn time_is_online_offline_or_not_observed() {
        let always = &[(-50, 200)];
        check(&[], always, (0, 0, 0, 0, None));
        check(&[online(-10)], always, (100, 0, 0, 0, None));
        check(&[online(-10), offline(20), online(30), offline(90)], always, (80, 20, 0, 3, Some((20, 10))));
        check(&[online(40), turn(60, State::Suspect, Some(Cause::Silent)), offline(70)], always, (30, 30, 0, 3, Some((70, 30))));
        check(&[online(0), unknown(10, Cause::LineDown), online(30)], always, (80, 0, 0, 3, None));
        check(&[online(0), unknown(10, Cause::Maintenance), online(30)], always, (80, 0, 20, 3, None));
        check(&[offline(-10), turn(20, State::Offline, Some(Cause::Said))], always, (0, 100, 0, 1, Some((0, 100))));
    }

    #[test]
    fn nobody_saw_it_while_the_gateway_was_off() {
        let turns = [online(-10), unknown(50, Cause::Restored), online(60)];
        check(&turns, &[(-20, 20), (50, 100)], (60, 0, 0, 1, None));
        check(&[offline(10)], &[(0, 20), (30, 60), (55, 70)], (0, 50, 0, 1, Some((30, 40))));
        check(&[online(0)], &[], (0, 0, 0, 1, None));
    }

    #[test]
    fn a_clock_that_went_back_costs_no_time() {
        check(&[online(0), offline(50), online(30), offline(60)], &[(0, 100)], (60, 40, 0, 4, Some((60, 40))));
    }

    #[test]
    fn shares_are_of_what_was_seen() {
        let up = uptime(&[online(0), offline(30)], &[(WallMs(0), WallMs(40 * S))], WallMs(0), WallMs(80 * S));
        assert_eq!((up.online_share(), up.observed_share()), (Some(0.75), Some(0.5)));
        let none = uptime(&[], &[], WallMs(5), WallMs(5));
        assert_eq!((none.online_share(), none.observed_share()), (None, None));
        assert_eq!(uptime(&[], &[], WallMs(5), WallMs(1)).range_ms, 0);
    }

    fn state() -> impl Strategy<Value = (State, Option<Cause>)> {
        prop_oneof![
            Just((State::Online, None)),
            Just((State::Suspect, Some(Cause::Silent))),
            Just((State::Offline, Some(Cause::Silent))),
            Just((State::Offline, Some(Cause::Said))),
            Just((State::Unknown, Some(Cause::LineDown))),
            Just((State::Unknown, Some(Cause::Restored))),
            Just((State::Unknown, Some(Cause::Maintenance))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Second by second: what it was then, and whether anybody looked.
        #[test]
        fn it_is_what_is_counted_second_by_second(
            steps in proptest::collection::vec((0i64..30, state()), 0..25),
            looked in proptest::collection::vec((-50i64..250, 0i64..100), 0..6),
            from in -30i64..150,
            length in 0i64..150,
        ) {
            let mut at = -40;
            let turns: Vec<Turn> = steps.iter().map(|(after, (state, cause))| { at += after; turn(at, *state, *cause) }).collect();
            let looked: Vec<(i64, i64)> = looked.iter().map(|(a, n)| (*a, a + n)).collect();
            let to = from + length;
            let (mut online, mut offline, mut maintained, mut longest, mut run) = (0, 0, 0, 0, 0);
            for second in from..to {
                let is = turns.iter().rev().find(|t| t.at.0 <= second * S).filter(|_| looked.iter().any(|(a, b)| (*a..*b).contains(&second)));
                online += u64::from(is.is_some_and(|t| matches!(t.state, State::Online | State::Suspect)));
                maintained += u64::from(is.is_some_and(|t| t.cause == Some(Cause::Maintenance)));
                let gone = is.is_some_and(|t| t.state == State::Offline);
                offline += u64::from(gone);
                run = if gone { run + 1 } else { 0 };
                longest = longest.max(run);
            }
            let spans: Vec<_> = looked.iter().map(|(a, b)| (WallMs(a * S), WallMs(b * S))).collect();
            let got = uptime(&turns, &spans, WallMs(from * S), WallMs(to * S));
            prop_assert_eq!(got.online_ms, online * 1000);
            prop_assert_eq!(got.offline_ms, offline * 1000);
            prop_assert_eq!(got.maintenance_ms, maintained * 1000);
            prop_assert_eq!(got.longest_outage.map_or(0, |o| o.ms), longest * 1000);
            let changes = turns.iter().filter(|t| (from * S..to * S).contains(&t.at.0) && t.cause != Some(Cause::Restored)).count();
            prop_assert_eq!(got.changes, changes as u64);
        }
    }
}
