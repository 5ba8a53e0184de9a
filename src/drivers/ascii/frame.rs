//! Finds frames in a stream of bytes, by the operator's rule.
//!
//! Invariants: whatever bytes come, it answers, and what it answers moves on: a frame or a garbled part is at least one
//! byte long, and more is asked for only below the longest frame.

use super::{Garbled, check};
use crate::config::framed::{Checksum, End, Frame, Over};
use std::ops::Range;

/// What the first bytes of a stream are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No whole frame yet: at least so many bytes are missing.
    More(usize),
    /// What it says, without start, terminator and checksum; behind `end` the next one begins.
    Frame { body: Range<usize>, end: usize },
    /// Nothing up to here can be read.
    Garbled { end: usize, why: Garbled },
}

/// `quiet`: nothing has come for as long as a frame's silence; only `End::Silence` asks.
pub fn find(rule: &Frame, bytes: &[u8], quiet: bool) -> Found {
    let Some(from) = search(bytes, &rule.start, 0) else {
        // The start may be cut in two.
        let noise = bytes.len().saturating_sub(rule.start.len().saturating_sub(1));
        let full = bytes.len() >= rule.max_bytes && noise > 0;
        return if full { Found::Garbled { end: noise, why: Garbled::TooLong } } else { Found::More(1) };
    };
    let cut = Cut { rule, bytes, from, body: from + rule.start.len() };
    match &rule.end {
        End::Terminator(terminator) => cut.by_terminator(terminator),
        End::Length(length) => cut.by_length(*length),
        End::Silence(_) => cut.by_silence(quiet),
    }
}

/// The first place of `what` at or behind `from`. What is empty is everywhere.
fn search(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    if what.is_empty() {
        return (from <= bytes.len()).then_some(from);
    }
    bytes.get(from..)?.windows(what.len()).position(|w| w == what).map(|at| at + from)
}

struct Cut<'a> {
    rule: &'a Frame,
    bytes: &'a [u8],
    /// The first byte of `start`.
    from: usize,
    /// The first byte behind it.
    body: usize,
}

impl Cut<'_> {
    fn by_terminator(mut self, terminator: &[u8]) -> Found {
        let behind = self.rule.checksum.as_ref().filter(|c| c.after).map_or(0, Checksum::width);
        // A checksum in bytes may hold the terminator: the first place where it is right ends the frame.
        let may_hold_it = self.rule.checksum.as_ref().is_some_and(|c| !c.after && !c.hex);
        let mut first: Option<Found> = None;
        let mut look = self.body;
        while let Some(at) = search(self.bytes, terminator, look) {
            let end = at + terminator.len() + behind;
            if end - self.from > self.rule.max_bytes {
                return first.unwrap_or_else(|| self.garbled(end.min(self.bytes.len()), Garbled::TooLong));
            }
            if end > self.bytes.len() {
                return Found::More(end - self.bytes.len());
            }
            if self.rule.checksum.is_none() {
                self.restart_before(at);
            }
            let found = self.cut(at, at + terminator.len(), end);
            match found {
                Found::Garbled { .. } if may_hold_it => first = first.or(Some(found)),
                found => return found,
            }
            look = at + 1;
        }
        match first {
            // Nothing else can end here but what was garbled, unless more comes soon.
            Some(found) if self.bytes.len() - self.from >= self.rule.max_bytes => found,
            _ if self.bytes.len() - self.from >= self.rule.max_bytes => self.garbled(self.bytes.len(), Garbled::TooLong),
            _ => Found::More(1),
        }
    }

    fn by_length(&self, length: usize) -> Found {
        let length = length.max(1);
        let end = self.from + length;
        if end > self.bytes.len() {
            return Found::More(end - self.bytes.len());
        }
        self.cut(end, end, end)
    }

    fn by_silence(&self, quiet: bool) -> Found {
        let end = self.bytes.len();
        if end - self.from > self.rule.max_bytes {
            return self.garbled(end, Garbled::TooLong);
        }
        if quiet && end > self.from { self.cut(end, end, end) } else { Found::More(1) }
    }

    /// A frame that broke off and began anew: without a checksum only its last start tells.
    fn restart_before(&mut self, at: usize) {
        if self.rule.start.is_empty() {
            return;
        }
        while let Some(next) = search(&self.bytes[..at], &self.rule.start, self.from + 1) {
            self.from = next;
            self.body = next + self.rule.start.len();
        }
    }

    /// `at`: where the terminator begins, `covered`: where it ends, `end`: where the frame does.
    fn cut(&self, at: usize, covered: usize, end: usize) -> Found {
        if at < self.body {
            return self.garbled(end, Garbled::Cut { bytes: end - self.from });
        }
        let Some(rule) = &self.rule.checksum else { return Found::Frame { body: self.body..at, end } };
        let begin = if rule.over == Over::Frame { self.from } else { self.body };
        let (body_end, covered_end, said) = if rule.after {
            (at, if rule.over == Over::Data { at } else { covered }, covered..end)
        } else {
            let Some(said) = at.checked_sub(rule.width()).filter(|s| *s >= self.body + rule.mark.len()) else {
                return self.garbled(end, Garbled::Checksum);
            };
            let mark = said - rule.mark.len();
            if self.bytes[mark..said] != rule.mark {
                return self.garbled(end, Garbled::Checksum);
            }
            (mark, mark, said..at)
        };
        match check::verify(rule, &self.bytes[begin..covered_end], &self.bytes[said]) {
            Ok(()) => Found::Frame { body: self.body..body_end, end },
            Err(why) => self.garbled(end, why),
        }
    }

    /// The next frame may have begun inside what is garbled.
    fn garbled(&self, end: usize, why: Garbled) -> Found {
        let next = if self.rule.start.is_empty() { None } else { search(&self.bytes[..end], &self.rule.start, self.from + 1) };
        Found::Garbled { end: next.unwrap_or(end).max(1), why }
    }
}
