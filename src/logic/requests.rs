//! What is known of the requests of one device, found by the list of points that come together. On the hot path: a planned
//! request hands on the same list each time, and planned requests come round in order.

use crate::model::PointId;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Requests<T> {
    list: Vec<(Arc<[PointId]>, T)>,
    /// The request after the one that came last.
    next: usize,
    most: usize,
}

impl<T> Requests<T> {
    /// Remembers so many. With one more (names that never repeat, a plan that changes for ever) all begin afresh.
    pub const fn up_to(most: usize) -> Requests<T> {
        Requests { list: Vec::new(), next: 0, most }
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.next = 0;
    }

    /// The points that are remembered, and what is known of them, made if it is not.
    pub fn of(&mut self, points: &Arc<[PointId]>, make: impl FnOnce() -> T) -> (&[PointId], &mut T) {
        let n = self.list.len();
        let found = (0..n).map(|k| (self.next + k) % n).find(|k| Arc::ptr_eq(&self.list[*k].0, points));
        let found = found.or_else(|| self.list.iter().position(|(known, _)| known == points));
        let at = found.unwrap_or_else(|| {
            if n >= self.most {
                self.list.clear();
            }
            self.list.push((Arc::clone(points), make()));
            self.list.len() - 1
        });
        self.next = at + 1;
        let (points, known) = &mut self.list[at];
        (points, known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_request_is_made_once_and_forgotten_beyond_the_limit() {
        let points = |name: &str| Arc::<[PointId]>::from([PointId::parse(name).unwrap()]);
        let (mut requests, mut made) = (Requests::up_to(2), 0);
        let mut made_by = |points: &Arc<[PointId]>| {
            requests.of(points, || made += 1);
            std::mem::take(&mut made)
        };
        let (a, b, c) = (points("a"), points("b"), points("c"));
        assert_eq!([made_by(&a), made_by(&b), made_by(&a), made_by(&b)], [1, 1, 0, 0]);
        assert_eq!(made_by(&points("b")), 0, "an equal list is the same request");
        assert_eq!([made_by(&c), made_by(&a)], [1, 1]);
    }
}
