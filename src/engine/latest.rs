//! The last values of every device, in RAM only: for the device list and for `status`.

use crate::model::{Boot, DeviceId, PointCard, PointId, Reading, Value};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Values remembered of one device, over all groups of points that it sent together. More: the oldest group is forgotten,
/// so a publisher whose keys never repeat fills no memory.
const VALUES: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Latest {
    devices: HashMap<DeviceId, Groups>,
    /// What is shown of devices that nobody configured, once for all that send the same points.
    shapes: BTreeMap<Arc<[PointId]>, Arc<[PointCard]>>,
}

#[derive(Debug, Default)]
struct Groups {
    list: Vec<Group>,
    /// The group after the one that came last: planned requests come round in order.
    next: usize,
    /// In all groups.
    values: usize,
    /// See [`Latest::show`].
    shown: Option<Arc<[PointCard]>>,
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
        groups.shown = None;
        groups.list.reserve_exact(1); // most devices have one, and there may be thousands
        groups.list.push(Group { points: Arc::clone(&reading.points), at: reading.at, values: reading.values.clone() });
        groups.values += reading.values.len();
        while groups.values > VALUES && groups.list.len() > 1 {
            groups.values -= groups.list.remove(0).values.len();
        }
        groups.next = 0;
        true
    }

    /// Keeps what is shown of a device that always sends the same points: thousands of them share one list.
    pub fn show(&mut self, device: &DeviceId) {
        let Some(groups) = self.devices.get_mut(device) else { return };
        if let [group] = groups.list.as_slice() {
            let shape = match self.shapes.get(&group.points) {
                Some(shape) => Arc::clone(shape),
                None => {
                    let ids: BTreeSet<&PointId> = group.points.iter().collect();
                    let shape: Arc<[PointCard]> = ids.into_iter().map(bare).collect();
                    self.shapes.insert(Arc::clone(&group.points), Arc::clone(&shape));
                    shape
                }
            };
            groups.shown = Some(shape);
        }
    }

    /// What is shown of a device that nobody configured: the points that it sent.
    pub fn shown(&self, device: &DeviceId) -> Arc<[PointCard]> {
        let kept = self.devices.get(device).and_then(|groups| groups.shown.clone());
        kept.unwrap_or_else(|| self.of(device).keys().map(|p| bare(p)).collect())
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

/// Of a point nothing is known but its name.
fn bare(id: &PointId) -> PointCard {
    PointCard { id: id.clone(), unit: String::new(), kind: "", writable: false }
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

    #[test]
    fn devices_that_send_the_same_points_share_what_is_shown_of_them() {
        let mut latest = Latest::default();
        let point = |name: &str| PointId::parse(name).unwrap();
        let mut put = |device: &str, points: &[&str]| {
            let points: Arc<[PointId]> = points.iter().map(|p| point(p)).collect();
            let (device, values) = (DeviceId::parse(device).unwrap(), vec![Value::Uint(1); points.len()]);
            latest.put(&Reading { device: device.clone(), at: Boot(1), points, values, quality: None });
            latest.show(&device);
            latest.shown(&device)
        };
        let (a, b) = (put("a", &["temp", "rssi"]), put("b", &["temp", "rssi"]));
        assert!(Arc::ptr_eq(&a, &b));
        let names = |cards: &[PointCard]| cards.iter().map(|c| c.id.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&a), ["rssi", "temp"]);
        assert_eq!(names(&put("a", &["door"])), ["door", "rssi", "temp"], "both groups");
    }
}
