//! Commands from the cloud: read, handed to the engine, acknowledged to the broker only when they are safe here.
//!
//! ```text
//! message ──► readable ──► engine (Urgent::Command with a receipt) ──committed──► PUBACK
//!        └──► unreadable ─► dead letter and its event, one transaction ─committed─► PUBACK
//! ```
//! PUBACKs go out in the order in which the messages came (MQTT 3.1.1, 4.6). One that could not be kept gets none: the
//! broker brings it again on the next connection, and the id keeps it from running twice.
//!
//! **Stored mail.** What a broker kept for us while we were away has an unknown age. It is recognised by the flow: on a
//! resumed session everything counts as stored until nothing was open and nothing came for [`QUIET`].

use crate::{
    limits,
    model::{Boot, Command, DeadLetter, Event, EventKind, Receipt, Settled, UplinkId, Urgent},
    store::{Change, Store},
    uplink::{
        broker::Message,
        dialect::command::{self, Fault, Unreadable},
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// Stored mail comes without pause; a pause of this length means that it has all been brought.
const QUIET: Duration = Duration::from_secs(2);

/// Where receipts tell that they are settled. Grows to at most one entry per open receipt.
#[derive(Default)]
struct Settlements {
    list: Mutex<Vec<(u64, Settled)>>,
    changed: Notify,
}

/// A message whose PUBACK is held.
struct Held {
    receipt: u64,
    id: u16,
    settled: Option<Settled>,
}

pub struct Downlink {
    uplink: UplinkId,
    topic: String,
    urgent: mpsc::Sender<Urgent>,
    store: Store,
    settlements: Arc<Settlements>,
    next_receipt: u64,
    /// Of the present link, in order of arrival.
    held: VecDeque<Held>,
    /// Commands for which the engine's queue had no room.
    waiting: VecDeque<Urgent>,
    /// `Some`: mail may still be coming; since when it was quiet.
    mail: Option<Boot>,
    /// One clone for each dead letter that is on its way to the disk.
    asides: Arc<()>,
    /// Since when a command waits that could not be kept.
    unkept: Option<Boot>,
}

/// More came than is ever open: the link is dropped, and the broker keeps what it has.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Downlink {
    pub fn new(uplink: UplinkId, topic: String, urgent: mpsc::Sender<Urgent>, store: Store) -> Downlink {
        let settlements = Arc::new(Settlements::default());
        let (held, waiting, asides) = (VecDeque::new(), VecDeque::new(), Arc::new(()));
        Downlink { uplink, topic, urgent, store, settlements, next_receipt: 1, held, waiting, mail: None, asides, unkept: None }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// A new link. What was held on the one before comes again by itself.
    pub fn connected(&mut self, resumed: bool, now: Boot) {
        self.held.clear();
        self.unkept = None;
        self.mail = resumed.then_some(now);
    }

    pub fn message(&mut self, message: Message, now: Boot) -> Result<(), TooMany> {
        // The second and third count QoS 0 as well, for which nothing is held.
        let open = self.held.len().max(self.waiting.len()).max(Arc::strong_count(&self.asides) - 1);
        if open >= limits::COMMANDS_OPEN {
            return Err(TooMany);
        }
        let stored = self.is_stored(&message, now);
        let receipt = self.hold(message.id);
        if message.topic != self.topic || message.body.is_empty() {
            // An empty message clears a retained one and commands nothing.
            tracing::debug!(uplink = %self.uplink, topic = message.topic, "not a command; ignored");
            receipt.keep();
            return Ok(());
        }
        match read(&message) {
            Ok(asked) => self.hand_over(Urgent::Command { command: self.command(asked, stored, now), receipt }),
            Err(unreadable) => self.put_aside(&message, &unreadable, receipt, now),
        }
        Ok(())
    }

    fn command(&self, asked: command::Asked, from_stored_session: bool, now: Boot) -> Command {
        Command {
            id: asked.id,
            device: asked.device,
            action: asked.action,
            from: format!("uplink {}", self.uplink),
            received: now,
            issued_at: asked.issued_at,
            expires_in: asked.expires_in,
            from_stored_session,
        }
    }

    fn is_stored(&mut self, message: &Message, now: Boot) -> bool {
        let mail = self.mail.is_some_and(|quiet| !self.held.is_empty() || now - quiet < QUIET);
        self.mail = mail.then_some(now);
        mail || message.retained || message.again
    }

    fn hold(&mut self, id: u16) -> Receipt {
        if id == 0 {
            return Receipt::none();
        }
        let receipt = self.next_receipt;
        self.next_receipt += 1;
        self.held.push_back(Held { receipt, id, settled: None });
        let settlements = Arc::clone(&self.settlements);
        let tell = move |receipt, how| {
            settlements.list.lock().unwrap_or_else(PoisonError::into_inner).push((receipt, how));
            settlements.changed.notify_one();
        };
        Receipt::new(receipt, Arc::new(tell))
    }

    fn hand_over(&mut self, urgent: Urgent) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(urgent);
        }
        match self.urgent.try_send(urgent) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(urgent)) => self.waiting.push_back(urgent),
            // The engine has ended: the receipt falls unkept, and the broker keeps the command.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    fn put_aside(&self, message: &Message, why: &Unreadable, receipt: Receipt, now: Boot) {
        let (source, reason) = (format!("uplink {}", self.uplink), why.to_string());
        tracing::warn!(uplink = %self.uplink, reason, "unreadable command; put aside as a dead letter");
        let body = message.body[..message.body.len().min(limits::DEAD_LETTER_BYTES)].to_vec();
        let letter = DeadLetter { source: source.clone(), topic: message.topic.clone(), reason: reason.clone(), body, at: now };
        let event = Event { at: now, kind: EventKind::DeadLetter { source, reason, count: 1 } };
        let store = self.store.clone();
        let on_its_way = Arc::clone(&self.asides);
        // Not awaited here: the pump must not wait for the disk. At most `COMMANDS_OPEN` are on their way.
        tokio::spawn(async move {
            let _on_its_way = on_its_way;
            let done = move |result: Result<(), _>| match result {
                Ok(()) => receipt.keep(),
                Err(_) => drop(receipt),
            };
            store.submit(vec![Change::DeadLetter(letter), Change::Event(event)], done).await;
        });
    }

    /// When a new link is worth it, so that the broker brings what could not be kept.
    pub fn again_at(&self) -> Option<Boot> {
        self.unkept.map(|since| since + limits::COMMAND_AGAIN)
    }

    pub fn asks_again(&self, now: Boot) -> bool {
        self.again_at().is_some_and(|at| now >= at)
    }

    /// Waits until a PUBACK may be due, or the engine has room again.
    pub async fn changed(&mut self) {
        tokio::select! {
            biased;
            () = self.settlements.changed.notified() => {}
            Ok(permit) = self.urgent.reserve(), if !self.waiting.is_empty() => {
                if let Some(urgent) = self.waiting.pop_front() {
                    permit.send(urgent);
                }
            }
        }
    }

    /// The packet ids that may now be acknowledged, in order.
    pub fn settled(&mut self, now: Boot) -> Vec<u16> {
        let list = std::mem::take(&mut *self.settlements.list.lock().unwrap_or_else(PoisonError::into_inner));
        for (receipt, how) in list {
            // Of an earlier link: unknown here, and the broker brings it again.
            let Ok(n) = self.held.binary_search_by_key(&receipt, |held| held.receipt) else { continue };
            self.held[n].settled = Some(how);
            if how == Settled::NotKept {
                self.unkept.get_or_insert(now);
                tracing::warn!(uplink = %self.uplink, "a command could not be kept and is not acknowledged; the broker brings it again");
            }
        }
        let mut ids = vec![];
        while let Some(how) = self.held.front().and_then(|held| held.settled) {
            let held = self.held.pop_front().expect("the front was just seen");
            if how == Settled::Kept {
                ids.push(held.id);
            }
            self.mail = self.mail.map(|_| now);
        }
        ids
    }
}

fn read(message: &Message) -> Result<command::Asked, Unreadable> {
    if message.length > limits::PAYLOAD_BYTES {
        return Err(Unreadable { id: None, fault: Fault::TooLong(message.length) });
    }
    command::parse(&message.body)
}
