//! A table of the document: entries in order of key, in one allocation. A map's nodes would take six times the memory
//! for the two or three keys that a point has, and there are tens of thousands of points.

use super::{source::Place, tree::Node};

#[derive(Debug, Clone, Default)]
pub struct Table(Vec<(Box<str>, Entry)>);

#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the key stands.
    pub at: Place,
    pub node: Node,
}

impl Table {
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| (**k).cmp(key))
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.find(key).ok().map(|n| &self.0[n].1)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.find(key).ok().map(|n| &mut self.0[n].1)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Replaces what stood under the key.
    pub fn insert(&mut self, key: &str, entry: Entry) {
        match self.find(key) {
            Ok(n) => self.0[n].1 = entry,
            Err(n) => self.0.insert(n, (key.into(), entry)),
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        self.find(key).ok().map(|n| self.0.remove(n).1)
    }

    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(k, _)| keep(k));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(k, e)| (&**k, e))
    }
}

impl FromIterator<(Box<str>, Entry)> for Table {
    /// Keys must differ, as they do in a document that was read.
    fn from_iter<I: IntoIterator<Item = (Box<str>, Entry)>>(entries: I) -> Table {
        let mut all: Vec<(Box<str>, Entry)> = entries.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Table(all)
    }
}

impl IntoIterator for Table {
    type Item = (Box<str>, Entry);
    type IntoIter = std::vec::IntoIter<(Box<str>, Entry)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
