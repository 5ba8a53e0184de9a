//! A damaged spool.db: what is left of a segment that cannot be read is what RAM holds of it.

use super::{Core, cursor::Partial};
use crate::{
    model::Sealed,
    store::spool::{
        gaps::{Gap, Gaps},
        ring::Segment,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What an uplink still gets of a segment, and what it loses.
struct Share {
    /// With their samples.
    kept: BTreeMap<u64, u64>,
    lost: Vec<u64>,
    samples: u64,
}

impl Core {
    /// The batches of a segment that are in RAM: in flight, or to be sent again.
    pub fn held(&self, n: u64) -> Vec<Arc<Sealed>> {
        let Some(s) = self.ring.get(n) else { return Vec::new() };
        let range = (s.epoch, s.first)..=(s.epoch, s.last());
        let tracked = self.batches.range(range).filter(|(_, b)| b.segment == Some(n)).filter_map(|(_, b)| b.sealed.as_ref());
        let loaded = self.cursors.iter().flat_map(|c| &c.loaded).filter(|(_, of, _)| *of == n).map(|(_, _, sealed)| sealed);
        let all: BTreeMap<u64, &Arc<Sealed>> = tracked.chain(loaded).map(|sealed| (sealed.key.seq, sealed)).collect();
        all.into_values().cloned().collect()
    }

    /// Only these numbers of the segment are left: for each uplink, what it does not have of the others is a gap.
    pub fn cut(&mut self, n: u64, kept: &BTreeSet<u64>) {
        let Some(old) = self.ring.get(n).cloned() else { return };
        let range = (old.epoch, old.first)..=(old.epoch, old.last());
        // Let go for the sake of RAM, and now gone from the disk as well.
        let empty = self.batches.range(range).filter(|(_, b)| b.segment == Some(n) && b.sealed.is_none()).map(|(place, _)| *place);
        for place in empty.collect::<Vec<_>>() {
            self.forget(place);
        }
        let samples: BTreeMap<u64, u64> =
            self.held(n).iter().map(|s| (s.key.seq, s.samples())).filter(|(seq, _)| kept.contains(seq)).collect();
        let alike = old.done == 0 && self.cursors.iter().all(|c| !c.partial.contains_key(&n));
        let shares: Vec<Option<Share>> = (0..self.cursors.len()).map(|u| self.share(u, n, &old, &samples)).collect();
        self.tell_cut(&old, &shares, alike);
        self.replace(n, old, &samples, shares);
    }

    fn share(&self, u: usize, n: u64, old: &Segment, samples: &BTreeMap<u64, u64>) -> Option<Share> {
        let cursor = &self.cursors[u];
        if !cursor.wants(old) {
            return None;
        }
        let kept: BTreeMap<u64, u64> = samples.iter().filter(|(seq, _)| !self.has(cursor, n, **seq)).map(|(seq, of)| (*seq, *of)).collect();
        let lost = (old.first..=old.last()).filter(|seq| !kept.contains_key(seq) && !self.has(cursor, n, *seq)).collect();
        let samples = cursor.of(n, old).1.saturating_sub(kept.values().sum());
        Some(Share { kept, lost, samples })
    }

    /// Gaps and counts: for everybody alike, or for each by name.
    fn tell_cut(&mut self, old: &Segment, shares: &[Option<Share>], alike: bool) {
        let epoch = self.epoch_of(old.epoch);
        let mut gaps = Gaps::default();
        let (mut required, mut told) = (0, false);
        for (cursor, share) in self.cursors.iter_mut().zip(shares) {
            let Some(share) = share else { continue };
            cursor.dropped_samples += share.samples;
            if cursor.holder.required {
                required = required.max(share.samples);
            }
            if alike && std::mem::replace(&mut told, true) {
                continue;
            }
            let uplink = (!alike).then(|| cursor.holder.id.clone());
            let mut samples = share.samples;
            for seq in &share.lost {
                let samples = std::mem::take(&mut samples);
                let uplink = uplink.clone();
                gaps.owe(Gap { epoch, from: *seq, to: *seq, samples, reason: Gap::DAMAGED, uplink, replaced_by: None });
            }
        }
        self.drop_samples(required);
        gaps.take().into_iter().for_each(|gap| self.gaps.owe(gap));
    }

    /// The segment as the new file has it: of all its numbers those that are not kept count as had.
    fn replace(&mut self, n: u64, old: Segment, samples: &BTreeMap<u64, u64>, shares: Vec<Option<Share>>) {
        let alone = self.is_alone();
        let all = || old.first..=old.last();
        let mut new = old.clone();
        let mut delivered = BTreeSet::new();
        if alone {
            let kept = shares.iter().flatten().next().map(|s| &s.kept);
            let is_kept = |seq: &u64| kept.is_some_and(|kept| kept.contains_key(seq));
            delivered = all().filter(|seq| !is_kept(seq)).collect();
            new.left = kept.map_or(0, |kept| u32::try_from(kept.len()).unwrap_or(u32::MAX));
            new.samples = kept.map_or(0, |kept| u32::try_from(kept.values().sum::<u64>()).unwrap_or(u32::MAX));
        } else {
            new.left = old.span.saturating_add(1);
            new.samples = u32::try_from(samples.values().sum::<u64>()).unwrap_or(u32::MAX);
        }
        self.ring.remove(n);
        self.moved = true;
        for (cursor, share) in self.cursors.iter_mut().zip(shares) {
            let Some(share) = share else { continue };
            let mut loaded = std::mem::take(&mut cursor.loaded);
            cursor.remove(n, &old);
            loaded.retain(|(_, of, sealed)| *of != n || share.kept.contains_key(&sealed.key.seq));
            cursor.loaded = loaded;
            if share.kept.is_empty() {
                new.done |= cursor.bit;
                continue;
            }
            let rest = u64::from(new.samples).saturating_sub(share.kept.values().sum());
            let part = Partial { seqs: all().filter(|seq| !share.kept.contains_key(seq)).collect(), samples: rest };
            cursor.add(n, &new, (!alone).then_some(part));
            cursor.waiting_samples += cursor.of(n, &new).1;
        }
        if new.done & self.all == self.all {
            self.ring.free(new.slot, 0);
        } else {
            self.ring.insert(n, new, delivered);
        }
    }
}
