//! The last values of every device, in RAM only: for the device list and for `status`.

use crate::model::{Boot, DeviceId, PointId, Reading, Value};
use std::{collections::BTreeMap, sync::Arc};

/// Values remembered of one device, over all groups of points that it sent together. More: the oldest group is forgotten,
/// so a publisher whose keys never repeat fills no memory.
const VALUES: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Latest {
    devices: BTreeMap<DeviceId, Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    list: Vec<Group>,
    /// The group after the one that came last: planned requests come round in order.
    next: usize,
    /// In all groups.
    values: usize,
}

#[derive(Debug)]
struct Group {
    points: Arc<[PointId]>,
    at: Boot,
    values: Vec<Value>,
}

impl Latest {
    /// Remembers the values. True if the device never sent these points together before.
    pub fn put(&mut self, reading: &Reading) -> bool {
        let groups = match self.devices.get_mut(&reading.device) {
            Some(groups) => groups,
            None => self.devices.entry(reading.device.clone()).or_default(),
        };
        let n = groups.list.len();
        let by_place = (0..n).map(|k| (groups.next + k) % n).find(|k| Arc::ptr_eq(&groups.list[*k].points, &reading.points));
        let found = by_place.or_else(|| groups.list.iter().position(|g| g.points == reading.points));
        if let Some(k) = found {
            let group = &mut groups.list[k];
            group.at = reading.at;
            group.values.clone_from(&reading.values);
            groups.next = k + 1;
            return false;
        }
        groups.list.push(Group { points: Arc::clone(&reading.points), at: reading.at, values: reading.values.clone() });
        groups.values += reading.values.len();
        while groups.values > VALUES && groups.list.len() > 1 {
            groups.values -= groups.list.remove(0).values.len();
        }
        groups.next = 0;
        true
    }

    /// Each point's last value.
    pub fn of(&self, device: &DeviceId) -> BTreeMap<&PointId, (Boot, &Value)> {
        let mut out: BTreeMap<&PointId, (Boot, &Value)> = BTreeMap::new();
        for group in self.devices.get(device).iter().flat_map(|g| &g.list) {
            for (point, value) in group.points.iter().zip(&group.values) {
                let place = out.entry(point).or_insert((group.at, value));
                if place.0 <= group.at {
                    *place = (group.at, value);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_never_repeat_fill_no_memory() {
        let mut latest = Latest::default();
        for n in 0..20_000u64 {
            let points = Arc::from([PointId::parse(&format!("k{n}")).unwrap()]);
            let device = DeviceId::parse("chatty").unwrap();
            latest.put(&Reading { device, at: Boot(n), points, values: vec![Value::Uint(n)], quality: None });
        }
        let of = latest.of(&DeviceId::parse("chatty").unwrap());
        assert_eq!(of.len(), VALUES);
        assert_eq!(of.values().map(|(at, _)| at.0).max(), Some(19_999));
    }
}
