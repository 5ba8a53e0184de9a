//! The states of a device over a range, in equal slots for a bar of fixed width. The worst of each slot is what shows, so that
//! a minute of trouble in a day is not lost between two pixels. Pure, as `uptime` is, and fed with the same.

use super::uptime::{Turn, merged};
use crate::model::{Cause, State, WallMs};

/// From good to bad: the greatest in a slot is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    Online,
    Unknown,
    Maintenance,
    Suspect,
    Offline,
}

impl Slot {
    /// One letter for each slot makes a short text.
    pub const fn letter(self) -> char {
        match self {
            Slot::Online => 'o',
            Slot::Unknown => 'u',
            Slot::Maintenance => 'm',
            Slot::Suspect => 's',
            Slot::Offline => 'x',
        }
    }
}

/// A restart takes some seconds: a gap shorter than this part of its slot is none.
const GAP_PART: i64 = 100;

/// `n` slots of `from..to`. `turns` and `looked` as for `uptime`.
pub fn timeline(turns: &[Turn], looked: &[(WallMs, WallMs)], from: WallMs, to: WallMs, n: u32) -> Vec<Slot> {
    let (from, to) = (from.0, to.0.max(from.0));
    let looked = merged(looked, from, to);
    let edge = |slot: u32| from + i64::try_from(i128::from(to - from) * i128::from(slot) / i128::from(n.max(1))).unwrap_or(0);
    let mut begun = i64::MIN;
    let spans: Vec<(i64, i64, Slot)> = turns
        .iter()
        .enumerate()
        .map(|(k, turn)| {
            begun = begun.max(turn.at.0);
            let end = turns.get(k + 1).map_or(to, |next| next.at.0.max(begun).min(to));
            (begun.max(from), end, shown(turn))
        })
        .filter(|(a, b, _)| a < b)
        .collect();
    let (mut first_span, mut first_look) = (0, 0);
    let slot = |k: u32| {
        let (a, b) = (edge(k), edge(k + 1));
        first_span += spans[first_span..].iter().take_while(|(_, end, _)| *end <= a).count();
        first_look += looked[first_look..].iter().take_while(|(_, end)| *end <= a).count();
        let (mut worst, mut seen) = (Slot::Online, 0);
        for (begin, end, state) in spans[first_span..].iter().take_while(|(begin, ..)| *begin < b) {
            for (from, until) in looked[first_look..].iter().take_while(|(from, _)| *from < b) {
                let ms = (*end).min(*until).min(b) - (*begin).max(*from).max(a);
                if ms > 0 && *state != Slot::Unknown {
                    worst = worst.max(*state);
                    seen += ms;
                }
            }
        }
        let gap = b - a - seen;
        if gap > (b - a) / GAP_PART || seen == 0 { worst.max(Slot::Unknown) } else { worst }
    };
    (0..n).map(slot).collect()
}

fn shown(turn: &Turn) -> Slot {
    match (turn.state, turn.cause) {
        (State::Online, _) => Slot::Online,
        (State::Suspect, _) => Slot::Suspect,
        (State::Offline, _) => Slot::Offline,
        (State::Unknown, Some(Cause::Maintenance)) => Slot::Maintenance,
        (State::Unknown, _) => Slot::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(at: i64, state: State, cause: Option<Cause>) -> Turn {
        Turn { at: WallMs(at), state, cause }
    }

    #[track_caller]
    fn check(turns: &[Turn], looked: &[(i64, i64)], want: &str) {
        let looked: Vec<_> = looked.iter().map(|(a, b)| (WallMs(*a), WallMs(*b))).collect();
        let got: String = timeline(turns, &looked, WallMs(0), WallMs(10_000), 10).into_iter().map(Slot::letter).collect();
        assert_eq!(got, want, "{turns:?} {looked:?}");
    }

    #[test]
    fn the_worst_of_a_slot_shows() {
        let always = &[(-5, 20_000)];
        let online = |at| turn(at, State::Online, None);
        check(&[], always, "uuuuuuuuuu");
        check(&[online(-3)], always, "oooooooooo");
        check(&[online(3500)], always, "uuuuoooooo");
        let silent = turn(3990, State::Offline, Some(Cause::Silent));
        check(&[online(0), silent, online(4001)], always, "oooxxooooo");
        check(&[online(0), turn(7000, State::Suspect, Some(Cause::Silent)), online(7001)], always, "ooooooosoo");
        check(&[online(0), turn(2000, State::Unknown, Some(Cause::Maintenance)), online(4000)], always, "oommoooooo");
        check(&[online(0), turn(2000, State::Unknown, Some(Cause::LineDown)), online(4000)], always, "oouuoooooo");
        // The gateway was away, and for moments only.
        check(&[online(0)], &[(0, 2000), (5000, 20_000)], "oouuuooooo");
        check(&[online(0)], &[(0, 2000), (2009, 20_000)], "oooooooooo");
        // While it was away nobody saw that it was offline.
        check(&[online(0), silent], &[(0, 5000)], "oooxxuuuuu");
    }

    proptest! {
        /// Each millisecond alone says the same as all of them together.
        #[test]
        fn each_slot_is_the_worst_of_its_moments(
            at in proptest::collection::btree_set(0..400i64, 0..8),
            kinds in proptest::collection::vec(0..5usize, 8),
            looked in proptest::collection::vec((0..400i64, 1..200i64), 0..4),
        ) {
            let kind = |k: usize| [
                (State::Online, None), (State::Suspect, Some(Cause::Silent)), (State::Offline, Some(Cause::Said)),
                (State::Unknown, Some(Cause::Maintenance)), (State::Unknown, Some(Cause::LineDown)),
            ][k];
            let turns: Vec<Turn> = at.iter().zip(&kinds).map(|(at, k)| turn(*at, kind(*k).0, kind(*k).1)).collect();
            let looked: Vec<_> = looked.iter().map(|(a, n)| (WallMs(*a), WallMs(a + n))).collect();
            // Slots of 40 ms, in which a gap of one millisecond counts.
            let got = timeline(&turns, &looked, WallMs(0), WallMs(400), 10);
            for (k, slot) in got.iter().enumerate() {
                let begin = 40 * i64::try_from(k).unwrap();
                let moment = |ms: i64| {
                    let seen = looked.iter().any(|(a, b)| (a.0..b.0).contains(&ms));
                    turns.iter().rev().find(|t| t.at.0 <= ms).filter(|_| seen).map_or(Slot::Unknown, shown)
                };
                prop_assert_eq!(Some(*slot), (begin..begin + 40).map(moment).max());
            }
        }
    }
}
