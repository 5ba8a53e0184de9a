//! A broker for virtual time: what reached it can be read, and what goes wrong is told to it while it runs.
//!
//! It keeps what MQTT promises (order on a link, a persistent session for commands) and breaks what a test asks for:
//! connections refused or cut, acknowledgements late, lost, reversed or doubled. Nothing in it draws a random number or
//! reads a clock other than tokio's, so the same script gives the same run.

use super::broker::{Arrived, Broker, Hello, Link, Lost, Message, NoLink, Refusal, Welcome};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What goes wrong. The default is a good broker that answers at once.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub refuse: bool,
    pub answer_after: Duration,
    /// Acknowledge the newest first.
    pub reverse: bool,
    /// Every n-th message is taken, but its acknowledgement never comes.
    pub lose_answer_every: Option<u64>,
    /// A link is cut after so many messages: the last one has arrived, and is not acknowledged.
    pub cut_after: Option<u64>,
    /// Open publishes wait at most so long before the link is given up, as the real client's watchdog does.
    pub patience: Option<Duration>,
    /// What it does with messages that this says yes to.
    pub poison: Option<(Poison, Dislike)>,
    /// Said to every client, as MQTT 5 does.
    pub welcome: Welcome,
}

/// Whether a message on this topic is one that the broker does not take.
#[derive(Clone)]
pub struct Poison(pub Arc<IsBad>);

/// By topic and body.
pub type IsBad = dyn Fn(&str, &[u8]) -> bool + Send + Sync;

impl std::fmt::Debug for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Poison")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dislike {
    Refuse(Refusal),
    Close,
    NeverAcknowledge,
}

/// One message as it reached the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub body: Vec<u8>,
    pub retain: bool,
    /// Which connection brought it, from 1.
    pub link: u64,
    /// The answer arrived.
    pub acknowledged: bool,
}

/// Shared by the uplink's side and whoever looks at it.
#[derive(Clone, Default)]
pub struct Simulated {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    faults: Faults,
    links: u64,
    attempts: u64,
    total: u64,
    received: Vec<Received>,
    will: Option<(String, Vec<u8>)>,
    /// The one link that is up.
    up: Option<u64>,
    /// Commands that are not acknowledged: id on the wire, body, given to link.
    mail: VecDeque<(u16, Vec<u8>, Option<u64>)>,
    mail_topic: String,
    last_mail: u16,
    acknowledged_mail: Vec<u16>,
    goodbyes: u64,
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what goes wrong from now on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
        self.changed.notify_waiters();
    }

    /// Cuts the link that is up. The broker publishes its will.
    pub fn cut(&self) {
        self.lock().end();
        self.changed.notify_waiters();
    }

    /// Everything that arrived so far, in order, wills included.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// Takes what arrived since it was last taken.
    pub fn take_received(&self) -> Vec<Received> {
        std::mem::take(&mut self.lock().received)
    }

    /// Connections that were asked for, and those that were granted.
    pub fn connects(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.attempts, inner.links)
    }

    /// Orderly ends.
    pub fn goodbyes(&self) -> u64 {
        self.lock().goodbyes
    }

    /// Sends a command; it is kept and brought again until it is acknowledged. Gives its packet id.
    pub fn command(&self, body: impl Into<Vec<u8>>) -> u16 {
        let mut inner = self.lock();
        inner.last_mail += 1;
        let id = inner.last_mail;
        inner.mail.push_back((id, body.into(), None));
        drop(inner);
        self.changed.notify_waiters();
        id
    }

    /// The commands that were acknowledged, in order.
    pub fn acknowledged_commands(&self) -> Vec<u16> {
        self.lock().acknowledged_mail.clone()
    }
}

impl Inner {
    fn end(&mut self) {
        let (Some(link), Some((topic, body))) = (self.up.take(), self.will.take()) else { return };
        self.received.push(Received { topic, body, retain: true, link, acknowledged: false });
    }
}

impl Broker for Simulated {
    type Link = SimulatedLink;

    async fn connect(&mut self, hello: &Hello) -> Result<(SimulatedLink, Welcome), NoLink> {
        let wait = self.lock().faults.answer_after;
        tokio::time::sleep(wait).await;
        let mut inner = self.lock();
        inner.attempts += 1;
        if inner.faults.refuse {
            return Err(NoLink::Tcp { at: "simulated".into(), why: "connection refused; nothing listens there".into() });
        }
        inner.end();
        inner.links += 1;
        let number = inner.links;
        inner.up = Some(number);
        inner.will = Some(hello.will.clone());
        let welcome = Welcome { resumed: number > 1, ..inner.faults.welcome };
        drop(inner);
        let link = SimulatedLink {
            broker: self.clone(),
            number,
            last_id: 0,
            sent: 0,
            open: VecDeque::new(),
            subscribed: None,
            ended: false,
            refusals: BTreeMap::new(),
            closing: false,
        };
        Ok((link, welcome))
    }
}

pub struct SimulatedLink {
    broker: Simulated,
    number: u64,
    last_id: u16,
    sent: u64,
    /// Packet id, when it is answered (`None`: never), when it was sent, where in `received` it is.
    open: VecDeque<(u16, Option<Instant>, Instant, Option<usize>)>,
    subscribed: Option<bool>,
    ended: bool,
    refusals: BTreeMap<u16, Refusal>,
    /// It read what it does not take.
    closing: bool,
}

impl SimulatedLink {
    /// What there is to report now, or when to look again.
    fn look(&mut self) -> Result<Result<Arrived, Option<Instant>>, Lost> {
        let now = Instant::now();
        let mut inner = self.broker.lock();
        if inner.up != Some(self.number) {
            return Err(Lost::Closed);
        }
        if self.subscribed == Some(false) {
            self.subscribed = Some(true);
            return Ok(Ok(Arrived::Subscribed { granted: true }));
        }
        if self.subscribed.is_some() {
            let topic = inner.mail_topic.clone();
            if let Some((id, body, given)) = inner.mail.iter_mut().find(|(.., given)| *given != Some(self.number)) {
                let again = given.replace(self.number).is_some();
                let body = Bytes::from(body.clone());
                return Ok(Ok(Arrived::Message(Message { id: *id, topic, length: body.len(), body, retained: false, again })));
            }
        }
        let reverse = inner.faults.reverse;
        let cut = self.closing || inner.faults.cut_after.is_some_and(|n| self.sent >= n);
        let give_up = inner.faults.patience.zip(self.open.front()).map(|(patience, (_, _, sent, _))| *sent + patience);
        drop(inner);
        let due = |(_, at, ..): &(u16, Option<Instant>, Instant, Option<usize>)| at.is_some_and(|at| at <= now);
        let any_due = self.open.iter().position(due);
        let answered = if reverse { any_due.and(self.open.iter().rposition(|(_, at, ..)| at.is_some())) } else { any_due };
        if let Some((id, _, _, place)) = answered.and_then(|n| self.open.remove(n)) {
            // Who watches may have taken them out.
            if let Some(message) = self.broker.lock().received.get_mut(place.unwrap_or(usize::MAX)) {
                message.acknowledged = true;
            }
            return Ok(Ok(self.refusals.remove(&id).map_or(Arrived::Acknowledged(id), |why| Arrived::Refused(id, why))));
        }
        // Answers that are already on their way arrive before the end does.
        if cut || give_up.is_some_and(|at| now >= at) {
            self.broker.cut();
            return Err(if cut { Lost::Closed } else { Lost::Unacknowledged(give_up.map_or(Duration::ZERO, |_| Duration::from_secs(45))) });
        }
        Ok(Err(self.open.iter().filter_map(|(_, at, ..)| *at).chain(give_up).min()))
    }
}

impl Link for SimulatedLink {
    fn publish(&mut self, topic: &str, body: &[u8], retain: bool) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let mut inner = self.broker.lock();
        let faults = inner.faults.clone();
        self.sent += 1;
        // What is published after the cut never arrives.
        if self.closing || inner.up != Some(self.number) || faults.cut_after.is_some_and(|n| self.sent > n) {
            return self.last_id;
        }
        let dislike = faults.poison.as_ref().filter(|(Poison(is_bad), _)| is_bad(topic, body)).map(|(_, how)| *how);
        if let Some(how) = dislike {
            drop(inner);
            let now = Instant::now();
            let answer = match how {
                Dislike::Refuse(why) => {
                    self.refusals.insert(self.last_id, why);
                    Some(now + faults.answer_after)
                }
                Dislike::Close => {
                    self.closing = true;
                    None
                }
                Dislike::NeverAcknowledge => None,
            };
            self.open.push_back((self.last_id, answer, now, None));
            return self.last_id;
        }
        inner.total += 1;
        let last = faults.cut_after.is_some_and(|n| self.sent >= n);
        let answered = !last && faults.lose_answer_every.is_none_or(|n| !inner.total.is_multiple_of(n));
        let place = inner.received.len();
        inner.received.push(Received { topic: topic.into(), body: body.into(), retain, link: self.number, acknowledged: false });
        let now = Instant::now();
        self.open.push_back((self.last_id, answered.then(|| now + faults.answer_after), now, Some(place)));
        self.last_id
    }

    fn subscribe(&mut self, filter: &str) {
        filter.clone_into(&mut self.broker.lock().mail_topic);
        self.subscribed = Some(false);
    }

    fn acknowledge(&mut self, id: u16) {
        let mut inner = self.broker.lock();
        inner.mail.retain(|(mail, ..)| *mail != id);
        inner.acknowledged_mail.push(id);
    }

    fn unsent(&self) -> usize {
        0
    }

    async fn next(&mut self) -> Result<Arrived, Lost> {
        let changed = Arc::clone(&self.broker.changed);
        loop {
            // Before looking, so that a change in between is not missed.
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            match self.look()? {
                Ok(arrived) => return Ok(arrived),
                Err(Some(at)) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    async fn close(mut self) {
        let mut inner = self.broker.lock();
        if inner.up == Some(self.number) {
            inner.up = None;
            inner.will = None;
            inner.goodbyes += 1;
        }
        drop(inner);
        self.ended = true;
    }
}

/// A link that is dropped without a goodbye leaves its will.
impl Drop for SimulatedLink {
    fn drop(&mut self) {
        let mut inner = self.broker.lock();
        if !self.ended && inner.up == Some(self.number) {
            inner.end();
        }
    }
}
