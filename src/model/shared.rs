//! Keeps one of equal lists: a site has hundreds of meters of one kind, and what is written of their points is the same.

use std::{collections::VecDeque, sync::Arc};

/// Lists that are looked through for an equal one. More kinds than that, in turn: each has a list of its own.
const KINDS: usize = 64;

#[derive(Debug)]
pub struct Shared<T>(VecDeque<Arc<[T]>>);

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared(VecDeque::new())
    }
}

impl<T: PartialEq> Shared<T> {
    /// The list itself, or an equal one from before.
    pub fn one_of(&mut self, list: Arc<[T]>) -> Arc<[T]> {
        if let Some(same) = self.0.iter().find(|l| Arc::ptr_eq(l, &list) || **l == list) {
            return Arc::clone(same);
        }
        if self.0.len() == KINDS {
            self.0.pop_front();
        }
        self.0.push_back(Arc::clone(&list));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_become_one_and_others_stay() {
        let mut shared = Shared::default();
        let first = shared.one_of([1, 2].into());
        assert!(Arc::ptr_eq(&first, &shared.one_of([1, 2].into())));
        assert_eq!(*shared.one_of([1, 3].into()), [1, 3]);
        for n in 0..KINDS {
            shared.one_of([n].into());
        }
        let again = shared.one_of([1, 2].into());
        assert!(!Arc::ptr_eq(&first, &again) && first == again, "it looks back only so far");
        assert_eq!(shared.0.len(), KINDS);
    }
}
