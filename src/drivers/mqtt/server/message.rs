//! A message on its way to subscribers. What becomes of it is its `fate`.

use super::super::fate::{Fate, Fated};
use crate::model::Boot;
use bytes::Bytes;
use std::sync::Arc;

/// Shared by all its receivers. Its bytes are copies: a slice would pin the whole read buffer that it came in.
pub struct Message {
    pub topic: Bytes,
    pub payload: Bytes,
    /// Not sent after this moment.
    pub expires: Option<Boot>,
    pub fate: Option<Arc<Fate>>,
}

impl Message {
    pub fn new(topic: &str, payload: &[u8]) -> Message {
        let both = Bytes::from([topic.as_bytes(), payload].concat());
        Message { topic: both.slice(..topic.len()), payload: both.slice(topic.len()..), expires: None, fate: None }
    }

    pub fn followed(mut self, expires: Option<Boot>, fate: Option<Arc<Fate>>) -> Message {
        self.expires = expires;
        self.fate = fate;
        self
    }

    pub fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    /// Whether it may go out now; from here on it counts as sent.
    pub fn may_be_sent(&self, now: impl FnOnce() -> Boot) -> bool {
        let fate = self.fate.as_deref();
        if let Some(expires) = self.expires
            && now() > expires
        {
            return false;
        }
        fate.is_none_or(Fate::written)
    }

    pub fn acknowledged(&self) {
        if let Some(fate) = &self.fate {
            fate.end(Fated::Acknowledged);
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(fate) = &self.fate {
            fate.lost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed() -> (Message, Arc<Fate>) {
        let fate = Arc::new(Fate::default());
        (Message::new("t", b"x").followed(Some(Boot(10)), Some(fate.clone())), fate)
    }

    #[test]
    fn what_is_taken_back_never_goes_out_and_what_went_out_cannot_be_taken_back() {
        let (message, fate) = followed();
        assert!(fate.cancel() && !message.may_be_sent(|| Boot(1)));
        let (message, fate) = followed();
        assert!(message.may_be_sent(|| Boot(1)) && !fate.cancel() && fate.now() == Fated::Written);
        message.acknowledged();
        drop(message);
        assert_eq!(fate.now(), Fated::Acknowledged);
    }

    #[test]
    fn its_end_says_whether_it_was_sent() {
        let (message, fate) = followed();
        assert!(!message.may_be_sent(|| Boot(11)));
        drop(message);
        assert_eq!(fate.now(), Fated::Unsent);
        let (message, fate) = followed();
        assert!(message.may_be_sent(|| Boot(10)));
        drop(message);
        assert_eq!(fate.now(), Fated::Unanswered);
    }
}
