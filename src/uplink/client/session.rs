//! One MQTT connection: bytes in, bytes out, packet ids, keep-alive and watchdog.
//!
//! A dead link is noticed within 1.5 keep-alives: a PINGREQ goes out when one keep-alive passed without a byte in either
//! direction, and half of one is left for any answer; the oldest open publish has 1.5 keep-alives from when it was sent
//! or became the oldest, so that a slow link on which acknowledgements keep coming is not taken for a dead one.
//!
//! Invariant: all state is in the struct, none in a future. `next` may be dropped between any two bytes.

use super::{
    connect::Wire,
    oversized::{self, Cut, PACKET_BYTES},
    packets,
};
use crate::uplink::broker::{Arrived, Link, Lost, Message, UNSENT_MAX};
use bytes::{Buf, BytesMut};
use rumqttc::{Packet, QoS, SubscribeReasonCode, mqttbytes::Error};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until, timeout},
};

/// Read at once. Acknowledgements are four bytes each, so one read takes thousands.
const READ_BYTES: usize = 8 * 1024;
/// A buffer that grew beyond this for one large message is given back.
const KEEP_BYTES: usize = 64 * 1024;
/// What closing may take.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

pub struct Session {
    wire: Box<dyn Wire>,
    incoming: BytesMut,
    outgoing: BytesMut,
    scratch: Box<[u8]>,
    /// Bytes to throw away of a message that is too large.
    skip: usize,
    unflushed: bool,
    keep_alive: Duration,
    /// Packet ids of publishes without PUBACK, oldest first. At most the window, so a scan is short.
    open: VecDeque<u16>,
    /// Since when the front of `open` has been waiting.
    oldest_since: Instant,
    last_id: u16,
    heard: Instant,
    spoke: Instant,
    ping: Option<Instant>,
    report_written: bool,
}

impl Session {
    pub fn new(wire: Box<dyn Wire>, keep_alive: Duration) -> Session {
        let now = Instant::now();
        Session {
            wire,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            skip: 0,
            unflushed: false,
            keep_alive,
            open: VecDeque::new(),
            oldest_since: now,
            last_id: 0,
            heard: now,
            spoke: now,
            ping: None,
            report_written: false,
        }
    }

    /// Appends to what will be written.
    pub fn queue<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        write(&mut self.outgoing)
    }

    /// The next packet, whatever it is; writes meanwhile. For CONNACK, before there is a watchdog.
    pub async fn packet(&mut self) -> Result<Packet, Lost> {
        loop {
            if let Some(packet) = self.parse()? {
                return Ok(packet);
            }
            poll_fn(|cx| self.poll_wire(cx)).await?;
        }
    }

    /// A packet that is whole. `skip` and oversized messages are handled before.
    fn parse(&mut self) -> Result<Option<Packet>, Lost> {
        match Packet::read(&mut self.incoming, PACKET_BYTES) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(e) => Err(Lost::Garbled(e.to_string())),
        }
    }

    /// What the bytes that are here mean. `None`: nothing to report, more bytes are needed.
    fn arrived(&mut self) -> Result<Option<Arrived>, Lost> {
        loop {
            let dropped = self.skip.min(self.incoming.len());
            self.incoming.advance(dropped);
            self.skip -= dropped;
            if self.incoming.is_empty() {
                self.give_back();
                return Ok(None);
            }
            let packet = match Packet::read(&mut self.incoming, PACKET_BYTES) {
                Ok(packet) => packet,
                Err(Error::InsufficientBytes(_)) => return Ok(None),
                Err(Error::PayloadSizeLimitExceeded(_)) => match oversized::take(&mut self.incoming) {
                    None => return Ok(None),
                    Some(Ok(Cut { message, skip })) => {
                        self.skip = skip;
                        return Ok(Some(Arrived::Message(message)));
                    }
                    Some(Err(())) => return Err(Lost::Garbled("a packet without end".into())),
                },
                Err(e) => return Err(Lost::Garbled(e.to_string())),
            };
            if let Some(arrived) = self.understand(packet) {
                return Ok(Some(arrived));
            }
        }
    }

    fn understand(&mut self, packet: Packet) -> Option<Arrived> {
        match packet {
            // An id that is not open was acknowledged before: a repeated PUBACK proves nothing and harms nothing.
            Packet::PubAck(ack) => self.close_id(ack.pkid).then_some(Arrived::Acknowledged(ack.pkid)),
            Packet::SubAck(ack) => {
                let granted = ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                Some(Arrived::Subscribed { granted })
            }
            Packet::Publish(p) => Some(Arrived::Message(Message {
                id: if p.qos == QoS::AtMostOnce { 0 } else { p.pkid },
                topic: packets::topic(&p.topic),
                length: p.payload.len(),
                body: p.payload,
                retained: p.retain,
                again: p.dup,
            })),
            _ => None,
        }
    }

    fn close_id(&mut self, id: u16) -> bool {
        let Some(n) = self.open.iter().position(|open| *open == id) else { return false };
        self.open.remove(n);
        if n == 0 {
            self.oldest_since = Instant::now();
        }
        true
    }

    /// Ids count up through all of them, so one that was just used is not used again soon.
    fn fresh_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.open.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn give_back(&mut self) {
        if self.incoming.capacity() > KEEP_BYTES {
            self.incoming = BytesMut::new();
        }
        if self.outgoing.is_empty() && self.outgoing.capacity() > 4 * KEEP_BYTES {
            self.outgoing = BytesMut::new();
        }
    }

    /// Ready when something was read, or when the last queued byte was written.
    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let had = !self.outgoing.is_empty();
        self.poll_write(cx)?;
        let mut buffer = ReadBuf::new(&mut self.scratch);
        match Pin::new(&mut self.wire).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Err(Lost::Closed)),
            Poll::Ready(Ok(())) => {
                self.incoming.extend_from_slice(buffer.filled());
                self.heard = Instant::now();
                self.ping = None;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(e)) => return Poll::Ready(Err(lost(&e))),
            Poll::Pending => {}
        }
        if had && self.outgoing.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.wire).poll_write(cx, &self.outgoing) {
                Poll::Ready(Ok(0)) => return Err(Lost::Closed),
                Poll::Ready(Ok(n)) => {
                    self.outgoing.advance(n);
                    self.spoke = Instant::now();
                    self.unflushed = true;
                }
                Poll::Ready(Err(e)) => return Err(lost(&e)),
                Poll::Pending => break,
            }
        }
        // TLS holds encrypted bytes back until it is flushed.
        if self.unflushed {
            match Pin::new(&mut self.wire).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(e)) => return Err(lost(&e)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// When something must be done although nothing arrives.
    fn due(&self) -> Instant {
        let ping = self.ping.map_or(self.heard.min(self.spoke) + self.keep_alive, |sent| sent + self.keep_alive / 2);
        let answer = (!self.open.is_empty()).then(|| self.oldest_since + self.patience());
        answer.map_or(ping, |answer| answer.min(ping))
    }

    fn patience(&self) -> Duration {
        self.keep_alive * 3 / 2
    }

    fn watch(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        let unanswered = self.ping.is_some_and(|sent| now >= sent + self.keep_alive / 2);
        if unanswered || (!self.open.is_empty() && now >= self.oldest_since + self.patience()) {
            return Err(Lost::Silent(self.patience()));
        }
        if self.ping.is_none() && now >= self.heard.min(self.spoke) + self.keep_alive {
            packets::ping(&mut self.outgoing);
            self.ping = Some(now);
        }
        Ok(())
    }
}

fn lost(e: &std::io::Error) -> Lost {
    match e.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe => Lost::Closed,
        _ => Lost::Io(e.to_string()),
    }
}

impl Link for Session {
    fn publish(&mut self, topic: &str, body: &[u8], retain: bool) -> u16 {
        let id = self.fresh_id();
        if self.open.is_empty() {
            self.oldest_since = Instant::now();
        }
        self.open.push_back(id);
        packets::publish(topic, body, retain, id, &mut self.outgoing);
        self.report_written |= self.outgoing.len() > UNSENT_MAX;
        id
    }

    fn subscribe(&mut self, filter: &str) {
        let id = self.fresh_id();
        packets::subscribe(filter, id, &mut self.outgoing).expect("a filter of ours is valid and short");
    }

    fn acknowledge(&mut self, id: u16) {
        if id != 0 {
            packets::puback(id, &mut self.outgoing);
        }
    }

    fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    async fn next(&mut self) -> Result<Arrived, Lost> {
        loop {
            if let Some(arrived) = self.arrived()? {
                return Ok(arrived);
            }
            if self.outgoing.is_empty() && std::mem::take(&mut self.report_written) {
                return Ok(Arrived::Written);
            }
            let due = self.due();
            tokio::select! {
                biased;
                moved = poll_fn(|cx| self.poll_wire(cx)) => moved?,
                () = sleep_until(due) => {}
            }
            // Also when bytes came: a link that is never idle would never be looked at.
            self.watch()?;
        }
    }

    async fn close(mut self) {
        packets::disconnect(&mut self.outgoing);
        let write = async {
            while !self.outgoing.is_empty() || self.unflushed {
                let written = poll_fn(|cx| {
                    let result = self.poll_write(cx);
                    if result.is_err() || (self.outgoing.is_empty() && !self.unflushed) { Poll::Ready(result) } else { Poll::Pending }
                });
                if written.await.is_err() {
                    return;
                }
            }
            let _ = poll_fn(|cx| Pin::new(&mut self.wire).poll_shutdown(cx)).await;
        };
        let _ = timeout(CLOSE_WITHIN, write).await;
    }
}

#[cfg(test)]
mod tests;
