//! The last values of every device, in RAM only: for the device list and for `status`.

use crate::{
    logic::registry::Seat,
    model::{Boot, PointCard, PointId, Reading, Value},
};
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Values remembered of one device, over all groups of points that it sent together. More: the oldest group is forgotten,
/// so a publisher whose keys never repeat fills no memory.
const VALUES: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Latest {
    /// By their seats: what comes thousands of times a second touches little memory.
    devices: Vec<Groups>,
    /// What is shown of devices that nobody configured, once for all that send the same points.
    shapes: BTreeMap<Arc<[PointId]>, Arc<[PointCard]>>,
}

#[derive(Debug, Default)]
struct Groups {
    /// Most devices have one.
    list: SmallVec<[Group; 1]>,
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
    pub fn put(&mut self, seat: Seat, reading: &Reading) -> bool {
        if self.devices.len() <= seat.place() {
            self.devices.resize_with(seat.place() + 1, Groups::default);
        }
        let groups = &mut self.devices[seat.place()];
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
        groups.list.push(Group { points: Arc::clone(&reading.points), at: reading.at, values: reading.values.clone() });
        groups.values += reading.values.len();
        while groups.values > VALUES && groups.list.len() > 1 {
            groups.values -= groups.list.remove(0).values.len();
        }
        groups.next = 0;
        true
    }

    /// Keeps what is shown of a device that always sends the same points: thousands of them share one list.
    pub fn show(&mut self, seat: Seat) {
        let Some(groups) = self.devices.get_mut(seat.place()) else { return };
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
    pub fn shown(&self, seat: Seat) -> Arc<[PointCard]> {
        let kept = self.devices.get(seat.place()).and_then(|groups| groups.shown.clone());
        kept.unwrap_or_else(|| self.of(seat).keys().map(|p| bare(p)).collect())
    }

    /// Each point's last value.
    pub fn of(&self, seat: Seat) -> BTreeMap<&PointId, (Boot, &Value)> {
        let mut out: BTreeMap<&PointId, (Boot, &Value)> = BTreeMap::new();
        for group in self.devices.get(seat.place()).iter().flat_map(|g| &g.list) {
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
    use crate::model::DeviceId;

    #[test]
    fn keys_that_never_repeat_fill_no_memory() {
        let mut latest = Latest::default();
        for n in 0..20_000u64 {
            let points = Arc::from([PointId::parse(&format!("k{n}")).unwrap()]);
            let device = DeviceId::parse("chatty").unwrap();
            latest.put(Seat::nth(3), &Reading { device, at: Boot(n), points, values: vec![Value::Uint(n)], quality: None });
        }
        let of = latest.of(Seat::nth(3));
        assert_eq!(of.len(), VALUES);
        assert_eq!(of.values().map(|(at, _)| at.0).max(), Some(19_999));
    }

    #[test]
    fn devices_that_send_the_same_points_share_what_is_shown_of_them() {
        let mut latest = Latest::default();
        let point = |name: &str| PointId::parse(name).unwrap();
        let mut put = |seat: u32, points: &[&str]| {
            let points: Arc<[PointId]> = points.iter().map(|p| point(p)).collect();
            let (device, values) = (DeviceId::parse("any").unwrap(), vec![Value::Uint(1); points.len()]);
            latest.put(Seat::nth(seat), &Reading { device, at: Boot(1), points, values, quality: None });
            latest.show(Seat::nth(seat));
            latest.shown(Seat::nth(seat))
        };
        let (a, b) = (put(0, &["temp", "rssi"]), put(1, &["temp", "rssi"]));
        assert!(Arc::ptr_eq(&a, &b));
        let names = |cards: &[PointCard]| cards.iter().map(|c| c.id.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&a), ["rssi", "temp"]);
        assert_eq!(names(&put(0, &["door"])), ["door", "rssi", "temp"], "both groups");
    }
}
