//! A damaged spool.db: what is left of a segment that cannot be read is what RAM holds of it.

use super::Core;
use crate::{
    model::Sealed,
    store::spool::gaps::{Gap, Gaps},
};
use std::{collections::BTreeSet, sync::Arc};

impl Core {
    /// The batches of a segment that are in RAM: in flight, or to be sent again.
    pub fn held(&self, n: u64) -> Vec<Arc<Sealed>> {
        let Some(s) = self.ring.get(n) else { return Vec::new() };
        let range = (s.epoch, s.first)..=(s.epoch, s.last());
        let loaded = self.loaded.iter().filter(|(_, of, _)| *of == n).map(|(_, _, sealed)| sealed);
        let mut all: Vec<_> =
            self.batches.range(range).filter(|(_, b)| b.segment == Some(n)).filter_map(|(_, b)| b.sealed.as_ref()).collect();
        all.extend(loaded);
        all.sort_by_key(|sealed| sealed.key.seq);
        all.into_iter().cloned().collect()
    }

    /// Only these numbers of the segment are left, with so many samples: what was not delivered of the others is a gap.
    pub fn cut(&mut self, n: u64, kept: &BTreeSet<u64>) {
        let Some((mut segment, mut delivered)) = self.ring.remove(n) else { return };
        let epoch = self.epoch_of(segment.epoch);
        let range = (segment.epoch, segment.first)..=(segment.epoch, segment.last());
        // Let go for the sake of RAM, and now gone from the disk as well.
        let empty = self.batches.range(range).filter(|(_, b)| b.segment == Some(n) && b.sealed.is_none()).map(|(place, _)| *place);
        for place in empty.collect::<Vec<_>>() {
            self.forget(place);
        }
        let left: BTreeSet<u64> = kept.iter().copied().filter(|seq| !delivered.contains(seq)).collect();
        let held = |seq: &u64| self.batches.get(&(segment.epoch, *seq)).map_or(0, |b| b.samples);
        let loaded = |seq: &u64| self.loaded.iter().find(|(_, of, s)| *of == n && s.key.seq == *seq).map_or(0, |(_, _, s)| s.samples());
        let still: u64 = left.iter().map(|seq| held(seq).max(loaded(seq))).sum();
        let mut gone = u64::from(segment.samples).saturating_sub(still);
        self.drop_samples(gone);
        let mut gaps = Gaps::default();
        for seq in (segment.first..=segment.last()).filter(|seq| !delivered.contains(seq) && !left.contains(seq)).collect::<Vec<_>>() {
            let samples = std::mem::take(&mut gone);
            gaps.owe(Gap { epoch, from: seq, to: seq, samples, reason: Gap::DAMAGED, replaced_by: None });
            delivered.insert(seq);
        }
        gaps.take().into_iter().for_each(|gap| self.gaps.owe(gap));
        if left.is_empty() {
            self.ring.free(segment.slot, 0);
            return;
        }
        segment.left = u32::try_from(left.len()).unwrap_or(u32::MAX);
        segment.samples = u32::try_from(still).unwrap_or(u32::MAX);
        self.ring.insert(n, segment, delivered);
    }
}
