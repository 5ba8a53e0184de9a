//! Gaps of telemetry whose events went at the quota: told again in fewer events, with the same sum of samples.
//!
//! Neighbours become one. Samples that stand for nothing else are added up; those of numbers that others replaced are
//! counted under the others, so where both meet only the first count stays. Pure.

use crate::{
    model::{Boot, Epoch, Event, Replaced, UplinkId},
    store::spool::gaps::Gap,
};
use std::{borrow::Cow, collections::BTreeMap};

const FOLDED: Cow<'static, str> = Cow::Borrowed("several gaps in one, because too many events waited for the cloud");

/// By epoch and uplink, in the order in which they were met; then by first number.
#[derive(Debug, Default)]
pub struct Told(Vec<(Of, BTreeMap<u64, Gap>)>);

type Of = (Epoch, Option<UplinkId>);

impl Told {
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, gaps)| gaps.len()).sum()
    }

    pub fn add(&mut self, mut gap: Gap) {
        let of = (gap.epoch, gap.uplink.clone());
        let at = self.0.iter().position(|(known, _)| *known == of).unwrap_or_else(|| {
            self.0.push((of, BTreeMap::new()));
            self.0.len() - 1
        });
        let gaps = &mut self.0[at].1;
        // Told twice, around a kill: the longer one says more.
        if let Some(same) = gaps.remove(&gap.from)
            && same.to >= gap.to
        {
            gap = same;
        }
        if let Some((&first, before)) = gaps.range(..gap.from).next_back()
            && before.to.saturating_add(1) == gap.from
        {
            gap = fold(before.clone(), gap);
            gaps.remove(&first);
        }
        if let Some(after) = gaps.remove(&gap.to.saturating_add(1)) {
            gap = fold(gap, after);
        }
        gaps.insert(gap.from, gap);
    }

    pub fn events(self, at: Boot) -> impl Iterator<Item = Event> {
        self.0.into_iter().flat_map(|(_, gaps)| gaps.into_values()).map(move |gap| gap.event(at))
    }
}

/// Two neighbours as one.
fn fold(a: Gap, b: Gap) -> Gap {
    let reason = if a.reason == b.reason { a.reason.clone() } else { FOLDED };
    let replaced_by = match (a.replaced_by, b.replaced_by) {
        (Some(a), Some(b)) if a.epoch == b.epoch => Some(Replaced { epoch: a.epoch, from: a.from.min(b.from), to: a.to.max(b.to) }),
        _ => None,
    };
    let counts = |gap: &Gap| if replaced_by.is_some() || gap.replaced_by.is_none() { gap.samples } else { 0 };
    let samples = counts(&a) + counts(&b);
    Gap { to: b.to, samples, reason, replaced_by, ..a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Epoch = Epoch(10);

    fn gap(from: u64, to: u64, samples: u64, by: Option<(u64, u64)>) -> Gap {
        let replaced_by = by.map(|(from, to)| Replaced { epoch: Epoch(11), from, to });
        Gap { epoch: A, from, to, samples, reason: if by.is_some() { "thinned" } else { "full" }.into(), uplink: None, replaced_by }
    }

    /// From, to, samples, and the numbers that replace them.
    type Said = (u64, u64, u64, Option<(u64, u64)>);

    #[track_caller]
    fn check(gaps: &[Gap], want: &[Said]) {
        let mut told = Told::default();
        gaps.iter().for_each(|gap| told.add(gap.clone()));
        let got: Vec<_> = told.0.iter().flat_map(|(_, gaps)| gaps.values()).collect();
        let got: Vec<_> = got.iter().map(|g| (g.from, g.to, g.samples, g.replaced_by.map(|r| (r.from, r.to)))).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn neighbours_become_one_and_the_sum_stays() {
        check(&[gap(1, 2, 20, None), gap(3, 3, 10, None)], &[(1, 3, 30, None)]);
        check(&[gap(3, 3, 10, None), gap(1, 1, 5, None), gap(2, 2, 1, None)], &[(1, 3, 16, None)]);
        check(&[gap(1, 2, 20, None), gap(4, 4, 10, None)], &[(1, 2, 20, None), (4, 4, 10, None)]);
        let thinned = [gap(1, 2, 20, Some((9, 9))), gap(3, 3, 10, Some((20, 21)))];
        check(&thinned, &[(1, 3, 30, Some((9, 21)))]);
        // What was replaced is counted by what replaced it.
        check(&[gap(1, 2, 20, Some((9, 9))), gap(3, 3, 10, None)], &[(1, 3, 10, None)]);
        check(&[gap(1, 2, 20, None), gap(1, 2, 20, None)], &[(1, 2, 20, None)]);
        let other = Gap { epoch: Epoch(12), ..gap(2, 2, 7, None) };
        check(&[gap(1, 1, 20, None), other], &[(1, 1, 20, None), (2, 2, 7, None)]);
        let one = Gap { uplink: UplinkId::parse("archive").ok(), ..gap(2, 2, 7, None) };
        check(&[gap(1, 1, 20, None), one], &[(1, 1, 20, None), (2, 2, 7, None)]);
    }

    proptest! {
        #[test]
        fn whatever_is_folded_names_the_same_numbers_and_samples(
            parts in prop::collection::vec((1..4u64, 0..50u64, prop::option::of(1..3u64), any::<bool>()), 1..30),
            order in any::<prop::sample::Index>(),
        ) {
            let (mut next, mut gaps) = (1, Vec::new());
            for (length, samples, by, skip) in parts {
                next += u64::from(skip);
                gaps.push(gap(next, next + length - 1, samples, by.map(|n| (1000 * n + next, 1000 * n + next + 1))));
                next += length;
            }
            let middle = order.index(gaps.len());
            gaps.rotate_left(middle);
            let mut told = Told::default();
            gaps.iter().for_each(|gap| told.add(gap.clone()));
            let all: Vec<&Gap> = told.0.iter().flat_map(|(_, gaps)| gaps.values()).collect();
            let lost = |gaps: &[&Gap]| gaps.iter().filter(|g| g.replaced_by.is_none()).map(|g| g.samples).sum::<u64>();
            prop_assert_eq!(lost(&all), lost(&gaps.iter().collect::<Vec<_>>()));
            let numbers = |gaps: &[&Gap]| {
                let mut all: Vec<u64> = gaps.iter().flat_map(|g| g.from..=g.to).collect();
                all.sort_unstable();
                all
            };
            prop_assert_eq!(numbers(&all), numbers(&gaps.iter().collect::<Vec<_>>()));
            prop_assert!(all.windows(2).all(|pair| pair[0].to + 1 < pair[1].from), "no neighbours are left");
        }
    }
}
