//! Who may load the machine when: tests run side by side, except one that measures a rate, which runs alone.
//!
//! A turn belongs to a test's thread: whatever it starts shares it, so that a second gateway of one test never waits for
//! itself.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    static MINE: RefCell<Weak<Turn>> = const { RefCell::new(Weak::new()) };
}

pub enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// The turn of this test, which may be [`alone`] already.
pub fn shared() -> Rc<Turn> {
    mine().unwrap_or_else(|| keep(Turn::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) }))
}

/// Waits until no other test runs, and keeps others waiting. Before anything else of the test.
pub fn alone() -> Rc<Turn> {
    assert!(mine().is_none(), "ask for the machine before anything is started");
    keep(Turn::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) })
}

fn mine() -> Option<Rc<Turn>> {
    MINE.with_borrow(Weak::upgrade)
}

fn keep(turn: Turn) -> Rc<Turn> {
    let turn = Rc::new(turn);
    MINE.set(Rc::downgrade(&turn));
    turn
}
