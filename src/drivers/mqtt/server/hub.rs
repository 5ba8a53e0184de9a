//! All sessions, their subscriptions and the retained messages: who gets what.
//!
//! Synchronous and on one thread. Nothing here waits for a client.

use super::super::{
    codec::{LastWill, QoS, SubscribeReasonCode},
    fate::{Fate, Fated},
    topics,
};
use super::{
    Counters,
    message::Message,
    retained::Retained,
    session::{Closed, Offered, Outlet, Session},
    tree::{Hit, LEVELS, Tree},
};
use crate::{limits, model::Boot, system::clock::Clock};
use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

/// A client id belongs to its user: nobody takes over the session of somebody else.
pub type Name = (Option<Arc<str>>, Arc<str>);

pub struct Hub {
    sessions: HashMap<u64, Session>,
    names: HashMap<Name, u64>,
    tree: Tree,
    retained: Retained,
    next_session: u64,
    leavings: u64,
    all_bytes: Rc<Cell<usize>>,
    hits: Vec<Hit>,
    clock: Clock,
    counters: Arc<Counters>,
}

/// A client that was here before under the same name.
pub struct Former {
    pub number: u64,
    pub will: Option<LastWill>,
    pub rights: Rc<super::users::Rights>,
}

/// How a message is to be sent on.
#[derive(Default)]
pub struct Manner {
    pub qos: u8,
    pub retain: bool,
    pub expires: Option<Boot>,
    pub fate: Option<Arc<Fate>>,
}

impl Hub {
    pub fn new(clock: Clock, counters: Arc<Counters>) -> Hub {
        Hub {
            sessions: HashMap::new(),
            names: HashMap::new(),
            tree: Tree::default(),
            retained: Retained::default(),
            next_session: 0,
            leavings: 0,
            all_bytes: Rc::default(),
            hits: Vec::new(),
            clock,
            counters,
        }
    }

    /// The session of a connection, as long as nobody took it over.
    pub fn own(&mut self, session: u64, number: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&session).filter(|s| s.outlet.as_ref().is_some_and(|o| o.number == number))
    }

    pub fn push(&mut self, session: u64) {
        let clock = self.clock;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.push(&|| clock.now());
        }
    }

    /// Sends what became due of a session's acknowledgements. Its connection looks up where that lets it go on.
    pub fn acknowledge(&mut self, id: u64, stopping: bool) {
        let clock = self.clock;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let was_full = session.outlet.as_ref().is_some_and(|outlet| outlet.ledger.held() >= limits::MQTT_HELD);
        let taken = session.acknowledge();
        self.counters.held.fetch_sub(taken as u64, Ordering::Relaxed);
        session.push(&|| clock.now());
        if let Some(outlet) = session.outlet.as_ref().filter(|outlet| was_full || stopping || !outlet.out.is_empty()) {
            outlet.wake.notify_one();
        }
    }

    /// Closes the socket of the client that has this name now, at once.
    pub fn displace(&mut self, name: &Name) -> Option<Former> {
        let id = *self.names.get(name)?;
        let session = self.sessions.get_mut(&id)?;
        let (number, rights) = session.outlet.as_ref().map(|outlet| (outlet.number, outlet.rights.clone()))?;
        session.cut(Closed::TakenOver);
        let will = session.outlet.as_mut().and_then(|outlet| outlet.will.take());
        session.detach();
        if session.clean {
            self.forget(id);
        }
        Some(Former { number, will, rights })
    }

    /// A client is here. Gives its session, and whether it was kept from before; [`Hub::connect`] follows.
    pub fn arrive(&mut self, name: Name, clean: bool) -> (u64, bool) {
        let before = self.names.get(&name).copied();
        let kept = before.filter(|id| !clean && self.sessions.get(id).is_some_and(|s| !s.clean));
        if let (None, Some(old)) = (kept, before) {
            self.forget(old);
        }
        let id = kept.unwrap_or_else(|| {
            self.next_session += 1;
            self.sessions.insert(self.next_session, Session::new(name.1.clone(), clean, self.all_bytes.clone()));
            self.names.insert(name, self.next_session);
            self.next_session
        });
        (id, kept.is_some())
    }

    pub fn connect(&mut self, id: u64, outlet: Outlet) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.outlet = Some(outlet);
        }
    }

    /// A connection ended. Gives its will if it still had the session.
    pub fn leave(&mut self, id: u64, number: u64) -> Option<(Closed, Option<LastWill>)> {
        let session = self.own(id, number)?;
        let outlet = session.outlet.take()?;
        session.detach();
        if session.clean {
            self.forget(id);
        } else {
            self.leavings += 1;
            let away_since = self.leavings;
            session_away(self.sessions.get_mut(&id), away_since);
            self.bound_away();
        }
        Some((outlet.closed.unwrap_or_else(|| Closed::Theirs("went away".into())), outlet.will))
    }

    fn bound_away(&mut self) {
        let away = |s: &&Session| s.outlet.is_none();
        if self.sessions.values().filter(away).count() <= limits::MQTT_SESSIONS {
            return;
        }
        let oldest = self.sessions.iter().filter(|(_, s)| s.outlet.is_none()).min_by_key(|(_, s)| s.away_since).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            tracing::warn!(limit = limits::MQTT_SESSIONS, "too many sessions of clients that are away; the oldest is forgotten");
            self.forget(oldest);
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(session) = self.sessions.remove(&id) {
            session.filters.iter().for_each(|filter| self.tree.remove(filter, id));
            self.names.retain(|_, named| *named != id);
        }
    }

    /// One filter of a SUBSCRIBE. The retained messages that it asks for follow by [`Hub::retained`].
    pub fn subscribe(&mut self, id: u64, filter: &str, asked: QoS, allowed: bool) -> SubscribeReasonCode {
        let legal = topics::is_filter(filter) && filter.split('/').count() <= LEVELS && !filter.starts_with("$share/");
        let Some(session) = self.sessions.get_mut(&id).filter(|_| legal && allowed) else { return SubscribeReasonCode::Failure };
        if session.filters.len() >= limits::MQTT_SUBSCRIPTIONS && !session.filters.contains(filter) {
            return SubscribeReasonCode::Failure;
        }
        let granted = if asked == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        session.filters.insert(filter.to_owned());
        self.tree.insert(filter, id, granted);
        SubscribeReasonCode::Success(granted)
    }

    pub fn retained(&mut self, id: u64, filter: &str, granted: QoS) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for (message, qos) in self.retained.find(filter) {
            if !session.offer_retained(message, qos.min(granted as u8)) {
                return session.cut(Closed::Theirs("subscribes faster than it reads".into()));
            }
        }
    }

    pub fn unsubscribe(&mut self, id: u64, filter: &str) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.filters.remove(filter)
        {
            self.tree.remove(filter, id);
        }
    }

    /// Sends a message on to everyone who asks for it. Gives how many do.
    pub fn publish(&mut self, topic: &str, payload: &[u8], manner: Manner) -> usize {
        let mut hits = std::mem::take(&mut self.hits);
        self.tree.find(topic, &mut hits);
        if let (true, Some(fate)) = (hits.is_empty(), &manner.fate) {
            fate.end(Fated::Nobody);
        }
        if manner.retain || !hits.is_empty() {
            let message = Rc::new(Message::new(topic, payload).followed(manner.expires, manner.fate));
            if manner.retain && !self.retained.set(topic, message.clone(), manner.qos) {
                tracing::warn!(limit = limits::MQTT_RETAINED, topic = ?topic, "no room to retain more local messages");
            }
            for hit in &hits {
                self.deliver(*hit, &message, manner.qos);
            }
        }
        let count = hits.len();
        self.hits = hits;
        count
    }

    fn deliver(&mut self, hit: Hit, message: &Rc<Message>, qos: u8) {
        let clock = self.clock;
        let Some(session) = self.sessions.get_mut(&hit.session) else { return };
        let qos = qos.min(hit.qos as u8);
        if session.offer(message, qos, &|| clock.now()) == Offered::Dropped && (qos > 0 || session.outlet.is_some()) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            if session.dropped == 1 {
                tracing::warn!(client = ?session.client, "a local subscriber reads too slowly; messages to it are dropped");
            }
        }
    }

    /// Tells every connection to look up: the endpoint stops.
    pub fn wake_all(&self) {
        self.sessions.values().filter_map(|s| s.outlet.as_ref()).for_each(|outlet| outlet.wake.notify_one());
    }
}

fn session_away(session: Option<&mut Session>, away_since: u64) {
    if let Some(session) = session {
        session.away_since = away_since;
    }
}
