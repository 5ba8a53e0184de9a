//! A client for tests on a blocking socket: sends exactly what it is told, also nonsense.

use super::super::codec::{Connect, LastWill, Packet, Publish, QoS, Subscribe};
use bytes::BytesMut;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub struct Raw {
    pub socket: TcpStream,
    buffer: BytesMut,
}

/// What a client says at CONNECT.
pub struct Hello {
    pub id: &'static str,
    pub clean: bool,
    pub user: Option<(&'static str, &'static str)>,
    pub will: Option<(&'static str, &'static str, bool)>,
    pub keep_alive: u16,
}

pub const HELLO: Hello = Hello { id: "raw", clean: true, user: None, will: None, keep_alive: 0 };

impl Raw {
    pub fn open(at: SocketAddr) -> Raw {
        let socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.set_nodelay(true).unwrap();
        Raw { socket, buffer: BytesMut::new() }
    }

    /// Connects and expects to be let in; says whether a session was kept.
    pub fn join(at: SocketAddr, hello: &Hello) -> (Raw, bool) {
        let mut raw = Raw::open(at);
        match raw.hello(hello) {
            Some(Packet::ConnAck(ack)) if ack.code as u8 == 0 => (raw, ack.session_present),
            other => panic!("not let in: {other:?}"),
        }
    }

    pub fn new(at: SocketAddr, id: &'static str) -> Raw {
        Raw::join(at, &Hello { id, ..HELLO }).0
    }

    pub fn hello(&mut self, hello: &Hello) -> Option<Packet> {
        let mut connect = Connect::new(hello.id);
        connect.keep_alive = hello.keep_alive;
        connect.clean_session = hello.clean;
        connect.last_will = hello.will.map(|(topic, body, retain)| LastWill::new(topic, body, QoS::AtLeastOnce, retain));
        if let Some((user, password)) = hello.user {
            connect.set_credentials(user, password.to_owned());
        }
        self.send(&Packet::Connect(connect));
        self.receive()
    }

    pub fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, usize::MAX).unwrap();
        let _ = self.socket.write_all(&out);
    }

    pub fn publish(&mut self, topic: &str, body: &[u8], pkid: u16) {
        self.publish_as(topic, body, pkid, false);
    }

    pub fn publish_as(&mut self, topic: &str, body: &[u8], pkid: u16, retain: bool) {
        let qos = if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut publish = Publish::new(topic, qos, body.to_vec());
        (publish.pkid, publish.retain) = (pkid, retain);
        self.send(&Packet::Publish(publish));
    }

    /// Subscribes and expects the grant.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Packet {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 1;
        self.send(&Packet::Subscribe(subscribe));
        self.receive().unwrap()
    }

    /// The next packet; `None`: closed by the peer, or nothing within the time.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, usize::MAX) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::Error::InsufficientBytes(_)) => {}
                Err(other) => panic!("the server sent garbage: {other}"),
            }
            let mut piece = [0; 16 * 1024];
            match self.socket.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// The next packet if one comes soon.
    pub fn soon(&mut self, within: Duration) -> Option<Packet> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let found = self.receive();
        self.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        found
    }

    /// The next `count` packet ids that are acknowledged, and nothing behind them for a while.
    pub fn acknowledged(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        loop {
            let next = if ids.len() < count { self.receive() } else { self.soon(Duration::from_millis(200)) };
            match next {
                Some(Packet::PubAck(ack)) => ids.push(ack.pkid),
                None => return ids,
                other => panic!("no acknowledgement: {other:?}"),
            }
        }
    }

    /// Whether the peer has closed.
    pub fn is_closed(&mut self) -> bool {
        let mut piece = [0; 4096];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}
