//! One MQTT connection: bytes in, bytes out, packet ids, keep-alive and watchdog.
//!
//! A dead link is noticed within 1.5 keep-alives: a PINGREQ goes out when one keep-alive passed without a byte in either
//! direction, and half of one is left for any answer; the oldest open publish has 1.5 keep-alives from when it was sent
//! or became the oldest, so that a slow link on which acknowledgements keep coming is not taken for a dead one.
//!
//! Invariant: all state is in the struct, none in a future. `next` may be dropped between any two bytes.

use super::{
    connect::Wire,
    heard::{self, Heard},
    packets,
};
use crate::{
    config::Mqtt,
    uplink::broker::{Arrived, Link, Lost, UNSENT_MAX},
};
use bytes::{Buf, BytesMut};
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
    /// Of `outgoing`, since it was made.
    most_unsent: usize,
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
    version: Mqtt,
}

impl Session {
    pub fn new(wire: Box<dyn Wire>, keep_alive: Duration, version: Mqtt) -> Session {
        let now = Instant::now();
        Session {
            wire,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            most_unsent: 0,
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
            version,
        }
    }

    /// Appends to what will be written.
    pub fn queue<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        write(&mut self.outgoing)
    }

    /// The broker let us in, and may want to hear from us at other times.
    pub fn greeted(&mut self, keep_alive: Option<Duration>) {
        self.keep_alive = keep_alive.unwrap_or(self.keep_alive);
    }

    /// The next packet, whatever it is; writes meanwhile. For CONNACK, before there is a watchdog.
    pub async fn packet(&mut self) -> Result<Heard, Lost> {
        loop {
            if let Some(heard) = heard::read(self.version, &mut self.incoming)? {
                return Ok(heard);
            }
            poll_fn(|cx| self.poll_wire(cx)).await?;
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
            let Some(heard) = heard::read(self.version, &mut self.incoming)? else { return Ok(None) };
            if let Some(arrived) = self.understand(heard)? {
                return Ok(Some(arrived));
            }
        }
    }

    fn understand(&mut self, heard: Heard) -> Result<Option<Arrived>, Lost> {
        Ok(match heard {
            // An id that is not open was acknowledged before: a repeated PUBACK proves nothing and harms nothing.
            Heard::Acknowledged(id, refusal) => {
                let told = refusal.map_or(Arrived::Acknowledged(id), |why| Arrived::Refused(id, why));
                self.close_id(id).then_some(told)
            }
            Heard::Confused => return Err(Lost::Told("a packet id of ours is in use there (0x91)".into())),
            Heard::Subscribed { granted } => Some(Arrived::Subscribed { granted }),
            Heard::Message(message) => Some(Arrived::Message(message)),
            Heard::Cut(message, skip) => {
                self.skip = skip;
                Some(Arrived::Message(message))
            }
            Heard::Goodbye(why, content) => return Err(if content { Lost::Rejected(why) } else { Lost::Told(why) }),
            Heard::Greeting(_) | Heard::Nothing | Heard::Odd(_) => None,
        })
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
        // Its capacity is what lies behind the bytes that were written, not what it holds on to.
        if self.outgoing.is_empty() && self.most_unsent > 2 * KEEP_BYTES {
            (self.outgoing, self.most_unsent) = (BytesMut::new(), 0);
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
        if unanswered {
            return Err(Lost::Silent(self.patience()));
        }
        if !self.open.is_empty() && now >= self.oldest_since + self.patience() {
            // With a sign of life since, and no ping open, the broker is there and does not do what it is for.
            let alive = self.heard > self.oldest_since && self.ping.is_none();
            return Err(if alive { Lost::Unacknowledged(self.patience()) } else { Lost::Silent(self.patience()) });
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
        packets::publish(self.version, topic, body, retain, id, &mut self.outgoing);
        self.report_written |= self.outgoing.len() > UNSENT_MAX;
        self.most_unsent = self.most_unsent.max(self.outgoing.len());
        id
    }

    fn subscribe(&mut self, filter: &str) {
        let id = self.fresh_id();
        packets::subscribe(self.version, filter, id, &mut self.outgoing);
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
