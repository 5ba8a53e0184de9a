//! One client's session: its subscriptions, what waits for it, what it has not acknowledged, and its socket while it is
//! connected.
//!
//! A session never blocks anybody: what does not fit is dropped or the client is cut off, as `limits` says. The writing
//! side of the socket is here, and not in the connection's task, so that routing can push a full queue out at once.

use super::super::{
    codec::{self, LastWill},
    receipts::Ledger,
};
use super::{message::Message, users::Rights};
use crate::{limits, model::Boot};
use bytes::{Buf, BytesMut};
use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

/// Bytes written ahead of the socket. Full: the queue waits, and nothing more is read from the client either.
pub const AHEAD: usize = 64 * 1024;

pub struct Session {
    pub client: Arc<str>,
    pub clean: bool,
    pub filters: BTreeSet<String>,
    pub outlet: Option<Outlet>,
    /// QoS 2 messages that were taken, by packet id, until the client releases them.
    pub taken: BTreeSet<u16>,
    /// Grows with every leaving, so that the one away longest is known.
    pub away_since: u64,
    pub dropped: u64,
    queue: VecDeque<Queued>,
    live: usize,
    live_bytes: usize,
    in_flight: VecDeque<InFlight>,
    next_pkid: u16,
    /// Bytes in the queues of all sessions.
    all_bytes: Rc<Cell<usize>>,
}

/// The socket of a connected client.
pub struct Outlet {
    /// Which connection this is: grows for ever.
    pub number: u64,
    pub rights: Rc<Rights>,
    pub will: Option<LastWill>,
    pub wake: Arc<Notify>,
    /// What it waits for.
    pub ledger: Rc<Ledger<Ack>>,
    pub closed: Option<Closed>,
    pub out: BytesMut,
    /// Since when the peer takes nothing.
    pub stuck: Option<Instant>,
    pub stream: Rc<TcpStream>,
}

/// What acknowledges a publication.
#[derive(Clone, Copy)]
pub enum Ack {
    /// QoS 1: PUBACK.
    Once(u16),
    /// QoS 2: PUBREC, after which the client releases it.
    Exactly(u16),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// It said goodbye: no will.
    Goodbye,
    /// Its client is here again on another connection; the will is told by that one.
    TakenOver,
    /// Our fault or our wish: it is no evidence of the device, so no will.
    Ours(&'static str),
    /// The peer went away or broke the rules.
    Theirs(String),
}

struct Queued {
    message: Rc<Message>,
    qos: u8,
    retain: bool,
    /// Retained messages at subscribing are bounded by what is retained.
    free: bool,
}

struct InFlight {
    pkid: u16,
    message: Rc<Message>,
    retain: bool,
    /// On this connection.
    sent: bool,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    Taken,
    Dropped,
}

impl Session {
    pub fn new(client: Arc<str>, clean: bool, all_bytes: Rc<Cell<usize>>) -> Session {
        Session {
            client,
            clean,
            filters: BTreeSet::new(),
            outlet: None,
            taken: BTreeSet::new(),
            away_since: 0,
            dropped: 0,
            queue: VecDeque::new(),
            live: 0,
            live_bytes: 0,
            in_flight: VecDeque::new(),
            next_pkid: 0,
            all_bytes,
        }
    }

    /// A live message. `qos` is that of the delivery.
    pub fn offer(&mut self, message: &Rc<Message>, qos: u8, now: &dyn Fn() -> Boot) -> Offered {
        if self.outlet.is_none() && qos == 0 {
            return Offered::Dropped; // nobody promised it
        }
        if self.is_full(message) {
            self.push(now);
        }
        if self.is_full(message) {
            self.dropped += 1;
            if qos > 0 {
                self.cut(Closed::Theirs("reads too slowly".into()));
            }
            return Offered::Dropped;
        }
        self.live += 1;
        self.live_bytes += message.size();
        self.all_bytes.set(self.all_bytes.get() + message.size());
        self.enqueue(Queued { message: message.clone(), qos, retain: false, free: false });
        Offered::Taken
    }

    /// A retained message for a new subscription. `false`: it subscribes faster than it reads.
    pub fn offer_retained(&mut self, message: &Rc<Message>, qos: u8) -> bool {
        if self.queue.len() > limits::MQTT_RETAINED + limits::MQTT_QUEUE {
            return false;
        }
        self.enqueue(Queued { message: message.clone(), qos, retain: true, free: true });
        true
    }

    fn enqueue(&mut self, queued: Queued) {
        self.queue.push_back(queued);
        if let Some(outlet) = &self.outlet {
            outlet.wake.notify_one();
        }
    }

    fn is_full(&self, message: &Message) -> bool {
        self.live >= limits::MQTT_QUEUE
            || self.live_bytes + message.size() > limits::MQTT_QUEUE_BYTES
            || self.all_bytes.get() + message.size() > limits::MQTT_QUEUE_BYTES_ALL
    }

    /// The client acknowledged a packet id; an unknown one is ignored.
    pub fn acknowledged(&mut self, pkid: u16) {
        if let Some(at) = self.in_flight.iter().position(|sent| sent.pkid == pkid)
            && let Some(sent) = self.in_flight.remove(at)
        {
            sent.message.acknowledged();
        }
    }

    /// Puts what became due of its own publications behind what is to be written, in order. Gives how many.
    pub fn acknowledge(&mut self) -> usize {
        let Some(Outlet { ledger, out, .. }) = &mut self.outlet else { return 0 };
        let (taken, mut count) = (&mut self.taken, 0);
        let all_kept = ledger.take(|ack| {
            count += 1;
            match ack {
                Ack::Once(pkid) => codec::puback(out, pkid),
                Ack::Exactly(pkid) => {
                    taken.insert(pkid);
                    codec::pubrec(out, pkid);
                }
            }
        });
        if all_kept.is_err() {
            self.cut(Closed::Ours("a message could not be kept; its publisher is to send it again"));
        }
        count
    }

    /// Encodes and writes as much as the socket takes.
    pub fn push(&mut self, now: &dyn Fn() -> Boot) {
        loop {
            self.fill(now);
            let Some(outlet) = &mut self.outlet else { return };
            if outlet.out.is_empty() {
                outlet.out = BytesMut::new(); // an idle connection holds no memory
                outlet.stuck = None;
                return;
            }
            match outlet.stream.try_write(&outlet.out) {
                Ok(written) => {
                    outlet.out.advance(written);
                    outlet.stuck = None;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    outlet.stuck.get_or_insert_with(Instant::now);
                    return;
                }
                Err(e) => return self.cut(Closed::Theirs(e.to_string())),
            }
        }
    }

    /// Moves waiting messages into the write buffer, first those that a former connection left unacknowledged.
    fn fill(&mut self, now: &dyn Fn() -> Boot) {
        let Some(outlet) = &mut self.outlet else { return };
        if outlet.closed.is_some() {
            return;
        }
        for again in self.in_flight.iter_mut().filter(|sent| !sent.sent) {
            if outlet.out.len() >= AHEAD {
                return;
            }
            again.sent = true;
            codec::publish(&mut outlet.out, &again.message.topic, &again.message.payload, again.pkid, again.retain, true);
        }
        while outlet.out.len() < AHEAD {
            let Some(next) = self.queue.front() else { break };
            if next.qos > 0 && self.in_flight.len() >= limits::MQTT_IN_FLIGHT {
                break;
            }
            let Some(Queued { message, qos, retain, free }) = self.queue.pop_front() else { break };
            if !free {
                self.live -= 1;
                self.live_bytes -= message.size();
                self.all_bytes.set(self.all_bytes.get() - message.size());
            }
            if !message.may_be_sent(now) {
                continue;
            }
            let pkid = if qos == 0 { 0 } else { free_pkid(&mut self.next_pkid, &self.in_flight) };
            codec::publish(&mut outlet.out, &message.topic, &message.payload, pkid, retain, false);
            if qos > 0 {
                self.in_flight.push_back(InFlight { pkid, message, retain, sent: true });
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
    }

    /// Ends the connection at once: the peer sees it now, the connection's task at its next turn.
    pub fn cut(&mut self, why: Closed) {
        if let Some(outlet) = &mut self.outlet {
            if outlet.closed.is_none() {
                outlet.closed = Some(why);
            }
            let _ = rustix::net::shutdown(&*outlet.stream, rustix::net::Shutdown::Both);
            outlet.wake.notify_one();
        }
    }

    /// The connection is gone. What was sent and not acknowledged is sent again at the next one.
    pub fn detach(&mut self) {
        self.outlet = None;
        self.in_flight.iter_mut().for_each(|sent| sent.sent = false);
        // A command that must not run late is not sent twice either: its sender is told that nobody answered.
        self.in_flight.retain(|sent| sent.message.expires.is_none());
        let all_bytes = self.all_bytes.clone();
        let (live, bytes) = (&mut self.live, &mut self.live_bytes);
        self.queue.retain(|queued| {
            let kept = queued.qos > 0;
            if !kept && !queued.free {
                *live -= 1;
                *bytes -= queued.message.size();
                all_bytes.set(all_bytes.get() - queued.message.size());
            }
            kept
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.all_bytes.set(self.all_bytes.get() - self.live_bytes);
    }
}

/// The next packet id that is not in flight. There is one: fewer are in flight than there are ids.
fn free_pkid(last: &mut u16, in_flight: &VecDeque<InFlight>) -> u16 {
    loop {
        *last = last.checked_add(1).unwrap_or(1);
        if !in_flight.iter().any(|sent| sent.pkid == *last) {
            return *last;
        }
    }
}
