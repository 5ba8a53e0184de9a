//! From a local message to the engine's doors: maps it, stamps it, and hands it over in order.
//!
//! A door that is full makes the one client wait that was just heard, and nobody else. Every receipt goes with what was
//! made of its message; what nobody asks for is acknowledged at once, what cannot be used goes to the dead letters.

use super::{
    receipts,
    replies::Replies,
    routes::{Meaning, Routes},
    server::Waiting,
};
use crate::{
    drivers::Doors,
    limits,
    model::{Bulk, DeadLetter, Reading, Receipt, Said, Urgent},
    system::clock::Clock,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc::error::TrySendError;

/// One message as it came in.
pub struct Heard<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// Delivered from a broker's memory, so nobody knows how old it is.
    pub retained: bool,
    pub will: bool,
    pub session: Option<u64>,
    /// Who sent it, for the dead letters.
    pub from: &'a str,
    /// Why it cannot be used, if the endpoint knows that already.
    pub refused: Option<String>,
    pub receipt: Receipt,
}

pub struct Intake {
    routes: Mutex<Routes>,
    pub replies: Arc<Replies>,
    doors: Doors,
    clock: Clock,
    pub dead_letters: AtomicU64,
}

enum Item {
    Urgent(Urgent),
    Bulk(Bulk),
}

impl Intake {
    pub fn new(routes: Routes, doors: Doors, clock: Clock) -> Intake {
        Intake { routes: Mutex::new(routes), replies: Arc::default(), doors, clock, dead_letters: AtomicU64::new(0) }
    }

    pub fn take(&self, mut heard: Heard<'_>) -> Option<Waiting> {
        if let Some(reason) = heard.refused.take() {
            return self.refused(heard, reason);
        }
        if !heard.retained {
            self.replies.hear(heard.topic, heard.payload);
        }
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meanings = routes.meanings(heard.topic, heard.payload);
        let receipt = std::mem::replace(&mut heard.receipt, Receipt::none());
        match meanings.len() {
            0 => receipt.keep(),
            1 => {
                let item = meanings.next().map(|meaning| self.item(&heard, meaning, receipt));
                return self.hand_over(item.into_iter());
            }
            parts => {
                let receipts = receipts::split(receipt, parts);
                let items = meanings.zip(receipts).map(|(meaning, receipt)| self.item(&heard, meaning, receipt));
                return self.hand_over(items.collect::<Vec<_>>().into_iter());
            }
        }
        None
    }

    /// What the endpoint itself refuses. A topic that no route asks for is no loss: it is only acknowledged.
    fn refused(&self, heard: Heard<'_>, reason: String) -> Option<Waiting> {
        let asked_for = self.routes.lock().unwrap_or_else(PoisonError::into_inner).asked_for(heard.topic);
        if !asked_for {
            heard.receipt.keep();
            return None;
        }
        let letter = self.letter(&heard, reason);
        self.hand_over(std::iter::once(dead(letter, heard.receipt)))
    }

    fn item(&self, heard: &Heard<'_>, meaning: Meaning, receipt: Receipt) -> Item {
        let at = self.clock.now();
        match meaning {
            Meaning::Telemetry { device, via, leaves } => {
                let quality = leaves.quality();
                let readings = match leaves.values.is_empty() {
                    true => Vec::new(), // `{}` is a sign of life without values
                    false => vec![Reading { device: device.clone(), at, points: leaves.points, values: leaves.values, quality }],
                };
                Item::Bulk(Bulk::Message { device, via, readings, at, retained: heard.retained, receipt })
            }
            Meaning::Status { device, via, online, offline_after } => {
                let (will, retained, session) = (heard.will, heard.retained, heard.session);
                Item::Urgent(Urgent::Said(Said { device, via, online, will, retained, session, at, offline_after, receipt }))
            }
            Meaning::Attributes { device, values } => Item::Urgent(Urgent::Attributes { device, values, at, receipt }),
            Meaning::Unreadable { via, reason } => dead(self.letter(heard, format!("route {via}: {reason}")), receipt),
        }
    }

    fn letter(&self, heard: &Heard<'_>, reason: String) -> DeadLetter {
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
        DeadLetter {
            source: format!("mqtt {}", heard.from),
            topic: heard.topic.to_owned(),
            reason,
            body: heard.payload[..heard.payload.len().min(limits::DEAD_LETTER_BYTES)].to_vec(),
            at: self.clock.now(),
        }
    }

    /// At once if there is room, else in what is given back. Nothing overtakes anything.
    fn hand_over(&self, mut items: impl Iterator<Item = Item> + Send + 'static) -> Option<Waiting> {
        while let Some(item) = items.next() {
            let back = match item {
                Item::Urgent(urgent) => self.doors.urgent.try_send(urgent).err().and_then(full).map(Item::Urgent),
                Item::Bulk(bulk) => self.doors.bulk.try_send(bulk).err().and_then(full).map(Item::Bulk),
            };
            if let Some(item) = back {
                let doors = self.doors.clone();
                return Some(Box::pin(async move {
                    for item in std::iter::once(item).chain(items) {
                        // A closed door drops the receipt, so that it is never acknowledged.
                        match item {
                            Item::Urgent(urgent) => drop(doors.urgent.send(urgent).await),
                            Item::Bulk(bulk) => drop(doors.bulk.send(bulk).await),
                        }
                    }
                }));
            }
        }
        None
    }
}

fn full<T>(error: TrySendError<T>) -> Option<T> {
    match error {
        TrySendError::Full(item) => Some(item),
        TrySendError::Closed(_) => None,
    }
}

/// A publisher who waits is acknowledged once the letter is durable.
fn dead(letter: DeadLetter, receipt: Receipt) -> Item {
    Item::Urgent(if receipt.is_awaited() { Urgent::DeadLetterHeld { letter, receipt } } else { Urgent::DeadLetter(letter) })
}
