//! Retained messages: the last one of each topic, bounded in number and bytes. Pure.

use super::super::topics;
use super::message::Message;
use crate::limits;
use std::{collections::BTreeMap, ops::Bound, rc::Rc};

#[derive(Default)]
pub struct Retained {
    /// In order of topic, so that a filter's literal beginning narrows the search.
    kept: BTreeMap<String, (Rc<Message>, u8)>,
    bytes: usize,
    full: bool,
}

impl Retained {
    /// Keeps or, with an empty payload, clears. `false`: there is no room; said only once until there is some again.
    pub fn set(&mut self, topic: &str, message: Rc<Message>, qos: u8) -> bool {
        if let Some((old, _)) = self.kept.remove(topic) {
            self.bytes -= old.size();
        }
        if message.payload.is_empty() {
            self.full = false;
            return true;
        }
        if self.kept.len() >= limits::MQTT_RETAINED || self.bytes + message.size() > limits::MQTT_RETAINED_BYTES {
            return std::mem::replace(&mut self.full, true);
        }
        self.bytes += message.size();
        self.kept.insert(topic.to_owned(), (message, qos));
        true
    }

    /// Every retained message that a filter asks for, in order of topic.
    pub fn find<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = (&'a Rc<Message>, u8)> {
        let literal = filter.find(['+', '#']).map_or(filter, |end| filter[..end].trim_end_matches('/'));
        self.kept
            .range::<str, _>((Bound::Included(literal), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(literal))
            .filter(move |(topic, _)| topics::matches(filter, topic))
            .map(|(_, (message, qos))| (message, *qos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(topic: &str, payload: &str) -> Rc<Message> {
        Rc::new(Message::new(topic, payload.as_bytes()))
    }

    #[test]
    fn the_last_one_stays_and_an_empty_one_clears() {
        let mut kept = Retained::default();
        assert!(kept.set("a/b", message("a/b", "1"), 1) && kept.set("a/b", message("a/b", "22"), 0));
        let all = |kept: &Retained, filter: &str| kept.find(filter).map(|(m, qos)| (m.payload.to_vec(), qos)).collect::<Vec<_>>();
        assert_eq!(all(&kept, "a/+"), [(b"22".to_vec(), 0)]);
        assert!(kept.set("a/b", message("a/b", ""), 1));
        assert!(all(&kept, "#").is_empty() && kept.bytes == 0);
    }

    #[test]
    fn too_many_topics_are_refused_and_said_once() {
        let mut kept = Retained::default();
        for n in 0..limits::MQTT_RETAINED {
            assert!(kept.set(&format!("t/{n}"), message("t", "1"), 0));
        }
        assert!(!kept.set("one/more", message("one/more", "1"), 0));
        assert!(kept.set("and/more", message("and/more", "1"), 0)); // not kept either, but said already
        assert_eq!(kept.kept.len(), limits::MQTT_RETAINED);
    }

    proptest! {
        #[test]
        fn a_filter_finds_what_it_matches(topics in proptest::collection::btree_set("[ab](/[ab]){0,2}", 0..8), filter in "([ab+](/[ab+]){0,2}(/#)?|#)") {
            let mut kept = Retained::default();
            topics.iter().for_each(|topic| { kept.set(topic, message(topic, "x"), 0); });
            let want: Vec<_> = topics.iter().filter(|topic| topics::matches(&filter, topic)).cloned().collect();
            let got: Vec<_> = kept.find(&filter).map(|(m, _)| String::from_utf8(m.topic.to_vec()).unwrap()).collect();
            prop_assert_eq!(got, want);
        }
    }
}
