//! A set of sequence numbers as ranges: what came of a stream takes as much memory as it has holes.

use std::collections::BTreeMap;

/// Ranges that do not touch, by their first number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Whether it is new.
    pub fn insert(&mut self, n: u64) -> bool {
        let is_new = !self.contains(n);
        self.insert_range(n, n);
        is_new
    }

    pub fn insert_range(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        let (mut from, mut to) = (from, to);
        if let Some((first, last)) = self.0.range(..=from).next_back().map(|(a, b)| (*a, *b))
            && last >= from.saturating_sub(1)
        {
            (from, to) = (first, to.max(last));
        }
        while let Some((first, last)) = self.0.range(from..=to.saturating_add(1)).next().map(|(a, b)| (*a, *b)) {
            self.0.remove(&first);
            to = to.max(last);
        }
        self.0.insert(from, to);
    }

    pub fn contains(&self, n: u64) -> bool {
        self.0.range(..=n).next_back().is_some_and(|(_, last)| *last >= n)
    }

    pub fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }

    pub fn last(&self) -> Option<u64> {
        self.0.values().next_back().copied()
    }

    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(a, b)| (*a, *b))
    }

    /// How many numbers.
    pub fn count(&self) -> u64 {
        self.ranges().fold(0, |n, (a, b)| n.saturating_add((b - a).saturating_add(1)))
    }

    /// How many ranges: what it costs.
    pub fn pieces(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of `from..=to` that are not in it.
    pub fn holes(&self, from: u64, to: u64) -> Numbers {
        let (mut holes, mut next) = (Numbers::default(), from);
        let begin = self.0.range(..=from).next_back().map_or(from, |(a, _)| *a);
        for (a, b) in self.0.range(begin..).take_while(|(a, _)| **a <= to) {
            if next < *a {
                holes.0.insert(next, a - 1);
            }
            match b.checked_add(1) {
                Some(after) => next = next.max(after),
                None => return holes,
            }
        }
        if next <= to {
            holes.0.insert(next, to);
        }
        holes
    }

    /// Those that are in this and not in the other.
    pub fn without(&self, other: &Numbers) -> Numbers {
        let mut out = Numbers::default();
        for (a, b) in self.ranges() {
            out.0.extend(other.holes(a, b).0);
        }
        out
    }

    /// Those below `n`, and the rest.
    pub fn split(&self, n: u64) -> (Numbers, Numbers) {
        let (mut below, mut above) = (Numbers::default(), Numbers::default());
        for (a, b) in self.ranges() {
            if a < n {
                below.0.insert(a, b.min(n - 1));
            }
            if b >= n {
                above.0.insert(a.max(n), b);
            }
        }
        (below, above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(ranges: &[(u64, u64)]) -> Numbers {
        let mut out = Numbers::default();
        ranges.iter().for_each(|(a, b)| out.insert_range(*a, *b));
        out
    }

    #[test]
    fn the_ends_of_the_range_of_numbers_are_numbers_too() {
        let mut all = of(&[(1, u64::MAX)]);
        assert!(!all.insert(u64::MAX) && all.insert(0));
        assert_eq!((all.pieces(), all.count(), all.holes(0, u64::MAX)), (1, u64::MAX, Numbers::default()));
        assert_eq!(of(&[(2, 3)]).holes(1, u64::MAX), of(&[(1, 1), (4, u64::MAX)]));
    }

    proptest! {
        #[test]
        fn it_is_the_set_that_it_stands_for(
            ranges in prop::collection::vec((1u64..60, 0u64..6), 0..30),
            other in prop::collection::vec((1u64..60, 0u64..6), 0..10),
            at in 1u64..70,
        ) {
            let set = |r: &[(u64, u64)]| r.iter().flat_map(|(a, n)| *a..=a + n).collect::<BTreeSet<u64>>();
            let numbers = |r: &[(u64, u64)]| of(&r.iter().map(|(a, n)| (*a, a + n)).collect::<Vec<_>>());
            let flat = |n: &Numbers| n.ranges().flat_map(|(a, b)| a..=b).collect::<BTreeSet<u64>>();
            let (a, b) = (numbers(&ranges), numbers(&other));
            let (sa, sb) = (set(&ranges), set(&other));
            prop_assert_eq!(flat(&a), sa.clone());
            prop_assert_eq!(a.count(), sa.len() as u64);
            prop_assert!(a.ranges().zip(a.ranges().skip(1)).all(|(x, y)| x.1 + 1 < y.0), "neighbours are one range");
            prop_assert_eq!(flat(&a.holes(5, at)), (5..=at).filter(|n| !sa.contains(n)).collect::<BTreeSet<u64>>());
            prop_assert_eq!(flat(&a.without(&b)), &sa - &sb);
            let (below, above) = a.split(at);
            prop_assert!(flat(&below).iter().all(|n| *n < at) && flat(&above).iter().all(|n| *n >= at));
            prop_assert_eq!(&flat(&below) | &flat(&above), sa.clone());
            prop_assert_eq!(a.contains(at), sa.contains(&at));
        }
    }
}
