//! Who asks for a topic: subscriptions in a tree by level, so that a message among a thousand subscribers costs only as
//! many steps as its topic has levels.
//!
//! Pure. Invariant: a node without subscriptions below it does not exist.

use super::super::codec::QoS;
use std::collections::HashMap;

/// Levels of one filter; more is refused, because the tree is walked recursively.
pub const LEVELS: usize = 64;

/// One subscriber of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    pub session: u64,
    pub qos: QoS,
}

#[derive(Debug, Default)]
pub struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// `+` is a child like any other.
    children: HashMap<Box<str>, Node>,
    /// Filters that end here.
    here: Vec<Hit>,
    /// Filters that end here with `#`.
    rest: Vec<Hit>,
}

impl Tree {
    /// Adds or replaces. The filter is legal and has at most [`LEVELS`] levels.
    pub fn insert(&mut self, filter: &str, session: u64, qos: QoS) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            if level == "#" {
                return put(&mut node.rest, Hit { session, qos });
            }
            node = node.children.entry(level.into()).or_default();
        }
        put(&mut node.here, Hit { session, qos });
    }

    pub fn remove(&mut self, filter: &str, session: u64) {
        self.root.remove(&mut filter.split('/'), session);
    }

    /// Everyone who asks for `topic`, each session once, at the highest quality of its filters.
    pub fn find(&self, topic: &str, hits: &mut Vec<Hit>) {
        hits.clear();
        self.root.find(Some(topic), topic.starts_with('$'), hits);
        if hits.len() > 1 {
            hits.sort_unstable_by_key(|hit| (hit.session, std::cmp::Reverse(hit.qos as u8)));
            hits.dedup_by_key(|hit| hit.session);
        }
    }
}

fn put(hits: &mut Vec<Hit>, new: Hit) {
    hits.retain(|hit| hit.session != new.session);
    hits.push(new);
}

impl Node {
    /// `rest` is what follows, `None` behind the last level.
    fn find(&self, rest: Option<&str>, hidden: bool, hits: &mut Vec<Hit>) {
        if !hidden {
            hits.extend_from_slice(&self.rest);
        }
        let Some(rest) = rest else {
            hits.extend_from_slice(&self.here);
            return;
        };
        let (level, rest) = rest.split_once('/').map_or((rest, None), |(level, rest)| (level, Some(rest)));
        if let Some(node) = self.children.get(level) {
            node.find(rest, false, hits);
        }
        if let (false, Some(node)) = (hidden, self.children.get("+")) {
            node.find(rest, false, hits);
        }
    }

    fn remove<'a>(&mut self, levels: &mut impl Iterator<Item = &'a str>, session: u64) {
        match levels.next() {
            None => self.here.retain(|hit| hit.session != session),
            Some("#") => self.rest.retain(|hit| hit.session != session),
            Some(level) => {
                if let Some(node) = self.children.get_mut(level) {
                    node.remove(levels, session);
                    if node.children.is_empty() && node.here.is_empty() && node.rest.is_empty() {
                        self.children.remove(level);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::mqtt::topics;
    use proptest::prelude::*;

    fn sessions(tree: &Tree, topic: &str) -> Vec<u64> {
        let mut hits = Vec::new();
        tree.find(topic, &mut hits);
        hits.iter().map(|hit| hit.session).collect()
    }

    #[test]
    fn a_session_is_found_once_at_its_highest_quality() {
        let mut tree = Tree::default();
        tree.insert("a/#", 1, QoS::AtMostOnce);
        tree.insert("a/+", 1, QoS::AtLeastOnce);
        tree.insert("a/b", 1, QoS::AtMostOnce);
        let mut hits = Vec::new();
        tree.find("a/b", &mut hits);
        assert_eq!(hits, [Hit { session: 1, qos: QoS::AtLeastOnce }]);
    }

    #[test]
    fn an_emptied_tree_holds_nothing() {
        let mut tree = Tree::default();
        for filter in ["a/b/c", "a/#", "+/b", "#"] {
            tree.insert(filter, 1, QoS::AtMostOnce);
            tree.insert(filter, 2, QoS::AtMostOnce);
        }
        for filter in ["a/b/c", "a/#", "+/b", "#", "never"] {
            tree.remove(filter, 1);
            tree.remove(filter, 2);
        }
        assert!(tree.root.children.is_empty() && tree.root.rest.is_empty());
    }

    proptest! {
        #[test]
        fn it_agrees_with_plain_matching(filters in proptest::collection::vec("([ab+$](/[ab+]){0,2}(/#)?|#)", 1..8), topic in "[ab$](/[ab]){0,3}") {
            let mut tree = Tree::default();
            for (n, filter) in filters.iter().enumerate() {
                tree.insert(filter, n as u64, QoS::AtMostOnce);
            }
            let want: Vec<u64> = (0u64..).zip(&filters).filter(|(_, filter)| topics::matches(filter, &topic)).map(|(n, _)| n).collect();
            prop_assert_eq!(sessions(&tree, &topic), want);
        }
    }
}
