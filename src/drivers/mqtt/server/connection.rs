//! One connection, from its socket's birth to its end: reads, hands over, acknowledges, writes.
//!
//! A client is read only while all that it sent before found its place: not while the handler waits for room, not while
//! `limits::MQTT_HELD` of its messages wait for their acknowledgement and it sends another, and not while it takes
//! nothing from us. Silence that we cause ourselves by not reading does not count against it.

use super::super::codec::{self, Arrived, Packet, Publish, Reader, TooLarge};
use super::{
    Incoming, Shared, Waiting,
    handshake::{self, Admitted},
    hub::Manner,
    session::{AHEAD, Ack, Closed, Outlet},
};
use crate::{limits, model::Receipt};
use std::{io::ErrorKind, net::SocketAddr, pin::Pin, rc::Rc, sync::atomic::Ordering, time::Duration};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, Sleep},
};

/// Read at once; also the memory that one burst takes.
const SCRATCH: usize = 16 * 1024;
/// Packets handled before other connections get a turn, while few connections have more to give.
const TURN: usize = 64;
/// Packets of all connections that have more to give, until each has had its turn: one that only says how its device is
/// waits for so many at most.
const ROUND: usize = 1_024;
/// A peer that takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(60);

pub async fn serve(shared: &Rc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let stream = Rc::new(stream);
    prepare(&stream);
    let Some(admitted) = handshake::admit(shared, &stream, peer).await else { return };
    let (client, rights) = (admitted.client.clone(), admitted.rights.clone());
    let (session, number) = (admitted.session, admitted.number);
    let connection = Connection::new(shared, stream, admitted);
    let held = connection.run().await;
    shared.counters.held.fetch_sub(held as u64, Ordering::Relaxed);
    shared.counters.connections.fetch_sub(1, Ordering::Relaxed);
    let left = shared.hub.borrow_mut().leave(session, number);
    match left {
        Some((Closed::Theirs(why), will)) => {
            tracing::debug!(client = ?client, %peer, why, "a local MQTT client is gone");
            if let Some(will) = will {
                shared.tell_will(will, number, &client, &rights).await;
            }
        }
        Some((Closed::Ours(why), _)) => tracing::debug!(client = ?client, %peer, why, "a local MQTT connection is closed"),
        Some((Closed::Goodbye | Closed::TakenOver, _)) | None => {}
    }
}

/// Small packets go out at once; a client without keep-alive that vanished is found by the kernel within minutes.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(20));
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
}

/// Reads once into `reader`. `false`: the peer is gone.
pub fn read(shared: &Shared, stream: &TcpStream, reader: &mut Reader) -> bool {
    let mut scratch = shared.scratch.borrow_mut();
    scratch.reserve(SCRATCH);
    match stream.try_read_buf(&mut *scratch) {
        Ok(0) => return false,
        // That was all: what comes next is told by the kernel, without asking it in vain.
        Ok(n) if n < SCRATCH => drop(stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()))),
        Ok(_) => {}
        Err(e) => return e.kind() == ErrorKind::WouldBlock,
    }
    reader.feed(&mut scratch);
    true
}

struct Connection<'a> {
    shared: &'a Shared,
    stream: Rc<TcpStream>,
    me: Admitted,
    /// The handler has no room for more.
    waiting: Option<Waiting>,
    /// Read, but to be handled only once fewer are held.
    stalled: Option<Publish>,
    /// More packets may be in the reader.
    more: bool,
    /// It is counted as one that has more to give.
    busy: bool,
    /// It is counted as one that we hold up.
    held_up: bool,
    heard: Instant,
    draining: Option<Instant>,
    /// That it has no right to a topic was said once.
    told: bool,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, stream: Rc<TcpStream>, me: Admitted) -> Connection<'a> {
        Connection {
            shared,
            stream,
            me,
            waiting: None,
            stalled: None,
            more: true,
            busy: false,
            held_up: false,
            heard: Instant::now(),
            draining: None,
            told: false,
        }
    }

    /// Gives how many messages were still held at the end.
    async fn run(mut self) -> usize {
        let mut timer: Pin<Box<Sleep>> = Box::pin(tokio::time::sleep_until(self.due()));
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(why) => {
                    self.close(why);
                    return self.me.ledger.held();
                }
            }
            if self.due() < timer.deadline() {
                timer.as_mut().reset(self.due());
            }
            if self.more && self.may_work() && self.ahead() < AHEAD {
                tokio::task::yield_now().await;
                continue;
            }
            let (may_read, blocked) = (self.may_work() && self.ahead() < AHEAD, self.ahead() > 0);
            tokio::select! {
                biased;
                () = self.me.wake.notified() => {}
                () = async { match self.waiting.as_mut() { Some(room) => room.await, None => std::future::pending().await } } => {
                    self.waiting = None;
                    self.heard = Instant::now();
                }
                _ = self.stream.writable(), if blocked => {}
                _ = self.stream.readable(), if may_read => {
                    if !read(self.shared, &self.stream, &mut self.me.reader) {
                        self.close(Closed::Theirs("went away".into()));
                        return self.me.ledger.held();
                    }
                    self.heard = Instant::now();
                    self.more = true;
                }
                () = timer.as_mut() => {
                    if let Some(why) = self.overdue() {
                        self.close(why);
                        return self.me.ledger.held();
                    }
                    let due = self.due();
                    timer.as_mut().reset(due);
                }
            }
        }
    }

    /// Everything that can be done now without waiting.
    fn turn(&mut self) -> Result<(), Closed> {
        if self.stalled.is_some() {
            self.shared.hub.borrow_mut().acknowledge(self.me.session, false);
        }
        if let Some(publish) = self.stalled.take_if(|_| self.me.ledger.held() < limits::MQTT_HELD) {
            self.heard = Instant::now();
            self.publish(publish)?;
        }
        let mut left = (ROUND / self.shared.busy.get().max(1)).clamp(1, TURN);
        while self.more && left > 0 && self.may_work() && self.ahead() < AHEAD {
            left -= 1;
            match self.me.reader.next(codec::PACKET) {
                Ok(Some(Arrived::Packet(packet))) => self.packet(packet)?,
                Ok(Some(Arrived::TooLarge(large))) => self.too_large(large)?,
                Ok(None) => self.more = false,
                Err(garbage) => return Err(Closed::Theirs(garbage.to_string())),
            }
        }
        if !self.more || !self.may_work() {
            self.me.reader.shrink();
        }
        self.count_busy(self.more && self.may_work());
        self.count_held_up(self.ours());
        self.shared.hub.borrow_mut().push(self.me.session);
        let closed = self.outlet(|outlet| outlet.closed.clone())?;
        closed.map_or(Ok(()), Err)?;
        self.drain()
    }

    fn count_busy(&mut self, busy: bool) {
        let others = self.shared.busy.get() - usize::from(std::mem::replace(&mut self.busy, busy));
        self.shared.busy.set(others + usize::from(busy));
    }

    fn count_held_up(&mut self, held_up: bool) {
        match (std::mem::replace(&mut self.held_up, held_up), held_up) {
            (false, true) => self.shared.counters.held_up.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.shared.counters.held_up.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    fn may_work(&self) -> bool {
        self.waiting.is_none() && self.stalled.is_none() && self.draining.is_none()
    }

    fn ahead(&self) -> usize {
        self.outlet(|outlet| outlet.out.len()).unwrap_or(0)
    }

    /// The socket side of our session. `Err`: somebody took it over.
    fn outlet<T>(&self, with: impl FnOnce(&mut Outlet) -> T) -> Result<T, Closed> {
        let mut hub = self.shared.hub.borrow_mut();
        hub.own(self.me.session, self.me.number).and_then(|s| s.outlet.as_mut()).map(with).ok_or(Closed::TakenOver)
    }

    fn packet(&mut self, packet: Packet) -> Result<(), Closed> {
        match packet {
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubAck(ack) => {
                if let Some(session) = self.shared.hub.borrow_mut().own(self.me.session, self.me.number) {
                    session.acknowledged(ack.pkid);
                }
                Ok(())
            }
            Packet::PubRel(release) => {
                if let Some(session) = self.shared.hub.borrow_mut().own(self.me.session, self.me.number) {
                    session.taken.remove(&release.pkid);
                }
                self.outlet(|outlet| codec::pubcomp(&mut outlet.out, release.pkid))
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) if !unsubscribe.topics.is_empty() => {
                let mut hub = self.shared.hub.borrow_mut();
                unsubscribe.topics.iter().for_each(|filter| hub.unsubscribe(self.me.session, filter));
                drop(hub);
                self.outlet(|outlet| codec::unsuback(&mut outlet.out, unsubscribe.pkid))
            }
            Packet::PingReq => self.outlet(|outlet| codec::pingresp(&mut outlet.out)),
            Packet::Disconnect => Err(Closed::Goodbye),
            other => Err(Closed::Theirs(format!("unexpected {:?}", other.packet_type()))),
        }
    }

    fn subscribe(&mut self, subscribe: &codec::Subscribe) -> Result<(), Closed> {
        let mut hub = self.shared.hub.borrow_mut();
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for filter in &subscribe.filters {
            let allowed = self.me.rights.may_subscribe(&filter.path);
            let code = hub.subscribe(self.me.session, &filter.path, filter.qos, allowed);
            if code == codec::SubscribeReasonCode::Failure {
                tracing::warn!(client = ?self.me.client, user = ?self.me.rights.user, filter = ?filter.path, "a subscription is refused");
            }
            codes.push(code);
        }
        if let Some(outlet) = hub.own(self.me.session, self.me.number).and_then(|s| s.outlet.as_mut()) {
            codec::suback(&mut outlet.out, subscribe.pkid, codes.clone());
        }
        for (filter, code) in subscribe.filters.iter().zip(codes) {
            if let codec::SubscribeReasonCode::Success(granted) = code {
                hub.retained(self.me.session, &filter.path, granted);
            }
        }
        Ok(())
    }

    fn publish(&mut self, publish: Publish) -> Result<(), Closed> {
        let qos = codec::number(publish.qos);
        if qos > 0 && self.me.ledger.held() >= limits::MQTT_HELD {
            self.stalled = Some(publish);
            return Ok(());
        }
        if qos == 2 && self.is_taken(publish.pkid)? {
            return self.outlet(|outlet| codec::pubrec(&mut outlet.out, publish.pkid));
        }
        let Ok(topic) = std::str::from_utf8(&publish.topic) else { return Err(Closed::Theirs("a topic is no text".into())) };
        let refused = (!self.me.rights.may_publish(topic))
            .then(|| format!("{} may not publish there", self.me.rights.user.as_deref().unwrap_or("anybody")));
        if let Some(why) = &refused {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(client = ?self.me.client, topic = ?topic, why, "a local publication is refused");
            }
        } else {
            let manner = Manner { qos: qos.min(1), retain: publish.retain, ..Manner::default() };
            self.shared.hub.borrow_mut().publish(topic, &publish.payload, manner);
        }
        let topic = topic.to_owned();
        self.hand_over(topic, publish.payload, qos, publish.pkid, publish.retain, refused);
        Ok(())
    }

    fn too_large(&mut self, large: TooLarge) -> Result<(), Closed> {
        if large.qos == 2 && self.is_taken(large.pkid)? {
            return self.outlet(|outlet| codec::pubrec(&mut outlet.out, large.pkid));
        }
        let why = format!("{} bytes are more than {}", large.size, limits::PAYLOAD_BYTES);
        tracing::warn!(client = ?self.me.client, topic = ?large.topic, bytes = large.size, "a local message is too large");
        self.hand_over(large.topic, large.head.into(), large.qos, large.pkid, false, Some(why));
        Ok(())
    }

    /// Whether a QoS 2 message is here already. `Err`: its client never releases any.
    fn is_taken(&self, pkid: u16) -> Result<bool, Closed> {
        let mut hub = self.shared.hub.borrow_mut();
        let session = hub.own(self.me.session, self.me.number).ok_or(Closed::TakenOver)?;
        if session.taken.len() > limits::MQTT_QUEUE {
            return Err(Closed::Theirs("does not release its QoS 2 messages".into()));
        }
        Ok(session.taken.contains(&pkid))
    }

    fn hand_over(&mut self, topic: String, payload: bytes::Bytes, qos: u8, pkid: u16, retain: bool, refused: Option<String>) {
        let receipt = match qos {
            0 => Receipt::none(),
            1 => self.me.ledger.hold(Ack::Once(pkid)),
            _ => self.me.ledger.hold(Ack::Exactly(pkid)),
        };
        self.shared.counters.messages.fetch_add(1, Ordering::Relaxed);
        self.shared.counters.held.fetch_add(u64::from(qos > 0), Ordering::Relaxed);
        let (session, client, user) = (self.me.number, self.me.client.clone(), self.me.rights.user.clone());
        self.waiting =
            (self.shared.handler)(Incoming { topic, payload, qos, retain, session, client, user, will: false, refused, receipt });
    }

    /// The endpoint stops: what becomes due soon is still acknowledged.
    fn drain(&mut self) -> Result<(), Closed> {
        if !self.shared.stopping.get() {
            return Ok(());
        }
        if self.me.ledger.held() == 0 && self.ahead() == 0 {
            return Err(Closed::Ours("the gateway stops"));
        }
        self.draining.get_or_insert_with(|| Instant::now() + super::DRAIN);
        Ok(())
    }

    fn stuck(&self) -> Option<Instant> {
        self.outlet(|outlet| outlet.stuck).ok().flatten()
    }

    /// Whether we do not read because of something on our side.
    fn ours(&self) -> bool {
        self.waiting.is_some() || self.stalled.is_some()
    }

    /// The next moment at which something may be overdue.
    fn due(&self) -> Instant {
        let heard = if self.ours() { Instant::now() } else { self.heard };
        let far = heard + Duration::from_secs(3600);
        let silence = self.me.patience.map_or(far, |patience| heard + patience);
        let stuck = self.stuck().map_or(far, |since| since + STUCK);
        silence.min(stuck).min(self.draining.unwrap_or(far))
    }

    fn overdue(&self) -> Option<Closed> {
        let now = Instant::now();
        if self.draining.is_some_and(|until| now >= until) {
            return Some(Closed::Ours("the gateway stops"));
        }
        if self.stuck().is_some_and(|since| now >= since + STUCK) {
            return Some(Closed::Theirs("takes nothing for 60 s".into()));
        }
        let silent = self.me.patience.is_some_and(|patience| now >= self.heard + patience);
        (silent && !self.ours()).then(|| Closed::Theirs("silent for one and a half keep-alives".into()))
    }

    fn close(&self, why: Closed) {
        if let Some(session) = self.shared.hub.borrow_mut().own(self.me.session, self.me.number) {
            session.cut(why);
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.count_busy(false);
        self.count_held_up(false);
    }
}
