//! What devices answer to commands: who waits for which topic, and whether an answer is what was written.
//!
//! A different answer is not final: on many devices the reply's topic also carries reports, and one may have been on its
//! way. It counts when the time is up and no matching answer came.

use super::{
    fate::{Fate, Fated},
    topics,
};
use crate::{drivers::leaves, model::Value};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Default)]
pub struct Replies {
    waiting: Mutex<Vec<Arc<Awaited>>>,
}

/// One answer that somebody waits for.
pub struct Awaited {
    /// Topic or filter that it comes by.
    pub filter: String,
    /// JSON pointer to the value; `None`: the whole payload.
    pub pointer: Option<String>,
    /// What was written, and the text that it was sent as.
    pub written: Value,
    pub sent: String,
    /// Answers count from the moment that the command went out.
    pub fate: Arc<Fate>,
    pub heard: Mutex<Option<Answer>>,
    pub changed: Notify,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Same,
    Other(Value),
}

/// Stops waiting when dropped.
pub struct Wait {
    replies: Arc<Replies>,
    pub awaited: Arc<Awaited>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.replies.lock().retain(|other| !Arc::ptr_eq(other, &self.awaited));
    }
}

impl Replies {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Awaited>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait(self: &Arc<Self>, awaited: Awaited) -> Wait {
        let awaited = Arc::new(awaited);
        self.lock().push(awaited.clone());
        Wait { replies: self.clone(), awaited }
    }

    pub fn hear(&self, topic: &str, payload: &[u8]) {
        for awaited in self.lock().iter() {
            if topics::matches(&awaited.filter, topic) && awaited.fate.now() != Fated::Waiting {
                awaited.hear(payload);
            }
        }
    }
}

impl Awaited {
    fn hear(&self, payload: &[u8]) {
        let Ok(json) = leaves::value(payload) else { return };
        let Some(found) = self.pointer.as_deref().map_or(Some(&json), |pointer| json.pointer(pointer)) else { return };
        let Some(value) = leaves::scalar(found) else { return };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if *heard != Some(Answer::Same) {
            *heard = Some(if same(&self.written, &self.sent, &value) { Answer::Same } else { Answer::Other(value) });
            self.changed.notify_one();
        }
    }

    pub fn answer(&self) -> Option<Answer> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves when the device answered with what was written.
    pub async fn confirmed(&self) {
        while self.answer() != Some(Answer::Same) {
            self.changed.notified().await;
        }
    }
}

/// `sent` is the payload's text: `ON` for a `true` whose route says so.
fn same(written: &Value, sent: &str, answer: &Value) -> bool {
    if let Value::Text(text) = answer {
        let text = text.trim();
        if text.eq_ignore_ascii_case(sent.trim()) || matches!(written, Value::Text(written) if text == &**written) {
            return true;
        }
        return matches!((written.as_f64(), text.parse::<f64>()), (Some(a), Ok(b)) if near(a, b));
    }
    matches!((written.as_f64(), answer.as_f64()), (Some(a), Some(b)) if near(a, b))
        || sent.trim().parse::<f64>().is_ok_and(|sent| answer.as_f64().is_some_and(|b| near(sent, b)))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited(pointer: Option<&str>, written: Value, sent: &str) -> Awaited {
        let fate = Arc::new(Fate::default());
        fate.written();
        let (pointer, sent) = (pointer.map(str::to_owned), sent.to_owned());
        Awaited { filter: "stat/x/RESULT".into(), pointer, written, sent, fate, heard: Mutex::default(), changed: Notify::new() }
    }

    #[track_caller]
    fn check(pointer: Option<&str>, written: Value, sent: &str, payload: &str, want: Option<Answer>) {
        let replies = Arc::new(Replies::default());
        let wait = replies.wait(awaited(pointer, written, sent));
        replies.hear("stat/x/RESULT", payload.as_bytes());
        assert_eq!(wait.awaited.answer(), want, "{payload}");
    }

    #[test]
    fn an_answer_is_compared_with_what_was_written() {
        let power = Some("/POWER");
        check(power, Value::Bool(true), "ON", r#"{"POWER":"ON"}"#, Some(Answer::Same));
        check(power, Value::Bool(true), "ON", r#"{"POWER":"on"}"#, Some(Answer::Same));
        check(power, Value::Bool(true), "ON", r#"{"POWER":"OFF"}"#, Some(Answer::Other(Value::Text("OFF".into()))));
        check(power, Value::Bool(true), "ON", r#"{"Dimmer":50}"#, None);
        check(power, Value::Bool(true), "ON", r#"{"POWER":{"x":1}}"#, None);
        check(power, Value::Bool(true), "ON", "{", None);
        check(power, Value::Bool(true), "true", r#"{"POWER":true}"#, Some(Answer::Same));
        check(None, Value::Float(21.5), "21.5", "21.50", Some(Answer::Same));
        check(None, Value::Int(21), "21", "21.0", Some(Answer::Same));
        check(None, Value::Int(21), "21", "\"21\"", Some(Answer::Same));
        check(None, Value::Int(21), "21", "20", Some(Answer::Other(Value::Int(20))));
        check(None, Value::Text("eco".into()), "eco", "eco", Some(Answer::Same));
    }

    #[test]
    fn only_what_comes_after_the_command_counts_and_the_wait_ends_when_dropped() {
        let replies = Arc::new(Replies::default());
        let mut early = awaited(None, Value::Int(1), "1");
        early.fate = Arc::default();
        let wait = replies.wait(early);
        replies.hear("stat/x/RESULT", b"1");
        assert_eq!(wait.awaited.answer(), None);
        wait.awaited.fate.written();
        replies.hear("stat/y/RESULT", b"1");
        assert_eq!(wait.awaited.answer(), None);
        replies.hear("stat/x/RESULT", b"0");
        replies.hear("stat/x/RESULT", b"1");
        replies.hear("stat/x/RESULT", b"0");
        assert_eq!(wait.awaited.answer(), Some(Answer::Same));
        drop(wait);
        assert!(replies.lock().is_empty());
    }
}
