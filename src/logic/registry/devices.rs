//! Every device at its seat: found by its name, and gone through in the order of the names.

use super::entry::Entry;
use crate::model::DeviceId;
use indexmap::IndexMap;

/// Where a device sits as long as the gateway runs: seats are given out in order, from 0, and nobody gets up. What else is kept of
/// every device lies at the same place of a list of its own, and needs no second look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u32);

impl Seat {
    pub fn place(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub fn nth(n: u32) -> Seat {
        Seat(n)
    }
}

#[derive(Debug, Default)]
pub(super) struct Devices {
    seated: IndexMap<DeviceId, Entry>,
    /// In the order of the names.
    order: Vec<Seat>,
}

impl Devices {
    pub fn len(&self) -> usize {
        self.seated.len()
    }

    pub fn seat(&self, id: &DeviceId) -> Option<Seat> {
        self.seated.get_index_of(id).map(seat)
    }

    pub fn get(&self, id: &DeviceId) -> Option<&Entry> {
        self.seated.get(id)
    }

    pub fn get_mut(&mut self, id: &DeviceId) -> Option<(Seat, &mut Entry)> {
        self.seated.get_full_mut(id).map(|(place, _, entry)| (seat(place), entry))
    }

    pub fn at(&mut self, seat: Seat) -> (&DeviceId, &mut Entry) {
        self.seated.get_index_mut(seat.place()).expect("a seat is given to a device and stays its own")
    }

    /// One that has no seat yet.
    pub fn insert(&mut self, id: DeviceId, entry: Entry) -> Seat {
        let place = self.order.partition_point(|s| *self.name(*s) < id);
        let (at, before) = self.seated.insert_full(id, entry);
        debug_assert!(before.is_none());
        self.order.insert(place, seat(at));
        seat(at)
    }

    /// Those behind this one, in order.
    pub fn after(&self, last: Option<&DeviceId>) -> impl Iterator<Item = (&DeviceId, &Entry)> + use<'_> {
        let from = last.map_or(0, |last| self.order.partition_point(|s| self.name(*s) <= last));
        self.order[from..].iter().filter_map(|s| self.seated.get_index(s.place()))
    }

    /// Each with its seat, in order.
    pub fn each(&mut self, mut see: impl FnMut(Seat, &DeviceId, &mut Entry)) {
        for seat in &self.order {
            let (id, entry) = self.seated.get_index_mut(seat.place()).expect("a seat is given to a device and stays its own");
            see(*seat, id, entry);
        }
    }

    fn name(&self, seat: Seat) -> &DeviceId {
        self.seated.get_index(seat.place()).expect("a seat is given to a device and stays its own").0
    }
}

fn seat(place: usize) -> Seat {
    Seat(u32::try_from(place).expect("far fewer devices than that are let in"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{logic::registry::Watch, model::Boot};
    use std::sync::Arc;

    #[test]
    fn whoever_comes_first_sits_first_and_the_names_are_in_order() {
        let id = |name: &str| DeviceId::parse(name).unwrap();
        let mut devices = Devices::default();
        for name in ["pump", "boiler", "valve", "meter"] {
            devices.insert(id(name), Entry::new(Boot(0), Arc::new(Watch::default()), None, false));
        }
        assert_eq!(devices.seat(&id("boiler")).map(Seat::place), Some(1));
        assert_eq!(devices.at(devices.seat(&id("meter")).unwrap()).0.as_str(), "meter");
        assert_eq!(devices.seat(&id("none")), None);
        let names = |last: Option<&str>| devices.after(last.map(id).as_ref()).map(|(id, _)| id.to_string()).collect::<Vec<_>>();
        assert_eq!(names(None), ["boiler", "meter", "pump", "valve"]);
        assert_eq!(names(Some("meter")), ["pump", "valve"]);
        assert_eq!(names(Some("n")), ["pump", "valve"], "a name that nobody has");
        assert!(names(Some("valve")).is_empty());
    }
}
