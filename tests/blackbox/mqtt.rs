//! A small MQTT 3.1.1 client, written from the standard: as much of it as publishers, commanders and the collector need.

use crate::process::host;
use serde_json::Value as Json;
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    next_id: u16,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    Publish { topic: String, body: Vec<u8>, id: Option<u16>, retain: bool },
    PubAck(u16),
    SubAck(u16),
    Other(u8),
}

#[derive(Default)]
pub struct Login<'a> {
    pub id: &'a str,
    /// Keep the session (clean session off).
    pub persistent: bool,
    pub user: Option<(&'a str, &'a str)>,
    pub will: Option<(&'a str, &'a str)>,
}

/// Gives a gateway commands as a backend does, each once the broker has taken the one before.
pub fn command(port: u16, gateway: &str, bodies: &[Json]) {
    let mut client = Client::connect(port, &Login { id: "commander", ..Login::default() }).expect("the broker is there");
    for body in bodies {
        let sent = client.publish(&format!("fieldgate/{gateway}/command"), body.to_string().as_bytes()).expect("the broker reads");
        while client.next(Duration::from_secs(5)).expect("the broker answers") != Some(Packet::PubAck(sent)) {}
    }
}

impl Client {
    /// Connects and waits for CONNACK. An `Err` also says that the broker refused.
    pub fn connect(port: u16, login: &Login<'_>) -> io::Result<Client> {
        let stream = TcpStream::connect((host(), port))?;
        stream.set_nodelay(true)?;
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(!login.persistent, 0x02) | flag(login.will.is_some(), 0x0c) | flag(login.user.is_some(), 0xc0);
        body.extend([4, flags, 0, 0]); // level 4 = 3.1.1; no keep-alive
        text(&mut body, login.id);
        for (name, value) in [login.will, login.user].into_iter().flatten() {
            text(&mut body, name);
            text(&mut body, value);
        }
        let mut client = Client { stream, buffer: Vec::new(), next_id: 0 };
        client.send(0x10, &body)?;
        match client.raw(Duration::from_secs(5))? {
            Some((0x20, ack)) if ack.get(1) == Some(&0) => Ok(client),
            other => Err(io::Error::other(format!("refused: {other:?}"))),
        }
    }

    pub fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        text(&mut body, filter);
        body.push(1);
        self.send(0x82, &body)
    }

    /// At QoS 1. The packet id comes back as [`Packet::PubAck`] when the other side has taken it.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<u16> {
        let id = self.id();
        let mut body = Vec::new();
        text(&mut body, topic);
        body.extend(id.to_be_bytes());
        body.extend(payload);
        self.send(0x32, &body)?;
        Ok(id)
    }

    /// The next packet, or `None` after `within`. A QoS 1 message is acknowledged before it is returned.
    pub fn next(&mut self, within: Duration) -> io::Result<Option<Packet>> {
        let Some((head, body)) = self.raw(within)? else { return Ok(None) };
        let word = |at: usize| body.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        Ok(Some(match head >> 4 {
            3 => {
                let len = usize::from(word(0));
                let topic = String::from_utf8_lossy(&body[2..2 + len]).into_owned();
                let id = (head & 0x06 != 0).then(|| word(2 + len));
                let start = 2 + len + if id.is_some() { 2 } else { 0 };
                if let Some(id) = id {
                    self.send(0x40, &id.to_be_bytes())?;
                }
                Packet::Publish { topic, body: body[start..].to_vec(), id, retain: head & 1 == 1 }
            }
            4 => Packet::PubAck(word(0)),
            9 => Packet::SubAck(word(0)),
            other => Packet::Other(other),
        }))
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    fn send(&mut self, head: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![head];
        let mut left = body.len();
        loop {
            let digit = u8::try_from(left % 128).expect("below 128");
            left /= 128;
            packet.push(if left > 0 { digit | 0x80 } else { digit });
            if left == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet)
    }

    /// A whole packet: its first byte and what follows the length.
    fn raw(&mut self, within: Duration) -> io::Result<Option<(u8, Vec<u8>)>> {
        self.stream.set_read_timeout(Some(within.max(Duration::from_millis(1))))?;
        loop {
            if let Some((start, end)) = whole(&self.buffer) {
                let head = self.buffer[0];
                let body = self.buffer[start..end].to_vec();
                self.buffer.drain(..end);
                return Ok(Some((head, body)));
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Where the body of the first packet begins and ends, if all of it is there.
fn whole(buffer: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (n, byte) in buffer.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            let start = n + 2;
            return (buffer.len() >= start + length).then_some((start, start + length));
        }
    }
    None
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend(u16::try_from(text.len()).expect("test texts are short").to_be_bytes());
    into.extend(text.as_bytes());
}
