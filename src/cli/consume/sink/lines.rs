//! JSON lines: one line per message, and lines of our own for what was rejected, conflicts, corrects times, or came again.
//!
//! The file is its own memory: at start it is read, and what a crash left of a last line is cut off. Numbers that came are
//! ranges; contents are compared for the newest `limits::CONSUME_CONTENTS` messages.

use super::{Delivery, Sink, SinkError, Took};
use crate::{
    cli::consume::books::Books,
    limits,
    model::{Epoch, Stream},
    uplink::dialect::read::{Known, Message},
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
};

/// The longest line that is one of ours: a message and what stands around it.
const LINE_BYTES: u64 = 4 * limits::PAYLOAD_BYTES as u64;

type Place = (String, Epoch, Stream);

pub struct Lines {
    name: String,
    /// `None`: stdout.
    file: Option<File>,
    /// Bytes of the file that are whole lines.
    length: u64,
    pending: Vec<u8>,
    books: Books,
    contents: Contents,
    /// Boots of which messages with estimated times are in the file.
    estimated: BTreeMap<(String, u32), ()>,
    /// What came again and is not in the file yet.
    again: BTreeMap<Place, (u64, u64)>,
    rejected_here: u64,
}

/// The contents of the newest messages, oldest first.
#[derive(Default)]
struct Contents {
    places: HashMap<Place, u32>,
    known: HashMap<(u32, u64), u64>,
    order: VecDeque<(u32, u64)>,
}

/// A line of the file: our members, of which one is there.
#[derive(Deserialize)]
struct Line {
    message: Option<Message>,
    resent: Option<Vec<Again>>,
    rejected: Option<Json>,
}

#[derive(Deserialize)]
struct Again {
    gateway: String,
    epoch: Epoch,
    stream: Stream,
    resent: u64,
    conflicting: u64,
}

impl Lines {
    pub fn stdout() -> Lines {
        Lines::new("stdout".into(), None)
    }

    /// Reads what is there; a last line without its end was never acknowledged and is cut off.
    pub fn open(path: &Path) -> Result<Lines, SinkError> {
        let name = path.display().to_string();
        let failed = |source| SinkError::File { file: name.clone(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut lines = Lines::new(name.clone(), None);
        lines.read(&file)?;
        file.set_len(lines.length).map_err(failed)?;
        (&file).seek(SeekFrom::End(0)).map_err(failed)?;
        lines.file = Some(file);
        Ok(lines)
    }

    /// For the report alone: nothing is written.
    pub fn books_of(path: &Path) -> Result<Books, SinkError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| SinkError::File { file: name.clone(), source })?;
        let mut lines = Lines::new(name, None);
        lines.read(&file)?;
        Ok(lines.books)
    }

    fn new(name: String, file: Option<File>) -> Lines {
        Lines {
            name,
            file,
            length: 0,
            pending: Vec::new(),
            books: Books::default(),
            contents: Contents::default(),
            estimated: BTreeMap::new(),
            again: BTreeMap::new(),
            rejected_here: 0,
        }
    }

    fn read(&mut self, file: &File) -> Result<(), SinkError> {
        let mut from = BufReader::new(file);
        let mut line = Vec::new();
        for n in 1.. {
            line.clear();
            let read = std::io::Read::take(&mut from, LINE_BYTES).read_until(b'\n', &mut line);
            let length = read.map_err(|source| SinkError::File { file: self.name.clone(), source })? as u64;
            if !line.ends_with(b"\n") && length < LINE_BYTES {
                return Ok(());
            }
            self.line(&line).map_err(|why| SinkError::Foreign {
                file: self.name.clone(),
                why: format!("line {n} is none of a consumer: {why}; name another file"),
            })?;
            self.length += length;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        if let Some(message) = line.message {
            self.know(&message);
        }
        for again in line.resent.into_iter().flatten() {
            let sequence = self.books.run(&again.gateway, again.epoch, false).sequence_mut(again.stream);
            sequence.resent += again.resent;
            sequence.conflicting += again.conflicting;
        }
        self.books.rejected += u64::from(line.rejected.is_some());
        Ok(())
    }

    /// Takes a message into the books. Its key is either new or known with a content.
    fn know(&mut self, message: &Message) -> Took {
        let gateway = message.gateway.as_str();
        let sequence = self.books.run(gateway, message.epoch, message.backlog).sequence_mut(message.stream);
        let is_new = sequence.received.insert(message.seq);
        if is_new {
            sequence.messages += 1;
            sequence.samples += message.samples();
        }
        let place = (gateway.to_owned(), message.epoch, message.stream);
        let is_same = self.contents.compare(place, message.seq, message.content(), is_new);
        if !is_new {
            return if is_same { Took::Resent } else { Took::Conflicting };
        }
        for event in message.events() {
            self.books.event(gateway, message.epoch, message.seq, event);
        }
        if message.is_estimated() && self.estimated.len() < limits::CONSUME_CONTENTS {
            self.estimated.insert((gateway.to_owned(), message.clock.boot), ());
        }
        Took::New
    }

    fn write(&mut self, received_ms: i64, name: &str, body: &[u8]) {
        let _ = write!(self.pending, "{{\"received\":{received_ms},\"{name}\":");
        self.pending.extend_from_slice(body);
        self.pending.extend_from_slice(b"}\n");
    }

    fn write_json(&mut self, received_ms: i64, name: &str, body: &Json) {
        self.write(received_ms, name, body.to_string().as_bytes());
    }

    /// Times of this boot that were estimated are wrong by the difference.
    fn correct(&mut self, delivery: &Delivery<'_>, message: &Message) {
        for event in message.events() {
            let Known::Clock { boot, offset_ms, synchronised } = event.known else { continue };
            let boot = (message.gateway.as_str().to_owned(), boot.unwrap_or(message.clock.boot));
            if self.estimated.contains_key(&boot) {
                let body = json!({"gateway": boot.0, "boot": boot.1, "offset_ms": offset_ms, "synchronised": synchronised});
                self.write_json(delivery.received_ms, "correction", &body);
            }
            if synchronised {
                self.estimated.remove(&boot);
            }
        }
    }

    fn write_again(&mut self, received_ms: i64) {
        let rows: Vec<Json> = std::mem::take(&mut self.again)
            .into_iter()
            .map(|((gateway, epoch, stream), (resent, conflicting))| {
                json!({"gateway": gateway, "epoch": epoch, "stream": stream, "resent": resent, "conflicting": conflicting})
            })
            .collect();
        if !rows.is_empty() {
            self.write_json(received_ms, "resent", &Json::Array(rows));
        }
    }
}

impl Sink for Lines {
    fn take(&mut self, delivery: &Delivery<'_>, message: &Message) -> Result<Took, SinkError> {
        if self.books.pieces() >= limits::CONSUME_RANGES {
            self.reject(delivery, "too many holes in the numbers of all gateways to keep them in memory; write to a database")?;
            return Ok(Took::New);
        }
        let took = self.know(message);
        match took {
            Took::New => {
                self.write(delivery.received_ms, "message", &one_line(delivery.body));
                self.correct(delivery, message);
            }
            Took::Resent | Took::Conflicting => {
                let sequence = self.books.run(message.gateway.as_str(), message.epoch, message.backlog).sequence_mut(message.stream);
                let again = self.again.entry((message.gateway.as_str().to_owned(), message.epoch, message.stream)).or_default();
                if took == Took::Resent {
                    sequence.resent += 1;
                    again.0 += 1;
                } else {
                    sequence.conflicting += 1;
                    again.1 += 1;
                    self.write(delivery.received_ms, "conflicting", &one_line(delivery.body));
                }
            }
        }
        Ok(took)
    }

    fn retained(&mut self, delivery: &Delivery<'_>) -> Result<(), SinkError> {
        let name = if delivery.topic.ends_with("/state") { "state" } else { "devices" };
        self.write(delivery.received_ms, name, &one_line(delivery.body));
        Ok(())
    }

    fn reject(&mut self, delivery: &Delivery<'_>, reason: &str) -> Result<(), SinkError> {
        self.books.rejected += 1;
        self.rejected_here += 1;
        if self.rejected_here <= limits::CONSUME_REJECTED {
            let body = String::from_utf8_lossy(&delivery.body[..delivery.body.len().min(limits::DEAD_LETTER_BYTES)]);
            self.write_json(delivery.received_ms, "rejected", &json!({"topic": delivery.topic, "reason": reason, "body": body}));
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        // In the file whenever it is written anyway: what came again is counted across restarts.
        self.write_again(crate::cli::consume::wall_ms());
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&self.pending).and_then(|()| file.sync_data()),
            None => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&self.pending).and_then(|()| stdout.flush())
            }
        };
        match (written, &self.file) {
            (Ok(()), _) => {
                self.length += self.pending.len() as u64;
                self.pending.clear();
                Ok(())
            }
            (Err(_), None) => Err(SinkError::Closed),
            (Err(source), Some(file)) => {
                // Half a line would be cut off at the next start as well.
                let _ = file.set_len(self.length);
                Err(SinkError::File { file: self.name.clone(), source })
            }
        }
    }

    fn books(&mut self) -> Result<Books, SinkError> {
        Ok(self.books.clone())
    }
}

impl Contents {
    /// Whether the content is the one that is known; what is not known any more counts as the same.
    fn compare(&mut self, place: Place, seq: u64, content: u64, is_new: bool) -> bool {
        let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(place).or_insert(next);
        if !is_new {
            return self.known.get(&(place, seq)).is_none_or(|known| *known == content);
        }
        if self.order.len() >= limits::CONSUME_CONTENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert((place, seq), content);
        self.order.push_back((place, seq));
        true
    }
}

/// As it came; JSON that was laid out over several lines is put on one. What is no JSON becomes a text.
fn one_line(body: &[u8]) -> Vec<u8> {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return json!(String::from_utf8_lossy(body)).to_string().into_bytes();
    }
    // A line break within a text is written as an escape, so one that is here stands between the members.
    body.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }).collect()
}

#[cfg(test)]
mod tests;
