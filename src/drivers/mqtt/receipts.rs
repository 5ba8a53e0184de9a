//! Held acknowledgements: they go out in the order of arrival, and only when each message's promise is kept.
//!
//! A [`Ledger`] belongs to one connection. The holder of a receipt settles it on any thread; the connection takes what is
//! settled from the front. One that was not kept breaks the ledger for good: its connection must be closed, so that the
//! publisher sends it again.

use crate::model::{Receipt, Settled};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

type Tell = Arc<dyn Fn(u64, Settled) + Send + Sync>;

/// `T` is what the connection needs to acknowledge: a packet id.
pub struct Ledger<T> {
    book: Arc<Mutex<Book<T>>>,
    tell: Tell,
}

struct Book<T> {
    /// The number of the entry in front.
    first: u64,
    held: VecDeque<(T, bool)>,
    broken: bool,
}

impl<T: Send + 'static> Ledger<T> {
    /// `changed` is called when something can be taken, on whatever thread.
    pub fn new(changed: impl Fn() + Send + Sync + 'static) -> Ledger<T> {
        let book = Arc::new(Mutex::new(Book { first: 0, held: VecDeque::new(), broken: false }));
        let shared = book.clone();
        let tell = Arc::new(move |id, settled| {
            let news = shared.lock().unwrap_or_else(PoisonError::into_inner).settle(id, settled);
            if news {
                changed();
            }
        });
        Ledger { book, tell }
    }

    pub fn hold(&self, what: T) -> Receipt {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let id = book.first + book.held.len() as u64;
        book.held.push_back((what, false));
        Receipt::new(id, self.tell.clone())
    }

    pub fn held(&self) -> usize {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).held.len()
    }

    /// Gives out what may be acknowledged now, in order. `Err`: one was not kept.
    pub fn take(&self, mut give: impl FnMut(T)) -> Result<usize, NotKept> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        while book.held.front().is_some_and(|(_, kept)| *kept) {
            if let Some((what, _)) = book.held.pop_front() {
                book.first += 1;
                taken += 1;
                give(what);
            }
        }
        if book.held.is_empty() && book.held.capacity() > 8 {
            book.held = VecDeque::new(); // thousands of idle connections: an empty queue holds no memory
        }
        if book.broken { Err(NotKept) } else { Ok(taken) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotKept;

impl<T> Book<T> {
    fn settle(&mut self, id: u64, settled: Settled) -> bool {
        match settled {
            Settled::NotKept => self.broken = true,
            Settled::Kept => {
                let at = id.checked_sub(self.first).and_then(|n| usize::try_from(n).ok());
                let Some(entry) = at.and_then(|n| self.held.get_mut(n)) else { return false };
                entry.1 = true;
                return id == self.first;
            }
        }
        true
    }
}

/// Several receipts for one message that says several things: it is kept when all of them are.
pub fn split(whole: Receipt, parts: usize) -> Vec<Receipt> {
    if parts <= 1 || !whole.is_awaited() {
        return std::iter::once(whole).chain((1..parts).map(|_| Receipt::none())).take(parts.max(1)).collect();
    }
    let whole = Mutex::new(Some(whole));
    let left = AtomicUsize::new(parts);
    let tell: Tell = Arc::new(move |_, settled| {
        let last = left.fetch_sub(1, Ordering::AcqRel) == 1;
        let mut whole = whole.lock().unwrap_or_else(PoisonError::into_inner);
        match settled {
            Settled::NotKept => drop(whole.take()),
            Settled::Kept if last => whole.take().into_iter().for_each(Receipt::keep),
            Settled::Kept => {}
        }
    });
    (0..parts as u64).map(|n| Receipt::new(n, tell.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ledger: &Ledger<u16>) -> (Vec<u16>, bool) {
        let mut out = Vec::new();
        let ok = ledger.take(|id| out.push(id)).is_ok();
        (out, ok)
    }

    #[test]
    fn acknowledgements_wait_for_those_before_them() {
        let ledger = Ledger::new(|| {});
        let (a, b, c) = (ledger.hold(1), ledger.hold(2), ledger.hold(3));
        b.keep();
        assert_eq!(taken(&ledger), (vec![], true));
        a.keep();
        assert_eq!(taken(&ledger), (vec![1, 2], true));
        let d = ledger.hold(4);
        d.keep();
        c.keep();
        assert_eq!(taken(&ledger), (vec![3, 4], true));
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn a_forgotten_receipt_breaks_the_ledger() {
        let ledger = Ledger::new(|| {});
        let (a, b) = (ledger.hold(1), ledger.hold(2));
        a.keep();
        drop(b);
        assert_eq!(taken(&ledger), (vec![1], false));
        ledger.hold(3).keep();
        assert_eq!(taken(&ledger), (vec![], false));
    }

    #[test]
    fn a_split_receipt_is_kept_when_all_parts_are() {
        let ledger = Ledger::new(|| {});
        let mut parts = split(ledger.hold(1), 2);
        parts.pop().unwrap().keep();
        assert_eq!(taken(&ledger), (vec![], true));
        parts.pop().unwrap().keep();
        assert_eq!(taken(&ledger), (vec![1], true));

        let mut parts = split(ledger.hold(2), 3);
        parts.pop().unwrap().keep();
        parts.clear();
        assert_eq!(taken(&ledger), (vec![], false));
        assert_eq!(split(Receipt::none(), 3).len(), 3);
        assert_eq!(split(Receipt::none(), 1).len(), 1);
    }
}
