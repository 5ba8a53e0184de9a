//! Where reading is asked for: a thread of its own reads telemetry and events back, so that a disk that takes seconds for a
//! page holds nobody but whoever waits for that page.
//!
//! Bounded: one wish for each uplink and kind; what was read waits for one round of the uplinks.

use super::{
    spool::disk::{Place, Unread},
    writer::Shared,
};
use crate::model::Sealed;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

/// Something to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// The next events of an uplink.
    Events(usize),
    Segment(Place),
}

pub type Read = Result<Vec<Sealed>, Unread>;

#[derive(Debug, Default)]
struct Inner {
    wishes: BTreeSet<Wish>,
    /// What is being read now.
    busy: Option<Wish>,
    /// Read and not fetched, the oldest first.
    found: VecDeque<(u64, Read)>,
    closed: bool,
}

#[derive(Debug)]
pub struct Desk {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Segments that wait to be fetched at most: one for each uplink.
    most: usize,
}

impl Desk {
    pub fn new(uplinks: u8) -> Desk {
        Desk { inner: Mutex::default(), wake: Condvar::new(), most: usize::from(uplinks.max(1)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asking again for what was asked for changes nothing.
    pub fn ask(&self, wish: Wish) {
        let mut inner = self.lock();
        if inner.busy != Some(wish) && !inner.closed && inner.wishes.insert(wish) {
            self.wake.notify_one();
        }
    }

    /// What was read of this segment. `None`: it is asked for.
    pub fn fetch(&self, place: Place) -> Option<Read> {
        let mut inner = self.lock();
        let at = inner.found.iter().position(|(n, _)| *n == place.n);
        let found = at.and_then(|at| inner.found.remove(at)).map(|(_, read)| read);
        drop(inner);
        if found.is_none() {
            self.ask(Wish::Segment(place));
        }
        found
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn next(&self) -> Option<Wish> {
        let mut inner = self.lock();
        inner.busy = None;
        let mut inner =
            self.wake.wait_while(inner, |inner| inner.wishes.is_empty() && !inner.closed).unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return None;
        }
        inner.busy = inner.wishes.pop_first();
        inner.busy
    }

    fn found(&self, n: u64, read: Read) {
        let mut inner = self.lock();
        if inner.found.len() >= self.most {
            inner.found.pop_front();
        }
        inner.found.push_back((n, read));
    }
}

/// The thread. It ends when the desk is closed or the store is gone.
pub fn serve(desk: &Arc<Desk>, shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let (desk, shared) = (Arc::clone(desk), Arc::downgrade(shared));
    let work = move || {
        while let Some(wish) = desk.next() {
            let Some(shared) = shared.upgrade() else { return };
            match wish {
                Wish::Events(u) => shared.events.read_on(u),
                Wish::Segment(place) => {
                    desk.found(place.n, shared.spool.read(place));
                    shared.spool.tell();
                }
            }
        }
    };
    std::thread::Builder::new().name("store-read".into()).spawn(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    fn place(n: u64) -> Place {
        Place { n, slot: 0, epoch: Epoch(1) }
    }

    #[test]
    fn what_is_asked_for_twice_is_read_once_and_little_waits_to_be_fetched() {
        let desk = Desk::new(2);
        assert!(desk.fetch(place(7)).is_none());
        assert!(desk.fetch(place(7)).is_none());
        desk.ask(Wish::Events(0));
        assert_eq!(desk.next(), Some(Wish::Events(0)));
        assert_eq!(desk.next(), Some(Wish::Segment(place(7))));
        assert!(desk.fetch(place(7)).is_none(), "while it is being read");
        (7..10).for_each(|n| desk.found(n, Ok(Vec::new())));
        assert!(desk.fetch(place(8)).is_some() && desk.fetch(place(9)).is_some());
        assert!(desk.fetch(place(7)).is_none(), "two wait at most");
        desk.close();
        assert_eq!(desk.next(), None);
    }
}
